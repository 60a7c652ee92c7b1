"""Recovery with a reference: exact without noise, as good as the light, honest about both.

Figures are for m = 1000 rows, n = 256 inputs, an 8-bit camera with a full well of 10 ke- and 3 e- of read noise,
exposed so that 0.1 % of the readings saturate, reference as bright as all inputs ON (CALIBRATION.md).
"""

import dataclasses

import numpy as np
import pytest

from calibration.metrics import matrix_error, matrix_row_errors, output_error
from calibration.recovery.exposure import expose
from calibration.recovery.transmission import recover_transmission_matrix
from photonics import Camera, Imaging, presets
from photonics.parts.reference import Reference
from tests.calibration.benches import field_matrix
from tests.calibration.matrix_benches import N, bench, error, saturated, tilted

CASES = {
    "phase-stepping": ("phase-stepping", {}),
    "3 steps": ("phase-stepping", {"steps": 3}),
    "tracked": ("phase-stepping", {"track_drift": True}),
    "some inputs": ("phase-stepping", {"n_inputs": 50}),
    "popoff": ("popoff", {"n_inputs": 50}),
    "off-axis": ("off-axis", {}),
}


@pytest.mark.parametrize("case", CASES)
def test_exact_on_the_ideal_device(case):
    """Error under 1e-3, scale and sign not fitted. Catches: conj(R) in place of R, the unit forgotten, a row lost."""
    method, options = CASES[case]
    opu = tilted("ideal", 70) if method == "off-axis" else presets.ideal(70, 200)
    expose(opu, method, saturated=1e-5, **options)
    opu.exposure_s *= 0.7
    estimate = recover_transmission_matrix(opu, method, **options)
    assert error(estimate, opu) < 1e-3
    assert estimate.valid.mean() > 0.95
    assert estimate.matrix.shape == (opu.n_out, options.get("n_inputs", 70))
    assert estimate.matrix.dtype == np.complex64
    assert estimate.frames == opu.clock.frames - estimate.provenance["start_frame"]
    if method != "popoff":
        x = np.random.default_rng(0).random((20, estimate.matrix.shape[1])) < 0.5
        truth = field_matrix(opu)[:, : x.shape[1]]
        assert output_error(estimate.matrix, truth, x, estimate.gauge) < 1e-3


@pytest.mark.parametrize("seed", range(4))
def test_phase_stepping_meets_its_figure(seed):
    """0.032 at 4 n + 24 frames, where plain phase stepping has 0.039 and the target is 0.035.

    Catches: Sylvester's probes (0.034), the mean of a probe's frames not used (0.035), saturated readings taken as they
    are (0.044), leakage left out of the unit (0.042).
    """
    opu = bench(seed)
    expose(opu)
    estimate = recover_transmission_matrix(opu)
    assert estimate.frames == 4 * N + 24
    assert 5e-4 < saturated(estimate) < 2e-3
    assert error(estimate, opu) < 0.032


@pytest.mark.parametrize("seed", range(2))
def test_saturated_readings_cost_precision_not_truth(seed):
    """At ten times the saturation there is more light to gain: 0.026. Catches: taking them as they are (0.0285)."""
    opu = bench(seed)
    expose(opu, saturated=1e-2)
    estimate = recover_transmission_matrix(opu)
    assert saturated(estimate) > 7e-3
    assert error(estimate, opu) < 0.0275


@pytest.mark.parametrize("seed", range(3))
def test_popoff_meets_its_figure(seed):
    """0.034 at 4 n + 8 frames, refused rows counting as 1; the target is 0.035, and three steps of mirrors had 0.050.

    Catches: probes of the second round with the masks of the first, signs of the references' shares by chance (either
    loses most rows), no further start of rows in a wrong minimum (8 % lost).
    """
    opu = bench(seed, n=2 * N)
    expose(opu, "popoff", seed=seed)
    estimate = recover_transmission_matrix(opu, "popoff", seed=seed)
    assert estimate.frames == 4 * N + 8
    found = matrix_row_errors(estimate.matrix, field_matrix(opu)[:, :N], estimate.gauge)
    assert np.median(found) < 0.035
    assert estimate.valid.mean() > 0.97
    assert found[estimate.valid].max() < 0.2


