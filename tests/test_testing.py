"""The conformance checks find what is broken; that they pass what is whole is tested in `conformance/`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from archgen.generators import DiscreteFlow
from archgen.graph import Architecture, GraphBatch
from archgen.predictors.base import Prediction
from archgen.predictors.counts import Count
from archgen.spaces import CellSpace, SearchSpace
from archgen.testing import check_generator, check_predictor, check_space


def broken(space: SearchSpace, method: str, function: Callable[..., Any]) -> CellSpace:
    """A copy of the space with one method replaced; the function gets the whole space first."""
    assert isinstance(space, CellSpace)
    copy = CellSpace(space.name, space.nodes, space.roles, space.network_defaults)
    setattr(copy, method, lambda *arguments, **options: function(space, *arguments, **options))
    return copy


SPACES: dict[str, tuple[str, Callable[..., Any], str]] = {
    "sample too few": ("sample", lambda s, n, rng: s.sample(n - 1, rng), "sample"),
    "sample ignores rng": ("sample", lambda s, n, rng: s.sample(n, np.random.default_rng()), "same rng"),
    "format loses": ("format", lambda s, a: s.format(s.enumerate()[0]), "parse"),
    "choices lose": ("to_choices", lambda s, a: dict.fromkeys(s.variables, 0), "from_choices"),
    "mutate does nothing": ("mutate", lambda s, a, rng: a, "mutate changed 0"),
    "mutate twice": ("mutate", lambda s, a, rng: s.sample(1, rng)[0], "mutate changed"),
    "crossover invents": ("crossover", lambda s, a, b, rng: s.sample(1, rng)[0], "neither parent"),
    "neighbours miss one": ("neighbours", lambda s, a: s.neighbours(a)[1:], "neighbours"),
    "neighbours twice": ("neighbours", lambda s, a: [s.neighbours(a)[0], *s.neighbours(a)[:-1]], "named twice"),
    "simplify cuts all": ("simplify", lambda s, a: s.from_operations([s.zero] * 6), "canonical form"),
    "decode gives up": ("decode", lambda s, batch: [None] * len(batch), "decode"),
    "build misses classes": ("build", lambda s, a, **n: s.build(a, **{**n, "classes": 4}), "logits"),
    "build not finite": ("build", lambda s, a, **n: Poisoned(s.build(a, **n)), "finite"),
    "count off by one": (
        "count",
        lambda s, a, **n: {k: v + 1 for k, v in s.count(a, **n).items()},
        "params",
    ),
    "count lacks flops": (
        "count",
        lambda s, a, **n: {"params": s.count(a, **n)["params"]},
        "expected params and flops",
    ),
}


class Poisoned(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.network(x) * torch.nan
        return out


@pytest.mark.parametrize("case", list(SPACES))
def test_check_space_finds_a_broken_promise(space: SearchSpace, case: str) -> None:
    method, function, message = SPACES[case]
    with pytest.raises(AssertionError, match=message):
        check_space(broken(space, method, function), n=8, rng=np.random.default_rng(0))


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


def _changed(**parts: Callable[[np.ndarray], Any]) -> Callable[..., Prediction]:
    def predict(self: Count, archs: Sequence[Architecture]) -> Prediction:
        whole = Count.predict(self, archs)._asdict()
        return Prediction(**{name: parts.get(name, lambda v: v)(value) for name, value in whole.items()})

    return predict


PREDICTORS: dict[str, tuple[str, Callable[..., Any], str]] = {
    "fit takes all": ("fit", lambda self, archs, y: self, "fit took"),
    "fit takes infinity": (
        "fit",
        lambda self, archs, y: Count.fit(self, archs, np.nan_to_num(y, nan=np.nan, posinf=0.0)),
        "fit took an infinite value",
    ),
    "fit returns another": (
        "fit",
        lambda self, archs, y: Count.fit(Count(self.space, self.metric), archs, y),
        "itself",
    ),
    "mean has two axes": ("predict", _changed(mean=lambda v: v[:, None]), "mean has shape"),
    "mean is a list": ("predict", _changed(mean=list), "not a numpy array"),
    "mean NaN": ("predict", _changed(mean=lambda v: v * np.nan), "mean is not finite"),
    "std negative": ("predict", _changed(std=lambda v: v - 1), "negative std"),
    "order matters": ("predict", _changed(mean=lambda v: v + np.arange(len(v)) * 1e4), "order"),
    "state without JSON": ("state", lambda self: ({"metric": {1, 2}}, {}), "JSON"),
    "state of arrays": ("state", lambda self: ({}, {"y": np.zeros(3)}), "tensors"),
    "restore forgets": (
        "restore",
        classmethod(lambda cls, space, metric, config, tensors: Count(space, "flops")),
        "another mean",
    ),
}


@pytest.mark.parametrize("case", list(PREDICTORS))
def test_check_predictor_finds_a_broken_promise(space: SearchSpace, case: str) -> None:
    method, function, message = PREDICTORS[case]
    kind = type("Broken", (Count,), {method: function})
    with pytest.raises((AssertionError, TypeError), match=message):
        check_predictor(kind(space, "params"), rng=np.random.default_rng(0))
