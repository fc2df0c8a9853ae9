"""The report from the files of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from archgen import artifacts, spaces
from archgen.design import report
from archgen.errors import InvalidTable, RunConflict
from archgen.run_folder import RunFolder

OWN = Path(__file__).parents[1] / "spaces" / "fixtures" / "my_cells.toml"


def finished(folder: Path, name: str, *, measured: bool = True) -> Path:
    """The files of a finished run in a space, without running it."""
    run, space = RunFolder.create(folder, {"space": name}), spaces.for_images(name, 32)
    archs = list(dict.fromkeys(space.simplify(arch) for arch in space.sample(60, np.random.default_rng(0))))[:12]
    texts = [space.format(arch) for arch in archs]
    trials = {"trial": range(len(texts)), "arch": texts, "val_acc": np.linspace(80, 90, len(texts))}
    table = pd.DataFrame({**trials, "latency_ms": np.linspace(1, 2, len(texts))})
    table.to_parquet(run.file("trials.parquet"), index=False)
    if measured:
        table[["arch", "latency_ms"]].to_parquet(run.file("latency.parquet"), index=False)
    winner = {"arch": texts[-1], "val_acc": 91.0, "test_acc": 90.0, "latency_ms": 2.0}
    result = {"winner": winner, "network": {"image_size": 32}, "space": space.name, "run": str(folder)}
    artifacts.write_json(run.file("result.json"), {**result, "latency_predictor": {"rho": 0.9}})
    return folder


@pytest.mark.parametrize("name", ["nasbench201", "mobilenetv3", str(OWN)], ids=["published", "sized", "own"])
def test_a_finished_run_gets_its_report_again(tmp_path: Path, name: str) -> None:
    folder = finished(tmp_path / "run", name)
    path = report(folder)
    assert path == folder / "report.html"
    text = path.read_text(encoding="utf-8")
    assert "90.0" in text
    assert "Predicted against measured latency" in text
    assert text.count("<template id=") >= 2, "graphs to choose"
    path.unlink()
    assert report(folder).read_text(encoding="utf-8") == text


def test_latencies_from_elsewhere_leave_the_fit_out(tmp_path: Path) -> None:
    text = report(finished(tmp_path / "run", "nasbench201", measured=False)).read_text(encoding="utf-8")
    assert "Predicted against measured latency" not in text


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda folder: (folder / "result.json").unlink(), RunConflict, "is not finished; go on by archgen resume"),
        (lambda folder: (folder / "result.json").write_text("{"), RunConflict, "damaged or of another version"),
        (lambda folder: (folder / "result.json").write_text("{}"), RunConflict, "damaged or of another version"),
        (lambda folder: (folder / "trials.parquet").write_bytes(b"PAR1"), InvalidTable, "can not be read as a parquet"),
        (lambda folder: (folder / "trials.parquet").unlink(), InvalidTable, "expected the trials of a run"),
        (lambda folder: (folder / "run.json").unlink(), RunConflict, "holds no run to resume"),
    ],
)
def test_what_is_missing_or_damaged_is_named_and_no_report_written(
    tmp_path: Path, change: Callable[[Path], Any], error: type[Exception], message: str
) -> None:
    folder = finished(tmp_path / "run", "nasbench201")
    change(folder)
    with pytest.raises(error, match=message):
        report(folder)
    assert not (folder / "report.html").exists()
