"""Networks whose children are their blocks."""

from dfa.models.chain import Chain
from dfa.models.cnn import cnn
from dfa.models.gcn import gcn
from dfa.models.mlp import mlp
from dfa.models.transformer import char_transformer

__all__ = ["Chain", "char_transformer", "cnn", "gcn", "mlp"]
