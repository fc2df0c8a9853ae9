"""Making a checkpoint of free labels from a table of zero-cost proxies."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from archgen.graph import Architecture
from archgen.predictors import FreeLabels, save_free_labels
from archgen.predictors.base import Floats
from archgen.predictors.free_labels import LEARNABLE
from archgen.spaces import SearchSpace
from archgen.threads import single_threaded


def pretrain_free_labels(
    space: SearchSpace,
    archs: Sequence[Architecture],
    values: Mapping[str, Floats],
    folder: Path,
    *,
    source: str,
    command: str,
    seed: int = 0,
) -> dict[str, float]:
    """Fit free labels to proxies of architectures and write their checkpoint with its card.

    Args:
        space: The space.
        archs: `b` architectures.
        values: `b` values of each proxy.
        folder: Of the checkpoint; replaced.
        source: Where the proxies are from, for the card.
        command: What to type to get this checkpoint again, for the card.
        seed: As in `FreeLabels.fit`.

    Returns:
        Spearman's correlation of each proxy with values held out, and `seconds`.

    Raises:
        ArchgenError: Too few architectures, or no proxy can be learnt from them.
    """
    start = time.perf_counter()
    with single_threaded():
        labels = FreeLabels(space).fit(archs, values, seed=seed)
    seconds = time.perf_counter() - start
    kept = ", ".join(f"{name} {labels.figures[name]:.3f}" for name in labels.names)
    left = ", ".join(f"{name} {rho:.3f}" for name, rho in labels.figures.items() if name not in labels.names)
    card = f"""# Free labels of {space.name}

- **What**: zero-cost proxies of any architecture of the space, for predictors to lean on (`gp`, `gbdt`, `gnn`).
- **Data**: {len(archs):,} architectures; {source}. No measured accuracy was seen.
- **Training**: `{command}`, {seconds:.0f} s on a CPU core.
- **Figures**, Spearman's correlation with a tenth of the values, held out: {kept}.
  Left out for less than {LEARNABLE}: {left or "none"}.
- **Licence**: Apache-2.0 for the weights.
"""
    save_free_labels(labels, folder, card)
    return {**labels.figures, "seconds": seconds}
