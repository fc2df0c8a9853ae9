"""The report of a run, from the files in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from archgen import artifacts, spaces
from archgen.design.inputs import space_of
from archgen.design.request import LATENCY
from archgen.errors import InvalidCheckpoint, RunConflict
from archgen.predictors.latency import LatencyPredictor
from archgen.report import write_report
from archgen.run_folder import RunFolder
from archgen.spaces import SearchSpace
from archgen.tables import read_table

RESULT, TRIALS, REPORT = "result.json", "trials.parquet", "report.html"
LATENCIES = "latency.parquet"


def report(folder: Path) -> Path:
    """Write the report of a finished run again, by today's template; returns the path of the HTML file.

    Raises:
        RunConflict: There is no run, or it is not finished, or its result is of another version.
        InvalidTable: Its tables are damaged.
    """
    run = RunFolder.open(folder)
    if not run.file(RESULT).exists():
        raise RunConflict(f"{folder} has no {RESULT}: the run is not finished; go on by archgen resume {folder}")
    try:
        result = artifacts.read_json(run.file(RESULT))
        space = spaces.for_images(space_of(run), result["network"]["image_size"])
        return write(run, result, space)
    except (InvalidCheckpoint, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise damaged(folder, repr(error)) from None


def damaged(folder: Path, reason: str) -> RunConflict:
    """What to raise for a result that can not be read."""
    file = folder / RESULT
    return RunConflict(f"{file} is damaged or of another version ({reason}); remove it, and archgen resume writes it")


def write(run: RunFolder, result: dict[str, Any], space: SearchSpace) -> Path:
    """Write the report of a result.

    Args:
        run: Folder with the tables of trials and, where latencies were measured here, of latencies.
        result: The result as JSON types.
        space: The space of its architectures.

    Returns:
        The path of the HTML file.
    """
    trials = read_table(run.file(TRIALS), expected="the trials of a run")
    graphs = {text: space.computation(space.parse(text)) for text in trials["arch"]}
    fit = None
    if run.file(LATENCIES).exists():
        table = read_table(run.file(LATENCIES), expected="measured latencies")
        archs, measured = [space.parse(text) for text in table["arch"]], table[LATENCY].to_numpy(float)
        predictor = LatencyPredictor(space, LATENCY).fit(archs, measured)
        predicted = measured * np.exp(-predictor.left_out_errors)
        factor = float(predictor.interval(archs[:1])[1][0] / predictor.predict(archs[:1]).mean[0])
        rho = result["latency_predictor"].get("rho")  # none where all that was held out is equal
        fit = {"measured": measured.tolist(), "predicted": predicted.tolist(), "rho": rho, "factor": factor}
        if {"low_ms", "high_ms"} <= set(table.columns):
            fit |= {name: table[f"{name}_ms"].to_numpy(float).tolist() for name in ("low", "high")}
    arch, path = space.parse(result["winner"]["arch"]), run.file(REPORT)
    result = {**result, "request": run.state["request"]}
    write_report(path, result, trials, arch, space.computation(arch), fit, graphs)
    return path
