"""The executor: takes a request, decides whether it may run, runs its flow, and tells what happened.

What lives here: the life of one request from acceptance to outcome, and many of them side by side on one event loop. Who
is asked what next is the flow's business, what may be asked is the policy's, reaching devices is the drivers'.
"""

from __future__ import annotations

import asyncio
import getpass
import ipaddress
import os
import socket
import uuid
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Self
from uuid import UUID

from pmcompat.errors import Locked, PmcompatError, Refused, Uncertain
from pmcompat.fence.allowances import driver_name
from pmcompat.fence.allowances import patience as patience_of_drivers
from pmcompat.fence.clock import Clock
from pmcompat.fence.drivers import Driver
from pmcompat.fence.drivers.ipmi_door import STANDARD_PORT
from pmcompat.fence.events import Origin, Request
from pmcompat.fence.exits import code_of, code_of_error
from pmcompat.fence.flow import Patience
from pmcompat.fence.policy import NOTHING_SENT, Policy, Rules, plain_identity, storm
from pmcompat.fence.protocols import HostLock, Journal
from pmcompat.fence.remembered import Remembered
from pmcompat.fence.scribe import Listener
from pmcompat.fence.threads import LoopThread
from pmcompat.fence.undertaking import Means, Undertaking
from pmcompat.model import Agent, Host, Operation, Outcome, PowerStatus
from pmcompat.options import IPMI_TYPES, Parameters, parameters


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What became of one host: an outcome, or the error that came instead of one."""

    host: Host
    operation: Operation
    operation_id: UUID
    #: from acceptance (policy agreed, host locked, "started" committed) to the outcome; of a refusal, what it took
    seconds: float
    outcome: Outcome | None = None
    error: PmcompatError | None = None

    @property
    def code(self) -> int:
        """The exit code of this host alone (DESIGN §5)."""
        if self.outcome is not None:
            return code_of(self.outcome)
        return code_of_error(self.error) if self.error is not None else 0

    def as_json(self) -> dict[str, object]:
        """Return plain values in the shape DESIGN §5 gives, with what else is known after it."""
        outcome, settings = self.outcome, self.host.power_management
        found: dict[str, object] = {
            "host": self.host.name,
            "operation": self.operation.value,
            "succeeded": outcome is not None and outcome.succeeded,
            "power": (outcome.power if outcome else PowerStatus.UNKNOWN).value,
            "degraded": outcome is not None and outcome.degraded,
            "mode": settings.mode.value,
            "agents": [result.as_json() for result in outcome.agents] if outcome else [],
            "seconds": round(self.seconds, 4),
            "operation_id": str(self.operation_id),
        }
        if outcome is not None:
            found |= {"stage": outcome.stage.value, "ended_by": outcome.ended_by, "notes": list(outcome.notes)}
        if self.error is not None:
            found["error"] = self.error.as_json()
        return found


def here(*, by_person: bool = True) -> Origin:
    """Return who and where this process is."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no name for the user id, as in a container
        user = f"uid {os.getuid()}"
    return Origin(user=user, machine=socket.gethostname(), pid=os.getpid(), by_person=by_person)


def same_device(agent: Agent) -> Hashable:
    """Return what tells two devices apart: address and network port, as the agents' options mean it.

    The usual port of a BMC may be written or not.
    """
    try:
        return _device(parameters(agent), bmc=agent.type in IPMI_TYPES)
    except PmcompatError:  # it will say so itself when it is asked
        return (agent.address or "").casefold(), agent.ip_port


def _device(meant: Parameters, *, bmc: bool) -> Hashable:
    usual = STANDARD_PORT if bmc else None
    return _one_spelling(meant.address or ""), meant.ip_port or usual


def _one_spelling(address: str) -> str:
    """Return an address as it is compared: IPv6 has many spellings, a name may end in a dot."""
    plain = address.strip().removeprefix("[").removesuffix("]")
    try:
        return str(ipaddress.ip_address(plain))
    except ValueError:
        return plain.casefold().removesuffix(".")


