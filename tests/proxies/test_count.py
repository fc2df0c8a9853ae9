"""Counts as proxies."""

import torch
from torch import Tensor, nn

from archgen.networks import count_network
from archgen.proxies import Flops, Params


def test_counts_are_those_of_the_network(convolutional: nn.Sequential, batch: tuple[Tensor, Tensor]) -> None:
    counts = count_network(convolutional, (3, 6, 6))
    for proxy, metric in ((Params(), "params"), (Flops(), "flops")):
        assert proxy(convolutional, *batch, generator=torch.Generator()) == counts[metric]
