"""The blocks of a model, and the parameters of each block."""

import torch
from torch import nn

from dfa import DirectFeedback
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