def same_plug(agent: Agent) -> Hashable:
    """Return what tells two plugs apart: the device and, where it has outlets, the outlet; a BMC has one power and none."""
    try:
        meant = parameters(agent)
    except PmcompatError:  # it will say so itself when it is asked
        return plain_identity(agent)
    bmc = agent.type in IPMI_TYPES  # whichever driver reaches it
    device = _device(meant, bmc=bmc)
    return device if bmc else (device, meant.plug)


class FenceExecutor:
    """Asks hosts for their power, and switches it.

    One executor belongs to one event loop. The ``a…`` coroutines run on the caller's; ``status``, ``stop``, ``start``,
    ``restart``, ``resume`` and ``many`` run on a loop of the executor's own in a thread of its own, and may be called from
    several threads. Use one kind or the other. Hosts, outcomes and reports are shared freely.

    :param drivers: name → driver; None: the drivers of this installation. The executor closes them.
    :param journal: where "started" is written before the first packet (law F7); None: nowhere.
    :param lock: keeps other processes away from the host (law F6); None: only this executor's own requests are kept apart.
    :param on_event: hears every :class:`~pmcompat.fence.events.Event`; what it raises is dropped.
    :param choose: agent → name of its driver; None: :func:`pmcompat.options.parameters` says.
    :param identity: agents with equal values are one plug; None: address, network port and plug as the options mean them.
    :param clock: tells the time of everything here; None: the event loop. Drivers are handed deadlines of this clock, so those
        that are given with it must go by it too.
    """

    def __init__(
        self,
        drivers: Mapping[str, Driver] | None = None,
        *,
        journal: Journal | None = None,
        lock: HostLock | None = None,
        on_event: Listener | None = None,
        policy: Policy | None = None,
        patience: Patience | None = None,
        choose: Callable[[Agent], str] | None = None,
        identity: Callable[[Agent], Hashable] | None = None,
        origin: Origin | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._drivers = drivers
        self._clock = clock
        self._journal, self._lock, self._listener = journal, lock, on_event
        self._choose = Remembered(choose or driver_name)
        self._rules = Rules(
            policy=policy or Policy(),
            patience=patience or patience_of_drivers(choose=self._choose),
            identity=identity or same_plug,
        )
        self._origin = origin or here()
        self._running: dict[UUID, _Joined] = {}
        self._undertakings: set[Undertaking] = set()
        self._gates: dict[Hashable, asyncio.Semaphore] = {}
        self._ended_by: str | None = None
        self._thread: LoopThread | None = None

    # The asynchronous forms.

    async def astatus(self, host: Host, *, deadline: float | None = None) -> Outcome:
        """Ask every agent of *host* for its power; any on = on, all off = off, anything else unknown."""
        return await self._single(Operation.STATUS, host, deadline=deadline)

    async def astop(self, host: Host, *, force: bool = False, deadline: float | None = None) -> Outcome:
        """Cut the power of *host* and confirm that it is off.

        :param force: although the database does not say Maintenance or Down (law F9).
        :param deadline: seconds for the whole operation; None: the sum of its budgets.
        :raises Refused: by policy, before anything was sent (Locked: somebody else is at it).
        :raises DatabaseUnreachable: the journal or the lock could not be reached; nothing was sent.
        """
        return await self._single(Operation.STOP, host, force=force, deadline=deadline)

    async def astart(self, host: Host, *, force: bool = False, deadline: float | None = None) -> Outcome:
        """Give *host* power through every agent of a level. Parameters and errors as :meth:`astop`."""
        return await self._single(Operation.START, host, force=force, deadline=deadline)

    async def arestart(self, host: Host, *, force: bool = False, deadline: float | None = None) -> Outcome:
        """Cut the power of *host*, confirm that it is off, and give it back. Parameters and errors as :meth:`astop`."""
        return await self._single(Operation.RESTART, host, force=force, deadline=deadline)

    async def aresume(self, host: Host, *, force: bool = False, deadline: float | None = None) -> Outcome:
        """Complete a restart that ended between off and on. Parameters and errors as :meth:`astop`."""
        return await self._single(Operation.RESTART, host, force=force, deadline=deadline, resuming=True)

    async def amany(
        self,
        operation: Operation,
        hosts: Iterable[Host],
        *,
        force: bool = False,
        deadline: float | None = None,
        resuming: bool = False,
        sizes: Mapping[UUID, int] | None = None,
    ) -> AsyncIterator[Report]:
        """Do *operation* on every host, ``policy.hosts_at_once`` at a time, and yield a report as each of them ends.

        A refusal or an error of one host is its report; it never touches another.

        :param sizes: cluster → number of its hosts, for the storm brake.
        """
        hosts = list(hosts)
        self._begin_anew()
        braked = {} if force else storm(operation, hosts, sizes or {}, self._rules)
        places = asyncio.Semaphore(self._rules.policy.hosts_at_once)
        done: asyncio.Queue[Report] = asyncio.Queue()

        async def one(host: Host) -> None:
            async with places:
                braking = braked.get(host.cluster_id)
                done.put_nowait(
                    await self._report(operation, host, force=force, deadline=deadline, resuming=resuming, braking=braking)
                )

        tasks = [asyncio.create_task(one(host)) for host in hosts]
        try:
            for _ in tasks:
                yield await done.get()
        finally:
            if not all(task.done() for task in tasks):
                self._end_once("cancelled")
                await asyncio.gather(*tasks, return_exceptions=True)

    def end(self, reason: str) -> None:
        """End the waiting of every request, as a signal does; call it again to end their duties too (law F8).

        What waits for its turn in a many-host form is refused. Call it on the event loop's thread.
        """
        self._ended_by = self._ended_by or reason
        for undertaking in list(self._undertakings):
            undertaking.end(reason)

    def _end_once(self, reason: str) -> None:
        """End the waiting because nobody waits; that is no second signal, which would end the duties."""
        if self._ended_by is None:
            self.end(reason)

    async def aclose(self) -> None:
        """Close the drivers, the journal and the lock. Idempotent.

        What still runs is ended first, duties included: whoever leaves :meth:`amany` early leaves no host dark (law F8).
        """
        if self._running:
            self._end_once("closed")
            await asyncio.wait([running.task for running in self._running.values()])
        for part in (*(self._drivers or {}).values(), self._journal, self._lock):
            if part is not None:
                await part.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # The same for callers without an event loop.

    def status(self, host: Host, *, deadline: float | None = None) -> Outcome:
        """Do what :meth:`astatus` does."""
        return self._own_loop().run(lambda: self.astatus(host, deadline=deadline), self.end)

    def stop(self, host: Host, *, force: bool = False, deadline: float | None = None) -> Outcome:
        """Do what :meth:`astop` does."""
        return self._own_loop().run(lambda: self.astop(host, force=force, deadline=deadline), self.end)

    def start(self, host: Host, *, force: bool = False, deadline: float | None = None) -> Outcome:
        """Do what :meth:`astart` does."""
        return self._own_loop().run(lambda: self.astart(host, force=force, deadline=deadline), self.end)

    def restart(self, host: Host, *, force: bool = False, deadline: float | None = None) -> Outcome:
        """Do what :meth:`arestart` does."""
        return self._own_loop().run(lambda: self.arestart(host, force=force, deadline=deadline), self.end)

    def resume(self, host: Host, *, force: bool = False, deadline: float | None = None) -> Outcome:
        """Do what :meth:`aresume` does."""
        return self._own_loop().run(lambda: self.aresume(host, force=force, deadline=deadline), self.end)

    def many(
        self,
        operation: Operation,
        hosts: Iterable[Host],
        *,
        force: bool = False,
        deadline: float | None = None,
        sizes: Mapping[UUID, int] | None = None,
    ) -> Iterator[Report]:
        """Do what :meth:`amany` does. Leaving the loop early ends what still runs, duties included."""
        return self._own_loop().iterate(
            lambda: self.amany(operation, hosts, force=force, deadline=deadline, sizes=sizes), self.end
        )

    def close(self) -> None:
        """Do what :meth:`aclose` does, and end the executor's own loop. Idempotent."""
        thread, self._thread = self._thread or LoopThread(), None
        thread.run(self.aclose, self.end)
        thread.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _own_loop(self) -> LoopThread:
        if self._thread is None:
            self._thread = LoopThread()
        return self._thread

    # One request.

    async def _single(
        self, operation: Operation, host: Host, *, force: bool = False, deadline: float | None, resuming: bool = False
    ) -> Outcome:
        self._begin_anew()
        undertaking = self._undertake(operation, host, force=force, deadline=deadline, resuming=resuming)
        return await self._carry_out(undertaking)

    def _begin_anew(self) -> None:
        """Forget what ended earlier requests: it was meant for them."""
        if not self._undertakings:
            self._ended_by = None

    async def _report(
        self, operation: Operation, host: Host, *, force: bool, deadline: float | None, resuming: bool, braking: Refused | None
    ) -> Report:
        undertaking = self._undertake(operation, host, force=force, deadline=deadline, resuming=resuming)
        outcome: Outcome | None = None
        error: PmcompatError | None = braking
        if braking is None:
            try:
                outcome = await self._carry_out(undertaking)
            except PmcompatError as raised:
                error = raised
            except Exception as bug:  # noqa: BLE001 - one host's trouble is its own report, never the end of the others
                error = Uncertain(f"{operation} of host {host.name} broke off", why=f"a fault of pmcompat: {bug!r}")
        return Report(
            host=host,
            operation=operation,
            operation_id=undertaking.request.operation_id,
            seconds=undertaking.seconds,
            outcome=outcome,
            error=error,
        )

    def _undertake(
        self, operation: Operation, host: Host, *, force: bool, deadline: float | None, resuming: bool
    ) -> Undertaking:
        if self._drivers is None:
            from pmcompat.fence.drivers.registry import default_drivers

            self._drivers = default_drivers()
        means = Means(
            drivers=self._drivers,
            choose=self._choose,
            rules=self._rules,
            journal=self._journal,
            lock=self._lock,
            listener=self._listener,
            gate=self._gate,
            clock=self._clock,
        )
        request = Request(operation_id=uuid.uuid4(), operation=operation, host=host, origin=self._origin)
        return Undertaking(request, means, deadline=deadline, force=force, resuming=resuming)

    async def _carry_out(self, undertaking: Undertaking) -> Outcome:
        """Run the undertaking, or join the identical one that is on its way (law F6). A status disturbs nobody."""
        request = undertaking.request
        if request.operation is Operation.STATUS:
            return await self._join(self._begin(undertaking))
        running = self._running.get(request.host.id)
        if running is None:
            running = self._running[request.host.id] = self._begin(undertaking)
            running.task.add_done_callback(lambda _task: self._running.pop(request.host.id, None))
        elif not running.undertaking.is_like(undertaking):
            other = running.undertaking.request
            raise Locked(
                f"{request.operation} of host {request.host.name} is refused: a {other.operation} is on its way",
                holder=f"{other.origin}, {running.undertaking.seconds:.0f} s ago",
                state=NOTHING_SENT,
                fix="wait until it has ended",
            )
        return await self._join(running)

    def _begin(self, undertaking: Undertaking) -> _Joined:
        self._undertakings.add(undertaking)
        if self._ended_by is not None:
            undertaking.end(self._ended_by)
        task = asyncio.get_running_loop().create_task(undertaking.run())
        task.add_done_callback(lambda _task: self._undertakings.discard(undertaking))
        return _Joined(undertaking, task)

    async def _join(self, running: _Joined) -> Outcome:
        """Wait for an undertaking; when the last of those who wait is cancelled, it is ended as a signal would end it."""
        running.waiting += 1
        try:
            return await asyncio.shield(running.task)
        except asyncio.CancelledError:
            if running.waiting == 1 and not running.task.done():
                running.undertaking.end("cancelled")
                await asyncio.wait([running.task])
            raise
        finally:
            running.waiting -= 1

    def _gate(self, agent: Agent) -> AbstractAsyncContextManager[object]:
        limit = self._rules.policy.per_device
        if limit is None:
            return nullcontext()
        return self._gates.setdefault(same_device(agent), asyncio.Semaphore(limit))


@dataclass(slots=True)
class _Joined:
    """An undertaking on its way, and how many wait for it."""

    undertaking: Undertaking
    task: asyncio.Task[Outcome]
    waiting: int = 0
