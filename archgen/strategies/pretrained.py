"""What strategies take from the committed checkpoints of a space."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Any

from archgen.predictors import pretrained_free_labels
from archgen.sampler import pretrained_generator
from archgen.spaces import SearchSpace
from archgen.strategies.base import SearchStrategy


def pretrained_parts(kind: type[SearchStrategy], space: SearchSpace, given: Collection[str] = ()) -> dict[str, Any]:
    """The arguments `generator` and `free_labels` of a strategy that has them.

    Args:
        kind: The strategy's class.
        space: The space.
        given: Names of arguments that are given otherwise.

    Raises:
        InvalidCheckpoint: The strategy needs a generator, and there is none for the space. A space without free labels
            is searched without them.
    """
    makers: dict[str, Callable[[SearchSpace], Any]] = {
        "generator": pretrained_generator,
        "free_labels": pretrained_free_labels,
    }
    wanted = [name for name in inspect.signature(kind).parameters if name in makers and name not in given]
    return {name: makers[name](space) for name in wanted}
