"""What a new part must not forget. Each law runs on every entry of a registry, or says which list lacks the entry.

The table in CONTRIBUTING.md names the kinds of silent fault, and the tests that guard against each.
"""

import ast
import copy
import json
import pickle
import re
import warnings
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from calibration import recover_transmission_matrix
from calibration.projections.methods import METHODS as PROJECTIONS
from calibration.recovery.methods import METHODS as RECOVERIES
from photonics import OPU, GaussianMedium, presets
from photonics import medium as media
from photonics.parts.camera import Camera
from photonics.parts.chip.maps import encode_map
from photonics.parts.dmd import DMD
from photonics.parts.imaging import Imaging
from photonics.parts.laser import Laser
from photonics.parts.reference import Reference
from tests.calibration import benches, test_coverage, test_threads
from tests.calibration.faults import with_bad_pixels
from tests.laws import DESCRIBED, MAKERS, MEDIA

ROOT = Path(__file__).parents[1]
N_IN, SIDE, FRAMES = 24, 12, 10

VALUES = {
    Laser: {
        "power_w": 0.05,
        "wavelength_m": 633e-9,
        "linewidth_hz": 1e9,
        "beam_radius_m": 2e-3,
        "rin_db_per_hz": -70.0,
        "drift_rms": 0.1,
        "drift_time_s": 1e-3,
        "warm_up": 0.5,
        "warm_up_time_s": 5e-3,
        "pointing_rad": 1e-4,
        "vibration_rad": 1e-4,
        "vibration_hz": 170.0,
        "pointing_lever_m": 3.0,
    },
    DMD: {
        "columns": 900,
        "rows": 700,
        "pitch_m": 10.8e-6,
        "fill_factor": 0.8,
        "tilt_rad": 0.2,
        "incidence_rad": 0.4,
        "macropixel": 30,
        "contrast": 50.0,
        "leakage_phase_rad": 1.0,
        "stuck_fraction": 0.1,
        "load_s": 31e-6,
        "settle_s": 12e-6,
        "frame_rate_hz": 900.0,
        "astigmatism_waves": 1.0,
        "defocus_waves": 1.0,
        "aberration_drift_waves": 0.3,
        "aberration_drift_time_s": 1e-3,
        "warm_up_waves": 0.5,
        "warm_up_time_s": 5e-3,
        "seed": 2**63 + 1,
    },
    Camera: {
        "bit_depth": 12,
        "quantum_efficiency": 0.3,
        "full_well_e": 5e3,
        "gain_dn_per_e": 0.05,
        "offset_dn": 9.0,
        "read_noise_e": 90.0,
        "dark_current_e_per_s": 1e5,
        "warming_k": 20.0,
        "prnu": 0.1,
        "dsnu_e": 90.0,
        "dead_pixels": 0.1,
        "hot_pixels": 0.3,
        "hot_current_e_per_s": 2e5,
        "row_noise_e": 90.0,
        "column_noise_e": 90.0,
        "row_dsnu_e": 90.0,
        "column_dsnu_e": 90.0,
        "nonlinearity": -0.3,
        "offset_map": encode_map(np.arange(144.0).reshape(SIDE, SIDE) / 9, "offset_map", 0, 99),
        "gain_map": encode_map(np.linspace(0.5, 1.5, 144).reshape(SIDE, SIDE), "gain_map", 0, 99),
        "bad_pixel_map": encode_map(np.eye(SIDE), "bad_pixel_map", 0, 99),
        "binning": 2,
        "frame_rate_hz": 800.0,
        "seed": 2**63 + 1,
    },
    Imaging: {
        "throughput": 1e-8,
        "numerical_aperture": 0.03,
        "pupil": "square",
        "pixel_m": 4e-6,
        "samples": 3,
        "sensor": (SIDE, SIDE),
        "region": (0, SIDE, 0, SIDE),
        "polarisations": 2,
        "creep_m_per_s": 5e-4,
        "pupil_creep_per_s": 1.0,
        "reference": Reference(intensity=0.5),
    },
    Reference: {
        "intensity": 2.0,
        "angle_x_rad": 0.01,
        "angle_y_rad": 0.01,
        "phase_jitter_rad": 0.3,
        "phase_drift_rad": 1.0,
        "phase_drift_time_s": 1e-3,
        "phase_vibration_rad": 0.5,
        "phase_vibration_hz": 170.0,
        "noise": 0.3,
        "noise_grain_px": 2.0,
        "seed": 2**63 + 1,
    },
}
"""Another value than the default for every field of every part."""
PREFIX = {Laser: "laser.", DMD: "dmd.", Camera: "camera.", Imaging: "imaging.", Reference: "imaging.reference."}
SETTINGS = {f"{PREFIX[part]}{name}": value for part, values in VALUES.items() for name, value in values.items()}
WHOLE = ("imaging.region", "imaging.sensor", "camera.binning")
"""Settings that fix the region or its rows."""
BENCHES = {**SETTINGS, **dict.fromkeys(MAKERS)}


