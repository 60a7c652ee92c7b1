"""Use of a learner: blocks, copies, files, precision, compiled models, accumulation, evaluation."""

import copy
import pickle
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from calibration import measure_projection
from dfa import DirectFeedback, Graded, LayerFeedback, OpticalFeedback, RandomFeedback, Ternary
from dfa.models import mlp
from photonics import presets
from tests.dfa.networks import Tied, draw, normal

SIZES = [6, 9, 8, 4]
X, Y = normal(12, 6).float(), torch.arange(12) % 4


def gradients(learner, call=None, x=X, y=Y, **how):
    """Return the gradients of a new backward pass, parameter by parameter."""
    learner.model.zero_grad()
    output = (learner.model if call is None else call)(x)
    learner.backward(cross_entropy(output, y), output, **how)
    return [p.grad.clone() for p in learner.model.parameters()]


def direct(**options):
    return DirectFeedback(mlp(SIZES, seed=0), **({"feedback": RandomFeedback(0)} | options))


@pytest.fixture
def expected():
    return gradients(direct())


def assert_equal(found, wanted, **tolerance):
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, **({"rtol": 0.0, "atol": 0.0} | tolerance))


def test_a_frozen_block_does_not_change_the_matrices_of_others():
    """Catches: slices of B that shift if a block is frozen."""
    learner = direct()
    full = gradients(learner)
    for p in learner.parameters(0):
        p.requires_grad_(False)
        p.grad = None
    output = learner.model(X)
    learner.model.zero_grad()
    learner.backward(cross_entropy(output, Y), output)
    assert_equal([p.grad for p in learner.model.parameters() if p.requires_grad], full[2:])


# Copies and files


def test_a_copy_of_the_learner_works(expected):
    """`deepcopy` and pickle, also between forward and backward. Catches: hooks that call the original."""
    learner = direct()
    output = learner.model(X)
    for twin in (copy.deepcopy(learner), pickle.loads(pickle.dumps(learner))):
        assert twin.model is not learner.model
        assert_equal(gradients(twin), expected)
        assert all(p.grad is None for p in learner.model.parameters())
    learner.backward(cross_entropy(output, Y), output)
    assert_equal([p.grad for p in learner.model.parameters()], expected)
    twin.remove()
    assert_equal(gradients(learner), expected)


def test_a_copy_of_the_model_is_an_ordinary_model():
    """Also in a copy that holds both. Catches: a copied model whose first layers no longer learn by backpropagation."""
    learner = direct()
    model = copy.deepcopy(learner.model)
    plain = mlp(SIZES, seed=0)
    for m in (model, plain):
        cross_entropy(m(X), Y).backward()
    assert_equal([p.grad for p in model.parameters()], [p.grad for p in plain.parameters()])
    both = copy.deepcopy({"model": learner.model, "learner": learner})
    assert both["learner"].model is both["model"]
    assert_equal(gradients(both["learner"]), gradients(learner))


def test_a_copied_device_is_independent():
    opu = presets.lab_bench(8, 40)
    opu.autoexpose()
    learner = direct(feedback=OpticalFeedback(measure_projection(opu, n_inputs=4)))
    twin = copy.deepcopy(learner)
    first = gradients(learner)
    assert twin.feedback.projection.opu.clock.frames < opu.clock.frames
    assert_equal(gradients(twin), first)


@pytest.mark.parametrize("shared", [True, False])
def test_state_has_the_seed(shared, expected):
    """A learner with another seed continues with the saved seed. Catches: a cached matrix of the old seed."""
    learner = direct(feedback=RandomFeedback(7, shared=shared))
    wanted = gradients(learner)
    state = learner.state_dict()
    assert state["feedback"] == {"variant": "random", "steps": 1, "seed": 7, "shared": shared, "encoder": "None"}
    for how in (shared, not shared):
        other = direct(feedback=RandomFeedback(8, shared=how))
        assert not torch.equal(gradients(other)[0], wanted[0])
        other.load_state_dict(state)
        assert_equal(gradients(other), wanted)
    assert direct(feedback=None).state_dict()["feedback"] == {}


def test_a_state_of_another_learner_is_refused():
    state = direct().state_dict()
    for other, message in (
        (DirectFeedback(mlp([6, 9, 4]), feedback=RandomFeedback(0)), "blocks"),
        (direct(reduction="sum"), "reduction"),
        (direct(feedback=None), "state must be of a learner without feedback"),
        (LayerFeedback(mlp(SIZES)), "rule .*, got one with 'direct'"),
    ):
        with pytest.raises(ValueError, match=message):
            other.load_state_dict(state)
    with pytest.raises(ValueError, match="state must be of random feedback, got that of optical"):
        direct().load_state_dict(state | {"feedback": {"variant": "optical"}})


