"""The whole device on another library: the frames of the host, and no implicit transfers."""

import sys
from dataclasses import replace

import array_api_strict
import numpy as np
import pytest

import photonics.chain
from photonics import (
    DMD,
    Camera,
    Dispersive,
    Disturbed,
    Drifting,
    GaussianMedium,
    Imaging,
    Laser,
    ScatteringLayers,
    presets,
)
from photonics.backend import backend_of, to_host
from photonics.parts.reference import Reference

N_IN, N_OUT = 60, 256
FLIPS = 1e-3
"""Share of pixels that rounding may move by one DN."""

UNSTEADY = Reference(angle_x_rad=0.02, phase_jitter_rad=0.1, phase_drift_rad=1.0, phase_vibration_rad=0.3, noise=0.2)
CREEPING = {"creep_m_per_s": 2e-5, "pupil_creep_per_s": 0.5}
CHANGES = {
    "lab_bench": {},
    "12 bit": {"camera": Camera(bit_depth=12, seed=4)},
    "pupil": {"imaging": Imaging(numerical_aperture=0.04, reference=UNSTEADY, region=(1, 5, 2, 6), **CREEPING)},
    "two polarisations": {"imaging": Imaging(polarisations=2, reference=UNSTEADY)},
    "mirrors": {
        "dmd": DMD(leakage_phase_rad=1.0, astigmatism_waves=0.5, aberration_drift_waves=0.2, stuck_fraction=0.01),
        "imaging": Imaging(creep_m_per_s=2e-5),
        "laser": Laser(vibration_rad=1e-4),
    },
    "drifting": {"medium": Disturbed(Drifting(GaussianMedium(N_IN, N_OUT, seed=1), 20, warm_up=2.0), 9, 0.7)},
    "dispersive": {"medium": Dispersive(GaussianMedium(N_IN, N_OUT, seed=1), 1e-8)},
    "layers": {"medium": ScatteringLayers(N_IN, N_OUT, seed=1)},
    "streamed": {"medium": GaussianMedium(N_IN, N_OUT, seed=1, storage="streamed")},
    "3bit": {"medium": GaussianMedium(N_IN, N_OUT, seed=1, entries="3bit")},
}

every_device = pytest.mark.parametrize("name", CHANGES)


def bench(name, backend=None):
    """A device, on a backend as `OPU.to` would put it."""
    opu = presets.lab_bench(N_IN, N_OUT, seed=1).replace(**CHANGES[name])
    if backend is not None:
        opu.backend = backend
    return opu


@pytest.fixture
def patterns(half_on):
    return half_on(24, N_IN)


def same_frames(there, here, device):
    """Same type on the device, and the host's values up to a few flips by one DN."""
    assert backend_of(there) == device
    there = to_host(there)
    assert (there.dtype, there.shape) == (here.dtype, here.shape)
    step = np.abs(there.astype(int) - here)
    assert step.max(initial=0) <= 1
    assert step.sum() <= FLIPS * step.size


@every_device
def test_frames_are_the_hosts(name, device, patterns):
    """With the reference arm closed and open, and dark; the clocks agree.

    Catches: a part computed for another frame, a constant of the host's run, PRNU twice on the device.
    """
    here, there = bench(name), bench(name, device)
    sent, phases = device.asarray(patterns), np.linspace(0, 6, 24)
    frames = here.measure(patterns)
    assert len(np.unique(frames)) > 20
    same_frames(there.measure(sent), frames, device)
    same_frames(
        there.measure(sent, 3e-4, reference_phase=phases), here.measure(patterns, 3e-4, reference_phase=phases), device
    )
    same_frames(there.dark(3), here.dark(3), device)
    same_frames(there.measure(sent[:0, :]), here.measure(patterns[:0]), device)
    assert there.clock.frames == here.clock.frames == 51


