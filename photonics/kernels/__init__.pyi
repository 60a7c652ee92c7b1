from . import cpu, diffusion, entries, frames, product, screens, tables, turns

__all__ = ["cpu", "diffusion", "entries", "frames", "product", "screens", "tables", "turns"]
