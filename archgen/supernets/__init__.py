"""Supernets, one a family of spaces; `make_supernet(space, ...)` picks it."""

from archgen.supernets.base import SUPERNETS, Supernet, make_supernet
from archgen.supernets.cell import CellSupernet

__all__ = ["SUPERNETS", "CellSupernet", "Supernet", "make_supernet"]
