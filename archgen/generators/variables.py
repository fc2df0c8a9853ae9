"""The free categorical variables of a space's graphs: what generators of discrete graphs draw."""

from __future__ import annotations

from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from archgen.graph import GraphBatch

States: TypeAlias = Int[Tensor, "b v"]
Probabilities: TypeAlias = Float[Tensor, "b v S"]


class FreeVariables(nn.Module):
    """Nodes and upper-triangular edges with more than one allowed state, in that order, padded to `S` states.

    Args:
        node_domain: `n x k`, labels that each node may carry.
        edge_domain: `n x n x 2`, states that each edge may take.
    """

    nodes: Int[Tensor, " f"]
    """Indices of the free nodes."""
    sources: Int[Tensor, " e"]
    targets: Int[Tensor, " e"]
    """Ends of the free edges."""
    domain: Bool[Tensor, "v S"]
    """Allowed states of each variable; `v = f + e`."""

    def __init__(self, node_domain: Bool[Tensor, "n k"], edge_domain: Bool[Tensor, "n n 2"]) -> None:
        super().__init__()
        n, k = node_domain.shape
        upper = torch.triu(torch.ones(n, n, dtype=torch.bool), diagonal=1)
        nodes = (node_domain.sum(-1) > 1).nonzero()[:, 0]
        sources, targets = (upper & edge_domain.all(-1)).nonzero().T
        self.states_each = max(k, 2)
        edges = torch.ones(len(sources), 2, dtype=torch.bool)
        domain = torch.cat(
            [F.pad(node_domain[nodes], (0, self.states_each - k)), F.pad(edges, (0, self.states_each - 2))]
        )
        tensors = {"nodes": nodes, "sources": sources, "targets": targets, "domain": domain}
        # what every graph shares: labels of the fixed nodes and the edges that are always there
        tensors["fixed_ops"] = F.one_hot(node_domain.int().argmax(-1), k).float() * (node_domain.sum(-1) == 1)[:, None]
        tensors["fixed_edges"] = (upper & edge_domain[..., 1] & ~edge_domain[..., 0]).float()
        for name, value in tensors.items():
            self.register_buffer(name, value, persistent=False)

    fixed_ops: Float[Tensor, "n k"]
    fixed_edges: Float[Tensor, "n n"]

    def states(self, graph: GraphBatch) -> States:
        """State of each variable in a batch of clean graphs."""
        edges = (graph.edges[:, self.sources, self.targets] > 0.5).long()
        return torch.cat([graph.ops[:, self.nodes].argmax(-1), edges], 1)

    def graph(self, states: States) -> GraphBatch:
        """The batch of graphs whose free variables have the given states, one-hot."""
        f, k = len(self.nodes), self.fixed_ops.shape[1]
        one_hot = F.one_hot(states[:, :f], k).float()
        return self._place(one_hot, states[:, f:].float())

    def probabilities(self, p: Probabilities) -> GraphBatch:
        """The probabilities of the states of each variable as those of labels and edges."""
        f, k = len(self.nodes), self.fixed_ops.shape[1]
        return self._place(p[:, :f, :k], p[:, f:, 1])

    def _place(self, ops: Float[Tensor, "b f k"], edges: Float[Tensor, "b e"]) -> GraphBatch:
        b, (n, k) = len(ops), self.fixed_ops.shape
        every = self.fixed_ops.expand(b, n, k).clone()
        every[:, self.nodes] = ops
        adjacency = self.fixed_edges.expand(b, n, n).clone()
        adjacency[:, self.sources, self.targets] = edges
        return GraphBatch(every, adjacency, torch.ones(b, n, dtype=torch.bool, device=ops.device))

    @property
    def noise(self) -> Float[Tensor, "v S"]:
        """What each variable is at `t` = 1: labels are uniform over what is allowed, free edges are absent.

        Noise that only removes edges (as in ConStruct, arXiv 2406.17341) keeps a noised graph within every budget
        that its clean graph keeps; uniform edges leave a network to find out which of too many does not belong.
        """
        noise = self.domain / self.domain.sum(-1, keepdim=True)
        noise[len(self.nodes) :] = torch.eye(self.states_each, device=noise.device)[0]
        return noise

    def noised(self, clean: States, t: Float[Tensor, " b"], generator: torch.Generator) -> States:
        """Each variable keeps its state with probability `1 - t` and is drawn from `noise` otherwise."""
        lost = torch.rand(clean.shape, generator=generator, device=clean.device) < t[:, None]
        return torch.where(lost, draw(self.noise.expand(*clean.shape, -1), generator), clean)

    def certain(self, states: States) -> Bool[Tensor, "b v"]:
        """Variables whose clean state is the one that they have: noise adds no edge, so one that is there was there."""
        is_edge = torch.arange(states.shape[1], device=states.device) >= len(self.nodes)
        return is_edge & (states > 0)

    def log_one_hot(self, states: States) -> Probabilities:
        """Log-probabilities that say the given states for certain."""
        return F.one_hot(states, self.states_each).float().log()

    def join(self, node_logits: Float[Tensor, "b f k"], edge_logits: Float[Tensor, "b e 2"]) -> Probabilities:
        """One tensor of logits, `-inf` outside the domain."""
        S = self.states_each
        logits = torch.cat([F.pad(node_logits, (0, S - node_logits.shape[-1])), F.pad(edge_logits, (0, S - 2))], 1)
        return logits.masked_fill(~self.domain, -torch.inf)

    def ratios(self, states: States, changes: GraphBatch) -> Probabilities:
        """Log-ratios of single changes (`Guidance.changes`) for each state of each variable; 0 for the state it has."""
        f, S = len(self.nodes), self.states_each
        ops = changes.ops[:, self.nodes]
        flips = changes.edges[:, self.sources, self.targets]
        edges = torch.stack([flips, flips], -1)
        joined = torch.cat([F.pad(ops, (0, S - ops.shape[-1])), F.pad(edges, (0, S - 2))], 1)
        assert joined.shape[1] == f + flips.shape[1]
        return joined.scatter(-1, states[..., None], 0.0)


def draw(probabilities: Float[Tensor, "*shape S"], generator: torch.Generator) -> Int[Tensor, "*shape"]:
    """One draw from each (unnormalised) categorical distribution of the last axis, by inversion."""
    cumulative = probabilities.cumsum(-1)
    total = cumulative[..., -1:]
    u = torch.rand(total.shape, generator=generator, device=probabilities.device) * total
    # states of probability zero are never drawn: their cumulative value equals their predecessor's
    drawn = (cumulative <= u).sum(-1)
    last = probabilities.shape[-1] - 1 - (probabilities.flip(-1) > 0).int().argmax(-1)
    return torch.minimum(drawn, last)
