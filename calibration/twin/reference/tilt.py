"""The tilt of the reference beam, from the spectrum of its fringes with the speckle behind a pupil."""

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.camera.estimate import Estimate
from calibration.twin.evidence import Evidence
from calibration.twin.light import dark_at
from calibration.twin.parameter import CannotTell, Parameter, gather, jackknife, pixel_blocks
from calibration.twin.reference.arm import read_beam
from calibration.twin.reference.fringes import Watched, design_of, follow_fringes, watch_fringes
from calibration.twin.reference.interference import NEIGHBOURS, Optics
from calibration.twin.sensor import Sensor
from calibration.twin.speckle import layout
from photonics.arrays import IntArray

__all__ = ["CONTRAST", "NO_PUPIL", "TILT", "tilt_parameters"]

TILT = "imaging.reference.angle_x_rad", "imaging.reference.angle_y_rad"
CONTRAST = "fringe contrast"
UNITS = {CONTRAST: "", TILT[0]: "rad", TILT[1]: "rad"}
NO_PUPIL = "degenerate with the phases of the medium's rows without a pupil; taken from the data sheet"
WEAK = (
    "the fringes are hidden by noise or by grains that are too few, or average out within a pixel: any tilt is possible"
)
MAX_TURNS_ERROR = 0.04
"""Largest standard error of the phase of neighbouring pixels, in turns, with which it is known: 0.25 rad."""
MIN_SEEN = 4.0
"""Standard errors of the contrast squared above which there are fringes."""
SURE = 3.0
"""Standard errors by which fringes have more contrast than a carrier allows, which excludes it."""
MIN_VISIBLE = 1e-3
"""Smallest contrast squared of a carrier that is considered if the frames do not tell the contrast."""
MAX_CARRIER = 1.0
"""Largest carrier that is considered along each axis, cycles per pixel, where the fringes average out."""


FINE = 16
"""Samples of a pixel that are as good as its area, `Imaging.samples`: what they change is an error of the carrier."""


class Spectrum(NamedTuple):
    """Statistics of the interference term."""

    turns: NDArray[np.float64]
    """Phase of the correlation with the next pixel of the row and of the column, over minus 2 pi: (2,)."""
    noise: float
    """Variance by the camera's noise over that of the term."""
    pixels: int
    """Number of pixels."""
    contrast2: Estimate
    """Mean of ``|z|^2`` over that of the product of both intensities; NaN if the beam alone is not known."""


class Carrier(NamedTuple):
    """A carrier that the frames allow, cycles per pixel."""

    value: NDArray[np.float64]
    """Along a row and along a column: (2,)."""
    error: NDArray[np.float64]
    """Standard errors: (2,)."""


def tilt_parameters(
    seen: Evidence, sensor: Sensor, medium_frames: float, laser_rms: float, aperture: Parameter, modes: Parameter
) -> list[Parameter]:
    """Contrast of the fringes, and the angles of the beam along rows and columns.

    Parameters
    ----------
    seen, sensor
        The frames and the camera.
    medium_frames : float
        Correlation time of the medium's field, frames; infinite if it is not known.
    laser_rms : float
        Rms of the laser's slow drift, which changes the light of the beam until the fringes are taken.
    aperture, modes : Parameter
        Numerical aperture, and the number of fields of the speckle.
    """

    def find() -> list[Parameter]:
        found = read_spectrum(seen, sensor, watch_fringes(seen, sensor, medium_frames), laser_rms)
        fields = int(modes.estimate.value) if modes.known else 1
        tilt = []
        if aperture.known:
            optics = Optics(seen.parts.imaging, seen.parts.laser.wavelength_m, aperture.estimate.value, fields)
            found = with_grains(found, optics)
            tilt = gather(dict.fromkeys(TILT, "rad"), lambda: angles(seen, found, optics, aperture.estimate.error))
        how = "interference of one pattern and the reference over the product of both intensities"
        contrast = Parameter.find(CONTRAST, "", how, contrast_of, found)
        return [contrast, *(tilt or without_pupil(seen, found, fields, aperture))]

    return gather(UNITS, find)


def read_spectrum(seen: Evidence, sensor: Sensor, watched: Watched, laser_rms: float) -> Spectrum:
    """Correlate the interference term of neighbouring pixels.

    It is fitted to two halves of the frames: products of one half and the other have no noise on average.

    Raises
    ------
    CannotTell
        If the phases of the reference are not stepped.
    """
    if np.linalg.matrix_rank(design_of(watched.angle[watched.start]), tol=0.1) < 3:
        raise CannotTell("the reference is not at three phases or more, which give its fringes and their sign")
    term, steady = interference(watched, layout(seen)[1])
    halves = np.zeros((2, seen.n_out), np.complex128)
    halves[:, watched.pixels] = term
    sums = lagged_sums(halves.reshape(2, *layout(seen)))
    power = (term[0].conj() * term[1]).real
    noise = float((np.abs(term[0] - term[1]) ** 2).sum() / 4.0 / max(power.sum(), 1e-9))
    contrast2 = squared_contrast(seen, sensor, watched, steady, power, laser_rms)
    return Spectrum(np.angle(sums) / (-2.0 * np.pi), noise, len(watched.pixels), contrast2)


