"""The predictor-guided sampler: a generator, predictors and wishes in, architectures out."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import archgen.surrogates  # noqa: F401  its members are predictors too: checkpoints name them
from archgen import config, spaces
from archgen.artifacts import read_json, write_atomic
from archgen.errors import ArchgenWarning, Infeasible, InvalidCheckpoint, InvalidObjective, UnknownMetric
from archgen.generators import ArchitectureGuidance, Generator, load_generator
from archgen.graph import Architecture
from archgen.objectives import Objective, bounds, check, maximize, minimize
from archgen.predictors import Predictor, load_predictor
from archgen.predictors.base import Floats
from archgen.predictors.counts import Count
from archgen.spaces import SearchSpace

ROUNDS = 40
MISSED = 30.0
"""Log-weight that an exactly predicted bound costs where it is missed; directions do not outweigh it."""


@dataclass(frozen=True)
class Samples:
    """What a sampler drew.

    Args:
        space: The space.
        archs: The architectures, in the order drawn.
        predicted: Predicted value of each metric, one an architecture.
        diagnostics: `drawn`, `valid` and `unique` (percent of all drawn), `accepted` (percent that were returned),
            `seconds`.
    """

    space: SearchSpace
    archs: list[Architecture]
    predicted: dict[str, Floats]
    diagnostics: dict[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.archs)

    def to_frame(self) -> pd.DataFrame:
        """A table: `arch` in the space's published form, a column a predicted metric, `valid`."""
        columns: dict[str, Any] = {"arch": [self.space.format(arch) for arch in self.archs], **self.predicted}
        return pd.DataFrame({**columns, "valid": [True] * len(self.archs)})

    def save(self, path: Path) -> None:
        """Write the table as parquet, or as CSV when the name ends so."""
        frame = self.to_frame()
        if path.suffix == ".csv":
            write_atomic(path, lambda p: frame.to_csv(p, index=False))
        else:
            write_atomic(path, lambda p: frame.to_parquet(p, index=False))


