"""Characterisation: figures are right, verdicts are right, and reports are written once."""

import dataclasses
import json
import math
import os

import numpy as np
import pytest

from calibration import characterize, compare, measure_projection
from calibration.camera.photon_transfer import photon_transfer
from calibration.reports.findings import Findings, Line
from photonics import Camera, Drifting, GaussianMedium, MatrixMedium, presets

FINE = {"bit_depth": 12, "gain_dn_per_e": 0.4, "offset_dn": 32.0}


def within(estimate, truth, rel):
    """Within `rel` of the truth, and within 4.5 of its own standard errors plus 0.3 %."""
    assert abs(estimate.value - truth) < rel * truth
    assert abs(estimate.value - truth) < 4.5 * estimate.error + 0.003 * truth


@pytest.mark.parametrize(
    "camera",
    [
        Camera(bit_depth=8, gain_dn_per_e=0.3, offset_dn=8.0, full_well_e=820.0, seed=1),
        Camera(bit_depth=10, gain_dn_per_e=0.25, offset_dn=10.0, full_well_e=4000.0, dsnu_e=2.0, seed=2),
        Camera(**FINE, read_noise_e=4.0, dark_current_e_per_s=40.0, prnu=0.02, seed=3),
    ],
    ids=lambda c: f"{c.bit_depth}-bit",
)
def test_photon_transfer_recovers_the_camera(camera):
    """Caught mutation: not subtracting 1/12 DN^2 raises the read noise by 5 % at 8 bits."""
    found = photon_transfer(camera)
    within(found.gain, camera.gain, 0.02)
    within(found.quantum_efficiency, camera.quantum_efficiency, 0.02)
    within(found.read_noise_e, camera.read_noise_e, 0.03)
    within(found.dark_current_e_per_s, camera.dark_current_e_per_s, 0.02)
    within(found.prnu, camera.prnu, 0.05)
    within(found.dsnu_e, camera.dsnu_e, 0.05)
    assert found.linearity_error.value < 0.0025
    assert found.frames > 0


@pytest.mark.parametrize(
    "camera",
    [Camera(gain_dn_per_e=0.25, offset_dn=8.0), Camera(bit_depth=12, dark_current_e_per_s=3000.0)],
    ids=["converter saturates first", "dark current fills the well in 3 s"],
)
def test_photon_transfer_keeps_to_the_range(camera):
    """Light and exposures follow what saturates first. Caught mutations: levels by the well, 20 s whatever comes."""
    found = photon_transfer(camera)
    within(found.gain, camera.gain, 0.02)
    within(found.prnu, camera.prnu, 0.05)
    within(found.dark_current_e_per_s, camera.dark_current_e_per_s, 0.03)


def test_dark_noise_hidden_by_the_quantiser_is_reported():
    """At K sigma_d = 0.06 DN read noise cannot be measured; the gain still can, within 2 %."""
    found = photon_transfer(Camera())
    assert math.isnan(found.read_noise_e.value)
    assert math.isnan(found.dsnu_e.value)
    within(found.gain, Camera().gain, 0.02)


def test_lab_bench_passes_and_ideal_passes():
    for preset in (presets.lab_bench, presets.ideal):
        opu = preset(128, 800, seed=1)
        report = characterize(opu, truth=opu.effective_matrix())
        assert report.verdict == "pass", [
            line for line in report.lines if line.verdict not in ("pass", "not measurable")
        ]
        assert report.provenance["frames"] == opu.clock.frames


def test_reference_pairs_are_judged_by_the_light_of_one_input():
    """A sound bench passes, its noise within 6 % of that by the data sheets; in the dark noise is told, with a remedy.

    128 inputs: 16 codes of 300 rows show the noise to 1 %; tables of the beam and of PRNU do the rest.
    Catches: half-ON vectors, over which errors of the beam's frame add up (error 0.4 for 0.18); bounds of bright frames
    (degraded); no bound at all.
    """
    opu = presets.lab_bench(128, 300, seed=1)
    report = characterize(opu, vectors=16, method="reference-pairs", truth=opu.effective_matrix())
    assert report.verdict == "pass"
    most = 1.25 * line(report, "noise over signal").measured
    assert line(report, "noise over signal").limit == pytest.approx(most, rel=0.06)
    assert line(report, "error per row").measured == pytest.approx(line(report, "row repeats").measured, rel=0.06)
    opu.exposure_s /= 16.0
    found = line(characterize(opu, vectors=8, method="reference-pairs"), "noise over signal")
    assert found.verdict == "degraded"
    assert found.advice.startswith("a longer exposure or more light")


def line(report, name):
    return next(line for line in report.lines if line.name == name)


