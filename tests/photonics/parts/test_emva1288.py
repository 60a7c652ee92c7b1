"""The reference implementation of EMVA 1288 release 4.0 measures our camera as it would a real one.

`emva1288` 1.0.2 (PyPI) is given frames as the standard requires: two of each exposure, bright and dark, over a sweep
of exposure times at constant irradiance, and two stacks for the non-uniformities at half of saturation.
"""

import numpy as np
import pytest

from photonics import Camera

SIDE = 256
PIXELS = SIDE * SIDE
STACK = 64
EXPOSURES_S = np.linspace(0.02, 1.0, 50)
OVERFULL = 1.1
"""Signal of the longest exposure over that which saturates: the method looks for saturation by itself."""

# K sigma_d >= 0.5 DN for each: below that, read noise cannot be measured through the quantiser.
COMMON = {"dark_current_e_per_s": 60.0, "prnu": 0.01, "dsnu_e": 1.5, "read_noise_e": 2.5}
CAMERAS = [
    Camera(bit_depth=8, gain_dn_per_e=0.25, offset_dn=8.0, quantum_efficiency=0.6, seed=1, **COMMON),
    Camera(bit_depth=10, gain_dn_per_e=0.25, offset_dn=12.0, quantum_efficiency=0.45, seed=2, **COMMON),
    Camera(bit_depth=12, quantum_efficiency=0.75, seed=3, **COMMON),
]


def saturation_e(camera):
    """Electrons at which a pixel saturates: the well, or the last code."""
    return min(camera.full_well_e, (camera.top - camera.offset) / camera.gain)


class Bench:
    """Takes frames of one camera under uniform light, numbering them as it goes."""

    def __init__(self, camera, sums):
        self.camera, self.sums, self.tick = camera, sums, 0

    def stack(self, photons, exposure_s, count):
        ticks = self.tick + np.arange(count)
        self.tick += count
        frames = self.camera.expose(np.full((count, PIXELS), photons, np.float32), exposure_s, ticks)
        return self.sums(list(frames.reshape(count, SIDE, SIDE)))

    def pair(self, photons, exposure_s):
        sums = self.stack(photons, exposure_s, 2)
        return {"sum": sums["sum"].sum(), "pvar": sums["pvar"].sum(), "dmean": sums["dmean"]}


@pytest.fixture(params=CAMERAS, ids=lambda c: f"{c.bit_depth}bit")
def measured(request, standard):
    """A camera, and what the standard's own analysis finds."""
    camera = request.param
    bench, rate = Bench(camera, standard.sums), OVERFULL * saturation_e(camera) / camera.quantum_efficiency
    nanoseconds = (EXPOSURES_S * 1e9).tolist()
    temporal = {
        ns: {0.0: bench.pair(0.0, t), rate * t: bench.pair(rate * t, t)}
        for ns, t in zip(nanoseconds, EXPOSURES_S.tolist(), strict=True)
    }
    half, t = 0.5 * rate / OVERFULL, 0.5 / OVERFULL
    spatial = {t * 1e9: {0.0: bench.stack(0.0, t, STACK), half: bench.stack(half, t, STACK)}}
    data = {"width": SIDE, "height": SIDE, "temporal": temporal, "spatial": spatial}
    return camera, standard.results(standard.data(data).data)


def test_photon_transfer_recovers_the_camera(measured):
    """Every figure of the data sheet, from frames alone, by the reference implementation.

    Tolerances are at least 4 SE: 0.5 % for K and QE, 1 % for the mean dark current, 2 % for the rest. Catches: QE or
    PRNU after the Poisson draw, dither before rounding, DSNU in DN, dark current without shot noise.
    """
    camera, found = measured
    figures = {
        "K": (found.K, camera.gain, 0.005),
        "QE": (found.QE / 100, camera.quantum_efficiency, 0.005),
        "read noise": (found.sigma_d, camera.read_noise_e, 0.02),
        "dark current (mean)": (found.u_I_mean, camera.dark_current_e_per_s, 0.01),
        "dark current (variance)": (found.u_I_var, camera.dark_current_e_per_s, 0.02),
        "PRNU": (found.PRNU1288 / 100, camera.prnu, 0.02),
        "DSNU": (found.DSNU1288, camera.dsnu_e, 0.02),
    }
    wrong = {name: figure for name, figure in figures.items() if not abs(figure[0] / figure[1] - 1) < figure[2]}
    assert not wrong, f"(measured, true, tolerance): {wrong}"


def test_response_is_linear(measured):
    """Linearity error within 0.25 % from 5 to 95 % of saturation. Catches: a well that bends, an offset in the mean."""
    _, found = measured
    assert max(abs(found.LE_min), abs(found.LE_max)) < 0.25


def test_nonuniformity_has_no_rows_or_columns(measured):
    """The fixed pattern is white: rows and columns carry under 1 % of its variance. Catches: a pattern that repeats."""
    _, found = measured
    for part in (found.s_2_y_row_dark, found.s_2_y_col_dark):
        assert abs(part) < 0.01 * found.s_2_y_dark
