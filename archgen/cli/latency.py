"""`archgen latency`: measuring architectures on a device, and which devices are known."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from archgen.cli.application import latency_app
from archgen.cli.options import Json, Ray, Resource, Seed, SpaceName, cluster, writable
from archgen.cli.terminal import INTERRUPTED, Terminal, say, show
from archgen.errors import InvalidCheckpoint, InvalidObjective

if TYPE_CHECKING:
    from archgen.graph import Architecture
    from archgen.hardware import LatencyMeasurement, MeasurementFile
    from archgen.spaces import SearchSpace

_DRAWN = 60


@latency_app.command("measure")
def measure_command(
    space: SpaceName,
    out: Annotated[Path, typer.Option(help="Measurements, as parquet; a file of earlier ones is added to.")],
    n: Annotated[
        int | None, typer.Option("-n", min=1, max=10_000, help=f"Random architectures to measure; {_DRAWN} by default.")
    ] = None,
    archs: Annotated[Path | None, typer.Option(help="Table with an `arch` column: measure these instead.")] = None,
    runtime: Annotated[str, typer.Option(help="`onnxruntime`, `torch` or `torch_compile`.")] = "onnxruntime",
    processor: Annotated[str, typer.Option("--device", help="`cpu` or `cuda`.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Threads a network runs on.")] = 1,
    batch: Annotated[int, typer.Option(min=1, max=1024, help="Inputs a run.")] = 1,
    rounds: Annotated[int, typer.Option(min=5, max=10_000, help="Times each network is timed.")] = 30,
    ray: Ray = None,
    resource: Resource = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Measure the latency of architectures on this machine, or a node of a Ray cluster, and rank them.

    Overlapping intervals are ties.
    """
    from torch import get_num_threads

    from archgen import spaces
    from archgen.hardware import RUNTIMES, MeasurementFile, RemoteMeter, measure_missing

    if n is not None and archs is not None:
        raise InvalidObjective("expected either -n (random architectures) or --archs (those of a table), got both")
    loaded, kind = spaces.load(space), RUNTIMES[runtime]
    writable(out)
    file = MeasurementFile(out, loaded.name)
    node, example = cluster(ray, resource), loaded.example_input(1)
    settings: dict[str, Any] = {"threads": threads, "batch": batch, "rounds": rounds, "processor": processor}
    here = get_num_threads()  # OMP_NUM_THREADS, or as many as there are cores
    meter = kind(example, processes=here, **settings) if node is None else RemoteMeter(kind, node, example, **settings)
    wanted = _wanted(loaded, n, archs, seed)
    texts, device = [loaded.format(arch) for arch in wanted], meter.device
    known = len(file.measured(device.id).keys() & set(texts))
    if known:
        say(f"{known} of {len(texts)} are measured on device {device.id} already; going on with the others")
    try:
        done = measure_missing(meter, loaded, wanted, file, seed=seed, progress=Terminal())
    except KeyboardInterrupt:
        known = len(file.measured(device.id).keys() & set(texts))
        say(f"interrupted; {out} holds {known} of {len(texts)} architectures; go on with the same command")
        raise typer.Exit(INTERRUPTED) from None
    if done.unsteady:
        what = f"the machine was unsteady in {done.unsteady} batches (drift {done.drift:.0%})"
        say(f"{what}; intervals are too narrow: measure anew, into another file, when it has less to do")
    rows = _ranked(file, device.id, texts)
    if as_json:
        facts = {"out": str(out), "device": {"id": device.id, **device.to_json()}, **asdict(done), "rows": rows}
        show(json.dumps(facts))
        return
    show(f"{'rank':>10}  {'latency_ms':>10}  {'95 % interval':^19}  arch")
    for row in rows:
        interval = f"{row['low_ms']:9.4f} {row['high_ms']:9.4f}"
        show(f"{row['rank']:>10}  {row['latency_ms']:10.4f}  {interval}  {row['arch']}")
    left = f", {len(done.refused)} refused" if done.refused else ""
    show(f"{done.measured} measured{left}; {len(file)} measurements in {out}, these on device {device.id}")


