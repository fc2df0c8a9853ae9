"""What strategies take from the committed checkpoints of a space."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from archgen.errors import InvalidOption
from archgen.predictors import pretrained_free_labels
from archgen.sampler import pretrained_generator
from archgen.spaces import SearchSpace
from archgen.strategies.base import SearchStrategy


def pretrained_parts(
    kind: type[SearchStrategy], space: SearchSpace, given: Collection[str] = (), generator: str | None = None
) -> dict[str, Any]:
    """The arguments `generator` and `free_labels` of a strategy that has them.

    Args:
        kind: The strategy's class.
        space: The space.
        given: Names of arguments that are given otherwise.
        generator: Name or folder of the generator, in place of the checkpoints' `discrete_flow`.

    Raises:
        InvalidCheckpoint: The strategy needs a generator, and there is none for the space. A space without free labels
            is searched without them.
        InvalidOption: A generator is named, and the strategy draws from none.
        UnknownName: There is no such generator.
    """
    makers: dict[str, Callable[[SearchSpace], Any]] = {
        "generator": pretrained_generator if generator is None else partial(pretrained_generator, name=generator),
        "free_labels": pretrained_free_labels,
    }
    takes = inspect.signature(kind).parameters
    if generator is not None and "generator" not in takes:
        raise InvalidOption(f"{kind.__name__} draws from no generator: leave '{generator}' out, or take `generative`")
    wanted = [name for name in takes if name in makers and name not in given]
    return {name: makers[name](space) for name in wanted}
