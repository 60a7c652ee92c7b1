"""Measured training steps beside those that `dfa.scaling` predicts, with constants fitted on other points.

``python -m benchmarks.scaling [--out FILE]`` prints the table, on Linux as root (see `benchmarks.scaling_ranks`). A
step in one process is processor time of one thread, median of 15. In an optical step the time in which the simulated
device computes frames is left out, and its frames count with the device's frame period. Steps of several ranks are
wall time without the waits for a processor.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from benchmarks.machine import machine
from benchmarks.report import save
from benchmarks.scaling_ranks import run_ranks, seconds_of, sizes
from calibration import measure_projection
from dfa import DirectFeedback, OpticalFeedback, RandomFeedback, Ternary
from dfa.costs import Chips, Device, Links, Network, step
from dfa.costs.steps import CALLS_OF_SIGNAL, Method
from dfa.models import mlp
from dfa.training.steps import take_step
from photonics import OPU, presets

__all__ = ["Point", "fit_chips", "one_process", "predict", "several_ranks"]

PRODUCTS = ((64, 256, 256), (64, 1024, 1024), (128, 512, 512), (256, 256, 256), (128, 2048, 512), (128, 1024, 10))
"""Shapes (b, k, n) of the products on which rate and half size are fitted, forward and for the gradient."""
COPIES = 8
"""Arrays of each size, so that they come from memory as in a network."""
NETWORKS = (
    Network(width=1024, depth=2, batch=128),
    Network(width=256, depth=8, batch=64),
    Network(width=2048, depth=3, inputs=256, batch=256),
    Network(width=512, depth=4, classes=1000, batch=96),
)
"""Networks of one process."""
CHAIN = Network(width=768, depth=7, batch=256)
"""Network of the ranks."""
RATES = (50e6 / 8, 200e6 / 8, 1e9 / 8)
"""Rates of the links, bytes/s."""
REPEATS, STEPS = 15, 12
FRAME_RATE_HZ = 20_000.0
"""Frame rate of the simulated device: its frames then take about as long as the chip's part of a step."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """A measured step, and what the model needs to predict it."""

    rule: str
    """bp, dfa, optical; "read" is the chip's part of "optical"; "clocked" is DFA on chips that waits for frames."""
    network: Network
    links: Links
    device: Device
    measured_s: float
    busy_s: float | None = None
    """Wall time with the waits for a processor."""
    sent: int | None = None
    """Bytes that the code sent in a step."""
    wire: int | None = None
    """Bytes that the interface sent in a step, with the headers of packets."""

    def __str__(self) -> str:
        n, rate = self.network, 8 * self.links.bytes_per_s / 1e6
        ranks = "" if self.links.ranks == 1 else f", {self.links.ranks} ranks, {rate:.0f} Mbit/s"
        return f"{self.rule}, {n.inputs}-{n.width} x {n.depth}-{n.classes}, batch {n.batch}{ranks}"


def predict(point: Point, chips: Chips) -> float:
    """Return the seconds of a point by the model."""
    if point.links.ranks > 1:
        chips = replace(chips, learner_s=0.0)  # that of `DirectFeedback`
    by: dict[str, Method] = {"clocked": "dfa", "read": "optical", "bp": "bp", "dfa": "dfa", "optical": "optical"}
    found = step(point.network, chips, point.links, point.device, by[point.rule])
    frames_s = point.device.frames(point.network) / point.device.frame_rate_hz
    return found.seconds + {"clocked": frames_s, "read": -found.device_s}.get(point.rule, 0.0)


def median_cpu_s(call: Callable[[], object], repeats: int = REPEATS) -> float:
    """Median processor time of a call, after one that is not counted."""
    call()
    took = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        took.append(time.process_time() - start)
    return statistics.median(took)


