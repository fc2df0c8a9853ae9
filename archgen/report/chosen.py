"""Parts of the report about several architectures: the networks that are delivered, and marks that can be chosen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources

import numpy as np
import pandas as pd

from archgen import plots
from archgen.graph import Architecture
from archgen.report.facts import Facts, number
from archgen.report.pieces import breakable, escaped, inline, shown, table_of

DRAWN = 150
"""Most different graphs that are drawn, those of the best accuracies first: each takes ten thousand characters."""
_COLUMNS = ("test_acc", "val_acc", "inherited_val_acc", "latency_ms", "params", "flops", "memory_mb")


def networks(facts: Facts) -> str:
    """The networks of a Pareto set, and what 8 bits make of each; empty for a single one without an 8-bit version."""
    rows = facts.networks
    if not rows:
        return ""
    parts = []
    if len(rows) > 1:
        known = [c for c in _COLUMNS if any(number(row.get(c)) is not None for row in rows)]
        known += [m for m in facts.minimized if m not in known]
        names = [plots.metric_name(name)[0] for name in known]
        head = ["File", *(name[:1].upper() + name[1:] for name in names)]
        cells = [
            [escaped(f"{row.get('files')}.onnx"), *(escaped(shown(row.get(name), name) or "–") for name in known)]
            for row in rows
        ]
        below = [f"<code>{breakable(row.get('arch'))}</code>" for row in rows]
        seen = "measured and tested" if facts.table is None else "latency predicted, tested"
        note = f'<p class="note">Of the Pareto set; {seen} after fine-tuning, the most accurate first.</p>'
        table = table_of(head, cells, numbers=range(1, len(known) + 1), marked={0}, below=below)
        parts.append(f"<section><h2>The networks</h2>{note}{table}</section>")
    small = [(row, row["int8"]) for row in rows if isinstance(row.get("int8"), Mapping)]
    if small:
        cells = [_quantized(row, int8) for row, int8 in small]
        by = "" if facts.mapping("device").get("runtime") in (None, "onnxruntime") else " by onnxruntime"
        head = ["File", "Test accuracy", "before", "Latency", "before", "Size", "before"]
        note = (
            '<p class="note">Static quantisation: ranges of activations from training images; both files timed '
            f"against each other{by}. Small networks gain little, or lose, where converting costs more than it "
            "saves.</p>"
        )
        table = table_of(head, cells, numbers=range(1, 7))
        parts.append(f"<section><h2>In 8 bits</h2>{note}{table}</section>")
    return "".join(parts)


def finalists(facts: Facts) -> str:
    """What fine-tuning made of the most promising architectures; empty where only one was fine-tuned."""
    rows = facts.listed("finalists")
    if len(rows) < 2:
        return ""
    names = {"inherited_val_acc": "val_acc", "val_acc": "val_acc", "latency_ms": "latency_ms"}
    won = {str(each.get("arch")) for each in [facts.winner or {}, *facts.networks]}
    cells = [
        [str(i + 1), *(escaped(shown(row.get(name), kind) or "–") for name, kind in names.items())]
        for i, row in enumerate(rows)
    ]
    table = table_of(
        ["Rank", "Inherited", "Fine-tuned", "Latency"],
        cells,
        numbers=range(1, 4),
        marked={i for i, row in enumerate(rows) if str(row.get("arch")) in won},
        below=[f"<code>{breakable(row.get('arch'))}</code>" for row in rows],
    )
    note = (
        '<p class="note">The most promising by measures of inherited weights, all fine-tuned. What then is best '
        "on the validation images, or on the Pareto front, is in bold and handed over. Accuracies differ by chance, "
        "too.</p>"
    )
    return f"<section><h2>The finalists</h2>{note}{table}</section>"


def _quantized(row: Mapping[str, object], int8: Mapping[str, object]) -> list[str]:
    sizes = [number(int8.get(name)) for name in ("bytes", "float_bytes")]
    words = [
        shown(int8.get("test_acc"), "test_acc"),
        shown(row.get("test_acc"), "test_acc"),
        shown(int8.get("latency_ms"), "latency_ms"),
        shown(int8.get("float_latency_ms"), "latency_ms"),
        *(None if size is None else f"{size / 1e3:,.0f} kB" for size in sizes),
    ]
    return [escaped(f"{row.get('files')}.int8.onnx"), *(escaped(word or "–") for word in words)]


def picking(trials: pd.DataFrame, x: str, bound: float | None, graphs: Mapping[str, Architecture]) -> str:
    """What makes the marks of the Pareto plot answer: the data, graphs to show, and the script.

    Args:
        trials: As `plots.pareto_plot` was given them.
        x, bound: As there.
        graphs: What architectures compute, by their strings.
    """
    groups = {gid: rows.tolist() for gid, rows in plots.pareto_groups(trials, x, bound=bound).items() if rows.size}
    texts = [str(text) for text in trials["arch"]] if "arch" in trials.columns else [""] * len(trials)
    metrics = [m for m in dict.fromkeys(("val_acc", x, *_COLUMNS)) if m in trials.columns]
    numbers = {m: pd.to_numeric(trials[m], errors="coerce").to_numpy(float) for m in metrics}
    drawn = _drawn(texts, numbers["val_acc"], graphs)
    marks = [
        {
            "arch": text,
            "graph": drawn.get(text),
            "values": [[plots.metric_name(m)[0], value] for m in metrics if (value := shown(numbers[m][i], m))],
        }
        for i, text in enumerate(texts)
    ]
    undrawn = f"Graphs are drawn of the {DRAWN} most accurate only." if len(set(drawn.values())) == DRAWN else ""
    data = json.dumps({"groups": groups, "trials": marks, "undrawn": undrawn}).replace("<", "\\u003c")
    script = resources.files("archgen.report").joinpath("pick.js").read_text(encoding="utf-8")
    templates = {
        k: inline(plots.cell_plot(graphs[text]), f"graph{k}", f"Graph of {text}") for text, k in reversed(drawn.items())
    }
    shapes = "".join(f'<template id="graph-{k}">{svg}</template>' for k, svg in templates.items())
    return (
        '<div id="tip" hidden></div><div id="chosen" hidden></div>'
        f'{shapes}<script type="application/json" id="marks">{data}</script><script>{script}</script>'
    )


def _drawn(texts: list[str], accuracy: np.ndarray, graphs: Mapping[str, Architecture]) -> dict[str, int]:
    """Number of the drawing of each architecture that has one; those that compute the same share it."""
    found: dict[str, int] = {}
    numbers: dict[Architecture, int] = {}
    for i in np.argsort(-np.nan_to_num(accuracy, nan=-np.inf), kind="stable"):
        graph = graphs.get(texts[i])
        if graph is not None and (graph in numbers or len(numbers) < DRAWN):
            found[texts[i]] = numbers.setdefault(graph, len(numbers))
    return found
