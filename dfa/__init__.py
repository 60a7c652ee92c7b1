"""Direct Feedback Alignment in PyTorch, with feedback that passes through the device.

Names are imported on first use, so that ``opu --help`` does not wait for torch.
"""

import lazy_loader

from opu_sim import check

check("dfa")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
