"""Progressive shrinking: the largest network first, then ever smaller ones beside it (Once-for-All, 1908.09791)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from archgen.errors import InvalidOption, InvalidSpace, UnknownName
from archgen.spaces import ChainSpace, RestrictedSpace, SearchSpace
from archgen.spaces.stages import SKIP
from archgen.supernets.base import Supernet
from archgen.supernets.elastic import ElasticSupernet
from archgen.supernets.training.base import TRAINING_STRATEGIES, Batch, Plan, TrainingStrategy, ranged
from archgen.supernets.training.divergences import soft_cross_entropy

DEPTH = "depth"
FREE = ("r",)
"""Dimensions without weights, which are free from the second phase on: resolutions."""
FIRST = ("k", DEPTH)
"""Dimensions that shrink first, in this order, where nothing else is said: kernels, then depths."""
Allowed = dict[str, tuple[str, ...]]


@TRAINING_STRATEGIES.register("progressive_shrinking")
class ProgressiveShrinking(TrainingStrategy):
    """One dimension after the other is freed, its largest values first (section 3.3 of the paper).

    In the first phase the largest architecture is trained on the labels. Then each phase lets one dimension have its
    next smaller value: kernels, depths, then all others that labels name by a letter and a number (`e` of `k7_e6`).
    Each step trains `random` architectures of what is free so far, on the labels and on the predictions of the largest
    as it was after the first phase. Before a width shrinks the channels are sorted by importance, among those that the
    widths so far have in common, and momenta start anew.

    Against the paper: one schedule of the learning rate runs over all phases, which share what the first one leaves of
    the steps equally, where the paper has a schedule for each; and every phase draws as many architectures a step.

    Args:
        random: Architectures a step, at least 1; the paper's are 1, 2 and 4 for kernels, depths and widths.
        first: Share of the steps that the largest one gets alone, in (0, 1).
        order: Dimensions, comma-separated, in the order in which they shrink; as above where empty.
        distillation: Weight of the cross-entropy to the teacher's predictions, at least 0.
        label_smoothing: Of the cross-entropy to the labels, in [0, 1).

    Raises:
        InvalidOption: A number out of its range.
    """

    def __init__(
        self,
        random: int = 2,
        first: float = 0.3,
        order: str = "",
        distillation: float = 1.0,
        label_smoothing: float = 0.0,
    ) -> None:
        if random < 1 or not 0 < first < 1:
            raise InvalidOption(f"expected at least 1 random architecture and 0 < first < 1, got {random} and {first}")
        self.random, self.first, self.wanted = random, first, [name for name in order.split(",") if name]
        self.distillation = ranged("distillation", distillation, 0)
        self.label_smoothing = ranged("label_smoothing", label_smoothing, 0, 1)

    def prepare(self, supernet: Supernet, plan: Plan) -> None:
        """As in the base.

        Raises:
            InvalidSpace: The space is no chain with an order.
            UnknownName: An order names a dimension that the space has not.
        """
        super().prepare(supernet, plan)
        space = supernet.space
        if not isinstance(supernet, ElasticSupernet) or not isinstance(space, ChainSpace) or space.extremes is None:
            raise InvalidSpace(
                f"{space.name} is no chain with an [order], so it can not shrink; train it with 'uniform'"
            )
        self._phases = phases(space, self.wanted)
        self._spaces: dict[int, SearchSpace] = {}
        self._steps, self._restarted = torch.zeros((), dtype=torch.long), False
        self._largest = space.extremes[1]
        self._teacher = supernet.subnet(self._largest).eval().requires_grad_(False)

    @property
    def restarted(self) -> bool:
        return self._restarted

    def phase(self, step: int) -> int:
        """Of a step: 0 is the largest alone."""
        total = self.plan.steps * self.plan.epochs
        alone = max(round(self.first * total), 1)
        if step < alone:
            return 0
        return 1 + (step - alone) * len(self._phases) // max(total - alone, 1)

    def step(self, supernet: Supernet, batch: Batch, rng: np.random.Generator) -> dict[str, float]:
        now = self.phase(int(self._steps))
        self._restarted = int(self._steps) > 0 and now != self.phase(int(self._steps) - 1)
        if self._restarted:
            self._begin(supernet, now)
        self._steps += 1
        x, y = batch
        if now == 0:
            loss = F.cross_entropy(supernet(x, self._largest), y, label_smoothing=self.label_smoothing)
            self.gradients.backward(loss)
            return {"loss": float(loss.detach())}
        with torch.no_grad():
            target = self._teacher(x)
        total = 0.0
        for arch in self._space(supernet.space, now).sample(self.random, rng):
            logits = supernet(x, arch)
            loss = F.cross_entropy(logits, y, label_smoothing=self.label_smoothing)
            loss = (loss + self.distillation * soft_cross_entropy(logits, target)) / self.random
            self.gradients.backward(loss)
            total += float(loss.detach())
        return {"loss": total}

    def _begin(self, supernet: Supernet, phase: int) -> None:
        if phase == 1:
            state = {name: value.detach() for name, value in supernet.inherited(self._largest).items()}
            self._teacher.load_state_dict(state)
        dimension, _ = self._phases[phase - 1]
        if dimension not in (*FIRST, *FREE):
            assert isinstance(supernet, ElasticSupernet)
            supernet.sort_channels(self._phases[phase - 2][1] if phase > 1 else None)

    def _space(self, space: SearchSpace, phase: int) -> SearchSpace:
        if phase not in self._spaces:
            _, allowed = self._phases[phase - 1]
            self._spaces[phase] = RestrictedSpace(space, allowed) if allowed else space
        return self._spaces[phase]

    def state(self) -> dict[str, Tensor]:
        teacher = {f"teacher.{name}": value for name, value in self._teacher.state_dict().items()}
        return {"steps": self._steps, **teacher}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self._steps = state["steps"].clone()
        self._teacher.load_state_dict({name[8:]: v for name, v in state.items() if name.startswith("teacher.")})


def phases(space: ChainSpace, wanted: Sequence[str] = ()) -> list[tuple[str, Allowed]]:
    """The dimension that shrinks in each phase after the first, and the labels that slots may have from then on.

    A slot that is not named may have all its labels; the last phase names none.

    Raises:
        UnknownName: A wanted dimension that no label has.
    """
    found: dict[str, set[float]] = {}
    for labels in space.active.values():
        for label in labels:
            for name, number in dimensions(label).items():
                found.setdefault(name, set()).add(number)
    steps = {name: sorted(numbers, reverse=True) for name, numbers in found.items() if len(numbers) > 1}
    depths = sorted({d for stage in space.stages for d in stage.depths}, reverse=True)
    if any(len(stage.depths) > 1 for stage in space.stages):
        steps[DEPTH] = [float(d) for d in depths]
    for name in wanted:
        if name not in steps:
            raise UnknownName("dimension of the space", name, steps)
    rest = [name for name in steps if name not in (*FIRST, *FREE)]
    order = list(wanted) or [*(name for name in FIRST if name in steps), *rest]
    order += [name for name in (*FIRST, *rest) if name in steps and name not in order]
    least = {name: numbers[0] for name, numbers in steps.items() if name not in FREE}
    result = []
    for name in order:
        for number in steps[name][1:]:
            least[name] = number
            result.append((name, _allowed(space, least)))
    return result


def dimensions(label: str) -> dict[str, float]:
    """Numbers of a label by the letters before them: of `k7_e6` the kernel 7 and the expansion 6."""
    return {name: float(number) for name, number in re.findall(r"([a-z]+)(\d+(?:\.\d+)?)", label)}


def _allowed(space: ChainSpace, least: Mapping[str, float]) -> Allowed:
    """Labels whose numbers are at least the given ones; blocks that are too few deep may not be left out."""
    needed = {
        slot
        for stage in space.stages
        for block in stage.blocks[: int(min(least.get(DEPTH, 0), max(stage.depths)))]
        for slot in block
    }
    allowed: Allowed = {}
    for slot, labels in space.variables.items():
        kept = tuple(
            label
            for label in labels
            if (label != SKIP or slot not in needed)
            and all(number >= least.get(name, 0.0) for name, number in dimensions(label).items())
        )
        if len(kept) < len(labels):
            allowed[slot] = kept
    return allowed
