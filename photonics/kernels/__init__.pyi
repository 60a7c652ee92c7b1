from . import cpu, diffusion, entries, frames, product, screens, tables

__all__ = ["cpu", "diffusion", "entries", "frames", "product", "screens", "tables"]
