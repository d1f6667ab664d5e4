"""The IPMI driver: ``on``, ``off`` and ``status`` of a BMC over IPMI 2.0, by pyghmi in worker processes.

What lives here: the way of one command: whose door it is, which address answers there, the worker's report as an answer.
pyghmi is not safe with threads and cannot be stopped from inside, so it lives in processes that can be killed
(DESIGN §3, fencing facts §9): :mod:`~pmcompat.fence.drivers.ipmi_pool` decides which,
:mod:`~pmcompat.fence.drivers.ipmi_worker` speaks.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time

from pmcompat.fence.commands import ACCEPTED, Answer
from pmcompat.fence.drivers.ipmi_door import Door, door_of
from pmcompat.fence.drivers.ipmi_jobs import Bmc, IpmiSettings, Job
from pmcompat.fence.drivers.ipmi_pool import Pool
from pmcompat.fence.drivers.ipmi_probe import Answered, reach
from pmcompat.fence.drivers.ipmi_wire import Report
from pmcompat.fence.remembered import Remembered
from pmcompat.model import Action, Agent, AgentFault, FaultKind, PowerStatus

__all__ = ["IpmiDriver", "IpmiSettings"]

#: seconds after an agent's last command within which the next one belongs to an operation that has begun
_BEGUN = 30.0
#: a packet is sent again after a fixed time and some round trips, within these bounds of seconds
_PATIENCE, _ROUND_TRIPS, _LONGEST_PATIENCE = 0.25, 4, 1.0


class IpmiDriver:
    """Driver for types ``ipmilan``, ``ilo3``, ``ilo4`` and ``drac7``; see :class:`~pmcompat.fence.drivers.Driver`.

    Its processes start with the first command, or with :meth:`start`. One event loop uses it; not shared between threads.
    """

    def __init__(self, settings: IpmiSettings | None = None) -> None:
        self._settings = settings or IpmiSettings()
        self._pool: Pool | None = None
        self._bmcs: dict[tuple[str, int], Bmc] = {}
        self._door = Remembered(door_of)
        self._closed = False

    def __repr__(self) -> str:
        return f"IpmiDriver({self._settings!r})"

    def start(self) -> None:
        """Start the worker processes now instead of with the first command, without waiting for them (about 0.15 s)."""
        self._ready().start()

    async def perform(self, agent: Agent, action: Action, *, deadline: float) -> Answer:
        """Ask *agent* for *action*; see :class:`~pmcompat.fence.drivers.Driver`."""
        if time.monotonic() >= deadline:
            return AgentFault(kind=FaultKind.TIMEOUT, message="the deadline passed before the device was asked")
        door = self._door(agent)
        if isinstance(door, AgentFault):
            return door
        bmc = self._bmcs.setdefault((door.host, door.port), Bmc())
        pool = self._ready()
        begun = time.monotonic() - bmc.ordered < _BEGUN
        bmc.ordered = time.monotonic()
        if not pool.lingers(door) and time.monotonic() - bmc.heard > self._settings.heard_within:
            pool.start()  # beside the question whether anybody is there
            fault = await self._reach(door, bmc, deadline)
            if fault is not None:
                return _named(fault, door)
        outcome = await pool.ask(self._job(action.value, door, bmc, deadline, follow_up=begun))
        return _answer(outcome, door)

    async def close(self) -> None:
        """End all processes; see :class:`~pmcompat.fence.drivers.Driver`. Commands under way become faults."""
        self._closed = True
        if self._pool is not None:
            await self._pool.close()

    def _ready(self) -> Pool:
        if self._pool is None:
            self._pool = Pool(self._settings, asyncio.get_running_loop())
        return self._pool

    def _job(self, do: str, door: Door, bmc: Bmc, deadline: float, *, follow_up: bool) -> Job:
        answer = asyncio.get_running_loop().create_future()
        return Job(do=do, door=door, bmc=bmc, deadline=deadline, answer=answer, follow_up=follow_up)

    async def _reach(self, door: Door, bmc: Bmc, deadline: float) -> AgentFault | None:
        """Find the address that answers behind *door*; a fault if none does."""
        if self._closed:
            return AgentFault(kind=FaultKind.FAILED, message="the IPMI driver was closed before the device was asked")
        hosts = await self._addresses(door, deadline)
        if isinstance(hosts, AgentFault):
            return hosts
        patience = door.connect_timeout or self._settings.connect_timeout
        left = deadline - time.monotonic()
        found = await reach(hosts, door.port, within=max(min(patience, left), 0))
        if not isinstance(found, Answered):
            return found
        bmc.host, bmc.heard = found.host, time.monotonic()
        bmc.patience = min(_PATIENCE + _ROUND_TRIPS * found.seconds, _LONGEST_PATIENCE)
        return None

    async def _addresses(self, door: Door, deadline: float) -> list[str] | AgentFault:
        """Return the numeric addresses of a host. Names are looked up in a worker: nothing else can be stopped in time."""
        try:
            ipaddress.ip_address(door.host)
        except ValueError:
            pass
        else:
            return [door.host]
        until = min(deadline, time.monotonic() + self._settings.name_timeout)
        outcome = await self._ready().ask(self._job("resolve", door, Bmc(), until, follow_up=False))
        if isinstance(outcome, AgentFault):
            late = outcome.kind is FaultKind.TIMEOUT
            return AgentFault(kind=FaultKind.UNREACHABLE, message="the name was not resolved in time") if late else outcome
        return outcome.get("addresses") or AgentFault(kind=FaultKind.UNREACHABLE, message="the name is not known")


def _answer(outcome: Report | AgentFault, door: Door) -> Answer:
    """Return a worker's report as the driver's answer."""
    if isinstance(outcome, AgentFault):
        return _named(outcome, door)
    if "power" in outcome:
        return PowerStatus(outcome["power"])
    if outcome.get("accepted"):
        return ACCEPTED
    kind = FaultKind(outcome.get("fault", FaultKind.FAILED.value))
    message = outcome.get("message") or "the device could not be asked"
    return _named(AgentFault(kind=kind, message=message, sent=outcome.get("sent", False)), door)


def _named(fault: AgentFault, door: Door) -> AgentFault:
    """Return *fault* with the device's name in front of its message."""
    return AgentFault(kind=fault.kind, message=f"{door.name}: {fault.message}", sent=fault.sent)
