"""The fit of a device to a recording."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

from calibration.storage.descriptions import stamp
from calibration.storage.recorded import RecordedDevice
from calibration.storage.recording import Recording
from calibration.twin import light, speckle
from calibration.twin.beam import likely_radius
from calibration.twin.evidence import Evidence, read_evidence
from calibration.twin.light import check_exposures, check_same_bench
from calibration.twin.looks import DRIFT, NOISE, Looks, laser_parameters, medium_parameters
from calibration.twin.matrix import recover_matrix
from calibration.twin.parameter import CannotTell, Parameter, gather
from calibration.twin.pixels import (
    defect_parameters,
    line_parameters,
    read_maps,
    shared_noise,
    take_out_curve,
    unclear_lines,
    variance_of_mean,
    variance_of_pixel,
)
from calibration.twin.reference.arm import reference_parameters
from calibration.twin.reference.interference import fringe_contrast
from calibration.twin.reference.tilt import CONTRAST, TILT, tilt_parameters
from calibration.twin.sensor import Sensor, camera_parameters, read_sensor
from calibration.twin.twin import Twin

__all__ = ["fit_device", "fit_evidence"]

MAX_CONTRAST_OFF = 4.0, 0.05
"""Standard errors, and share, by which the fringes of a twin may have another contrast than those of the bench."""


def fit_device(recording: Recording | RecordedDevice | str | Path, *, matrix: bool = False) -> Twin:
    """Fit a simulated device to the frames of a bench.

    The fit finds its frames by what was asked (`calibration.record_bench` asks all of it): dark frames, bursts of one
    pattern, pairs of a pattern and its complement, groups of inputs alone, looks at one pattern, frames with the
    reference. A parameter whose frames are missing, or that they do not tell, is unknown: the twin takes it from the
    data sheet in the recording.

    Parameters
    ----------
    recording : Recording, RecordedDevice, str or Path
        The recording or its file. Its description is the data sheet: bits, geometry, wavelength and power must be
        right; parameters that frames tell are not read from it.
    matrix : bool
        Whether to fit the transmission matrix of the recorded inputs and pixels, too (`calibration.fit_matrix`, to
        half-ON patterns during which the medium holds still). Without it the twin has the law of the medium.

    Returns
    -------
    Twin
        Parameters with standard errors, and the device.

    Warns
    -----
    UserWarning
        If frames have the light of other patterns or exposures, or the speckle of another bench or of pixels in another
        order. What all frames share is not told, as it is a bench, too: pixels that are all transposed, and phases of
        the reference that all have the other sign (which change the sign of the beam's tilt alone). If dark
        frames have noise of whole rows or columns whose size rounding hides. If the fringes of the reference have
        another contrast than the twin's, which may have the tilt of the data sheet.

    Raises
    ------
    ValueError
        If the file is not a recording, frames are missing without which nothing can be fitted (dark frames, half-ON
        patterns, bursts), the light is too weak or too strong, or the frames do not determine the matrix.
    """
    source = recording._recording if isinstance(recording, RecordedDevice) else recording
    path = source.path if isinstance(source, Recording) else Path(source)
    seen = read_evidence(source)
    sensor = read_sensor(seen)
    check_exposures(seen, sensor)
    check_same_bench(seen, sensor, speckle.layout(seen))
    seen, sensor = take_out_curve(seen, sensor)
    twin = fit_evidence(seen, sensor, {**stamp(), "recording": path.name, "frames": len(seen.frames)})
    if names := unclear_lines(twin.parameters):
        warnings.warn(
            f"dark frames have {' and '.join(names)}, but rounding hides how large: the read noise may contain it, and "
            "the twin has that of the data sheet; record dark frames with more gain",
            stacklevel=2,
        )
    warn_of_contrast(twin)
    return replace(twin, matrix=recover_matrix(seen, twin.device(), twin.field_frames)) if matrix else twin


def fit_evidence(seen: Evidence, sensor: Sensor, about: dict[str, object]) -> Twin:
    """Fit a device to frames that were read, with their camera (`take_out_curve`); `about` is the provenance."""
    shape = speckle.layout(seen)
    shared = shared_noise(seen, shape)
    sensor = replace(sensor, shared_dn2=variance_of_mean(shared, shape))
    lines = line_parameters(shared, sensor)
    found = [*camera_parameters(seen, sensor, variance_of_pixel(lines)), *lines, *defect_parameters(seen, sensor)]
    found += gather(light.UNITS, lambda: light.light_parameters(seen, sensor))
    area, straight, fields = 1.0, 0.0, 1
    try:
        statistics = speckle.read_speckle(seen, sensor)
        found += speckle.speckle_parameters(seen, statistics)
        area = statistics.area
        known = {p.name: p.estimate.value for p in found if p.known}
        straight, fields = known.get(speckle.STRAIGHT, 0.0), int(known.get(speckle.MODES, 1))
    except CannotTell as reason:
        found += [Parameter.unknown(name, unit, reason) for name, unit in speckle.UNITS.items()]
    beam = next(p for p in found if p.name == light.RADIUS)
    radius = likely_radius(seen, beam.estimate.value, beam.least)
    found += changes_in_time(seen, sensor, area, (straight, fields), radius)
    by_name = {parameter.name: parameter for parameter in found}
    medium, power = by_name[DRIFT], by_name["laser.drift_rms"]
    laser_rms = power.estimate.value if power.known else min(seen.parts.laser.drift_rms, power.most)
    rate, frames = by_name[light.RATE], medium.estimate.value if medium.known else np.inf
    found += reference_parameters(seen, sensor, rate.estimate, frames, laser_rms)
    found += tilt_parameters(seen, sensor, frames, laser_rms, by_name[speckle.GRAIN], by_name[speckle.MODES])
    maps = read_maps(seen, sensor)
    return Twin(seen.parts, tuple(found), seen.n_in, seen.n_out, seen.main_s, about, maps)


def warn_of_contrast(twin: Twin) -> None:
    """Warn if the fringes of a twin have another contrast than those of the bench."""
    found, imaging, modes = twin[CONTRAST], twin.imaging(), twin[speckle.MODES]
    if not (found.known and modes.known):
        return
    expected = fringe_contrast(imaging, twin.sheet.laser.wavelength_m, imaging.polarisations)
    apart, (errors, share) = abs(found.estimate.value - expected), MAX_CONTRAST_OFF
    if apart > max(errors * found.estimate.error, share * expected):
        cause = (
            "it is not coherent with the speckle in full, or moves during an exposure, or imaging.samples are too few"
        )
        if not twin[TILT[0]].known:
            cause = f"its tilt in the data sheet, imaging.reference.angle_x_rad and angle_y_rad, is wrong, or {cause}"
        warnings.warn(
            f"fringes of the reference have a contrast of {found.estimate.value:.3g} +- {found.estimate.error:.2g}, "
            f"those of the twin's beam {expected:.3g}: {cause}",
            stacklevel=3,
        )


def changes_in_time(
    seen: Evidence, sensor: Sensor, area: float, light: tuple[float, int], radius_m: float | None
) -> list[Parameter]:
    """Correlation time of the medium and noise of the laser, from looks at one pattern.

    `light` is the ratio of unscattered light and the number of fields, as in `speckle.half_on_covariance`.
    """
    units = {DRIFT: "frames"} | {name: unit for name, (unit, _) in NOISE.items()}

    def find() -> list[Parameter]:
        looks = Looks(seen, sensor)
        medium = gather({DRIFT: "frames"}, lambda: medium_parameters(looks, *light))
        frames = medium[0].estimate.value if medium[0].known else 1e12
        time = frames * seen.period_s
        return [*medium, *laser_parameters(seen, looks, time, area, radius_m)]

    return gather(units, find)
