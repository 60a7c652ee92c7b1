"""The flaws of a device that are worth a study: which parameter each is, and from where to where it is swept."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["FLAWS", "Flaw"]

STILL = 1e12
"""Correlation time of a medium that does not move in any run, frames."""


@dataclass(frozen=True, kw_only=True)
class Flaw:
    """One parameter, and the values that tell what it costs."""

    title: str
    parameter: str
    """Dotted name, see `dfa.robustness.names.change_plan`."""
    label: str
    """Of the axis, with the unit."""
    values: tuple[Any, ...]
    """From none of the flaw to far too much of it."""
    worse: Any
    """What a bad bench has, for the budget: about ten times `lab_bench` or, where that has none, a plain estimate."""
    log: bool = True
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Of the device, for the curve: without them the flaw would not be seen alone."""
    calibration: Mapping[str, Any] = field(default_factory=dict)
    """How the projection must be measured for this flaw to matter."""
    removable: bool = True
    """Whether the bench could be without it, all else as it is."""

    @property
    def without(self) -> Any:
        """The value at which the flaw is not there."""
        return self.values[0]


UNHURRIED = {"camera.frame_rate_hz": 1.0}
"""For exposures that are longer than a frame of the bench."""

FLAWS = {
    "shot_noise": Flaw(
        title="Shot noise",
        parameter="camera.full_well_e",  # the exposure follows it, so light and noise do
        label="full well (e-)",
        values=(1e7, 10_000.0, 1000.0, 300.0, 100.0, 30.0),
        worse=1000.0,
        removable=False,  # there is not so much light
        changes=UNHURRIED | {"camera.read_noise_e": 0.0, "camera.dsnu_e": 0.0, "camera.dark_current_e_per_s": 0.0},
    ),
    "read_noise": Flaw(
        title="Read noise",
        parameter="camera.read_noise_e",
        label="read noise (electrons rms)",
        values=(0.0, 2.5, 10.0, 30.0, 100.0, 200.0),
        worse=25.0,
    ),
    "bit_depth": Flaw(
        title="Bit depth",
        parameter="camera.bit_depth",
        label="bits per pixel",
        values=(16, 8, 6, 5, 4, 3),
        worse=5,
        log=False,
    ),
    "saturation": Flaw(
        title="Exposure",
        parameter="training.exposure",
        label="exposure (multiples of what a person would set)",
        values=(1.0, 0.02, 0.1, 0.3, 3.0, 10.0, 50.0),
        worse=2.0,
        changes=UNHURRIED,
    ),
    "contrast": Flaw(
        title="DMD contrast",
        parameter="dmd.contrast",
        label="contrast of the mirrors (all ON over all OFF)",
        values=(None, 1000.0, 100.0, 30.0, 10.0, 3.0),
        worse=100.0,
    ),
    "stuck_mirrors": Flaw(
        title="Stuck mirrors",
        parameter="dmd.stuck_fraction",
        label="share of mirrors that do not move",
        values=(0.0, 0.001, 0.01, 0.1, 0.3, 0.6),
        worse=0.01,
    ),
    "medium_drift": Flaw(
        title="Drift of the medium",
        parameter="medium.correlation_frames",
        label="correlation time of the medium (frames)",
        values=(STILL, 1e7, 1e6, 1e5, 1e4, 1e3),
        worse=1e6,
        changes={"medium": {"type": "Drifting", "correlation_frames": STILL}},
    ),
    "laser_drift": Flaw(
        title="Laser drift",
        parameter="laser.drift_rms",
        label="drift of the power within 10 s (relative rms)",
        values=(0.0, 0.005, 0.02, 0.05, 0.1),
        worse=0.05,
        changes={"laser.drift_time_s": 10.0},
    ),
    "rin": Flaw(
        title="Relative intensity noise",
        parameter="laser.rin_db_per_hz",
        label="relative intensity noise (dB/Hz)",
        values=(None, -140.0, -120.0, -100.0, -80.0, -60.0),
        worse=-100.0,
        log=False,
    ),
    "pointing": Flaw(
        title="Pointing of the laser",
        parameter="laser.pointing_rad",
        label="pointing of the beam (rad rms per axis)",
        values=(0.0, 5e-6, 5e-5, 2e-4, 1e-3),
        worse=5e-5,
    ),
    "reference_phase": Flaw(
        title="Phase noise of the reference arm",
        parameter="imaging.reference.phase_jitter_rad",
        label="phase jitter from frame to frame (rad rms)",
        values=(0.0, 0.03, 0.1, 0.3, 1.0, 3.0),
        worse=0.3,
        calibration={"method": "phase-stepping"},
    ),
    "prnu": Flaw(
        title="Non-uniform pixels",
        parameter="camera.prnu",
        label="photo-response non-uniformity (relative)",
        values=(0.0, 0.01, 0.05, 0.2),
        worse=0.1,
    ),
    "dead_pixels": Flaw(
        title="Dead pixels",
        parameter="camera.dead_pixels",
        label="share of dead pixels",
        values=(0.0, 0.003, 0.01, 0.03, 0.05),
        worse=0.01,
    ),
}
"""By name. Every other parameter of a study is that of `lab_bench`, or of the device that the plan names."""
