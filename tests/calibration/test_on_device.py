"""A device elsewhere than on the host gives the same calibration results, where it is."""

from dataclasses import replace

import numpy as np
import pytest

from calibration import Hosted, characterize, recover_transmission_matrix
from calibration.device import Wrapper, check_device
from calibration.reports.chapters.common import measure_dark
from calibration.reports.chapters.focusing import focusing_chapter
from calibration.reports.chapters.held_out import average_over_pixels
from calibration.reports.chapters.matrix import matrix_chapter
from calibration.reports.chapters.spectrum import align_conjugation
from calibration.reports.chapters.stability import Witness, stability_chapter
from calibration.reports.characterize import explain_dark_anchor
from calibration.twin.questions import Questions
from calibration.wavefront.images import send
from photonics import presets
from photonics.backend import HOST, backend_of, to_host
from tests.calibration.benches import METHODS, bench, calibrate
from tests.transfers import count_strict


def pair(name, backend, saturated):
    """The same device on the host and on another backend."""
    here, there = bench("lab_bench", name), bench("lab_bench", name)
    for opu in (here, there):
        opu.exposure_s *= 1.0 + 0.5 * saturated
    there.backend = backend
    return here, there


def check_like(found, expected):
    """Values and flags are the host's, up to pixels that rounding moves by one DN."""
    values, wanted = to_host(found.values), expected.values
    size = np.sqrt(np.mean(np.abs(wanted) ** 2))
    apart = np.abs(values - wanted)
    assert np.mean(apart > 1e-3 * size) <= 0.03
    assert np.mean(to_host(found.saturated) != expected.saturated) <= 2e-3
    finite = np.isfinite(expected.standard_error)
    assert np.mean(np.isfinite(to_host(found.standard_error)) != finite) <= 1e-3
    errors = to_host(found.standard_error)[finite] / expected.standard_error[finite]
    assert abs(np.median(errors) - 1.0) <= 1e-3


@pytest.mark.filterwarnings("ignore:exposure_s .* saturates", "ignore:frames do not fit the model")
@pytest.mark.parametrize("name", METHODS)
def test_projections_are_the_hosts(name, device, rng, monkeypatch):
    """Values, errors and clock equal the host's, and are where the vectors are; saturated readings are recovered.

    A calibration copies its 16 dark frames, and a few figures of each pattern at a pixel.

    Catches: patterns that are not sent, the phase of the reference lost on the way, values that move, frames that come.
    """
    here, there = pair(name, device, saturated=True)
    with monkeypatch.context() as patched:
        transfers = count_strict(patched)
        theirs, ours = calibrate(here, name), calibrate(there, name)
    copied = sum(transfers.arrays) / 2 / 16 / here.n_out  # each is moved, and read
    assert copied <= 45
    x = rng.choice([-1, 0, 1], (6, ours.n_inputs))
    x = np.concatenate([x, rng.uniform(-1, 1, (2, ours.n_inputs))])
    found, expected = ours.measure(device.asarray(x)), theirs.measure(x)
    assert {backend_of(one) for one in found} == {device}
    check_like(found, expected)
    check_like(ours.measure(x), theirs.measure(x))  # with frames of the next numbers
    assert isinstance(ours(x), np.ndarray)
    assert backend_of(ours(device.asarray(x))) == device
    assert ours.frames_of(x) == theirs.frames_of(x)
    assert isinstance(ours.valid, np.ndarray)


@pytest.mark.parametrize("name", ["anchor, disjoint", "4 steps", "multilateration", "reference pairs"])
def test_refreshed_light_is_the_hosts(name, strict, monkeypatch):
    """A refresh brings numbers to the host, or products of repeats; what it returns can be calibrated again.

    Catches: frames that come, anchors that are compared on the host, arrays of two places.
    """
    here, there = pair(name, strict, saturated=False)
    theirs, ours = calibrate(here, name), calibrate(there, name)
    ours.on_device  # noqa: B018 (uploads what was calibrated)
    for opu in (here, there):
        opu.exposure_s *= 0.9
    with monkeypatch.context() as patched:
        transfers = count_strict(patched)
        found = ours.refresh(8)
    assert len(transfers.arrays) <= 2 * (name == "reference pairs")  # each is moved, and read
    expected = theirs.refresh(8)
    assert found.scale == pytest.approx(expected.scale, rel=1e-3)
    assert found.correlation == (expected.correlation and pytest.approx(expected.correlation, rel=1e-2))
    x = np.eye(8, ours.n_inputs)
    for one in (found.projection.measure(strict.asarray(x)), found.projection.measure(x)):
        assert np.isfinite(to_host(one.values)).all()
    again = found.projection.recalibrate()(x)
    assert np.median(np.abs(again - to_host(found.projection(x)))) < 0.5 * np.std(again)


def test_a_report_is_the_hosts(strict):
    """Every line. Catches: a chapter that needs the host."""
    reports = []
    for backend in (HOST, strict):
        opu = presets.lab_bench(64, 400, seed=2)
        opu.autoexpose(0.3)
        opu.backend = backend
        reports.append(characterize(opu, vectors=16))
    for expected, found in zip(*(report.lines for report in reports), strict=True):
        assert (found.group, found.name, found.verdict) == (expected.group, expected.name, expected.verdict)


