"""Time and energy of one training step, term by term.

With b rows, a product of (b, k) and (k, n) takes the larger of its arithmetic ``2 b k n / F (1 + h / min(b, k, n))``
and its traffic ``v (b k + k n + b n) / M`` (roofline: Williams et al., CACM 52, 65, 2009; half size h: Hockney's
n_1/2), and the time of a call. F, h, M and v are fields of `Chips`. The forward pass has one product for each matrix,
the backward pass one for its gradient, and backpropagation one more for the gradient of the input. Direct Feedback
Alignment leaves out those that lead to the block before (A. Nokland, arXiv:1609.01596), and computes ``e B`` instead,
or lets the device do so (J. Launay et al., arXiv:2012.06373).

Ranks hold consecutive blocks. Their forward passes follow each other, and so do the backward passes of
backpropagation. In Direct Feedback Alignment the error is sent to all ranks, which then work at the same time.
"""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from dfa.costs.parts import HEADER_BYTES, Chips, Device, Links, Network, Share

__all__ = ["METHODS", "Method", "Step", "step"]

Method = Literal["bp", "dfa", "optical"]
METHODS: tuple[Method, ...] = get_args(Method)
"""Backpropagation; Direct Feedback Alignment on the same chips; through the device."""
ACTIVATE, DERIVE, LOSS, SIGNAL, ENCODE = 3, 5, 3, 4, 8
"""Values moved for each output of a block forward (sum and activation) and backward, for each class by the loss, for
each teaching signal by its scale, and for each entry of the error by its encoding."""
CALLS_OF_SIGNAL = 6
"""Calls for a teaching signal beside its projection."""
CODE_BYTES = 0.25
"""Bytes of an entry of a ternary code."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """Cost of one step by one method. The terms of the time add up to `seconds`."""

    method: Method
    forward_s: float
    """Forward passes, one rank after the other."""
    backward_s: float
    """Backward passes: one rank after the other in backpropagation, else the longest."""
    feedback_s: float
    """Encoding of the error and its projection on chips, or the chips' part of reading the device's frames."""
    device_s: float
    """Frames of the device."""
    links_s: float
    """Transfers that nothing hides."""
    update_s: float
    """Update of the weights on the rank that is last to finish."""
    joules: float
    """Energy of chips, links and devices."""
    device_joules: float
    """Energy of the devices alone."""
    link_bytes: float
    """Bytes over all links."""
    frames: float
    """Frames that each device takes."""
    devices: int
    seconds: float = field(init=False)

    def __post_init__(self) -> None:
        """Add the terms."""
        terms = self.forward_s, self.backward_s, self.feedback_s, self.device_s, self.links_s, self.update_s
        object.__setattr__(self, "seconds", sum(terms))


@dataclass(frozen=True)
class Work:
    """Seconds of one rank for one micro-batch, and for the update after the last."""

    forward: float
    backward: float
    feedback: float
    update: float


def product(chips: Chips, b: float, k: float, n: float) -> float:
    """Seconds of a product of (b, k) and (k, n)."""
    arithmetic = 2.0 * b * k * n / chips.flops_per_s * (1.0 + chips.half_size / min(b, k, n))
    return chips.call_s + max(arithmetic, moving(chips, b * k + k * n + b * n))


def moving(chips: Chips, values: float) -> float:
    """Seconds to move values between a chip and its memory."""
    return values * chips.value_bytes / chips.memory_bytes_per_s


def work(network: Network, chips: Chips, device: Device, share: Share, method: Method) -> Work:
    """Seconds of one rank."""
    b, n, bp = network.rows, network.width, method == "bp"
    blocks = [
        (network.inputs, n, 1, 1, share.first, True),
        (n, n, network.matrices, network.entries, share.hidden, False),
    ]
    blocks.append((n, network.classes, 1, 1, share.last, False))
    forward = backward = weights = 0.0
    for k, out, matrices, entries, count, is_input in blocks:
        ahead, gradient, back = product(chips, b, k, out), product(chips, k, b, out), product(chips, b, out, k)
        inner = matrices if bp and not is_input else matrices - entries
        forward += count * (matrices * ahead + moving(chips, ACTIVATE * b * out) + chips.call_s)
        backward += count * (matrices * gradient + inner * back + moving(chips, DERIVE * b * out) + chips.call_s)
        weights += count * matrices * k * out
    loss = share.last * (moving(chips, LOSS * b * network.classes) + 2 * chips.call_s)
    feedback = 0.0 if bp else feedback_of(network, chips, device, share, method)
    calls = (share.first + share.hidden * network.matrices + share.last) * chips.call_s
    return Work(forward, backward + loss, feedback, weights * chips.update_bytes / chips.memory_bytes_per_s + calls)


def feedback_of(network: Network, chips: Chips, device: Device, share: Share, method: Method) -> float:
    """Seconds of a rank for the teaching signals of its blocks, without the frames."""
    outputs = share.taught * network.width
    encoding = share.last * (moving(chips, ENCODE * network.rows * network.classes) + chips.learner_s)
    if not outputs:
        return encoding
    scaling = moving(chips, SIGNAL * network.rows * outputs) + CALLS_OF_SIGNAL * share.taught * chips.call_s
    if method == "dfa":
        return encoding + scaling + product(chips, network.rows, network.classes, outputs)
    frames = device.frames(network) / network.micro_batches
    return encoding + scaling + frames * outputs * device.pixel_bytes / chips.memory_bytes_per_s


def step(network: Network, chips: Chips, links: Links, device: Device, method: Method) -> Step:
    """Cost of one training step.

    Parameters
    ----------
    network : Network
    chips : Chips
    links : Links
    device : Device
        Used by the method "optical" only.
    method : {"bp", "dfa", "optical"}

    Raises
    ------
    ValueError
        If there are fewer blocks than ranks, the device is too small for the network, or a time or an energy is not a
        finite number.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    works = [(work(network, chips, device, share, method), count) for share, count in network.shares(links.ranks)]
    devices = device.needed(network, links.ranks) if method == "optical" else 0
    frames = device.frames(network) if devices else 0.0
    parts = network.micro_batches
    crowd = max(1.0, links.ranks / (chips.count or links.ranks))  # ranks that share a chip when all work at once
    tensor = network.rows * network.width * chips.value_bytes
    hop = links.message_s(tensor) if links.ranks > 1 else 0.0
    forward, waiting = pipeline([(w.forward, count) for w, count in works], hop, parts, crowd)
    if method == "bp":
        backward, more = pipeline([(w.backward, count) for w, count in works], hop, parts, crowd)
        feedback, returned, update = 0.0, (links.ranks - 1) * parts * (tensor + HEADER_BYTES), works[0][0].update
    else:
        busiest = max((w for w, _ in works), key=lambda w: w.backward + w.feedback + w.update)
        backward, feedback = crowd * parts * busiest.backward, crowd * parts * busiest.feedback
        update = crowd * busiest.update
        more, returned = distribute(network, chips, links, devices)
    sent = (links.ranks - 1) * parts * (tensor + HEADER_BYTES) + returned
    device_s = frames / device.frame_rate_hz
    seconds = forward + backward + feedback + device_s + waiting + more + update
    busy = sum(count * (parts * (w.forward + w.backward + w.feedback) + w.update) for w, count in works)
    joules = energy(chips, links, seconds, busy) + sent * links.joules_per_byte
    if not math.isfinite(seconds) or not math.isfinite(joules):
        raise ValueError(
            "parameters of network, chips, links and device must give finite times and energies (a rate is too small "
            f"or a size too large), got {seconds:.3g} s and {joules:.3g} J by {method}"
        )
    light = devices * device.power_w * seconds
    return Step(
        method=method, forward_s=forward, backward_s=backward, feedback_s=feedback, device_s=device_s,
        links_s=waiting + more, update_s=update, joules=joules + light, device_joules=light, link_bytes=sent,
        frames=frames, devices=devices,
    )  # fmt: skip


