from .costs.table import scaling
from .experiments.plans import Plan
from .feedback.encoding import Graded, Ternary
from .feedback.fitted import KolenPollack, LeastSquares
from .feedback.medium import MediumFeedback
from .feedback.optical import OpticalFeedback
from .feedback.random import RandomFeedback
from .feedback.ranks import RankDevice, RankFeedback
from .robustness.tolerances.search import tolerance
from .rules.check import check
from .rules.direct import DirectFeedback
from .rules.layerwise import LayerFeedback
from .rules.parallel import LayerParallel
from .sweeps.sweeping import sweep
from .training.angles import alignment
from .training.images import train
from .training.rank_checkpoint import RankCheckpoint

__all__ = [
    "DirectFeedback",
    "Graded",
    "KolenPollack",
    "LayerFeedback",
    "LayerParallel",
    "LeastSquares",
    "MediumFeedback",
    "OpticalFeedback",
    "Plan",
    "RandomFeedback",
    "RankCheckpoint",
    "RankDevice",
    "RankFeedback",
    "Ternary",
    "alignment",
    "check",
    "scaling",
    "sweep",
    "tolerance",
    "train",
]
