"""Networks for node classification out of graph convolutions, as NAS-Bench-Graph trains them (arXiv 2206.09166).

The paper describes the search space (section 3) and not the layers around it; these follow its published training code:
normalisation and ReLU before each operation that does not read raw features (where one does, the normalisation is there
and not used), the leaves concatenated, ReLU, and a linear layer.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from archgen.registry import Registry

Make = TypeVar("Make", bound=Callable[[int, int], nn.Module])

Propagated = Callable[[int, int, int, int], int]
"""Widths of inputs and outputs, nodes and edges, to multiply-adds of sums over neighbours."""


@dataclass(frozen=True)
class GraphOperation:
    """An operation of a tree.

    Args:
        make: `(inputs, outputs) -> module` of features `n inputs` and edges `2 e` to features `n outputs`.
        matrices: How many `inputs x outputs` matrices every node is multiplied by.
        propagated: What sums over neighbours cost, in the order in which PyTorch Geometric's layer computes.
    """

    make: Callable[[int, int], nn.Module]
    matrices: int
    propagated: Propagated


GRAPH_OPERATIONS: Registry[GraphOperation] = Registry("graph operation")


def graph_operation(name: str, *, matrices: int, propagated: Propagated) -> Callable[[Make], Make]:
    """Register a factory under a name, with what its module costs (see `GraphOperation`)."""

    def add(make: Make) -> Make:
        GRAPH_OPERATIONS.register(name)(GraphOperation(make, matrices, propagated))
        return make

    return add


class TreeNetwork(nn.Module):
    """A tree of graph operations between linear layers.

    Args:
        link: What each operation reads: 0 is the input, `i` the `i`-th operation.
        operations: Members of `GRAPH_OPERATIONS`.
        identity: The operation that passes on what it reads, raw features too.
        features: Of a node.
        channels: Of each operation, a multiple of `HEADS`.
        classes: Number of classes.
        pre: Linear layers before the tree; with none, the first operations read raw features.
        post: Linear layers after the one that joins the leaves.
        dropout: Chance that a feature is dropped in training; 0.5 in lack of a published value for all data sets.

    Shapes:
        `n features` and `2 e` to logits `n classes`.
    """

    HEADS: ClassVar[int] = 4

    def __init__(
        self,
        link: Sequence[int],
        operations: Sequence[str],
        *,
        identity: str,
        features: int,
        channels: int,
        classes: int,
        pre: int,
        post: int,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.link = tuple(link)
        self.leaves = [v for v in range(1, len(link) + 1) if v not in link]
        self.raw = _raw(link, operations, identity) if pre == 0 else frozenset()
        widths = [features] + [channels] * pre
        self.pre = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.dropout = nn.Dropout(dropout)
        self.before = nn.ModuleList(nn.Sequential(nn.BatchNorm1d(channels), nn.ReLU(), self.dropout) for _ in link)
        self.operations = nn.ModuleList(
            _Counted(GRAPH_OPERATIONS[operation], features if source in self.raw else channels, channels)
            for source, operation in zip(link, operations, strict=True)
        )
        self.joined = nn.ReLU()
        widths = [len(self.leaves) * channels] + [channels] * post + [classes]
        self.post = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))

    def forward(self, x: Float[Tensor, "n features"], edge_index: Int[Tensor, "2 e"] | None = None) -> Tensor:
        """Logits of every node; nodes without edges where none are given."""
        edges = torch.zeros(2, 0, dtype=torch.long, device=x.device) if edge_index is None else edge_index
        x = self.dropout(x)
        for i, layer in enumerate(self.pre):
            x = layer(x)
            if i == len(self.pre) - 2:  # where the published code has its one activation
                x = nn.functional.elu(x)
        states = [x]
        for source, before, operation in zip(self.link, self.before, self.operations, strict=True):
            read = states[source] if source in self.raw else before(states[source])
            states.append(operation(read, edges))
        out: Tensor = self.joined(torch.cat([states[leaf] for leaf in self.leaves], 1))
        for i, layer in enumerate(self.post):
            if i == len(self.post) - 1 and i > 1:
                out = nn.functional.elu(out)
            out = layer(out)
        return out


def _raw(link: Sequence[int], operations: Sequence[str], identity: str) -> frozenset[int]:
    """The input and the nodes that only pass it on."""
    raw = {0}
    for v, (source, operation) in enumerate(zip(link, operations, strict=True), start=1):
        if source in raw and operation == identity:
            raw.add(v)
    return frozenset(raw)


def count_tree_network(
    link: Sequence[int],
    operations: Sequence[str],
    *,
    identity: str,
    features: int,
    channels: int,
    classes: int,
    pre: int,
    post: int,
    nodes: int,
    edges: int,
) -> dict[str, float]:
    """Exact `params`, and `flops` for one pass over a graph.

    `flops` are multiply-adds, in the convention of `archgen.networks.count`: of linear layers one a weight and node, of
    a propagation one a channel and edge (loops that an operation adds included), of attention two a channel and node;
    ReLU 1 an element. No table states them.

    Args:
        link, operations, identity, features, channels, classes, pre, post: As in `TreeNetwork`.
        nodes: Of the graph.
        edges: Of the graph, in both directions where it is undirected.
    """
    raw = _raw(link, operations, identity) if pre == 0 else frozenset()
    leaves = sum(v not in link for v in range(1, len(link) + 1))
    params, flops = 2 * channels * len(link), leaves * channels * nodes
    for source, operation in zip(link, operations, strict=True):
        inputs = features if source in raw else channels
        kind = GRAPH_OPERATIONS[operation]
        params += _params(operation, inputs, channels)
        flops += kind.matrices * inputs * channels * nodes + kind.propagated(inputs, channels, nodes, edges)
        flops += 0 if source in raw else channels * nodes
    widths = [features] + [channels] * pre
    joined = [leaves * channels] + [channels] * post + [classes]
    for a, b in [*itertools.pairwise(widths), *itertools.pairwise(joined)]:
        params += (a + 1) * b
        flops += a * b * nodes
    return {"params": float(params), "flops": float(flops)}


@lru_cache(maxsize=1024)
def _params(operation: str, inputs: int, outputs: int) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in GRAPH_OPERATIONS[operation].make(inputs, outputs).parameters())


class _Counted(nn.Module):
    """An operation that tells `archgen.networks.count` what PyTorch Geometric's layers do not show it."""

    def __init__(self, kind: GraphOperation, inputs: int, outputs: int) -> None:
        super().__init__()
        self.kind, self.inputs, self.outputs = kind, inputs, outputs
        self.layer = kind.make(inputs, outputs)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        out: Tensor = self.layer(x, edge_index)
        return out

    def extra_macs(self, x: Tensor, output: Tensor) -> int:
        """Of nodes without edges: a network is counted on features alone."""
        shown = sum(m.in_features * m.out_features for m in self.layer.modules() if isinstance(m, nn.Linear))
        matrices = self.kind.matrices * self.inputs * self.outputs - shown
        return matrices * len(x) + self.kind.propagated(self.inputs, self.outputs, len(x), 0)


