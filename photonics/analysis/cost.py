"""Cost of frames on the real bench in seconds and joules, with sources."""

from dataclasses import dataclass

from photonics.chain import Chain
from photonics.component import documentation, integer
from photonics.parts.camera import Camera
from photonics.parts.dmd import DMD
from photonics.parts.laser import Laser

__all__ = ["Energy", "Timing", "energy", "timing"]


@dataclass(frozen=True)
class Timing:
    """Duration of frames taken one after the other, without transfers to and from the host."""

    frames: int
    frame_s: float
    """Seconds from one frame to the next."""
    seconds: float
    limit: str
    """Part that limits the frame rate: "dmd" or "camera"."""
    latency_s: float
    """Seconds from the arrival of a pattern at the mirrors to the end of its exposure: load, settle, expose."""
    sources: dict[str, str]
    """Source of each figure."""

    def __repr__(self) -> str:
        return f"Timing({self.seconds:.4g} s for {self.frames} frames, {self.frame_s:.4g} s each, limit: {self.limit})"


@dataclass(frozen=True)
class Energy:
    """Energy that the whole device draws from the wall for frames."""

    frames: int
    watts: float
    joules: float
    joules_per_frame: float
    optical_joules: float
    """Energy emitted by the laser in that time."""
    joules_per_multiplication: float
    """Energy per complex multiplication; a frame makes one for each entry of the matrix."""
    sources: dict[str, str]
    """Source of each figure."""

    def __repr__(self) -> str:
        return f"Energy({self})"

    def __str__(self) -> str:
        _, _, source = self.sources["electrical_power_w"].partition(": ")
        return (
            f"{self.joules:.4g} J for {self.frames} frames, {self.joules_per_frame:.4g} J each, at {self.watts:g} W "
            f"from the wall; source of the power: {source}"
        )


def timing(chain: Chain, frames: int) -> Timing:
    """Time that `frames` frames take on the bench; the slower of mirrors and camera sets the frame rate.

    Raises
    ------
    ValueError
        If `frames` is not an integer of 0 or more.
    """
    frames, dmd = integer(frames, "frames", 0), chain.dmd
    limit = "dmd" if dmd.frame_rate_hz < chain.camera.frame_rate_hz else "camera"
    sources = {
        "dmd.frame_rate_hz": source(dmd, "frame_rate_hz"),
        "camera.frame_rate_hz": source(chain.camera, "frame_rate_hz"),
        "dmd.load_s": source(dmd, "load_s"),
        "dmd.settle_s": source(dmd, "settle_s"),
        "exposure_s": f"{chain.exposure_s!r}: set on the device",
    }
    latency = dmd.load_s + dmd.settle_s + chain.exposure_s
    return Timing(frames, chain.frame_period_s, frames * chain.frame_period_s, limit, latency, sources)


def energy(chain: Chain, frames: int, watts: float, power_source: str) -> Energy:
    """Energy that `frames` frames take on the bench, which draws `watts` from the wall (source: `power_source`).

    Raises
    ------
    ValueError
        If `frames` is not an integer of 0 or more.
    """
    duration = timing(chain, frames)
    sources = {
        "electrical_power_w": f"{watts!r}: {power_source}",
        "laser.power_w": source(chain.laser, "power_w"),
        "frame_s": duration.sources[f"{duration.limit}.frame_rate_hz"],
    }
    per_frame = watts * duration.frame_s
    optical = chain.laser.power_w * duration.seconds
    return Energy(frames, watts, watts * duration.seconds, per_frame, optical, per_frame / chain.entries, sources)


def source(part: Laser | DMD | Camera, name: str) -> str:
    """Value of a parameter and its documentation."""
    return f"{getattr(part, name)!r}: {documentation(part, name)}"
