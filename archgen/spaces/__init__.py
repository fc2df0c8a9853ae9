"""Search spaces, one file a family; `load(name)` reads `spaces/<name>.toml`."""

from archgen.spaces import transformers  # noqa: F401  (registers their text forms)
from archgen.spaces.base import FAMILIES, SearchSpace
from archgen.spaces.cell import CellSpace
from archgen.spaces.chain import ChainSpace
from archgen.spaces.copying import copy_space
from archgen.spaces.genotype import GenotypeSpace
from archgen.spaces.loading import available, for_images, is_path, load, read
from archgen.spaces.modules import ModuleSpace
from archgen.spaces.restricted import RestrictedSpace
from archgen.spaces.trees import TreeSpace

__all__ = [
    "FAMILIES",
    "CellSpace",
    "ChainSpace",
    "GenotypeSpace",
    "ModuleSpace",
    "RestrictedSpace",
    "SearchSpace",
    "TreeSpace",
    "available",
    "copy_space",
    "for_images",
    "is_path",
    "load",
    "read",
]
