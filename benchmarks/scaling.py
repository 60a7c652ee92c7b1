"""Measured training steps beside those that `dfa.scaling` predicts, with constants fitted on other points.

``python -m benchmarks.scaling [--out FILE]`` prints the table, on Linux as root (see `benchmarks.scaling_ranks`). A
step in one process is processor time of one thread, median of 15. In an optical step the time in which the simulated
device computes frames is left out, and its frames count with the device's frame period. Steps of several ranks are
wall time without the waits for a processor.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from benchmarks.machine import machine
from benchmarks.scaling_ranks import run_ranks, seconds_of, sizes
from calibration import measure_projection
from dfa import DirectFeedback, OpticalFeedback, RandomFeedback, Ternary
from dfa.costs import Chips, Device, Links, Network, step
from dfa.costs.steps import CALLS_OF_SIGNAL, Method
from dfa.models import mlp
from dfa.training.steps import take_step
from photonics import OPU, presets

__all__ = ["Point", "fit_chips", "one_process", "several_ranks"]

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


class Point(NamedTuple):
    """A measured step."""

    name: str
    predicted_s: float
    measured_s: float
    busy_s: float | None = None
    """Wall time with the waits for a processor."""
    sent: int | None = None
    """Bytes that the code sent in a step."""
    wire: int | None = None
    """Bytes that the interface sent in a step, with the headers of packets."""
    expected: float | None = None
    """Bytes of a step by the model."""

    @property
    def ratio(self) -> float:
        """Predicted over measured time."""
        return self.predicted_s / self.measured_s


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
    alone = median_cpu_s(taking(small, None), 40)
    call_s = alone / calls
    learner_s = median_cpu_s(taking(small, RandomFeedback(0)), 40) - alone - 20 * CALLS_OF_SIGNAL * call_s
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


def one_process(network: Network, chips: Chips, pixel_bytes: float) -> Iterator[Point]:
    """Steps by the three methods in one process; the optical one only for few classes."""
    text = f"{network.inputs}-{network.width} x {network.depth}-{network.classes}, batch {network.batch}"
    links = Links()
    rules: tuple[tuple[Method, RandomFeedback | None], ...] = (
        ("bp", None),
        ("dfa", RandomFeedback(0, Ternary(threshold=1e-4))),
    )
    for method, feedback in rules:
        predicted = step(network, chips, links, Device(), method).seconds
        yield Point(f"{method}, {text}", predicted, median_cpu_s(taking(network, feedback)))
    if network.classes > 100:
        return
    opu = presets.lab_bench(2 * network.classes, int(1.2 * network.width * network.depth))
    projection = measure_projection(opu, n_inputs=network.classes)
    call = taking(network, OpticalFeedback(projection, Ternary(threshold=1e-4), refresh=False))
    took, before = chip_seconds(call), opu.clock.frames
    call()
    frames = opu.clock.frames - before
    device = replace(Device.of(opu), frame_rate_hz=FRAME_RATE_HZ, pixel_bytes=pixel_bytes)
    predicted = step(network, chips, links, device, "optical")
    yield Point(f"optical, {text}", predicted.seconds, took + frames / FRAME_RATE_HZ)
    yield Point(f"optical without frames, {text}", predicted.seconds - predicted.device_s, took)


def several_ranks(chips: Chips, quick: bool = False) -> tuple[Links, list[Point]]:
    """Steps by backpropagation and ternary DFA on 2 and 4 ranks, and one with the clock of a device in each rank."""
    network = replace(CHAIN, width=32, batch=16) if quick else CHAIN
    chips = replace(chips, learner_s=0.0)  # that of `DirectFeedback`
    rest = {"network": asdict(network), "steps": 3 if quick else STEPS}
    links, points = Links(), list[Point]()
    for ranks in (2,) if quick else (2, 4):
        jobs = [{"rate": rate, "rule": rule, **rest} for rate in RATES for rule in ("bp", "dfa")]
        device = Device(frame_rate_hz=FRAME_RATE_HZ, pixel_bytes=0.0)
        jobs.append({"rate": RATES[1], "rule": "optical", "wait_s": device.frames(network) / FRAME_RATE_HZ, **rest})
        found = run_ranks(ranks, [{"rate": None, "messages": 10 if quick else 100}, *jobs])
        links = Links(latency_s=found[0][0]["latency_s"]) if ranks == 2 else links
        found = [one[1:] for one in found]
        for job, measured in zip(jobs, zip(*found, strict=True), strict=True):
            rated = replace(links, ranks=ranks, bytes_per_s=job["rate"])
            points.append(point_of(network, chips, rated, device, job, measured))
    return links, points


def point_of(
    network: Network,
    chips: Chips,
    links: Links,
    device: Device,
    job: dict[str, Any],
    measured: Sequence[dict[str, Any]],
) -> Point:
    """Return the point of a job of the ranks."""
    predicted, steps = step(network, chips, links, device, job["rule"]), job["steps"]
    seconds, busy = seconds_of(measured, job["rule"])
    if job["rule"] == "optical":  # the ranks compute the projection of DFA, and wait for the frames as well
        predicted = step(network, chips, links, device, "dfa")
        seconds_predicted = predicted.seconds + device.frames(network) / device.frame_rate_hz
    else:
        seconds_predicted = predicted.seconds
    name = f"{job['rule']}, {links.ranks} ranks, {8 * links.bytes_per_s / 1e6:.0f} Mbit/s"
    sent = sum(one["sent"] for one in measured) // steps
    return Point(name, seconds_predicted, seconds, busy, sent, measured[0]["wire"] // steps, predicted.link_bytes)


def main() -> None:
    """Fit the constants, measure, print the table and write the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description="Predicted and measured steps.")
    parser.add_argument("--out", type=Path, help="JSON file for constants and points")
    given = parser.parse_args()
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    chips, pixel_bytes = fit_chips()
    print(chips, f"pixel_bytes={pixel_bytes:.3g}", flush=True)
    points = [point for network in NETWORKS for point in one_process(network, chips, pixel_bytes)]
    links, more = several_ranks(chips)
    for point in (points := [*points, *more]):
        wire = f", wire over sent {point.wire / point.sent:.4f}" if point.wire and point.sent else ""
        print(f"{point.name:55} {point.predicted_s:8.4f} {point.measured_s:8.4f} s  {point.ratio:.2f}{wire}")
    within = sum(abs(point.ratio - 1) <= 0.2 for point in points)
    print(f"{within} of {len(points)} within 20 %; latency {links.latency_s:.3g} s; load {load:.1f}")
    if given.out:
        rows = [point._asdict() | {"ratio": point.ratio} for point in points]
        known = {"command": "python -m benchmarks.scaling", "machine": machine(), "chips": asdict(chips)}
        known |= {"pixel_bytes": pixel_bytes, "latency_s": links.latency_s, "points": rows}
        given.out.write_text(json.dumps(known, indent=1), "utf-8")


if __name__ == "__main__":
    main()
