"""Ray runs what `Parallel` asks for, and a task whose process dies fails alone."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from archgen.errors import MissingExtra
from archgen.evaluators import Parallel, RayExecutor, TabularEvaluator
from archgen.spaces import SearchSpace


def test_without_ray_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"pip install 'archgen\[distributed\]'"):
        RayExecutor(2)


@pytest.mark.filterwarnings("ignore")  # Ray's own, and sockets that it leaves to the garbage collector
def test_evaluations_in_ray_are_those_of_the_evaluator(space: SearchSpace, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: archgen[distributed]")
    archs = list(dict.fromkeys(space.sample(8, np.random.default_rng(0))))[:4]
    rows = {"arch": [space.format(arch) for arch in archs], "acc": range(4), "cost_seconds": 2.0}
    pd.DataFrame(rows).to_parquet(tmp_path / "table.parquet")
    table = TabularEvaluator(space, tmp_path / "table.parquet", partial=True)
    parallel = Parallel(table, workers=1, executor=RayExecutor)
    assert parallel.evaluate(archs, seed=0) == table.evaluate(archs, seed=0)
    parallel.close()
