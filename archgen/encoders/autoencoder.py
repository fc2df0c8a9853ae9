"""An embedding from which the architecture can be told: an unsupervised variational autoencoder of graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from archgen.graph import Architecture
from archgen.spaces import SearchSpace

if TYPE_CHECKING:
    from archgen.encoders.dag_gnn import DAG

BETA = 0.005
"""Weight of the divergence from the standard normal, that of D-VAE's published code (arXiv 1904.11088)."""
BATCH, LEARNING_RATE = 128, 3e-3


class AutoEncoder(nn.Module):
    r"""A graph network to a Gaussian over vectors, and a perceptron from vectors back to the choices.

    arch2vec (arXiv 2006.06936) learns embeddings before any accuracy is known, because those that accuracies shape bend
    to them. Trained on random architectures :math:`a` to maximise the variational lower bound (arXiv 1312.6114,
    equation 10, one draw), its divergence weighed by `BETA`,

    .. math:: E_{z \sim q(z \mid a)} \log p(a \mid z) - \beta D_{KL}(q(z \mid a) \,\|\, N(0, 1))

    with the mean of :math:`q` as the embedding. Against arch2vec: the graph is that of the operations that matter and
    the encoder our `DAGNetwork`, which reads it along and against its edges, in place of an isomorphism network over a
    symmetric adjacency; one vector stands for a graph, not one a node; the divergence, which its code divides by batch
    and nodes, has a weight of its own; and the decoder gives the choices of the space's variables (of the simplified
    architecture), not operations and adjacency, so any space can be decoded.

    It is trained when it is first called.

    Args:
        space: The space.
        width: Of the embedding, `d`.
        reference: Random architectures, at least 1, that it is trained on.
        steps: Of training, on 128 architectures each.
        seed: Of all randomness.
    """

    known: Tensor

    def __init__(
        self, space: SearchSpace, width: int = 16, *, reference: int = 2000, steps: int = 400, seed: int = 0
    ) -> None:
        from archgen.encoders.dag_gnn import DAGNetwork, vocabulary

        super().__init__()
        if reference < 1:
            raise ValueError(f"expected at least 1 architecture, got {reference}")
        self.space, self.width, self.reference, self.steps, self.seed = space, width, reference, steps, seed
        self._vocabulary = vocabulary(space)
        self._sizes = [len(values) for values in space.variables.values()]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.graphs = DAGNetwork(len(self._vocabulary), layers=2)
            self.gaussian = nn.Linear(self.graphs.width, 2 * width)
            self.decoder = nn.Sequential(nn.Linear(width, 128), nn.GELU(), nn.Linear(128, sum(self._sizes)))
        self.register_buffer("known", torch.zeros((), dtype=torch.bool))

    def forward(self, archs: Sequence[Architecture]) -> Float[Tensor, "b d"]:
        """Embed architectures, in double precision; those of one computation alike."""
        if not self.known:
            self._train()
        self.double()
        with torch.no_grad():
            return self._encode(self._graphs(self._simple(archs)))[0]

    def _simple(self, archs: Sequence[Architecture]) -> list[Architecture]:
        return [self.space.simplify(arch) for arch in archs]

    def _graphs(self, simple: Sequence[Architecture]) -> list[DAG]:
        from archgen.encoders.dag_gnn import DAG

        return [DAG.of(self.space.computation(arch), self._vocabulary) for arch in simple]

    def _encode(self, graphs: Sequence[DAG]) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b d"]]:
        """Mean and logarithm of the variance."""
        from archgen.encoders.dag_gnn import DAGBatch

        mean, log_variance = self.gaussian(self.graphs(DAGBatch.of(graphs))[0]).chunk(2, 1)
        return mean, log_variance

    def _train(self) -> None:
        rng = np.random.default_rng(self.seed)
        simple = list(dict.fromkeys(self._simple(self.space.sample(self.reference, rng))))
        graphs = self._graphs(simple)
        chosen = torch.from_numpy(np.asarray(self.space.choices(simple), dtype=np.int64))
        noise = torch.Generator().manual_seed(self.seed)
        self.float()  # twice as fast
        optimizer = torch.optim.Adam(self.parameters(), lr=LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        for _ in range(self.steps):
            rows = rng.integers(len(simple), size=min(BATCH, len(simple)))
            mean, log_variance = self._encode([graphs[i] for i in rows])
            drawn = mean + (log_variance / 2).exp() * torch.randn(mean.shape, generator=noise).to(mean)
            logits = torch.split(self.decoder(drawn), self._sizes, 1)
            lost = sum(F.cross_entropy(part, chosen[rows, i]) for i, part in enumerate(logits))
            divergence = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(1).mean()
            optimizer.zero_grad()
            (lost + BETA * divergence).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        self.known.fill_(True)
        self.requires_grad_(False)
