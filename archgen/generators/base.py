"""Generators: what learns a space and draws from it. They know no space, no predictor and no objective."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from archgen import artifacts
from archgen.artifacts import Checkpoint
from archgen.conditions import Conditions
from archgen.errors import InvalidCheckpoint
from archgen.generators.noised_predictor import NoisedPredictor
from archgen.generators.variables import draw
from archgen.graph import GraphBatch
from archgen.registry import Registry

GENERATORS: Registry[type[Generator]] = Registry("generator")


class Guidance:
    """Tilts what a generator draws; a list of them multiplies their tilts.

    A generator asks each member of the list for what it can use, in the order below; the base class abstains from
    all. `archgen.generators.guidance` has the members.
    """

    candidates: int = 1
    """Clean graphs that `log_tilt` wants to choose among, for each graph and step."""

    def log_tilt(self, clean: GraphBatch) -> Float[Tensor, " b"] | None:
        """Log-weight that each clean graph should be drawn with, up to a constant; `-inf` forbids. None: no opinion.

        For any black box: it sees clean graphs only.
        """
        return None

    def changes(self, graph: GraphBatch, t: Float[Tensor, " b"]) -> GraphBatch | None:
        r"""Log-ratios :math:`\log r_t(y) / r_t(x)` of every graph `y` that differs from `x` in one label or edge.

        For chains that jump (discrete flows): the probability of each jump is multiplied by the ratio.

        Args:
            graph: Noised graphs `x`, one-hot.
            t: The times that the jumps lead to, 1 is noise.

        Returns:
            A batch whose `ops` (`b n k`) hold the ratio for giving a node that label, and whose `edges` (`b n n`)
            the ratio for flipping that edge; or None: no opinion.
        """
        return None

    def score(self, graph: GraphBatch, t: Float[Tensor, " b"]) -> GraphBatch | None:
        r"""Gradient :math:`\nabla_x \log r_t(x)` with respect to labels and edges, for generators of real numbers."""
        return None

    def resample(self, clean: GraphBatch, t: float, *, generator: torch.Generator) -> Int[Tensor, " b"] | None:
        """Which graph of the batch each one goes on from, for steering by particles; None: each from itself.

        Args:
            clean: A prediction of the clean graph of each noised one.
            t: Their time; 0 with the clean graphs themselves at the end.
            generator: Source of randomness.
        """
        return None

    def population(self, n: int) -> int:
        """How many graphs to draw so that `n` are left by the last `resample`, at least `n`."""
        return n


def survivors(
    guidance: Sequence[Guidance], clean: GraphBatch, t: float, *, generator: torch.Generator
) -> Int[Tensor, " b"] | None:
    """What the one member that resamples says, see `Guidance.resample`; None where there is none.

    Raises:
        ValueError: Two members resample: after the first, the second's weights belong to other graphs.
    """
    chosen = [g.resample(clean, t, generator=generator) for g in guidance]
    given = [indices for indices in chosen if indices is not None]
    if len(given) > 1:
        raise ValueError("only one member of the guidance may resample; put all potentials into it")
    return given[0] if given else None


def chosen(
    guidance: Sequence[Guidance], clean: GraphBatch, candidates: int, *, generator: torch.Generator
) -> Int[Tensor, " n"]:
    """Which of each `candidates` graphs in a row to keep, in proportion to its weight; if all are forbidden, any.

    Args:
        guidance: Those that have an opinion (`Guidance.log_tilt`) multiply their weights.
        clean: `n * candidates` clean graphs.
        candidates: Graphs to choose one of.
        generator: Source of randomness.
    """
    opinions = [opinion for g in guidance if (opinion := g.log_tilt(clean)) is not None]
    tilt = sum(opinions, torch.zeros(len(clean))).view(-1, candidates)
    tilt = torch.where(tilt.isneginf().all(1, keepdim=True), torch.zeros_like(tilt), tilt)
    return torch.arange(len(tilt)) * candidates + draw(tilt.softmax(1), generator)


@runtime_checkable
class Projector(Protocol):
    """Replaces graphs that do not decode by near ones that do (`SearchSpace.project`)."""

    def __call__(self, drawn: GraphBatch, probabilities: GraphBatch, *, generator: torch.Generator) -> GraphBatch:
        """See `SearchSpace.project`."""
        ...


@dataclass(frozen=True)
class Start:
    """Graphs to set out from instead of noise: they are noised to time `t` and generated again from there.

    Small times keep most of a graph: a mutation that has learnt what belongs together (SDEdit, arXiv 2108.01073).

    Args:
        graph: One clean graph for each sample.
        t: In (0, 1]; 1 forgets the graphs.
    """

    graph: GraphBatch
    t: float

    def __post_init__(self) -> None:
        if not 0 < self.t <= 1:
            raise ValueError(f"expected a time in (0, 1] to set out from, got t={self.t}")


class Generator(nn.Module, ABC):
    """A distribution over graphs that was learnt from samples.

    Args:
        node_domain: Labels that each node may carry, `n x k`.
        edge_domain: States (absent, present) that each edge may take, `n x n x 2`.
        config: The remaining constructor arguments, so that a checkpoint can rebuild the generator; `conditions`,
            the number of properties it can be conditioned on, is one of them.
    """

    node_domain: Bool[Tensor, "n k"]
    edge_domain: Bool[Tensor, "n n 2"]
    default_steps: int = 1
    """Solver steps that are a good choice."""
    through_noise: bool = True
    """Whether samples come out of noised graphs that guidance can steer; else it can only choose among clean ones."""

    def __init__(
        self, node_domain: Bool[Tensor, "n k"], edge_domain: Bool[Tensor, "n n 2"], config: dict[str, Any]
    ) -> None:
        super().__init__()
        self.register_buffer("node_domain", node_domain)
        self.register_buffer("edge_domain", edge_domain)
        self.config = config
        self.conditions: int = config.get("conditions", 0)
        self.properties: Conditions | None = None  # what a condition vector means
        self.noised: NoisedPredictor | None = None  # of the properties of graphs with this generator's noise

    @abstractmethod
    def noise(self, clean: GraphBatch, t: Float[Tensor, " b"], *, generator: torch.Generator) -> GraphBatch:
        """Noised graphs at the given times, as `sample` meets them; predictors for `Guidance` train on them."""

    @abstractmethod
    def loss(
        self, clean: GraphBatch, condition: Float[Tensor, "b c"] | None = None, *, generator: torch.Generator
    ) -> Float[Tensor, ""]:
        """Training loss of a batch of clean graphs, a scalar.

        Args:
            clean: The batch.
            condition: Properties of each graph as normal scores, about standard normal; NaN where left open. What is
                to be left open when sampling has to be left open in some graphs here. Only for a generator made with
                `conditions` above 0.
            generator: Source of randomness.

        Raises:
            ValueError: A condition of another shape.
        """

    @abstractmethod
    def sample(
        self,
        n: int,
        *,
        condition: Float[Tensor, "b c"] | None = None,
        weight: float = 1.0,
        guidance: Sequence[Guidance] = (),
        projector: Projector | None = None,
        start: Start | None = None,
        steps: int | None = None,
        generator: torch.Generator,
    ) -> GraphBatch:
        r"""Draw graphs in `steps` solver steps.

        Args:
            n: How many, at least 1.
            condition: Normal scores of the properties wished for, `n x c`; NaN leaves one open.
            weight: Of classifier-free guidance, :math:`p(x|c)^w p(x)^{1-w}`: 1 is the conditional distribution,
                more exaggerates the condition, 0 ignores it.
            guidance: Tilts of the distribution.
            projector: Makes the clean graph of every step decode.
            start: Graphs to vary, one a sample; None: noise.
            steps: Solver steps, at least 1; `default_steps` if None.
            generator: Source of randomness.

        Raises:
            ValueError: `n` or `steps` below 1, a condition of another width than the generator was made for, another
                number of graphs to vary than `n`, or several members of the guidance that resample.
        """

    def _check_sample(self, n: int, steps: int | None, condition: Tensor | None, start: Start | None = None) -> int:
        steps = self.default_steps if steps is None else steps
        if n < 1 or steps < 1:
            raise ValueError(f"expected n >= 1 and steps >= 1, got n={n} and steps={steps}")
        self._check_condition(n, condition)
        if start is not None and len(start.graph) != n:
            raise ValueError(f"expected {n} graphs to set out from, one a sample, got {len(start.graph)}")
        return steps

    def _check_condition(self, n: int, condition: Tensor | None) -> None:
        expected = (n, self.conditions)
        if condition is not None and tuple(condition.shape) != expected:
            raise ValueError(f"expected a condition of shape {expected}, got {tuple(condition.shape)}")

    def save(self, name: str, folder: Path, extra: dict[str, Any], card: str) -> None:
        """Write a checkpoint of this generator, registered as `name`, with `extra` facts in its config."""
        facts: dict[str, Any] = {"arguments": self.config, **extra}
        if self.properties is not None:
            facts["properties"] = self.properties.to_json()
        if self.noised is not None:
            facts["noised"] = self.noised.config
        artifacts.save_checkpoint(folder, Checkpoint("generator", name, facts, self.state_dict()), card)


def load_generator(folder: Path) -> Generator:
    """Rebuild a generator, with its scales and its noised predictor, from its checkpoint.

    Raises:
        InvalidCheckpoint: The folder holds no generator, or a truncated one.
        UnknownName: A generator that this version does not have.
    """
    checkpoint = artifacts.load_checkpoint(folder, "generator")
    kind = GENERATORS[checkpoint.name]
    facts, tensors = checkpoint.config, checkpoint.tensors
    try:
        domains = tensors["node_domain"].bool(), tensors["edge_domain"].bool()
        generator = kind(*domains, **facts["arguments"])
        if "properties" in facts:
            generator.properties = Conditions.from_json(facts["properties"])
        if "noised" in facts:
            generator.noised = NoisedPredictor(*domains, **facts["noised"])
    except (KeyError, TypeError, RuntimeError, ValueError, AttributeError) as error:
        raise InvalidCheckpoint(
            f"{folder} is not a whole {checkpoint.name} checkpoint ({error!r}); copy or train it again"
        ) from None
    artifacts.load_weights(generator, tensors, str(folder))
    return generator.eval()
