"""Flaws of a device: the parameter behind each, and the values at which it is studied."""

from dataclasses import dataclass, field

from dfa.sweeps.protocol import Settings
from photonics.component import choose

__all__ = ["FLAWS", "Flaw", "flaw"]

NO_DRIFT = 1e12
"""Correlation time of a medium that does not drift during any run, frames."""
LOW_FRAME_RATE = {"camera.frame_rate_hz": 1.0}
"""Change of the device for exposures that are longer than a frame of the bench."""


@dataclass(frozen=True, kw_only=True)
class Flaw:
    """One parameter of a device, and its values without the flaw and with it."""

    summary: str
    """What is varied, in one sentence."""
    title: str
    parameter: str
    """Dotted name, see `dfa.robustness.names.change_plan`."""
    label: str
    """Label of the axis, with the unit."""
    values: tuple[float | None, ...]
    """From the value without the flaw to values that are far worse than on a bench."""
    log: bool = True
    """Whether the axis is logarithmic."""
    changes: Settings = field(default_factory=dict)
    """Changes of the device, without which other parameters would hide the flaw."""
    calibration: Settings = field(default_factory=dict)
    """Arguments of the calibration for which the flaw matters."""


def flaw(name: str) -> Flaw:
    """Return the flaw of that name, or raise a ``ValueError``."""
    return choose(FLAWS, name, "flaw")


FLAWS = {
    "shot_noise": Flaw(
        summary="Photons per pixel: full well and exposure shrink together; read noise and dark signal are off.",
        title="Shot noise",
        parameter="camera.full_well_e",  # the exposure follows the full well, and so do light and shot noise
        label="full well (e-)",
        values=(1e7, 10_000.0, 1000.0, 300.0, 100.0, 30.0),
        changes=LOW_FRAME_RATE | {"camera.read_noise_e": 0.0, "camera.dsnu_e": 0.0, "camera.dark_current_e_per_s": 0.0},
    ),
    "read_noise": Flaw(
        summary="Read noise of the camera.",
        title="Read noise",
        parameter="camera.read_noise_e",
        label="read noise (electrons rms)",
        values=(0.0, 2.5, 10.0, 30.0, 100.0, 200.0),
    ),
    "bit_depth": Flaw(
        summary="Bits of a pixel.",
        title="Bit depth",
        parameter="camera.bit_depth",
        label="bits per pixel",
        values=(16, 8, 6, 5, 4, 3),
        log=False,
    ),
    "saturation": Flaw(
        summary="Exposure relative to `OPU.autoexpose`: dark frames below 1, saturated frames above.",
        title="Exposure",
        parameter="training.exposure",
        label="exposure (relative to `opu.autoexpose()`)",
        values=(1.0, 0.02, 0.1, 0.3, 3.0, 10.0, 50.0),
        changes=LOW_FRAME_RATE,
    ),
    "contrast": Flaw(
        summary="Contrast of the mirrors: mirrors that are OFF leak light.",
        title="DMD contrast",
        parameter="dmd.contrast",
        label="contrast of the mirrors (all ON over all OFF)",
        values=(None, 1000.0, 100.0, 30.0, 10.0, 3.0),
    ),
    "stuck_mirrors": Flaw(
        summary="Mirrors that do not move; half of them are ON.",
        title="Stuck mirrors",
        parameter="dmd.stuck_fraction",
        label="share of mirrors that do not move",
        values=(0.0, 0.001, 0.01, 0.1, 0.3, 0.6),
    ),
    "medium_drift": Flaw(
        summary="A medium that drifts while the network learns; it is not followed, nor calibrated again.",
        title="Drift of the medium",
        parameter="medium.correlation_frames",
        label="correlation time of the medium (frames)",
        values=(NO_DRIFT, 1e7, 1e6, 1e5, 1e4, 1e3),
        changes={"medium": {"type": "Drifting", "correlation_frames": NO_DRIFT}},
    ),
    "laser_drift": Flaw(
        summary="Slow drift of the laser's power, with a correlation time of 10 s instead of an hour.",
        title="Laser drift",
        parameter="laser.drift_rms",
        label="drift of the power within 10 s (relative rms)",
        values=(0.0, 0.005, 0.02, 0.05, 0.1),
        changes={"laser.drift_time_s": 10.0},
    ),
    "rin": Flaw(
        summary="Relative intensity noise of the laser.",
        title="Relative intensity noise",
        parameter="laser.rin_db_per_hz",
        label="relative intensity noise (dB/Hz)",
        values=(None, -140.0, -120.0, -100.0, -80.0, -60.0),
        log=False,
    ),
    "pointing": Flaw(
        summary="Pointing noise of the laser.",
        title="Pointing of the laser",
        parameter="laser.pointing_rad",
        label="pointing of the beam (rad rms per axis)",
        values=(0.0, 5e-6, 5e-5, 2e-4, 1e-3),
    ),
    "reference_phase": Flaw(
        summary="Phase noise of the reference arm; projections by phase stepping.",
        title="Phase noise of the reference arm",
        parameter="imaging.reference.phase_jitter_rad",
        label="phase jitter from frame to frame (rad rms)",
        values=(0.0, 0.03, 0.1, 0.3, 1.0, 3.0),
        calibration={"method": "phase-stepping"},
    ),
    "prnu": Flaw(
        summary="Pixels that respond unequally to light.",
        title="Non-uniform pixels",
        parameter="camera.prnu",
        label="photo-response non-uniformity (relative)",
        values=(0.0, 0.01, 0.05, 0.2),
    ),
    "dead_pixels": Flaw(
        summary="Pixels that do not respond to light; with too many, too few pixels remain.",
        title="Dead pixels",
        parameter="camera.dead_pixels",
        label="share of dead pixels",
        values=(0.0, 0.003, 0.01, 0.03, 0.05),
    ),
}
"""Flaws by name. All other parameters of a study are those of the plan's device, `lab_bench` by default."""