def test_off_axis_meets_its_figure():
    """0.022 at n + 24 frames, grains of 10 pixels; with 10 % of noise in the reference beam under 0.034.

    Catches: dividing by the mean of the reference.
    """
    for noise, most in ((0.0, 0.024), (0.1, 0.034)):
        opu = tilted("lab_bench", N, noise=noise).replace(camera=Camera(read_noise_e=3.0))
        expose(opu, "off-axis")
        estimate = recover_transmission_matrix(opu, "off-axis")
        assert estimate.frames == N + 24
        assert error(estimate, opu) < most


@pytest.mark.parametrize(("n", "options"), [(N, {"brightness": 0.05}), (48, {}), (33, {"references": 2})])
def test_popoff_has_no_row_that_is_wrong_and_called_valid(n, options):
    """Dim references and few inputs leave more rows in a wrong minimum: they are refused. Catches: a lax misfit."""
    opu = bench(1, n=2 * n)
    expose(opu, "popoff", **options)
    estimate = recover_transmission_matrix(opu, "popoff", **options)
    assert estimate.valid.mean() > 0.85
    truth = opu.effective_matrix()[estimate.valid, :n]
    assert matrix_row_errors(estimate.matrix[estimate.valid], truth, estimate.gauge).max() < 0.3


DRIFTS = {
    "jitter of 0.4 rad in every frame": {"phase_jitter_rad": 0.4},
    "0.4 rad between columns": {"phase_drift_rad": 0.4, "phase_drift_time_s": 5e-3},
    "a walk of 0.3 rad between columns, 10 rad in all": {"phase_drift_rad": 10.0, "phase_drift_time_s": 10.0},
    "still": {},
}


@pytest.mark.parametrize("drift", DRIFTS)
def test_a_tracked_drift_costs_little(drift):
    """Without tracking 0.35 to 1.5; with one frame more per column at most 0.05 (target 0.06), 0.033 if all is still.

    Catches: interpolation alone (0.4 under jitter), the pilot alone (0.04 if still), frames of a column taken to share
    one phase.
    """
    plain, tracked = bench(**DRIFTS[drift]), bench(**DRIFTS[drift])
    expose(plain)
    tracked.exposure_s = plain.exposure_s
    if drift != "still":
        assert error(recover_transmission_matrix(plain), plain) > 0.3
    estimate = recover_transmission_matrix(tracked, track_drift=True)
    assert estimate.frames == 5 * N + 24
    found = error(estimate, tracked)
    assert found < (0.033 if drift == "still" else 0.05)
    valid = estimate.relative_error[estimate.valid]
    assert abs(np.median(valid) / found - 1.0) < 0.15
    assert len(estimate.drift["phase_rad"]) == N


def test_the_tracked_phase_is_that_of_the_reference():
    """To 5 mrad rms, up to a common origin. Catches: the wrong sense of turning, steps of the tracking frames lost."""
    opu = bench(phase_drift_rad=2.0, phase_drift_time_s=1.0, n=64)
    expose(opu)
    estimate = recover_transmission_matrix(opu, track_drift=True)
    ticks = estimate.provenance["start_frame"] + 24 + 4 + 5 * np.arange(64)
    drift = opu.imaging.reference.phases(0.0, ticks, frame_period_s=opu.frame_period_s, seed=opu.seed)
    apart = np.exp(1j * (estimate.drift["phase_rad"] - drift))
    assert np.std(np.angle(apart / apart.mean())) < 5e-3


