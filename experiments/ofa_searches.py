"""The searches that `ofa_pareto.py` compares; each tells `log` every architecture whose accuracy it asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from ofa_truth import EXPANDS, KERNELS, RESOLUTIONS, Truth
from torch import Tensor

from archgen.generators import DiscreteFlow, Generator, Guidance, Projector, Start
from archgen.generators.base import chosen
from archgen.generators.variables import draw
from archgen.graph import Architecture, GraphBatch
from archgen.predictors import Prediction, Predictor
from archgen.spaces import SearchSpace

ACCURACY, LATENCY = "imagenet_top1", "latency_ms@note10"
Log = Callable[[float, Architecture], None]


class ChoiceProcess(Predictor):
    """A Gaussian process over the one-hot of resolution, kernels and expansions, of graphs as well as architectures.

    `k(x, x') = c + a x.x' / 20 + b exp(-|x - x'|^2 / 40 l)`: a linear model, and a smooth rest for what choices do
    together. The five hyperparameters are those of most posterior density, found by L-BFGS from those of the last fit.
    """

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(space, ACCURACY)
        self._labels = torch.zeros(len(space.labels), len(KERNELS) + len(EXPANDS), dtype=torch.double)
        for i, label in enumerate(space.labels):
            if label.startswith("k"):
                kernel, expand = (int(part[1:]) for part in label.split("_"))
                self._labels[i, [KERNELS.index(kernel), len(KERNELS) + EXPANDS.index(expand)]] = 1.0
        self._prior = torch.tensor([0.0, 0.0, -2.0, 0.0, -6.0]).double()  # logs of c, a, b, l and the noise
        self.theta = self._prior

    def features(self, labels: Tensor) -> Tensor:
        """`b x 125` features of `b x 21` labels."""
        resolution = torch.nn.functional.one_hot(labels[:, 0] - self.space.labels.index("r160"), len(RESOLUTIONS))
        return torch.cat([self._labels[labels[:, 1:]].flatten(1), resolution.double()], 1)

    def fit(self, archs: Sequence[Architecture], y: Any) -> ChoiceProcess:
        return self.learn(slots(self.space.encode(archs)), torch.as_tensor(y), iterations=10)

    def learn(self, labels: Tensor, y: Tensor, *, iterations: int) -> ChoiceProcess:
        """Fit to labels of the slots; without iterations the hyperparameters stay."""
        self._x, self._mean, self._std = self.features(labels), y.mean(), y.std()
        target = ((y - self._mean) / self._std)[:, None]

        def solved(theta: Tensor) -> tuple[Tensor, Tensor]:
            noise = theta[4].exp() + 1e-6
            root = torch.linalg.cholesky(self._kernel(theta, self._x) + noise * torch.eye(len(y)).double())
            return root, torch.cholesky_solve(target, root)

        theta = self.theta.clone().requires_grad_()
        optimiser = torch.optim.LBFGS([theta], max_iter=max(iterations, 1), line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimiser.zero_grad()
            root, weights = solved(theta)
            value = (target * weights).sum() / 2 + root.diag().log().sum() + (theta - self._prior).square().sum() / 8
            value.backward()
            return value

        if iterations:
            optimiser.step(loss)
            self.theta = theta.detach()
        self._root, self._weights = solved(self.theta)
        c, a, b, scale, _ = self.theta.exp()
        self._scale = float((40 * scale) ** -0.5)
        self._near = (self._scale * self._x).float(), (b * self._weights[:, 0]).float()
        self._line = (a / 20 * self._x.T @ self._weights[:, 0]).float(), c * self._weights.sum()
        return self

    def _kernel(self, theta: Tensor, x: Tensor) -> Tensor:
        c, a, b, scale, _ = theta.exp()
        dot = x @ self._x.T
        gaps = x.square().sum(1)[:, None] + self._x.square().sum(1) - 2 * dot
        return c + a * dot / 20 + b * torch.exp(-gaps.clamp(min=0) / (40 * scale))

    def mean(self, labels: Tensor) -> Tensor:
        """Predicted accuracy, in single precision: guidance asks for thousands a step."""
        x = self.features(labels).float()
        (near, weights), (line, constant) = self._near, self._line
        scaled = self._scale * x
        gaps = scaled.square().sum(1)[:, None] + near.square().sum(1)
        rest = torch.addmm(-gaps, scaled, near.T, alpha=2.0).exp() @ weights
        return self._mean + self._std * (x @ line + rest + constant)

    def marginals(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted accuracy and its standard deviation."""
        x = self.features(labels)
        cross = self._kernel(self.theta, x)
        c, a, b = self.theta[:3].exp()
        alone = c + a * x.square().sum(1) / 20 + b
        variance = alone - torch.linalg.solve_triangular(self._root, cross.T, upper=False).square().sum(0)
        return self._mean + self._std * (cross @ self._weights)[:, 0], self._std * variance.clamp(min=1e-12).sqrt()

    def predict(self, archs: Sequence[Architecture]) -> Prediction:
        mean, std = self.marginals(slots(self.space.encode(archs)))
        return Prediction(mean.numpy(), std.numpy())

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        raise TypeError("made anew in every turn, never saved")

    @classmethod
    def restore(cls, space: SearchSpace, metric: str, config: dict[str, Any], tensors: dict[str, Tensor]) -> Predictor:
        raise TypeError("made anew in every turn, never saved")


