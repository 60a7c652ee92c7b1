"""Every part of the bench is frozen, checks its parameters, and names those that it refuses."""

import importlib
import pkgutil
import re
from dataclasses import FrozenInstanceError, asdict, fields, replace

import numpy as np
import pytest
from pydantic.dataclasses import is_pydantic_dataclass

import photonics
from photonics import DMD, Camera, Disturbed, Drifting, GaussianMedium, Imaging, Laser, Modes, ScatteringLayers
from photonics.medium.gaussian import GaussianRows
from photonics.parts.chip.parameters import CameraParameters
from photonics.parts.reference import Reference
from photonics.patterns.halftone import Bernoulli

PARTS = [Laser, DMD, Imaging, Reference, Camera]
every_part = pytest.mark.parametrize("part", PARTS)

BAD = [
    (Laser, "power_w", 0.0),
    (Laser, "power_w", -1.0),
    (Laser, "wavelength_m", 532.0),
    (Laser, "beam_radius_m", 0.0),
    (Laser, "beam_radius_m", 7),
    (Laser, "rin_db_per_hz", 140.0),
    (Laser, "drift_rms", -0.1),
    (Laser, "drift_time_s", 0.0),
    (DMD, "columns", 0),
    (DMD, "rows", 10.5),
    (DMD, "pitch_m", 13.68),
    (DMD, "macropixel", 0),
    (DMD, "contrast", 1.0),
    (DMD, "leakage_phase_rad", 4.0),
    (DMD, "stuck_fraction", 1.5),
    (DMD, "frame_rate_hz", 1e6),
    (Camera, "frame_rate_hz", 0.0),
    (DMD, "seed", -1),
    (Imaging, "throughput", 0.0),
    (Imaging, "throughput", 1.5),
    (Camera, "bit_depth", 0),
    (Camera, "bit_depth", 17),
    (Camera, "bit_depth", 8.5),
    (Camera, "quantum_efficiency", 1.2),
    (Camera, "quantum_efficiency", 0.0),
    (Camera, "full_well_e", 0.0),
    (Camera, "gain_dn_per_e", 0.0),
    (Camera, "offset_dn", -1.0),
    (Camera, "read_noise_e", -1.0),
    (Camera, "dark_current_e_per_s", -1.0),
    (Camera, "warming_k", 100.0),
    (Camera, "prnu", -0.01),
    (Camera, "dead_pixels", 1.5),
    (Camera, "dsnu_e", -1.0),
    (Camera, "hot_pixels", 1.5),
    (Camera, "hot_current_e_per_s", -1.0),
    (Camera, "row_noise_e", -1.0),
    (Camera, "column_noise_e", -1.0),
    (Camera, "row_dsnu_e", -1.0),
    (Camera, "column_dsnu_e", -1.0),
    (Camera, "nonlinearity", -0.5),
    (Camera, "offset_map", 3.0),
    (Camera, "gain_map", 3.0),
    (Camera, "bad_pixel_map", 3.0),
    (Camera, "binning", 0),
    (Camera, "seed", 2**64),
    (Laser, "linewidth_hz", -1.0),
    (Laser, "warm_up", -1.0),
    (Laser, "warm_up_time_s", 0.0),
    (Laser, "pointing_rad", -1e-6),
    (Laser, "pointing_lever_m", -1.0),
    (Laser, "vibration_rad", -1e-6),
    (Laser, "vibration_hz", 0.0),
    (DMD, "fill_factor", 1.1),
    (DMD, "tilt_rad", 12.0),
    (DMD, "incidence_rad", 24.0),
    (DMD, "load_s", -1.0),
    (DMD, "settle_s", -1.0),
    (DMD, "astigmatism_waves", 1000.0),
    (DMD, "defocus_waves", -1000.0),
    (DMD, "aberration_drift_waves", -1.0),
    (DMD, "aberration_drift_time_s", 0.0),
    (DMD, "warm_up_waves", 11.0),
    (DMD, "warm_up_time_s", 0.0),
    (Imaging, "numerical_aperture", 0.0),
    (Imaging, "numerical_aperture", 1.1),
    (Imaging, "pupil", "triangle"),
    (Imaging, "pixel_m", 5.5),
    (Imaging, "samples", 0),
    (Imaging, "samples", 17),
    (Imaging, "sensor", (0, 3)),
    (Imaging, "region", (0, 1, 2)),
    (Imaging, "polarisations", 3),
    (Imaging, "creep_m_per_s", 1.0),
    (Imaging, "pupil_creep_per_s", 0.1),  # without a pupil
    (Imaging, "reference", 7),
    (Reference, "intensity", -1.0),
    (Reference, "angle_x_rad", 2.0),
    (Reference, "angle_x_rad", -2.0),
    (Reference, "angle_y_rad", 2.0),
    (Reference, "angle_y_rad", -2.0),
    (Reference, "phase_jitter_rad", -1.0),
    (Reference, "phase_drift_rad", -1.0),
    (Reference, "phase_drift_time_s", 0.0),
    (Reference, "phase_vibration_rad", -1.0),
    (Reference, "phase_vibration_hz", 0.0),
    (Reference, "noise", -0.1),
    (Reference, "noise", 1.5),
    (Reference, "noise_grain_px", 0.0),
    (Reference, "seed", -1),
]


