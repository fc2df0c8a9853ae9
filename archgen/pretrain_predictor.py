"""Making a predictor's checkpoint: fit on some rows of a table, judge on the others, write the card."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import archgen.surrogates  # noqa: F401  its members are predictors too
from archgen.errors import ArchgenError, InvalidObjective
from archgen.graph import Architecture
from archgen.predictors import PREDICTORS, Predictor, Source, judge, pretrained_free_labels, save_predictor
from archgen.spaces import SearchSpace

LABELS = 600
UNSEEN = 4000


def checkpoint_name(space: SearchSpace, metric: str) -> str:
    """Folder of the checkpoint that predicts a metric of a space; raises `InvalidObjective`."""
    if not metric or set(metric) & set('/\\:*?"<>| '):
        raise InvalidObjective(
            f"a metric's name becomes a folder's: no spaces or any of / \\ : * ? \" < > |, got '{metric}'"
        )
    return f"{space.name}-{metric.replace('@', '-on-')}"


def make_predictor(
    kind: str,
    space: SearchSpace,
    metric: str,
    *,
    built_simplified: bool,
    sources: Sequence[Source] = (),
    options: Mapping[str, Any] | None = None,
) -> Predictor:
    """A predictor by its registered name, with the free labels of the checkpoints where it takes them.

    Args:
        kind: Name in `PREDICTORS`; several joined by `+` are an `ensemble` of those.
        space: Its space.
        metric: What it predicts.
        built_simplified: Whether measured networks leave dead parts out; only latency predictors care.
        sources: Labels of other data sets; only `meta` predictors care.
        options: Other arguments of its constructor.

    Raises:
        UnknownName: No such predictor.
    """
    member = PREDICTORS[registered_name(kind)]
    extra: dict[str, Any] = dict(options or {})
    if kind == "latency":
        extra["simplify"] = built_simplified
    if kind == "meta":
        extra["sources"] = sources
    if "+" in kind:
        extra["members"] = kind.split("+")
    if member.takes_free_labels:
        extra["free_labels"] = pretrained_free_labels(space)
    return member(space, metric, **extra)


def registered_name(kind: str) -> str:
    """Of the member that `make_predictor` makes of a name.

    Raises:
        UnknownName: No such predictor.
    """
    for name in kind.split("+"):
        PREDICTORS[name]
    return "ensemble" if "+" in kind else kind


def pretrain_predictor(
    space: SearchSpace,
    archs: Sequence[Architecture],
    y: NDArray[np.float64],
    folder: Path,
    *,
    metric: str,
    kind: str = "gp",
    labels: int = LABELS,
    source: str,
    command: str,
    seed: int = 0,
) -> dict[str, float]:
    """Fit a predictor on random rows and write its checkpoint; every figure is of rows that it has not seen.

    Args:
        space: The space.
        archs: `b` architectures.
        y: Their values.
        folder: Of the checkpoint; replaced.
        metric: Name of what is predicted.
        kind: Of the predictor, as in `make_predictor`.
        labels: Rows to fit on; of a table with less than twice as many, four fifths.
        source: Where the table is from, for the card.
        command: What to type to get this checkpoint again, for the card.
        seed: Draws the rows.

    Returns:
        `labels`, `unseen`, `tau` (Kendall), `rho` (Spearman), `error` (median absolute error in percent), `coverage90`
        (share of the unseen inside the two-sided 90 % interval, in percent), `seconds`.

    Raises:
        ArchgenError: Too few rows, rows of one and the same value, or values that the predictor refuses.
    """
    if len(archs) < 10:
        raise ArchgenError(f"expected at least 10 architectures to fit and judge a predictor, got {len(archs)}")
    order = np.random.default_rng(seed).permutation(len(y))
    small = len(y) <= 2 * labels
    n = int(0.8 * len(y)) if small else labels
    seen, unseen = order[:n], order[n : n + UNSEEN]
    if np.ptp(y[seen]) == 0 or np.ptp(y[unseen]) == 0:
        raise ArchgenError(f"{metric} has the same value, {y[seen[0]]:g}, in (nearly) every row; nothing can be learnt")
    start = time.perf_counter()
    predictor = make_predictor(kind, space, metric, built_simplified=small)
    predictor.fit([archs[i] for i in seen], y[seen])
    seconds = time.perf_counter() - start
    judged = judge(predictor, [archs[i] for i in unseen], y[unseen])
    figures = {
        "labels": float(n),
        "unseen": float(len(unseen)),
        "tau": judged["kendall_tau"],
        "rho": judged["spearman_rho"],
        "error": judged["median_relative_error"],
        "coverage90": judged["coverage_90"],
        "seconds": seconds,
    }
    errors = f"median absolute error {figures['error']:.1f} %; {figures['coverage90']:.0f} % inside the 90 % interval"
    card = f"""# {metric} of {space.name}

- **What**: predicts `{metric}` ({kind}) for `archgen generate` and `GuidedSampler`.
- **Data**: {n} random architectures of {len(y):,}; {source}.
- **Training**: `{command}`, {seconds:.1f} s on two CPU cores.
- **Figures** on {len(unseen):,} unseen architectures: Kendall tau {figures["tau"]:.3f}, Spearman rho
  {figures["rho"]:.3f}, {errors}.
- **Licence**: Apache-2.0 for the weights.
"""
    save_predictor(predictor, registered_name(kind), folder, card)
    return figures
