"""The beam on the mirrors: its radius, and what its pointing does to frames."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import fminbound

from calibration.camera.estimate import Estimate
from calibration.twin.evidence import Evidence
from calibration.twin.parameter import CannotTell, jackknife, pixel_blocks
from photonics.arrays import BoolArray, FloatArray, IntArray

__all__ = ["beam_radius", "likely_radius", "pointing"]

FEW = 0.125
"""Largest share of inputs in a pattern that tells the profile of the beam."""
MIN_BEND = 4.0
"""Standard errors of the beam's curvature, 1 / w^2, above which its radius is known: below, the error of w is skew."""
MIN_GROUPS = 8
"""Smallest number of such patterns."""
MIN_OFF = 8
"""Smallest number of frames of all inputs OFF beside others, from which their light is subtracted."""
NEAR = 4000
"""Distance in frames within which frames are compared, so that drifts of laser and medium cancel."""
FITS = 5
"""Number of fits of the profile, each with weights by the one before."""
LOST = 0.75, 0.25
"""Light that saturation takes, and its error, over the light times the share of saturated readings. It is 1 for one
field of exponential intensity, and half for many."""


class Groups(NamedTuple):
    """Frames of groups of few inputs alone, which see the profile of the beam."""

    shown: NDArray[np.float64]
    """Which inputs are ON, (n_groups, n_in)."""
    light: FloatArray
    """Mean frame of each group above that of all inputs OFF, (n_groups, n_out)."""
    noise: float
    """Variance of the mean light of a frame, DN^2, mean over the groups."""
    full: NDArray[np.float64]
    """Share of saturated readings in each group."""


def beam_radius(seen: Evidence, pixels: IntArray, ceiling: float, rounding_dn: float) -> Estimate:
    """Radius at which the intensity is 1/e^2 of its peak, metres: a fit of ``exp(-2 r^2 / w^2)``.

    Parameters
    ----------
    seen : Evidence
        The frames; groups of few inputs alone are used.
    pixels : ndarray of int
        Live pixels.
    ceiling : int
        Code of a saturated reading.
    rounding_dn : float
        Error of a level that all groups share, DN: that of rounding if the camera's noise does not resolve it.

    Raises
    ------
    CannotTell
        If there are too few groups, or the beam is flat on the inputs.
    """
    few, square = groups_of_few(seen, pixels, ceiling), (seen.parts.dmd.cells(seen.n_in).centres ** 2).sum(axis=0)
    every = np.arange(len(few.full))

    def curvature(
        some: IntArray = pixels, groups: IntArray = every, lost: float = LOST[0], level: float = 0.0
    ) -> NDArray[np.float64]:
        energy = (few.light[groups][:, some].mean(axis=1) + level) / (1.0 - lost * few.full[groups])
        return bend_of(energy, few.shown[groups], square, few.noise, len(some))

    (bend,), (error,) = jackknife(curvature, pixel_blocks(pixels))
    # Groups are independent, too: their scatter has the noise that all pixels share, and grains of several pixels.
    error = max(error, jackknife(lambda groups: curvature(groups=groups), pixel_blocks(every))[1][0])
    shared = [curvature(lost=sum(LOST))[0], curvature(level=rounding_dn)[0]]
    error = float(np.linalg.norm([error, *(np.array(shared) - bend)]))
    if bend < MIN_BEND * error:
        least = (max(bend, 0.0) + 2.0 * error) ** -0.5
        raise CannotTell(
            f"the beam is flat on the inputs within the errors: the radius is at least {least:.2g} m", least=least
        )
    return Estimate(float(bend**-0.5), float(0.5 * bend**-1.5 * error))


def groups_of_few(seen: Evidence, pixels: IntArray, ceiling: float) -> Groups:
    """Frames of few inputs at the exposure of those of all inputs OFF, by pattern; arguments as for `beam_radius`."""
    off = seen.off()
    few = seen.plain & (seen.on > 0) & (seen.on <= FEW * seen.n_in) & seen.at(float(seen.exposure_s[off[0]]))
    index = np.flatnonzero(few)
    names, which = np.unique(seen.name[index], return_inverse=True)
    if len(names) < MIN_GROUPS:
        raise CannotTell(f"there are {len(names)} patterns of few inputs, {MIN_GROUPS} are needed")
    beside = off[np.abs(seen.number[off] - seen.number[index].mean()) < NEAR]
    frames, groups = seen.of(index), [which == k for k in range(len(names))]
    above = frames - seen.of(beside if len(beside) >= MIN_OFF else off).mean(axis=0)
    power = above[:, pixels].mean(axis=1)
    return Groups(
        shown=np.stack([seen.patterns[index[group][0]] for group in groups]).astype(np.float64),
        light=np.stack([above[group].mean(axis=0) for group in groups]),
        noise=float(np.mean([power[group].var() for group in groups])),
        full=np.array([(frames[group][:, pixels] >= ceiling).mean() for group in groups]),
    )


def bend_of(
    energy: NDArray[np.float64], shown: NDArray[np.float64], square: NDArray[np.float64], noise: float, pixels: int
) -> NDArray[np.float64]:
    """``1 / w^2`` with which the light of groups of inputs follows a Gaussian beam best: (1,).

    The light of a group has the noise of the frames, of variance `noise`, and is speckle on a number of pixels. Weights
    are those of the fit before: with those of the same fit, noise in the dim groups makes the beam wide.
    """
    far, weight = float(square.max()), np.ones(len(energy))

    def model(bend: float) -> NDArray[np.float64]:
        light = shown @ np.exp(-2.0 * bend * square / far)
        return light * float((weight * light * energy).sum() / (weight * light**2).sum())

    def misfit(bend: float) -> float:
        return float((weight * (energy - model(bend)) ** 2).sum())

    bend = 0.0
    for _ in range(FITS):
        weight = 1.0 / (model(bend) ** 2 / pixels + noise)
        bend = float(np.asarray(fminbound(misfit, -3.0, 6.0), np.float64))
    return np.array([bend / far])


def likely_radius(seen: Evidence, fitted: float, least: float) -> float | None:
    """Radius of a beam: the fitted one, or that of the data sheet if it is no less than `least`; None if uniform."""
    sheet = seen.parts.laser.beam_radius_m
    if np.isfinite(fitted):
        return float(fitted)
    return None if sheet is None else float(max(sheet, least))


def pointing(seen: Evidence, on: BoolArray, radius_m: float | None) -> tuple[float, float]:
    """What the pointing of the data sheet does to the light of a pattern, as relative variances.

    A shift of the beam changes the amplitude of each input by the share g. Its mean, weighted by the light of the
    inputs, changes all pixels alike. Its spread changes the speckle: a pixel of the intensity I gets the field
    ``sum t a (g - <g>)``, which is independent of its own, and so the variance ``2 I <I> var(g)``.

    Returns
    -------
    power : float
        Relative variance of the light, ``4 <g>^2``, summed over both axes.
    speckle : float
        ``2 var(g)``, summed over both axes.
    """
    laser, cells = replace(seen.parts.laser, beam_radius_m=radius_m), seen.parts.dmd.cells(seen.n_in)
    light = laser.power_share(cells) * on
    if not light.sum() > 0.0:
        return 0.0, 0.0
    light /= light.sum()
    change = laser.pointing_gradient(cells)
    mean = change @ light
    return float(4.0 * (mean**2).sum()), float(2.0 * ((change**2 @ light) - mean**2).sum())