def fit_chips() -> tuple[Chips, float]:
    """Return the constants of one core, and the bytes that it moves for a pixel; none from a network that is predicted.

    Memory: tanh and its derivative. Calls, learner: steps of 20 blocks of 8 units. Update: SGD on 4e6 weights.
    """
    inputs = [torch.randn(256, 256, requires_grad=True) for _ in range(COPIES)]
    moved = 8 * 4 * COPIES * 256**2  # as the model counts them: 3 values forward and 5 backward
    memory = moved / median_cpu_s(lambda: [torch.tanh(x).backward(x.detach()) for x in inputs])
    small = Network(width=8, depth=20, inputs=8, batch=4)
    free = Chips(flops_per_s=1e18, half_size=0, memory_bytes_per_s=1e18, call_s=1.0)
    calls = step(small, free, Links(), Device(), "bp").seconds
    alone = median_cpu_s(taking(small, None), 100)
    call_s = alone / calls
    learner_s = median_cpu_s(taking(small, RandomFeedback(0)), 100) - alone - 20 * CALLS_OF_SIGNAL * call_s
    weights = nn.Linear(2000, 2000)
    weights.weight.grad = torch.randn(2000, 2000)
    optimiser = torch.optim.SGD([weights.weight], 1e-4)
    update_bytes = median_cpu_s(optimiser.step) * memory / 4e6
    rate, half = fit_products(call_s)
    chips = Chips(
        flops_per_s=rate, half_size=half, memory_bytes_per_s=memory, call_s=call_s, learner_s=max(learner_s, 0.0),
        value_bytes=4.0, update_bytes=update_bytes, power_w=0.0, idle_w=0.0,
    )  # fmt: skip
    return chips, fit_pixel_bytes(chips)


def fit_products(call_s: float) -> tuple[float, float]:
    """Rate and half size of products: least squares of the logarithms of their times."""
    took = []
    for b, k, n in PRODUCTS:
        x, w, g = ([torch.randn(*shape) for _ in range(COPIES)] for shape in ((b, k), (n, k), (b, n)))
        forward = median_cpu_s(lambda x=x, w=w: [nn.functional.linear(*both) for both in zip(x, w, strict=True)])
        gradient = median_cpu_s(lambda x=x, g=g: [b.T @ a for a, b in zip(x, g, strict=True)])
        took.append((forward + gradient) / (2 * COPIES) - call_s)
    best = (np.inf, 0.0, 0.0)
    for half in np.linspace(0, 60, 121):
        rates = np.log([2 * b * k * n * (1 + half / min(b, k, n)) for b, k, n in PRODUCTS]) - np.log(took)
        best = min(best, (float(rates.std()), float(np.exp(rates.mean())), float(half)))
    return best[1], best[2]


def fit_pixel_bytes(chips: Chips) -> float:
    """Bytes that a chip moves for a pixel of a frame: a projection of 64 codes to 1500 outputs, without its frames."""
    opu = presets.lab_bench(40, 1500)
    projection = measure_projection(opu, n_inputs=20)
    codes = np.random.default_rng(0).integers(-1, 2, (64, 20)).astype(np.int8)
    took = chip_seconds(lambda: projection(codes))
    return took * chips.memory_bytes_per_s / (projection.frames_of(codes) * 1500)


def chip_seconds(call: Callable[[], object]) -> float:
    """Median processor time of a call without that of `OPU.measure`."""
    measure, spent = OPU.measure, 0.0

    def timed(*arguments: Any, **more: Any) -> Any:
        nonlocal spent
        start = time.process_time()
        frames = measure(*arguments, **more)
        spent += time.process_time() - start
        return frames

    took = []
    with mock.patch.object(OPU, "measure", timed):
        call()
        for _ in range(REPEATS):
            spent, start = 0.0, time.process_time()
            call()
            took.append(time.process_time() - start - spent)
    return statistics.median(took)


