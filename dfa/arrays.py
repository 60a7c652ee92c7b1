"""Tensors as arrays of the device's library and back: the same memory, no copy."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from photonics.backend import HOST, Backend

__all__ = ["to_array", "to_tensor"]


def to_array(tensor: Tensor, backend: Backend = HOST) -> Any:
    """The tensor's memory as an array of `backend`, without its graph.

    Between the host and numpy, and between a GPU and cupy, nothing is copied; a tensor that lies elsewhere than the
    backend is moved first.
    """
    tensor = tensor.detach()
    if backend.on_host:
        return tensor.cpu().numpy()
    if backend.name == "cupy":
        tensor = tensor.to(torch.device("cuda", backend.device.id))
    return backend.xp.from_dlpack(tensor.contiguous())


def to_tensor(array: Any) -> Tensor:
    """The array's memory as a tensor: numpy's on the host, another library's (DLPack) where it lies.

    A numpy array that may not be written is copied, as a tensor always may be.
    """
    if isinstance(array, np.ndarray):
        return torch.from_numpy(array if array.flags.writeable else array.copy())
    return torch.from_dlpack(array)