SEEDED = [
    (Camera, {}),
    (DMD, {}),
    (Reference, {}),
    (GaussianMedium, {"n_in": 3, "n_out": 3}),
    (GaussianRows, {"n_in": 3, "n_out": 3}),
    (ScatteringLayers, {"n_in": 3, "n_out": 3}),
    (Drifting, {"medium": GaussianMedium(3, 3), "correlation_frames": 9.0}),
    (Disturbed, {"medium": GaussianMedium(3, 3), "frame": 9, "correlation": 0.5}),
    (Modes, {"medium": GaussianMedium(3, 3), "weights": (0.5, 0.5)}),
    (Bernoulli, {}),
]


@pytest.mark.parametrize(("part", "others"), SEEDED, ids=lambda value: getattr(value, "__name__", ""))
def test_a_seed_is_exact(part, others):
    """Integers of Python and numpy from 0 to 2**64 - 1 stay what they are, as int; others are refused in one line.

    Catches: a seed that becomes a float on the way, so that seeds over 2**53 make the same device.
    """
    for value in (np.int64(2**60 + 1), np.uint64(2**60 + 1), np.uint64(2**64 - 1), 2**53 + 1, np.uint8(7)):
        made = part(seed=value, **others)
        assert type(made.seed) is int and made.seed == int(value)
        assert replace(made, seed=value) == made
    for value in (-1, 2**64, 2.0**60, np.float64(3), True, np.True_, "3", np.arange(2)):
        with pytest.raises(ValueError, match=rf"^{part.__name__}: seed must be .*, got ") as error:
            part(seed=value, **others)
        assert "\n" not in str(error.value)


def test_every_component_with_a_seed_is_here():
    """A new one joins `SEEDED`. Catches: a seed of another type."""
    for module in pkgutil.walk_packages(photonics.__path__, "photonics."):
        if "cuda" not in module.name:
            importlib.import_module(module.name)
    kinds = {kind for kind in subclasses(object) if is_pydantic_dataclass(kind) and kind.__module__[:9] == "photonics"}
    kinds -= {CameraParameters}  # the base of Camera
    assert {kind for kind, _ in SEEDED} == {
        kind for kind in kinds if any(field.name == "seed" and field.init for field in fields(kind))
    }


def subclasses(kind):
    """Every class below a class."""
    return {below for one in type.__subclasses__(kind) for below in {one} | subclasses(one)}


@every_part
def test_out_of_range_is_named(part):
    """One line with the part, the field, the bound and the value; ``replace`` checks too. Catches: a bound removed."""
    for name, value in [(name, value) for kind, name, value in BAD if kind is part]:
        says = rf"^{part.__name__}: {name} must be .*, got {re.escape(repr(value))}"
        for make in (lambda given: part(**given), lambda given: replace(part(), **given)):
            with pytest.raises(ValueError, match=says) as error:
                make({name: value})
            assert "\n" not in str(error.value)


@every_part
def test_every_field_refuses_nan_infinity_and_text(part):
    """Also a list. Catches: a field that is not checked."""
    for field in fields(part):
        for value in (float("nan"), float("inf"), "much", [1.0]):
            with pytest.raises(ValueError, match=rf"^{part.__name__}: {field.name} must be"):
                part(**{field.name: value})


def test_every_field_has_a_bad_value_here():
    """A new field joins `BAD`. Catches: a parameter without a range."""
    assert {(part, field.name) for part in PARTS for field in fields(part)} == {(part, name) for part, name, _ in BAD}


@every_part
def test_unknown_names_are_refused(part):
    """Catches: a misspelt parameter that is silently ignored."""
    known = ", ".join(field.name for field in fields(part))
    with pytest.raises(ValueError, match=rf"^{part.__name__}: colour is not a parameter; those are {known}$"):
        part(colour="red")


@every_part
def test_parts_are_values(part):
    """Frozen, equal by content, and hashable, since they are keys of caches. Catches: a mutable part."""
    name = fields(part)[0].name
    with pytest.raises(FrozenInstanceError):
        setattr(part(), name, 1)
    assert part() == part() == replace(part()) == part(**asdict(part()))
    assert hash(part()) == hash(part())


@every_part
def test_parameters_have_names(part):
    """``Camera(12)`` is refused. Catches: positional parameters."""
    with pytest.raises((TypeError, ValueError)):
        part(getattr(part(), fields(part)[0].name))