def well(depth_e):
    """The bench with shot noise alone, and a 16-bit quantiser."""
    camera = Camera(bit_depth=16, full_well_e=depth_e, read_noise_e=0.0, dark_current_e_per_s=0.0, prnu=0.0, dsnu_e=0.0)
    opu = bench(camera=camera, m=300, n=64)
    laser = dataclasses.replace(opu.laser, drift_rms=0.0, rin_db_per_hz=None, pointing_rad=0.0)
    dmd = dataclasses.replace(opu.dmd, contrast=None)
    return opu.replace(laser=laser, dmd=dmd, imaging=Imaging(throughput=6.4e-7 * depth_e / 1e4, reference=Reference()))


def test_error_falls_with_the_root_of_the_light():
    """Over two decades of photons 1/sqrt within 10 %; then a coarser quantiser holds it up."""
    errors = []
    for depth in (1e4, 1e5, 1e6):
        opu = well(depth)
        expose(opu, saturated=1e-4)
        errors.append(error(recover_transmission_matrix(opu), opu))
    ratios = np.array(errors[:-1]) / np.array(errors[1:])
    assert np.abs(ratios / np.sqrt(10.0) - 1.0).max() < 0.1
    opu = well(1e6)
    opu = opu.replace(camera=dataclasses.replace(opu.camera, bit_depth=8))
    expose(opu, saturated=1e-4)
    assert error(recover_transmission_matrix(opu), opu) > 3.0 * errors[-1]


def test_off_axis_has_no_floor():
    """Where light abounds, with 0.1 % saturated, the error is the stated one within 10 %: 0.0020.

    Catches: a fit around saturated pixels that is stopped early (0.0046, and 0.003 with ten times the light).
    """
    opu = tilted("lab_bench", 64, seed=2)
    quiet = well(1e6)
    opu = opu.replace(camera=quiet.camera, laser=quiet.laser, dmd=quiet.dmd)
    opu = opu.replace(imaging=dataclasses.replace(opu.imaging, throughput=quiet.imaging.throughput))
    expose(opu, "off-axis")
    estimate = recover_transmission_matrix(opu, "off-axis")
    assert saturated(estimate) > 5e-4
    assert error(estimate, opu) < 1.1 * np.median(estimate.relative_error[estimate.valid]) < 3e-3


def test_the_predicted_error_holds_what_no_frame_tells():
    """Where light abounds half of PRNU is the error: pull 1 within 15 %. Catches: PRNU left out (pull 1.4 and more)."""
    camera = Camera(bit_depth=12, prnu=0.05, full_well_e=1e5)
    opu = bench(n=128, m=800, camera=camera)
    opu = opu.replace(imaging=dataclasses.replace(opu.imaging, throughput=6.4e-6))
    expose(opu)
    estimate = recover_transmission_matrix(opu)
    found = matrix_row_errors(estimate.matrix, opu.effective_matrix(), estimate.gauge)
    assert abs(np.sqrt(np.mean((found / estimate.relative_error) ** 2)) - 1.0) < 0.15


@pytest.mark.parametrize(
    ("options", "most"),
    [({}, 1e-3), ({"steps": 3}, 1e-3), ({"steps": 5}, 1e-3), ({"steps": 7}, 1e-3), ({"track_drift": True}, 1e-2)],
)
def test_leaked_light_is_taken_off(options, most):
    """Contrast of 1:100 on 15 inputs, where ``2 eps / sqrt(n)`` is 0.05.

    Catches: leaving it in; |c|^2 in |R|^2; a wrong phase where the 16 frames of the reference are no whole turns.
    """
    opu = presets.ideal(15, 300)
    opu = opu.replace(dmd=dataclasses.replace(opu.dmd, contrast=100.0))
    expose(opu, saturated=1e-5)
    opu.exposure_s *= 0.7
    estimate = recover_transmission_matrix(opu, **options)
    assert error(estimate, opu) < most


