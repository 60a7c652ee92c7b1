"""The parameters of every medium: their bounds, and the tables that describe them."""

import numpy as np
import pytest

from photonics import (
    OPU,
    Ballistic,
    Dispersive,
    Drifting,
    GaussianMedium,
    Lossy,
    MatrixMedium,
    Modes,
    ScatteringLayers,
)
from photonics import medium as media
from photonics.component import Field, component
from photonics.medium import Effect

SMALL = GaussianMedium(30, 41, seed=32)
NAN, INF = float("nan"), float("inf")
SIZES, SEEDS = (0, -1, 4.0, True, 2**32, "4", None), (-1, 2**64, 0.5, "1")
BOUNDS = {
    GaussianMedium: {
        "n_in": SIZES,
        "n_out": SIZES,
        "seed": SEEDS,
        "storage": ("cloud", None, 3),
        "entries": ("4bit", ["3bit"]),
    },
    ScatteringLayers: {
        "n_in": SIZES,
        "n_out": SIZES,
        "seed": SEEDS,
        "layers": (0, 65, 3.0, None),
        "oversample": (0.99, 64.5, NAN, INF, "2", None, True),
    },
    Lossy: {"transmission": (0, -1, 1.1, NAN, "1", True)},
    Ballistic: {"ratio": (-0.1, INF, NAN, None)},
    Dispersive: {"path_time_s": (-1e-12, INF, "1")},
    Modes: {"weights": ([], [0], [1, -1], [INF], "12", ["1"], 3), "seed": SEEDS},
    Drifting: {"correlation_frames": (0, -1, INF, NAN, "4"), "law": ("linear", None), "seed": SEEDS},
    Effect: {"medium": (3, None, np.eye(30))},
}
GOOD = {"n_in": 4, "n_out": 4, "transmission": 0.5, "ratio": 1.0, "path_time_s": 1e-12, "weights": [1, 1]}
GOOD |= {"correlation_frames": 10.0, "medium": SMALL}


def refused(make, **arguments):
    """Text of the ValueError, which is one line."""
    with pytest.raises(ValueError) as error:
        make(**arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, table in BOUNDS.items() for name in table])
def test_values_out_of_range_are_named(kind, name):
    """One line with medium, parameter and value. Catches: a bound removed, 4.0 or True taken for an integer."""
    known = [*kind.__pydantic_fields__]
    good = {other: GOOD[other] for other in known if other in GOOD}
    kind(**good)
    for value in BOUNDS[kind][name]:
        text = refused(kind, **(good | {name: value}))
        assert text.startswith(f"{kind.__name__}: {name}") and " must be " in text and ", got " in text


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda: Ballistic(Modes.polarised(SMALL), 1),
            "Ballistic: medium must have one mode (put Ballistic",
        ),
        (lambda: Drifting(Ballistic(SMALL, 1), 9), "Drifting: medium must not hold a ballistic share (put Drifting"),
        (lambda: Drifting(Modes.polarised(Ballistic(SMALL, 1)), 9), "Drifting: medium must not hold a ballistic share"),
        (
            lambda: ScatteringLayers(2**32 - 1, 1, oversample=5),
            "ScatteringLayers: oversample must give 2**34 modes or fewer",
        ),
        (lambda: MatrixMedium(), "MatrixMedium: either matrix or path must be given, got neither"),
        (lambda: MatrixMedium(np.eye(2), path="t.npy"), "MatrixMedium: either matrix or path must be given, got both"),
        (lambda: GaussianMedium(3), "GaussianMedium: n_out is missing"),
        (lambda: GaussianMedium(3, 4, colour=1), "GaussianMedium: colour is not a parameter"),
    ],
)
def test_parameters_that_do_not_go_together_are_named(make, says):
    """Catches: a condition between two parameters that is no longer checked."""
    assert refused(make).startswith(says)


