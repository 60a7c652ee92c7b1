"""What the objects of the packages print."""

import numpy as np

from calibration import measure_projection
from dfa import DirectFeedback, LayerFeedback, OpticalFeedback, Plan, RandomFeedback, Ternary
from dfa.data import digits
from dfa.models import mlp
from dfa.robustness import Grid, Paired, TrainingStudy
from dfa.robustness.studies import prepare
from photonics import MatrixMedium, presets

MAX_LENGTH = 300


def objects():
    """One of each kind, by words that its text must contain."""
    opu = presets.lab_bench(20, 160)
    model, optical = mlp([64, 128, 10]), OpticalFeedback(measure_projection(opu, n_inputs=10), Ternary(threshold=0.1))
    return {
        "8-bit camera, 1000 frames/s": opu,
        "frames=": opu.clock,
        "0.001 s each": opu.timing(10),
        "AnchorProjection(10 -> 160": optical,
        "encoder=Ternary(threshold=0.1)": optical,
        "matrix=128 x 10": RandomFeedback(matrix=np.ones((128, 10))),
        "2 blocks: 0, 2; feedback=OpticalFeedback(": DirectFeedback(model, feedback=optical),
        "feedback=FunctionFeedback(objects.": DirectFeedback(model, feedback=lambda error, widths: []),
        "weights='sign'": LayerFeedback(model, "sign"),
        "Plan(network='mlp', hidden=(9,)": Plan(hidden=(9,), device=opu.to_dict()),
        "method='dfa'": TrainingStudy(Plan(device=opu.to_dict()), "dfa"),
        "'Read noise': ": prepare("read_noise"),
        "Grid(6 points; camera.bit_depth: 2, ": Grid({"camera.bit_depth": [4, 8], "camera.read_noise_e": [1, 2, 3]}),
        "Paired(1 points": Paired([{"camera.bit_depth": 4}]),
        "train 1077": digits(),
        "MatrixMedium(100 x 100": MatrixMedium(np.ones((100, 100))),
    }


def test_every_object_says_what_it_is():
    """One short line. Catches: ``<object at 0x7f...>``, and arrays or whole descriptions of a device in a text."""
    for words, made in objects().items():
        text = repr(made)
        assert words in text
        assert len(text) < MAX_LENGTH and "\n" not in text and " object at 0x" not in text