def bench(name):
    """A device with one setting changed, or with one of the media of the laws, on a square sensor."""
    if name in MAKERS:
        return OPU(medium=MAKERS[name](), exposure_s=4e-4)
    pupils = {"imaging.numerical_aperture": 2, "imaging.samples": 3, "imaging.pupil": 2, "imaging.pupil_creep_per_s": 2}
    samples = pupils.get(name, 1)
    modes = 2 if name == "imaging.polarisations" else 1
    opu = OPU(medium=GaussianMedium(N_IN, modes * (samples * SIDE) ** 2, seed=1), exposure_s=4e-4)
    more = {"imaging.numerical_aperture": 0.03} if samples > 1 else {}
    more |= {"camera.hot_pixels": 0.3} if name == "camera.hot_current_e_per_s" else {}
    return opu.replace(**{**more, name: SETTINGS[name]})


def shown(opu, seed=0):
    """Half-ON patterns."""
    return np.random.default_rng(seed).random((FRAMES, opu.n_in)) < 0.5


def take(opu, patterns):
    """Frames with and without the reference beam."""
    return opu.measure(patterns), opu.measure(patterns, reference_phase=np.arange(float(len(patterns))))


def test_every_field_is_here():
    """A new field of a part joins `VALUES`, with another value than its default. Catches: one that no law sees."""
    for part, values in VALUES.items():
        assert list(values) == [field.name for field in fields(part)]
        assert all(value != getattr(part(), name) for name, value in values.items())


@pytest.mark.parametrize("name", BENCHES)
def test_frames_depend_on_frame_numbers_and_the_description_alone(name):
    """One batch or several, a copy, a pickle, the device of its description: the same frames, bit for bit.

    Catches: noise ordered by the batch, a parameter that a description or a cache forgets, a clock that copies share.
    """
    opu = bench(name)
    patterns = shown(opu)
    again = [copy.deepcopy(opu), pickle.loads(pickle.dumps(opu))]
    if name not in MAKERS or name in DESCRIBED:
        again.append(OPU.from_dict(json.loads(json.dumps(opu.to_dict()))))
    split, wanted = copy.deepcopy(opu), take(opu, patterns)
    for device in again:
        for one, two in zip(take(device, patterns), wanted, strict=True):
            np.testing.assert_array_equal(one, two)
    parts = [split.measure(patterns[a:b]) for a, b in ((0, 1), (1, 4), (4, FRAMES))]
    np.testing.assert_array_equal(np.concatenate(parts), wanted[0])


@pytest.mark.parametrize("name", [name for name in SETTINGS if name not in WHOLE])
def test_every_part_belongs_to_the_chip(name):
    """A region of interest is a crop of the frame, bit for bit. Catches: flaws or noise by the place in the region."""
    whole = bench(name)
    part = whole.replace(**{"imaging.region": (2, 5, 3, 8)})
    for one, two in zip(take(part, shown(part)), take(whole, shown(whole)), strict=True):
        crop = two.reshape(FRAMES, *whole.frame_shape)[:, 2:7, 3:11]
        np.testing.assert_array_equal(one, crop.reshape(FRAMES, -1))


def test_parts_of_a_world_join_to_the_whole():
    """Every medium in worlds of 2 to 4, every setting and preset, late in a drift, with the beam: the same bits.

    A part survives a pickle and its description. Catches: rows drawn from 0, a row factor or an unscattered image by
    the place in the part, a cached medium of another part of the same size.
    """
    ready = {name: (lambda name=name: bench(name)) for name in BENCHES}
    ready |= {name: (lambda name=name: presets.get(name)(24, 90, seed=2)) for name in presets.PRESETS}
    for name, make in ready.items():
        whole = make()
        late = 5000 if whole.laser.pointing_rad == 0 and not whole.imaging.creeps else 0
        whole.clock.frames = late
        worlds = [world for world in ((2, 3, 4) if name in MAKERS else (3,)) if world <= whole.lines]
        parts = [[whole.part(rank, world) for rank in range(world)] for world in worlds]
        if name in DESCRIBED and parts:
            parts[0] = [OPU.from_dict(json.loads(json.dumps(part.to_dict()))) for part in parts[0]]
            parts[-1] = [pickle.loads(pickle.dumps(part)) for part in parts[-1]]
        patterns = shown(whole, seed=1)[:4]
        wanted = take(whole, patterns)
        for part in (part for world in parts for part in world):
            part.clock.frames = late
        for world in parts:
            frames = [take(part, patterns) for part in world]
            for joined, one in zip(zip(*frames, strict=True), wanted, strict=True):
                np.testing.assert_array_equal(np.concatenate(joined, axis=1), one, err_msg=name)


