from .curves import draw_blocks, draw_feedback
from .devices import change_device
from .page import comparison_page, draw_scores
from .plans import Plan
from .runs import DEMO, Run, compare_methods, run_one, summary
from .stored import read_results
from .teachers import METHODS, STANDARD_METHODS

__all__ = [
    "DEMO",
    "METHODS",
    "STANDARD_METHODS",
    "Plan",
    "Run",
    "change_device",
    "compare_methods",
    "comparison_page",
    "draw_blocks",
    "draw_feedback",
    "draw_scores",
    "read_results",
    "run_one",
    "summary",
]
