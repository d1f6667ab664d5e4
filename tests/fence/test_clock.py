"""A clock of the caller's: everything the executor waits for goes by it, on an ordinary event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from stage import dual, run

from pmcompat.fence.allowances import patience
from pmcompat.fence.drivers.simulated import Device, Rack, SimulatedDriver
from pmcompat.fence.events import Answered
from pmcompat.fence.executor import FenceExecutor
from pmcompat.fence.flow import Timing
from pmcompat.model import Action, FaultKind, Operation, PowerStatus

SLOW = Timing(delay=60.0, retries=61)  # an hour


class Hasty:
    """Shows a thousand seconds for each that passes."""

    SPEED = 1000.0

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.began = self.loop.time()
        self.calls: list[float] = []

    def time(self) -> float:
        return 5e6 + (self.loop.time() - self.began) * self.SPEED

    def call_later(self, delay: float, callback: Callable[..., object], *args: object) -> asyncio.TimerHandle:
        self.calls.append(delay)
        return self.loop.call_later(delay / self.SPEED, callback, *args)


async def report(make: Callable[[Rack], object] = SimulatedDriver, *, deadline: float | None = None, ignores: int = 0):
    """Stop a host whose devices need ten minutes for an off."""
    host, clock = dual(), Hasty()
    rack = Rack((Device(address=agent.address, settle_off=600.0) for agent in host.power_management.agents), clock=clock.time)
    for agent in host.power_management.agents:
        rack.break_device(agent.address, ignores={Action.OFF: ignores})
    heard = []
    began = clock.loop.time()
    async with FenceExecutor(
        {"ipmi": make(rack)},
        clock=clock,
        patience=patience(start=SLOW, stop=SLOW),
        on_event=heard.append,
    ) as fencer:
        (found,) = [one async for one in fencer.amany(Operation.STOP, [host], deadline=deadline)]
    return found, heard, clock.loop.time() - began


def test_ten_minutes_of_a_device_pass_in_a_moment_and_are_told_as_ten_minutes():
    found, heard, took = asyncio.run(report())
    assert found.outcome.succeeded
    assert found.outcome.power is PowerStatus.OFF
    assert 600 <= found.seconds < 1500
    assert took < 30
    assert [event.at for event in heard] == sorted(event.at for event in heard)


def test_a_deadline_is_one_of_that_clock():
    found, _, took = asyncio.run(report(deadline=4000.0, ignores=-1))
    assert found.outcome.ended_by in {"deadline", None}
    assert not found.outcome.succeeded
    assert found.seconds <= 4200
    assert took < 30


class Hangs(SimulatedDriver):
    """Never answers an off."""

    async def perform(self, agent, action, *, deadline):
        if action is Action.OFF:
            await asyncio.Event().wait()
        return await super().perform(agent, action, deadline=deadline)


def test_a_driver_that_hangs_is_given_up_by_that_clock():
    _, heard, took = asyncio.run(report(Hangs))
    off = [event for event in heard if isinstance(event, Answered) and event.action is Action.OFF]
    assert {event.answer.kind for event in off} == {FaultKind.TIMEOUT}
    assert all(8.0 <= event.took < 1000 for event in off)
    assert took < 30


@pytest.mark.parametrize("speed", [1000.0])
def test_without_a_clock_the_event_loops_counts(speed):
    """Virtual time is a loop of its own, and nobody else's business."""

    async def work():
        loop = asyncio.get_running_loop()
        host = dual()
        rack = Rack.serving(host.power_management.agents, settle_off=600.0)
        async with FenceExecutor({"ipmi": SimulatedDriver(rack)}, patience=patience(start=SLOW, stop=SLOW)) as fencer:
            began = loop.time()
            outcome = await fencer.astop(host)
            return outcome, loop.time() - began

    outcome, took = run(work())
    assert outcome.succeeded
    assert took >= speed * 0.6