def test_chapters_on_a_matrix_bring_figures_only(strict, monkeypatch, rng):
    """Lines are the host's; points of a figure and numbers of rows come back, not the 64 frames of 400 pixels.

    Catches: frames or a matrix that are copied, numpy on an array of a device.
    """
    reports = []
    for backend in (HOST, strict):
        opu = presets.lab_bench(16, 400, seed=2)
        opu.autoexpose(0.3)
        estimate = recover_transmission_matrix(opu, "phase-stepping")
        estimate, opu.backend = replace(estimate, matrix=backend.asarray(estimate.matrix)), backend
        noise, witness = measure_dark(opu, opu.camera.gain)[0], Witness(opu, 0)
        with monkeypatch.context() as patched:
            transfers = count_strict(patched)
            for _ in range(4):
                witness.take_frames()
            chapters = [matrix_chapter(opu, estimate, noise, 0), focusing_chapter(opu, estimate, 0)]
            chapters.append(stability_chapter(witness, noise, np.zeros(400, bool)))
            assert explain_dark_anchor(opu, "anchor", 8) == ""
        assert max(transfers, default=0) <= 16 * 9000
        assert sum(transfers) <= 2 * 16 * 80 * 400  # each is moved, and read
        reports.append([line for chapter in chapters for line in chapter.lines])
    for expected, found in zip(*reports, strict=True):
        assert (found.name, found.verdict) == (expected.name, expected.verdict)
        assert found.measured == pytest.approx(expected.measured, rel=0.02, abs=2e-3, nan_ok=True)
    matrix, valid = rng.normal(size=(36, 16)).view(complex), rng.random(36) < 0.8
    aligned = align_conjugation(strict.asarray(matrix), valid, (6, 6))
    np.testing.assert_array_equal(to_host(aligned), align_conjugation(matrix, valid, (6, 6)))
    blurred, light = bench("lab_bench", "off-axis"), rng.random((2, 500))
    there = average_over_pixels(blurred, strict.asarray(light))
    np.testing.assert_allclose(to_host(there), average_over_pixels(blurred, light), rtol=1e-6)


class Adapter(Wrapper):
    """A bench whose frames are tensors of torch, or lists."""

    def __init__(self, opu, kind):
        super().__init__(opu)
        self.kind = kind

    def measure(self, patterns, exposure_s=None, *, reference_phase=None):
        return self.kind(self.device.measure(patterns, exposure_s, reference_phase=reference_phase))

    def dark(self, count, exposure_s=None):
        return self.kind(self.device.dark(count, exposure_s))


@pytest.mark.parametrize("name", METHODS)
def test_frames_of_another_library_are_brought(name, rng):
    """Tensors and lists of an adapter on the host: numpy's bits. Catches: frames that stay, and end in a TypeError."""
    kind = np.ndarray.tolist if name == "4 steps" else pytest.importorskip("torch").as_tensor
    ours, theirs = (calibrate(opu, name) for opu in (Adapter(bench("lab_bench", name), kind), bench("lab_bench", name)))
    x = rng.choice([-1, 0, 1], (3, ours.n_inputs))
    np.testing.assert_array_equal(ours(x), theirs(x))


def test_every_question_reaches_a_device(strict, half_on):
    """Those of a twin, pictures, and a recovery of an adapter. Catches: patterns of the host that a GPU refuses."""
    here, there = (presets.lab_bench(16, 60, seed=1) for _ in range(2))
    there.backend = strict
    for opu in (here, there):
        asked = Questions(opu, 0)
        asked.ask_pairs(1)
        asked.ask_blocks()
    assert there.clock.frames == here.clock.frames
    pictures = half_on(3, 16)
    np.testing.assert_allclose(send(there, pictures, 2).intensity, send(here, pictures, 2).intensity, atol=0.02)
    there.backend = HOST
    tensors = Adapter(there, pytest.importorskip("torch").as_tensor)
    np.testing.assert_array_equal(recover_transmission_matrix(tensors).matrix, recover_transmission_matrix(here).matrix)


def test_hosted_is_deprecated(strict, half_on):
    """It still gives numpy frames, and names what to do. Catches: code of version 1.0 that breaks."""
    here, there = pair("4 steps", strict, saturated=False)
    with pytest.warns(DeprecationWarning, match="give the device itself"):
        wrapped = Hosted(there)
    assert check_device(wrapped) is wrapped
    x = half_on(3, here.n_in)
    for a, b in [
        (wrapped.measure(x.astype(int).tolist(), reference_phase=0.3), here.measure(x, reference_phase=0.3)),
        (wrapped.dark(2), here.dark(2)),
    ]:
        assert type(a) is np.ndarray
        assert np.abs(a.astype(int) - b).sum() <= 2e-3 * b.size
    assert calibrate(wrapped, "4 steps")(x).dtype == np.complex64
    with pytest.raises(ValueError, match=r"^patterns must be binary"):
        wrapped.measure(2 * x.astype(int))
