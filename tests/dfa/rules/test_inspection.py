"""Mistakes that are allowed, but told: each warning comes for its mistake, and for nothing else."""

import warnings

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from dfa import DirectFeedback, RandomFeedback, Ternary, check
from dfa.models import mlp
from tests.dfa.networks import normal

X, Y = normal(12, 6).float(), torch.arange(12) % 4
CODED = {"feedback": RandomFeedback(0, Ternary(threshold=0.1))}


def step(model, loss=cross_entropy, x=X, y=Y, scale=1.0, **options):
    """Take one step, and return the learner."""
    learner = DirectFeedback(model, **({"feedback": RandomFeedback(0)} | options))
    output = model(x)
    learner.backward(loss(output, y), output, loss_scale=scale)
    return learner


def images(output, y):
    return cross_entropy(output, y[:, None, None].expand(-1, *output.shape[2:]))


def convolutions():
    return nn.Sequential(nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 5, 1), nn.Tanh(), nn.Conv2d(5, 4, 1))


@pytest.mark.parametrize(
    ("said", "run"),
    [
        (
            r"multiplied by 0\.25 .* pass loss_scale=0\.25",
            lambda: step(mlp([6, 8, 4]), lambda o, y: cross_entropy(o, y) / 4, **CODED),
        ),
        (r"loss_scale=0\.125", lambda: step(mlp([6, 8, 4]), lambda o, y: cross_entropy(o, y) * 0.125, **CODED)),
        (
            r"reduction is 'mean', but the loss is a sum .* pass reduction='sum'",
            lambda: step(mlp([6, 8, 4]), lambda o, y: cross_entropy(o, y, reduction="sum"), **CODED),
        ),
        (
            "reduction is 'sum', but the loss is a mean",
            lambda: step(mlp([6, 8, 4]), lambda o, y: o.square().mean(), reduction="sum", **CODED),
        ),
        (r"multiplied by 1024", lambda: step(mlp([6, 8, 4]), lambda o, y: 1024.0 * cross_entropy(o, y), **CODED)),
        (r"class_dim is -1, but .* dimension 1: pass class_dim=1", lambda: step(convolutions(), images)),
        (
            "seems to be probabilities",
            lambda: step(
                nn.Sequential(mlp([6, 8, 4]), nn.Softmax(1), nn.Threshold(0.0, 0.0)), lambda o, y: o.square().sum()
            ),
        ),
    ],
)
def test_a_mistake_is_told(said, run):
    """In the first step. Catches: a wrong scale, wrong classes, an error that does not vanish, silently."""
    with pytest.warns(UserWarning, match=said) as seen:
        run()
    assert len(seen) == 1


@pytest.mark.parametrize(
    "run",
    [
        lambda: step(mlp([6, 8, 4]), lambda o, y: cross_entropy(o, y) / 4, scale=0.25, **CODED),
        lambda: step(mlp([6, 8, 4]), lambda o, y: cross_entropy(o, y) / 4),
        lambda: step(mlp([6, 8, 4]), lambda o, y: cross_entropy(o, y, reduction="sum") / len(o), **CODED),
        lambda: step(mlp([6, 8, 4]), lambda o, y: 0.5 * cross_entropy(o, y), **CODED),
        lambda: step(convolutions(), images, class_dim=1),
        lambda: step(nn.Sequential(mlp([6, 8, 4]), nn.LogSoftmax(1)), nn.functional.nll_loss),
        lambda: step(nn.Sequential(mlp([6, 8, 4]), nn.ReLU()), lambda o, y: o.square().sum()),
    ],
)
def test_right_uses_are_not_told(run):
    """Catches: a warning for a mean, for feedback that is proportional to the error, or for a scale that is given."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run()


class Short(nn.Module):
    """A residual block, whose output is a sum."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x):
        return x + self.layer(x).relu()


def two(act=nn.Tanh, wide=80, norm=nn.Identity):
    return nn.Sequential(*(nn.Sequential(nn.Linear(w, wide), norm(wide), act()) for w in (6, wide)), nn.Linear(wide, 4))