@pytest.mark.parametrize("name", DESCRIBED)
def test_light_of_an_input_does_not_depend_on_their_number(name):
    """``n_in E|t_ij|^2`` of an input is the same on a medium of twice the inputs (5 standard errors).

    Catches: a medium in another unit than that of `Imaging.throughput`, so that mirrors that are OFF dim the others.
    """
    small, description = MEDIA[name], json.loads(json.dumps(MEDIA[name].to_dict()))
    inner = description
    while "medium" in inner:
        inner = inner["medium"]
    inner["n_in"] *= 2
    large = media.from_dict(description)
    if small.shape == (1, 1):
        return  # a single entry has no mean
    light, error = [], 0.0
    for medium in (small, large):
        power = medium.shape[1] * np.abs(medium.block(slice(None), slice(None))) ** 2
        light.append(power.mean())
        error += power.var() / power.size
    assert abs(light[0] - light[1]) < 5.0 * np.sqrt(error)


@pytest.mark.parametrize("kind", ["dead", "hot"])
@pytest.mark.parametrize("name", benches.METHODS)
def test_bad_pixels_change_no_other_row(name, kind):
    """They are not valid, and every other row changes by less than 2 stated errors.

    Before, neighbours of a dead pixel were 45 stated errors off by off-axis holography. Catches: NaN in a sum over
    pixels, light that is missing in a spectrum.
    """
    pixels, found = [7, 50, 200], []
    for spoilt in (True, False):
        opu = benches.bench("lab_bench", name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a hot pixel may be told
            projection = benches.calibrate(with_bad_pixels(opu, kind, pixels) if spoilt else opu, name)
            found.append((projection.valid, projection.measure(benches.half_on(10, projection.n_inputs, 0))))
    (valid, got), (sound, wanted) = found
    assert not valid[pixels].any() and np.isfinite(got.values).all()
    np.testing.assert_array_equal(np.delete(valid, pixels), np.delete(sound, pixels))
    assert (np.abs(got.values - wanted.values) <= 2.0 * wanted.standard_error)[:, valid].all()


@pytest.mark.parametrize("method", [*PROJECTIONS.values(), *RECOVERIES.values()], ids=lambda kind: kind.__name__)
def test_a_method_says_whether_it_uses_the_reference_beam(method, monkeypatch):
    """What its calibration shows. Catches: a report without the arm that its method needs, or with one that is idle."""
    phases, measure = [], OPU.measure

    def watched(*arguments, reference_phase=None):
        phases.append(reference_phase)
        return measure(*arguments, reference_phase=reference_phase)

    monkeypatch.setattr(OPU, "measure", watched)
    if method in PROJECTIONS.values():
        name = next(name for name, (kind, _) in benches.METHODS.items() if kind == method.name)
        benches.calibrate(benches.bench("lab_bench", name), name)
    else:
        make, options = test_threads.RECOVERIES[method.name]
        recover_transmission_matrix(make(), method.name, exposure="auto", **options)
    assert method.uses_reference is any(phase is not None for phase in phases)


def test_every_entry_is_under_the_laws():
    """A new medium joins `tests.laws.MAKERS`, a new method the benches. Catches: a method whose error nobody checks."""
    held = set()
    for medium in MEDIA.values():
        while medium is not None:
            held.add(type(medium))
            medium = getattr(medium, "medium", None)
    assert held == set(media.MEDIA.values())
    assert {method for method, _ in benches.METHODS.values()} == set(PROJECTIONS) == set(test_threads.PROJECTIONS)
    assert set(RECOVERIES) == set(test_threads.RECOVERIES) <= set(test_coverage.CASES)


def test_every_entry_has_a_table_of_its_parameters():
    """In docs/reference/parameters.md. Catches: a method whose settings no page lists."""
    page = (ROOT / "docs" / "reference" / "parameters.md").read_text("utf-8")
    kinds = {kind.__name__ for registry in (PROJECTIONS, RECOVERIES, media.MEDIA) for kind in registry.values()}
    assert kinds == {name for name in kinds if re.search(rf"\{{parameters\}} [\w.]+\.{name}\n", page)}


def test_every_guard_of_the_checklist_exists():
    """The tests that CONTRIBUTING.md names. Catches: a guard that was renamed or deleted."""
    rows = re.findall(r"^\| .* \|$", (ROOT / "CONTRIBUTING.md").read_text("utf-8").split("must not forget")[1], re.M)
    named = [guard for row in rows for guard in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)]
    assert len(rows) > 15 and len(named) >= len(rows) - 2
    for file, test in named:
        tree = ast.parse((ROOT / file).read_text("utf-8"))
        assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, (file, test)
