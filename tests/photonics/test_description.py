"""Devices from descriptions and back, and the one-line errors of bad input."""

import json
import pickle
from dataclasses import fields
from typing import get_args

import jsonschema
import numpy as np
import pytest
import tomli_w

from photonics import (
    DMD,
    OPU,
    Camera,
    Drifting,
    GaussianMedium,
    Imaging,
    Laser,
    Lossy,
    MatrixMedium,
    Modes,
    Reference,
    presets,
)
from photonics.description import PARTS

every_preset = pytest.mark.parametrize("name", presets.PRESETS)


def same_device(a, b):
    """Same description, same frames from a fresh clock."""
    patterns = np.random.default_rng(1).random((7, a.n_in)) < 0.5
    assert a.to_dict() == b.to_dict()
    np.testing.assert_array_equal(a.replace().measure(patterns), b.replace().measure(patterns))


@every_preset
def test_dictionary_round_trip(name):
    """Through JSON too: plain types only. Catches: a parameter left out, an object of numpy."""
    opu = presets.get(name)(40, 60, seed=2**64 - 1)
    same_device(OPU.from_dict(opu.to_dict()), opu)
    same_device(OPU.from_dict(json.loads(json.dumps(opu.to_dict()))), opu)


@every_preset
def test_toml_round_trip(tmp_path, name):
    """A file of every parameter gives the same device. Catches: a table that is not read, None that is not written."""
    opu = presets.get(name)(40, 60, seed=2**64 - 1)
    path = tmp_path / "device.toml"
    opu.to_toml(path)
    same_device(OPU.from_toml(path), opu)
    same_device(OPU.from_toml(str(path)), opu)
    assert [file.name for file in tmp_path.iterdir()] == ["device.toml"]


def test_toml_round_trip_of_every_kind_of_entry(tmp_path, monkeypatch):
    """Media within media, lists, a reference, a sensor and a matrix whose path is relative, read from elsewhere.

    Catches: a path that is relative to the wrong folder, a tuple that comes back as another type.
    """
    monkeypatch.chdir(tmp_path)
    np.save("t.npy", GaussianMedium(30, 20, seed=8).block(slice(None), slice(None)))
    medium = Lossy(Modes(Drifting(MatrixMedium.load("t.npy"), 50.0), [1.0, 3.0], seed=4), 0.5)
    imaging = Imaging(sensor=(4, 5), region=(1, 2, 0, 5), reference=Reference(noise=0.1))
    opu = OPU(medium=medium, imaging=imaging, seed=6, power_source='a "meter", 2 %')
    (tmp_path / "there").mkdir()
    opu.to_toml("there/device.toml")
    monkeypatch.chdir("/")
    again = OPU.from_toml(tmp_path / "there" / "device.toml")
    patterns = np.random.default_rng(1).random((3, 30)) < 0.5
    np.testing.assert_array_equal(again.measure(patterns), opu.measure(patterns))
    assert again.imaging == imaging
    assert again.replace(medium=medium).to_dict() == opu.to_dict()


def test_toml_files_are_never_overwritten(tmp_path):
    """Nor are unreadable ones written: no folder, a matrix in memory. Catches: a file that is lost or half there."""
    opu, path = presets.lab_bench(4, 4), tmp_path / "device.toml"
    path.write_text("mine")
    with pytest.raises(ValueError, match=r"^path must be new, got .*device\.toml, which exists"):
        opu.to_toml(path)
    with pytest.raises(ValueError, match=r"^path must be in a writable folder, got .*nowhere"):
        opu.to_toml(tmp_path / "nowhere" / "device.toml")
    with pytest.raises(ValueError, match=r"^medium was an array in memory: save it"):
        opu.replace(medium=MatrixMedium(np.eye(4))).to_toml(tmp_path / "other.toml")
    assert path.read_text() == "mine"
    assert [file.name for file in tmp_path.iterdir()] == ["device.toml"]


