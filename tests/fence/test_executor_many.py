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
from pmcompat.fence.policy import Policy
from pmcompat.model import Action, Agent, Operation, PowerStatus


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


def test_hosts_at_once_and_commands_per_device_are_bounded() -> None:
    shared = [
        stage.host(stage.agent("pdu", type="apc_snmp", options=stage.options(f"port={i}")), name=f"h{i}") for i in range(9)
    ]
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

    async def scene(policy: Policy) -> int:
        busy["most"] = 0
        drivers = {"fence_agents": Counting()}
        async with stage.executor(stage.rack_of(), drivers=drivers, policy=policy) as executor:
            assert all([report.outcome is not None async for report in executor.amany(Operation.STOP, shared)])
        return busy["most"]

    assert stage.run(scene(Policy())) == 9
    assert stage.run(scene(Policy(per_device=2))) == 2
    assert stage.run(scene(Policy(hosts_at_once=3))) == 3


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
