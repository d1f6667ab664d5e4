"""Each agent reaches its driver, and drivers nobody asks are never built."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import pytest

from pmcompat.fence.commands import ACCEPTED, Answer
from pmcompat.fence.drivers import Driver
from pmcompat.fence.drivers.registry import DriverByAgent, LazyDriver, default_drivers
from pmcompat.fence.drivers.simulated import Rack, SimulatedDriver
from pmcompat.model import Action, Agent, AgentFault, FaultKind, Options, PowerStatus
from pmcompat.options import DRIVERS


def ask(driver: Driver, agent: Agent) -> Answer:
    async def run() -> Answer:
        try:
            return await driver.perform(agent, Action.OFF, deadline=time.monotonic() + 5)
        finally:
            await driver.close()
            await driver.close()

    return asyncio.run(run())


def test_there_is_a_driver_for_every_name_an_option_may_choose():
    assert set(default_drivers()) == set(DRIVERS)


@pytest.mark.parametrize("type_", ["ipmilan", "apc", "drac7", "redfish"])
def test_in_a_simulation_every_type_finds_its_device_in_the_rack(type_: str):
    agent = Agent(type=type_, address="a", username="u")
    rack = Rack.serving([agent])
    assert ask(DriverByAgent(default_drivers(simulate=rack)), agent) == ACCEPTED
    assert rack.power("a") is PowerStatus.OFF


def test_an_agent_whose_settings_are_not_clear_is_a_fault():
    answer = ask(DriverByAgent(default_drivers()), Agent(type="apc", options=Options("ipport=hush")))
    assert isinstance(answer, AgentFault)
    assert (answer.kind, answer.sent) == (FaultKind.UNSUPPORTED, False)
    assert "hush" not in answer.message


def test_a_driver_is_built_when_it_is_first_asked_and_never_after_the_close():
    built: list[SimulatedDriver] = []

    def factory() -> Driver:
        built.append(SimulatedDriver(Rack()))
        return built[-1]

    lazy = LazyDriver(factory)
    asyncio.run(lazy.close())
    assert isinstance(ask(lazy, Agent(type="apc", address="a")), AgentFault)
    assert built == []
    ask(LazyDriver(factory), Agent(type="apc", address="a"))
    assert len(built) == 1


def test_the_table_imports_no_driver_library():
    """``--help`` and the database commands pay for no driver."""
    code = (
        "import sys, pmcompat.fence.drivers.registry as r; r.default_drivers(); print([m for m in sys.modules if m in {names}])"
    )
    names = {"pyghmi", "xml.etree.ElementTree", "pmcompat.fence.drivers.ipmi", "pmcompat.fence.drivers.fence_agents"}
    done = subprocess.run([sys.executable, "-c", code.format(names=names)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