class Wish(Guidance):
    """Most accuracy within a bound of latency, read off the graphs: `ImportanceGuidance` would decode each first.

    Args:
        surrogate: Of the accuracy.
        latency: Of labels of the slots, ms.
        bound: Most latency, ms.
        strength: Log-weight of a percent.
        candidates: Clean graphs to choose among, for each sample and step.
    """

    def __init__(
        self,
        surrogate: ChoiceProcess,
        latency: Callable[[Tensor], Tensor],
        bound: float,
        strength: float,
        candidates: int,
    ) -> None:
        self.surrogate, self.latency, self.bound = surrogate, latency, bound
        self.strength, self.candidates = strength, candidates

    def log_tilt(self, clean: GraphBatch) -> Tensor:
        labels = slots(clean)
        over = (self.latency(labels) - self.bound).clamp(min=0).float()
        missed = torch.where(over > 0, 30.0 + 40.0 * over, 0.0)  # far below any accuracy, and less so near the bound
        return (self.strength * self.surrogate.mean(labels) - missed).float()


class Mutation:
    """In the generator's place, its noise without its denoiser: the control of `guided`.

    What the denoiser draws in `steps` steps from `candidates` clean graphs each is here a choice among as many mutants,
    by the same weights: labels are drawn anew with chance `t`, and mended by the same projector.
    """

    def __init__(self, generator: DiscreteFlow) -> None:
        self.variables, self.properties = generator.variables, generator.properties

    def sample(
        self,
        n: int,
        *,
        condition: Tensor,
        guidance: Sequence[Guidance],
        projector: Projector,
        start: Start | None,
        steps: int,
        generator: torch.Generator,
    ) -> GraphBatch:
        variables, each = self.variables, guidance[0].candidates * steps
        noise = variables.noise.expand(n * each, -1, -1)
        if start is None:
            states = draw(noise, generator)
        else:
            states = variables.states(start.graph).repeat_interleave(each, 0)
            states = variables.noised(states, torch.full((len(states),), start.t), generator)
        mutants = projector(variables.graph(states), variables.probabilities(noise), generator=generator)
        return mutants[chosen(guidance, mutants, each, generator=generator)]


def slots(graphs: GraphBatch) -> Tensor:
    """Labels of the resolution and the 20 blocks, `b x 21`."""
    return graphs.ops[:, 1:-1].argmax(-1)


