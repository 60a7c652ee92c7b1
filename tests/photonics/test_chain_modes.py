"""The reference beam against speckle of several modes, and fringes finer than a pixel."""

import numpy as np
import pytest

from photonics import OPU, Dispersive, GaussianMedium, Imaging, Laser, Reference, presets

N_IN, N_OUT = 40, 4000


def device(times=0.0, polarisations=1, **reference):
    """A steady bench whose linewidth blurs the speckle by ``2 pi tau linewidth = times``."""
    laser = Laser(rin_db_per_hz=None, drift_rms=0.0, pointing_rad=0.0, linewidth_hz=1e9)
    medium = Dispersive(GaussianMedium(N_IN, N_OUT, seed=2), times / (2e9 * np.pi))
    imaging = Imaging(polarisations=polarisations, reference=Reference(intensity=2.0, **reference))
    return presets.ideal(N_IN, N_OUT).replace(laser=laser, medium=medium, imaging=imaging)


def light(opu, phases):
    """Mean photons for all inputs ON at each phase of the reference, or with its shutter closed."""
    ticks = np.zeros(1 if phases is None else len(phases), np.int64)
    patterns, field = np.ones((len(ticks), N_IN), bool), opu.light(ticks, opu.exposure_s)
    reference = None if phases is None else opu.reference_light(phases, ticks, opu.exposure_s)
    return opu.mean_photons(patterns, ticks, opu.exposure_s, field, reference).astype(np.float64)


def visibility(opu):
    """Rms of the fringes' amplitude over the pixels, over that of coherent light, ``2 |R| sqrt(mean speckle)``."""
    a, b, c, d = light(opu, np.arange(4) * np.pi / 2)
    dark = light(opu, None)[0]
    reference = (a + b + c + d).mean() / 4 - dark.mean()
    return np.sqrt(((a - c) ** 2 + (b - d) ** 2).mean() / (16.0 * reference * dark.mean()))


@pytest.mark.parametrize("times", [0.0, 0.1, 1.0, 1.5])
def test_broadband_light_interferes_by_its_coherence(times):
    """Share of the speckle's power that interferes: ``1 / (1 + 2 pi tau linewidth)``, 4 SE and 2 % of modes left out.

    Catches: a reference in the strongest mode alone (0.70 in place of 0.50), or in all with the same amplitude.
    """
    share = visibility(device(times)) ** 2
    assert share == pytest.approx(1.0 / (1.0 + times), rel=4.0 / np.sqrt(N_OUT) * 1.5 + 0.02)


def test_reference_has_one_polarisation():
    """It meets half of the power of unpolarised speckle. Catches: a reference in both."""
    assert visibility(device(polarisations=2)) ** 2 == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize("cycles", [0.1, 0.25, 0.45])
def test_a_pixel_averages_the_fringes_of_a_tilted_beam(cycles):
    """Amplitude ``sinc(cycles per pixel)``, power of the beam unchanged. Catches: fringes sampled at a point."""
    angle = float(np.arcsin(cycles * 532e-9 / 5.5e-6))
    straight, tilted = device(), device(angle_x_rad=angle)
    ratio = visibility(tilted) / visibility(straight)
    assert ratio == pytest.approx(np.sinc(cycles), rel=0.01)
    phases = np.arange(4) * np.pi / 2
    np.testing.assert_allclose(light(tilted, phases).mean(axis=0), light(straight, phases).mean(axis=0), rtol=1e-4)


def test_two_seeds_share_no_polarisation():
    """Frames of two benches with two polarisations are uncorrelated, 5 SE. Catches: one second matrix for all seeds."""
    frames = []
    for seed in (1, 2):
        opu = OPU(medium=GaussianMedium(N_IN, N_OUT, seed=seed), imaging=Imaging(polarisations=2))
        frames.append(opu.measure(np.ones((1, N_IN), bool))[0].astype(float))
    assert abs(np.corrcoef(frames)[0, 1]) < 5.0 / np.sqrt(N_OUT)


def test_contrast_of_two_polarisations():
    """Contrast of a frame as drawn, 4 SE. Catches: the contrast of polarised light for both."""
    opu = device(polarisations=2)
    photons = light(opu, None)[0]
    assert photons.std() / photons.mean() == pytest.approx(opu.imaging.contrast(), rel=4.0 * 0.8 / np.sqrt(N_OUT))


def test_too_many_modes_are_refused():
    """Catches: 4000 matrices that are drawn without a warning."""
    with pytest.raises(ValueError, match=r"^path_time_s of the medium must be shorter .* got"):
        device(times=50.0)


def test_a_matrix_that_does_not_fit_is_refused(monkeypatch):
    """One line that names the storage and what to use; `auto` streams. Catches: an out-of-memory kill."""
    memory = type("Memory", (), {"available": 10_000})
    monkeypatch.setattr("photonics.medium.gaussian.psutil.virtual_memory", lambda: memory)
    with pytest.raises(ValueError, match=r"^storage must be 'streamed' or 'auto' for a matrix of"):
        GaussianMedium(500, 500).propagate(np.ones((1, 500)))
    assert presets.lab_bench(100, 100).measure(np.ones((1, 100), bool)).shape == (1, 100)