# Matrices


def test_separate_matrices_do_not_depend_on_other_blocks():
    """Shared ones are slices of one matrix. Catches: one matrix for all blocks."""
    e = normal(5, 4).float()
    narrow, wide = (RandomFeedback(1, shared=False)(e, widths) for widths in ([20, 30, 30], [50, 30, 30]))
    assert_equal(narrow[1:], wide[1:])
    assert not torch.equal(narrow[1], narrow[2])
    feedback = RandomFeedback(1)
    whole = feedback.matrix(50, 4)
    assert_equal(feedback(e, [20, 30]), [e @ whole[:20].T / 20**0.5, e @ whole[20:].T / 30**0.5], rtol=1e-6, atol=1e-6)


def test_a_given_matrix_is_used():
    e, matrix = normal(5, 4), normal(60, 4)
    found = RandomFeedback(matrix=matrix)(e, [20, 30])
    assert_equal(found, [e @ matrix[:20].T / 20**0.5, e @ matrix[20:50].T / 30**0.5], rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match=r"matrix must be at least \(70, 4\)"):
        RandomFeedback(matrix=matrix)(e, [70])
    with pytest.raises(ValueError, match="and shared"):
        RandomFeedback(matrix=matrix, shared=False)


# Precision, compilation, checkpointing

# Dynamo reads a hook's tensors, which causes a warning that only pytest shows.
dynamo = pytest.mark.filterwarnings("ignore:The .grad attribute")


def test_bfloat16_autocast(expected):
    """Gradients are float32 and those of full precision within 5 % rms. Catches: signals computed in bfloat16."""
    learner = direct(scale=RandomFeedback.default_scale)
    seen = []
    learner.feedback = lambda e, widths: seen.append(e.dtype) or RandomFeedback(0)(e, widths)
    for inside in (True, False):
        learner.model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            output = learner.model(X)
            loss = cross_entropy(output, Y)
            if inside:
                learner.backward(loss, output)
        if not inside:
            learner.backward(loss, output)
        assert output.dtype == torch.bfloat16
        for p, wanted in zip(learner.model.parameters(), expected, strict=True):
            assert p.grad.dtype == torch.float32
            assert (p.grad - wanted).square().mean().sqrt() < 0.05 * wanted.square().mean().sqrt()
    assert seen == [torch.float32] * 2


@dynamo
@pytest.mark.parametrize(
    ("backend", "order"), [("eager", "learner first"), ("aot_eager", "compiled first"), ("aot_eager", "in place")]
)
def test_compiled_models(backend, order, expected):
    """Without a graph break, twice. Catches: hooks that dynamo cannot follow; names of the compiled wrapper."""
    torch._dynamo.reset()
    model = mlp(SIZES, seed=0)
    call = model
    if order == "learner first":
        learner = DirectFeedback(model, feedback=RandomFeedback(0))
        call = torch.compile(model, backend=backend, fullgraph=True)
    elif order == "compiled first":
        call = torch.compile(model, backend=backend, fullgraph=True)
        learner = DirectFeedback(call, feedback=RandomFeedback(0))
    else:
        model.compile(backend=backend, fullgraph=True)
        learner = DirectFeedback(model, feedback=RandomFeedback(0))
    assert learner.names == ["0", "2", "4"]
    for _ in range(2):
        assert_equal(gradients(learner, call), expected, rtol=1e-5, atol=1e-7)


@dynamo
def test_layers_in_compiled_code_are_told():
    """No activation is looked for there. Catches: blocks without the derivative of their activation, silently."""
    torch._dynamo.reset()

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 4)

        def forward(self, x):
            return self.b(self.a(x).relu())

    model = Net()
    learner = DirectFeedback(model, ["a"], RandomFeedback(0))
    with pytest.warns(UserWarning, match="blocks 'a' end with a layer, and in compiled code no activation is looked"):
        gradients(
            learner, torch.compile(model, backend="eager", fullgraph=True), normal(8, 6).float(), torch.arange(8) % 4
        )


@dynamo
def test_compiled_network_with_skips_and_tied_weights():
    """A block that is called twice, and a tied head. Catches: a count of calls frozen into the graph."""
    torch._dynamo.reset()
    found = []
    for compiled in (False, True):
        model = draw(Tied())
        learner = DirectFeedback(model, blocks=["block"], feedback=RandomFeedback(0))
        call = torch.compile(model, backend="aot_eager", fullgraph=True) if compiled else model
        for _ in range(2):
            grads = gradients(learner, call, normal(8, 5), torch.arange(8) % 5)
        found.append(grads)
    assert_equal(*found, rtol=1e-12, atol=1e-12)