@pytest.mark.parametrize("code", [{"deviations": 1.0}, {"threshold": 0.2}, {"sign": True}], ids=str)
def test_a_code_that_harms_its_network_is_told(code):
    """By a step and by `check`; where no such network lost points, nothing is said.

    Catches: ReLU or narrow networks with a code without the size of the error (56 points lost), silently; false alarms;
    a line inside the package as that of the warning.
    """
    coded = {"feedback": RandomFeedback(0, Ternary(**code))}
    first = nn.Sequential(nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    lenet = nn.Sequential(first, nn.Sequential(nn.Flatten(), nn.Linear(4, 70), nn.Tanh()), nn.Linear(70, 4))
    bad = {two(nn.ReLU): "bound", two(nn.GELU): "bound", two(nn.PReLU): "bound", lenet: "bound", two(wide=32): "fewer"}
    for model, reason in bad.items():
        with pytest.warns(UserWarning, match=f"code counts small errors .*{reason}.* Use Ternary") as seen:
            step(model, **coded)
        report = check(DirectFeedback(model, **coded), (X, Y), cross_entropy)
        assert report.problems == [str(one.message) for one in seen]
        assert [one.filename for one in seen] == [__file__]  # the line that calls backward
    fine = [two(), two(nn.ReLU, norm=nn.BatchNorm1d), two(wide=9, norm=nn.LayerNorm), mlp([6, 8, 4], 0, nn.ReLU)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for model in (*fine, nn.Sequential(Short(), Short(), nn.Linear(6, 4))):
            step(model, **coded)
        for model in bad:
            step(model, feedback=RandomFeedback(0, Ternary()))
            step(model, through="norm", **coded)


def test_the_loss_alone_is_told():
    """Catches: ``loss.backward()`` on a model with a learner, which trains the last layer alone, silently."""
    model = mlp([6, 8, 4])
    learner = DirectFeedback(model, feedback=RandomFeedback(0))
    with pytest.warns(UserWarning, match="call learner.backward.*or make the model an ordinary one") as seen:
        for _ in range(2):
            cross_entropy(model(X), Y).backward()
    assert [one.filename for one in seen] == [__file__]  # the line that calls backward
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(mlp([6, 8, 4]), feedback=None)
        with learner.restart().connected():
            cross_entropy(model(X), Y).backward()
        output = model(X)
        learner.backward(cross_entropy(output, Y), output)
        learner.remove()
        cross_entropy(model(X), Y).backward()


def test_a_loss_of_two_calls_is_told():
    """Once; not for calls before each backward. Catches: a first view that teaches no hidden block, silently."""
    model = mlp([6, 8, 4])
    learner = DirectFeedback(model, feedback=RandomFeedback(0))
    for _ in range(2):
        output = model(X)
        torch.autograd.grad(cross_entropy(output, Y), output)  # not a step of the learner
        learner.backward(cross_entropy(output, Y), output)
    first, second = model(X), model(2 * X)
    with pytest.warns(UserWarning, match="loss depends on two calls of the model"):
        learner.backward(cross_entropy(first, Y) + cross_entropy(second, Y), second)


class Part(nn.Module):
    """Two layers, of which the first `way` computes."""

    def __init__(self, way, second=True):
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6) if second else nn.Identity()
        self.way = way

    def forward(self, x):
        return self.b(self.way(self.a, x)).tanh()


def frozen(part, x):
    with torch.no_grad():
        return part(x)


def again(part, x):
    return checkpoint(part, x, use_reentrant=True)


CHECKED = "got a reentrant one around Linear, whose parameters would have no gradient, .* use use_reentrant=False"


def unused(part, x):
    return x


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize(("way", "told"), [(again, CHECKED), (frozen, "got a constant from Part: use use_reentrant")])
def test_a_block_without_a_graph_is_refused(way, told):
    """A reentrant checkpoint, or no_grad, inside a block. Catches: gradients of None, silently."""
    with pytest.raises(ValueError, match=told):
        step(nn.Sequential(Part(way, second=False), nn.Linear(6, 4)))
    model = nn.Sequential(Part(way, second=False).requires_grad_(False), nn.Linear(6, 4))
    step(model)
    assert model[1].weight.grad.any()


def test_a_block_may_return_its_input():
    """Stochastic depth inside a block. Catches: an error for a block that skips itself."""

    class Skip(nn.Linear):
        def forward(self, x):
            return x

    step(nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Sequential(Skip(6, 6)), nn.Linear(6, 4)))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("second", [True, False])
