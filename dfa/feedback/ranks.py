"""One device whose sensor the processes of a group share: calibration by all of them, feedback for the own blocks."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from calibration import LinearProjection
from calibration.device import Device, Wrapper, show
from dfa.arrays import to_array
from dfa.feedback.base import CodedFeedback
from dfa.feedback.encoding import Code, Encoder
from dfa.feedback.optical import OpticalFeedback
from photonics import OPU
from photonics.analysis.exposure import autoexpose
from photonics.arrays import Array, HostArray
from photonics.backend import HOST, Backend, to_host

__all__ = ["RankDevice", "RankFeedback", "check_ranks"]

Bands = list[tuple[int, int]]
"""Lines of the frame that each process computes, first and last plus 1; neighbours may have a line in common."""


class RankDevice(Wrapper):
    """A device whose pixels the processes of ``torch.distributed`` share, for calibration by all of them.

    Each process computes a band of the frame (`photonics.OPU.crop`), and sends its pixels to the others: frames are
    those of the whole device, bit for bit, in every process. So are exposures, calibrations and everything else that
    looks at the whole sensor. All processes must make the same calls in the same order.

    Parameters
    ----------
    opu : OPU
        The whole device, the same in every process; at least as many `OPU.lines` as there are processes. None of its
        matrix is drawn.
    group : ProcessGroup, optional
        The processes that share it: with replicas, those of a replica (``mesh.get_group(1)``). All by default.

    Attributes
    ----------
    sent : int
        Bytes of frames that this process has sent so far, counted once for each receiver.

    Raises
    ------
    ValueError
        If no process group is initialised, or the frame has too few lines.
    """

    def __init__(self, opu: OPU, group: dist.ProcessGroup | None = None) -> None:
        if not isinstance(opu, OPU):
            raise ValueError(f"opu must be an OPU, got {type(opu).__name__}")
        super().__init__(opu)
        if not dist.is_initialized():
            raise ValueError("torch.distributed must be initialised before RankDevice is created, got no process group")
        self.opu, self.seed, self.sent = opu, opu.seed, 0
        self.group, self.rank, self.world = group, dist.get_rank(group), dist.get_world_size(group)
        world, lines = self.world, opu.lines
        opu.part(0, world)  # refuses a world with more processes than lines
        self.assign([(lines * rank // world, lines * (rank + 1) // world) for rank in range(world)])

    @property
    def backend(self) -> Backend:
        """The host, whose memory the processes send to each other."""
        return HOST

    def assign(self, bands: Bands) -> None:
        """Give each process its lines, in the order of the ranks; together they must be the whole frame."""
        self._bands = bands
        share = self.opu.crop(*bands[self.rank])
        share.clock = self.opu.clock
        self.share = share

    @property
    def line(self) -> int:
        """Pixels in a line."""
        return self.opu.n_out // self.opu.lines

    @property
    def pixels(self) -> slice:
        """Pixels of the frame that this process computes."""
        first, stop = self._bands[self.rank]
        return slice(first * self.line, stop * self.line)

    @property
    def exposure_s(self) -> float:
        """Exposure of the camera, seconds; setting it sets that of this process only, so set it in all of them."""
        return self.opu.exposure_s

    @exposure_s.setter
    def exposure_s(self, value: float) -> None:
        self.opu.exposure_s = self.share.exposure_s = value

    @property
    def longest_exposure_s(self) -> float:
        """Longest exposure, seconds, as `OPU.longest_exposure_s`."""
        return self.opu.longest_exposure_s

    def autoexpose(self, target: float = 0.5, patterns: Array | None = None, *, reference_phase: Array = None) -> float:
        """Set the exposure as `OPU.autoexpose`, from frames of the whole sensor: the same in all processes."""
        return autoexpose(self, target, patterns, reference_phase=reference_phase)

    def measure(self, patterns: Array, exposure_s: float | None = None, *, reference_phase: Array = None) -> HostArray:
        """Frames of patterns, all pixels: (batch, n_in) -> (batch, n_out)."""
        return self._join(to_host(show(self.share, patterns, exposure_s, reference_phase=reference_phase)))

    def dark(self, count: int, exposure_s: float | None = None) -> HostArray:
        """Frames with the laser's shutter closed, all pixels: (count, n_out)."""
        return self._join(to_host(self.share.dark(count, exposure_s)))

    def _join(self, frames: HostArray) -> HostArray:
        """Send this process's pixels to all others, and return the pixels of all."""
        whole = np.empty((len(frames), self.n_out), frames.dtype)
        for rank, (first, stop) in enumerate(self._bands):
            pixels = slice(first * self.line, stop * self.line)
            own = rank == self.rank
            buffer = np.ascontiguousarray(frames if own else whole[:, pixels])
            dist.broadcast(torch.from_numpy(buffer.view(np.uint8)), group=self.group, group_src=rank)
            whole[:, pixels] = buffer
            self.sent += own * buffer.nbytes * (self.world - 1)
        return whole


