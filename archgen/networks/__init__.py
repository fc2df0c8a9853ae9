"""The target networks: operations, cells and the skeletons that stack them."""

from archgen.networks.cell import CellNetwork, CellSkeleton
from archgen.networks.count import count_network
from archgen.networks.operations import OPERATIONS

__all__ = ["OPERATIONS", "CellNetwork", "CellSkeleton", "count_network"]