def guided(
    space: SearchSpace,
    generator: Generator | Mutation,
    truth: Truth,
    bound: float,
    first: Sequence[Architecture],
    *,
    calls: int,
    seed: int,
    log: Log,
    batch: int = 32,
    strength: float = 40.0,
    candidates: int = 16,
) -> None:
    """Turns of a surrogate of the accuracies asked so far, guided sampling on it, and the truth of a few samples.

    Samples are conditioned on the bounded latency and guided by `Wish`. In the first turn some are drawn from noise;
    otherwise the most promising architectures so far, asked or only generated, are noised to `t` and generated again,
    several times over. Promising is the surrogate's mean plus half its standard deviation; the `batch` most promising
    that were not asked before are.

    Args:
        space: The space.
        generator: Of it, conditional on the latency.
        truth: Accuracy and latency.
        bound: Most latency, ms.
        first: Architectures whose accuracy the generator's conditions were paid with; asked here, so counted.
        calls: Accuracies that may be asked for.
        seed: Same seed, same search.
        log: Told of every accuracy.
        batch: Accuracies a turn.
        strength, candidates: See `Wish`.
    """
    noise = torch.Generator().manual_seed(seed)
    table, r160 = torch.from_numpy(truth.latency_table()), space.labels.index("r160")
    properties = generator.properties
    assert properties is not None
    vector = torch.full((len(properties.metrics),), torch.nan)
    vector[properties.row(LATENCY)] = float(properties.normalise(LATENCY, [bound])[0])
    edges = space.encode(first[:1]).edges

    def latency(labels: Tensor) -> Tensor:
        return table[(labels[:, 0] - r160)[:, None], torch.arange(21), labels].sum(1)

    def graphs(labels: Tensor) -> GraphBatch:
        b, last = len(labels), len(space.labels) - 1
        whole = torch.nn.functional.pad(torch.nn.functional.pad(labels, (1, 0), value=0), (0, 1), value=last)
        one_hot = torch.nn.functional.one_hot(whole, last + 1).float()
        return GraphBatch(one_hot, edges.expand(b, -1, -1), torch.ones(whole.shape, dtype=torch.bool))

    def promising(labels: Tensor, n: int) -> Tensor:
        mean, std = surrogate.marginals(labels)
        return labels[(-(mean + 0.5 * std)).argsort()[:n]]

    def ask(archs: Sequence[Architecture]) -> Tensor:
        values = truth.top1(archs)
        for value, arch in zip(values.tolist(), archs, strict=True):
            log(value, arch)
        return torch.from_numpy(values)

    known, y = slots(space.encode(first)), ask(first)
    surrogate, turn, idle = ChoiceProcess(space), 0, 0
    while len(y) < calls and idle < 3:
        best = (y - 2 * (latency(known) - bound).clamp(min=0)).argsort(descending=True)[:1000]  # cost is cubic
        surrogate.learn(known[best], y[best], iterations=10 if turn == 0 else 3 * (turn % 4 == 0))
        pool = known[latency(known) <= bound]
        wish = Wish(surrogate, latency, bound, strength, candidates)
        for t in (*((1.0, 1.0) if turn == 0 else ()), 0.3, 0.2, 0.2, 0.1, 0.1):
            start = None
            if t < 1 and len(pool):
                near = promising(pool, 24)
                start = Start(graphs(near[torch.randint(len(near), (96,), generator=noise)]), t)
            drawn = generator.sample(
                96,
                condition=vector.expand(96, -1),
                guidance=[wish],
                projector=space.project,
                start=start,
                steps=8 if start is None else 3,
                generator=noise,
            )
            pool = torch.cat([pool, slots(drawn)[latency(slots(drawn)) <= bound]]).unique(dim=0)
        asked = {tuple(row) for row in known.tolist()}
        new = pool[torch.tensor([tuple(row) not in asked for row in pool.tolist()], dtype=torch.bool)]
        turn, idle = turn + 1, 0 if len(new) else idle + 1
        if len(new):
            new = promising(new, min(batch, calls - len(y)))
            archs = [arch for arch in space.decode(graphs(new)) if arch is not None]
            assert len(archs) == len(new)  # the projector sees to it
            known, y = torch.cat([known, new]), torch.cat([y, ask(archs)])


