"""The rule: hand-derived updates, no transposed product between blocks, and the limits of feedback."""

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from calibration import measure_projection
from dfa import DirectFeedback, OpticalFeedback, RandomFeedback, Ternary, alignment
from dfa.models import mlp
from photonics import presets

SIZES = [7, 11, 9, 5]


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(13, SIZES[0], generator=generator, dtype=torch.float64)
    return x, torch.randint(0, SIZES[-1], (13,), generator=generator)


@pytest.fixture
def model():
    return mlp(SIZES, seed=0).double()


def by_hand(model, x, y, matrix, widths, code=lambda e: e):
    """Return hand-derived gradients of the 3-layer tanh net: delta_k = B_k e times the slope of tanh and the input."""
    w1, w2, w3 = (model[i].weight for i in (0, 2, 4))
    b1, b2, b3 = (model[i].bias for i in (0, 2, 4))
    h1 = torch.tanh(x @ w1.T + b1)
    h2 = torch.tanh(h1 @ w2.T + b2)
    e = torch.softmax(h2 @ w3.T + b3, 1) - nn.functional.one_hot(y, SIZES[-1])
    parts = (code(e).to(e.dtype) @ matrix.T).split(widths, dim=1)
    d1 = parts[0] / (3 * widths[0]) ** 0.5 * (1 - h1**2) / len(x)
    d2 = parts[1] / (3 * widths[1]) ** 0.5 * (1 - h2**2) / len(x)
    e = e / len(x)
    return [d1.T @ x, d1.sum(0), d2.T @ h1, d2.sum(0), e.T @ h2, e.sum(0)]


@pytest.mark.parametrize("encoder", [None, Ternary(threshold=0.2), Ternary(deviations=1.0)])
def test_update_equals_the_hand_derived_one(model, batch, encoder):
    """To 1e-6. Caught mutations: no division by the batch size, no slope of tanh, exchanged slices."""
    x, y = batch
    feedback = RandomFeedback(seed=3, encoder=encoder)
    learner = DirectFeedback(model, feedback=feedback)
    output = model(x)
    learner.backward(cross_entropy(output, y), output)
    matrix = feedback.matrix(sum(SIZES[1:3]), SIZES[-1]).double()
    with torch.no_grad():
        expected = by_hand(model, x, y, matrix, SIZES[1:3], encoder or (lambda e: e))
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        assert (parameter.grad - gradient).abs().max() <= 1e-6 * gradient.abs().max()


def test_signals_have_the_scale():
    """By default 1/sqrt(3) for random and optical feedback, 1 for a function. Catches: a scale that is not applied."""
    x, y = torch.randn(9, 7, generator=torch.Generator().manual_seed(0)), torch.arange(9) % 5
    opu = presets.lab_bench(10, 40)
    opu.autoexpose()
    projection = measure_projection(opu, n_inputs=5)

    def gradient(feedback, **options):
        model = mlp(SIZES, seed=0)
        learner = DirectFeedback(model, feedback=feedback, **options)
        output = model(x)
        learner.backward(cross_entropy(output, y), output)
        return model[0].weight.grad

    for build, default in (
        (lambda: RandomFeedback(1), 3**-0.5),
        (lambda: OpticalFeedback(copy.deepcopy(projection)), 3**-0.5),
        (lambda: lambda e, widths: RandomFeedback(1)(e, widths), 1.0),
    ):
        whole = gradient(build(), scale=1.0)
        torch.testing.assert_close(gradient(build(), scale=0.25), 0.25 * whole)
        torch.testing.assert_close(gradient(build()), default * whole)
    with pytest.raises(ValueError, match="scale must be positive and finite, or None, got 0"):
        gradient(None, scale=0)


def test_signals_have_the_size_of_those_of_backpropagation():
    """At torch's initial weights, rms over the units within 15 % (3 standard errors). Catches: the root of 3."""
    x, y = torch.randn(64, 7, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 10
    found = []
    for true in (False, True):
        model = mlp([7, 2000, 10], seed=0)
        learner = DirectFeedback(model, feedback=RandomFeedback(1))
        if true:
            learner.remove()
            cross_entropy(model(x), y).backward()
        else:
            output = model(x)
            learner.backward(cross_entropy(output, y), output)
        found.append(float(model[0].bias.grad.square().mean().sqrt()))
    assert found[0] == pytest.approx(found[1], rel=0.15)


def test_reduction_sum_is_the_batch_size_times_the_mean(batch):
    x, y = batch
    gradients = []
    for reduction in ("mean", "sum"):
        model = mlp(SIZES, seed=0).double()
        learner = DirectFeedback(model, feedback=RandomFeedback(1, Ternary(threshold=0.1)), reduction=reduction)
        output = model(x)
        learner.backward(cross_entropy(output, y, reduction=reduction), output)
        gradients.append([p.grad for p in model.parameters()])
    for mean, total in zip(*gradients, strict=True):
        torch.testing.assert_close(total, len(x) * mean)


class Products(TorchDispatchMode):
    """Counts matrix products with a given weight, transposed or not."""

    def __init__(self, weights):
        super().__init__()
        self.places, self.count = {w.data_ptr() for w in weights}, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm):
            self.count += any(isinstance(a, torch.Tensor) and a.data_ptr() in self.places for a in args)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(("method", "products"), [("bp", 3), ("dfa", 0)])
