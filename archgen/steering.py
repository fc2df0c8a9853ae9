"""How wishes steer a generator: the methods of guidance by name, and one round of drawing under them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from archgen.errors import InvalidObjective, UnknownName
from archgen.generators import (
    CleanGuidance,
    Generator,
    Guidance,
    ImportanceGuidance,
    NoisedGuidance,
    ParticleGuidance,
    Start,
    Tilt,
    expected_log_weight,
)
from archgen.graph import Architecture, GraphBatch
from archgen.predictors.counts import COUNTED
from archgen.rewards import Reward
from archgen.spaces import SearchSpace

METHODS = ("classifier_free", "importance", "particles", "noised")
WEIGHT, EXAGGERATION = 1.5, 2.0
"""Classifier-free weights: of property vectors that can be had, and of a lone direction, which has no value to meet."""


@dataclass
class Drawing:
    """Architectures of one or more rounds, and what was counted on the way."""

    archs: list[Architecture] = field(default_factory=list)
    drawn: int = 0
    valid_raw: int = 0
    valid: int = 0

    def __iadd__(self, other: Drawing) -> Drawing:
        """Adds the counts; the architectures stay with their round."""
        self.drawn += other.drawn
        self.valid_raw += other.valid_raw
        self.valid += other.valid
        return self


class Steering:
    """A generator under wishes.

    - `classifier_free`: a conditional generator is asked for a property vector: the `condition`, and for a direction
      the normal score of one of the best `exp(-strength)` of all architectures, another for each sample; of more where
      more different ones are wanted than half of these. Under bounds, or with several directions, such a vector may not
      exist; then the vectors are those of the best architectures of a few pilot batches, each batch drawn under the
      last's, a little improved in their directions.
    - `importance`, `particles`: the reward as a black box, see `ImportanceGuidance` and `ParticleGuidance`.
    - `noised`: a predictor of noised graphs that was trained with the generator, see `NoisedGuidance`; a generator
      that draws none chooses among clean graphs by it, see `CleanGuidance`.

    `auto` takes `classifier_free` where the generator knows every direction's metric, with `noised` for a lone
    direction (unless more are wanted than so sharp a pull can tell apart), and `importance` where there are wishes that
    the property vector does not say. A generator knows a metric if it was conditioned on a property of that name and of
    about that scale: a latency predictor of one's own may share a name and nothing else.

    Args:
        space: The space.
        generator: Of that space.
        reward: The wishes.
        guidance: `auto`, a name, or several names and `Guidance` objects.
        condition: Values of properties asked for explicitly.
        weight: Of classifier-free guidance.
        steps: Solver steps; None for the generator's default.
        vary: Architectures to vary; none: draw from noise.
        t: Share of each that is forgotten.
        different: How many different architectures will be asked for in all.

    Raises:
        UnknownName: No such method.
        UnknownMetric: The generator is not conditioned on a property of `condition`.
        InvalidObjective: A method that this generator can not serve.
    """

    def __init__(
        self,
        space: SearchSpace,
        generator: Generator,
        reward: Reward,
        guidance: str | Sequence[str | Guidance] = "auto",
        condition: Mapping[str, float] | None = None,
        weight: float | None = None,
        steps: int | None = None,
        vary: Sequence[Architecture] = (),
        t: float = 0.3,
        different: int = 1,
    ) -> None:
        self.space, self.generator, self.reward, self.steps = space, generator, reward, steps
        self.vary, self.t = (space.encode(vary) if vary else None), t
        self.asked = self._asked(condition)
        self.known = self._known()
        best = math.exp(-reward.strength)
        self.share = min(max(best, 2 * different / space.size), 1.0)  # of all architectures, for directions to ask for
        methods = [guidance] if isinstance(guidance, str) else list(guidance)
        if methods == ["auto"]:
            methods = list(self._automatic())
        lone = self.asked is None and len(reward.directions) == 1 and not reward.bounds
        exaggeration = 1.0 if "noised" in methods or self.share > best else EXAGGERATION  # one of these is enough
        self.weight = (exaggeration if lone else WEIGHT) if weight is None else weight
        self._wished = "classifier_free" in methods  # directions are conditions too
        self.classifier_free = self._wished or self.asked is not None
        if self.classifier_free and generator.properties is None:
            raise InvalidObjective("classifier-free guidance needs a generator that was trained with conditions")
        self._own: list[ImportanceGuidance | ParticleGuidance] = []  # those that weigh by the reward
        self.members = [self._member(method) for method in methods if method != "classifier_free"]
        self._elites: Tensor | None = None
        self._pool: dict[Architecture, None] = {}
        self._pilot_calls = 0

    @property
    def width(self) -> int:
        """Graphs in memory for each one asked for."""
        return max([1, *(g.candidates for g in self.members)]) * max([1, *(g.population(1) for g in self.members)])

    @property
    def calls(self) -> int:
        """Distinct architectures that predictors were asked about while drawing."""
        return self._pilot_calls + sum(getattr(member, "evaluated", 0) for member in self.members)

    def draw(self, n: int, noise: torch.Generator, *, idle: int = 0) -> Drawing:
        """One round: `n` graphs, decoded.

        Args:
            n: How many.
            noise: Source of randomness.
            idle: Rounds in a row that brought nothing new. Then it is tried in turn without the property vectors, whose
                neighbourhood may be used up, and with those of further pilot batches.
        """
        if idle and idle % 2 == 0 and self._elites is not None:
            self._pool = dict.fromkeys(self._best(64))
            self._elites = None
        free = idle % 2 == 1 and bool(self.members) and self.asked is None
        condition = self._condition(n, noise) if self.classifier_free and not free else None
        if self.reward.changes:
            for member in self._own:
                member.forget()
        count = CountedProjector(self.space)
        batch = self.generator.sample(
            n,
            condition=condition,
            weight=self.weight,
            guidance=self.members,
            projector=None if self.space.free else count,
            start=self._start(n, noise),
            generator=noise,
            steps=self.steps,
        )
        archs = [arch for arch in self.space.decode(batch) if arch is not None]
        return Drawing(archs, n, round(n * count.share) if not self.space.free else len(archs), len(archs))

    def _start(self, n: int, noise: torch.Generator) -> Start | None:
        if self.vary is None:
            return None
        return Start(self.vary[torch.randint(len(self.vary), (n,), generator=noise)], self.t)

    def _asked(self, condition: Mapping[str, float] | None) -> Tensor | None:
        if not condition:
            return None
        if self.generator.properties is None:
            raise InvalidObjective(
                f"a condition ({', '.join(condition)}) needs a generator that was trained with conditions; "
                "state the wish as an objective, or train one"
            )
        return torch.from_numpy(self.generator.properties.vector(condition)).float()

    def _known(self) -> frozenset[str]:
        """Wished metrics that the generator knows: its property of that name has about the predictor's scale."""
        properties, reward = self.generator.properties, self.reward
        wished = {wish.metric for wish in [*reward.directions, *reward.bounds]}
        known = set()
        for metric in wished & set(properties.metrics if properties is not None else ()):
            assert properties is not None
            centre, spread = reward.scale(metric)
            low, high = properties.range(metric)
            points = np.clip([centre - spread, centre, centre + spread], low, high)
            below, middle, above = properties.normalise(metric, points)
            if abs(middle) < 1.0 and 0.5 < above - below < 6.0:  # 0 and 2 if normal; accuracies are skewed
                known.add(metric)
        return frozenset(known)

    def _automatic(self) -> Sequence[str]:
        reward = self.reward
        if not (reward.directions or reward.bounds):
            return []
        if not reward.directions or not all(wish.metric in self.known for wish in reward.directions):
            return ["importance"]
        if reward.bounds:
            return ["classifier_free", "importance"]
        lone = len(reward.directions) == 1 and self.generator.noised is not None
        sharp = reward.strength > 0 and self.share <= math.exp(-reward.strength)
        return ["classifier_free", "noised"] if lone and sharp else ["classifier_free"]

    def _member(self, method: str | Guidance) -> Guidance:
        if isinstance(method, Guidance):
            return method
        if method == "importance":
            self._own.append(ImportanceGuidance(self.space.decode, self.reward))
            return self._own[-1]
        if method == "particles":
            self._own.append(ParticleGuidance(self.space.decode, self.reward))
            return self._own[-1]
        if method == "noised":
            return self._noised()
        raise UnknownName("guidance", method, METHODS)

    def _noised(self) -> Guidance:
        predictor, properties = self.generator.noised, self.generator.properties
        if predictor is None or properties is None:
            raise InvalidObjective("this generator has no predictor of noised graphs; choose another guidance")
        tilts = [Tilt(o.metric, o.sign, self.reward.strength) for o in self.reward.directions]
        for wish in self.reward.bounds:
            assert wish.bound is not None
            tilts.append(Tilt(wish.metric, wish.sign, bound=float(properties.normalise(wish.metric, [wish.bound])[0])))
        for tilt in tilts:
            properties.row(tilt.metric)
        log_weight = expected_log_weight(predictor, tilts)
        if not self.generator.through_noise:
            return CleanGuidance(log_weight)
        return NoisedGuidance(log_weight, self.space.node_domain, self.space.edge_domain)

    # -- conditions -----------------------------------------------------------------------------------------------

    def _condition(self, n: int, noise: torch.Generator) -> Tensor:
        properties = self.generator.properties
        assert properties is not None
        vector = torch.full((len(properties.metrics),), torch.nan) if self.asked is None else self.asked
        vectors = vector.repeat(n, 1)
        if not self._wished:
            return vectors
        together = len(self.reward.directions) + len(self.reward.bounds) > 1  # may not all be had at once
        if together and self.reward.directions and self.asked is None:
            if self._elites is None or self.reward.changes:
                self._elites = self._elite_vectors(max(64, min(n, 256)), noise)
            if len(self._elites):
                return self._elites[torch.randint(len(self._elites), (n,), generator=noise)]
        for wish in self.reward.directions:
            row = properties.row(wish.metric)
            if vector[row].isnan():
                worse = 1 - self.share * torch.rand(n, generator=noise, dtype=torch.double)
                highest = properties.scores[row, -1] if wish.sign > 0 else -properties.scores[row, 0]
                vectors[:, row] = wish.sign * torch.special.ndtri(worse).clamp(max=highest).float()
        return vectors

    def _elite_vectors(self, n: int, noise: torch.Generator, rounds: int = 3, share: float = 0.1) -> Tensor:
        """Property vectors of the best feasible architectures of a few pilot batches, each drawn under the last's."""
        properties, reward = self.generator.properties, self.reward
        assert properties is not None
        directed = {o.metric: o.sign for o in reward.directions}
        # counts are exact and cheap, and stand in for a bounded metric that the generator does not know
        said = self.known | ({*COUNTED} & set(properties.metrics))
        guidance = [ImportanceGuidance(self.space.decode, reward, candidates=4)]
        elites = self._vectors(self._best(max(8, int(share * n))), said, directed)
        for _ in range(rounds):
            batch = self.generator.sample(
                n,
                condition=elites[torch.randint(len(elites), (n,), generator=noise)] if len(elites) else None,
                guidance=guidance,
                projector=None if self.space.free else self.space.project,
                generator=noise,
                steps=self.steps,
            )
            self._pool |= dict.fromkeys(arch for arch in self.space.decode(batch) if arch is not None)
            elites = self._vectors(self._best(max(8, int(share * n))), said, directed)
        self._pilot_calls += guidance[0].evaluated
        return elites

    def _best(self, n: int) -> list[Architecture]:
        """The pilot architectures of the highest reward."""
        archs = list(self._pool)
        return [archs[i] for i in np.argsort(-self.reward(archs))[:n]] if archs else []

    def _vectors(self, archs: Sequence[Architecture], said: Set[str], directed: Mapping[str, int]) -> Tensor:
        """Property vectors that name the metrics `said`, a little improved in the directions."""
        properties = self.generator.properties
        assert properties is not None
        vectors = torch.full((len(archs), len(properties.metrics)), torch.nan)
        for metric in said if archs else ():
            low, high = properties.range(metric)
            values = np.clip(self.reward.predictor(metric).predict(archs).mean, low, high)
            scores = torch.from_numpy(properties.normalise(metric, values)).float()
            vectors[:, properties.row(metric)] = scores + 0.1 * directed.get(metric, 0)
        return vectors


class CountedProjector:
    """The space's projector, remembering the last batch that it was given, to say what share of it decoded."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self._last: tuple[GraphBatch, GraphBatch] | None = None

    def __call__(self, drawn: GraphBatch, probabilities: GraphBatch, *, generator: torch.Generator) -> GraphBatch:
        mended = self.space.project(drawn, probabilities, generator=generator)
        self._last = drawn, mended
        return mended

    @property
    def share(self) -> float:
        """Share of the last batch that decodes as it was drawn; 1 where there was none."""
        if self._last is None:
            return 1.0
        drawn, mended = self._last
        changed = (mended.ops != drawn.ops).flatten(1).any(1) | (mended.edges != drawn.edges).flatten(1).any(1)
        rows = changed.nonzero().flatten()
        lost = sum(arch is None for arch in self.space.decode(drawn[rows])) if len(rows) else 0
        return 1.0 - lost / len(drawn)
