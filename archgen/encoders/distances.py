"""An embedding whose Euclidean distances are the graphs' distances (FlexiBERT, arXiv 2205.11656)."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Literal

import networkx as nx
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from archgen.encoders.paths import PathEncoder
from archgen.encoders.weisfeiler_lehman import WeisfeilerLehmanEncoder
from archgen.graph import Architecture
from archgen.spaces import SearchSpace

EDGE = 0.1
"""Cost of an edge that is added or taken away, as in the published code; a node costs 1."""
ROUNDS = 3
SMALL = 10
"""Nodes up to which `auto` takes the edit distance: its search grows exponentially."""
ATTEMPTS = 3

Distance = Literal["auto", "edit", "kernel"]


class DistanceEncoder(nn.Module):
    r"""A small network from features of a computation to vectors, trained on distances of pairs of architectures.

    It minimises the loss of the paper's embedding, over random pairs,

    .. math:: \sum_{i, j} \bigl( \lVert e(a_i) - e(a_j) \rVert - d(a_i, a_j) \bigr)^2

    with :math:`d` the edit distance of the computations (`edit_distance`), or in a space whose graphs may have more
    than `SMALL` nodes the distance of the Weisfeiler-Lehman kernel (`kernel_distance`); no label is needed. Against
    the paper: it embeds a table of all graphs, one free vector each; here the vector is a function of path and
    neighbourhood features, so that what a generator draws has one too. Nodes of different labels are a whole unit
    apart; there the labels of a transformer's layers are ordered.

    It is trained when it is first called.

    Args:
        space: A space that `PathEncoder` takes.
        width: Of the embedding, `d`; the paper finds 16 enough.
        distance: `auto` takes the edit distance where no graph of the space has more than `SMALL` nodes.
        reference: Random architectures, at least 2, of which pairs are made.
        pairs: How many.
        steps: Of training.
        seed: Of all randomness.
    """

    known: Tensor

    def __init__(
        self,
        space: SearchSpace,
        width: int = 16,
        *,
        distance: Distance = "auto",
        reference: int = 200,
        pairs: int = 1500,
        steps: int = 600,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if reference < 2 or pairs < 1:
            raise ValueError(f"expected at least 2 architectures and 1 pair, got {reference} and {pairs}")
        if distance == "auto":
            distance = "edit" if len(space.node_domain) <= SMALL else "kernel"
        self.space, self.width, self.distance = space, width, distance
        self.reference, self.pairs, self.steps, self.seed = reference, pairs, steps, seed
        self._encoders = PathEncoder(space), WeisfeilerLehmanEncoder(space)
        inputs = sum(self._encoders[0].blocks.values()) + WeisfeilerLehmanEncoder.width
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layers = nn.Sequential(nn.Linear(inputs, 64), nn.Softplus(), nn.Linear(64, width)).double()
        self.register_buffer("known", torch.zeros((), dtype=torch.bool))

    def forward(self, archs: Sequence[Architecture]) -> Float[Tensor, "b d"]:
        """Embed architectures, in double precision."""
        if not self.known:
            self._train()
        with torch.no_grad():
            embedded: Tensor = self.layers(self._features(archs))
        return embedded

    def distances(self, a: Sequence[Architecture], b: Sequence[Architecture]) -> Float[Tensor, " b"]:
        """The graphs' distances that are learnt, pair by pair."""
        measure = edit_distance if self.distance == "edit" else kernel_distance
        computed = {arch: self.space.computation(arch) for arch in {*a, *b}}
        return torch.tensor([measure(computed[x], computed[y]) for x, y in zip(a, b, strict=True)]).double()

    def _features(self, archs: Sequence[Architecture]) -> Float[Tensor, "b f"]:
        return torch.cat([encoder(archs) for encoder in self._encoders], 1)

    def _train(self) -> None:
        rng = np.random.default_rng(self.seed)
        archs = self.space.sample(self.reference, rng)
        i = rng.integers(len(archs), size=self.pairs)
        j = (i + rng.integers(1, len(archs), size=self.pairs)) % len(archs)
        wanted = self.distances([archs[k] for k in i], [archs[k] for k in j])
        x = self._features(archs)
        optimizer = torch.optim.Adam(self.layers.parameters(), lr=3e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        for _ in range(self.steps):
            optimizer.zero_grad()
            embedded = self.layers(x)
            apart = ((embedded[i] - embedded[j]).square().sum(1) + 1e-12).sqrt()
            (apart - wanted).square().mean().backward()
            optimizer.step()
            schedule.step()
        self.known.fill_(True)
        self.requires_grad_(False)


def edit_distance(a: Architecture, b: Architecture, *, attempts: int | None = ATTEMPTS) -> float:
    """Edit distance of two labelled DAGs: nodes that are added, taken away or relabelled cost 1, edges `EDGE`.

    Args:
        a, b: The graphs.
        attempts: Ever better edit paths that are looked at before the best so far is taken, an upper bound (as in the
            paper's code, which takes the first); None for the exact distance, exponential in the number of nodes. A
            limit of time would give another distance on another machine.
    """
    paths = nx.optimize_graph_edit_distance(
        a.to_networkx(),
        b.to_networkx(),
        node_match=lambda one, other: one["op"] == other["op"],
        edge_del_cost=lambda edge: EDGE,
        edge_ins_cost=lambda edge: EDGE,
    )
    return float(min(itertools.islice(paths, attempts)))


def kernel_distance(a: Architecture, b: Architecture, *, rounds: int = ROUNDS) -> float:
    r"""Distance of two labelled DAGs, in [0, 1]: one minus the normalised Weisfeiler-Lehman subtree kernel.

    :math:`1 - k(a, b) / \sqrt{k(a, a) k(b, b)}`, with :math:`k` the product of the counts of colours of all rounds
    (Shervashidze et al., JMLR 12, 2011). A colour is a node's own and the multisets of its predecessors' and
    successors' before.
    """
    names: dict[Hashable, int] = {}
    one, other = (_colours(arch, rounds, names) for arch in (a, b))
    shared = sum(times * other[colour] for colour, times in one.items())
    norms = [sum(times**2 for times in counts.values()) for counts in (one, other)]
    return float(1 - shared / np.sqrt(norms[0] * norms[1]))


def _colours(arch: Architecture, rounds: int, names: dict[Hashable, int]) -> Counter[int]:
    """How often each colour occurs, over all rounds; `names` numbers the colours, of both graphs alike."""
    before: list[list[int]] = [[] for _ in arch.ops]
    after: list[list[int]] = [[] for _ in arch.ops]
    for i, j in arch.edges:
        before[j].append(i)
        after[i].append(j)
    colours = [names.setdefault(op, len(names)) for op in arch.ops]
    counts = Counter(colours)
    for _ in range(rounds):
        signs = [
            (own, tuple(sorted(colours[u] for u in before[v])), tuple(sorted(colours[u] for u in after[v])))
            for v, own in enumerate(colours)
        ]
        colours = [names.setdefault(sign, len(names)) for sign in signs]
        counts.update(colours)
    return counts
