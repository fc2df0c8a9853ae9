"""How search strategies compare: a row a run, a row a strategy, curves with bands, a Markdown table.

After "NAS evaluation is frustratingly hard" (arXiv 1912.12522) and the best practices of Lindauer and Hutter
(arXiv 1909.02453): whole curves instead of one budget, every seed, intervals, tests over seeds, random search beside
all else, and what a search costs besides its evaluations.

Example:
    >>> runs = Runs(read_trials(sorted(Path("runs").glob("*/*.parquet"))))
    >>> gaps = find_gaps(runs, [maximize("val_acc")])
    >>> table = per_run(runs, [maximize("val_acc")], gaps, at=(16, 64))
    >>> print(markdown(summarise(table, reference="generative", tested="regret@64")))
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from archgen.errors import ArchgenError, InvalidObjective, UnknownName
from archgen.gaps import Gaps
from archgen.metrics import relative_improvement
from archgen.objectives import Objective, directions
from archgen.runs import Runs
from archgen.statistics import first_within, holm, mean_interval, median_interval, signed_rank

Floats = NDArray[np.float64]
Series = dict[str, tuple[Floats, Floats]]
AT = (16, 32, 64, 100)
"""Evaluations at which figures are shown."""
POINTS = 40
"""Of a drawn curve, evenly spread on a logarithmic axis."""


def per_run(
    runs: Runs,
    wishes: Sequence[Objective],
    gaps: Gaps,
    *,
    at: Sequence[int] = AT,
    shown: str | None = None,
    random_mean: float | None = None,
    tolerance: float = 1e-9,
) -> pd.DataFrame:
    """A row a run: when it found the best, its gaps and its incumbents at some budgets, its seconds a trial.

    Args:
        runs, wishes: What `gaps` was made of.
        gaps: Of `find_gaps`.
        at: Numbers of evaluations; those beyond the budget are left out, the whole budget stands in if none is left.
        shown: A metric of the incumbent, such as its test accuracy; of one direction only.
        random_mean: Mean of `shown` over random architectures; adds its relative improvement.
        tolerance: How near to the best counts as found.

    Returns:
        `strategy`, `seed`; `best_at`, the first evaluation that found the best, infinite where none did;
        `<gap>@<evaluations>`; where asked for `<shown>@<evaluations>` and `relative_improvement@<evaluations>`
        (percent; arXiv 1912.12522, equation 1), NaN before an incumbent; `overhead_seconds`, a trial, where known.

    Raises:
        InvalidObjective: `shown` with several directions, which have no incumbent.
        UnknownMetric: `shown` is not a metric of the trials.
        ArchgenError: A number in `at` is below 1.
    """
    if any(n < 1 for n in at):
        raise ArchgenError(f"expected numbers of evaluations of at least 1, got {list(at)}")
    budgets = [n for n in at if n <= runs.budget] or [runs.budget]
    wanted = directions(wishes)
    if shown is not None and len(wanted) != 1:
        raise InvalidObjective(f"'{shown}' of the best trial needs one direction, got {len(wanted)}; leave it out")
    values, others = runs.values(wanted[0].metric, wishes), runs.values(shown or wanted[0].metric)
    overhead = runs.overhead_seconds()
    parts = []
    for name, curves in gaps.values.items():
        columns = {"strategy": name, "seed": runs.seeds, "best_at": first_within(curves, tolerance)}
        columns |= {f"{gaps.name}@{n}": curves[:, n - 1] for n in budgets}
        if shown is not None:
            best = _of_incumbents(values[name], others[name], wanted[0].sign)[:, np.array(budgets) - 1].T
            columns |= {f"{shown}@{n}": column for n, column in zip(budgets, best, strict=True)}
            if random_mean is not None:
                improved = np.vectorize(relative_improvement)(best, random_mean)
                columns |= {f"relative_improvement@{n}": row for n, row in zip(budgets, improved, strict=True)}
        if overhead is not None:
            columns["overhead_seconds"] = overhead[name]
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def _of_incumbents(values: Floats, others: Floats, sign: int) -> Floats:
    """`others` of the best of `values` so far (of equal ones the first), `s x n`; NaN before there is one."""
    signed = np.where(np.isnan(values), -np.inf, sign * values)
    before = np.pad(np.maximum.accumulate(signed, axis=1), ((0, 0), (1, 0)), constant_values=-np.inf)[:, :-1]
    places = np.maximum.accumulate(np.where(signed > before, np.arange(values.shape[1]), -1), axis=1)
    return np.where(places < 0, np.nan, np.take_along_axis(others, np.maximum(places, 0), axis=1))


def summarise(table: pd.DataFrame, *, reference: str, tested: str, level: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """A row a strategy: figures over its seeds, and how it differs from a reference.

    Args:
        table: Of `per_run`, or read from its CSV.
        reference: The strategy that the others are tested against.
        tested: The column that is tested, such as `regret@64`.
        level: Of the bootstrap intervals.
        seed: Of the bootstrap.

    Returns:
        `strategy`; `runs`; `found`, runs that found the best; `best_at`, its median over all runs, those that failed
        counted as infinite; means of the other columns. Each has an interval in columns of its name with `_low`
        and `_high`, all NaN where a run has no value. `p` is that of Wilcoxon's signed-rank test over seeds, adjusted
        by Holm for the number of strategies; `effect` the rank-biserial correlation, +1 where the reference is smaller
        in every seed. Both are NaN in the reference's own row.

    Raises:
        UnknownName: No such strategy or column.
        ArchgenError: A strategy has other seeds than the reference.
    """
    groups = {str(name): part.sort_values("seed") for name, part in table.groupby("strategy", sort=False)}
    figures = [str(name) for name in table.columns if name not in ("strategy", "seed")]
    if reference not in groups:
        raise UnknownName("strategy", reference, groups)
    if tested not in figures:
        raise UnknownName("column", tested, figures)
    base = groups.pop(reference)
    for name, part in groups.items():
        if part["seed"].tolist() != base["seed"].tolist():
            raise ArchgenError(
                f"'{name}' and '{reference}' have other seeds, and each must have all: run those missing"
            )
    tests = {name: signed_rank(part[tested], base[tested]) for name, part in groups.items()}
    p = dict(zip(tests, holm([test.p for test in tests.values()]), strict=True))
    rows: list[dict[str, object]] = []
    for name in table["strategy"].astype(str).unique():
        part = groups.get(name, base)
        row: dict[str, object] = {"strategy": name, "runs": len(part)}
        for figure in figures:
            column = part[figure].to_numpy(dtype=np.float64)
            if figure == "best_at":
                row["found"] = int(np.isfinite(column).sum())
            value, low, high = _estimate(figure, column, level, seed)
            row |= {figure: value, f"{figure}_low": low, f"{figure}_high": high}
        rows.append(row | {"p": p.get(name, np.nan), "effect": tests[name].effect if name in tests else np.nan})
    return pd.DataFrame(rows)


def _estimate(figure: str, column: Floats, level: float, seed: int) -> tuple[float, float, float]:
    """Value and interval of a figure; NaN where a run has none: a mean over the others would say something else."""
    if np.isnan(column).any():
        return (np.nan, np.nan, np.nan)
    interval = median_interval if figure == "best_at" else mean_interval
    value, low, high = interval(column, level=level, rng=np.random.default_rng(seed))
    return float(value), float(low), float(high)


def mean_curves(gaps: Gaps, *, level: float = 0.95, seed: int = 0) -> tuple[Series, Series]:
    """Mean gap of each strategy at some evaluations, and its bootstrap band, as `plots.line_plot` takes them."""
    series: Series = {}
    bands: Series = {}
    for name, curves in gaps.values.items():
        x = np.unique(np.geomspace(1, curves.shape[1], POINTS).round().astype(int))
        mean, low, high = mean_interval(curves[:, x - 1], level=level, rng=np.random.default_rng(seed))
        series[name], bands[name] = (x.astype(float), mean), (low, high)
    return series, bands


def caption(runs: Runs, wishes: Sequence[Objective], gaps: Gaps, tested: str, reference: str) -> str:
    """What a summary shows, in words, for below or above its table."""
    wanted = ", ".join(repr(wish) for wish in wishes)
    beyond = ""
    if gaps.reference_point:
        beyond = f" beyond ({', '.join(f'{x:.6g}' for x in gaps.reference_point)})"
    return (
        f"{len(runs.seeds)} seeds, {runs.budget} evaluations; {wanted}: {gaps.name} against {gaps.best:.8g}{beyond}. "
        "`best_at` is a median over all runs, the rest are means, in brackets 95 % bootstrap intervals. `p` and "
        f"`effect`: {tested} against `{reference}`, Wilcoxon's signed-rank test over seeds, adjusted by Holm; effect "
        "1: larger in every seed."
    )


def markdown(summary: pd.DataFrame) -> str:
    """A Markdown table of a summary, aligned so that it reads as plain text too; intervals stand in brackets."""
    columns = [str(name) for name in summary.columns if not str(name).endswith(("_low", "_high"))]
    cells = [columns]
    for _, row in summary.iterrows():
        cells.append([_cell(row, name) for name in columns])
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    cells.insert(1, ["-" * width for width in widths])
    lines = (
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in cells
    )
    return "\n".join(lines) + "\n"


def _cell(row: pd.Series, name: str) -> str:
    text, *ends = (_number(row[column]) for column in (name, f"{name}_low", f"{name}_high") if column in row.index)
    return f"{text} [{', '.join(ends)}]" if set(ends) - {text} else text


def _number(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    if np.isnan(value):
        return "–"
    return "∞" if np.isinf(value) else f"{value:.4g}" if abs(value) >= 1 else f"{value:.3g}"