def test_no_product_with_a_transposed_weight(method, products):
    """Backward through four layers: backpropagation multiplies by 3 weights, DFA by none.

    Caught mutation: blocks whose input is not detached (public code computes this product and discards it).
    """
    model = mlp([6, 8, 8, 8, 4], seed=0)
    learner = DirectFeedback(model, feedback=RandomFeedback(0)) if method == "dfa" else None
    x, y = torch.randn(5, 6, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 3, 0])
    output = model(x)
    loss = cross_entropy(output, y)
    with Products([m.weight for m in model if isinstance(m, nn.Linear)]) as counted:
        if learner is None:
            loss.backward()
        else:
            learner.backward(loss, output)
    assert counted.count == products
    assert all(p.grad is not None for p in model.parameters())


def test_gradients_inside_a_block_are_exact(batch):
    """With the whole model as one block, DFA is backpropagation; with two blocks, the last one is exact."""
    x, y = batch
    truth = mlp(SIZES, seed=0).double()
    cross_entropy(truth(x), y).backward()
    for blocks in ([[0, 1, 2, 3, 4]], [[0, 1], [2, 3, 4]]):
        model = mlp(SIZES, seed=0).double()
        learner = DirectFeedback(model, blocks=blocks, feedback=RandomFeedback(0))
        output = model(x)
        learner.backward(cross_entropy(output, y), output)
        exact = [i for i in blocks[-1] if i % 2 == 0]
        for i in exact:
            torch.testing.assert_close(model[i].weight.grad, truth[i].weight.grad)


def test_blocks_may_be_modules(batch):
    x, y = batch
    nested = nn.Sequential(*(nn.Sequential(*part) for part in (mlp([7, 11, 9])[:2], mlp([11, 5])))).double()
    learner = DirectFeedback(nested, blocks=list(nested), feedback=RandomFeedback(0))
    output = nested(x)
    learner.backward(cross_entropy(output, y), output)
    assert all(p.grad is not None for p in nested.parameters())


def test_without_feedback_only_the_last_block_learns(model, batch):
    x, y = batch
    learner = DirectFeedback(model)
    output = model(x)
    learner.backward(cross_entropy(output, y), output)
    assert [p.grad is not None for p in model.parameters()] == [False] * 4 + [True] * 2


def test_gradients_accumulate(model, batch):
    x, y = batch
    learner = DirectFeedback(model, feedback=RandomFeedback(0))
    grads = []
    for _ in range(2):
        output = model(x)
        learner.backward(cross_entropy(output, y), output)
        grads.append([p.grad.clone() for p in model.parameters()])
    for once, twice in zip(*grads, strict=True):
        torch.testing.assert_close(twice, 2 * once)


def test_alignment_is_measured_and_changes_nothing(model, batch):
    """0 degrees for the last block, the angle of the hand-derived gradients for the others; gradients are restored."""
    x, y = batch
    learner = DirectFeedback(model, feedback=RandomFeedback(0))
    model[0].weight.grad = torch.ones_like(model[0].weight)
    angles = alignment(learner, cross_entropy, x, y)
    assert angles[-1] == pytest.approx(0.0, abs=1e-4)
    assert all(0.0 < angle < 180.0 for angle in angles[:-1])
    assert model[2].weight.grad is None
    assert bool((model[0].weight.grad == 1).all())
    with learner.connected():
        cross_entropy(model(x), y).backward()
    true = model[2].weight.grad.clone(), model[2].bias.grad.clone()
    model.zero_grad()
    output = model(x)
    learner.backward(cross_entropy(output, y), output)
    found = model[2].weight.grad, model[2].bias.grad
    a, b = (torch.cat([g.flatten() for g in pair]) for pair in (true, found))
    expected = torch.rad2deg(torch.arccos(a @ b / a.norm() / b.norm()))
    assert angles[1] == pytest.approx(float(expected), abs=1e-6)


def test_alignment_restores_every_generator(model, batch, monkeypatch):
    """Also those of two simulated GPUs; both passes draw the same numbers. Catches: different dropout."""
    cuda, seen = [torch.tensor([3]), torch.tensor([4])], []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: [state.clone() for state in cuda])
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: cuda[device].copy_(state))

    def draw(module, inputs):
        seen.append((float(torch.rand(())), *(int(state.add_(1)) for state in cuda)))

    model.register_forward_pre_hook(draw)
    before = torch.get_rng_state()
    alignment(DirectFeedback(model, feedback=RandomFeedback(0)), cross_entropy, *batch)
    assert seen[0] == seen[1]
    assert [int(state) for state in cuda] == [3, 4]
    assert torch.equal(torch.get_rng_state(), before)


