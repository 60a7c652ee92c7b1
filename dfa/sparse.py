"""Sparse matrices of scipy as those of torch."""

from typing import Any

import torch
from torch import Tensor

__all__ = ["as_sparse"]


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
