"""Supernets, one a family of spaces; `make_supernet(space, ...)` picks it."""

from archgen.supernets.base import SUPERNETS, Supernet, calibrated, make_supernet, recalibrate
from archgen.supernets.cell import CellSupernet
from archgen.supernets.elastic import ElasticSupernet
from archgen.supernets.genotype import GenotypeSupernet
from archgen.supernets.mixture import MixtureSupernet, mixture
from archgen.supernets.module import ModuleSupernet
from archgen.supernets.relaxed import RelaxedSupernet, relaxed_supernet
from archgen.supernets.split import SplitSupernet, split, split_as

__all__ = [
    "SUPERNETS",
    "CellSupernet",
    "ElasticSupernet",
    "GenotypeSupernet",
    "MixtureSupernet",
    "ModuleSupernet",
    "RelaxedSupernet",
    "SplitSupernet",
    "Supernet",
    "calibrated",
    "make_supernet",
    "mixture",
    "recalibrate",
    "relaxed_supernet",
    "split",
    "split_as",
]