def test_last_layer_only_has_an_angle_of_90(model, batch):
    assert alignment(DirectFeedback(model), cross_entropy, *batch)[:2] == [90.0, 90.0]


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([[0, 1], [2, 3]], "cover the model"),
        ([[0, 1], [3, 2], [4]], "cover the model"),
        ([[0], [1], [2, 3], [4]], "must have parameters"),
        ([[0, 9]], "positions 0 to 4"),
        ([0, 1], "positions 0 to 4"),
        ([], "at least one module"),
        (["nope"], "dotted names"),
        ("0", "name of a container"),
        ([nn.Linear(2, 2)], "modules of the model"),
        (["0", "0"], "different modules"),
    ],
)
def test_bad_blocks(model, blocks, message):
    with pytest.raises(ValueError, match=message):
        DirectFeedback(model, blocks=blocks)


def test_feedback_given_as_blocks_is_refused(model):
    with pytest.raises(ValueError, match=r"list of modules or names, got RandomFeedback, name feedback=\.\.\."):
        DirectFeedback(model, RandomFeedback(0))
    with pytest.raises(ValueError, match=r"list of modules or names, got Linear$"):
        DirectFeedback(model, model[0])


def test_bad_models():
    with pytest.raises(ValueError, match=r"nn\.Sequential"):
        DirectFeedback(nn.Linear(2, 2))
    same = nn.Linear(3, 3)
    with pytest.raises(ValueError, match="same module twice"):
        DirectFeedback(nn.Sequential(same, nn.Tanh(), same))
    with pytest.raises(ValueError, match=r"must be an nn\.Module"):
        DirectFeedback(lambda x: x)
    with pytest.raises(ValueError, match="reduction"):
        DirectFeedback(mlp([2, 2]), reduction="max")
    with pytest.raises(ValueError, match="spread must be one of"):
        DirectFeedback(mlp([2, 2]), spread="all")
    with pytest.raises(ValueError, match="diffuse must be a sparse matrix"):
        DirectFeedback(mlp([2, 2]), diffuse=3.0)
    with pytest.raises(ValueError, match="sizes"):
        mlp([3])


def test_bad_calls(model, batch):
    x, y = batch
    learner = DirectFeedback(model, feedback=RandomFeedback(0))
    output = model(x)
    with pytest.raises(ValueError, match="loss must be finite"):
        learner.backward(output.sum() * float("nan"), output)
    with pytest.raises(ValueError, match=r"got another tensor of shape \(13, 5\)"):
        learner.backward(output.sum(), model[4].weight.sum() * torch.ones(13, 5))
    with pytest.raises(ValueError, match=r"must require a gradient, got a detached tensor of shape \(13, 5\)"):
        learner.backward(output.sum(), output.detach())
    with pytest.raises(ValueError, match="got str without any"):
        learner.backward(output.sum(), "logits")
    with pytest.raises(ValueError, match="loss must be a scalar"):
        learner.backward(output, output)
    with pytest.raises(ValueError, match="loss must be computed from output"):
        learner.backward(model[4].weight.sum(), output)
    with pytest.raises(ValueError, match="loss_scale must be positive"):
        learner.backward(output.sum(), output, loss_scale=0.0)
    output = model(x)
    learner.backward(cross_entropy(output, y), output)
    with torch.no_grad():
        model(x)
    with pytest.raises(ValueError, match=r"called with gradients enabled before each backward, .* no such call"):
        learner.backward(cross_entropy(output, y), output)
    first = model(x)
    model(x.flip(0))
    with pytest.raises(ValueError, match="last call"):
        learner.backward(cross_entropy(first, y), first)


def test_hooks_can_be_removed(model, batch, tmp_path):
    """By `remove` and by a second learner; the model can be saved with hooks.

    Caught mutation: remaining hooks, with which the first layer has no gradient.
    """
    x, y = batch
    first = DirectFeedback(model, feedback=RandomFeedback(0))
    torch.save(model, tmp_path / "model.pt")
    second = DirectFeedback(model, blocks=[[0, 1, 2, 3], [4]], feedback=RandomFeedback(0))
    output = model(x)
    second.backward(cross_entropy(output, y), output)
    assert model[0].weight.grad is not None
    with pytest.raises(ValueError, match="hooks, which were removed"):
        first.backward(cross_entropy(output, y), output)
    second.remove()
    model.zero_grad()
    cross_entropy(model(x), y).backward()
    whole = mlp(SIZES, seed=0).double()
    cross_entropy(whole(x), y).backward()
    torch.testing.assert_close(model[0].weight.grad, whole[0].weight.grad)


IMPORTS = """
import os, sys, matplotlib.pyplot, numba, pydantic, scipy.stats, torch.distributed.fsdp, typer, xarray
for early in sys.argv[1:]:
    if (child := os.fork()) == 0:  # nothing of the project is imported yet
        __import__(early)
        import dfa
        os._exit(not all(callable(getattr(dfa, name)) for name in dfa.__all__))
    assert os.waitpid(child, 0)[1] == 0, early
"""


def test_public_names_do_not_depend_on_the_order_of_imports():
    """Caught mutation: a module with the name of the function that it defines."""
    early = ["dfa.experiments.runs", "dfa.training.images", "dfa.training.angles", "dfa.cli.main"]
    run = subprocess.run([sys.executable, "-c", IMPORTS, *early], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
