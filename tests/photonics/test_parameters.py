"""What ``help``, a signature and a printed object tell about parameters."""

import inspect
import pydoc
from dataclasses import fields

import pytest

from dfa import Plan
from photonics import Camera, Laser, presets
from photonics.medium import MEDIA
from photonics.parameters import parameters_of
from tests.photonics.test_component import PARTS

KINDS = [*PARTS, *MEDIA.values(), Plan]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_help_shows_every_parameter(kind):
    """Name, type, default and text, before the other sections. Catches: a field without a text, help without units."""
    text = pydoc.plain(pydoc.render_doc(kind))
    found = parameters_of(kind)
    initial = {field.name for field in fields(kind) if field.init}
    assert initial <= {parameter.name for parameter in found}
    for parameter in found:
        assert parameter.text, parameter.name
        assert f"{parameter.name} : " in text and parameter.text.split(".")[0].split()[0] in text
    assert inspect.getdoc(kind).count("\nParameters\n---") == 1
    assert "Annotated" not in str(inspect.signature(kind))


def test_the_entry_of_a_parameter():
    """Type, range, default, unit and source. Catches: bounds read the wrong way round."""
    assert "read_noise_e : float, 0 or more, default 2.5\n    Temporal read noise, electrons rms" in Camera.__doc__
    by_name = {parameter.name: parameter for kind in (Camera, Laser) for parameter in parameters_of(kind)}
    assert by_name["bit_depth"].allowed == "1 to 16"
    assert by_name["quantum_efficiency"].allowed == "over 0, at most 1"
    assert by_name["rin_db_per_hz"].allowed == "-60 or less"
    assert by_name["rin_db_per_hz"].kind == "float or None"
    assert by_name["seed"].allowed == "0 to 2**64 - 1"
    assert by_name["wavelength_m"].unit == "m"
    assert by_name["prnu"].unit == ""


def test_energy_says_its_source():
    """Catches: a figure in joules without the source of the power."""
    opu = presets.lab_bench(16, 32)
    text = str(opu.energy(10))
    assert text.startswith("0.4 J for 10 frames, 0.04 J each, at 40 W from the wall")
    assert opu.power_source in text
    assert opu.power_source in repr(opu.energy(10))