def test_no_false_alarm_on_few_inputs():
    """With 20 inputs the number that is ON varies from frame to frame; contrast is a matter of each frame.

    8 devices, all within 4 standard errors. Caught mutations: frames pooled before taking the contrast; additivity
    judged by an error that holds the scale's.
    """
    for seed in range(8):
        opu = presets.lab_bench(20, 2000, seed=seed)
        report = characterize(opu, truth=opu.effective_matrix(), n_inputs=10)
        assert report.verdict == "pass"
        for name in ("contrast", "mean intensity"):
            found = line(report, name)
            assert abs(found.measured - 1.0) < 4.0 * found.uncertainty
            assert found.uncertainty < 0.02
            assert found.verdict == "pass"


def test_bad_arguments():
    opu = presets.lab_bench(32, 50)
    for arguments, message in (
        ({"vectors": 4}, "vectors must be an integer, 8"),
        ({"truth": np.ones((3, 3))}, r"truth must have shape \(50, 32\)"),
        ({"truth": np.full((50, 32), np.nan)}, "truth must be finite"),
        ({"matrix": {"method": "popoff", "device": 3}}, "device is not an option of popoff"),
        ({"n_inputs": 33}, "n_inputs must be"),
    ):
        with pytest.raises(ValueError, match=message):
            characterize(opu, **arguments)
    with pytest.raises(ValueError, match="16 pixels or more"):
        characterize(presets.lab_bench(32, 8))


def test_saturation_does_not_pass():
    opu = presets.lab_bench(128, 800, seed=1)
    opu.autoexpose(0.9)
    bright = opu.replace(laser=dataclasses.replace(opu.laser, power_w=0.4))
    report = characterize(bright)
    assert report.verdict != "pass"
    assert (
        line(report, "saturated share").verdict in ("degraded", "failed") or line(report, "contrast").verdict != "pass"
    )


def test_a_medium_that_is_not_speckle_is_not_gaussian():
    """A diagonal matrix of phases: a pixel sees one mirror, and its intensity has two values in place of a law."""
    phases = np.exp(2j * np.pi * np.random.default_rng(0).random(400))
    opu = presets.lab_bench(400, 400).replace(medium=MatrixMedium(np.diag(phases)))
    opu.autoexpose()
    report = characterize(opu)
    assert report.medium.startswith("not Gaussian: distance to exp(-I)")
    assert line(report, "distance to exp(-I)").verdict == "differs"


def fibre(seed=0, modes=40):
    """A matrix of few modes, as of a fibre: rows of very unequal size, neighbouring pixels that share light."""
    draw = np.random.default_rng(seed)
    basis = []
    for side in (30, 10):
        x = 3.2 * np.linspace(-1.0, 1.0, side)
        waves = [np.polynomial.hermite.hermval(x, np.eye(9)[k]) * np.exp(-(x**2) / 2.0) for k in range(9)]
        both = [np.outer(waves[k - j], waves[j]).ravel() for k in range(9) for j in range(k + 1)][:modes]
        basis.append(np.array([wave / np.linalg.norm(wave) for wave in both]))
    mixing, _ = np.linalg.qr(draw.normal(size=(modes, modes)) + 1j * draw.normal(size=(modes, modes)))
    matrix = basis[0].T @ mixing @ basis[1]
    return matrix / np.sqrt(np.sum(np.abs(matrix) ** 2) / len(matrix))


@pytest.mark.parametrize("method", ["phase-stepping", "phase-retrieval"])
def test_a_medium_of_few_modes_is_no_failure_of_the_calibration(method):
    """Its matrix is recovered to 3 %: the calibration passes, and the medium is reported as not Gaussian.

    Catches: laws of a Gaussian medium that judge the calibration (fourth moment 3 times too large, "failed"), dark rows
    and errors of dim rows that judge it.
    """
    opu = presets.lab_bench(100, 900, seed=1).replace(medium=MatrixMedium(fibre()))
    opu.autoexpose()
    report = characterize(opu, matrix=method)
    error = next(line for line in report.lines if (line.group, line.name) == ("matrix", "error of the output"))
    assert error.measured < 0.03
    assert report.verdict == "pass", report.summary
    assert report.medium == "not Gaussian: contrast, correlation area, fourth moment, largest singular value"


def test_a_wrong_truth_is_detected():
    opu = presets.lab_bench(128, 800, seed=1)
    other = presets.lab_bench(128, 800, seed=2).effective_matrix()
    assert line(characterize(opu, truth=other), "error per row").verdict == "failed"


@pytest.mark.parametrize(
    ("measured", "uncertainty", "expected", "verdict"),
    [
        (1.05, 0.001, 1.0, "pass"),
        (1.2, 0.001, 1.0, "degraded"),
        (1.5, 0.001, 1.0, "failed"),
        (1.5, 0.2, 1.0, "pass"),
        (math.nan, 0.1, 1.0, "not measurable"),
        (0.05, math.nan, None, "pass"),
        (0.25, math.nan, None, "degraded"),
        (0.5, math.nan, None, "failed"),
    ],
)
def test_verdicts(measured, uncertainty, expected, verdict):
    assert Line("g", "n", "f", "", measured, uncertainty, expected, 0.1, "do").verdict == verdict


