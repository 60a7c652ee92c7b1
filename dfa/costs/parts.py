"""What a training step consists of: a network, the chips and links that train it, and the optical device."""

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from pydantic import field_validator, model_validator

from calibration import measure_projection
from calibration.projections.methods import METHODS, choose_method
from photonics import OPU, presets
from photonics.component import Field, choose, component

__all__ = ["Chips", "Device", "Links", "Network", "Share"]

ANGLES = {"imaging.reference.angle_x_rad": 0.0326, "imaging.reference.angle_y_rad": 0.0326}
"""Angles of the reference beam that off-axis holography needs."""
LARGEST = 2**53
"""Largest number of anything: all integers up to it are floats."""
HEADER_BYTES = 28
"""Bytes before a tensor between two processes, as `dfa.LayerParallel` sends them: type and shape."""


class Share(NamedTuple):
    """Blocks of one rank."""

    first: bool
    """Whether it holds the block that reads the input."""
    hidden: int
    """Number of its other hidden blocks."""
    last: bool
    """Whether it holds the output block."""

    @property
    def taught(self) -> int:
        """Number of its blocks that get a teaching signal: all hidden ones."""
        return self.first + self.hidden


@component
class Network:
    """A chain of fully connected blocks, as `dfa.models.mlp`, and the batch of a step."""

    width: int = Field(default=2048, ge=1, le=LARGEST)
    """Units of each hidden block."""
    depth: int = Field(default=8, ge=1, le=LARGEST)
    """Number of hidden blocks; an output block follows."""
    inputs: int = Field(default=784, ge=1, le=LARGEST)
    """Length of an input."""
    classes: int = Field(default=10, ge=1, le=LARGEST)
    """Length of the output, and of the error."""
    batch: int = Field(default=256, ge=1, le=LARGEST)
    """Rows of a step, each with an error of its own: samples, or tokens of all sequences."""
    micro_batches: int = Field(default=1, ge=1, le=LARGEST)
    """Parts of the batch that follow each other through the ranks (GPipe, arXiv:1811.06965)."""
    matrices: int = Field(default=1, ge=1, le=LARGEST)
    """Weights of a hidden block other than the first, in units of width x width: 1 for `mlp`, 12 for a transformer."""
    entries: int = Field(default=1, ge=1, le=LARGEST)
    """Those of the `matrices` that read the block's input: 1 for `mlp`, 3 for a transformer. Direct Feedback Alignment
    does not compute the gradient of this input."""

    @model_validator(mode="after")
    def _check_parts(self) -> "Network":
        if self.entries > self.matrices:
            raise ValueError(f"entries must be at most matrices ({self.matrices}), got {self.entries}")
        if self.micro_batches > self.batch:
            raise ValueError(f"micro_batches must be at most batch ({self.batch}), got {self.micro_batches}")
        return self

    @property
    def parameters(self) -> int:
        """Number of weights, without biases."""
        hidden = (self.depth - 1) * self.matrices * self.width**2
        return self.inputs * self.width + hidden + self.width * self.classes

    @property
    def rows(self) -> float:
        """Rows of a micro-batch."""
        return self.batch / self.micro_batches

    def shares(self, ranks: int) -> list[tuple[Share, int]]:
        """Blocks of a rank and the number of ranks that hold as many, as `dfa.LayerParallel` deals them out.

        The first is that of the first rank, the last that of the last.

        Raises
        ------
        ValueError
            If there are fewer blocks than ranks.
        """
        blocks = self.depth + 1
        if ranks > blocks:
            raise ValueError(f"links.ranks must be at most the {blocks} blocks of the network, got {ranks}")
        if ranks == 1:
            return [(Share(True, blocks - 2, True), 1)]
        few = blocks // ranks  # of a rank: this number, or one more
        last = blocks - self.blocks_before(ranks - 1, ranks)
        more = blocks - few - last - few * (ranks - 2)
        between = [(Share(False, few, False), ranks - 2 - more), (Share(False, few + 1, False), more)]
        found = [(Share(True, few - 1, False), 1), *between, (Share(False, last - 1, True), 1)]
        return [(share, count) for share, count in found if count]

    def blocks_before(self, rank: int, ranks: int) -> int:
        """Return the number of blocks on the ranks before `rank`."""
        return (self.depth + 1) * rank // ranks


@component
class Chips:
    """The processors, one for each rank. The defaults are those of a large GPU in 2024."""

    flops_per_s: float = Field(default=4e14, gt=0)
    """Rate of large products, operations/s (40 % of the 989e12 of an NVIDIA H100 SXM in bfloat16, by its data sheet;
    44 to 52 % of the peak are reported for training on A100, arXiv:2104.04473)."""
    half_size: float = Field(default=128.0, ge=0)
    """Smallest dimension of a product at which it has half of that rate (Hockney's n_1/2; 128 is the tile of a GPU's
    matrix units)."""
    memory_bytes_per_s: float = Field(default=2.5e12, gt=0)
    """Rate of the memory, bytes/s (75 % of the 3.35e12 of an H100 SXM, by its data sheet)."""
    call_s: float = Field(default=1e-5, ge=0)
    """Seconds of a call beside its work: 10 us to launch a kernel (estimate, right to a factor of 2)."""
    learner_s: float = Field(default=3e-4, ge=0)
    """Seconds of a step for the checks of `dfa.DirectFeedback` (0.1 to 0.3 ms on one core, by benchmarks/scaling.py);
    an optimised loop has none."""
    value_bytes: float = Field(default=2.0, gt=0)
    """Bytes of an activation or weight: 2 for bfloat16, 4 for float32."""
    update_bytes: float = Field(default=28.0, ge=0)
    """Bytes moved to update a weight: 28 for Adam in float32 (reads weight, gradient and two moments, writes three of
    them), 12 for plain SGD."""
    count: int | None = Field(default=None, ge=1, le=LARGEST)
    """Number of chips; None is one for each rank. Fewer are shared by ranks that work at the same time."""
    power_w: float = Field(default=700.0, ge=0)
    """Power of a chip that works, watts (H100 SXM, data sheet)."""
    idle_w: float = Field(default=100.0, ge=0)
    """Power of a chip that waits, watts (estimate, right to a factor of 2)."""