def energy(chips: Chips, links: Links, seconds: float, busy: float) -> float:
    """Joules of all chips in a step, of whose time they work `busy` seconds together."""
    return busy * chips.power_w + max((chips.count or links.ranks) * seconds - busy, 0.0) * chips.idle_w


def pipeline(works: list[tuple[float, int]], hop: float, parts: int, crowd: float) -> tuple[float, float]:
    """Seconds of work and of waiting for links, for micro-batches that pass the ranks one after the other.

    The first takes ``sum(works) + (R - 1) hop``, each of the others as long as the slowest rank or link. `works` has
    the seconds of a rank, and the number of ranks that take as long.
    """
    slowest = crowd * max(seconds for seconds, _ in works)
    waiting = (sum(count for _, count in works) - 1) * hop + (parts - 1) * max(hop - slowest, 0.0)
    return sum(count * seconds for seconds, count in works) + (parts - 1) * slowest, waiting


def distribute(network: Network, chips: Chips, links: Links, devices: int) -> tuple[float, float]:
    """Seconds and bytes to send ternary codes to the ranks, and signals to the first ranks if they have no device."""
    if links.ranks == 1:
        return 0.0, 0.0
    codes = math.ceil(network.batch * network.classes * CODE_BYTES) + network.micro_batches * HEADER_BYTES
    without = max(links.ranks - devices, 0) if devices else 0
    taught = network.blocks_before(without, links.ranks)
    signals = taught * network.batch * network.width * chips.value_bytes
    size = (links.ranks - 1 - without) * codes + signals + without * network.micro_batches * HEADER_BYTES
    return 2 * links.latency_s + size / links.bytes_per_s, size
