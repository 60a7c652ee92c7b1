"""The blocks of a model, and the parameters of each block."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.parametrizations import weight_norm

from dfa import DirectFeedback, RandomFeedback
from dfa.models import mlp
from tests.dfa.networks import Tied, Transformer

SIZES = [6, 9, 8, 4]


class Vgg(nn.Module):
    """Two containers, and parameters outside of them."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.features = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3), nn.ReLU(), nn.MaxPool2d(2))
        self.between = nn.BatchNorm2d(2)
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3))


def test_blocks_are_found():
    """Children with parameters of the outermost containers. Catches: containers inside of blocks found as blocks."""
    assert DirectFeedback(mlp(SIZES)).names == ["0", "2", "4"]
    assert DirectFeedback(Transformer(depth=3)).names == ["blocks.0", "blocks.1", "blocks.2", "head"]
    vgg = DirectFeedback(Vgg())
    assert vgg.names == ["features.0", "features.2", "classifier.0", "classifier.3"]
    assert [type(group[-1]).__name__ for group in vgg.blocks] == ["ReLU", "MaxPool2d", "ReLU", "Linear"]


def test_containers_inside_blocks_are_not_blocks():
    model = nn.ModuleDict({"trunk": nn.ModuleList([mlp([3, 4, 3]), mlp([3, 3])]), "head": nn.Linear(3, 2)})
    assert DirectFeedback(model).names == ["trunk.0", "trunk.1", "head"]


def test_blocks_may_be_named():
    model = Transformer(depth=2)
    wanted = ["blocks.0", "blocks.1", "head"]
    for blocks in ("blocks", model.blocks, ["blocks.0", "blocks.1"], [model.blocks[0], "blocks.1"]):
        assert DirectFeedback(model, blocks=blocks).names == wanted
    assert DirectFeedback(mlp(SIZES), blocks=["1", "3"]).names == ["1", "3", "head"]


def test_every_parameter_belongs_to_one_block():
    """Modules outside of blocks belong to the next block or to the head. Catches: parameters counted twice or lost."""
    for learner, wanted in (
        (DirectFeedback(Vgg()), [3, 2, 4, 2]),
        (DirectFeedback(Transformer(depth=2)), [1 + 12, 12, 4]),
        (DirectFeedback(Tied(), ["block"]), [3, 0]),
        (DirectFeedback(mlp(SIZES), blocks=["1", "3"]), [2, 2, 2]),
    ):
        counts = [len(learner.parameters(k)) for k in range(len(learner.names))]
        assert counts == wanted[: len(counts)]
        assert sum(counts) == len(list(learner.model.parameters()))
    vgg = DirectFeedback(Vgg())
    vgg.model.between.requires_grad_(False)
    assert [len(vgg.parameters(k)) for k in range(4)] == [3, 2, 2, 2]


class Scale(nn.Module):
    """A norm of somebody else."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * self.weight


@pytest.mark.parametrize(
    "part",
    [
        nn.BatchNorm1d(8),
        nn.LayerNorm(8),
        nn.GroupNorm(2, 8),
        nn.RMSNorm(8),
        nn.PReLU(8),
        Scale(8),
        Scale((1, 8, 1, 1)),
        nn.Dropout(),
    ],
)
def test_norms_and_the_like_join_the_block_before(part):
    """Catches: a norm as a block of its own, which doubles the pixels and teaches the layer before it without it."""
    model = nn.Sequential(nn.Linear(5, 8), part, nn.ReLU(), nn.Linear(8, 8), part, nn.ReLU(), nn.Linear(8, 3))
    learner = DirectFeedback(model)
    assert learner.names == ["0", "3", "6"]
    assert [type(group[-1]) for group in learner.blocks] == [nn.ReLU, nn.ReLU, nn.Linear]


def test_a_norm_before_the_first_layer_joins_it():
    model = nn.Sequential(nn.LayerNorm(5), nn.Linear(5, 8), nn.LayerNorm((8,)), nn.GELU(), nn.LazyLinear(3))
    assert [[type(m).__name__ for m in group] for group in DirectFeedback(model).blocks] == [
        ["LayerNorm", "Linear", "LayerNorm", "GELU"],
        ["LazyLinear"],
    ]


def test_a_parametrised_layer_is_one_block():
    """Catches: blocks inside of a layer, cut between its parameters."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = weight_norm(nn.Linear(5, 8))
            self.body = nn.Sequential(weight_norm(nn.Linear(8, 8)), nn.Tanh(), nn.Linear(8, 3))

        def forward(self, x):
            return self.body(self.first(x).tanh())

    learner = DirectFeedback(Net(), feedback=RandomFeedback(0))
    assert learner.names == ["body.0", "body.2"]
    output = learner.model(torch.ones(4, 5))
    learner.backward(cross_entropy(output, torch.arange(4) % 3), output)
    assert all(p.grad.any() for name, p in learner.model.named_parameters() if "original1" in name)
    with pytest.raises(ValueError, match=r"blocks must be named, ModuleDict contains no .* blocks=\['a'\]"):
        DirectFeedback(nn.ModuleDict({"a": weight_norm(nn.Linear(5, 8)), "b": weight_norm(nn.Linear(8, 3))}))


def test_nested_blocks_are_refused():
    """Catches: a block cut in the middle by another one."""
    with pytest.raises(ValueError, match=r"must not contain each other, got '1\.0' inside '1'"):
        DirectFeedback(nn.Sequential(nn.Linear(3, 4), mlp([4, 4, 4])), blocks=["0", "1", "1.0"])


def test_a_block_that_was_replaced_is_refused():
    """Also by `parameters`. Catches: a KeyError; a new block that learns by backpropagation."""
    learner = DirectFeedback(mlp(SIZES), feedback=RandomFeedback(0))
    for place, parts in ((4, (8, 10)), (2, (9, 8))):
        learner.model[place] = nn.Linear(*parts)
        output = learner.model(torch.ones(5, 6))
        with pytest.raises(ValueError, match=r"got Linear that was replaced .* create the learner"):
            learner.backward(cross_entropy(output, torch.arange(5) % 4), output)
        with pytest.raises(ValueError, match="replaced after the learner was created"):
            learner.parameters(0)


def test_a_head_that_was_replaced_learns():
    """The head is no block. Catches: an error for a new head."""
    learner = DirectFeedback(mlp(SIZES), ["1", "3"], RandomFeedback(0))
    learner.model[4] = nn.Linear(8, 7)
    output = learner.model(torch.ones(5, 6))
    learner.backward(cross_entropy(output, torch.arange(5)), output)
    assert [len(learner.parameters(k)) for k in range(3)] == [2, 2, 2]
    assert all(p.grad is not None for p in learner.model.parameters())


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_scripted_modules():
    """They take no hooks, and call none inside. Catches: backpropagation, or an error about something else."""
    with pytest.raises(ValueError, match=r"model must not come from torch\.jit"):
        DirectFeedback(torch.jit.script(mlp(SIZES)))
    part, end = torch.jit.script(mlp([6, 9])), torch.jit.script(mlp([9, 4]))
    with pytest.raises(ValueError, match=r"blocks must not end with a module from torch\.jit"):
        DirectFeedback(nn.Sequential(part, nn.Tanh(), end))
    learner = DirectFeedback(nn.Sequential(part, nn.Tanh(), nn.Sequential(end, nn.Identity())))
    learner.feedback = RandomFeedback(0)
    output = learner.model(torch.ones(5, 6))
    learner.backward(cross_entropy(output, torch.arange(5) % 4), output)
    assert learner.names == ["0", "2"]
    assert all(p.grad.any() for p in learner.model.parameters())