class RankFeedback(OpticalFeedback):
    """Optical feedback of `LayerParallel` through one device that all processes share.

    Each process computes the pixels of its own blocks alone, and only the code reaches it. Signals are those of
    `OpticalFeedback` through the whole device in one process, bit for bit: block after block takes the next valid
    pixels of the sensor. The first step tells the processes each other's widths.

    Calibrations look at the whole sensor, in every process: their frames are sent to all (`RankDevice`). A device that
    moves is not followed (``refresh``), because each process would follow its own pixels; measure it again by
    `recalibrate_every`. A warning tells it if the calibration shows that it moves.

    Parameters
    ----------
    projection : LinearProjection
        Measured by all processes through a `RankDevice`, by any method but "off-axis".
    encoder : callable, optional
        As for `OpticalFeedback`; that of the last process is used.
    recalibrate_every : int
        Steps after which all processes measure the projection again, 0 for never.
    watch : bool
        As for `OpticalFeedback`, for the pixels of this process.

    Raises
    ------
    ValueError
        If the projection was not measured through a `RankDevice`, or its method needs the whole frame for a row.
    """

    def __init__(
        self,
        projection: LinearProjection,
        encoder: Encoder | None = None,
        *,
        recalibrate_every: int = 0,
        watch: bool = False,
    ) -> None:
        device = getattr(projection, "opu", None)
        if not isinstance(device, RankDevice):
            raise ValueError(f"projection must be measured through a RankDevice, got {projection!r:.80}")
        if projection.speed.moving and not recalibrate_every and device.rank == 0:
            warnings.warn(
                f"the device moves (a correlation time of {1.0 / projection.speed.rate:,.0f} frames) and is not "
                "followed if processes share it: set recalibrate_every so that few frames pass between calibrations",
                stacklevel=2,
            )
        every, again = recalibrate_every, self._measure_again
        super().__init__(projection, encoder, recalibrate_every=every, recalibrate=again, refresh=False, watch=watch)
        self._tracker = None  # each process would see the movement of its own pixels
        self._ranks, self._whole = device, projection
        projection.part(device.share, device.pixels)  # refuses a method that needs the whole frame
        self._device  # noqa: B018 (that of the whole device, kept)
        self._width: int | None = None
        self._skipped = 0

    def frames_of(self, code: Tensor) -> int:
        """Frames that the device takes to show codes, (rows, classes)."""
        shown = code[(code != 0).any(dim=1)]
        return self.projection.frames_of(to_array(shown)) if len(shown) else 0

    def skip(self, code: Code, others: tuple[int, int] = (0, 0)) -> None:
        """Count a step whose code teaches no block of this process."""
        self.signals(code, [], others=others)

    def _signals(self, code: Code, widths: Sequence[int], dtype: torch.dtype) -> list[Tensor]:
        width = sum(widths)
        if self._width is None:
            self._width = width
            self._take_pixels(width)
        if width > self._width:
            raise ValueError(
                f"blocks must not need more outputs than in the first step, whose {self._width} have pixels in this "
                f"process, got {width}"
            )
        if width:
            signals = super()._signals(code, widths, dtype)
            self._ranks.clock.advance(self._others[1])
            return signals
        if not self._rehearsing:
            self._keep_calibrated()
        frames = self.frames_of(code.values)
        self._ranks.clock.advance(frames + self._others[1])
        self._measured = {"frames": frames}
        return []

    def _keep_calibrated(self) -> None:
        """Measure the projection again if that is due; then the clock passes the frames of the replicas before."""
        super()._keep_calibrated()
        self._ranks.clock.advance(self._others[0])

    def _take_pixels(self, width: int) -> None:
        """Give every process the lines with the pixels of its blocks; the last one also takes those that nobody uses.

        An output is a valid pixel, or its real or imaginary part; a pixel of two blocks is in both processes.
        """
        device, world = self._ranks, self._ranks.world
        told = torch.zeros(world, dtype=torch.int64)
        told[device.rank] = width
        dist.all_reduce(told, group=device.group)
        ends = np.cumsum(told.numpy())
        self._check_size(self.projection.n_inputs, int(ends[-1]))
        rows, bands, lines, parts = self._rows.numpy(), [], device.opu.lines, self._parts
        places = [(int(end - w) // parts, -(-int(end) // parts)) for end, w in zip(ends, told.tolist(), strict=True)]
        for first, stop in places:
            after = min(bands[-1][1], lines - 1) if bands else 0
            used = rows[first:stop] // device.line
            bands.append((int(used[0]), int(used[-1]) + 1) if first < stop else (after, after + 1))
        starts = [0, *(first for first, _ in bands[1:]), lines]
        device.assign([(starts[r], max(bands[r][1], starts[r + 1])) for r in range(world)])
        first, stop = places[device.rank]
        self._skipped = int(ends[device.rank] - width) % parts
        self._rows = torch.from_numpy(rows[first:stop] - device.pixels.start)
        self._first = self._first[0].part(device.share, device.pixels), self._first[1]
        self._use(self._whole.part(device.share, device.pixels))

    def _project(self, code: Tensor, width: int) -> Tensor:
        return super()._project(code, self._skipped + width)[:, self._skipped :]

    def _measure_again(self, device: Device) -> LinearProjection:
        """Measure the projection by all processes, and return it, or its rows in this process."""
        self._ranks.exposure_s = device.exposure_s
        self._whole = self._whole.recalibrate()
        if self._width is None:
            return self._whole
        return self._whole.part(self._ranks.share, self._ranks.pixels)


def check_ranks(feedback: CodedFeedback | None, replicas: int) -> None:
    """Raise a ``ValueError`` if feedback does not fit processes that share a device, or the rows of a batch."""
    shared = isinstance(feedback, OpticalFeedback) and isinstance(feedback.projection.opu, RankDevice)
    if shared and not isinstance(feedback, RankFeedback):
        raise ValueError("feedback must be RankFeedback for a projection through a RankDevice, got OpticalFeedback")
    if replicas > 1 and isinstance(feedback, OpticalFeedback) and not isinstance(feedback, RankFeedback):
        raise ValueError("feedback must be RankFeedback if replicas share a device, got OpticalFeedback")
