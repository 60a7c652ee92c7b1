"""One device shared by processes: weights, frames and exposure of one process, bit for bit, and only the code moves."""

import subprocess
import sys
import warnings

import pytest
import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy

from benchmarks.child import environment
from calibration import measure_projection
from dfa import DirectFeedback, LayerParallel, OpticalFeedback, RankDevice, RankFeedback
from dfa.feedback.ranks import check_ranks
from dfa.models import mlp
from photonics import presets
from photonics.medium import Drifting
from tests.dfa.ranked import CLASSES, METHODS, NEIGHBOURS, SIZES, UNITS, WORLDS, batches, opu_of, settings


@pytest.fixture
def one_thread():
    """As in the processes: sums of several threads have another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def alone(method):
    """The same training in one process, by `DirectFeedback` through the whole device."""
    opu = opu_of(method)
    opu.autoexpose(0.3)
    projection = measure_projection(opu, method, **METHODS[method])
    torch.manual_seed(0)
    model = mlp(UNITS)
    learner = DirectFeedback(model, feedback=OpticalFeedback(projection, **settings(), refresh=False))
    optimiser = torch.optim.SGD(model.parameters(), 0.5)
    for x, y in batches():
        optimiser.zero_grad()
        output = model(x)
        learner.backward(cross_entropy(output, y), output)
        optimiser.step()
    return model.state_dict(), opu


@pytest.mark.usefixtures("one_thread")
def test_weights_and_frames_are_those_of_one_process(tmp_path):
    """In 1, 2 and 4 processes (there by every method), uneven blocks, a partial batch, calibrated again on the way.

    After the calibrations no frame is sent; a step sends 2 bits an entry of the code, its factors and a header of 28
    bytes. Pixels are shared out. Catches: a block that reads the pixels of another, a process without blocks whose
    clock stands still, an exposure of a share, frames in every step.
    """
    wanted = {method: alone(method) for method in METHODS}
    for size in WORLDS:
        (tmp_path / str(size)).mkdir()
    command = [sys.executable, "-m", "tests.dfa.ranked", str(tmp_path)]
    run = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    for size in WORLDS:
        ranks = load(tmp_path, size)
        for method in ranks[0].keys() & METHODS:
            (weights, opu), found = wanted[method], [rank[method] for rank in ranks]
            joined = {name: value for one in found for name, value in one["weights"].items()}
            assert list(joined) == list(weights)
            for name, value in weights.items():
                assert torch.equal(joined[name], value), (size, method, name)
            assert {one["frames"] for one in found} == {opu.clock.frames}
            assert {one["exposure"] for one in found} == {opu.exposure_s}
            assert len({one["device"] for one in found}) == 1
            for one in found:
                assert (one["sent"][1] == one["sent"][0]) and (one["sent"][2] > one["sent"][1]) == (size > 1)
            code = sum(-(-rows * CLASSES // 4) + 4 * rows + 28 for rows in SIZES)
            assert sum(one["backward"] for one in found) == (size - 1) * code
            assert sum(one["pixels"] for one in found) <= opu.n_out + (size - 1) * 14
    check_parts(tmp_path, *wanted[NEIGHBOURS])


def check_parts(folder, weights, opu):
    """Micro-batches have the bits of one process with them, and the weights of one without except for rounding.

    With 2 replicas of 2 processes frames are the same, weights except for rounding, and equal in both replicas to the
    bit. The code is that of the whole batch. Catches: thresholds of a replica's rows, frames at the same ticks, a mean
    of means over uneven rows, a part of the batch that another process lacks.
    """
    [alone], ranks = load(folder, 1), load(folder, 4)
    joined = {name: value for rank in ranks for name, value in rank["parts"]["weights"].items()}
    assert all(torch.equal(value, alone["parts"]["weights"][name]) for name, value in joined.items())
    first, second = ({**a["replicas"]["weights"], **b["replicas"]["weights"]} for a, b in (ranks[:2], ranks[2:]))
    for name, value in weights.items():
        torch.testing.assert_close(joined[name], value, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(first[name], value, rtol=1e-5, atol=1e-6)
        assert torch.equal(first[name], second[name])
    assert {rank[kind]["frames"] for rank in ranks for kind in ("parts", "replicas")} == {opu.clock.frames}
    entries = sum(value.numel() for value in first.values())
    assert sum(rank["replicas"]["traffic"]["replicas"] for rank in ranks) == len(SIZES) * 2 * 4 * entries


def load(folder, size):
    """What the processes of a world found, in the order of their ranks."""
    return [torch.load(folder / f"{size}/{rank}.pt", weights_only=True) for rank in range(size)]


@pytest.fixture
def process():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_what_cannot_be_shared_is_refused(process):
    """One line each. Catches: blocks of all processes on the same pixels; pixels of another block after a new one."""
    opu = presets.lab_bench(24, 150, seed=4)
    opu.autoexpose()
    projection = measure_projection(RankDevice(opu), n_inputs=9)
    with pytest.raises(ValueError, match="feedback must be RankFeedback for a projection through a RankDevice"):
        LayerParallel(mlp(UNITS), OpticalFeedback(projection))
    with pytest.raises(ValueError, match="projection must be measured through a RankDevice, got"):
        RankFeedback(measure_projection(opu, n_inputs=9))
    with pytest.raises(ValueError, match=r"^opu must be an OPU, got int"):
        RankDevice(3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="feedback must be RankFeedback if replicas share a device, got OpticalFeedb"):
        check_ranks(OpticalFeedback(measure_projection(opu, n_inputs=9)), 2)
    feedback = RankFeedback(projection)
    feedback(torch.eye(9) - 1.0 / 9.0, [20])
    with pytest.raises(ValueError, match="blocks must not need more outputs than in the first step, whose 20"):
        feedback(torch.eye(9) - 1.0 / 9.0, [20, 1])
    with pytest.raises(ValueError, match=r"projection must have at least 151 valid outputs .*, got \d+ of 150"):
        RankFeedback(projection)(torch.eye(9) - 1.0 / 9.0, [151])


def test_a_device_that_moves_is_told(process):
    """By the calibration, unless it is repeated; a still device is not. Catches: training on a stale B in silence."""
    opu = presets.lab_bench(24, 150, seed=4)
    opu.autoexpose()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RankFeedback(measure_projection(RankDevice(opu), n_inputs=9))
    opu = opu.replace(medium=Drifting(opu.medium, correlation_frames=3e3))
    projection = measure_projection(RankDevice(opu), n_inputs=9)
    with pytest.warns(UserWarning, match=r"the device moves \(a correlation time of .* frames\).*recalibrate_every"):
        RankFeedback(projection)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RankFeedback(projection, recalibrate_every=5)
