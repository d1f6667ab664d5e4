"""One request from acceptance to outcome: policy, lock, journal, flow, in the order that the laws demand.

What lives here: the sequence of :mod:`pmcompat.fence.protocols`, for one request. Many side by side are the executor's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, replace

from pmcompat.errors import DatabaseUnreachable, Locked, PmcompatError, Refused
from pmcompat.fence.clock import Clock
from pmcompat.fence.commands import Remark, T
from pmcompat.fence.conductor import Conductor
from pmcompat.fence.drivers import Driver
from pmcompat.fence.events import Began, Finished, Noticed, Request
from pmcompat.fence.flow import Notebook, Patience, longest, resume, run
from pmcompat.fence.flow.timing import LATE_OFF, OFF_OPEN
from pmcompat.fence.policy import NOTHING_SENT, Rules, refusal, refusal_by_past
from pmcompat.fence.protocols import Held, HostLock, Journal, Past, Unfinished
from pmcompat.fence.scribe import Listener, Scribe
from pmcompat.model import Agent, Operation, Outcome, PowerStatus


@dataclass(frozen=True, kw_only=True, slots=True)
class Means:
    """What an executor lends to its undertakings."""

    drivers: Mapping[str, Driver]
    choose: Callable[[Agent], str]
    rules: Rules
    journal: Journal | None
    lock: HostLock | None
    listener: Listener | None
    gate: Callable[[Agent], AbstractAsyncContextManager[object]]
    #: None: the event loop
    clock: Clock | None = None


class Undertaking:
    """One request on its way; ``seconds`` is its age, and its duration once it ended."""

    def __init__(self, request: Request, means: Means, *, deadline: float | None, force: bool, resuming: bool) -> None:
        self.request = request
        self.resuming = resuming
        self._means, self._deadline, self._force = means, deadline, force
        self._clock: Clock = means.clock or asyncio.get_running_loop()
        self._began = self._clock.time()
        self._seconds: float | None = None
        self._conductor: Conductor | None = None
        self._ended_by: str | None = None
        #: the operation that this one takes over from
        self._left: Unfinished | None = None

    @property
    def seconds(self) -> float:
        """Seconds since the request was accepted (policy agreed, host locked, journal written), or that it took."""
        return self._clock.time() - self._began if self._seconds is None else self._seconds

    def is_like(self, other: Undertaking) -> bool:
        """Tell whether the other asks for the same thing: who asks for it does not matter."""
        mine, theirs = self.request, other.request
        return (mine.operation, mine.host, self.resuming) == (theirs.operation, theirs.host, other.resuming)

    def end(self, reason: str) -> None:
        """End the waiting; a second call ends the duty too."""
        self._ended_by = self._ended_by or reason
        if self._conductor is not None:
            self._conductor.end(reason)

    async def run(self) -> Outcome:
        """Carry the request out.

        :raises Refused: by policy, or locked; nothing was sent.
        :raises DatabaseUnreachable: lock or journal cannot be reached; nothing was sent.
        """
        try:
            rules, deadline = self._means.rules, None if self.resuming else self._deadline  # to resume sends no off
            self._raise(refusal(self.request, rules, deadline=deadline, force=self._force))
            if self.request.operation is Operation.STATUS:
                return await self._look()
            return await self._switch()
        except Locked:
            raise
        except Refused as refused:
            if not self.request.origin.by_person and self.request.operation is not Operation.STATUS:
                await self._alert(refused)
            raise
        finally:
            self._seconds = self.seconds

    async def _alert(self, what: Outcome | Refused) -> None:
        """Tell the engine's users; nothing depends on it (law F7)."""
        if self._means.journal is not None:
            with suppress(Exception):
                await self._means.journal.alert(self.request, what)

    async def _look(self) -> Outcome:
        """Read the status: nobody is locked out and nothing is journaled, but what a crash left open is settled (law F7)."""
        scribe = Scribe(self._means.listener, None)
        outcome = await self._conduct(scribe, None, Past())
        self._seconds = self.seconds
        if self._means.journal is not None and outcome.succeeded:
            with suppress(PmcompatError, OSError):
                told = await self._settle(outcome)
                outcome = _noted(outcome, told, first=True) if told else outcome
        if not outcome.succeeded and outcome.ended_by is None:
            await self._alert(outcome)
        return outcome

    async def _settle(self, outcome: Outcome) -> str:
        """Close what a crash left open, and say so; what is still on its way holds its lock and is left alone."""
        journal, lock = self._means.journal, self._means.lock
        if journal is None or (await journal.past(self.request.host.id)).unfinished is None:
            return ""
        held = await lock.acquire(self.request) if lock is not None else None
        try:
            past = await journal.past(self.request.host.id)  # again: it may have been settled while we waited
            if past.unfinished is None:
                return ""
            doubt = _doubt(outcome, past.unfinished, self._means.rules.patience)
            if doubt:
                return f"{_told(past.unfinished, 'uncertain still')}: {doubt}"
            await journal.started(self.request, past.unfinished)
            await journal.finished(self.request, outcome, self.seconds)
            return _told(past.unfinished)
        finally:
            if held is not None:
                await held.release()

    async def _switch(self) -> Outcome:
        held = (
            None if self._means.lock is None else await self._reach(self._means.lock.acquire(self.request), "the host's lock")
        )
        try:
            past = await self._past()
            scribe = Scribe(self._means.listener, self._means.journal)
            outcome = await self._conduct(scribe, held, past)
            self._seconds = self.seconds
            await scribe.close(self.request, outcome, self._seconds)
            return _noted(outcome, f"the journal could not be written: {scribe.trouble}") if scribe.trouble else outcome
        finally:
            if held is not None:
                await held.release()

    async def _past(self) -> Past:
        """Read the past, let policy judge it, and write "started" (law F7)."""
        journal = self._means.journal
        if journal is None:
            return Past()
        past: Past = await self._reach(journal.past(self.request.host.id), "the journal")
        self._left = past.unfinished
        if self.resuming:
            self._resume(past)
        self._raise(refusal_by_past(self.request, self._means.rules, past, force=self._force))
        if self._ended_by is None:
            await self._reach(journal.started(self.request, past.unfinished), "the journal")
            await self._take_back(journal)
        return past

    async def _take_back(self, journal: Journal) -> None:
        """Close a record during whose writing a signal came: nothing has begun, and nothing is uncertain."""
        if self._ended_by is not None:
            book = Notebook.of(self.request.operation, self.request.host.power_management)
            with suppress(Exception):
                await journal.finished(self.request, book.outcome(ended_by=self._ended_by), self.seconds)

    def _resume(self, past: Past) -> None:
        self._left = past.resumable
        if past.resumable is not None:
            self.request = replace(self.request, resumes=past.resumable.operation_id)
        elif not self._force:
            raise Refused(
                f"there is nothing to resume for host {self.request.host.name}",
                why="the journal knows no restart that ended between off and on",
                state=NOTHING_SENT,
                fix="use start, or --force to switch on what is dark all the same",
            )

    async def _conduct(self, scribe: Scribe, held: Held | None, past: Past) -> Outcome:
        if self._ended_by is not None:
            raise Refused(
                f"{self.request.operation} of host {self.request.host.name} was not begun",
                why=f"ended by {self._ended_by}",
                state=NOTHING_SENT,
            )

        self._began = self._clock.time()

        def tell(remark: Remark) -> None:
            scribe.emit(Noticed(request=self.request, at=self.seconds, remark=remark))

        book = Notebook.of(self.request.operation, self.request.host.power_management, tell)
        patience = self._means.rules.patience
        book.late_off = _late_off(self._left, past.late_off, patience)
        self._conductor = conductor = Conductor(
            self.request,
            book,
            patience,
            drivers=self._means.drivers,
            choose=self._means.choose,
            held=held,
            emit=scribe.emit,
            gate=self._means.gate,
            clock=self._clock,
        )
        scribe.emit(Began(request=self.request, at=0.0))
        levels = self.request.host.power_management.levels
        deadline = longest(self.request.operation, levels, patience) if self._deadline is None else self._deadline
        flow = (resume if self.resuming else run)(book, patience)
        outcome = await conductor.conduct(flow, deadline=deadline, strict=self._deadline is not None)
        if past.unfinished is not None:
            outcome = _noted(outcome, _told(past.unfinished), first=True)
        scribe.emit(Finished(request=self.request, at=self.seconds, outcome=outcome))
        return outcome

    async def _reach(self, asking: Awaitable[T], what: str) -> T:
        """Await lock or journal; whatever is wrong with them stops the request before anything is sent."""
        try:
            return await asking
        except PmcompatError:
            raise
        except Exception as error:
            raise DatabaseUnreachable(
                f"{what} cannot be used",
                why=type(error).__name__,
                state=NOTHING_SENT,
                fix="see `pmcompat doctor`; --no-journal writes to a local file instead",
            ) from error

    @staticmethod
    def _raise(refused: Refused | None) -> None:
        if refused is not None:
            raise refused


