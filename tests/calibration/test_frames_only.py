"""Calibration uses only frames and data sheets: results are equal on a proxy that exposes nothing else."""

import dataclasses

import numpy as np
import pytest

from calibration import characterize, measure_projection, recover_transmission_matrix
from calibration.recovery.exposure import expose, expose_patterns
from calibration.recovery.methods import METHODS as RECOVERIES
from calibration.wavefront.focusing import focus
from calibration.wavefront.images import recover_from_frames, send
from photonics import presets
from tests.calibration.benches import METHODS as PROJECTIONS
from tests.calibration.benches import bench, calibrate, grey, half_on
from tests.calibration.matrix_benches import tilted

SEEN = ("clock", "laser", "dmd", "imaging", "camera", "n_in", "n_out", "frame_period_s", "unit_dn")
"""What may be read: the clock, data sheets of the parts, and sizes."""
PARTS = ("laser", "dmd", "imaging", "camera")


def frames_only_proxy(opu):
    """A proxy with the attributes of `calibration.device.Device` only: no medium, no seed."""

    def measure(self, patterns, exposure_s=None, *, reference_phase=None):
        return np.array(opu.measure(np.array(patterns), exposure_s, reference_phase=reference_phase))

    def setter(self, value):
        opu.exposure_s = value

    allowed = {name: property(lambda self, name=name: getattr(opu, name)) for name in SEEN}
    allowed |= {
        "exposure_s": property(lambda self: opu.exposure_s, setter),
        "measure": measure,
        "dark": lambda self, count, exposure_s=None: np.array(opu.dark(count, exposure_s)),
        "to_dict": lambda self: {name: opu.to_dict()[name] for name in PARTS},
        "__slots__": (),
    }
    return type("Wall", (), allowed)()


def test_the_proxy_hides_everything_else():
    """Catches: a wall with a door."""
    opu = presets.lab_bench(8, 16)
    wall = frames_only_proxy(opu)
    for name in ("medium", "seed", "effective_matrix", "mean", "variance", "autoexpose", "_lit", "opu", "backend"):
        assert hasattr(opu, name) or name == "opu"
        assert not hasattr(wall, name)
    with pytest.raises(AttributeError):
        wall.medium = opu.medium


def same(use, make):
    """Check that `use` gives the same bits on a device and on a proxy of an equal device."""
    seen, unseen = use(make()), use(frames_only_proxy(make()))
    for a, b in zip(seen, unseen, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", PROJECTIONS)
def test_projections(name):
    """Calibration, binary and real vectors, stated errors, and the matrix on request. Catches: a peek at the medium."""

    def use(opu):
        found = calibrate(opu, name)
        n = found.n_inputs
        result = found.measure(half_on(3, n))
        return result.values, result.standard_error, found.valid, found(grey(2, n)), found.effective_matrix()

    same(use, lambda: bench("lab_bench", name))


def device_for(method):
    if method == "off-axis":
        return tilted("lab_bench", 12, side=16)
    return presets.lab_bench(64 if method == "popoff" else 20, 40, seed=3)


@pytest.mark.parametrize("method", RECOVERIES)
def test_recoveries_focus_and_pictures(method):
    """A matrix by each method at an exposure found by it, a focus and pictures through it. Catches: as above."""

    def use(opu):
        usual = expose_patterns(opu)
        found = recover_transmission_matrix(opu, method, exposure="auto")
        opu.exposure_s = usual
        foci = focus(opu, found.matrix, 3, valid=found.valid, averages=2)
        sent = send(opu, half_on(2, found.matrix.shape[1]))
        pictures = recover_from_frames(opu, found.matrix, sent, valid=found.valid)
        return found.matrix, found.standard_error, found.valid, foci.enhancement, foci.masks, sent.intensity, pictures

    same(use, lambda: device_for(method))


def test_tracked_drift():
    """Catches: a drift that is read from the device instead of measured."""

    def make():
        opu = device_for("phase-stepping")
        reference = dataclasses.replace(opu.imaging.reference, phase_jitter_rad=0.2)
        return opu.replace(imaging=dataclasses.replace(opu.imaging, reference=reference))

    def use(opu):
        expose(opu)
        found = recover_transmission_matrix(opu, track_drift=True)
        return found.matrix, found.drift["phase_rad"]

    same(use, make)


@pytest.mark.parametrize("exposure", ["methods", "auto"])
def test_characterisation(exposure):
    """Every line and curve, a recovered matrix included. Catches: an `opu.seed` or an `autoexpose` on the way."""

    def use(opu):
        document = characterize(opu, matrix="phase-retrieval", exposure=exposure, vectors=8).to_dict()
        return (str(document["lines"]), str(document["curves"]))

    same(use, lambda: presets.lab_bench(20, 64, seed=3))


def test_projection_of_a_fixed_unit():
    same(lambda opu: [measure_projection(opu, unit_dn=9.0)(half_on(2, 20))], lambda: device_for("phase-stepping"))
