"""One self-contained HTML file that says what was asked, what was found, and why it can be believed.

Styles, figures (SVG) and the script that makes the plot answer are inside the file; it needs no network, and without
scripts only the plot's answers are missing. Everything that comes from users or
from data is escaped, and a key that `result` lacks only leaves its part out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import pandas as pd

from archgen import plots
from archgen.artifacts import write_text
from archgen.graph import Architecture
from archgen.report.chosen import finalists, networks, picking
from archgen.report.facts import Facts, number
from archgen.report.pieces import breakable, escaped, figure_section, flat, millions, shown, table_of
from archgen.report.verdict import seconds_in_words, verdict

_UNIT = re.compile(r"(?<=\d) (?=%|ms\b)")


def write_report(
    path: Path,
    result: Mapping[str, Any],
    trials: pd.DataFrame,
    arch: Architecture | None = None,
    computation: Architecture | None = None,
    latency_fit: Mapping[str, Any] | None = None,
    graphs: Mapping[str, Architecture] | None = None,
) -> None:
    """Write the report of a design, atomically.

    Args:
        path: The HTML file.
        result: The object that `archgen design --json` prints: `winner`, `met`, `constraints`, `evaluations`,
            `seconds`, `run`, `data`, `space`, `seed`, `latency_predictor`, `device`, `network`, `versions`; and
            `request`, the parameters that it was asked with (`DesignRequest`). Any of them may be absent;
            `winner` is when nothing met the bounds, or it may be the number of its trial.
        trials: One row a trial in the order evaluated: `arch` (published string), `val_acc` (percent),
            `latency_ms`, and where known `latency_low`, `latency_high`, `params`, `trial`, `origin`.
        arch: The winner, None when there is none.
        computation: What the winner computes (`space.computation(arch)`); None draws `arch` itself.
        latency_fit: `measured` latencies (ms) of the measured architectures, `predicted` ones of each from the others,
            and the `rho` of those held out; where known the ends of the measurements' intervals, `low` and `high`,
            and the `factor` of the predictor's 90 % interval.
        graphs: What the architectures of trials compute, by their strings, to draw when their marks are chosen.

    Raises:
        OSError: The folder can not be written or the disk is full; `path` is as it was before.
    """
    text = render(result, trials, arch, computation, latency_fit, graphs)
    write_text(path, text)


def render(
    result: Mapping[str, Any],
    trials: pd.DataFrame,
    arch: Architecture | None = None,
    computation: Architecture | None = None,
    latency_fit: Mapping[str, Any] | None = None,
    graphs: Mapping[str, Architecture] | None = None,
) -> str:
    """The text of the report; arguments as of `write_report`."""
    facts = Facts(result, trials.reset_index(drop=True))
    parts = [
        _verdict(facts),
        _cards(facts),
        networks(facts),
        _pareto(facts, graphs or {}),
        finalists(facts),
        _graph(facts, arch, computation),
        _progress(facts),
        _fit(facts, latency_fit),
        _cost(facts),
        _best(facts),
        _code(facts),
        _circumstances(facts),
    ]
    template = resources.files("archgen.report").joinpath("template.html").read_text(encoding="utf-8")
    run = f"Run folder <code>{escaped(facts.run)}</code>" if facts.run else "No run folder was named"
    seed = "" if result.get("seed") is None else f", seed {escaped(result['seed'])}"
    return Template(template).substitute(
        title=f"archgen: {escaped(facts.data)}",
        heading=f"A network for {escaped(facts.data)}",
        body="\n".join(part for part in parts if part),
        footer=f"{run}{seed}. This file needs no network.",
    )


# -- sections -----------------------------------------------------------------------------------------------------


def _verdict(facts: Facts) -> str:
    said = verdict(facts)
    answers = [(name, _UNIT.sub("\u00a0", words)) for name, words in said.answers if words]
    rows = "".join(f"<dt>{name}</dt><dd>{escaped(words)}</dd>" for name, words in answers)
    kind = "verdict" if said.met else "verdict missed"
    return f'<section class="{kind}"><h2>{escaped(said.headline)}</h2><dl>{rows}</dl></section>'


def _cards(facts: Facts) -> str:
    winner, total = facts.winner or {}, facts.total_seconds
    interval, before = facts.interval, shown(facts.inherited, "val_acc")
    tuned = "what the search saw" if before is None else f"{before} before fine-tuning"
    entries = [
        ("Test accuracy", shown(winner.get("test_acc"), "test_acc"), "held-out images"),
        ("Validation accuracy", shown(winner.get("val_acc"), "val_acc"), tuned),
        (
            "Latency" if facts.table is None else "Predicted latency",
            shown(winner.get("latency_ms"), "latency_ms"),
            f"{interval[0]:.3g} to {interval[1]:.3g} ms" if interval else "",
        ),
        ("Parameters", shown(winner.get("params"), "params"), ""),
        ("FLOPs", millions(winner.get("flops")), "for one image"),
        ("Evaluated", shown(facts.result.get("evaluations"), "count"), "architectures"),
        ("Time", None if total is None else seconds_in_words(total), "from start to report"),
    ]
    cells = "".join(
        f"<div><dt>{name}</dt><dd>{escaped(value)}<small>{escaped(note)}</small></dd></div>"
        for name, value, note in entries
        if value is not None
    )
    return f'<dl class="cards">{cells}</dl>' if cells else ""


def _pareto(facts: Facts, graphs: Mapping[str, Architecture]) -> str:
    x = facts.cost_metric
    if not {x, "val_acc"} <= set(facts.trials.columns) or facts.trials.empty:
        return ""
    bounds = [c["bound"] for c in facts.constraints if c["metric"] == x and c["sense"] == "at_most"]
    stars = {row: network for network in facts.networks if (row := facts.row_of(network)) is not None}
    if (winner := facts.winner_row) is not None:
        stars[winner] = facts.winner or {}
    table = _at_the_end(facts.trials, stars) if x == "latency_ms" else facts.trials
    others = [row for row in stars if row != winner]
    fig = plots.pareto_plot(table, x=x, bound=min(bounds, default=None), winner=winner, others=others)
    name = plots.metric_name(x)[0]
    note = (
        "Each dot is an evaluated architecture; choose one to see it. Better is up and to the left; the line joins "
        "those that no other beats."
    )
    if facts.table is not None and x == "latency_ms":
        note += f" All latencies are predicted from {facts.table}."
    elif stars and x == "latency_ms":
        note += " Latencies are predicted, but where a star stands: what is handed over was measured at the end."
    if facts.inherited is not None:
        note += " Accuracies are those of inherited weights, before fine-tuning."
    picked = picking(table, x, min(bounds, default=None), graphs)
    label = f"Accuracy against {name} of every trial"
    return figure_section(f"Accuracy against {name}", fig, "pareto", label, note, picked)


def _at_the_end(trials: pd.DataFrame, stars: Mapping[int, Mapping[str, Any]]) -> pd.DataFrame:
    """The trials with the latency, and its interval, that is known of some rows at the end."""
    names = ["latency_ms", "latency_low", "latency_high"]
    table = trials.assign(**{name: np.nan for name in names if name not in trials.columns})
    for row, network in stars.items():
        if (latency := number(network.get("latency_ms"))) is not None:
            table.loc[row, names] = [latency, *(Facts.interval_of(network) or (np.nan, np.nan))]
    return table


def _graph(facts: Facts, arch: Architecture | None, computation: Architecture | None) -> str:
    drawn = arch if computation is None else computation
    if drawn is None:
        return ""
    written = (facts.winner or {}).get("arch")
    code = f"<p><code>{breakable(written)}</code></p>" if written is not None else ""
    cell = "a cell" if "cells" in facts.mapping("network") else "the network"
    note = f"The operations of {cell} that the output depends on, from input to output."
    if computation is not None and computation != arch:
        note += " Cut-off operations are left out and skip connections drawn as arrows."
    return figure_section("The winner's graph", plots.cell_plot(drawn), "cell", "Graph of the winner", note, code)


def _progress(facts: Facts) -> str:
    if "val_acc" not in facts.trials.columns or facts.trials.empty:
        return ""
    fig = plots.progress_plot(facts.trials, "val_acc", facts.feasible)
    note = "Validation accuracy of each trial, and the best so far among those within the bounds."
    return figure_section("The search", fig, "progress", "Validation accuracy of each trial", note)


def _fit(facts: Facts, fit: Mapping[str, Any] | None) -> str:
    predictor = facts.mapping("latency_predictor")
    rho = number((fit or {}).get("rho", predictor.get("rho")))
    words = []
    if (n := number(predictor.get("n_train"))) is not None:
        words.append(f"fitted on {n:.0f} measured architectures")
    if (n := number(predictor.get("n_test"))) is not None:
        words.append(f"tried on {n:.0f} others")
    if rho is not None:
        words.append(f"Spearman's ρ {rho:.3f} on those held out")
    if (coverage := number(predictor.get("coverage90"))) is not None:
        share = 100 * coverage if coverage <= 1 else coverage
        words.append(f"its 90 % intervals held {share:.0f} % of them")
    note = "Latency predictor: " + ", ".join(words) + "." if words else "Predicted against measured latency."
    measured, predicted = ((fit or {}).get(name) for name in ("measured", "predicted"))
    if measured is None or predicted is None or len(measured) != len(predicted):
        return f"<section><h2>The latency predictor</h2><p>{escaped(note)}</p></section>" if words else ""
    low, high = ((fit or {}).get(name) for name in ("low", "high"))
    factor = number((fit or {}).get("factor"))
    fig = plots.latency_fit_plot(measured, predicted, rho, low=low, high=high, factor=factor)
    note += f" The dots are all {len(measured)} that were measured, each predicted from the others"
    note += ", with the 95 % intervals of the measurements" if low is not None and high is not None else ""
    note += "." if factor is None else f"; the band, {100 * (factor - 1):.2g} % wide each way, is its 90 % interval."
    return figure_section("The latency predictor", fig, "fit", "Predicted against measured latency", note)


def _cost(facts: Facts) -> str:
    stages, total = facts.stages, facts.total_seconds
    if not stages or total is None:
        return ""
    rest = total - sum(stages.values())
    rows = [*stages.items(), *([("between stages", rest)] if rest > 0.05 else []), ("total", total)]
    body = [[escaped(name), f"{value:,.1f} s", f"{100 * value / (total or 1.0):.0f} %"] for name, value in rows]
    table = table_of(["Stage", "Time", "Share"], body, numbers={1, 2})
    return figure_section("What it cost", plots.cost_plot(stages), "cost", "Seconds by stage", "", table)


def _best(facts: Facts) -> str:
    trials = facts.trials
    if "val_acc" not in trials.columns:
        return ""
    values = trials.assign(val_acc=pd.to_numeric(trials["val_acc"], errors="coerce"))
    best = values[facts.feasible & np.isfinite(values["val_acc"])].sort_values(
        "val_acc", ascending=False, kind="stable"
    )
    if "arch" in best.columns:
        best = best.loc[~best["arch"].astype(str).duplicated()]
    best = best.head(10)
    title = "The ten best within the bounds" if len(best) == 10 else "The best within the bounds"
    if best.empty:
        return f"<section><h2>{title}</h2><p>No trial met every bound.</p></section>"
    metrics = [name for name in ("val_acc", facts.cost_metric, "latency_ms", "params") if name in best.columns]
    metrics = list(dict.fromkeys(metrics))
    others = [name for name in ("trial", "origin") if name in best.columns]
    head = ["#", *(plots.metric_name(name)[0].capitalize() for name in metrics), *(n.capitalize() for n in others)]
    rows, below = [], []
    for rank, (_, row) in enumerate(best.iterrows(), start=1):
        known = [escaped(shown(row[name], name) or "–") for name in metrics]
        rows.append([str(rank), *known, *(escaped(row[name]) for name in others)])
        below.append(f"<code>{breakable(row['arch'])}</code>" if "arch" in best.columns else "")
    marked = {k for k, index in enumerate(best.index) if index == facts.winner_row}
    later = "measured and fine-tuned" if facts.table is None else "fine-tuned"
    note = f'<p class="note">As the search saw them: the winner, in bold, was {later} afterwards.</p>'
    table = table_of(head, rows, numbers=range(1, len(metrics) + 1), marked=marked, below=below)
    return f"<section><h2>{title}</h2>{note if marked else ''}{table}</section>"


def _code(facts: Facts) -> str:
    if not facts.run or facts.winner is None:
        return ""
    network = facts.mapping("network")
    channels, size = (number(network.get(name)) for name in ("in_channels", "image_size"))
    shape = f"1, {channels:.0f}, {size:.0f}, {size:.0f}" if channels and size else "1, channels, height, width"
    folder = facts.run.rstrip("/")
    onnx = (
        "import numpy as np\nimport onnxruntime as ort\n\n"
        f"session = ort.InferenceSession({folder + '/best.onnx'!r}, providers=['CPUExecutionProvider'])\n"
        f"images = np.zeros(({shape}), np.float32)  # yours, normalised as best.json says\n"
        "(logits,) = session.run(None, {session.get_inputs()[0].name: images})\n"
        "print(logits.argmax(1))\n"
    )
    module = (
        "from pathlib import Path\n\nfrom archgen.export import load_network\n\n"
        f"network, description = load_network(Path({folder + '/best.json'!r}))  # a torch.nn.Module, trained\n"
    )
    return (
        "<section><h2>How to use it</h2><p>On any runtime that reads ONNX:</p>"
        f"<pre><code>{escaped(onnx)}</code></pre><p>In PyTorch, to train it further:</p>"
        f"<pre><code>{escaped(module)}</code></pre></section>"
    )


def _circumstances(facts: Facts) -> str:
    parts = []
    for title, key in (("Data", "data"), ("Network", "network"), ("Device", "device"), ("Versions", "versions")):
        rows = [[escaped(name), escaped(value)] for name, value in flat(facts.result.get(key))]
        if rows:
            parts.append(f"<section><h2>{title}</h2>{table_of([], rows, kind='pairs')}</section>")
    return "\n".join(parts)
