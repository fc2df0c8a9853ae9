"""Node-wise zero-cost statistics: what the proxies sum over a network's layers, left apart."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from archgen import artifacts
from archgen.artifacts import Checkpoint
from archgen.errors import ArchgenError, InvalidCheckpoint
from archgen.graph import Architecture
from archgen.spaces import SearchSpace
from archgen.threads import single_threaded

STATISTICS = ("grad_norm", "snip", "fisher", "synflow", "l2_norm", "parameters")
"""Of a node, in this order; see `NodeStatistics`."""
SMALL = {
    **{"cells": 1, "channels": 4, "width_percent": 25, "classes": 10, "in_channels": 3, "image_size": 8},
    **{"vocabulary": 64, "tokens": 16},
}
"""Values of those arguments of `build` that a space has: a network of a few layers."""
BATCH = 8
REMEMBERED = 50_000
"""Architectures whose statistics are kept."""
KIND = "node_statistics"
"""Of the checkpoint."""
_NORMALISATION = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.modules.instancenorm._InstanceNorm)
_LEAST = 1e-12

Weighted = nn.Conv1d | nn.Conv2d | nn.Linear

Rows = dict[str, NDArray[np.float32]]
"""The statistics of each node that runs, by the name of its module in the network."""


class NodeStatistics:
    r"""Zero-cost statistics of each node of an untrained network; a node is a convolution or a linear layer.

    With `w` the weights of a node, `L` the cross-entropy of a batch, `a` the node's output and `R` the sum of the
    logits of an image of ones in the network with all parameters replaced by their magnitudes:

    - `grad_norm`: :math:`\|\partial L / \partial w\|`;
    - `snip`: :math:`\sum_w |w \, \partial L / \partial w|`;
    - `fisher`: :math:`\sum_c \frac{1}{2 b} \sum_i (\sum_p a_{icp} \, \partial L / \partial a_{icp})^2`;
    - `synflow`: :math:`\sum_w |w \, \partial R / \partial w|`, normalisation passed through, in double precision;
    - `l2_norm`: :math:`\|w\|`;
    - `parameters`: the number of weights.

    All are given as natural logarithms, since they span orders of magnitude. They are terms of the proxies of the same
    names (Zero-Cost Proxies for Lightweight NAS, arXiv 2101.08134), which sum them over nodes.

    The network is a reduced one, by `SMALL`: one cell a stage, four channels, small images, so that thousands of
    architectures take a minute. Its weights depend on the seed and the simplified architecture, the batch on the seed
    alone. Nodes whose output does not reach the logits are left out. Values are kept by simplified architecture: those
    of one canonical form may still have their nodes in other places of the network.

    Args:
        space: The space.
        seed: Of weights and batch.
        **network: Arguments of `space.build`; `SMALL` where not given.
    """

    def __init__(self, space: SearchSpace, seed: int = 0, **network: int) -> None:
        self.space, self.seed = space, seed
        self.network = {name: value for name, value in SMALL.items() if name in space.network_defaults} | network
        self._known: dict[Architecture, Rows] = {}
        generator = torch.Generator().manual_seed(seed)
        example = space.example_input(BATCH, **self.network)
        arguments = {**space.network_defaults, **self.network}
        if example.is_floating_point():
            self._images = torch.randn(example.shape, generator=generator)
        else:
            self._images = torch.randint(arguments["vocabulary"], example.shape, generator=generator)
        self._targets = torch.randint(arguments.get("classes", 10), (BATCH,), generator=generator)

    def __call__(self, archs: Sequence[Architecture]) -> list[Rows]:
        """Statistics of the nodes of each architecture, `len(STATISTICS)` a node."""
        if len(self._known) + len(archs) > REMEMBERED:  # memory must not grow with the samples
            self._known.clear()
        simple = [self.space.simplify(arch) for arch in archs]
        with single_threaded():
            for arch in dict.fromkeys(simple):
                if arch not in self._known:
                    self._known[arch] = self._measure(arch)
        return [self._known[arch] for arch in simple]

    def __len__(self) -> int:
        """Architectures, simplified, whose statistics are known."""
        return len(self._known)

    def save(self, folder: Path, card: str) -> None:
        """Write all that is known to a checkpoint folder with its card, for `recall`."""
        nodes = sorted({name for rows in self._known.values() for name in rows})
        values = np.full((len(self._known), len(nodes), len(STATISTICS)), np.nan, dtype=np.float32)
        place = {name: i for i, name in enumerate(nodes)}
        for i, rows in enumerate(self._known.values()):
            for name, row in rows.items():
                values[i, place[name]] = row
        lines = "\n".join(self.space.format(arch) for arch in self._known)
        tensors = {
            "values": torch.from_numpy(values),  # NaN where an architecture has no such node
            "architectures": torch.tensor(bytearray(lines.encode()), dtype=torch.uint8),
        }
        artifacts.save_checkpoint(folder, Checkpoint(KIND, KIND, {**self.setting, "nodes": nodes}, tensors), card)

    def recall(self, folder: Path) -> NodeStatistics:
        """Know what was saved beside what is known; returns itself.

        Raises:
            InvalidCheckpoint: None there, a truncated one, or of another space, seed or network.
        """
        checkpoint = artifacts.load_checkpoint(folder, KIND)
        config, wanted = dict(checkpoint.config), self.setting
        nodes = config.pop("nodes", None)
        if config != wanted:
            raise InvalidCheckpoint(f"{folder} has the statistics of {config}, expected those of {wanted}")
        try:
            lines = bytes(checkpoint.tensors["architectures"].tolist()).decode().splitlines()
            for line, values in zip(lines, checkpoint.tensors["values"].numpy(), strict=True):
                rows = {name: row for name, row in zip(nodes, values, strict=True) if not np.isnan(row).any()}
                self._known[self.space.parse(line)] = rows
        except (KeyError, TypeError, ValueError, ArchgenError) as error:
            raise InvalidCheckpoint(f"{folder} has not whole node statistics ({error!r}); measure them again") from None
        return self

    @property
    def setting(self) -> dict[str, Any]:
        """What statistics depend on beside the architecture."""
        return {"space": self.space.name, "seed": self.seed, "network": self.network}

    def _measure(self, arch: Architecture) -> Rows:
        digest = hashlib.blake2b(f"{self.seed}\n{self.space.format(arch)}".encode(), digest_size=8).digest()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int.from_bytes(digest, "big") >> 1)
            network = self.space.build(arch, **self.network).train()
        for module in network.modules():
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.eval()
        nodes = {name: module for name, module in network.named_modules() if isinstance(module, Weighted)}
        if not nodes:
            raise ArchgenError(f"{self.space.name}: a network without convolutions or linear layers has no nodes")
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            gradients = self._gradients(network, nodes)
            flows = self._flows(network, nodes)
        rows: Rows = {}
        for name, module in nodes.items():
            if name in gradients:
                weight = module.weight.detach()
                row = [*gradients[name], flows.get(name, 0.0), float(weight.norm()), float(weight.numel())]
                rows[name] = np.log(np.maximum(np.nan_to_num(row, posinf=1e30), _LEAST)).astype(np.float32)
        return rows

    def _gradients(self, network: nn.Module, nodes: dict[str, Weighted]) -> dict[str, list[float]]:
        """`grad_norm`, `snip` and `fisher` of the nodes that the loss depends on."""
        outputs: dict[str, Tensor] = {}

        def watch(name: str) -> torch.utils.hooks.RemovableHandle:
            return nodes[name].register_forward_hook(lambda module, inputs, output: outputs.update({name: output}))

        handles = [watch(name) for name in nodes]
        loss = F.cross_entropy(network(self._images), self._targets)
        for handle in handles:
            handle.remove()
        names = list(outputs)
        if not names or not loss.requires_grad:
            return {}
        weights = [nodes[name].weight for name in names]
        found = torch.autograd.grad(loss, [*weights, *(outputs[name] for name in names)], allow_unused=True)
        values: dict[str, list[float]] = {}
        for name, weight, by_weight, by_output in zip(
            names, weights, found[: len(names)], found[len(names) :], strict=True
        ):
            if by_weight is None or by_output is None:
                continue
            product = outputs[name].detach() * by_output
            if not isinstance(nodes[name], nn.Linear):
                product = product.transpose(1, -1)  # channels last
            per_image = product.flatten(1, -2).sum(1) if product.dim() > 2 else product
            fisher = float(per_image.pow(2).mean(0).sum()) / 2
            values[name] = [float(by_weight.norm()), float((weight.detach() * by_weight).abs().sum()), fisher]
        return values

    def _flows(self, network: nn.Module, nodes: dict[str, Weighted]) -> dict[str, float]:
        """`synflow` of the nodes; none where tokens are read, which can not be ones, or nothing flows."""
        if not self._images.is_floating_point():
            return {}
        for module in list(network.modules()):
            for name, child in module.named_children():
                if isinstance(child, _NORMALISATION):
                    setattr(module, name, nn.Identity())
        network.double()
        with torch.no_grad():
            for tensor in (*network.parameters(), *network.buffers()):
                tensor.abs_()
        weights = [module.weight for module in nodes.values()]
        flow = network(torch.ones_like(self._images[:1], dtype=torch.double)).sum()
        gradients = torch.autograd.grad(flow, weights, allow_unused=True)
        triples = zip(nodes, weights, gradients, strict=True)
        values = {name: float((w.detach() * g).abs().sum()) for name, w, g in triples if g is not None}
        return {name: value for name, value in values.items() if math.isfinite(value)}
