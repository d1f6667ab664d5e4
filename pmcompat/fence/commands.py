"""What a fencing flow says and hears: commands, replies, answers.

The contract between the pure flow, whoever drives it, and the drivers that reach devices. Values only: no clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from pmcompat.model import Action, Agent, AgentFault, PowerStatus

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Accepted:
    """The device took an ``on`` or ``off``. It proves nothing: success is believed only from a status read (law F3)."""


ACCEPTED = Accepted()

#: what an agent answers: a status read answers PowerStatus, ``on``/``off`` answer Accepted, either may answer a fault
Answer: TypeAlias = PowerStatus | Accepted | AgentFault


@dataclass(frozen=True, eq=False, slots=True)
class Command:
    """Ask *agent* for *action* after *after* seconds. Compared by identity: two polls of one agent are two commands."""

    agent: Agent
    action: Action
    #: seconds to let pass first: waiting is data
    after: float = 0.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back for one command."""

    command: Command
    answer: Answer


#: yields new commands to start, is sent one reply at a time, and ends in a T. It has no clock, thread, socket or log.
Flow: TypeAlias = Generator[tuple[Command, ...], Reply, T]
