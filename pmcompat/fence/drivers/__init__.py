"""Drivers reach devices: one file each, blind to their siblings.

A driver turns *(agent, action, deadline)* into an answer. It never waits for a device to reach a state, never retries an
``on`` or ``off``, and never raises for what a device does: a device that fails has answered. Adding one is adding a file.
"""

from __future__ import annotations

from typing import Protocol

from pmcompat.fence.commands import Answer
from pmcompat.model import Action, Agent


class Driver(Protocol):
    """The contract every driver keeps; ``tests/fence/drivers/contract.py`` holds the suite that all of them pass."""

    async def perform(self, agent: Agent, action: Action, *, deadline: float) -> Answer:
        """Ask *agent* for *action* and return its answer before *deadline* (seconds of ``time.monotonic()``).

        ``Accepted`` for an ``on`` or ``off`` the device took; a ``PowerStatus`` for ``status``; an ``AgentFault`` otherwise,
        with ``sent`` true unless the command certainly never reached the device; of kind BUSY where only the driver's own
        queue stood in the way for half of the time. Safe to call concurrently from tasks of one event loop. On cancellation
        nothing more is sent.
        """

    async def close(self) -> None:
        """Release processes and sockets. Idempotent."""