@pytest.mark.parametrize("name", ["pupil", "mirrors", "drifting", "3bit"])
def test_moments_are_the_hosts(name, device, patterns):
    """To 1e-4 of the largest, the reference open or closed. Catches: a quiet device that falls back to the host."""
    here, there = bench(name), bench(name, device)
    for method in ("mean", "variance"):
        for phase in (None, 0.4):
            expected = getattr(here, method)(patterns[:3], reference_phase=phase)
            result = getattr(there, method)(device.asarray(patterns[:3]), reference_phase=phase)
            assert backend_of(result) == device
            assert np.abs(to_host(result) - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("name", ["pupil", "drifting"])
def test_the_exposure_is_the_hosts(name, device, patterns):
    """To 1 %, with default or given patterns. Catches: probes of the host shown to a device."""
    for given in (None, patterns):
        here, there = bench(name), bench(name, device)
        expected = here.autoexpose(0.4, given)
        found = there.autoexpose(0.4, None if given is None else device.asarray(given))
        assert abs(found / expected - 1) < 0.01
        assert there.exposure_s == found


RESTLESS = {
    "laser": Laser(drift_rms=0.05, drift_time_s=2e-3, rin_db_per_hz=-70, pointing_rad=1e-4, vibration_rad=1e-4),
    "dmd": DMD(aberration_drift_waves=0.3, aberration_drift_time_s=2e-3, warm_up_waves=1.0, warm_up_time_s=0.02),
    "medium": Drifting(GaussianMedium(N_IN, N_OUT, seed=1), 3),
    "imaging": Imaging(
        reference=Reference(
            phase_jitter_rad=0.3, phase_drift_rad=1.0, phase_drift_time_s=2e-3, phase_vibration_rad=0.3
        ),
        creep_m_per_s=2e-5,
    ),
}


def frames_by_hand(opu, patterns, ticks, phases):
    """Frames of the given numbers, from the parts."""
    every = {"frame_period_s": opu.frame_period_s, "seed": opu.seed}
    light = opu.laser.field(opu.cells, ticks, exposure_s=opu.exposure_s, **every)
    field = opu.medium.propagate(opu.dmd.modulate(patterns, light, ticks, **every), ticks)
    power = opu.laser.relative_power(ticks, opu.exposure_s, **every)
    beam = opu.imaging.reference.field(
        opu.frame_shape,
        phases,
        ticks,
        unit_rate=opu.laser.photon_rate * float(opu.laser.power_share(opu.cells).mean()) * power,
        wavelength_m=opu.laser.wavelength_m,
        pixel_m=opu.imaging.pixel_m,
        samples=1,
        backend=backend_of(patterns),
        **every,
    )
    time = {"ticks": ticks, "frame_period_s": opu.frame_period_s}
    photons = opu.imaging.intensity(field, n_in=opu.n_in, reference=beam, **time)
    photons *= opu.exposure_s * opu.dmd.efficiency(opu.laser.wavelength_m)
    return opu.camera.expose(photons, opu.exposure_s, ticks, opu.seed)


@pytest.mark.parametrize("part", RESTLESS)
def test_frame_k_is_what_the_parts_make_at_tick_k(part, patterns):
    """Bit for bit, after other frames, for each part that changes from frame to frame, and for the camera's noise.

    Catches: a part that is asked for the frame before or after, ticks counted from the call and not from the clock.
    """
    opu, phases = bench("lab_bench").replace(**{part: RESTLESS[part]}), np.linspace(0, 6, 24)
    opu.dark(3)
    opu.measure(patterns[:5])
    frames = opu.measure(patterns, reference_phase=phases)
    np.testing.assert_array_equal(frames, frames_by_hand(opu, patterns, np.arange(8, 32), phases))
    beside = frames_by_hand(opu, patterns, np.arange(9, 33), phases)
    assert (frames != beside).mean() > 0.3


def test_frame_k_sees_the_matrix_of_tick_k(device, patterns):
    """Correlation with ``|T(k) x|^2`` over 0.98, with the frames before and after under 0.9; the medium forgets in 3.

    Catches: `propagate` with another tick than the frame's, in the host's path or a device's.
    """
    for opu in (bench("lab_bench"), bench("lab_bench", device)):
        opu = opu.replace(medium=RESTLESS["medium"], **{"dmd.contrast": None})
        opu.autoexpose()
        first = opu.clock.frames
        frames = to_host(opu.measure(opu.backend.asarray(patterns))).astype(float)
        for k, frame in enumerate(frames):
            seen = [
                np.corrcoef(frame, np.abs(opu.effective_matrix(first + k + off) @ patterns[k]) ** 2)[0, 1]
                for off in (-1, 0, 1)
            ]
            assert seen[1] > 0.98
            assert max(seen[0], seen[2]) < 0.9


@pytest.mark.parametrize("region", [(0, 4, 0, 6), (7, 9, 13, 3), (0, 16, 0, 16)])
def test_a_region_of_interest_is_a_crop_of_the_frame(region, patterns):
    """Frames, dark frames and moments, bit for bit: the sensor is the same one.

    Catches: PRNU, DSNU, dead pixels or noise drawn by the place in the region, two corners with the same flaws.
    """
    camera = Camera(prnu=0.05, dsnu_e=20.0, dead_pixels=0.05, seed=5)
    whole = bench("lab_bench").replace(camera=camera)
    part = whole.replace(**{"imaging.region": region})
    row, rows, column, columns = region

    def crop(frames):
        return frames.reshape(-1, 16, 16)[:, row : row + rows, column : column + columns].reshape(-1, rows * columns)

    for take in (
        lambda opu: opu.measure(patterns),
        lambda opu: opu.measure(patterns, reference_phase=0.3),
        lambda opu: opu.dark(9),
        lambda opu: opu.mean(patterns),
        lambda opu: opu.variance(patterns),
    ):
        np.testing.assert_array_equal(take(part), crop(take(whole)))


@pytest.mark.parametrize("kind", ["bool", "float32", "complex64"])
def test_many_frames_of_a_streamed_medium(kind, device, rng):
    """More than a GPU sums in registers, over more than a tile of inputs: 1e-5 of the rms; frames of unlike sizes.

    Catches: a product in 16 bits, one unit for all frames, a tile that is written while it is multiplied.
    """
    medium = GaussianMedium(4500, 130, seed=2, storage="streamed")
    field = rng.normal(size=(12, 4500)) + (1j * rng.normal(size=(12, 4500)) if kind == "complex64" else 0.0)
    field = field > 0 if kind == "bool" else (field * 10.0 ** rng.uniform(-9, 9, (12, 1))).astype(kind)
    field[3] = 0
    expected = medium.propagate(field)
    size = np.sqrt(np.mean(np.abs(expected) ** 2, axis=1, keepdims=True))
    apart = np.abs(to_host(medium.propagate(device.asarray(field))) - expected)
    assert np.all(apart <= 1e-5 * size)
    assert size[3] == 0


def test_a_long_measurement_is_taken_in_parts(monkeypatch, device, patterns):
    """The same frames. Catches: parts joined on the host, a clock that starts again."""
    monkeypatch.setattr(photonics.chain, "CHUNK", 5 * N_OUT)
    same_frames(
        bench("lab_bench", device).measure(device.asarray(patterns)), bench("lab_bench").measure(patterns), device
    )


@pytest.fixture
def transfers(monkeypatch):
    """List of the arrays that `to_host` brought to the host; any other transfer raises."""
    brought = []

    def counted(array):
        brought.append(array)
        with monkeypatch.context() as allowed:
            for name in ways:
                allowed.setattr(array_api_strict._array_object.Array, name, ways[name])
            return to_host(array)

    def refuse(*_):
        raise AssertionError("an array came to the host")

    array_type = array_api_strict._array_object.Array
    names = ("__float__", "__int__", "__bool__", "__index__", "__complex__", "__array__", "__dlpack__")
    ways = {name: getattr(array_type, name) for name in names}
    for name in names:
        monkeypatch.setattr(array_type, name, refuse)
    for module in list(sys.modules.values()):
        if getattr(module, "to_host", None) is to_host and module.__name__.startswith(("photonics", "calibration")):
            monkeypatch.setattr(module, "to_host", counted)
    return brought


@pytest.mark.parametrize("name", [name for name in CHANGES if name not in ("lab_bench", "12 bit")])
def test_no_array_returns_to_the_host(name, device, patterns, transfers):
    """No transfer to the host in measure, dark, mean and variance, from the first frame on.

    `autoexpose` reads its frames with one transfer each. Catches: a check of values on a device, a fall-back.
    """
    opu, sent = bench(name, device), device.asarray(patterns)
    opu.measure(sent)
    opu.measure(sent, reference_phase=1.0)
    opu.dark(2)
    opu.mean(sent, reference_phase=1.0)
    opu.variance(sent, reference_phase=1.0)
    assert not transfers
    taken = opu.clock.frames
    opu.autoexpose(patterns=sent)
    assert len(transfers) == (opu.clock.frames - taken) // 24 > 0


def test_every_transfer_is_counted(strict, transfers):
    """A test of the fixture. Catches: a transfer that is not counted."""
    one = strict.asarray(1.0, "float32")
    for act in (float, bool, int, np.asarray, np.from_dlpack):
        with pytest.raises((AssertionError, RuntimeError, TypeError)):
            act(one)
    assert photonics.analysis.exposure.to_host(one) == 1.0
    assert len(transfers) == 1


ACTS = {
    "measure": lambda opu, patterns: opu.measure(patterns),
    "mean": lambda opu, patterns: opu.mean(patterns),
    "variance": lambda opu, patterns: opu.variance(patterns),
    "autoexpose": lambda opu, patterns: opu.autoexpose(patterns=patterns),
}


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_patterns_of_other_backends_are_refused(act, device, patterns):
    """Of the host on a device, of a device on the host, of another device: one line names them, no frame is taken.

    Catches: a silent upload, a silent download.
    """
    other = array_api_strict.asarray(patterns, device=array_api_strict.Device("device2"))
    for opu, sent in [
        (bench("lab_bench", device), patterns),
        (bench("lab_bench", device), other),
        (bench("lab_bench"), device.asarray(patterns)),
        (bench("lab_bench"), array_api_strict.asarray(patterns)),
    ]:
        with pytest.raises(ValueError, match=r"^patterns must be a .* array on .*, got a .* array on ") as error:
            act(opu, sent)
        assert "\n" not in str(error.value)
        assert opu.clock.frames == 0


def test_patterns_on_a_device_are_bool(device, patterns):
    """A check of numbers would wait for the device. Catches: a 2 that is lit twice."""
    opu = bench("lab_bench", device)
    with pytest.raises(ValueError, match=r"^patterns must be bool on .*, got dtype .*float32"):
        opu.measure(device.asarray(patterns, "float32"))
    for bad in (patterns[:, :-1], patterns[0]):
        with pytest.raises(ValueError, match=rf"^patterns must have shape \(batch, {N_IN}\), got \("):
            opu.measure(device.asarray(bad))


def test_a_replaced_device_stays_on_its_backend(strict):
    """Catches: `replace` that returns to the host."""
    opu = bench("lab_bench", strict).replace(seed=3, camera=replace(Camera(), bit_depth=10))
    assert opu.backend == strict
    assert opu.to("cpu").backend.on_host
