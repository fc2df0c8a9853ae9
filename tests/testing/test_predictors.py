"""The check of predictors finds what is broken; that it passes what is whole is tested in `conformance/`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from archgen.graph import Architecture
from archgen.predictors.base import Prediction
from archgen.predictors.counts import Count
from archgen.spaces import SearchSpace
from archgen.testing import check_predictor


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
