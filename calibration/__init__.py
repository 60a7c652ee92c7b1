"""From frames alone: linear projections, characterisation, reports.

Names are imported on first use.
"""

import lazy_loader

from opu_sim import check

check("calibration")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