def test_json_schema():
    """It accepts every preset, "none" for None, and media within media; it refuses what `from_dict` refuses.

    Catches: a schema of other names or bounds than those of the device.
    """
    check = jsonschema.Draft202012Validator(OPU.json_schema()).is_valid
    for name in presets.PRESETS:
        assert check(json.loads(json.dumps(presets.get(name)(40, 60).to_dict())))
    described = presets.lab_bench(30, 20).replace(medium=Drifting(GaussianMedium(30, 20), 50.0)).to_dict()
    described = json.loads(json.dumps(described))
    assert check(described | {"dmd": {"contrast": "none"}})
    for bad in ({"camera": {"bit_depth": 24}}, {"lens": {}}, {"medium": {"type": "Fog"}}, {"seed": -1}, {"dmd": 5}):
        assert not check(described | bad)
        with pytest.raises(ValueError, match=r"must be|is not a parameter"):
            OPU.from_dict(described | bad)
    camera = OPU.json_schema()["$defs"]["Camera"]["properties"]
    assert "electrons rms" in camera["read_noise_e"]["description"]


def test_a_byte_order_mark_is_read_over(tmp_path):
    """Editors of Windows write one. Catches: "Invalid statement (at line 1, column 1)"."""
    opu, path = presets.lab_bench(30, 20), tmp_path / "device.toml"
    opu.to_toml(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    same_device(OPU.from_toml(path), opu)


def test_the_default_exposure_fits_the_frames():
    """0.44 ms, or the longest that fast frames allow; a changed rate that the set exposure does not fit says so.

    Catches: a complaint about an exposure that nobody gave.
    """
    medium = GaussianMedium(30, 20)
    assert OPU(medium=medium).exposure_s == 4.4e-4
    fast = OPU(medium=medium, camera=Camera(frame_rate_hz=5000.0))
    assert fast.exposure_s == fast.longest_exposure_s == pytest.approx(1.87e-4)
    assert OPU.from_dict(fast.to_dict()).exposure_s == fast.exposure_s
    table = {"medium": medium.to_dict(), "camera": {"frame_rate_hz": 5000.0}}
    assert (
        OPU.from_dict(table).exposure_s == OPU.from_dict(table | {"exposure_s": "none"}).exposure_s == fast.exposure_s
    )
    with pytest.raises(
        ValueError, match=r"^exposure_s must be changed too: .* 0.00044 s, .* at 5000 Hz .* 0.000187 s$"
    ):
        OPU(medium=medium).replace(**{"camera.frame_rate_hz": 5000.0})
    changed = OPU(medium=medium).replace(exposure_s=1e-4, **{"camera.frame_rate_hz": 5000.0})
    assert changed.exposure_s == 1e-4
    with pytest.raises(ValueError, match=r"^exposure_s must be 1e-06 to 0.000187 .*, got 0.00044$"):
        OPU(medium=medium, camera=Camera(frame_rate_hz=5000.0), exposure_s=4.4e-4)


def test_missing_entries_take_their_defaults(tmp_path):
    path = tmp_path / "device.toml"
    path.write_text('[medium]\ntype = "GaussianMedium"\nn_in = 30\nn_out = 20\n[camera]\nbit_depth = 12\n')
    same_device(OPU.from_toml(path), OPU(medium=GaussianMedium(30, 20), camera=Camera(bit_depth=12)))


def without_none(value):
    """What a writer of TOML without null makes of a table, as the package `toml` does."""
    if isinstance(value, dict):
        return {key: without_none(item) for key, item in value.items() if item is not None}
    return value


@pytest.mark.parametrize(
    ("part", "changes", "names"),
    [
        ("laser", {"beam_radius_m": None}, "beam_radius_m"),
        ("laser", {"beam_radius_m": None, "rin_db_per_hz": None}, "beam_radius_m, rin_db_per_hz"),
        ("dmd", {"contrast": None}, "contrast"),
    ],
)
def test_a_writer_that_drops_none_is_noticed(tmp_path, part, changes, names):
    """One line with the names; "none" and tables by hand are read. Catches: a flat beam that comes back Gaussian."""
    opu = presets.lab_bench(30, 20).replace(**{f"{part}.{name}": value for name, value in changes.items()})
    path = tmp_path / "device.toml"
    path.write_text(tomli_w.dumps(without_none(opu.to_dict())))
    with pytest.raises(ValueError, match=rf"{names} must be a number or \"none\" in a table of all other") as error:
        OPU.from_toml(path)
    assert "\n" not in str(error.value)
    described = without_none(opu.to_dict())
    same_device(OPU.from_dict(described | {part: described[part] | dict.fromkeys(changes, "none")}), opu)
    whole = presets.lab_bench(30, 20)
    same_device(OPU.from_dict(without_none(whole.to_dict())), whole)  # None is the default of what was dropped


def test_every_part_survives_a_writer_that_drops_none_or_refuses():
    """For each parameter that may be None. Catches: a new one whose default is a number, outside the check."""
    whole = presets.lab_bench(30, 20)
    for part in PARTS:
        for field in fields(getattr(whole, part)):
            if type(None) in get_args(field.type):
                opu = whole.replace(**{f"{part}.{field.name}": None})
                try:
                    again = OPU.from_dict(without_none(opu.to_dict()))
                except ValueError as error:
                    assert field.name in str(error)
                else:
                    assert again.to_dict() == opu.to_dict()


def test_matrix_medium_in_a_description(tmp_path):
    """The file is named, with its digest. Catches: a description that forgets the source."""
    np.save(tmp_path / "t.npy", GaussianMedium(30, 20, seed=8).block(slice(None), slice(None)))
    opu = presets.lab_bench(30, 20).replace(medium=MatrixMedium.load(tmp_path / "t.npy"))
    same_device(OPU.from_dict(opu.to_dict()), opu)
    same_device(opu, opu.replace(medium=MatrixMedium.load(tmp_path / "t.npy")))


def test_replace_changes_one_part():
    """The others are the same objects, the clock is new, the old device is untouched. Catches: a part dropped."""
    opu = presets.lab_bench(30, 20, seed=6)
    opu.measure(np.ones((2, 30)))
    other = opu.replace(camera=Camera(bit_depth=12), exposure_s=1e-4)
    assert other.camera.bit_depth == 12
    assert (other.exposure_s, opu.exposure_s) == (1e-4, 4.4e-4)
    assert all(getattr(other, name) is getattr(opu, name) for name in ("laser", "dmd", "medium", "imaging"))
    assert (other.seed, other.electrical_power_w) == (6, 40.0)
    assert (other.clock.frames, opu.clock.frames) == (0, 2)
    same_device(opu.replace(), presets.lab_bench(30, 20, seed=6))


def test_parts_are_as_given():
    parts = {"laser": Laser(power_w=0.2), "dmd": DMD(seed=1), "camera": Camera(seed=2), "medium": GaussianMedium(9, 8)}
    opu = OPU(**parts)
    assert all(getattr(opu, name) is part for name, part in parts.items())
    assert (opu.n_in, opu.n_out) == (9, 8)
    assert opu.frame_period_s == pytest.approx(1 / 1000)  # the camera leads
    fast = opu.replace(camera=Camera(frame_rate_hz=1e5), exposure_s=3e-5)
    assert fast.frame_period_s == pytest.approx(1 / 22_700)  # the mirrors do
    assert "n_in=9, n_out=8" in repr(opu)


def test_exposure_ends_before_the_mirrors_move():
    """A frame period less the settling; the next pattern loads meanwhile. Catches: light taken while mirrors turn."""
    fast = OPU(medium=GaussianMedium(9, 8), camera=Camera(frame_rate_hz=1e5), exposure_s=3.1e-5)
    assert fast.longest_exposure_s == pytest.approx(1 / 22_700 - 13e-6)
    with pytest.raises(ValueError, match=r"^exposure_s must be 1e-06 to 3.1\d*e-05 .*got 4.4e-05"):
        fast.exposure_s = 4.4e-5


def test_replace_by_dotted_names():
    """Parameters of parts, of parts of parts and of media within media. Catches: a change of the wrong level."""
    opu = presets.lab_bench(30, 20).replace(medium=Drifting(GaussianMedium(30, 20, seed=1), 100.0))
    new = opu.replace(
        **{
            "camera.bit_depth": 4,
            "camera.prnu": 0.02,
            "imaging.reference.noise": 0.1,
            "medium.medium.seed": 7,
            "seed": 3,
        }
    )
    assert (new.camera.bit_depth, new.camera.prnu, new.imaging.reference.noise) == (4, 0.02, 0.1)
    assert (new.medium.medium.seed, new.medium.correlation_frames, new.seed) == (7, 100.0, 3)
    assert opu.replace(**{"medium.correlation_frames": 5.0}).medium.correlation_frames == 5.0
    assert (opu.camera.bit_depth, opu.medium.medium.seed) == (8, 1)
    for name in ("lens.bit_depth", "camera.bits", "imaging.reference.colour", "medium.colour", "medium.medium.colour"):
        with pytest.raises(ValueError, match=f"{name.split('.')[-1]}.* is not a parameter"):
            opu.replace(**{name: 1})
    with pytest.raises(ValueError, match=r"^Camera: bit_depth must be"):
        opu.replace(**{"camera.bit_depth": 40})


def test_replace_puts_an_effect_around_the_medium():
    """By a table, as in a TOML file; names beside it are those of the medium inside. Catches: a medium that is lost."""
    opu = presets.lab_bench(30, 20, seed=4)
    drifting = {"type": "Drifting", "correlation_frames": 50.0}
    same_device(opu.replace(medium=drifting), opu.replace(medium=Drifting(opu.medium, 50.0)))
    inside = opu.replace(**{"medium": drifting, "medium.seed": 7}).medium
    assert (inside.seed, inside.medium) == (0, GaussianMedium(30, 20, seed=7, storage="auto"))
    own = opu.replace(medium=MatrixMedium(np.eye(30)))  # it has no table
    assert own.replace(medium=drifting).medium.medium is own.medium
    for table, says in (
        ({}, "medium.type must be one of Ballistic, .*, got None"),
        ({"type": "GaussianMedium"}, "medium.type must be one of Ballistic, .*, got 'GaussianMedium'"),
        ({"type": "Drifting"}, "Drifting: correlation_frames is missing"),
        ({"type": "Lossy", "transmission": -1.0}, "Lossy: transmission must be greater than 0, got -1"),
        ({"type": "Lossy", "transmission": 0.5, "medium": {}}, "medium.medium must be left out"),
    ):
        with pytest.raises(ValueError, match=f"^{says}"):
            opu.replace(medium=table)
    with pytest.raises(ValueError, match=r'^medium.transmission must be .* medium=\{"type": "Lossy"'):
        opu.replace(**{"medium.transmission": 0.5})


def test_replace_keeps_the_modes_that_were_drawn():
    """Catches: the second polarisation's matrix drawn again at every step of a sweep."""
    opu = OPU(medium=GaussianMedium(9, 8), imaging=Imaging(polarisations=2))
    assert opu.replace(seed=4)._lit is opu._lit
    assert opu.replace(imaging=Imaging())._lit is not opu._lit
    assert opu.replace(medium=GaussianMedium(9, 8))._lit is not opu._lit


def test_a_device_travels_to_another_process():
    opu = presets.lab_bench(30, 20)
    same_device(pickle.loads(pickle.dumps(opu)), opu)


MEDIUM = {"type": "GaussianMedium", "n_in": 30, "n_out": 20}
BAD_DESCRIPTIONS = [
    ({}, r"medium is missing$"),
    ({"medium": {}}, r"medium\.type is missing$"),
    ({"medium": {"type": "Fog"}}, r"medium\.type must be one of GaussianMedium, .*, got Fog$"),
    ({"medium": MEDIUM, "lazer": {}}, r"lazer is not a parameter; those are laser, dmd, .*, power_source$"),
    ({"medium": MEDIUM, "laser": {"watts": 1.0}}, r"Laser: watts is not a parameter"),
    ({"medium": MEDIUM, "camera": {"bit_depth": "many"}}, r"Camera: bit_depth must be .*got 'many'"),
    ({"medium": MEDIUM, "camera": {"bit_depth": 0, "prnu": 7}}, r"Camera: bit_depth must be .*; prnu must be"),
    ({"medium": MEDIUM | {"n_in": -1}}, r"medium.n_in must be greater than or equal to 1"),
    (
        {"medium": MEDIUM | {"colour": 1}},
        r"medium\.colour is not a parameter; those are n_in, n_out, seed, storage, entries$",
    ),
    ({"medium": 5}, r"medium must be a table of parameters, got 5"),
    ({"medium": MEDIUM, "dmd": 5}, r"dmd must be a table of parameters, got 5"),
    ({"medium": MEDIUM | {"n_in": 10**6}}, r"n_in must be 1 to 12288 on a chip of 1024 x 768"),
    ({"medium": MEDIUM, "seed": -1}, r"seed must be greater than or equal to 0, got -1$"),
    ({"medium": MEDIUM, "exposure_s": 1.0}, r"exposure_s must be 1e-06 to .* \(a frame at 1000 Hz .*, got 1.0"),
    ({"medium": MEDIUM, "exposure_s": float("nan")}, r"exposure_s must be a finite number, got nan$"),
    (
        {"medium": MEDIUM, "electrical_power_w": -1.0},
        r"electrical_power_w must be greater than or equal to 0, got -1",
    ),
]


@pytest.mark.parametrize(("description", "says"), BAD_DESCRIPTIONS)
def test_bad_descriptions_are_named(tmp_path, description, says):
    """One line, from a dictionary and (with the file's name) from TOML. Catches: an unknown name that is ignored."""
    with pytest.raises(ValueError, match="^" + says) as error:
        OPU.from_dict(description)
    assert "\n" not in str(error.value)
    path = tmp_path / "device.toml"
    path.write_text(tomli_w.dumps(description))
    with pytest.raises(ValueError, match=rf"device\.toml: {says}"):
        OPU.from_toml(path)


@pytest.mark.parametrize("content", [b"[medium", b"\xff\xfe", None])
def test_bad_files_are_named(tmp_path, content):
    """No file, not text, not TOML: a ValueError with the path. Catches: an uncaught exception of the parser."""
    path = tmp_path / "device.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"device\.toml"):
        OPU.from_toml(path)


OPUS = {"medium": GaussianMedium(30, 20)}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"medium": None}, "medium must be a ScatteringMedium, got NoneType"),
        ({"medium": np.ones((3, 3))}, "medium must be a ScatteringMedium, got ndarray"),
        ({"laser": Camera()}, "laser must be a Laser, got Camera"),
        ({"camera": {}}, "camera must be a Camera, got dict"),
        ({"seed": 1.5}, "seed must be an integer"),
        ({"medium": GaussianMedium(13_000, 1)}, "n_in must be 1 to 12288"),
        ({"exposure_s": 0.0}, "exposure_s must be 1e-06 to"),
    ],
)
def test_bad_parts_are_named(changes, says):
    """In the constructor and in ``replace``. Catches: a part of the wrong kind that fails later."""
    for make in (lambda: OPU(**(OPUS | changes)), lambda: presets.lab_bench(30, 20).replace(**changes)):
        with pytest.raises(ValueError, match=f"^{says}"):
            make()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("colour", "colour is not a part of the device; parts are"),
        ("camera.bit_depth.x", "x is not a parameter of 8, which is a value and not a part"),
        ("imaging.reference.noise.x.y", r"x\.y is not a parameter of 0\.0, which is a value"),
        ("medium.transmission.x", r"x is not a parameter of 0\.5, which is a value and not a part"),
    ],
)
def test_replace_refuses_unknown_names(name, says):
    """Catches: Python's own error for a name with too many dots."""
    opu = presets.lab_bench(30, 20)
    with pytest.raises(ValueError, match=f"^{says}"):
        opu.replace(medium=Lossy(opu.medium, 0.5)).replace(**{name: 1})


@pytest.mark.parametrize("value", [0.0, 2e-3, np.nan, "long"])
def test_bad_exposures_are_named(value):
    opu = presets.lab_bench(30, 20)
    for call in (
        lambda: opu.measure(np.ones((1, 30)), exposure_s=value),
        lambda: opu.dark(1, exposure_s=value),
        lambda: setattr(opu, "exposure_s", value),
    ):
        with pytest.raises(
            ValueError, match=r"^exposure_s must be 1e-06 to 0.000987 \(a frame at 1000 Hz less 1.3e-05 s .*\), got"
        ):
            call()
    assert opu.exposure_s == 4.4e-4


@pytest.mark.parametrize("patterns", [np.ones(30), np.ones((2, 31)), np.full((1, 30), np.nan), None])
def test_bad_patterns_are_named(patterns):
    with pytest.raises(ValueError, match=r"^patterns must") as error:
        presets.lab_bench(30, 20).measure(patterns)
    assert "\n" not in str(error.value)
