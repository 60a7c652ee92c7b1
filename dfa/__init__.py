"""Direct Feedback Alignment in PyTorch, with feedback that passes through the device.

Names are imported on first use, so that ``opu --help`` does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dfa.alignment import alignment
    from dfa.encoding import Ternary
    from dfa.feedback import OpticalFeedback, RandomFeedback
    from dfa.learning import DirectFeedback
    from dfa.train import train

__all__ = ["DirectFeedback", "OpticalFeedback", "RandomFeedback", "Ternary", "alignment", "train"]

HOMES = {
    "DirectFeedback": "learning",
    "OpticalFeedback": "feedback",
    "RandomFeedback": "feedback",
    "Ternary": "encoding",
    "alignment": "alignment",
    "train": "train",
}


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'dfa' has no attribute {name!r}")
    value = getattr(import_module(f"dfa.{HOMES[name]}"), name)
    globals()[name] = value  # `dfa.train` is a function and a module: the function must win from now on
    return value
