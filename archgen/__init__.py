"""Designs neural networks to order: architectures are generated under objectives, not filtered from a list.

Example:
    >>> import archgen
    >>> sampler = archgen.GuidedSampler.from_pretrained("nasbench201")
    >>> samples = sampler.sample(8, [archgen.maximize("cifar10_val_acc"), archgen.at_most("latency_ms", 5.0)], seed=0)
    >>> samples.to_frame()
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from archgen.errors import ArchgenError
from archgen.objectives import Objective, at_least, at_most, maximize, minimize

if TYPE_CHECKING:
    from archgen.design import DesignRequest
    from archgen.graph import Architecture
    from archgen.sampler import GuidedSampler
    from archgen.samples import Samples
    from archgen.spaces import load as load_space

# Imports of torch and friends wait until a name is used. The function `design` is not among the names: its module has
# the same name, and whoever imports that would turn one into the other.
_LAZY = {
    "Architecture": ("archgen.graph", "Architecture"),
    "DesignRequest": ("archgen.design", "DesignRequest"),
    "GuidedSampler": ("archgen.sampler", "GuidedSampler"),
    "Samples": ("archgen.samples", "Samples"),
    "load_space": ("archgen.spaces", "load"),
}

__all__ = [
    "ArchgenError",
    "Architecture",
    "DesignRequest",
    "GuidedSampler",
    "Objective",
    "Samples",
    "at_least",
    "at_most",
    "load_space",
    "maximize",
    "minimize",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'archgen' has no attribute '{name}'")
    module, attribute = _LAZY[name]
    return getattr(import_module(module), attribute)
