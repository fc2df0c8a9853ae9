"""How wishes steer a generator: the methods of guidance by name, and one round of drawing under them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from archgen.errors import InvalidObjective, UnknownName
from archgen.generators import (
    Generator,
    Guidance,
    ImportanceGuidance,
    NoisedGuidance,
    ParticleGuidance,
    Start,
    Tilt,
    gaussian_log_weight,
)
from archgen.graph import Architecture, GraphBatch
from archgen.predictors.counts import COUNTED
from archgen.rewards import Reward
from archgen.spaces import SearchSpace

METHODS = ("classifier_free", "importance", "particles", "noised")
WEIGHT = 1.5
REACH = 3.0
"""Normal score that a direction asks a conditional generator for: one architecture in 740 is beyond it."""


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

    - `classifier_free`: a conditional generator is asked for a property vector: the `condition`, and for each
      direction a normal score of 3 (one architecture in 740 is better). Under bounds such a vector may not exist;
      then the vectors are those of the best feasible architectures of a pilot batch, each a little improved in
      its directions.
    - `importance`, `particles`: the reward as a black box, see `ImportanceGuidance` and `ParticleGuidance`.
    - `noised`: a predictor of noised graphs that was trained with the generator, see `NoisedGuidance`.

    `auto` takes `classifier_free` where the generator knows every direction's metric, and `importance` where there are
    wishes that the property vector does not say.

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
    ) -> None:
        self.space, self.generator, self.reward, self.steps = space, generator, reward, steps
        self.vary, self.t = (space.encode(vary) if vary else None), t
        self.weight = WEIGHT if weight is None else weight
        self.asked = self._asked(condition)
        methods = [guidance] if isinstance(guidance, str) else list(guidance)
        if methods == ["auto"]:
            methods = list(self._automatic())
        self._wished = "classifier_free" in methods  # directions are conditions too
        self.classifier_free = self._wished or self.asked is not None
        if self.classifier_free and generator.properties is None:
            raise InvalidObjective("classifier-free guidance needs a generator that was trained with conditions")
        self._own: list[ImportanceGuidance | ParticleGuidance] = []  # those that weigh by the reward
        self.members = [self._member(method) for method in methods if method != "classifier_free"]
        self._elites: Tensor | None = None
        self._pilot_calls = 0

    @property
    def width(self) -> int:
        """Graphs in memory for each one asked for."""
        return max([1, *(g.candidates for g in self.members)]) * max([1, *(g.population(1) for g in self.members)])

    @property
    def calls(self) -> int:
        """Distinct architectures that predictors were asked about while drawing."""
        return self._pilot_calls + sum(getattr(member, "evaluated", 0) for member in self.members)

    def draw(self, n: int, noise: torch.Generator) -> Drawing:
        """One round: `n` graphs, decoded."""
        condition = self._condition(n, noise) if self.classifier_free else None
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

    def _automatic(self) -> Sequence[str]:
        reward, properties = self.reward, self.generator.properties
        known = properties.metrics if properties is not None else ()
        if not (reward.directions or reward.bounds):
            return []
        if reward.directions and all(wish.metric in known for wish in reward.directions):
            return ["classifier_free", "importance"] if reward.bounds else ["classifier_free"]
        return ["importance"]

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

    def _noised(self) -> NoisedGuidance:
        predictor, properties = self.generator.noised, self.generator.properties
        if predictor is None or properties is None:
            raise InvalidObjective("this generator has no predictor of noised graphs; choose another guidance")
        tilts = [Tilt(o.metric, o.sign, self.reward.strength) for o in self.reward.directions]
        for wish in self.reward.bounds:
            assert wish.bound is not None
            tilts.append(Tilt(wish.metric, wish.sign, bound=float(properties.normalise(wish.metric, [wish.bound])[0])))
        for tilt in tilts:
            properties.row(tilt.metric)
        return NoisedGuidance(gaussian_log_weight(predictor, tilts), self.space.node_domain, self.space.edge_domain)

    # -- conditions -----------------------------------------------------------------------------------------------

    def _condition(self, n: int, noise: torch.Generator) -> Tensor:
        properties = self.generator.properties
        assert properties is not None
        vector = torch.full((len(properties.metrics),), torch.nan) if self.asked is None else self.asked.clone()
        if not self._wished:
            return vector.expand(n, -1)
        if self.reward.bounds and self.reward.directions and self.asked is None:
            if self._elites is None or self.reward.changes:
                self._elites = self._elite_vectors(max(64, min(n, 256)), noise)
            if len(self._elites):
                return self._elites[torch.randint(len(self._elites), (n,), generator=noise)]
        for wish in self.reward.directions:
            row = properties.row(wish.metric)
            if vector[row].isnan():
                vector[row] = wish.sign * REACH
        return vector.expand(n, -1)

    def _elite_vectors(self, n: int, noise: torch.Generator, rounds: int = 3, share: float = 0.1) -> Tensor:
        """Property vectors of the best feasible architectures of a few pilot batches, each drawn under the last's."""
        properties, reward = self.generator.properties, self.reward
        assert properties is not None
        directed = {o.metric: o.sign for o in reward.directions}
        # counts are exact and cheap, and stand in for a bounded metric that the generator does not know
        said = {*directed, *(o.metric for o in reward.bounds), *COUNTED} & set(properties.metrics)
        guidance = [ImportanceGuidance(self.space.decode, reward, candidates=4)]
        pool: dict[Architecture, None] = {}
        condition: Tensor | None = None
        elites = torch.empty(0, len(properties.metrics))
        for _ in range(rounds):
            projector = None if self.space.free else self.space.project
            batch = self.generator.sample(
                n,
                condition=condition,
                guidance=guidance,
                projector=projector,
                generator=noise,
                steps=self.steps,
            )
            pool |= dict.fromkeys(arch for arch in self.space.decode(batch) if arch is not None)
            archs = list(pool)
            best = [archs[i] for i in np.argsort(-reward(archs))[: max(8, int(share * n))]]
            elites = torch.full((len(best), len(properties.metrics)), torch.nan)
            for metric in said:
                values = reward.predictor(metric).predict(best).mean
                low, high = properties.range(metric)
                scores = torch.from_numpy(properties.normalise(metric, np.clip(values, low, high))).float()
                elites[:, properties.row(metric)] = scores + 0.1 * directed.get(metric, 0)
            condition = elites[torch.randint(len(elites), (n,), generator=noise)]
        self._pilot_calls += guidance[0].evaluated
        return elites


class CountedProjector:
    """The space's projector, remembering which share of the last batch needed no mending."""

    def __init__(self, space: SearchSpace) -> None:
        self.space, self.share = space, 1.0

    def __call__(self, drawn: GraphBatch, probabilities: GraphBatch, *, generator: torch.Generator) -> GraphBatch:
        mended = self.space.project(drawn, probabilities, generator=generator)
        same = (mended.ops == drawn.ops).flatten(1).all(1) & (mended.edges == drawn.edges).flatten(1).all(1)
        self.share = float(same.float().mean())
        return mended
