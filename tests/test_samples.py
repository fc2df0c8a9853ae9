"""What a sampler gives back: a table in the space's published form, whole on the disk or not there at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from archgen.samples import Samples
from archgen.spaces import SearchSpace


@pytest.fixture
def samples(space: SearchSpace, rng: np.random.Generator) -> Samples:
    archs = space.sample(5, rng)
    return Samples(space, archs, {"latency_ms@pixel3": np.arange(5.0), "params": np.arange(5.0) * 1e6}, {"drawn": 9.0})


def test_the_table_has_a_row_an_architecture_and_a_column_a_metric(samples: Samples, space: SearchSpace) -> None:
    frame = samples.to_frame()
    assert len(samples) == len(frame) == 5
    assert list(frame) == ["arch", "latency_ms@pixel3", "params", "valid"]
    assert [space.parse(text) for text in frame["arch"]] == samples.archs
    assert frame["valid"].tolist() == [True] * 5


@pytest.mark.parametrize("name", ["s.parquet", "s.csv", "s.other"])
def test_it_is_saved_as_the_name_says_parquet_by_default(samples: Samples, tmp_path: Path, name: str) -> None:
    path = tmp_path / "new" / name
    samples.save(path)
    frame = pd.read_csv(path) if name.endswith(".csv") else pd.read_parquet(path)
    pd.testing.assert_frame_equal(frame, samples.to_frame())
    assert [p.name for p in path.parent.iterdir()] == [name]


def test_a_save_that_fails_leaves_the_old_file(
    samples: Samples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.csv"
    samples.save(path)
    before = path.read_bytes()

    def full(*arguments: object, **options: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    with pytest.raises(OSError, match="disk full"):
        samples.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["s.csv"]


def test_no_samples_are_an_empty_table(space: SearchSpace, tmp_path: Path) -> None:
    empty = Samples(space, [], {"params": np.zeros(0)})
    empty.save(tmp_path / "s.parquet")
    assert list(pd.read_parquet(tmp_path / "s.parquet")) == ["arch", "params", "valid"]
    assert len(empty) == 0
