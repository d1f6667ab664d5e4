"""What the executor asks of others: a journal and a lock per host.

What lives here: two protocols and the values that cross them. ``pmcompat.db`` implements both on Postgres, the executor
has a journal in a local file and a lock within one process. Nothing here imports either side.

The order in which the executor calls them, for one request::

    lock.acquire(request)               Locked: somebody else is at it, exit 9, nothing was sent
    journal.past(host.id)               what policy wants to know, and whether an earlier operation never finished
    (policy decides)                    Refused: exit 9, nothing was sent
    journal.started(request, past.unfinished)
                                        committed when it returns; DatabaseUnreachable: exit 4, nothing was sent
    held.check()                        before every on and off; False: nothing more is sent, exit 7
    journal.record(events)              batches, in the background; failures are dropped (law F7)
    journal.finished(request, outcome, seconds)
    held.release()

A status read takes neither lock nor journal; ``journal.alert`` hears of one that failed.

All methods are called from one event loop, concurrently for different hosts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from pmcompat.errors import Refused
from pmcompat.fence.events import Event, Origin, Request
from pmcompat.model import Operation, Outcome, Stage


@dataclass(frozen=True, kw_only=True, slots=True)
class Unfinished:
    """An operation whose process died: the journal says "started" and nothing more (law F7)."""

    operation_id: UUID
    operation: Operation
    origin: Origin
    #: seconds since it started, by the journal's clock
    age: float
    #: how far it certainly got, from the events that reached the journal: a lower bound
    stage: Stage = Stage.NOT_TOUCHED


@dataclass(frozen=True, kw_only=True, slots=True)
class Past:
    """What is known of a host's earlier operations."""

    #: seconds since the last *successful* operation of each kind that a person asked for, by the journal's clock, looked up
    #: by host id (L-37); operations of oVirt's own users (``audit_log`` USER_VDS_START …) included where they can be read
    since: Mapping[Operation, float] = field(default_factory=dict)
    #: the newest operation on this host that never finished and that no later status read settled
    unfinished: Unfinished | None = None
    #: seconds since an operation ended, cut short or dead, of which an off may still take effect; None: there is none
    late_off: float | None = None
    #: the newest restart that left the host without its ``on``: died, or ended with a level off (``host resume``)
    resumable: Unfinished | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One line of ``host history``: one agent of one operation, or the operation itself where ``agent`` is empty."""

    operation_id: UUID
    operation: str
    at: datetime
    user: str
    machine: str
    #: ``agent_name`` of the agent; '' for the line of the operation
    agent: str
    #: what happened, one line, no secret
    what: str
    #: seconds it took; None while it runs or where it never ended
    seconds: float | None
    #: None while it runs or where it never ended
    succeeded: bool | None


class Journal(Protocol):
    """Keeps what was asked and what came of it. Nothing it stores holds a secret (law F10)."""

    async def past(self, host_id: UUID) -> Past:
        """Return what is known of the host's earlier operations.

        :raises DatabaseUnreachable: it cannot be read.
        """

    async def started(self, request: Request, unfinished: Unfinished | None) -> None:
        """Write "started" with one record per agent, committed when this returns (law F7).

        *unfinished* is the dead predecessor that :meth:`past` returned: this request's status reads settle it, so its record
        is closed as uncertain, naming the request that took over, in the same transaction.

        :raises DatabaseUnreachable: it could not be committed: the executor sends nothing.
        :raises Locked: another operation of the host is open and it is not *unfinished* (law F6).
        """

    async def record(self, events: Sequence[Event]) -> None:
        """Append events, in order, all of one request. May raise; the executor drops the failure."""

    async def finished(self, request: Request, outcome: Outcome, seconds: float) -> None:
        """Close the record of *request*, and that of ``request.resumes``. May raise; the executor tells, and goes on."""

    async def alert(self, request: Request, what: Outcome | Refused) -> None:
        """Tell the engine's users what leaves no record: a status that could not be read, an automatic run that was refused.

        (Fencing facts §2.7 and §4; field failures B-15, B-16. A person who is refused is told so directly.) May raise; the
        executor drops the failure.
        """

    async def history(self, host_id: UUID, *, limit: int = 100) -> Sequence[Entry]:
        """Return what happened to the host, newest first."""

    async def confirm(self, host_id: UUID, origin: Origin) -> int:
        """Settle what is unfinished because a person says the host is off; return how many records that closed (law F9)."""

    async def close(self) -> None:
        """Release connections and files. Idempotent."""


class Held(Protocol):
    """One host's lock while it is held."""

    async def check(self) -> bool:
        """Tell whether the lock is still held: one round trip on the lock's own connection, at most 2 seconds.

        Called before every ``on`` and ``off``. False once the connection is gone; it never becomes true again.
        """

    async def release(self) -> None:
        """Give the host back. Idempotent; never raises."""


class HostLock(Protocol):
    """One operation per host at a time, across processes and machines (law F6)."""

    async def acquire(self, request: Request) -> Held:
        """Lock the request's host, without waiting.

        :raises Locked: somebody else holds it; ``holder`` says who, from where and since when.
        :raises DatabaseUnreachable: the lock cannot be asked for.
        """

    async def close(self) -> None:
        """Release connections. Idempotent."""
