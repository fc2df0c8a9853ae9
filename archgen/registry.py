"""Names to classes, one registry a family; unknown names get "did you mean"."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from archgen.errors import UnknownName

T = TypeVar("T")
C = TypeVar("C")


class Registry(Mapping[str, T]):
    """A read-only mapping from names to members, filled by a decorator.

    Example:
        >>> STRATEGIES = Registry[type]("search strategy")
        >>> @STRATEGIES.register("random")
        ... class Random: ...
        >>> STRATEGIES["random"] is Random
        True
    """

    def __init__(self, what: str) -> None:
        """
        Args:
            what: What a member is, in words, for error messages ("search strategy").
        """
        self.what = what
        self._members: dict[str, T] = {}

    def register(self, name: str) -> Callable[[C], C]:
        """Return a decorator that adds its argument under `name`.

        Raises:
            ValueError: The name is taken.
        """

        def add(member: C) -> C:
            if name in self._members:
                raise ValueError(f"{self.what} '{name}' is registered already")
            self._members[name] = member  # type: ignore[assignment]
            return member

        return add

    def __getitem__(self, name: str) -> T:
        try:
            return self._members[name]
        except KeyError:
            raise UnknownName(self.what, name, self._members) from None

    def get(self, name: str, default: Any = None) -> Any:
        """The member, or `default`; `Mapping.get` would let the `UnknownName` through."""
        return self._members.get(name, default)

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)
