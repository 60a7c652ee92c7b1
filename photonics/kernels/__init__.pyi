from . import cpu, diffusion, entries, product, screens

__all__ = ["cpu", "diffusion", "entries", "product", "screens"]
