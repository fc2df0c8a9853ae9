"""Supernets, one a family of spaces; `make_supernet(space, ...)` picks it."""

from archgen.supernets.base import SUPERNETS, Supernet, make_supernet, recalibrate
from archgen.supernets.cell import CellSupernet
from archgen.supernets.elastic import ElasticSupernet
from archgen.supernets.genotype import GenotypeSupernet
from archgen.supernets.module import ModuleSupernet

__all__ = [
    "SUPERNETS",
    "CellSupernet",
    "ElasticSupernet",
    "GenotypeSupernet",
    "ModuleSupernet",
    "Supernet",
    "make_supernet",
    "recalibrate",
]
