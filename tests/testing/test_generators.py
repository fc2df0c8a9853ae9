"""The check of generators finds what is broken; that it passes what is whole is tested in `conformance/`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from archgen.generators import DiscreteFlow
from archgen.graph import GraphBatch
from archgen.spaces import SearchSpace
from archgen.testing import check_generator


def _loss(self: DiscreteFlow, clean: GraphBatch, condition: Any = None, *, generator: torch.Generator) -> Tensor:
    return DiscreteFlow.loss(self, clean, condition, generator=generator)


def sampled(**changed: Any) -> Callable[..., GraphBatch]:
    """`DiscreteFlow.sample` with some of its arguments replaced by what a function makes of all of them."""

    def sample(self: DiscreteFlow, n: int, **options: Any) -> GraphBatch:
        replaced = {name: make(self, n, options) for name, make in changed.items()}
        return DiscreteFlow.sample(self, **{"n": n, **options, **replaced})

    return sample


def after(change: Callable[[DiscreteFlow, GraphBatch], GraphBatch]) -> Callable[..., GraphBatch]:
    return lambda self, n, **options: change(self, DiscreteFlow.sample(self, n, **options))


def _without_edges(self: DiscreteFlow, graph: GraphBatch) -> GraphBatch:
    return GraphBatch(graph.ops, 0 * graph.edges, graph.node_mask)


def _open(self: DiscreteFlow, n: int, options: Any) -> Tensor | None:
    condition = options.get("condition")
    return None if condition is None else condition.nan_to_num(0.5)


def _fitted(self: DiscreteFlow, n: int, options: Any) -> Tensor | None:
    condition, c = options.get("condition"), self.conditions
    return None if condition is None else torch.nn.functional.pad(condition, (0, c))[:, :c]


def _noise(self: DiscreteFlow, clean: GraphBatch, t: Tensor, *, generator: torch.Generator) -> GraphBatch:
    return DiscreteFlow.noise(self, clean, t, generator=generator)


GENERATORS: dict[str, tuple[str, Callable[..., Any], str]] = {
    "loss a vector": ("loss", lambda self, clean, c=None, **o: _loss(self, clean, c, **o)[None], "expected a scalar"),
    "loss NaN": ("loss", lambda self, clean, c=None, **o: _loss(self, clean, c, **o) * torch.nan, "loss is nan"),
    "loss of nothing": (
        "loss",
        lambda self, clean, c=None, **o: 0 * _loss(self, clean, c, **o),
        "no parameter receives",
    ),
    "loss ignores the generator": (
        "loss",
        lambda self, clean, c=None, **o: _loss(self, clean, c, generator=torch.default_generator),
        "same seed gave another value",
    ),
    "loss takes any condition": (
        "loss",
        lambda self, clean, c=None, **o: _loss(self, clean, None if c is None else c[:, : self.conditions], **o),
        "loss took a wrong shape",
    ),
    "sample too few": ("sample", sampled(n=lambda self, n, o: n - 1), "graphs, got 63"),
    "sample ignores the generator": (
        "sample",
        sampled(generator=lambda self, n, o: torch.default_generator),
        "same seed gave other graphs",
    ),
    "sample ignores the seed": (
        "sample",
        sampled(generator=lambda self, n, o: torch.Generator().manual_seed(0)),
        "another seed gave the same graphs",
    ),
    "sample draws from the global generator too": (
        "sample",
        after(lambda self, graph: (torch.rand(1), graph)[1]),
        "the global generator of torch was used",
    ),
    "default steps ignored": (
        "sample",
        sampled(steps=lambda self, n, o: o["steps"] or 3),
        "it must take default_steps",
    ),
    "no steps are taken for one": ("sample", sampled(steps=lambda self, n, o: o["steps"] or 16), "sample took .*steps"),
    "graphs not valid": ("sample", after(_without_edges), "not valid"),
    "guidance ignored": ("sample", sampled(guidance=lambda self, n, o: ()), "log_tilt forbids"),
    "particles ignored": (
        "sample",
        sampled(guidance=lambda self, n, o: [g for g in o.get("guidance", ()) if g.population(1) == 1]),
        "resample discards",
    ),
    "only the first of two is asked": (
        "sample",
        sampled(guidance=lambda self, n, o: o.get("guidance", ())[:1]),
        "two members may not both resample",
    ),
    "projector ignored": ("sample", sampled(projector=lambda self, n, o: None), "never called the projector"),
    "condition ignored": ("sample", sampled(condition=lambda self, n, o: None), "took .*condition"),
    "condition is always the same": (
        "sample",
        sampled(
            condition=lambda self, n, o: o.get("condition") if o.get("condition") is None else o["condition"].abs()
        ),
        "two opposite ones gave the same",
    ),
    "an open condition is a value": ("sample", sampled(condition=_open), "leaves all open must be none"),
    "weight ignored": ("sample", sampled(weight=lambda self, n, o: 1.0), "weight=0 must ignore it"),
    "any width of a condition": ("sample", sampled(condition=_fitted), "sample took .*condition"),
    "noise of another shape": (
        "noise",
        lambda self, clean, t, **o: _noise(self, clean, t, **o)[:-1],
        "noise: ops has shape",
    ),
    "noise ignores the generator": (
        "noise",
        lambda self, clean, t, **o: _noise(self, clean, t, generator=torch.default_generator),
        "noise: the same seed",
    ),
    "noise at its end": (
        "noise",
        lambda self, clean, t, **o: _noise(self, clean, (t + 0.3).clamp(max=1), **o),
        "at t = 0 graphs must be clean",
    ),
    "noise backwards": ("noise", lambda self, clean, t, **o: _noise(self, clean, 1 - t, **o), "do not rise"),
    "noise of what is fixed": (
        "noise",
        lambda self, clean, t, **o: GraphBatch(clean.ops.roll(1, 1), clean.edges, clean.node_mask),
        "what the space fixes",
    ),
    "not registered": ("extra", lambda self: None, "not registered"),
}


@pytest.mark.parametrize("case", list(GENERATORS))
def test_check_generator_finds_a_broken_promise(space: SearchSpace, case: str, tmp_path: Path) -> None:
    method, function, message = GENERATORS[case]
    kind = type("Broken", (DiscreteFlow,), {method: function})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = kind(space.node_domain, space.edge_domain, width=8, layers=1, heads=2)
        with pytest.raises(AssertionError, match=message):
            check_generator(generator, space, folder=tmp_path, steps=3)
