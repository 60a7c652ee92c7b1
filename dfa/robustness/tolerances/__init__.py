"""How bad each part of a device may be until training loses a stated amount."""

from dfa.robustness.tolerances.lines import LINES, Line, everything, together
from dfa.robustness.tolerances.results import Tolerance, Tolerances, Trial, load
from dfa.robustness.tolerances.search import tolerance

__all__ = ["LINES", "Line", "Tolerance", "Tolerances", "Trial", "everything", "load", "together", "tolerance"]
