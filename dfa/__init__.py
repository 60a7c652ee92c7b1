"""Direct Feedback Alignment in PyTorch, with feedback that passes through the device.

Names are imported on first use, so that ``opu --help`` does not wait for torch.
"""

import lazy_loader

import opu_sim

opu_sim.check("dfa")

_find, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    try:
        return _find(name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ModuleNotFoundError(f"torch is not installed: {opu_sim.install_line('train')}", name="torch") from None
