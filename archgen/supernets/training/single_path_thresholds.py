"""Single-Path NAS: one network, whose kernels and widths are decided by thresholds on norms (arXiv 1904.02877)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from archgen.errors import InvalidOption
from archgen.graph import Architecture
from archgen.spaces import ChainSpace
from archgen.spaces.stages import SKIP
from archgen.supernets.base import Supernet
from archgen.supernets.elastic import ElasticSupernet
from archgen.supernets.training.architecture_parameters import ArchitectureParameters
from archgen.supernets.training.base import TRAINING_STRATEGIES, Batch, Plan, TrainingStrategy, ranged
from archgen.supernets.training.latencies import Latencies, read_latencies
from archgen.supernets.training.superkernels import Decision, Superkernel, superkernels


@TRAINING_STRATEGIES.register("single_path_thresholds")
class SinglePathThresholds(TrainingStrategy):
    r"""Every step trains the largest network with the parts of its kernels that pass their thresholds.

    Weights and thresholds descend one loss, on the same images,

    .. math:: L = L_{CE} + \lambda \ln R ,

    `R` the latency of what is decided (`Superkernel.decide`). A decision is an indicator, whose derivative is the
    sigmoid's. A block that may be left out is there while its narrowest part passes, and all before it in its stage
    are there. Slots without weights (the resolution) stay at their largest.

    As in the published code, norms are not squared, where the paper squares them, and decisions are dropped at random
    during a warm-up in which latency does not count. Against it: dropped decisions are not scaled up; the indicators of
    channels and of blocks multiply what follows the normalisation, since normalisation undoes any scale of the kernel
    before it; `R` is the table's latency of what is decided, there the kernel's share is the same for all widths; there
    may be any number of kernels and widths; thresholds have an Adam of their own; and squeeze-and-excitation is no
    choice.

    Args:
        threshold_lr: Learning rate of the thresholds' Adam, at least 0.
        warm_up: Share of the epochs, in [0, 1), in which decisions are dropped and latency is free; never all of them.
        drop: Probability that a decision for more is dropped then, in [0, 1).
        latency: File with the latency of each label of each slot (`read_latencies`), the slots being the edges; FLOPs,
            by the space's counts, where empty.
        rest: Latency of what is not searched, at least 0, in the unit of the file; FLOPs have their own.
        strength: Of the latency, at least 0.
        label_smoothing: Of the cross-entropy, in [0, 1).

    Raises:
        InvalidOption: A number out of its range.
    """

    alone = True

    def __init__(
        self,
        threshold_lr: float = 0.01,
        warm_up: float = 0.25,
        drop: float = 0.4,
        latency: str = "",
        rest: float = 0.0,
        strength: float = 0.1,
        label_smoothing: float = 0.0,
    ) -> None:
        if not 0 <= warm_up < 1 or not 0 <= drop < 1 or strength < 0:
            raise InvalidOption(
                "expected 0 <= warm_up < 1, 0 <= drop < 1 and strength from 0, "
                f"got {warm_up:g}, {drop:g} and {strength:g}"
            )
        self.threshold_lr, self.warm_up, self.drop = ranged("threshold_lr", threshold_lr, 0), warm_up, drop
        self.latency, self.rest, self.strength = latency, ranged("rest", rest, 0), strength
        self.label_smoothing = ranged("label_smoothing", label_smoothing, 0, 1)

    def prepare(self, supernet: Supernet, plan: Plan) -> None:
        """As in the base.

        Raises:
            InvalidSpace: The space has no superkernels.
            InvalidOption: A file of latencies that can not be used.
        """
        super().prepare(supernet, plan)
        self.blocks = superkernels(supernet)
        space = supernet.space
        assert isinstance(supernet, ElasticSupernet)
        assert isinstance(space, ChainSpace)
        assert space.extremes is not None
        self._largest = space.extremes[1]
        self.thresholds = ArchitectureParameters(
            {block.slot: block.thresholds for block in self.blocks},
            lr=self.threshold_lr,
            betas=(0.9, 0.999),
            weight_decay=0.0,
            device=next(supernet.parameters()).device,
        )
        slots = {block.slot: space.slots[block.slot] for block in self.blocks}
        if self.latency:
            found, self._rest = read_latencies(Path(self.latency), slots), self.rest
        else:
            found, self._rest = slot_flops(supernet, space, slots)
        by_label = {slot: dict(zip(slots[slot], values, strict=True)) for slot, values in found.items()}
        self.tables = {block.slot: _table(block, by_label[block.slot]).to(self._values) for block in self.blocks}
        self.skipped = {slot: own.get(SKIP, 0.0) for slot, own in by_label.items()}
        if self.strength > 0 and self._rest + sum(float(table.min()) for table in self.tables.values()) <= 0:
            raise InvalidOption("the logarithm of the latency needs one above 0; give rest, or strength=0")
        self._steps = torch.zeros((), dtype=torch.long)

    @property
    def _values(self) -> Tensor:
        return self.thresholds.values

    @property
    def searching(self) -> bool:
        """Whether the next step is one after the warm-up."""
        alone = min(round(self.warm_up * self.plan.epochs), self.plan.epochs - 1)
        return int(self._steps) >= alone * self.plan.steps

    def step(self, supernet: Supernet, batch: Batch, rng: np.random.Generator) -> dict[str, float]:
        assert isinstance(supernet, ElasticSupernet)
        searching = self.searching
        kept = torch.ones_like(self._values.data)
        if not searching:
            kept = torch.from_numpy(rng.random(len(kept)) >= self.drop).to(kept)
        state, (x, y) = supernet.inherited(self._largest), batch
        decisions = self.decide(state, kept)
        there = self.there(decisions)
        replaced: dict[str, Tensor] = {}
        for block in self.blocks:
            replaced |= block.replaced(state, decisions[block.slot], there[block.slot])
        logits = supernet(x, self._largest, replaced)
        loss = F.cross_entropy(logits, y, label_smoothing=self.label_smoothing)
        latency = self.latency_of(decisions, there)
        total = loss + self.strength * latency.log() if searching and self.strength > 0 else loss
        self.gradients.backward(total)
        for gradient in self.gradients.of([self.thresholds.values]):  # not as it was scaled for fp16
            self.thresholds.descend(gradient)
        self._steps += 1
        return {"loss": float(loss.detach()), "latency": float(latency.detach())}

    def decide(self, state: Mapping[str, Tensor], kept: Float[Tensor, " t"] | None = None) -> dict[str, Decision]:
        """The decision of each block.

        Args:
            state: What the largest architecture inherits.
            kept: 0 for the thresholds whose decision is dropped; none is where None.
        """
        keep = self.thresholds.split(torch.ones_like(self._values.data) if kept is None else kept)
        thresholds = self.thresholds.by_edge()
        return {
            block.slot: block.decide(state[block.name("1.0.weight")], thresholds[block.slot], keep[block.slot])
            for block in self.blocks
        }

    def there(self, decisions: Mapping[str, Decision]) -> dict[str, Float[Tensor, ""]]:
        """Whether each block is there, which it is where those before it in its stage are."""
        found: dict[str, Tensor] = {}
        before = torch.ones_like(self._values.data[:1]).squeeze()
        for block in self.blocks:
            before = before * decisions[block.slot].there if block.optional else decisions[block.slot].there
            found[block.slot] = before
        return found

    def latency_of(self, decisions: Mapping[str, Decision], there: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        """Latency of the network that is decided; differentiable."""
        total = torch.full_like(self._values.data[:1], self._rest).squeeze()
        for slot, decision in decisions.items():
            own = decision.kernels @ self.tables[slot] @ decision.widths
            total = total + there[slot] * own + (1 - there[slot]) * self.skipped[slot]
        return total

    @torch.no_grad()
    def found(self, supernet: Supernet) -> Architecture:
        space = supernet.space
        assert isinstance(space, ChainSpace)
        decisions = self.decide(supernet.inherited(self._largest))
        there, labels = self.there(decisions), space.to_labels(self._largest)
        for block in self.blocks:
            labels[block.slot] = block.label(decisions[block.slot]) if float(there[block.slot]) > 0 else SKIP
        return space.from_labels(labels)

    def state(self) -> dict[str, Tensor]:
        return {**self.thresholds.state(), "steps": self._steps}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.thresholds.load_state(state)
        self._steps = state["steps"].clone()


def slot_flops(
    supernet: ElasticSupernet, space: ChainSpace, slots: Mapping[str, tuple[str, ...]]
) -> tuple[Latencies, float]:
    """FLOPs of each label of some slots in the largest network, 0 for a block left out, and those of all the rest."""
    assert space.extremes is not None
    labels = space.to_labels(space.extremes[1])
    found: Latencies = {}
    for slot, allowed in slots.items():
        found[slot] = []
        for label in allowed:
            chosen = space.from_labels({**labels, slot: labels[slot] if label == SKIP else label})
            flops = dict(space.segment_flops(chosen, **supernet.network))
            found[slot].append(0.0 if label == SKIP else flops[slot])
    whole = space.segment_flops(space.extremes[1], **supernet.network)
    return found, sum(flops for name, flops in whole if name not in slots)


def _table(block: Superkernel, latencies: Mapping[str, float]) -> Float[Tensor, "k e"]:
    return torch.tensor([[latencies[block.labels[k, w]] for w in block.widths] for k in block.kernels])
