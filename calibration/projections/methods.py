"""The methods that measure a linear projection, by name."""

from dataclasses import fields, replace
from typing import Any

from calibration.projections.anchor import AnchorMethod
from calibration.projections.base import ProjectionMethod
from calibration.projections.multilateration import MultilaterationMethod
from calibration.projections.off_axis import OffAxisMethod
from calibration.projections.phase_stepping import PhaseSteppingMethod
from calibration.projections.reference_pairs import ReferencePairsMethod
from photonics.component import choose

__all__ = ["METHODS", "choose_method"]

METHODS: dict[str, type[ProjectionMethod]] = {
    kind.name: kind
    for kind in (AnchorMethod, PhaseSteppingMethod, OffAxisMethod, MultilaterationMethod, ReferencePairsMethod)
}
"""Every method by its name. A new method is one file and one entry here."""


def choose_method(method: str | ProjectionMethod = "anchor", **options: Any) -> ProjectionMethod:
    """Build a method from its name and options; None selects the method's default of an option.

    Parameters
    ----------
    method : str or ProjectionMethod
        A name in `METHODS`, or a method; the options replace its settings.
    **options
        Settings of the method.

    Raises
    ------
    ValueError
        If there is no such method, it does not have an option, or a value is out of range.
    """
    kind = type(method) if isinstance(method, ProjectionMethod) else choose(METHODS, method, "method")
    names = [field.name for field in fields(kind)]
    given = {name: value for name, value in options.items() if value is not None}
    unknown = [name for name in given if name not in names]
    if unknown:
        raise ValueError(f"method {kind.name!r} has the options {', '.join(names)}, got {', '.join(unknown)}")
    return replace(method, **given) if isinstance(method, ProjectionMethod) else kind(**given)
