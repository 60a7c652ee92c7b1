"""Networks, each built so that its blocks are its children."""

from dfa.models.mlp import mlp

__all__ = ["mlp"]
