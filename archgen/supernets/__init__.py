"""Supernets, one a family of spaces; `make_supernet(space, ...)` picks it."""

from archgen.supernets.base import SUPERNETS, Supernet, make_supernet, recalibrate
from archgen.supernets.cell import CellSupernet
from archgen.supernets.elastic import ElasticSupernet
from archgen.supernets.genotype import GenotypeSupernet
from archgen.supernets.mixed import MixedSupernet, mixed_supernet
from archgen.supernets.mixture import MixtureSupernet, mixture
from archgen.supernets.module import ModuleSupernet
from archgen.supernets.split import SplitSupernet, split, split_as

__all__ = [
    "SUPERNETS",
    "CellSupernet",
    "ElasticSupernet",
    "GenotypeSupernet",
    "MixedSupernet",
    "MixtureSupernet",
    "ModuleSupernet",
    "SplitSupernet",
    "Supernet",
    "make_supernet",
    "mixed_supernet",
    "mixture",
    "recalibrate",
    "split",
    "split_as",
]