def evolution(space: SearchSpace, truth: Truth, bound: float, *, rounds: int, seed: int, log: Log) -> None:
    """Once-for-All's EvolutionFinder with its default arguments."""
    rng = np.random.default_rng(seed)
    resolutions = [f"r{r}" for r in RESOLUTIONS]
    labels = [label for label in space.labels if label.startswith("k")]
    edges = space.sample(1, rng)[0].edges

    def fresh() -> dict[str, Any]:
        return {
            "r": str(rng.choice(resolutions)),
            "d": rng.integers(2, 5, 5).tolist(),
            "ops": [[labels[i] for i in row] for row in rng.integers(len(labels), size=(5, 4)).tolist()],
        }

    def feasible(make: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], Architecture]:
        while True:
            genes = make()
            stages = zip(genes["d"], genes["ops"], strict=True)
            blocks = [op if i < depth else "skip" for depth, ops in stages for i, op in enumerate(ops)]
            if truth.latency([genes["r"], *blocks]) <= bound:
                return genes, Architecture(space.name, ("input", genes["r"], *blocks, "output"), edges)

    def mutated(parent: dict[str, Any]) -> dict[str, Any]:
        other, lost = fresh(), rng.random((6, 5)) < 0.1
        return {
            "r": other["r"] if rng.random() < 0.1 else parent["r"],
            "d": [o if x else p for o, p, x in zip(other["d"], parent["d"], lost[0], strict=True)],
            "ops": [
                [o if x else p for o, p, x in zip(new, old, row, strict=True)]
                for new, old, row in zip(other["ops"], parent["ops"], lost[1:, :4], strict=True)
            ],
        }

    def crossed(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
        pick = rng.random((6, 5)) < 0.5
        return {
            "r": a["r"] if rng.random() < 0.5 else b["r"],
            "d": [x if z else y for x, y, z in zip(a["d"], b["d"], pick[0], strict=True)],
            "ops": [
                [x if z else y for x, y, z in zip(p, q, row, strict=True)]
                for p, q, row in zip(a["ops"], b["ops"], pick[1:, :4], strict=True)
            ],
        }

    children = [feasible(fresh) for _ in range(100)]
    parents: list[tuple[float, dict[str, Any]]] = []
    for _ in range(rounds + 1):
        values = truth.top1([arch for _, arch in children]).tolist()
        for value, (_, arch) in zip(values, children, strict=True):
            log(value, arch)
        population = parents + [(value, genes) for value, (genes, _) in zip(values, children, strict=True)]
        parents = sorted(population, key=lambda pair: -pair[0])[:25]
        genes = [g for _, g in parents]

        def one_of(pool: list[dict[str, Any]]) -> dict[str, Any]:
            return pool[int(rng.integers(len(pool)))]

        children = [feasible(lambda g=genes: mutated(one_of(g))) for _ in range(50)]
        children += [feasible(lambda g=genes: crossed(one_of(g), one_of(g))) for _ in range(50)]


def random(space: SearchSpace, truth: Truth, bound: float, *, calls: int, seed: int, log: Log) -> None:
    """Architectures within the bound, uniformly; at most 60,000 draws."""
    rng = np.random.default_rng(seed)
    asked = 0
    for _ in range(30):
        within = [a for a in space.sample(2000, rng) if truth.latency(a.ops[1:-1]) <= bound][: calls - asked]
        for arch, value in zip(within, truth.top1(within).tolist() if within else [], strict=True):
            log(value, arch)
        asked += len(within)
        if asked >= calls:
            return
