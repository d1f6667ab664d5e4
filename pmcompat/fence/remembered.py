"""What an agent's settings mean is worked out once per agent, not at every poll."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from pmcompat.model import Agent

T = TypeVar("T")

#: agents beyond which what was remembered is forgotten
MOST_REMEMBERED = 10_000


class Remembered(Generic[T]):
    """A pure function of an agent, computed once per agent value: settings are parsed once, not at every poll.

    Agents are told apart by identity, and held while they are remembered, so that no identity is used twice.
    """

    def __init__(self, compute: Callable[[Agent], T]) -> None:
        self._compute = compute
        self._known: dict[int, tuple[Agent, T]] = {}

    def __call__(self, agent: Agent) -> T:
        """Return the function's value for *agent*; what it raises is not remembered."""
        known = self._known.get(id(agent))
        if known is None:
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            known = self._known[id(agent)] = (agent, self._compute(agent))
        return known[1]