class GuidedSampler:
    """Draws architectures that a generator finds likely and predictors find good.

    Args:
        space: The search space.
        generator: Trained on it.
        predictors: By metric; `params` and `flops` are counted exactly and need none.
        strength: How hard directions pull: weight `exp(strength * z)`, `z` the predicted value in standard
            deviations over the space, so that it means the same for every metric. 0 ignores them.

    Example:
        >>> sampler = GuidedSampler.from_pretrained("nasbench201")
        >>> wishes = [maximize("cifar10_val_acc"), at_most("latency_ms@pixel3", 15.0)]
        >>> sampler.sample(8, wishes, seed=0).to_frame()
    """

    def __init__(
        self,
        space: SearchSpace,
        generator: Generator,
        predictors: Mapping[str, Predictor] | None = None,
        strength: float = 4.0,
    ) -> None:
        self.space, self.generator, self.strength = space, generator, strength
        self._predictors = {"params": Count(space, "params"), "flops": Count(space, "flops"), **(predictors or {})}
        self._folders: dict[str, Path] = {}
        self._scales: dict[str, tuple[float, float]] = {}

    @classmethod
    def from_pretrained(
        cls, name: str, *, generator: str = "discrete_flow", checkpoints: Path | None = None
    ) -> GuidedSampler:
        """The sampler of the committed checkpoints of a space; predictors are read when first asked for.

        Args:
            name: Name of the space.
            generator: Name of the generator.
            checkpoints: Folder of the checkpoints; the package's own by default.

        Raises:
            UnknownName: No such space.
            InvalidCheckpoint: No generator for it, or a damaged one.
        """
        space = spaces.load(name)
        root = checkpoints or config.checkpoints_dir()
        sampler = cls(space, pretrained_generator(space, generator, root))
        for folder in sorted((root / "predictors").glob(f"{name}-*")):
            if not folder.name.startswith("."):
                header = read_json(folder / "config.json")
                arguments = header.get("config") if isinstance(header, dict) else None
                metric = arguments.get("metric") if isinstance(arguments, dict) else None
                if not isinstance(metric, str):
                    raise InvalidCheckpoint(f"{folder} names no metric in its config.json; copy the checkpoint again")
                sampler._folders[metric] = folder
        return sampler

    @property
    def metrics(self) -> tuple[str, ...]:
        """Metrics that objectives may name."""
        return tuple(dict.fromkeys([*self._predictors, *self._folders]))

    def predictor(self, metric: str) -> Predictor:
        """The predictor of a metric; raises `UnknownMetric`."""
        if metric not in self._predictors:
            if metric not in self._folders:
                raise UnknownMetric(metric, self.metrics)
            self._predictors[metric] = load_predictor(self._folders[metric], self.space)
        return self._predictors[metric]

    def sample(
        self,
        n: int,
        objectives: Sequence[Objective] = (),
        *,
        steps: int = 16,
        seed: int = 0,
        unique: bool = True,
    ) -> Samples:
        """Draw `n` architectures under the wishes.

        Directions and bounds tilt every solver step; afterwards only architectures whose prediction meets all
        bounds are kept, and sampling goes on until there are `n`.

        Args:
            n: How many, at least 1.
            objectives: Wishes; without any the generator is sampled as it is.
            steps: Solver steps.
            seed: Same seed, same architectures.
            unique: Whether to reject duplicates. When there are too few distinct ones, fewer come back, with a
                warning.

        Raises:
            UnknownMetric: No predictor for a wish.
            InvalidObjective: `n` or `steps` below 1, or contradicting wishes.
            Infeasible: Nothing was found that meets the bounds; says what can be met.
        """
        if n < 1 or steps < 1:
            raise InvalidObjective(f"expected at least one sample and one step, got n={n} and steps={steps}")
        check(objectives)
        start = time.perf_counter()
        noise = torch.Generator().manual_seed(seed)
        guidance = [ArchitectureGuidance(self.space.decode, self._tilt(objectives))] if objectives else []
        kept: list[Architecture] = []
        every: set[Architecture] = set()
        drawn = valid = idle = 0
        for _ in range(ROUNDS if objectives or unique else 1):
            batch = self.generator.sample(max(n - len(kept), 16), guidance=guidance, steps=steps, generator=noise)
            decoded = self.space.decode(batch)
            archs = [arch for arch in decoded if arch is not None]
            drawn, valid = drawn + len(decoded), valid + len(archs)
            before = len(kept)
            for arch, good in zip(archs, self._feasible(archs, objectives), strict=True):
                if good and len(kept) < n and not (unique and arch in every):
                    kept.append(arch)
                every.add(arch)
            idle = idle + 1 if len(kept) == before else 0
            if len(kept) >= n or idle >= 5:
                break
        if not kept:
            raise Infeasible(self._what_can_be_met(objectives, steps, noise))
        if len(kept) < n:
            message = f"only {len(kept)} of {n} architectures were found that differ and meet {list(objectives)}"
            warnings.warn(message, ArchgenWarning, stacklevel=2)
        shown = dict.fromkeys([*(o.metric for o in objectives), "params", "flops"])
        diagnostics = {
            "drawn": float(drawn),
            "valid": 100.0 * valid / drawn,
            "unique": 100.0 * len(every) / max(valid, 1),
            "accepted": 100.0 * len(kept) / drawn,
            "seconds": time.perf_counter() - start,
        }
        predicted = {metric: self.predictor(metric).predict(kept).mean for metric in shown}
        return Samples(self.space, kept, predicted, diagnostics)

    def _tilt(self, wishes: Sequence[Objective]) -> Any:
        def log_tilt(archs: Sequence[Architecture]) -> Floats:
            total = np.zeros(len(archs))
            for wish in wishes:
                predictor = self.predictor(wish.metric)
                centre, spread = self._scale(wish.metric)
                if wish.bound is not None:
                    log_p = predictor.log_probability(archs, wish)
                    gap = wish.sign * (wish.bound - predictor.predict(archs).mean) / spread
                    # an exact count that misses its bound says nothing of the way there: the distance does
                    total += np.where(np.isneginf(log_p), -MISSED - self.strength * gap, log_p)
                else:
                    total += self.strength * wish.sign * (predictor.predict(archs).mean - centre) / spread
            return total

        return log_tilt

    def _scale(self, metric: str) -> tuple[float, float]:
        """Median and spread (a robust standard deviation) of a metric's predictions over the space."""
        if metric not in self._scales:
            values = self.predictor(metric).predict(self.space.sample(512, np.random.default_rng(0))).mean
            low, centre, high = np.quantile(values, [0.1587, 0.5, 0.8413])
            self._scales[metric] = float(centre), float(max((high - low) / 2, 1e-12))
        return self._scales[metric]

    def _feasible(self, archs: Sequence[Architecture], wishes: Sequence[Objective]) -> list[bool]:
        good = np.ones(len(archs), dtype=bool)
        for wish in bounds(wishes):
            good &= [wish.met(value) for value in self.predictor(wish.metric).predict(archs).mean.tolist()]
        return good.tolist()

    def _what_can_be_met(self, wishes: Sequence[Objective], steps: int, noise: torch.Generator) -> str:
        """One line: for each bound, the best value that guided sampling reaches on that metric alone."""
        parts = []
        for wish in bounds(wishes):
            towards = [minimize(wish.metric) if wish.sign < 0 else maximize(wish.metric)]
            guidance = [ArchitectureGuidance(self.space.decode, self._tilt(towards))]
            batch = self.generator.sample(128, guidance=guidance, steps=steps, generator=noise)
            archs = [arch for arch in self.space.decode(batch) if arch is not None]
            values = self.predictor(wish.metric).predict(archs).mean
            reached = values.min() if wish.sign < 0 else values.max()
            side = "at most" if wish.sign < 0 else "at least"
            parts.append(f"{wish.metric} {side} {wish.bound:g} (reachable: {reached:.4g})")
        return f"no architecture of {self.space.name} was found with {' and '.join(parts)}; move a bound"


def pretrained_generator(space: SearchSpace, name: str = "discrete_flow", root: Path | None = None) -> Generator:
    """The committed generator of a space.

    Raises:
        InvalidCheckpoint: There is none: train one with `archgen train generator`; or it is damaged, or was trained
            on another space.
    """
    folder = (root or config.checkpoints_dir()) / "generators" / f"{space.name}-{name}"
    if not folder.is_dir():
        raise InvalidCheckpoint(
            f"there is no {name} generator for {space.name} in {folder.parent}; "
            f"train one: archgen train generator --space {space.name}"
        )
    generator = load_generator(folder)
    if not (
        torch.equal(generator.node_domain, space.node_domain) and torch.equal(generator.edge_domain, space.edge_domain)
    ):
        raise InvalidCheckpoint(f"{folder} was trained on another space than {space.name}; copy or train it again")
    return generator
