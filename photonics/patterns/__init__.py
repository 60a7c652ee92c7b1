"""Binary patterns: encodings of bits, grey levels and complex fields on mirrors that are ON or OFF."""

from photonics.patterns.base import Encoding
from photonics.patterns.halftone import Bernoulli, ErrorDiffusion, Threshold
from photonics.patterns.holograms import LeeHologram, Superpixel
from photonics.patterns.planes import BitPlanes, TernaryPair

__all__ = [
    "Bernoulli",
    "BitPlanes",
    "Encoding",
    "ErrorDiffusion",
    "LeeHologram",
    "Superpixel",
    "TernaryPair",
    "Threshold",
]
