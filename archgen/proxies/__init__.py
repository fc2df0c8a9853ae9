"""Zero-cost proxies of untrained networks: one file a group; `PROXIES` has them by name."""

from archgen.proxies.activations import Nwot, Swap
from archgen.proxies.az_nas import AZ_NAS, Complexity, Expressivity, Progressivity, Trainability, az_nas
from archgen.proxies.base import PROXIES, Proxy
from archgen.proxies.compute import compute_proxies
from archgen.proxies.count import Flops, Params
from archgen.proxies.jacobian import EpeNas, Jacov
from archgen.proxies.pruning import Fisher, GradNorm, Grasp, L2Norm, Plain, Snip, Synflow
from archgen.proxies.zen import Zen

__all__ = [
    "AZ_NAS",
    "PROXIES",
    "Complexity",
    "EpeNas",
    "Expressivity",
    "Fisher",
    "Flops",
    "GradNorm",
    "Grasp",
    "Jacov",
    "L2Norm",
    "Nwot",
    "Params",
    "Plain",
    "Progressivity",
    "Proxy",
    "Snip",
    "Swap",
    "Synflow",
    "Trainability",
    "Zen",
    "az_nas",
    "compute_proxies",
]
