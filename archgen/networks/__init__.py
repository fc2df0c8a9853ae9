"""The target networks: operations, cells and the skeletons that stack them."""

from archgen.networks.autoformer import autoformer
from archgen.networks.cell import CellNetwork, CellSkeleton
from archgen.networks.count import count_network
from archgen.networks.darts import DartsNetwork
from archgen.networks.fbnet import fbnet
from archgen.networks.flexibert import flexibert
from archgen.networks.image import image
from archgen.networks.mbconv import MBConv
from archgen.networks.mobilenetv3 import mobilenetv3
from archgen.networks.module import ModuleNetwork
from archgen.networks.nasbench_macro import nasbench_macro
from archgen.networks.operations import OPERATIONS
from archgen.networks.skeleton import SKELETONS, Segment, SegmentNetwork
from archgen.networks.tree_network import GRAPH_OPERATIONS, TreeNetwork, count_tree_network
from archgen.networks.vit_resnas import vit_resnas

__all__ = [
    "GRAPH_OPERATIONS",
    "OPERATIONS",
    "SKELETONS",
    "CellNetwork",
    "CellSkeleton",
    "DartsNetwork",
    "MBConv",
    "ModuleNetwork",
    "Segment",
    "SegmentNetwork",
    "TreeNetwork",
    "autoformer",
    "count_network",
    "count_tree_network",
    "fbnet",
    "flexibert",
    "image",
    "mobilenetv3",
    "nasbench_macro",
    "vit_resnas",
]
