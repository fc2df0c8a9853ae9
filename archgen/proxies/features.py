"""Where in a network the proxies look: its blocks, and what comes before global pooling."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from archgen.errors import ArchgenError
from archgen.proxies.base import Proxy, watching


def block_outputs(network: nn.Module, images: Tensor, proxy: Proxy) -> list[Tensor]:
    """Outputs of the stem and of each block, in the order that they run, with their graph.

    Blocks are the members of the network's own lists and dictionaries of modules (`nn.ModuleList`, `nn.ModuleDict`)
    that give a map `b c h w` or tokens `b n c`; identities are no blocks. What runs before the first block is the
    stem, what runs after the last is the head and left out, and so is what changes the image before any weight.

    Raises:
        ArchgenError: There are fewer than two such outputs.
    """
    containers = [child for child in network.children() if isinstance(child, nn.ModuleList | nn.ModuleDict)]
    members = {member for container in containers for member in container.children()}
    others = {child for child in network.children() if child not in containers}
    found: list[tuple[bool, Tensor]] = []

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        started = bool(found) or any(True for _ in module.parameters())
        if output.dim() in (3, 4) and started and not isinstance(module, nn.Identity):
            found.append((module in members, output))

    with watching([*members, *others], hook):
        network(images)
    while found and not found[-1][0]:
        found.pop()
    if len(found) < 2:
        raise ArchgenError(
            f"the proxy {proxy.name} compares the blocks of a network: expected at least a stem and one block in an "
            f"nn.ModuleList or nn.ModuleDict of it, found {len(found)}"
        )
    return [output for _, output in found]


def before_pooling(network: nn.Module, images: Tensor, proxy: Proxy) -> Tensor:
    """What the last global pooling that runs reads, `b c h w`.

    Raises:
        ArchgenError: There is no global pooling.
    """
    read: list[Tensor] = []

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        read[:] = [inputs[0]]

    pools = [module for module in network.modules() if isinstance(module, nn.AdaptiveAvgPool2d)]
    with watching(pools, hook), torch.no_grad():
        network(images)
    if not read:
        raise ArchgenError(
            f"the proxy {proxy.name} reads the map before global average pooling (nn.AdaptiveAvgPool2d), which this "
            "network does not have; leave it out for this space"
        )
    return read[0]