def test_a_reentrant_checkpoint_of_a_part_is_refused(second):
    """In any block, unless the part is frozen. Catches: a part without gradients and only a warning."""
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), Part(again, second), nn.Linear(6, 4))
    with pytest.raises(ValueError, match=CHECKED):
        step(model)
    model[2].a.requires_grad_(False)
    step(model)


def test_a_plain_step_has_no_further_hooks():
    """On outputs, and before blocks after which no activation is sought. Catches: checks that slow down every step."""
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 4))
    learner = step(model)
    output = model(X)
    assert not output._backward_hooks
    assert not any(layer._forward_pre_hooks for layer in model)
    learner.backward(cross_entropy(output, Y), output)


@pytest.mark.parametrize("way", [frozen, unused])
def test_parameters_that_do_not_learn_are_told(way):
    """A part of a block without a graph. Catches: gradients of None, silently."""
    with pytest.warns(UserWarning, match=r"2 parameters of block '0' \(a.weight ...\) do not affect its output"):
        step(nn.Sequential(Part(way), nn.Linear(6, 4)))


def test_outputs_that_grow_are_told():
    """Once for each block, in a checked step. Catches: weights that run away for epochs without a word."""
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 4))
    learner = DirectFeedback(model, feedback=RandomFeedback(0))
    with pytest.warns(UserWarning) as seen:
        for k in range(160):
            if k == 49:
                model[0].weight.data *= 100.0
                model[2].bias.data += 1e4
            output = model(X)
            learner.backward(cross_entropy(output, Y), output)
    texts = [str(w.message) for w in seen]
    assert [w.filename for w in seen] == [__file__] * 2
    assert "output of block '0' has grown" in texts[0]
    assert "end the block with a bounded activation such as tanh" in texts[0]  # it ends with ReLU
    assert "of the units of block '2' give the same output for every sample" in texts[1]


@pytest.fixture
def process():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("first", [True, False])
def test_sharded_models_are_refused(process, first):
    """Before or after the learner is created. Catches: a training in which nothing changes."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    def shard(model):
        fully_shard(model, mesh=init_device_mesh("cpu", (1,)))

    model = mlp([6, 8, 4])
    with pytest.raises(ValueError, match="must not be sharded by fully_shard"):
        if first:
            shard(model)
        learner = DirectFeedback(model, feedback=RandomFeedback(0))
        shard(model)
        output = model(X)
        learner.backward(cross_entropy(output, Y), output)


class Turned(nn.Module):
    """Tokens first inside, and an output in some order."""

    def __init__(self, end):
        super().__init__()
        self.body, self.head, self.end = nn.Sequential(nn.Linear(6, 8), nn.Tanh()), nn.Linear(8, 4), end

    def forward(self, x):
        return self.end(self.head(self.body(x)))


@pytest.mark.parametrize(
    ("tokens", "end", "told"),
    [
        (5, lambda z: z.transpose(0, 1).flatten(0, 1), True),
        (5, lambda z: z.permute(1, 0, 2).reshape(-1, 4), True),
        (3, lambda z: z.transpose(-3, -2), True),
        (5, lambda z: z.flatten(0, 1), False),
        (3, lambda z: z.transpose(0, 1).transpose(1, 0), False),
        (5, lambda z: z.transpose(1, 2).transpose(1, 2), False),
    ],
)
def test_rows_in_another_order_are_told(tokens, end, told):
    """Catches: every token taught by the error of another one, where the numbers of rows happen to agree."""
    x = torch.ones(tokens, 3, 6)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        step(Turned(end), lambda o, y: o.square().mean(), x)
    assert [("in another order" in str(w.message)) for w in seen] == [True] * told
