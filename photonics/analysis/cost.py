"""What a job costs on the real bench: frames, seconds and joules, each figure with its source."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from photonics.component import integer

if TYPE_CHECKING:
    from photonics.opu import OPU

__all__ = ["Energy", "Timing", "energy", "timing"]


@dataclass(frozen=True)
class Timing:
    """Time that frames take, one after the other. Transfers to and from the host are not counted."""

    frames: int
    frame_s: float
    """Seconds from one frame to the next."""
    seconds: float
    limit: str
    """Which part sets the pace: "dmd" or "camera"."""
    latency_s: float
    """Seconds from a pattern's arrival at the mirrors to the end of its exposure: load, settle, expose."""
    sources: dict[str, str]
    """Where each figure comes from."""


@dataclass(frozen=True)
class Energy:
    """Energy that frames take, of the whole device at the wall."""

    frames: int
    watts: float
    joules: float
    joules_per_frame: float
    optical_joules: float
    """What the laser emits in that time."""
    joules_per_multiplication: float
    """Over the complex multiplications of the product that each frame makes, one for each entry of the matrix."""
    sources: dict[str, str]
    """Where each figure comes from."""


def timing(opu: "OPU", frames: int) -> Timing:
    """Time that `frames` frames take on the device's bench; the slower of mirrors and camera leads.

    Raises
    ------
    ValueError
        If `frames` is not an integer of 0 or more.
    """
    frames, dmd = integer(frames, "frames", 0), opu.dmd
    limit = "dmd" if dmd.frame_rate_hz < opu.camera.frame_rate_hz else "camera"
    sources = {
        "dmd.frame_rate_hz": source(dmd, "frame_rate_hz"),
        "camera.frame_rate_hz": source(opu.camera, "frame_rate_hz"),
        "dmd.load_s": source(dmd, "load_s"),
        "dmd.settle_s": source(dmd, "settle_s"),
        "exposure_s": f"{opu.exposure_s!r}: set on the device",
    }
    latency = dmd.load_s + dmd.settle_s + opu.exposure_s
    return Timing(frames, opu.frame_period_s, frames * opu.frame_period_s, limit, latency, sources)


def energy(opu: "OPU", frames: int) -> Energy:
    """Energy that `frames` frames take on the device's bench: its power at the wall for as long as they last.

    Raises
    ------
    ValueError
        If `frames` is not an integer of 0 or more.
    """
    took = timing(opu, frames)
    watts = opu.electrical_power_w
    sources = {
        "electrical_power_w": f"{watts!r}: {opu.power_source}",
        "laser.power_w": source(opu.laser, "power_w"),
        "frame_s": took.sources[f"{took.limit}.frame_rate_hz"],
    }
    per_frame = watts * took.frame_s
    optical = opu.laser.power_w * took.seconds
    return Energy(frames, watts, watts * took.seconds, per_frame, optical, per_frame / opu.entries, sources)


def source(part: Any, name: str) -> str:
    """Value of a parameter and what its documentation says of it."""
    documentation = type(part).__pydantic_fields__[name].description or ""
    return f"{getattr(part, name)!r}: {' '.join(documentation.split())}"