def interference(watched: Watched, columns: int) -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
    """Interference term of two halves of the frames, (2, pixels), and the mean of the pixels over the phases, DN.

    Phases of the frames are those that other rows show (in a single row, other pixels): with its own ones the noise of
    a pixel would seem to be fringes.
    """
    signal, angle, start = watched.signal, watched.angle, watched.start
    line = watched.pixels // columns if watched.pixels[-1] >= columns else watched.pixels
    order = np.argsort(np.round(angle[start], 6), kind="stable")
    term, steady = np.zeros((2, len(line)), np.complex128), np.zeros(len(line))
    for parity in range(2):
        mine = line % 2 == parity
        if mine.all() or not mine.any():
            raise CannotTell("live pixels are in every second row only")
        wave = follow_fringes(signal[:, ~mine], angle, start).wave[start]
        design, codes = design_of(np.angle(wave)), signal[start][:, mine]
        steady[mine] = np.linalg.lstsq(design, codes, rcond=None)[0][0]
        for k in range(2):
            parts = np.linalg.lstsq(design[order[k::2]], codes[order[k::2]], rcond=None)[0]
            term[k, mine] = (parts[1] + 1j * parts[2]) / 2.0
    return term, steady


def lagged_sums(halves: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Products of `NEIGHBOURS` in two halves of the interference term, (2, rows, columns), summed: (2,)."""
    rows, columns = halves.shape[1:]
    found = np.zeros(len(NEIGHBOURS), np.complex128)
    for k, (x, y) in enumerate(NEIGHBOURS):
        here, there = halves[:, : rows - y, : columns - x].conj(), halves[:, y:, x:]
        found[k] = (here[0] * there[1] + here[1] * there[0]).sum() / 2.0
    return found


def squared_contrast(
    seen: Evidence,
    sensor: Sensor,
    watched: Watched,
    steady: NDArray[np.float64],
    power: NDArray[np.float64],
    laser_rms: float,
) -> Estimate:
    """Power of the interference term, (pixels,), over the product of both intensities; NaN if that is not known.

    `steady` is the mean of the pixels over the phases, DN. The beam alone was seen earlier, and the laser drifts.
    """
    try:
        beam = read_beam(seen, sensor)
    except CannotTell:
        return Estimate(math.nan, math.nan)
    time = float(seen.exposure_s[watched.chosen[0]])
    reference = beam.image[watched.pixels] * np.float32(time / beam.exposure_s)
    speckle = steady - dark_at(seen, sensor, time)[watched.pixels] - reference

    def ratio(some: IntArray) -> NDArray[np.float64]:
        return np.array([power[some].sum() / (reference[some] * speckle[some]).sum()])

    (value,), (error,) = jackknife(ratio, pixel_blocks(np.arange(len(power))))
    one, other = float(reference.mean()), float(speckle.mean())
    unequal = abs(one / other - 1.0)  # more light of the beam is less light of the speckle
    level = sensor.level_error_dn
    parts = [np.sqrt(2.0) * laser_rms * unequal, level / one * unequal, level / other]
    return Estimate(float(value), float(np.linalg.norm([error, *(value * np.array(parts))])))


def with_grains(found: Spectrum, optics: Optics) -> Spectrum:
    """Return the spectrum with an error of its contrast that is at least that of the number of grains."""
    carrier = optics.carrier(found.turns, found.turns)
    value, error = found.contrast2.value, found.contrast2.error
    spread = optics.contrast_spread(np.zeros(2) if carrier is None else carrier, found.pixels)
    return found._replace(contrast2=Estimate(value, max(error, abs(value) * spread)))


def contrast_of(found: Spectrum) -> Estimate:
    """Contrast of the fringes."""
    value, error = found.contrast2.value, found.contrast2.error
    if not value > MIN_SEEN * error:
        raise CannotTell("there are no fringes above the noise, or the light of the beam alone is not known")
    return Estimate(value**0.5, error / (2.0 * value**0.5))


def without_pupil(seen: Evidence, found: Spectrum, fields: int, aperture: Parameter) -> list[Parameter]:
    """Angles that cannot be told, but ``sinc(carrier)`` is no less than the contrast, whatever else lowers that."""
    if not aperture.least > 0.0:
        reason = CannotTell(f"the tilt needs the numerical aperture: {aperture.how}")
        return [Parameter.unknown(name, "rad", reason) for name in TILT]
    least = max(found.contrast2.value - 2.0 * found.contrast2.error, 0.0) * fields
    carriers = np.linspace(0.0, 0.5, 501)
    inside = carriers[np.sinc(carriers) ** 2 >= min(least, 1.0)] if np.isfinite(least) else carriers
    most = float(angle_of(seen, inside[-1:])[0])
    return [Parameter.unknown(name, "rad", CannotTell(NO_PUPIL, least=-most, most=most)) for name in TILT]


def angle_of(seen: Evidence, carrier: NDArray[np.float64]) -> NDArray[np.float64]:
    """Angles of carriers, radians; a right angle at most."""
    return np.arcsin(np.clip(carrier * (seen.parts.laser.wavelength_m / seen.parts.imaging.pixel_m), -1.0, 1.0))


def angles(seen: Evidence, found: Spectrum, optics: Optics, aperture_error: float) -> list[Parameter]:
    """Angles of the beam behind a pupil.

    Raises
    ------
    CannotTell
        If the fringes do not tell them.
    """
    allowed = list(carriers(found, optics, aperture_error))
    if not allowed:
        raise CannotTell("the fringes have more contrast than any tilt gives: the light of the beam alone is not right")
    if len(allowed) > 1:
        return either(seen, allowed)
    if np.abs(allowed[0].value).max() > 0.5 * seen.parts.imaging.samples:
        raise CannotTell("the fringes are finer than two samples: set imaging.samples of the data sheet to 2 or more")
    how = "phase of the fringes' correlation between neighbouring pixels"
    found_angles = zip(TILT, in_radians(seen, allowed[0]), strict=True)
    return [Parameter(name, "rad", estimate, how, signed=True) for name, estimate in found_angles]


def carriers(found: Spectrum, optics: Optics, aperture_error: float) -> Iterator[Carrier]:
    """All carriers whose fringes have the phases, and no less contrast than those seen.

    A beam that is not coherent in full has less contrast, and so has one that moves during an exposure.

    Raises
    ------
    CannotTell
        If the phases are not known.
    """
    least = found.contrast2.value - SURE * found.contrast2.error
    least = max(least, MIN_VISIBLE) if np.isfinite(least) else MIN_VISIBLE
    kept: list[NDArray[np.float64]] = []
    for shift in product((0.0, -1.0, 1.0), repeat=2):
        value = optics.carrier(found.turns, found.turns + np.array(shift))
        if value is None or np.abs(value).max() > MAX_CARRIER or optics.contrast2(value) < least:
            continue
        if any(np.abs(value - other).max() < 1e-3 for other in kept):
            continue
        kept.append(value)
        spread = optics.turns_covariance(value, found.noise, found.pixels)
        if not kept[1:] and spread.diagonal().max() ** 0.5 > MAX_TURNS_ERROR:
            raise CannotTell(WEAK)
        inverse = np.linalg.inv(optics.slope(value))
        others = [
            optics._replace(aperture=optics.aperture + aperture_error),
            optics._replace(imaging=replace(optics.imaging, samples=FINE)),
        ]
        moved = [other.carrier(found.turns, value) for other in others]
        shared = [np.zeros(2) if place is None else place - value for place in moved]
        spread = (inverse @ spread @ inverse.T).diagonal()
        yield Carrier(value, np.sqrt(spread + np.square(shared).sum(axis=0)))


def in_radians(seen: Evidence, carrier: Carrier) -> list[Estimate]:
    """Angles of a carrier with their standard errors, radians."""
    angle = angle_of(seen, carrier.value)
    scale = seen.parts.laser.wavelength_m / seen.parts.imaging.pixel_m
    return [Estimate(float(a), float(scale * e / math.cos(a))) for a, e in zip(angle, carrier.error, strict=True)]


def either(seen: Evidence, allowed: list[Carrier]) -> list[Parameter]:
    """Angles of which frames tell the carrier but for whole cycles per pixel: the data sheet chooses the nearest."""
    sheet = seen.parts.imaging.reference.carrier(seen.parts.laser.wavelength_m, seen.parts.imaging.pixel_m)
    near = min(allowed, key=lambda one: float(np.abs(one.value - sheet).max()))
    made = []
    for axis, (name, chosen) in enumerate(zip(TILT, in_radians(seen, near), strict=True)):
        values = sorted({round(in_radians(seen, one)[axis].value, 5) for one in allowed})
        text = " or ".join(f"{value:.3g} +- {chosen.error:.1g}" for value in values)
        reason = f"{text}: the fringes are known but for whole cycles per pixel, and their contrast excludes none"
        limits = chosen.value - 2.0 * chosen.error, chosen.value + 2.0 * chosen.error
        made.append(Parameter.unknown(name, "rad", CannotTell(reason, least=limits[0], most=limits[1])))
    return made