def _wanted(space: SearchSpace, n: int | None, table: Path | None, seed: int) -> list[Architecture]:
    import numpy as np

    from archgen.evaluators import read_architectures
    from archgen.hardware import draw_distinct

    if table is not None:
        return read_architectures(space, table)
    drawn = draw_distinct(space, n or _DRAWN, np.random.default_rng(seed))
    if len(drawn) < (n or _DRAWN):
        say(f"only {len(drawn)} different architectures were drawn, {n or _DRAWN} were asked for")
    return drawn


def _ranked(file: MeasurementFile, device: str, texts: list[str]) -> list[dict[str, Any]]:
    """What is known of the architectures on one device, fastest first, with the places that they share."""
    from archgen.hardware import ranks

    known: dict[str, LatencyMeasurement] = file.measured(device)
    measured = {text: known[text] for text in texts if text in known}
    places = ranks(list(measured.values()))
    rows = [
        {"rank": str(rank), "first": rank.first, "last": rank.last, "arch": text, **each.to_json()}
        for (text, each), rank in zip(measured.items(), places, strict=True)
    ]
    return sorted(rows, key=lambda row: (row["first"], row["latency_ms"]))


@latency_app.command("devices")
def devices_command(
    space: Annotated[str | None, typer.Option("--space", help="Only those of this search space.")] = None,
    measurements: Annotated[
        Path | None, typer.Option(help="File of `archgen latency measure`: list its devices too.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the devices whose latency is predicted by the checkpoints, and those in a file of measurements."""
    from archgen import config, spaces
    from archgen.hardware import MeasurementFile

    name = None if space is None else spaces.load(space).name
    predicted = _predicted(config.checkpoints_dir() / "predictors", name)
    measured: list[dict[str, Any]] = []
    if measurements is not None:
        file = MeasurementFile(measurements, name)
        for key, device in file.devices.items():
            known = len(file.measured(key))
            measured.append({"id": key, "space": file.space, "measurements": known, **device.to_json()})
    if as_json:
        show(json.dumps({"predicted": predicted, **({} if measurements is None else {"measured": measured})}))
        return
    for row in predicted:
        show(f"{row['space']:16} {row['metric']:26} {_shown(row)}")
    if not predicted:
        show(f"no latency predictors{'' if name is None else f' of {name}'} in the checkpoints")
    for row in measured:
        record, inputs = row["record"], "x".join(map(str, (row["record"]["batch"], *row["record"]["shape"])))
        chip = record["cpu"] if record["gpu"] == "none" else record["gpu"]
        what = f"{record['runtime']} {record['version']} ({record['provider']}) on {chip}, {record['threads']} threads"
        show(f"{row['space']:16} device {row['id']}  {row['measurements']} measured: {what}, input {inputs}")


def _predicted(folder: Path, space: str | None) -> list[dict[str, Any]]:
    """Space, metric and the card's figures of each latency predictor; raises `InvalidCheckpoint`."""
    from archgen.artifacts import CONFIG, read_json

    rows: list[dict[str, Any]] = []
    for path in sorted(folder.glob(f"*/{CONFIG}")):
        header = read_json(path)
        facts = header.get("config") if isinstance(header, dict) else None
        if not isinstance(facts, dict) or not all(isinstance(facts.get(key), str) for key in ("space", "metric")):
            raise InvalidCheckpoint(f"{path.parent} names no space and metric in its {CONFIG}; copy it again")
        if facts["metric"].startswith("latency") and space in (None, facts["space"]):
            card = path.with_name("README.md")
            text = " ".join(card.read_text(encoding="utf-8", errors="replace").split()) if card.is_file() else ""
            figures = {
                "rho": _figure(r"Spearman rho (-?[\d.]+\d)", text),
                "error": _figure(r"median absolute error ([\d.]+) %", text),
            }
            rows.append({"space": facts["space"], "metric": facts["metric"], **figures, "checkpoint": str(path.parent)})
    return rows


def _figure(pattern: str, card: str) -> float | None:
    found = re.search(pattern, card)
    return None if found is None else float(found[1])


def _shown(row: dict[str, Any]) -> str:
    """The figures on unseen architectures that a predictor's card states."""
    if row["rho"] is None and row["error"] is None:
        return "its card states no error"
    rho = "" if row["rho"] is None else f"rho {row['rho']:.3f}"
    return rho if row["error"] is None else f"{rho}  median error {row['error']:.1f} %".strip()
