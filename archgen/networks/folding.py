"""Batch normalisation folded into the convolutions before it, as every runtime does that computes with a network."""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise

from torch import nn
from torch.nn.utils import fuse_conv_bn_eval


def folded(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode that computes the same with fewer operations.

    In each `nn.Sequential` a 2-d convolution, weight `W` of `outputs x inputs x h x w` and bias `b`, takes up the batch
    normalisation of scale `g`, shift `s`, mean `m` and variance `v` that follows it: `W g / sqrt(v + eps)` and
    `(b - m) g / sqrt(v + eps) + s`, by `torch.nn.utils.fuse_conv_bn_eval`. What a module computes in a forward of its
    own stays as it is, because the order of its parts is not known there.

    Args:
        network: Any; it stays as it is.

    Returns:
        The copy; its outputs are the network's up to rounding.
    """
    copy = deepcopy(network).eval()
    for module in copy.modules():
        if type(module).forward is not nn.Sequential.forward:
            continue
        for (name, first), (following, second) in pairwise(list(module.named_children())):
            if type(first) is nn.Conv2d and type(second) is nn.BatchNorm2d and second.running_var is not None:
                setattr(module, name, fuse_conv_bn_eval(first, second))
                setattr(module, following, nn.Identity())
    return copy
