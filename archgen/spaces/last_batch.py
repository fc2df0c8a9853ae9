"""What was made of the last batch of architectures, for callers who ask several things of the same one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from archgen.graph import Architecture

T = TypeVar("T")


class LastBatch(Generic[T]):
    """A function of a batch that remembers its last answer: an encoder wants choices, then flows, of one batch.

    Args:
        make: The function; its answer is shared, so nobody may change it.
    """

    def __init__(self, make: Callable[[Sequence[Architecture]], T]) -> None:
        self._make = make
        self._last: tuple[tuple[Architecture, ...], T] | None = None

    def __call__(self, archs: Sequence[Architecture]) -> T:
        key = tuple(archs)
        if self._last is None or self._last[0] != key:  # the same objects are equal at a glance
            self._last = key, self._make(key)
        return self._last[1]