DESCRIPTIONS = [
    ({}, "medium.type is missing"),
    ({"type": "Fog"}, "medium.type must be one of GaussianMedium, MatrixMedium,"),
    ({"type": "GaussianMedium", "n_in": 3}, "medium.n_out is missing"),
    ({"type": "GaussianMedium", "n_in": 3, "n_out": 0}, "medium.n_out must be greater than or equal to 1, got 0"),
    ({"type": "GaussianMedium", "n_in": 3, "n_out": 3, "colour": 1}, "medium.colour is not a parameter"),
    ({"type": "MatrixMedium"}, "medium was an array in memory: save it and use MatrixMedium.load(path)"),
    ({"type": "Lossy", "medium": 3, "transmission": 1}, "medium.medium must be a table of parameters, got 3"),
    ({"type": "Lossy", "transmission": 1}, "medium.medium is missing"),
    ({"type": "Lossy", "medium": {"type": "Fog"}, "transmission": 1}, "medium.medium.type must be one of"),
]


@pytest.mark.parametrize(("description", "says"), DESCRIPTIONS)
def test_bad_descriptions_are_named(description, says):
    """One line with the place in the table. Catches: a name that is ignored, an inner error without its place."""
    assert refused(media.from_dict, description=description).startswith(says)


def test_every_medium_is_in_the_registry_by_its_name():
    """Catches: a medium that no description can name, and one under another name."""
    assert {name: kind.__name__ for name, kind in media.MEDIA.items()} == {name: name for name in media.MEDIA}
    assert set(media.effects().values()) == {kind for kind in media.MEDIA.values() if issubclass(kind, Effect)}
    assert media.parameters(Modes) == ("weights", "seed")
    assert media.parameters(MatrixMedium) == ("path", "sha256", "key", "normalise")


@component(kw_only=False)
class Glass(Effect):
    """An effect of a user: every field is turned by the same phase."""

    phase_rad: float = Field(ge=0)

    def propagate(self, field, ticks=None):
        return self.medium.propagate(field, ticks) * np.complex64(np.exp(1j * self.phase_rad))

    def adjoint(self, field, ticks=None):
        return self.medium.adjoint(field, ticks) * np.complex64(np.exp(-1j * self.phase_rad))

    def block(self, rows, cols, tick=0):
        return self.medium.block(rows, cols, tick) * np.complex64(np.exp(1j * self.phase_rad))

    @property
    def identity(self):
        return self.medium.identity

    def fresh(self, seed):
        return Glass(self.medium.fresh(seed), self.phase_rad)


def test_a_medium_of_a_user_needs_one_entry_of_the_registry(monkeypatch, tmp_path):
    """Catches: tables that are made of the registry when the package is imported."""
    opu = OPU(medium=Drifting(Glass(SMALL, 0.3), 1e4))
    with pytest.raises(ValueError, match=r"medium\.medium\.type must be one of"):
        OPU.from_dict(opu.to_dict())
    monkeypatch.setitem(media.MEDIA, "Glass", Glass)
    assert OPU.from_dict(opu.to_dict()).medium == opu.medium
    opu.to_toml(tmp_path / "device.toml")
    assert OPU.from_toml(tmp_path / "device.toml").medium == opu.medium
    assert opu.replace(**{"medium.medium.phase_rad": 0.5}).medium == Drifting(Glass(SMALL, 0.5), 1e4)
    assert media.effects()["Glass"] is Glass
    assert "Glass" in OPU.json_schema()["$defs"]
    assert refused(media.from_dict, description=opu.medium.to_dict() | {"medium": {"type": "Glass"}}).startswith(
        "medium.medium.medium is missing; medium.medium.phase_rad is missing"
    )
    monkeypatch.setitem(media.MEDIA, "glass", Glass)
    with pytest.raises(ValueError, match=r"MEDIA\['glass'\] must be a component whose class has that name"):
        OPU.from_dict(opu.to_dict())


def test_media_with_equal_parameters_are_equal():
    """Matrices from memory are equal only to themselves. Catches: a comparison of arrays, a cache in the comparison."""
    used = Drifting(GaussianMedium(4, 5), 9)
    used.propagate(np.ones((1, 4)), np.array([5]))
    assert used == Drifting(GaussianMedium(4, 5), 9.0) and used != Drifting(GaussianMedium(4, 5, seed=1), 9)
    assert hash(used) == hash(Drifting(GaussianMedium(4, 5), 9.0))
    assert MatrixMedium(np.eye(2)) != MatrixMedium(np.eye(2))
