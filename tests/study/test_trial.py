"""The table of trials has the promised columns, whatever the trials have."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd

from archgen.evaluators import Measurement
from archgen.objectives import Objective
from archgen.spaces import SearchSpace
from archgen.study import Study

Measured = Callable[..., Measurement]


def test_the_table_has_its_columns_in_the_promised_order(
    space: SearchSpace, rng: np.random.Generator, wishes: list[Objective], measured: Measured
) -> None:
    archs = space.sample(3, rng)
    study = Study(space, wishes)
    study.record(
        archs, [measured(acc=1.0, latency_ms=2.0), Measurement({}, 0.1, "it broke"), measured(acc=2.0, extra=9.0)]
    )
    frame = study.to_frame(["latency_ms", "absent", "acc"])
    assert list(frame) == ["trial", "arch", "latency_ms", "absent", "acc", "extra", "cost_seconds", "state", "error"]
    assert frame["error"].tolist() == ["", "it broke", ""]
    assert frame["trial"].tolist() == [0, 1, 2]
    assert frame["arch"].tolist() == [space.format(arch) for arch in archs]
    assert frame["state"].tolist() == ["complete", "failed", "complete"]
    assert frame["cost_seconds"].tolist() == [0.5, 0.1, 0.5]
    nan = math.nan
    expected = {"latency_ms": [2.0, nan, nan], "absent": [nan] * 3, "acc": [1.0, nan, 2.0], "extra": [nan, nan, 9.0]}
    pd.testing.assert_frame_equal(frame[list(expected)], pd.DataFrame(expected))


def test_the_table_of_no_trials_still_has_its_columns(space: SearchSpace, wishes: list[Objective]) -> None:
    frame = Study(space, wishes).to_frame(["acc"])
    assert list(frame) == ["trial", "arch", "acc", "cost_seconds", "state"]
    assert len(frame) == 0
