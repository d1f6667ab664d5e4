"""Many hosts at once, and callers without an event loop."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from typing import Any

import pytest
import stage

from pmcompat.fence.commands import ACCEPTED, Answer
from pmcompat.fence.executor import Report
from pmcompat.fence.policy import Policy
from pmcompat.model import Action, Agent, AgentFault, FaultKind, Host, Operation, Outcome, PowerStatus


def test_a_silent_host_delays_nobody() -> None:
    hosts = [stage.dual(f"h{i}") for i in range(200)]
    rack = stage.rack_of(*hosts, answer_after=0.01)
    for i in range(0, 200, 20):
        rack.break_device(f"h{i}-a", silent=True)

    async def scene() -> list[tuple[str, float, bool]]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with stage.executor(rack) as executor:
            return [
                (report.host.name, loop.time() - began, bool(report.outcome and report.outcome.succeeded))
                async for report in executor.amany(Operation.STOP, hosts)
            ]

    done = stage.run(scene())
    good = [at for _, at, ok in done if ok]
    assert len(done) == 200
    assert len(good) == 190
    assert max(good) < 0.2
    assert sum(action == "off" for _, action in stage.executed(rack)) == 380


class Crowded(stage.SimulatedDriver):
    """Has no place for an agent until its third question; says so when the time given is up."""

    def __init__(self, rack: Any, turns: int) -> None:
        super().__init__(rack)
        self.turns = turns
        self.asked: dict[int, int] = {}

    async def perform(self, agent: Agent, action: Action, *, deadline: float) -> Answer:
        turn = self.asked[id(agent)] = self.asked.get(id(agent), 0) + 1
        if turn > self.turns:
            return await super().perform(agent, action, deadline=deadline)
        await asyncio.sleep(deadline - asyncio.get_running_loop().time())
        return AgentFault(kind=FaultKind.BUSY, message="its turn did not come in time")


def test_waiting_for_ones_turn_is_not_the_devices_silence() -> None:
    """A storm that waits in our own queue put good primaries behind and made their level wait a second more."""
    host = stage.host(stage.agent("first"), stage.agent("second", 2))
    rack = stage.rack_of(host)

    async def scene() -> Outcome:
        async with stage.executor(rack, drivers={"ipmi": Crowded(rack, 3)}) as executor:
            return await executor.astop(host)

    outcome = stage.run(scene())
    assert outcome.succeeded
    assert outcome.notes == ()
    assert stage.executed(rack) == [("first", "off")]


def test_a_turn_that_never_comes_ends_with_the_deadline_and_nothing_was_sent() -> None:
    host = stage.dual()
    rack = stage.rack_of(host)

    async def scene() -> Report:
        async with stage.executor(rack, drivers={"ipmi": Crowded(rack, 10**6)}) as executor:
            return await anext(executor.amany(Operation.STOP, [host], deadline=200))

    report = stage.run(scene())
    assert report.seconds < 201
    assert report.code == 5
    assert stage.executed(rack) == []


def test_who_leaves_the_reports_early_leaves_no_host_dark() -> None:
    """Law F8: closing ends the waiting, not the duty; drivers and lock are closed after that."""
    refused, cut = stage.host(name="refused"), stage.dual("cut")
    rack = stage.rack_of(cut, settle_off=1.0)

    async def scene() -> None:
        async with stage.executor(rack) as executor:
            async for report in executor.amany(Operation.RESTART, [refused, cut]):
                assert report.host is refused
                await asyncio.sleep(0.5)
                break

    stage.run(scene())
    assert [action for _, action in stage.executed(rack)] == ["off", "off", "on", "on"]


def most_at_once(hosts: list[Host], policy: Policy) -> int:
    """Stop the hosts and return how many commands were under way at the same time."""
    busy = {"now": 0, "most": 0}

    class Counting:
        async def perform(self, agent: Agent, action: Action, *, deadline: float) -> Answer:
            busy["now"] += 1
            busy["most"] = max(busy["most"], busy["now"])
            await asyncio.sleep(0.01)
            busy["now"] -= 1
            return PowerStatus.OFF if action is Action.STATUS else ACCEPTED

        async def close(self) -> None:
            pass

    async def scene() -> int:
        drivers = {"fence_agents": Counting()}
        async with stage.executor(stage.rack_of(), drivers=drivers, policy=policy) as executor:
            assert all([report.outcome is not None async for report in executor.amany(Operation.STOP, hosts)])
        return busy["most"]

    return stage.run(scene())


def outlets(*options: str, **more: Any) -> list[Host]:
    """Hosts of one supply each, all of them at one address."""
    found = [stage.agent("pdu", type="apc_snmp", options=stage.options(text), **more) for text in options]
    return [stage.host(agent, name=text) for text, agent in zip(options, found, strict=True)]


def test_hosts_at_once_and_commands_per_device_are_bounded() -> None:
    shared = outlets(*[f"port={i}" for i in range(9)])
    assert most_at_once(shared, Policy()) == 9
    assert most_at_once(shared, Policy(per_device=2)) == 2
    assert most_at_once(shared, Policy(hosts_at_once=3)) == 3


def test_a_device_is_an_address_and_the_network_port_that_its_options_mean() -> None:
    """Law F8: what answers at another port is another device, and waits for nobody; the same port may be written twice."""
    others = outlets(*[f"port=1,ipport={1000 + i}" for i in range(9)])
    assert most_at_once(others, Policy(per_device=1)) == 9
    same = [*outlets("port=1", ip_port=1161), *outlets("port=2,ipport=1161")]
    assert most_at_once(same, Policy(per_device=1)) == 1


def test_a_signal_reports_every_host() -> None:
    hosts = [stage.dual(f"h{i}") for i in range(10)]
    rack = stage.rack_of(*hosts, answer_after=0.05)

    async def scene() -> list[Any]:
        executor = stage.executor(rack, policy=Policy(hosts_at_once=4))
        reports = []
        async for report in executor.amany(Operation.STOP, hosts):
            reports.append(report)
            executor.end("SIGINT")
        return reports

    reports = stage.run(scene())
    assert len(reports) == 10
    assert sum(report.error is not None for report in reports) >= 5
    assert all("not begun" in str(report.error) for report in reports if report.error)


def test_the_plain_form_needs_no_event_loop() -> None:
    host = stage.dual()
    rack = stage.rack_of(host)
    with stage.executor(rack) as executor:
        assert executor.restart(host).succeeded
        assert executor.status(host).power is PowerStatus.ON
        hosts = [stage.dual(f"h{i}") for i in range(3)]
        for other in hosts:
            for agent in other.power_management.agents:
                rack.add(stage.rack_of(other)._live[str(agent.address)].device)
        reports = list(executor.many(Operation.STOP, hosts))
        assert sorted(report.host.name for report in reports) == ["h0", "h1", "h2"]
        assert all(report.outcome and report.outcome.succeeded for report in reports)


def test_the_plain_form_refuses_to_stop_a_loop_that_runs() -> None:
    async def scene() -> None:
        with stage.executor(stage.rack_of()) as executor:
            executor.status(stage.dual())

    with pytest.raises(RuntimeError, match="await"):
        stage.run(scene())


def test_ctrl_c_in_the_plain_form_does_the_duty_and_then_goes_on_its_way() -> None:
    """A real SIGINT in the main thread, in the middle of a restart."""
    host = stage.dual()
    rack = stage.rack_of(host, answer_after=0.005, settle_off=0.4)

    def interrupt() -> None:
        while not any(entry.action is Action.OFF for entry in rack.log):
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with stage.executor(rack) as executor, pytest.raises(KeyboardInterrupt):
        executor.restart(host)
    assert [action for _, action in stage.executed(rack)] == ["off", "off", "on", "on"]
