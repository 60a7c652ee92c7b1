"""Expected dark rows if pixels average several grains, or many pixels share a grain."""

import numpy as np
import pytest

from calibration import measure_projection
from calibration.reports.chapters.projection import projection_chapter
from photonics import OPU, GaussianMedium, Imaging
from photonics.patterns.encoding import half_on


def dark_rows(imaging, outputs_per_pixel, seed):
    """Line of the dark rows, and their expected share."""
    opu = OPU(medium=GaussianMedium(64, 900 * outputs_per_pixel, seed=seed), imaging=imaging)
    opu.autoexpose()
    projection = measure_projection(opu)
    x = half_on(16, 64, seed, 1)
    chapter = projection_chapter(projection, x, projection.measure(x), seed)
    return next(line for line in chapter.lines if line.name == "dark rows"), projection.expected_dark_share()


@pytest.mark.parametrize(
    ("imaging", "outputs"),
    [
        (Imaging(), 1),
        (Imaging(polarisations=2), 2),
        (Imaging(numerical_aperture=0.005), 4),
        (Imaging(numerical_aperture=0.02), 4),
        (Imaging(numerical_aperture=0.06), 4),
    ],
    ids=["one grain a pixel", "two polarisations", "wide grains", "grains of a pixel", "grains under a pixel"],
)
def test_a_sound_bench_has_the_expected_dark_rows(imaging, outputs):
    """Catches: the law of one grain per pixel for all (0.3 % of rows for an expected 4.9 %, degraded)."""
    assert {dark_rows(imaging, outputs, seed)[0].verdict for seed in range(4)} == {"pass"}


def test_two_polarisations_follow_the_gamma_law():
    """Mean of 8 devices within 4 standard errors. Catches: the square of the exponential law, half of it."""
    found = [dark_rows(Imaging(polarisations=2), 2, seed) for seed in range(8)]
    share, expected = np.array([line.measured for line, _ in found]), found[0][1]
    assert expected == pytest.approx(1.0 - 1.1 * np.exp(-0.1))  # two equal exponential laws, 5 % of the mean
    assert abs(share.mean() - expected) < 4.0 * np.sqrt(expected / (8 * 900))
