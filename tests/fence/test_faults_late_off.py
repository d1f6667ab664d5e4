"""An executor that died has sent an ``off`` that shows only later: whoever comes next must not take "on" for the last word."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from typing import Any

import pytest
import stage

from pmcompat.fence.drivers.simulated import Rack
from pmcompat.fence.events import Origin
from pmcompat.fence.protocols import Past, Unfinished
from pmcompat.model import Action, Host, Operation, PowerStatus, Stage

ORIGIN = Origin(user="ann", machine="desk", pid=1)


def left(operation: Operation = Operation.RESTART, *, age: float = 1.0, at: Stage = Stage.GOING_OFF) -> Past:
    found = Unfinished(operation_id=uuid.uuid4(), operation=operation, origin=ORIGIN, age=age, stage=at)
    return Past(unfinished=found, resumable=found if operation is Operation.RESTART else None)


async def dying(rack: Rack, host: Host, plugs: int = 2) -> None:
    """Send ``off`` to the first plugs, and be gone."""
    driver = stage.SimulatedDriver(rack)
    loop = asyncio.get_running_loop()
    for agent in host.power_management.agents[:plugs]:
        await driver.perform(agent, Action.OFF, deadline=loop.time() + 5)


def next_one(verb: str, past: Past, *, settle: float, plugs: int = 2, within: float | None = None) -> tuple[Any, Any, Any]:
    """Let an executor die, and another one do *verb*; return its outcome, the rack, and its journal."""
    host = stage.dual()
    rack = stage.rack_of(host, settle_off=settle)
    journal = stage.MemoryJournal(past)

    async def scene() -> Any:
        await dying(rack, host, plugs)
        async with stage.executor(rack, journal=journal) as executor:
            if within is not None:
                asyncio.get_running_loop().call_later(within, executor.end, "SIGINT")
            outcome = await getattr(executor, f"a{verb}")(host, **({"force": True} if verb == "start" else {}))
        await asyncio.sleep(settle)
        return outcome

    return stage.run(scene()), rack, journal


def powers(rack: Rack) -> set[PowerStatus]:
    return {rack.power(f"host1-{name}") for name in "ab"}


@pytest.mark.parametrize("verb", ["resume", "start"])
def test_it_is_sat_out_and_then_the_host_is_lighted(verb: str) -> None:
    outcome, rack, _ = next_one(verb, left(), settle=2.5)
    assert outcome.succeeded
    assert powers(rack) == {PowerStatus.ON}
    assert [action for _, action in stage.executed(rack)] == ["off", "off", "on", "on"]


def test_a_supply_that_alone_goes_dark_late_is_given_back() -> None:
    outcome, rack, _ = next_one("resume", left(), settle=2.5, plugs=1)
    assert outcome.succeeded
    assert powers(rack) == {PowerStatus.ON}


def test_it_is_sat_out_no_longer_than_an_off_may_take() -> None:
    """The stop's budget here is 5 s, and the operation is 1 s old."""
    host = stage.dual()
    rack = stage.rack_of(host)

    async def scene() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with stage.executor(rack, journal=stage.MemoryJournal(left())) as executor:
            assert (await executor.aresume(host)).succeeded
        return loop.time() - began

    assert 3.9 < stage.run(scene()) < 4.5


@pytest.mark.parametrize("past", [left(age=60), left(at=Stage.OFF), left(Operation.START)])
def test_where_no_off_can_be_under_way_nobody_waits(past: Past) -> None:
    host = stage.dual()
    rack = stage.rack_of(host)

    async def scene() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with stage.executor(rack, journal=stage.MemoryJournal(past)) as executor:
            assert (await executor.astart(host, force=True)).succeeded
        return loop.time() - began

    assert stage.run(scene()) < 0.5


def test_interrupted_meanwhile_it_is_uncertain_and_not_on() -> None:
    outcome, _, _ = next_one("resume", left(), settle=4.0, within=1.0)
    assert outcome.uncertain
    assert outcome.power is PowerStatus.UNKNOWN
    assert not outcome.succeeded


def test_a_status_does_not_settle_what_an_off_may_still_change() -> None:
    outcome, _, journal = next_one("status", left(), settle=2.5)
    assert outcome.power is PowerStatus.ON
    assert [line[0] for line in journal.lines] == ["closed"]
    assert outcome.notes[0].startswith("uncertain still: a restart by ann on desk")
    assert "may still take effect" in outcome.notes[0]


def test_a_status_does_not_settle_a_restart_that_left_a_supply_dark() -> None:
    outcome, _, journal = next_one("status", left(age=60), settle=0.0, plugs=1)
    assert [line[0] for line in journal.lines] == ["closed"]
    assert "resume" in outcome.notes[0]


def test_a_status_says_what_it_settles() -> None:
    outcome, _, journal = next_one("status", left(), settle=0.0)
    assert outcome.power is PowerStatus.OFF
    assert [line[0] for line in journal.lines] == ["started", "finished", "closed"]
    assert outcome.notes[0].startswith("uncertain until now: a restart by ann on desk")


def test_the_off_of_an_operation_that_was_cut_short_is_sat_out_too() -> None:
    """It ended, uncertain: no record is open any more, and "already on" was said of a host that went dark."""
    outcome, rack, _ = next_one("start", Past(late_off=0.5), settle=2.5)
    assert outcome.succeeded
    assert powers(rack) == {PowerStatus.ON}
    assert [action for _, action in stage.executed(rack)] == ["off", "off", "on", "on"]


def test_an_off_is_sat_out_though_a_start_came_and_died_after_it() -> None:
    began = left(Operation.START)
    outcome, rack, _ = next_one("start", replace(began, late_off=1.0), settle=2.5)
    assert outcome.succeeded
    assert powers(rack) == {PowerStatus.ON}