def test_a_second_polarisation_is_noticed():
    """Light that does not interfere must not be taken for signal: the refinement is left out, the rest stays right.

    Catches: refining regardless (error 0.15 and more for the interfering polarisation).
    """
    opu = presets.ideal(64, 400)
    opu = opu.replace(imaging=dataclasses.replace(opu.imaging, polarisations=2))
    expose(opu, saturated=1e-4)
    estimate = recover_transmission_matrix(opu)
    assert estimate.drift["closure"] == pytest.approx(2.0, abs=0.3)
    first = opu.medium.block(slice(None), slice(None)) / np.sqrt(2.0)
    assert matrix_error(estimate.matrix, first, estimate.gauge) < 0.02


def test_popoff_needs_inputs_for_its_references():
    """One for each reference, in one line. Catches: patterns that show nothing."""
    with pytest.raises(ValueError, match="n_inputs must be 36 or less, which leaves an input for each of 4") as raised:
        recover_transmission_matrix(presets.lab_bench(40, 50), "popoff", n_inputs=37)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("n_in", "exposure_s"), [(70, 5e-4), (256, 5e-4), (128, 2e-5)])
def test_popoff_without_noise_at_any_exposure(n_in, exposure_s):
    """On `ideal` as it is made, and with a twentieth of the light, where rounding makes an error of 0.003, as stated.

    The variance of a reading spans eight decades there: nothing may be whitened by it in float32.
    """
    opu = presets.ideal(n_in, 300)
    opu.exposure_s = exposure_s
    estimate = recover_transmission_matrix(opu, "popoff")
    assert estimate.valid.mean() > 0.95
    stated = np.median(estimate.relative_error[estimate.valid])
    assert error(estimate, opu) < max(1e-3, 1.15 * stated) < 4e-3


def test_popoff_gives_up_where_not_all_light_interferes():
    """Two polarisations: no row is called valid. Catches: judging the misfit by the median alone."""
    opu = presets.lab_bench(64, 300)
    opu = opu.replace(imaging=dataclasses.replace(opu.imaging, polarisations=2))
    expose(opu, "popoff")
    assert recover_transmission_matrix(opu, "popoff").valid.mean() < 0.05


def test_dark_rows_are_dropped_and_said():
    """A flawed beam is dark somewhere: these rows are 0, their error infinite. Catches: dividing by their amplitude."""
    opu = bench(n=31, m=2000, noise=1.0, noise_grain_px=3.0)
    expose(opu)
    estimate = recover_transmission_matrix(opu)
    assert 0.005 < len(estimate.dark_rows) / 2000 < 0.2
    assert not estimate.matrix[estimate.dark_rows].any()
    assert np.isinf(estimate.standard_error[estimate.dark_rows]).all()
    assert np.isfinite(estimate.standard_error[estimate.valid]).all()
    assert np.isfinite(estimate.relative_error[estimate.valid]).all()
    assert matrix_row_errors(estimate.matrix, opu.effective_matrix(), estimate.gauge)[estimate.valid].max() < 0.5


@pytest.mark.parametrize("steps", [4, 5])
def test_the_misfit_of_a_row_is_one_if_nothing_moves(steps):
    """Median of 300 rows of 64 probes: 1 within four of its standard errors and 2 % of rounding; over 5 with jitter.

    It is 1 again where the jitter is tracked. Catches: weights of all frames alike, one phase for all probes.
    """
    for jitter, tracked, least in ((0.0, False, 1.0), (0.1, True, 1.0), (0.1, False, 5.0)):
        opu = bench(n=48, m=300, phase_jitter_rad=jitter)
        estimate = recover_transmission_matrix(opu, steps=steps, exposure="auto", track_drift=tracked)
        found = np.median(estimate.diagnostics["misfit"])
        error = 1.25 * np.sqrt(2.0 / (64 * (steps - 3))) / np.sqrt(300)
        assert abs(found - 1.0) < 4.0 * error + 0.02 if least == 1.0 else found > least
    assert "misfit" not in recover_transmission_matrix(opu, steps=3).diagnostics
