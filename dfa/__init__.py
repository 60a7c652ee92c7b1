"""Direct Feedback Alignment in PyTorch, with feedback that passes through the device.

Names are imported on first use, so that ``opu --help`` does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dfa.angles import alignment
    from dfa.encoding import Graded, Ternary
    from dfa.feedback import RandomFeedback
    from dfa.layerwise import LayerFeedback
    from dfa.learning import DirectFeedback
    from dfa.optical import OpticalFeedback
    from dfa.parallel import LayerParallel
    from dfa.robustness.sweeping import sweep
    from dfa.training import train

__all__ = [
    "DirectFeedback",
    "Graded",
    "LayerFeedback",
    "LayerParallel",
    "OpticalFeedback",
    "RandomFeedback",
    "Ternary",
    "alignment",
    "sweep",
    "train",
]

HOMES = {
    "DirectFeedback": "learning",
    "Graded": "encoding",
    "LayerFeedback": "layerwise",
    "LayerParallel": "parallel",
    "OpticalFeedback": "optical",
    "RandomFeedback": "feedback",
    "Ternary": "encoding",
    "alignment": "angles",
    "sweep": "robustness.sweeping",
    "train": "training",
}


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'dfa' has no attribute {name!r}")
    return getattr(import_module(f"dfa.{HOMES[name]}"), name)  # no file may have the name of what it holds