def taking(network: Network, feedback: RandomFeedback | OpticalFeedback | None) -> Callable[[], object]:
    """Return a call that takes a training step on random rows, whose errors stay large."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(network.batch, network.inputs, generator=generator)
    y = torch.randint(0, network.classes, (network.batch,), generator=generator)
    model = mlp(sizes(network))
    learner = None if feedback is None else DirectFeedback(model, feedback=feedback)
    optimiser = torch.optim.SGD(model.parameters(), 1e-4)

    def call() -> None:
        output = model(x)
        take_step(cross_entropy(output, y), output, optimiser, learner)

    return call


def one_process(network: Network, pixel_bytes: float) -> Iterator[Point]:
    """Steps by the three methods in one process; the optical one only for few classes."""
    feedback = RandomFeedback(0, Ternary(threshold=1e-4))
    rest: dict[str, Any] = {"network": network, "links": Links(), "device": Device()}
    yield Point(rule="bp", measured_s=median_cpu_s(taking(network, None)), **rest)
    yield Point(rule="dfa", measured_s=median_cpu_s(taking(network, feedback)), **rest)
    if network.classes > 100:
        return
    opu = presets.lab_bench(2 * network.classes, int(1.2 * network.width * network.depth))
    projection = measure_projection(opu, n_inputs=network.classes)
    call = taking(network, OpticalFeedback(projection, Ternary(threshold=1e-4), refresh=False))
    took, before = chip_seconds(call), opu.clock.frames
    call()
    frames = opu.clock.frames - before
    rest["device"] = replace(Device.of(opu), frame_rate_hz=FRAME_RATE_HZ, pixel_bytes=pixel_bytes)
    yield Point(rule="optical", measured_s=took + frames / FRAME_RATE_HZ, **rest)
    yield Point(rule="read", measured_s=took, **rest)


def several_ranks() -> Iterator[Point]:
    """Steps by backpropagation and ternary DFA on 2 and 4 ranks, and one with the clock of a device in each rank."""
    device, latency_s = Device(frame_rate_hz=FRAME_RATE_HZ), 0.0
    rest = {"network": asdict(CHAIN), "steps": STEPS}
    wait_s = device.frames(CHAIN) / FRAME_RATE_HZ
    for ranks in (2, 4):
        jobs = [{"rate": rate, "rule": rule, **rest} for rate in RATES for rule in ("bp", "dfa")]
        jobs.append({"rate": RATES[1], "rule": "clocked", "wait_s": wait_s, **rest})
        latency, *found = zip(*run_ranks(ranks, [{"rate": None, "messages": 100}, *jobs]), strict=True)
        latency_s = latency_s or latency[0]["latency_s"]
        for job, measured in zip(jobs, found, strict=True):
            seconds, busy = seconds_of(measured, job["rule"])
            yield Point(
                rule=job["rule"],
                network=CHAIN,
                links=Links(ranks=ranks, bytes_per_s=job["rate"], latency_s=latency_s),
                device=device,
                measured_s=seconds,
                busy_s=busy,
                sent=sum(one["sent"] for one in measured) // STEPS,
                wire=measured[0]["wire"] // STEPS,
            )


def main() -> None:
    """Fit the constants, measure, print the table and write the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description="Predicted and measured steps.")
    parser.add_argument("--out", type=Path, help="JSON file for constants and points")
    given = parser.parse_args()
    torch.set_num_threads(1)
    where = machine()
    chips, pixel_bytes = fit_chips()
    print(chips, f"pixel_bytes={pixel_bytes:.3g}", flush=True)
    points = [point for network in NETWORKS for point in one_process(network, pixel_bytes)]
    points += several_ranks()
    predicted = [predict(point, chips) for point in points]
    for point, seconds in zip(points, predicted, strict=True):
        wire = f", wire over sent {point.wire / point.sent:.4f}" if point.wire and point.sent else ""
        ratio = seconds / point.measured_s
        print(f"{point!s:58} {seconds * 1e3:7.1f} {point.measured_s * 1e3:7.1f} ms  {ratio:.2f}{wire}")
    within = sum(abs(seconds / point.measured_s - 1) <= 0.2 for seconds, point in zip(predicted, points, strict=True))
    print(f"{within} of {len(points)} within 20 %; load {where['load']:.1f}")
    rows = [asdict(point) | {"predicted_s": seconds} for point, seconds in zip(points, predicted, strict=True)]
    save(given.out, "python -m benchmarks.scaling", machine=where, chips=asdict(chips), points=rows)


if __name__ == "__main__":
    main()
