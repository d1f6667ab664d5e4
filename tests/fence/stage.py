"""What the executor's tests stand on: virtual time, hosts on a simulated rack, a journal and a lock in memory."""

from __future__ import annotations

import asyncio
import selectors
import uuid
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

from pmcompat.errors import DatabaseUnreachable, Locked, Refused
from pmcompat.fence.drivers.simulated import Rack, SimulatedDriver
from pmcompat.fence.events import Event, Noticed, Origin, Request, Sent
from pmcompat.fence.executor import FenceExecutor, Report
from pmcompat.fence.flow import Patience, Timing
from pmcompat.fence.policy import Policy
from pmcompat.fence.protocols import Past, Unfinished
from pmcompat.model import Agent, Host, HostStatus, Options, Outcome, PowerManagement, Secret

T = TypeVar("T")


class _Jump(selectors.DefaultSelector):
    """Lets the loop's time jump instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.real = False

    def select(self, timeout: float | None = None) -> Any:
        if self.real:
            return super().select(timeout)
        ready = super().select(0)
        if not ready and timeout:
            self.now += timeout
        elif not ready and timeout is None:
            ready = super().select(5)
            assert ready, "everybody waits for ever"
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock moves only when nobody has anything to do."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run *coroutine* in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)


def agent(name: str, order: int = 1, **more: Any) -> Agent:
    settings: dict[str, Any] = {"type": "ipmilan", "username": "admin", "password": Secret("s3cr3t"), **more}
    return Agent(address=name, order=order, **settings)


def host(*agents: Agent, concurrent: bool = False, name: str = "host1", **more: Any) -> Host:
    settings: dict[str, Any] = {"status": HostStatus.MAINTENANCE, "cluster_id": UUID(int=1), **more}
    return Host(
        id=uuid.uuid5(UUID(int=0), name),
        name=name,
        address=f"{name}.lab",
        power_management=PowerManagement(enabled=True, agents=agents, concurrent=concurrent),
        **settings,
    )


def dual(name: str = "host1", **more: Any) -> Host:
    """A host with two supplies."""
    return host(agent(f"{name}-a", 1), agent(f"{name}-b", 2), concurrent=True, name=name, **more)


def pair(name: str = "host1", **more: Any) -> Host:
    """A host with two ways to one supply."""
    return host(agent(f"{name}-a", 1), agent(f"{name}-b", 2), name=name, **more)


def options(text: str) -> Options:
    return Options(text)


def rack_of(*hosts: Host, **settings: Any) -> Rack:
    return Rack.serving([a for h in hosts for a in h.power_management.agents], **settings)


QUICK = Timing(delay=1.0, retries=6)


def patience(**more: Any) -> Patience:
    return Patience(**{"start": QUICK, "stop": QUICK, "command": lambda _: 3.0, "look": lambda _: 1.0, **more})


def executor(rack: Rack, **more: Any) -> FenceExecutor:
    driver = SimulatedDriver(rack)
    settings: dict[str, Any] = {
        "drivers": {"ipmi": driver, "fence_agents": driver, "simulated": driver},
        "patience": patience(),
        "policy": Policy(),
        **more,
    }
    return FenceExecutor(**settings)


async def only(reports: AsyncIterator[Report]) -> Any:
    """Return the one report there is."""
    (report,) = [report async for report in reports]
    return report


def executed(rack: Rack) -> list[tuple[str, str]]:
    """(address, action) of every on and off that reached a device, in order."""
    return [(entry.address, entry.action.value) for entry in rack.log if entry.action.value != "status"]


@dataclass
class Heard:
    """A listener that keeps what it hears."""

    events: list[Event] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def sent(self) -> list[tuple[str, str]]:
        return [(e.agent.address or "", e.action.value) for e in self.events if isinstance(e, Sent)]

    @property
    def conclusions(self) -> list[str]:
        return [event.remark.conclusion.value for event in self.events if isinstance(event, Noticed)]


class MemoryJournal:
    """A journal in memory that can be told to fail."""

    def __init__(self, past: Past | None = None) -> None:
        self.lines: list[tuple[Any, ...]] = []
        self.known = past or Past()
        self.fails: set[str] = set()
        self.slow: float = 0.0

    def _may(self, what: str) -> None:
        if what in self.fails:
            raise DatabaseUnreachable("the journal is gone") if what != "record" else RuntimeError("broken")

    async def past(self, host_id: UUID) -> Past:
        self._may("past")
        return self.known

    async def started(self, request: Request, unfinished: Unfinished | None) -> None:
        self._may("started")
        await asyncio.sleep(0)
        self.lines.append(("started", request.operation.value, unfinished and unfinished.operation_id))

    async def record(self, events: Sequence[Event]) -> None:
        await asyncio.sleep(self.slow)
        self._may("record")
        self.lines.extend(("event", type(event).__name__) for event in events)

    async def finished(self, request: Request, outcome: Outcome, seconds: float) -> None:
        self._may("finished")
        self.lines.append(("finished", outcome.succeeded, request.resumes))

    async def alert(self, request: Request, what: Outcome | Refused) -> None:
        self._may("alert")
        self.lines.append(("alert", request.operation.value, type(what).__name__))

    async def history(self, host_id: UUID, *, limit: int = 100) -> list[Any]:
        return []

    async def confirm(self, host_id: UUID, origin: Origin) -> int:
        return 0

    async def close(self) -> None:
        self.lines.append(("closed",))


class MemoryLock:
    """A lock in memory; ``lost`` makes every check fail."""

    def __init__(self) -> None:
        self.held: dict[UUID, Request] = {}
        self.checks = 0
        self.lost_after: int | None = None

    async def acquire(self, request: Request) -> MemoryHeld:
        if request.host.id in self.held:
            raise Locked("host is locked", holder=str(self.held[request.host.id].origin))
        self.held[request.host.id] = request
        return MemoryHeld(self, request)

    async def close(self) -> None:
        pass


@dataclass
class MemoryHeld:
    lock: MemoryLock
    request: Request

    async def check(self) -> bool:
        self.lock.checks += 1
        return self.lock.lost_after is None or self.lock.checks <= self.lock.lost_after

    async def release(self) -> None:
        self.lock.held.pop(self.request.host.id, None)