@component
class Links:
    """What connects the ranks, each of which holds consecutive blocks of the network (`dfa.LayerParallel`)."""

    ranks: int = Field(default=1, ge=1, le=LARGEST)
    """Number of processes."""
    bytes_per_s: float = Field(default=5e10, gt=0)
    """Rate from one rank to the next, bytes/s (400 Gbit/s, NDR InfiniBand)."""
    latency_s: float = Field(default=1e-5, ge=0)
    """Seconds from the sending of a short message to its arrival (estimate, right to a factor of 3)."""
    joules_per_byte: float = Field(default=2e-10, ge=0)
    """Energy to move a byte, joules (25 pJ/bit, switches included; estimate, right to a factor of 3)."""

    def message_s(self, size: float) -> float:
        """Seconds for a tensor of `size` bytes and the header before it."""
        return 2 * self.latency_s + (size + HEADER_BYTES) / self.bytes_per_s


@component
class Device:
    """The optical device, in the figures that a step's time and energy depend on.

    The defaults are those of `photonics.presets.lighton_aurora` with the method "anchor". `Device.of` takes them from
    any device.
    """

    method: str = Field(default="anchor", json_schema_extra={"enum": [*METHODS]})
    """How a projection is measured, which decides the frames: see `frames`."""
    frame_rate_hz: float = Field(default=2000.0, gt=0, le=5e14)
    """Frames per second (lightonml 1.4.3: 500 us per frame; devices of 340 Hz to 1.9 kHz are reported). No frame is
    shorter than a period of light, 2 fs."""
    power_w: float = Field(default=30.0, ge=0)
    """Electrical power of the device, watts, all the time (under 30 W: arXiv:2409.12965v2, abstract)."""
    pixels: int = Field(default=2040 * 1088, ge=1, le=LARGEST)
    """Pixels of the sensor (lightonml 1.4.3)."""
    inputs: int = Field(default=1140 * 912, ge=1, le=LARGEST)
    """Inputs: largest number of classes (lightonml 1.4.3)."""
    count: int | None = Field(default=None, ge=1, le=LARGEST)
    """Number of devices; None is one for each rank, and more if the blocks have more units than they have outputs.
    Fewer devices than ranks send teaching signals over the links."""
    shown: float = Field(default=1.0, gt=0, le=1)
    """Share of the errors that are shown; empty codes take no frame. It falls during a training."""
    nonzero: int | None = Field(default=None, ge=1, le=LARGEST)
    """Entries of a code that are not 0, for methods that show them one at a time ("reference-pairs"); None is all."""
    pixel_bytes: float = Field(default=9.0, ge=0)
    """Bytes that a chip moves for a pixel of a frame: reads 1, adds it to a float32 (8)."""

    @field_validator("method")
    @classmethod
    def _check_method(cls, method: str) -> str:
        choose(METHODS, method, "method")
        return method

    @classmethod
    def of(cls, opu: OPU, method: str = "anchor", count: int | None = None) -> "Device":
        """Return the figures of a device: its frame rate, its electrical power, its pixels and inputs.

        Raises
        ------
        ValueError
            If the device has no `electrical_power_w`.
        """
        if opu.electrical_power_w is None:
            raise ValueError("opu must have electrical_power_w, the power from the wall in watts, got None")
        return cls(
            method=method,
            frame_rate_hz=1.0 / opu.frame_period_s,
            power_w=opu.electrical_power_w,
            pixels=opu.n_out,
            inputs=opu.n_in,
            count=count,
        )

    def frames(self, network: Network) -> float:
        """Frames of a step: those that the projection method takes for a ternary code, for each shown error."""
        used = network.classes if self.nonzero is None else min(self.nonzero, network.classes)
        two, four, _ = probe(self.method)
        per_error = two + max(used - 2, 0) * (four - two) / 2 if used > 1 else two / 2
        return self.shown * network.batch * per_error

    def needed(self, network: Network, ranks: int) -> int:
        """Number of devices.

        Raises
        ------
        ValueError
            If a device has fewer inputs than there are classes, or `count` devices have too few outputs.
        """
        if network.classes > self.inputs:
            raise ValueError(f"device.inputs must be at least network.classes ({network.classes}), got {self.inputs}")
        outputs = network.width * network.depth
        needed = math.ceil(outputs / (self.pixels * probe(self.method)[2]))
        if self.count is None:
            return max(needed, ranks)
        if self.count < needed:
            raise ValueError(f"device.count must be at least {needed} for {outputs} hidden units, got {self.count}")
        return self.count


@cache
def probe(method: str) -> tuple[int, int, int]:
    """Frames for a ternary code with two and with four entries, and outputs of a pixel, from a small projection."""
    opu = presets.ideal(64, 1024)
    if method == "off-axis":
        opu = opu.replace(**{"imaging.numerical_aperture": 0.015, **ANGLES})
    projection = measure_projection(opu, method=choose_method(method), n_inputs=8)
    codes = np.array([[1, -1, 0, 0, 0, 0, 0, 0], [1, -1, 1, -1, 0, 0, 0, 0]])
    two, four = (projection.frames_of(code[None]) for code in codes)
    return two, four, 2 if np.issubdtype(projection.dtype, np.complexfloating) else 1
