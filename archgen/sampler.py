"""The predictor-guided sampler: a generator, predictors and wishes in, architectures out."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

import archgen.surrogates  # noqa: F401  its members are predictors too: checkpoints name them
from archgen import config, spaces
from archgen.artifacts import read_json
from archgen.errors import ArchgenWarning, Infeasible, InvalidCheckpoint, InvalidObjective, UnknownMetric
from archgen.generators import GENERATORS, Generator, Guidance, load_generator
from archgen.graph import Architecture
from archgen.objectives import Objective, check, maximize, minimize
from archgen.predictors import Predictor, load_predictor
from archgen.predictors.counts import Count
from archgen.rewards import TRADE_OFFS, Reward, TradeOff
from archgen.samples import Samples
from archgen.spaces import SearchSpace
from archgen.steering import Drawing, Steering

DEFAULT_GENERATOR = "discrete_flow"
MOST = 10_000_000
MOST_STEPS = 10_000
IDLE = 6
"""Rounds in a row that may give nothing new before the sampler stops."""
ROUNDS = 40
"""Rounds for one request, beyond those that its size alone needs."""
CELLS = 2**24
"""Numbers in the largest tensor of one batch: memory is bounded by this, not by how many are asked for."""


class GuidedSampler:
    """Draws architectures that a generator finds likely and predictors find good.

    Args:
        space: The search space.
        generator: Trained on it.
        predictors: By metric; `params` and `flops` are counted exactly and need none.
        strength: How hard directions pull: weight `exp(strength * z)`, `z` the predicted value in standard
            deviations over the space, so that it means the same for every metric. 0 ignores them.

    Raises:
        InvalidObjective: A strength below 0 or not finite, or a generator or predictor of another space.

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
        if not (math.isfinite(strength) and strength >= 0):
            raise InvalidObjective(f"a strength must be a finite number of at least 0, got {strength}")
        for metric, predictor in (predictors or {}).items():
            if predictor.space.name != space.name:
                raise InvalidObjective(
                    f"the predictor of {metric} is for {predictor.space.name}, expected one for {space.name}"
                )
        self.space, self.generator, self.strength = space, _of_space(generator, space), strength
        self._root: Path | None = None
        self._predictors = {"params": Count(space, "params"), "flops": Count(space, "flops"), **(predictors or {})}
        self._folders: dict[str, Path] = {}
        self._scales: dict[str, tuple[float, float]] = {}

    @classmethod
    def from_pretrained(
        cls, name: str | Path, *, generator: str = DEFAULT_GENERATOR, checkpoints: Path | None = None
    ) -> GuidedSampler:
        """The sampler of the committed checkpoints of a space; predictors are read when first asked for.

        Args:
            name: Name of the space, or the path of its TOML file.
            generator: Name of the generator, or the folder of one of your own.
            checkpoints: Folder of the checkpoints; the package's own by default.

        Raises:
            UnknownName: No such space, or no such generator.
            InvalidCheckpoint: No generator for it, or a damaged one.
        """
        space = spaces.load(name)
        root = checkpoints or config.checkpoints_dir()
        sampler = cls(space, pretrained_generator(space, generator, root))
        sampler._root, sampler._folders = root, predictor_folders(space, root)
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
        condition: Mapping[str, float] | None = None,
        generator: str | Generator | None = None,
        guidance: str | Sequence[str | Guidance] = "auto",
        weight: float | None = None,
        steps: int | None = None,
        seed: int = 0,
        unique: bool = True,
        confidence: float | None = None,
        trade_off: TradeOff = "weights",
        known: Collection[Architecture] = (),
        vary: Sequence[Architecture] = (),
        t: float = 0.3,
    ) -> Samples:
        """Draw `n` architectures under the wishes.

        Directions and bounds tilt the sampling; afterwards only architectures whose prediction meets all bounds are
        kept, and sampling goes on until there are `n`.

        Args:
            n: How many, from 1 to ten million.
            objectives: Wishes; without any (and without a condition) the generator is sampled as it is.
            condition: Value of each property that the samples should have; for generators trained with conditions.
            generator: Another generator: its name, if this sampler came from checkpoints, or itself.
            guidance: How wishes steer: `auto`, or names out of `archgen.steering.METHODS`, or `Guidance` of your own.
            weight: Of classifier-free guidance, see `Generator.sample`; by default 1.5, for a lone direction 2, or 1
                where something else sharpens it (see `Steering`).
            steps: Solver steps; the generator's own default if None.
            seed: Same seed, same architectures.
            unique: Whether to reject duplicates. When there are too few distinct ones, fewer come back, with a
                warning.
            confidence: Probability with which each bound must be met by the predictor's own interval; without it
                the predicted value must meet the bound.
            trade_off: How several directions are joined, see `Reward`.
            known: Architectures that are not novel, for the diagnostics.
            vary: Architectures to vary instead of drawing from noise (see `Start`); each sample varies one of them.
            t: How far: the share of a graph that is forgotten, in (0, 1].

        Raises:
            UnknownMetric: No predictor for a wish, or no such property for a condition.
            UnknownName: No such generator or guidance.
            InvalidObjective: `n` or `steps` out of range, contradicting wishes, or a condition without a conditional
                generator.
            Infeasible: Nothing was found that meets the bounds; says what can be met.
        """
        start = time.perf_counter()
        _check_numbers(n, steps, confidence, trade_off, t)
        check(objectives)
        chosen = self._generator(generator)
        reward = Reward(objectives, self.predictor, self._scale, self.strength, trade_off, confidence)
        noise = torch.Generator().manual_seed(seed)
        rng = np.random.default_rng(seed)
        different = n if unique else 1
        steering = Steering(self.space, chosen, reward, guidance, condition, weight, steps, vary, t, different)
        kept: list[Architecture] = []
        every: set[Architecture] = set()
        total, idle = Drawing(), 0
        rounds = ROUNDS if reward.bounds or unique else 0
        chunk = max(16, CELLS // (steering.width * self.space.node_domain.numel()))
        while len(kept) < n and idle < IDLE and (rounds > 0 or total.drawn < n):
            reward.redraw(rng)
            size = min(max(n - len(kept), 16), chunk, max(16, n // 8) if reward.changes else chunk)
            drawing = steering.draw(size, noise, idle=idle)
            total += drawing
            before = len(kept)
            for arch, good in zip(drawing.archs, reward.feasible(drawing.archs), strict=True):
                if good and len(kept) < n and not (unique and arch in every):
                    kept.append(arch)
                every.add(arch)
            reward.extend(kept[before:])
            idle = idle + 1 if len(kept) == before else 0
            rounds -= len(kept) - before < size // 4
        if not kept:
            raise Infeasible(self._what_can_be_met(reward, chosen, confidence, noise))
        if len(kept) < n:
            message = f"only {len(kept)} of {n} architectures were found that differ and meet {list(objectives)}"
            warnings.warn(message, ArchgenWarning, stacklevel=2)
        shown = dict.fromkeys([*(o.metric for o in objectives), *(condition or {}), "params", "flops"])
        predicted = {metric: self.predictor(metric).predict(kept).mean for metric in shown if metric in self.metrics}
        known = set(known)
        diagnostics = {
            "drawn": float(total.drawn),
            "valid_raw": 100.0 * total.valid_raw / total.drawn,
            "valid": 100.0 * total.valid / total.drawn,
            "unique": 100.0 * len(every) / max(total.valid, 1),
            **({"novel": 100.0 * sum(a not in known for a in kept) / len(kept)} if known else {}),
            "accepted": 100.0 * len(kept) / total.drawn,
            "calls": float(steering.calls),
            "seconds": time.perf_counter() - start,
        }
        return Samples(self.space, kept, predicted, diagnostics)

    def stream(
        self, objectives: Sequence[Objective] = (), *, batch: int = 1024, seed: int = 0, **options: object
    ) -> Iterator[Samples]:
        """Samples without end, `batch` at a time; memory does not grow. Duplicates are rejected within a batch only.

        Args:
            objectives: As in `sample`.
            batch: Architectures a turn.
            seed: Same seed, same stream.
            **options: As in `sample`.
        """
        for turn in np.random.SeedSequence(seed).generate_state(1, np.uint32).tolist():
            start = turn
        while True:
            yield self.sample(batch, objectives, seed=start, **options)  # type: ignore[arg-type]
            start += 1

    def _generator(self, wanted: str | Generator | None) -> Generator:
        if not isinstance(wanted, str):
            return self.generator if wanted is None else _of_space(wanted, self.space)
        if self._root is None:
            raise InvalidObjective(f"generator '{wanted}' can not be named: this sampler came from no checkpoints")
        return pretrained_generator(self.space, wanted, self._root)

    def _scale(self, metric: str) -> tuple[float, float]:
        """Median and spread (a robust standard deviation) of a metric's predictions over the space."""
        if metric not in self._scales:
            values = self.predictor(metric).predict(self.space.sample(512, np.random.default_rng(0))).mean
            low, centre, high = np.quantile(values, [0.1587, 0.5, 0.8413])
            self._scales[metric] = float(centre), float(max((high - low) / 2, 1e-12))
        return self._scales[metric]

    def _what_can_be_met(
        self, reward: Reward, generator: Generator, confidence: float | None, noise: torch.Generator
    ) -> str:
        """One line: for each bound, the best value that guided sampling reaches on that metric alone."""
        parts = []
        for wish in reward.bounds:
            towards = minimize(wish.metric) if wish.sign < 0 else maximize(wish.metric)
            alone = Reward([towards], self.predictor, self._scale, self.strength)
            archs = Steering(self.space, generator, alone, "importance").draw(128, noise).archs
            predictor = self.predictor(wish.metric)
            values = predictor.predict(archs).mean if confidence is None else predictor.limit(archs, wish, confidence)
            reached = values.min() if wish.sign < 0 else values.max()
            side = "at most" if wish.sign < 0 else "at least"
            parts.append(f"{wish.metric} {side} {wish.bound:g} (reachable: {reached:.4g})")
        sure = "" if confidence is None else f" with confidence {confidence:g}"
        return f"no architecture of {self.space.name} was found with {' and '.join(parts)}{sure}; move a bound"


def _check_numbers(n: int, steps: int | None, confidence: float | None, trade_off: str, t: float) -> None:
    if not 1 <= n <= MOST:
        raise InvalidObjective(f"expected 1 to {MOST:,} samples, got n={n}; for more, go through `stream`")
    if not 0 < t <= 1:
        raise InvalidObjective(f"expected a share t in (0, 1] of each graph to be forgotten, got {t}")
    if steps is not None and not 1 <= steps <= MOST_STEPS:
        raise InvalidObjective(f"expected at least one solver step and at most {MOST_STEPS:,}, got steps={steps}")
    if confidence is not None and not 0 < confidence < 1:
        raise InvalidObjective(f"a confidence must be between 0 and 1, got {confidence}")
    if trade_off not in TRADE_OFFS:
        raise InvalidObjective(f"expected a trade-off out of {', '.join(TRADE_OFFS)}, got '{trade_off}'")


def predictor_folders(space: SearchSpace, root: Path) -> dict[str, Path]:
    """The checkpoint of each metric that is predicted for a space; raises `InvalidCheckpoint`."""
    folders: dict[str, Path] = {}
    for folder in sorted((root / "predictors").glob(f"{space.name}-*")):
        if folder.name.startswith("."):
            continue
        header = read_json(folder / "config.json")
        arguments = header.get("config") if isinstance(header, dict) else None
        metric = arguments.get("metric") if isinstance(arguments, dict) else None
        if not isinstance(metric, str):
            raise InvalidCheckpoint(f"{folder} names no metric in its config.json; copy the checkpoint again")
        folders[metric] = folder
    return folders


def generator_folder(space: SearchSpace, name: str = DEFAULT_GENERATOR, root: Path | None = None) -> Path:
    """Where a generator lies: in the checkpoints, or in the folder that is given in place of a name.

    Raises:
        UnknownName: There is no generator of this name, and no such folder.
    """
    if name not in GENERATORS and Path(name).is_dir():
        return Path(name)
    GENERATORS[name]
    return (root or config.checkpoints_dir()) / "generators" / f"{space.origin}-{name}"


def has_generator(space: SearchSpace) -> bool:
    """Whether the checkpoints have a generator of the space."""
    return generator_folder(space).is_dir()


def pretrained_generator(space: SearchSpace, name: str = DEFAULT_GENERATOR, root: Path | None = None) -> Generator:
    """The committed generator of a space, or one of the user's own.

    Args:
        space: What it draws architectures of.
        name: Name of the generator, or the folder that `archgen train generator --out` wrote.
        root: Folder of the checkpoints; the package's own by default.

    Raises:
        InvalidCheckpoint: There is none: train one with `archgen train generator`; or it is damaged, or was trained
            on another space.
        UnknownName: There is no generator of this name, and no such folder.
    """
    folder = generator_folder(space, name, root)
    if not folder.is_dir():
        raise InvalidCheckpoint(
            f"there is no {name} generator for {space.name} in {folder.parent}; "
            f"train one: archgen train generator --space {space.origin} --generator {name}"
        )
    try:
        return _of_space(load_generator(folder), space)
    except InvalidObjective:
        raise InvalidCheckpoint(
            f"{folder} was trained on another space than {space.name}; copy or train it again"
        ) from None


def _of_space(generator: Generator, space: SearchSpace) -> Generator:
    domains = (generator.node_domain, space.node_domain), (generator.edge_domain, space.edge_domain)
    if not all(torch.equal(ours, theirs) for ours, theirs in domains):
        raise InvalidObjective(f"the generator was made for another space than {space.name}; pass one of that space")
    return generator