def test_a_property_differs_and_does_not_fail():
    """A medium far from the law; a report of it passes. Catches: a property that is judged as the calibration is."""
    contrast = Line("speckle", "contrast", "f", "", 3.0, 0.01, 1.0, 0.1, "do")
    sound = Line("camera", "gain K", "f", "", 1.0, 0.01, 1.0, 0.1, "do")
    hidden = Line("camera", "read noise", "f", "", math.nan, math.nan, 1.0, 0.1, "do")
    assert contrast.verdict == "differs"
    report = Findings({}, {}, (contrast, sound, hidden), {})
    assert report.verdict == "pass"
    assert report.summary == "pass (1 differs, 1 pass, 1 not measurable)"
    assert report.medium == "not Gaussian: contrast"
    assert report.to_dict()["counts"] == {"failed": 0, "degraded": 0, "differs": 1, "pass": 1, "not measurable": 1}
    assert dataclasses.replace(contrast, reason="saturated").verdict == "failed"


@pytest.fixture(scope="module")
def report():
    opu = presets.lab_bench(64, 400, seed=1)
    return characterize(opu, truth=opu.effective_matrix())


def test_json_is_plain_and_complete(report, tmp_path):
    document = json.loads(report.to_json(tmp_path / "a" / "report.json").read_text())
    assert document["verdict"] == report.verdict
    assert len(document["lines"]) == len(report.lines)
    assert document["device"]["camera"]["bit_depth"] == 8
    assert {"measured", "expected", "uncertainty", "verdict", "formula"} <= set(document["lines"][0])


def test_notebooks_show_it_in_a_frame(report):
    """Its style must not affect the notebook, and its repr is one line."""
    frame = report._repr_html_()
    assert frame.startswith("<iframe")
    assert "<style" not in frame
    assert len(repr(report)) < 100


def test_html_is_self_contained_and_deterministic(report, tmp_path):
    """No reference to anything outside the file, every line in it, the bench and eleven figures."""
    page = report.to_html(tmp_path / "report.html").read_text()
    assert "@media print" in page
    for outside in ("<script", 'src="http', 'href="http', "@import"):
        assert outside not in page
    assert page.count("<figure") == 12
    for found in report.lines:
        assert found.name in page
    assert page == report.html()


@pytest.mark.parametrize("write", ["to_json", "to_html"])
def test_reports_are_never_overwritten(report, tmp_path, write):
    path = tmp_path / "report"
    path.write_text("older")
    with pytest.raises(ValueError, match="never overwritten"):
        getattr(report, write)(path)
    assert path.read_text() == "older"
    assert os.listdir(tmp_path) == ["report"]


def test_unwritable_folder_is_a_one_line_error(report, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="path must be in a writable folder"):
        report.to_json(tmp_path / "file" / "report.json")


def test_a_dead_laser_is_a_failed_report():
    """Every chapter that needs light fails with a reason. Catches: division by zero light."""
    opu = presets.lab_bench(64, 500)
    report = characterize(opu.replace(laser=dataclasses.replace(opu.laser, power_w=1e-9)))
    assert report.verdict == "failed"
    assert any("no light above dark" in line.reason for line in report.lines)


def test_a_medium_that_drifts_within_the_calibration_is_refused():
    """Such scatter exceeds camera noise. Catches: a noise model that absorbs the drift."""
    opu = presets.lab_bench(64, 500).replace(medium=Drifting(GaussianMedium(64, 500), 2.0))
    with pytest.raises(
        ValueError, match=r"^repeated frames of a pattern must agree .* check for drift of the medium or the laser"
    ):
        measure_projection(opu)
    reasons = [line.reason for line in characterize(opu).lines if line.group == "projection"]
    assert any("drift of the medium or the laser" in reason for reason in reasons)


@pytest.mark.parametrize(("frames", "verdict"), [(None, "pass"), (5e4, "degraded"), (2e3, "failed")])
def test_drift_shows_in_the_scatter_of_repeated_frames(frames, verdict):
    """With 50 000 frames of correlation time the variance of repeated frames doubles, and the report shows it.

    Catches: a noise model that absorbs drift without a warning.
    """
    opu = presets.lab_bench(64, 400, seed=1)
    if frames is not None:
        opu = opu.replace(medium=Drifting(opu.medium, correlation_frames=frames, seed=1), exposure_s=opu.exposure_s)
    lines = [line for line in characterize(opu).lines if line.name == "scatter of repeated frames"]
    assert [line.verdict for line in lines] == [verdict], lines


def test_a_new_refusal_counts_as_degraded():
    """A chapter that is refused now and was not before. Catches: a comparison that looks at common lines alone."""
    opu = presets.lab_bench(64, 500)
    before = characterize(opu)
    after = characterize(opu.replace(laser=dataclasses.replace(opu.laser, power_w=1e-9)))
    new = [change for change in compare(before, after).degraded if change.before is None]
    assert new
    assert not compare(before, before).degraded
