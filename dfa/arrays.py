"""Tensors from arrays and sparse matrices of other libraries, and back."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from photonics.backend import HOST, Backend

__all__ = ["as_sparse", "to_array", "to_tensor"]


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


def as_sparse(name: str, matrix: Any, *, beside: str = "") -> Tensor:
    """Return a torch tensor as it is, a copy of a scipy matrix as a sparse one (COO, coalesced).

    Raises
    ------
    ValueError
        If it is neither: it names the argument, and what else is allowed beside a matrix.
    """
    if isinstance(matrix, Tensor):
        return matrix
    if not hasattr(matrix, "tocoo"):
        raise ValueError(f"{name} must be a sparse matrix of torch or scipy{beside}, got {type(matrix).__name__}")
    entries = matrix.tocoo()
    where = torch.stack([torch.as_tensor(entries.row).long(), torch.as_tensor(entries.col).long()])
    return torch.sparse_coo_tensor(where, torch.tensor(entries.data), entries.shape, check_invariants=True).coalesce()
