"""Layer-parallel training: the weights equal those of one process, and the traffic equals its formula."""

import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy

from benchmarks.child import environment
from dfa import DirectFeedback, RandomFeedback
from dfa.models import mlp
from dfa.ranks.messages import pack, unpack
from dfa.rules.blocks import find_blocks
from dfa.rules.parallel import LayerParallel, share
from tests.dfa.stages import BATCH, LONG, PARTS, RULES, SHORT, STEPS, model_of, pieces, sizes_of

SIZE = 3
OWN = {len(LONG): ([0], [1, 2], [3]), len(SHORT): ([0], [1], [])}
"""Hidden blocks of each process; the last process also has the output block."""


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """Results of each of three processes."""
    folder = tmp_path_factory.mktemp("stages")
    command = [sys.executable, "-m", "tests.dfa.stages", str(SIZE), str(folder)]
    run = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(SIZE)]


class Joined:
    """The feedback of all processes in one: encoder of the last process, matrices of each."""

    def __init__(self, parts, own):
        self.parts, self.own = parts, own

    def __call__(self, error, widths):
        code, found = self.parts[-1].encode(error), []
        for own, part in zip(self.own, self.parts, strict=True):
            found += part.signals(code, [widths[k] for k in own]) if own else []
        self.parts[-1].steps = self.parts[0].steps
        return found


@pytest.mark.parametrize("rule", RULES)
def test_weights_equal_those_of_one_process(stages, rule):
    """Except for rounding.

    Caught mutations: a step that is not counted in a process with only the output block;
    a loss scaled by the batch size; a block in the wrong process; a gradient that is sent before it is computed.
    """
    model = model_of(rule)
    parts = [RULES[rule](rank) for rank in range(SIZE)]
    learner = (
        None
        if parts[0] is None
        else DirectFeedback(model, feedback=Joined(parts, OWN[len(sizes_of(rule))]), scale=RandomFeedback.default_scale)
    )
    optimiser = torch.optim.SGD(model.parameters(), 0.5)
    for step in range(STEPS):
        optimiser.zero_grad()
        for x, y, part in pieces(rule, step):
            output = model(x)
            loss = part * cross_entropy(output, y)
            loss.backward() if learner is None else learner.backward(loss, output, loss_scale=part)
        optimiser.step()
    weights = {name: tensor for stage in stages for name, tensor in stage[rule]["weights"].items()}
    assert list(weights) == list(model.state_dict())
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rule", ["bp", "dfa", "ternary", "stochastic", "micro", "micro bp"])
def test_bytes_equal_the_formula(stages, rule):
    """Backpropagation sends gradients of the activations, the others a code; headers have 24 or 28 bytes.

    In micro-batches activations and gradients have a header each, and the code is one. Catches: activations sent
    backward; one byte per code; bytes counted in one process only; a code for each micro-batch.
    """
    between = (16, 18) if sizes_of(rule) is SHORT else (16, 20)
    sent = [stage[rule]["traffic"] for stage in stages]
    heads = 24 * (PARTS if "micro" in rule else 1)
    forward = STEPS * sum(4 * BATCH * width + heads for width in between)
    ternary = -(-BATCH * 5 // 4)
    code = {"dfa": 4 * BATCH * 5, "ternary": ternary, "micro": ternary, "stochastic": -(-BATCH * 5 // 4) + 4 * BATCH}
    backward = forward if "bp" in rule else STEPS * (SIZE - 1) * (code[rule] + 28)
    assert sum(s.get("forward", 0) for s in sent) == forward
    assert sum(s.get("backward", 0) for s in sent) == backward
    assert [s.get("backward", 0) > 0 for s in sent] == ([False, True, True] if "bp" in rule else [False, False, True])


def test_every_process_stops_if_the_loss_is_not_finite(stages):
    """Catches: a process that waits forever."""
    for rule in RULES:
        assert all("training has diverged" in stage[rule]["diverged"] for stage in stages)


def test_a_missing_process_group_is_an_error():
    with pytest.raises(ValueError, match="distributed must be initialised"):
        LayerParallel(mlp(LONG), RandomFeedback())


def test_a_parameter_in_two_processes_is_refused():
    """Catches: tied weights that become two copies, each with half of the gradient."""
    model = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5))
    share(model, find_blocks(model, None), 0, 3)
    model[4].weight = model[0].weight
    with pytest.raises(ValueError, match=r"one process, got one of shape \(5, 5\) in processes 0 and 2"):
        share(model, find_blocks(model, None), 0, 3)
    share(model, find_blocks(model, None), 0, 1)


@pytest.mark.parametrize("count", [0, 4, 7])
def test_four_codes_fit_in_a_byte(count):
    """Catches: a shift of one bit; a missing last byte."""
    code = torch.randint(-1, 2, (count,), generator=torch.Generator().manual_seed(count)).to(torch.int8)
    data = pack(code)
    assert data.nbytes == -(-count // 4)
    assert torch.equal(unpack(data, count), code)


@pytest.fixture
def process():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_the_error_names_every_kind_of_feedback(process):
    """Catches: a list without `RankFeedback`, the one for a device that processes share."""
    with pytest.raises(ValueError, match="RandomFeedback, MediumFeedback, OpticalFeedback, RankFeedback or None"):
        LayerParallel(mlp(LONG), mlp(LONG))


def test_blocks_called_at_another_length_keep_their_slices(process):
    """As with one learner. Catches: the second block's B that moves with the length of the first one's output."""

    def convolutions():
        torch.manual_seed(0)
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 4))
        return nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Conv2d(3, 2, 3), nn.Tanh(), head)

    model = convolutions()
    stage, learner = LayerParallel(model, RandomFeedback(0)), DirectFeedback(convolutions(), feedback=RandomFeedback(0))
    for side in (8, 6, 9, 8):
        x, y = torch.randn(6, 1, side, side), torch.arange(6) % 4
        output = learner.model(x)
        learner.backward(cross_entropy(output, y), output)
        stage.backward(cross_entropy(stage(x), y))
        for found, wanted in zip(model.parameters(), learner.model.parameters(), strict=True):
            torch.testing.assert_close(found.grad, wanted.grad)
