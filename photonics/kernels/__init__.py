"""Compiled code for CPU and GPU: the distributions of the generator and of the sensor, and loops over them.

Modules are imported when the first frame needs them, because numba loads slowly: write ``kernels.cpu.fill_words``.
"""

import lazy_loader

__getattr__, __dir__, _ = lazy_loader.attach_stub(__name__, __file__)
