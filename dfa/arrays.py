"""Tensors from arrays and sparse matrices of other libraries, and back."""

import numpy as np
import torch
from scipy.sparse import coo_array, sparray, spmatrix
from torch import Tensor

from photonics.arrays import Array
from photonics.backend import HOST, Backend

__all__ = ["as_sparse", "to_array", "to_tensor"]


def to_array(tensor: Tensor, backend: Backend = HOST) -> Array:
    """Array of `backend` that shares the memory of a tensor, without its graph.

    Between the host and numpy, and (by DLPack) between a GPU and cupy, nothing is copied. A tensor elsewhere is moved
    first.
    """
    tensor = tensor.detach()
    if backend.on_host:
        return tensor.cpu().numpy()
    if backend.name == "cupy":
        return backend.xp.from_dlpack(tensor.to(torch.device("cuda", backend.device.id)).contiguous())
    return backend.xp.from_dlpack(tensor.contiguous(), device=backend.device)


def to_tensor(array: Array) -> Tensor:
    """Tensor that shares the memory of an array, of numpy or (by DLPack) of another library, on the same device.

    A read-only numpy array is copied, because tensors are always writable.
    """
    if isinstance(array, np.ndarray):
        return torch.from_numpy(array if array.flags.writeable else array.copy())
    return torch.from_dlpack(array)


def as_sparse(matrix: Tensor | sparray | spmatrix, name: str, alternative: str = "") -> Tensor:
    """Return a torch tensor unchanged, and a scipy matrix as a sparse tensor (a copy, COO, coalesced).

    Parameters
    ----------
    matrix : Tensor or scipy matrix
        Two-dimensional.
    name : str
        Name of the argument, for the error.
    alternative : str
        Another type that the caller allows, for the error.

    Raises
    ------
    ValueError
        If `matrix` has another type.
    """
    if isinstance(matrix, Tensor):
        return matrix
    if not isinstance(matrix, sparray | spmatrix):
        allowed = "a sparse matrix of torch or scipy" + (f" or {alternative}" if alternative else "")
        raise ValueError(f"{name} must be {allowed}, got {type(matrix).__name__}")
    entries = coo_array(matrix)
    indices = torch.stack([torch.as_tensor(entries.row).long(), torch.as_tensor(entries.col).long()])
    return torch.sparse_coo_tensor(indices, torch.tensor(entries.data), entries.shape, check_invariants=True).coalesce()
