"""Which drivers there are, and which one an agent goes to.

A driver is one file and one row of the table below. Each is imported and built when its first agent comes, so that a command
that needs none of them pays for none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from pmcompat.errors import CredentialError, ModelError
from pmcompat.fence.commands import Answer
from pmcompat.fence.drivers import Driver
from pmcompat.fence.drivers.simulated import Rack, SimulatedDriver
from pmcompat.model import Action, Agent, AgentFault, FaultKind
from pmcompat.options import DRIVERS, Tables, parameters


def _ipmi(_tables: Tables | None) -> Driver:
    from pmcompat.fence.drivers.ipmi import IpmiDriver

    return IpmiDriver()


def _fence_agents(tables: Tables | None) -> Driver:
    from pmcompat.fence.drivers.fence_agents import FenceAgentsDriver

    return FenceAgentsDriver(tables=tables)


def _simulated(_tables: Tables | None) -> Driver:
    return SimulatedDriver(Rack())


FACTORIES: Mapping[str, Callable[[Tables | None], Driver]] = MappingProxyType(
    {"ipmi": _ipmi, "fence_agents": _fence_agents, "simulated": _simulated}
)


class LazyDriver:
    """A driver that is built when it is first asked."""

    def __init__(self, factory: Callable[[], Driver]) -> None:
        self._factory = factory
        self._driver: Driver | None = None
        self._closed = False

    async def perform(self, agent: Agent, action: Action, *, deadline: float) -> Answer:
        """Ask the driver behind; see :class:`pmcompat.fence.drivers.Driver`."""
        if self._driver is None:
            if self._closed:
                return AgentFault(kind=FaultKind.UNSUPPORTED, message="the driver is closed")
            self._driver = self._factory()
        return await self._driver.perform(agent, action, deadline=deadline)

    async def close(self) -> None:
        """Close the driver behind if there is one. Idempotent."""
        self._closed = True
        if self._driver is not None:
            await self._driver.close()


class DriverByAgent:
    """All drivers as one: each agent goes to the driver its type and its option ``driver`` choose."""

    def __init__(self, drivers: Mapping[str, Driver], *, tables: Tables | None = None) -> None:
        self.drivers = drivers
        self._tables = tables

    async def perform(self, agent: Agent, action: Action, *, deadline: float) -> Answer:
        """Ask the agent's own driver; an agent whose settings are not clear is a fault and nothing is sent."""
        try:
            name = parameters(agent, tables=self._tables).driver
        except ModelError as error:
            return AgentFault(kind=FaultKind.UNSUPPORTED, message=error.what)
        except CredentialError as error:  # a stored password that cannot be decrypted
            return AgentFault(kind=FaultKind.REFUSED, message=error.what)
        if name not in self.drivers:
            return AgentFault(kind=FaultKind.UNSUPPORTED, message=f"the driver {name} is not available here")
        return await self.drivers[name].perform(agent, action, deadline=deadline)

    async def close(self) -> None:
        """Close every driver, each one however the others end. Idempotent."""
        failed: list[Exception] = []
        for driver in dict.fromkeys(self.drivers.values()):
            try:
                await driver.close()
            except Exception as error:  # noqa: BLE001 # collected: one driver's trouble leaves no other's processes behind
                failed.append(error)
        if failed:
            raise ExceptionGroup("drivers did not close", failed)


def default_drivers(*, simulate: Rack | None = None, tables: Tables | None = None) -> dict[str, Driver]:
    """Return driver name → driver, each built when first asked.

    :param simulate: every agent, whatever its type, finds its device in this rack and nowhere else (``--simulate``).
    :param tables: a live engine's own types, mappings and defaults; default: ours of the newest level.
    """
    if simulate is not None:
        return dict.fromkeys(DRIVERS, SimulatedDriver(simulate))
    return {name: LazyDriver(partial(factory, tables)) for name, factory in FACTORIES.items()}
