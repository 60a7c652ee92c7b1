"""The blaze: the share of each diffraction order, the figures of known chips, and the geometry behind them."""

import math
from dataclasses import replace

import numpy as np
import pytest

from photonics import DMD
from photonics.parts.blaze import blaze_order, order_share

ORDERS = np.arange(-3000, 3001)


@pytest.mark.parametrize(
    ("pitch_m", "wavelength_m", "share"),
    [(13.68e-6, 532e-9, 0.31), (13.68e-6, 800e-9, 0.81), (7.56e-6, 532e-9, 0.81)],
)
def test_known_chips(pitch_m, wavelength_m, share):
    """0.31 nearly anti-blazed, 0.81 nearly blazed, within 0.02. Catches: a tilt without its sqrt(2), FF for FF^2."""
    assert DMD(pitch_m=pitch_m).efficiency(wavelength_m) == pytest.approx(share, abs=0.02)


def test_near_infrared_is_blazed():
    """From 785 to 800 nm one order has 0.81 or more, at most FF^2. Catches: a wrong order, sinc without its square."""
    shares = [DMD().efficiency(wavelength) for wavelength in np.linspace(785e-9, 800e-9, 31)]
    assert min(shares) > 0.81
    assert max(shares) <= 0.92**2
    assert max(shares) == pytest.approx(0.92**2, rel=1e-3)


@pytest.mark.parametrize(("fill_factor", "wavelength_m"), [(0.5, 532e-9), (0.92, 640e-9)])
def test_orders_share_what_is_reflected(fill_factor, wavelength_m):
    """The sum over all orders is FF, to the tail of 6001. Catches: FF or FF^4, sinc(FF x) for sinc(sqrt(FF) x)."""
    shares = DMD(fill_factor=fill_factor).order_efficiency(wavelength_m, ORDERS, ORDERS[:, None])
    assert shares.shape == (len(ORDERS), len(ORDERS))
    assert shares.sum() == pytest.approx(fill_factor, rel=3e-4)


@pytest.mark.parametrize("wavelength_m", [405e-9, 633e-9])
def test_the_best_order_is_the_best(wavelength_m):
    """No order has more light, and it is the default. Catches: floor for round, p without q."""
    dmd = DMD()
    best, shares = dmd.best_order(wavelength_m), dmd.order_efficiency(wavelength_m, ORDERS, ORDERS[:, None])
    assert dmd.efficiency(wavelength_m) == shares.max() == dmd.order_efficiency(wavelength_m, best, best)
    np.testing.assert_array_equal(dmd.order_efficiency(wavelength_m, ORDERS), shares[list(ORDERS).index(best)])


def test_share_of_an_order_is_the_far_field_of_a_mirror():
    """``|int over a mirror exp(2 pi i (p - u) x / d)|^2 / d^4``, by summation. Catches: a sinc of another width."""
    fill, blaze = 0.8, 6.3
    x = (np.arange(2000) + 0.5) / 2000 * math.sqrt(fill) - math.sqrt(fill) / 2
    for p, q in [(6, 6), (7, 6), (5, 8)]:
        along = [np.exp(2j * np.pi * (m - blaze) * x).mean() * math.sqrt(fill) for m in (p, q)]
        assert order_share(fill, blaze, p, q) == pytest.approx(abs(along[0] * along[1]) ** 2, rel=1e-4)


@pytest.mark.parametrize(
    ("pitch_m", "wavelength_m", "error"), [(13.68e-6, 532e-9, 0.017), (13.68e-6, 800e-9, 2e-3), (7.56e-6, 532e-9, 2e-3)]
)
def test_against_tilted_mirrors_in_space(pitch_m, wavelength_m, error):
    """The path ``(k_out - k_in).r`` over a mirror turned about its diagonal gives the share within the stated error.

    Catches: a tilt about the side of the mirror, incidence in another plane, the sign of the tilt.
    """
    dmd = DMD(pitch_m=pitch_m)
    s = ((np.arange(200) + 0.5) / 200 - 0.5) * math.sqrt(dmd.fill_factor) * pitch_m  # along a side of a mirror
    axis, across = (s - s[:, None]) / math.sqrt(2), (s + s[:, None]) / math.sqrt(2)  # along its diagonals
    # Coordinates: the axis of the tilt, across it, the chip's normal. The mirror leans towards the light.
    points = np.stack([axis, across * math.cos(dmd.tilt_rad), -across * math.sin(dmd.tilt_rad)])
    coming = -np.array([0.0, math.sin(dmd.incidence_rad), math.cos(dmd.incidence_rad)])
    sine = dmd.best_order(wavelength_m) * math.sqrt(2) * wavelength_m / pitch_m + coming[1]
    going = np.array([0.0, sine, math.sqrt(1 - sine**2)])
    path = np.tensordot(going - coming, points, 1)
    share = dmd.fill_factor**2 * abs(np.exp(2j * np.pi / wavelength_m * path).mean()) ** 2
    assert dmd.efficiency(wavelength_m) == pytest.approx(share, abs=error)


def test_a_flat_array_reflects_as_a_mirror():
    """Without tilt all light is in order 0, for any incidence. Catches: an angle that does not cancel."""
    for incidence in (0.0, 0.3):
        assert blaze_order(1e-5, 0.0, incidence, 5e-7) == pytest.approx(0.0, abs=1e-12)
        assert DMD(tilt_rad=0.0, incidence_rad=incidence, fill_factor=0.7).efficiency(5e-7) == pytest.approx(0.49)


def test_blaze_scales_with_pitch_over_wavelength():
    """At twice the pitch and wavelength the shares are the same. Catches: a length that is not relative."""
    dmd = DMD()
    for wavelength_m in (500e-9, 700e-9):
        twice = replace(dmd, pitch_m=2 * dmd.pitch_m).efficiency(2 * wavelength_m)
        assert twice == pytest.approx(dmd.efficiency(wavelength_m))


@pytest.mark.parametrize("wavelength_m", [0.0, float("nan"), "green"])
def test_bad_wavelength(wavelength_m):
    with pytest.raises(ValueError, match=r"^wavelength_m must be above 0, got"):
        DMD().efficiency(wavelength_m)
