"""Search spaces, one file a family; `load(name)` reads `spaces/<name>.toml`."""

from archgen.spaces.base import FAMILIES, SearchSpace, available, load, read
from archgen.spaces.cell import CellSpace

__all__ = ["FAMILIES", "CellSpace", "SearchSpace", "available", "load", "read"]
