"""A name for every interchangeable part, so that one word in a config swaps it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from dynapilco.core.errors import unknown_name

T = TypeVar("T")


class Registry(Generic[T]):
    """Maps names (and aliases) to classes; an unknown name raises with the nearest valid ones.

    Parameters
    ----------
    kind : str
        What is registered, for messages: ``"policy"``, ``"inference method"``.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}
        self._aliases: dict[str, str] = {}

    def register(self, name: str, *aliases: str) -> Callable[[T], T]:
        """Decorate a class to make it reachable as ``name`` (and by each alias)."""

        def add(entry: T) -> T:
            self._entries[name] = entry
            self._aliases.update(dict.fromkeys(aliases, name))
            return entry

        return add

    def canonical(self, name: str) -> str:
        """The registered name that ``name`` stands for; raises ``UserError`` when there is none."""
        if isinstance(name, str):
            name = self._aliases.get(name, name)
            if name in self._entries:
                return name
        raise unknown_name(self.kind, name, [*self._entries, *self._aliases])

    def __getitem__(self, name: str) -> T:
        return self._entries[self.canonical(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def items(self) -> Iterator[tuple[str, T]]:
        """Pairs of registered name and class, in order of registration."""
        return iter(self._entries.items())

    def aliases_of(self, name: str) -> list[str]:
        """Other words that mean ``name``."""
        return [alias for alias, target in self._aliases.items() if target == name]