class _Alone(nn.Module):
    """An operation that does not look at edges."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out


@graph_operation("gat", matrices=1, propagated=lambda i, o, n, e: (e + 3 * n) * o)
def gat(inputs: int, outputs: int) -> nn.Module:
    """Graph attention (arXiv 1710.10903) with heads that are concatenated."""
    from torch_geometric.nn import GATConv

    layer: nn.Module = GATConv(inputs, outputs // TreeNetwork.HEADS, TreeNetwork.HEADS)
    return layer


@graph_operation("gcn", matrices=1, propagated=lambda i, o, n, e: (e + n) * o)
def gcn(inputs: int, outputs: int) -> nn.Module:
    """Graph convolution (arXiv 1609.02907)."""
    from torch_geometric.nn import GCNConv

    layer: nn.Module = GCNConv(inputs, outputs)
    return layer


@graph_operation("gin", matrices=1, propagated=lambda i, o, n, e: (e + n) * i)
def gin(inputs: int, outputs: int) -> nn.Module:
    """Graph isomorphism network (arXiv 1810.00826) with one linear layer."""
    from torch_geometric.nn import GINConv

    layer: nn.Module = GINConv(nn.Linear(inputs, outputs))
    return layer


@graph_operation("cheb", matrices=2, propagated=lambda i, o, n, e: (e + n) * i)
def cheb(inputs: int, outputs: int) -> nn.Module:
    """Chebyshev convolution of order 2 (arXiv 1606.09375)."""
    from torch_geometric.nn import ChebConv

    layer: nn.Module = ChebConv(inputs, outputs, K=2)
    return layer


@graph_operation("sage", matrices=2, propagated=lambda i, o, n, e: e * i)
def sage(inputs: int, outputs: int) -> nn.Module:
    """GraphSAGE with the mean of the neighbours (arXiv 1706.02216)."""
    from torch_geometric.nn import SAGEConv

    layer: nn.Module = SAGEConv(inputs, outputs)
    return layer


@graph_operation("arma", matrices=2, propagated=lambda i, o, n, e: (e + n) * o)
def arma(inputs: int, outputs: int) -> nn.Module:
    """Auto-regressive moving-average filter, one stack of one layer, with its ReLU (arXiv 1901.01343)."""
    from torch_geometric.nn import ARMAConv

    layer: nn.Module = ARMAConv(inputs, outputs, act=torch.relu)
    return layer


@graph_operation("graph", matrices=2, propagated=lambda i, o, n, e: e * i)
def graph(inputs: int, outputs: int) -> nn.Module:
    """The k-GNN layer (arXiv 1810.02244)."""
    from torch_geometric.nn import GraphConv

    layer: nn.Module = GraphConv(inputs, outputs)
    return layer


@graph_operation("fc", matrices=1, propagated=lambda i, o, n, e: 0)
def fc(inputs: int, outputs: int) -> nn.Module:
    """A linear layer on every node."""
    return _Alone(nn.Linear(inputs, outputs))


@graph_operation("skip", matrices=0, propagated=lambda i, o, n, e: 0)
def skip(inputs: int, outputs: int) -> nn.Module:
    """Identity."""
    return _Alone(nn.Identity())
