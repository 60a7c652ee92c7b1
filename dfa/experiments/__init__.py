"""Planned training runs, compared over methods and seeds.

Names are imported on first use, so that importing the package does not load torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
