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
    return DiscreteFlow.loss(self, clean, generator=generator)


GENERATORS: dict[str, tuple[str, Callable[..., Any], str]] = {
    "loss a vector": ("loss", lambda self, clean, **o: _loss(self, clean, **o)[None], "expected a scalar"),
    "loss NaN": ("loss", lambda self, clean, **o: _loss(self, clean, **o) * torch.nan, "loss is nan"),
    "loss ignores the generator": (
        "loss",
        lambda self, clean, **o: _loss(self, clean, generator=torch.default_generator),
        "same seed gave another value",
    ),
    "sample too few": ("sample", lambda self, n, **o: DiscreteFlow.sample(self, n - 1, **o), "graphs, got 63"),
    "sample ignores the generator": (
        "sample",
        lambda self, n, **o: DiscreteFlow.sample(self, n, **{**o, "generator": torch.default_generator}),
        "same seed gave other graphs",
    ),
    "sample ignores the seed": (
        "sample",
        lambda self, n, **o: DiscreteFlow.sample(self, n, **{**o, "generator": torch.Generator().manual_seed(0)}),
        "another seed gave the same graphs",
    ),
    "guidance ignored": (
        "sample",
        lambda self, n, **o: DiscreteFlow.sample(self, n, **{**o, "guidance": ()}),
        "log_tilt forbids",
    ),
    "graphs not valid": (
        "_to_graph",
        lambda self, states: _without_edges(DiscreteFlow._to_graph(self, states)),
        "not valid",
    ),
    "not registered": ("extra", lambda self: None, "not registered"),
}


def _without_edges(graph: GraphBatch) -> GraphBatch:
    return GraphBatch(graph.ops, 0 * graph.edges, graph.node_mask)


@pytest.mark.parametrize("case", list(GENERATORS))
def test_check_generator_finds_a_broken_promise(space: SearchSpace, case: str, tmp_path: Path) -> None:
    method, function, message = GENERATORS[case]
    kind = type("Broken", (DiscreteFlow,), {method: function})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = kind(space.node_domain, space.edge_domain, width=8, layers=1, heads=2)
        with pytest.raises(AssertionError, match=message):
            check_generator(generator, space, folder=tmp_path)


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