def test_checkpointed_blocks(expected):
    """Blocks that are recomputed in the backward pass are taught once. Catches: records of the second computation."""

    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(SIZES, seed=0)

        def forward(self, x):
            for layer in self.net:
                x = checkpoint(layer, x, use_reentrant=False)
            return x

    learner = DirectFeedback(Checkpointed(), feedback=RandomFeedback(0))
    for _ in range(2):
        assert_equal(gradients(learner), expected)


# Loops


def test_a_call_without_backward_is_discarded(expected):
    """Catches: records of an earlier call that are used together with those of the last one."""
    learner = direct()
    learner.model(3 * X)
    assert_equal(gradients(learner), expected)


def test_accumulation_and_the_scale_of_the_loss():
    """The gradients of two half batches, each with half the loss, sum to those of the batch. Catches: scaled codes."""
    learner = direct(feedback=RandomFeedback(0, Ternary(threshold=0.2)))
    whole = gradients(learner)
    learner.model.zero_grad()
    for part in (slice(0, 6), slice(6, 12)):
        output = learner.model(X[part])
        learner.backward(cross_entropy(output, Y[part]) / 2, output, loss_scale=0.5)
    assert_equal([p.grad for p in learner.model.parameters()], whole, rtol=1e-5, atol=1e-7)


PROPORTIONAL = [
    None,
    Graded(),
    Ternary(deviations=0.5, restore=True),
    Ternary(stochastic=1.0, restore=True),
]
OTHERS = [
    Ternary(threshold=0.2, restore=True),
    Ternary(relative=0.3),
    Ternary(stochastic=1.0, pairs=True),
]


@pytest.mark.parametrize("encoder", PROPORTIONAL + OTHERS)
def test_loss_scale_with_every_encoder(encoder):
    """A quarter of the loss gives a quarter of the gradient, with `loss_scale`; without it, or a warning tells.

    Catches: codes of the scaled error; a warning for the default code, to which the scale does not matter.
    """
    found, proportional = [], any(encoder is one for one in PROPORTIONAL)
    for scale, given in ((1.0, 1.0), (0.25, 0.25), (0.25, 1.0)):
        learner = direct(feedback=RandomFeedback(0, encoder))
        output = learner.model(X)
        wrong = given != scale and not proportional
        with pytest.warns(UserWarning, match="pass loss_scale=0.25") if wrong else nullcontext():
            learner.backward(scale * cross_entropy(output, Y), output, loss_scale=given)
        found.append(torch.cat([p.grad.flatten() for p in learner.model.parameters()]) / scale)
    torch.testing.assert_close(found[1], found[0])
    assert torch.allclose(found[2], found[0]) == proportional


@pytest.mark.parametrize("optimiser", [torch.optim.SGD, torch.optim.AdamW])
def test_any_optimiser_and_clipping(optimiser):
    """Full batch: the loss falls by a third in 150 steps with gradients clipped to norm 1."""
    learner = direct()
    stepper = optimiser(learner.model.parameters(), lr=0.5 if optimiser is torch.optim.SGD else 0.01)
    losses = []
    for _ in range(150):
        output = learner.model(X)
        loss = cross_entropy(output, Y)
        stepper.zero_grad()
        learner.backward(loss, output)
        nn.utils.clip_grad_norm_(learner.model.parameters(), 1.0)
        stepper.step()
        losses.append(loss.item())
    assert losses[-1] < 0.67 * losses[0]


def test_evaluation_is_not_recorded():
    """Calls without gradients are not recorded, also between forward and backward. Catches: records of evaluation."""
    learner = direct()
    plain = mlp(SIZES, seed=0)
    output = learner.model(X)
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            learner.model.eval()
            assert torch.equal(learner.model(2 * X), plain(2 * X))
            learner.model.train()
    assert len(learner._call.taught) == 3
    learner.backward(cross_entropy(output, Y), output)
    with learner.connected():
        x = X.clone().requires_grad_()
        learner.model(x).sum().backward()
    assert x.grad is not None


def test_a_diverged_run_stops():
    """Infinite weights, NaN in the data or in the feedback's error; gradients are not changed."""
    learner = direct(feedback=RandomFeedback(0, Ternary()))
    before = gradients(learner)
    bad = X.clone()
    bad[0, 0] = float("nan")
    output = learner.model(bad)
    with pytest.raises(ValueError, match="loss must be finite, got nan: training has diverged"):
        learner.backward(cross_entropy(output, Y), output)
    output = learner.model(X)
    with pytest.raises(ValueError, match="error must be finite"):
        learner.backward((0.0 * output).sqrt().sum(), output)  # 0, with the slope 0 times infinity
    assert_equal([p.grad for p in learner.model.parameters()], before)
