"""What a fencing flow says and hears: commands, replies, answers.

The contract between the pure flow, whoever drives it, and the drivers that reach devices. Values only: no clock, no I/O.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Generator
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
    #: seconds the answer may take once it was sent; None: what whoever drives the flow allows the agent
    within: float | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back for one command."""

    command: Command
    answer: Answer
    #: seconds since the flow began, stamped by whoever drives it: the flow has no clock of its own
    at: float = 0.0


class Conclusion(enum.StrEnum):
    """What a flow concludes on its way; a remark carries one."""

    #: nothing had to be sent to the agents: they already were in the wanted state
    SKIPPED = "already there"
    #: every agent of the level was read in the wanted state (for off: twice)
    CONFIRMED = "confirmed"
    #: the level failed; the next one, if any, is asked for the original action
    LEVEL_FAILED = "level failed"
    #: a level was put behind the others because its agents did not answer
    PUT_BEHIND = "put behind"
    #: ``on`` was not confirmed and is sent once more
    RESENT = "sent again"
    #: a later level did what the first could not: an alert (oVirt event 9007)
    LATER_USED = "later agent used"
    #: started, but the agents' supplies were not confirmed on
    DEGRADED = "degraded"


@dataclass(frozen=True, kw_only=True, slots=True)
class Remark:
    """A conclusion of a flow about some agents. Nothing depends on anybody hearing it."""

    conclusion: Conclusion
    agents: tuple[Agent, ...]
    #: the power status that was wanted or read
    power: PowerStatus
    #: one line, no secret; '' where the conclusion says it all
    text: str = ""


#: hears the remarks of a flow; must return at once and never raise
Tell: TypeAlias = Callable[[Remark], None]

#: yields new commands to start, is sent one reply at a time, and ends in a T. It has no clock, thread, socket or log.
Flow: TypeAlias = Generator[tuple[Command, ...], Reply, T]
