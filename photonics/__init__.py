"""The optics chain of the photonic co-processor: laser, mirrors, scattering medium, camera.

Names are imported on first use, because scikit-learn, which `OPUFeatures` needs, loads more slowly than this package.
"""

import lazy_loader

from opu_sim import check

check("photonics")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
