"""Drives the flows of one request on an event loop: sends commands, feeds replies, ends it when it must end.

What lives here: time, tasks and the point of no return (law F8). No decision about agents: those are the flow's. One
conductor serves one request; nothing is shared with others but the drivers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext

from pmcompat.errors import CredentialError, PmcompatError
from pmcompat.fence.clock import Clock, Handle, sleep, until
from pmcompat.fence.commands import Answer, Command, Flow, Reply
from pmcompat.fence.drivers import Driver
from pmcompat.fence.events import Answered, Ending, Event, Request, Sent
from pmcompat.fence.exits import ENDED_BY_DEADLINE, ENDED_BY_LOST_LOCK
from pmcompat.fence.flow import Notebook, Patience, finish, owes
from pmcompat.fence.flow.duty import SHORT
from pmcompat.fence.flow.timing import LATE_OFF
from pmcompat.fence.protocols import Held
from pmcompat.model import Action, Agent, AgentFault, FaultKind, Outcome

#: seconds after its deadline at which a driver that has not answered is no longer waited for
OVERDUE = 0.1
#: seconds that a turn at a device has to be waited for to count as waiting
QUEUED = 0.05
#: share of a budget that counts as the whole: a deadline as long as the budget ends just before its last poll
NEARLY = 0.9


class _Ended(Exception):
    """The waiting was ended from outside."""


class Conductor:
    """Drives one request from its first command to its outcome."""

    def __init__(
        self,
        request: Request,
        book: Notebook,
        patience: Patience,
        *,
        drivers: Mapping[str, Driver],
        choose: Callable[[Agent], str],
        held: Held | None,
        emit: Callable[[Event], None],
        gate: Callable[[Agent], AbstractAsyncContextManager[object]] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._request, self._book, self._patience = request, book, patience
        self._drivers, self._choose, self._held, self._emit = drivers, choose, held, emit
        self._gate = gate or (lambda _agent: nullcontext())
        self._loop = asyncio.get_running_loop()
        self._clock: Clock = clock or self._loop
        self._began = self._clock.time()
        self._replies: deque[Reply] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._tasks: dict[Command, asyncio.Task[None]] = {}
        #: commands that a driver has, with the time they left
        self._under_way: dict[Command, float] = {}
        self._reason: str | None = None
        self._asked_to_end = False
        #: seconds the operation may take, from its beginning or its last turn at a device that is shared
        self._allowed = 0.0
        self._ends_at = 0.0
        self._strict = True
        self._timer: Handle | None = None
        #: commands that wait for their turn at a device
        self._waiting_for_turn = 0
        self._aborted = False
        self._in_duty = False

    @property
    def at(self) -> float:
        """Seconds since the request was accepted."""
        return self._clock.time() - self._began

    def end(self, reason: str) -> None:
        """End the waiting; a second call ends the duty too. A deadline that has passed before is no first call."""
        self._aborted = self._aborted or self._asked_to_end
        self._asked_to_end = True
        self._reason = self._reason or reason
        self._wake()

    async def conduct(self, flow: Flow[Outcome], *, deadline: float, strict: bool = True) -> Outcome:
        """Drive *flow* to its outcome, or, ended before, to what it owes.

        :param deadline: seconds from now.
        :param strict: nobody is waited for beyond it; else it counts anew once a command had to wait for its turn at a device
            that others share: that is nobody's silence.
        """
        self._allowed, self._strict = deadline, strict
        self._end_in(deadline)
        try:
            return await self._drive(flow)
        except _Ended:
            flow.close()
        finally:
            if self._timer is not None:
                self._timer.cancel()
        try:
            return await self._finish()
        finally:
            await self._drop(list(self._tasks))

    def _end_in(self, seconds: float) -> None:
        self._ends_at = self._clock.time() + seconds
        self._timer = self._clock.call_later(seconds, self._deadline_passed)

    def _deadline_passed(self) -> None:
        left = self._allowed if self._waiting_for_turn else self._ends_at - self._clock.time()
        if left > 0 and not self._strict:
            self._end_in(left)
        elif self._reason is None:
            self._reason = ENDED_BY_DEADLINE
            self._wake()

    async def _take_turn(self, agent: Agent, turn: AsyncExitStack) -> None:
        """Wait until *agent* may be asked; *turn* gives its place back. A deadline that is not strict counts from then on."""
        began = self._clock.time()
        self._waiting_for_turn += 1
        try:
            await turn.enter_async_context(self._gate(agent))
        finally:
            self._waiting_for_turn -= 1
        if (now := self._clock.time()) - began > QUEUED:
            self._ends_at = now + self._allowed

    async def _finish(self) -> Outcome:
        """Do what is owed (law F8): what left is heard out for a short time, what did not leave never leaves."""
        reason = self._reason or "cancelled"
        for command in [command for command in self._tasks if command not in self._under_way]:
            self._forget(command)
        duty = owes(self._book) and reason != ENDED_BY_LOST_LOCK and not self._aborted
        self._emit(Ending(request=self._request, at=self.at, reason=reason, duty=duty))
        switching = [command for command in self._under_way if duty and command.action is not Action.STATUS]
        if switching:
            await self._hear_out([self._tasks[command] for command in switching])
        await self._give_up()
        if not duty or self._aborted:
            self._doubt(watched=reason == ENDED_BY_DEADLINE and not self._aborted)
            return self._book.outcome(ended_by=reason)
        self._in_duty = True
        flow = finish(self._book, ended_by=reason)
        try:
            await self._drive(flow)
        except _Ended:
            flow.close()
            await self._give_up()
        self._doubt(watched=not self._aborted)
        return self._book.outcome(ended_by=reason)

    def _doubt(self, *, watched: bool) -> None:
        """Nobody watches any more: a command that has not shown may still act, unless it was *watched* for its whole budget."""
        for track in self._book.tracks:
            timing = self._patience.start if track.asked is Action.ON else self._patience.stop
            if not watched or self.at - track.switched_at < NEARLY * min(timing.budget, LATE_OFF):
                track.doubt()

    async def _hear_out(self, tasks: list[asyncio.Task[None]]) -> None:
        give_up = self._clock.time() + SHORT
        timer = self._clock.call_later(SHORT, self._wake)
        while tasks and not self._aborted and self._clock.time() < give_up:
            self._waiting = self._loop.create_future()
            await asyncio.wait([*tasks, self._waiting], return_when=asyncio.FIRST_COMPLETED)
            tasks = [task for task in tasks if not task.done()]
        timer.cancel()
        self._waiting = None

    async def _give_up(self) -> None:
        """Note what was heard and give up what was not."""
        while self._replies:
            reply = self._replies.popleft()
            self._book.hear(reply.command, reply.answer, at=reply.at)
        open_ = [command for command in self._book.pending if command in self._tasks]
        for command in open_:
            if command.action is Action.STATUS or command not in self._under_way:
                self._book.never_sent(command)
            else:
                fault = AgentFault(kind=FaultKind.TIMEOUT, message="given up: the operation was ended", sent=True)
                self._book.hear(command, fault, at=self.at)
        await self._drop(open_)

    async def _drop(self, commands: list[Command]) -> None:
        """Cancel tasks; drivers get a moment to let go, and no more."""
        tasks = [self._tasks.pop(command) for command in commands if command in self._tasks]
        for command in commands:
            self._under_way.pop(command, None)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.sleep(0)

    def _forget(self, command: Command) -> None:
        self._tasks.pop(command).cancel()
        self._book.never_sent(command)

    async def _drive(self, flow: Flow[Outcome]) -> Outcome:
        try:
            self._give(next(flow))
            while True:
                reply = await self._next_reply()
                self._give(flow.send(reply))
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome

    async def _next_reply(self) -> Reply:
        while True:
            if self._ended():
                raise _Ended
            if self._replies:
                return self._replies.popleft()
            self._waiting = self._loop.create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None

    def _ended(self) -> bool:
        return self._aborted if self._in_duty else self._reason is not None

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def _give(self, commands: tuple[Command, ...]) -> None:
        for command in commands:
            self._tasks[command] = self._loop.create_task(self._carry_out(command))

    async def _carry_out(self, command: Command) -> None:
        """Wait, ask whether the lock still holds, send, and queue the reply."""
        if command.after > 0:
            await sleep(self._clock, command.after)
        async with AsyncExitStack() as turn:
            await self._take_turn(command.agent, turn)
            if command.action is not Action.STATUS and not await self._still_held():
                return
            self._emit(Sent(request=self._request, at=self.at, agent=command.agent, action=command.action))
            self._under_way[command] = sent = self._clock.time()
            answer = await self._ask(command)
        now = self._clock.time()
        self._under_way.pop(command, None)
        self._tasks.pop(command, None)
        self._emit(
            Answered(
                request=self._request,
                at=self.at,
                agent=command.agent,
                action=command.action,
                answer=answer,
                took=now - sent,
            )
        )
        self._replies.append(Reply(command, answer, now - self._began))
        self._wake()

    async def _still_held(self) -> bool:
        if self._held is None:
            return True
        try:
            held = await self._held.check()
        except Exception:  # noqa: BLE001 - whatever is wrong with it, a lock that cannot be checked is not held
            held = False
        if not held:
            self._reason = ENDED_BY_LOST_LOCK
            self._aborted = self._aborted or self._in_duty
            self._wake()
        return held

    async def _ask(self, command: Command) -> Answer:
        """Have a driver ask the agent; whatever goes wrong with the driver is an answer (field failure B-11)."""
        switching = command.action is not Action.STATUS
        try:
            driver = self._drivers[self._choose(command.agent)]
        except CredentialError as error:
            return AgentFault(kind=FaultKind.REFUSED, message=error.what)
        except PmcompatError as error:
            return AgentFault(kind=FaultKind.UNSUPPORTED, message=error.what)
        except KeyError as error:
            return AgentFault(kind=FaultKind.UNSUPPORTED, message=f"there is no driver {error.args[0]}")
        within = command.within if command.within is not None else self._patience.command(command.agent)
        latest = self._clock.time() + within
        while True:
            asked = self._clock.time()
            deadline = latest if self._in_duty else asked + within
            try:
                async with until(self._clock, deadline + OVERDUE):
                    answer = await driver.perform(command.agent, command.action, deadline=deadline)
            except TimeoutError:
                return AgentFault(kind=FaultKind.TIMEOUT, message=f"no answer within {within:g} s", sent=switching)
            except Exception as error:  # noqa: BLE001 - a fault of a driver is one of its agent, and may not stop the others
                message = f"the driver failed: {type(error).__name__}"
                return AgentFault(kind=FaultKind.FAILED, message=message, sent=switching)
            if not self._has_to_wait(answer, asked, deadline):
                return answer

    def _has_to_wait(self, answer: Answer, asked: float, deadline: float) -> bool:
        """Tell whether a command only waited in our own queue: that is no answer of the device, and it waits on.

        A storm of hosts would otherwise find most of them dead. The operation's own deadline ends it; a duty ends by its own.
        """
        if not isinstance(answer, AgentFault) or answer.kind is not FaultKind.BUSY:
            return False
        now = self._clock.time()
        waited = now >= (asked + deadline) / 2 - OVERDUE  # not a driver that says so at once, again and again
        return waited and (not self._in_duty or now < deadline - OVERDUE)