def _noted(outcome: Outcome, note: str, *, first: bool = False) -> Outcome:
    return replace(outcome, notes=(note, *outcome.notes) if first else (*outcome.notes, note))


def _late_off(left: Unfinished | None, ended: float | None, patience: Patience) -> float:
    """Return the seconds for which an off may still take effect: of the operation that was *left*, or of one that *ended* so.

    The last events of one that died may be missing, so "not touched" proves nothing.
    """
    ages = [] if ended is None else [ended]
    if left is not None and left.operation is not Operation.START and left.stage in OFF_OPEN:
        ages.append(left.age)
    return max([0.0, *(min(patience.stop.budget, LATE_OFF) - age for age in ages)])


def _doubt(outcome: Outcome, left: Unfinished, patience: Patience) -> str:
    """Return why a status does not say how the operation that was *left* ended; it stays uncertain then, and to be resumed."""
    powers = {result.power for result in outcome.agents}
    if PowerStatus.ON not in powers:
        return ""
    if _late_off(left, None, patience) > 0:
        return "an off may still take effect"
    halfway = left.operation is Operation.RESTART and PowerStatus.OFF in powers
    return "a supply is off: see `pmcompat host resume`" if halfway else ""


def _told(unfinished: Unfinished, how: str = "uncertain until now") -> str:
    return (
        f"{how}: a {unfinished.operation} by {unfinished.origin} began {unfinished.age:.0f} s ago and never "
        f"finished ({unfinished.stage})"
    )
