"""The executor on a simulated rack in virtual time: what leaves, in which order, and what is said of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import stage

from pmcompat.errors import DatabaseUnreachable, Locked, Refused
from pmcompat.fence.commands import Answer
from pmcompat.fence.events import Began, Ending, Finished
from pmcompat.fence.exits import code_of
from pmcompat.fence.flow import Timing
from pmcompat.fence.policy import Policy
from pmcompat.model import Action, Agent, FaultKind, HostStatus, Mode, Operation, PowerStatus, Stage


def test_restart_of_two_supplies_sends_off_off_on_on() -> None:
    host = stage.dual()
    rack = stage.rack_of(host, answer_after=0.005, settle_off=0.5)

    async def scene() -> Any:
        async with stage.executor(rack) as executor:
            return await executor.arestart(host)

    outcome = stage.run(scene())
    assert [action for _, action in stage.executed(rack)] == ["off", "off", "on", "on"]
    assert outcome.succeeded
    assert not outcome.degraded
    assert outcome.mode is Mode.CONCURRENT
    assert outcome.stage is Stage.DONE
    assert all(result.reached and result.asked is Action.ON for result in outcome.agents)


def test_an_instant_restart_costs_six_answers_and_no_pause() -> None:
    """Look, off, off read, off read again, on, on read: the devices' own time and not a poll more."""
    host = stage.dual()
    rack = stage.rack_of(host, answer_after=0.005)

    async def scene() -> float:
        async with stage.executor(rack) as executor:
            reports = [report async for report in executor.amany(Operation.RESTART, [host])]
            return reports[0].seconds

    assert stage.run(scene()) == pytest.approx(0.030, abs=0.002)


def test_a_dead_first_agent_costs_one_look() -> None:
    host = stage.pair()
    rack = stage.rack_of(host)
    rack.break_device("host1-a", silent=True)
    heard = stage.Heard()

    async def scene() -> Any:
        async with stage.executor(rack, on_event=heard) as executor:
            reports = [report async for report in executor.amany(Operation.STOP, [host])]
            return reports[0]

    report = stage.run(scene())
    assert report.outcome.succeeded
    assert report.seconds < 1.2
    assert "later agent used" in heard.conclusions
    assert any("put behind" in note for note in report.outcome.notes)


def test_keep_order_spends_the_first_agents_time() -> None:
    host = stage.pair()
    rack = stage.rack_of(host)
    rack.break_device("host1-a", silent=True)

    async def scene() -> Any:
        async with stage.executor(rack, patience=stage.patience(keep_order=True)) as executor:
            return await stage.only(executor.amany(Operation.STOP, [host]))

    report = stage.run(scene())
    assert report.outcome.succeeded
    assert report.seconds > 4


@pytest.mark.parametrize(
    ("operation", "faults", "code", "power"),
    [
        ("stop", {"refuses_login": True}, 6, "unknown"),
        ("stop", {"unreachable": True}, 4, "unknown"),
        ("stop", {"silent": True}, 4, "unknown"),
        ("restart", {"silent": True}, 4, "unknown"),
        ("start", {"unreachable": True}, 4, "unknown"),
        ("stop", {"ignores": {Action.OFF: -1}}, 1, "on"),
        ("stop", {"loses": {Action.OFF: -1}}, 1, "on"),
        ("stop", {"unknown_reads": -1}, 7, "unknown"),
        ("status", {"refuses_login": True}, 6, "unknown"),
    ],
)
def test_the_exit_code_says_what_is_known(operation: str, faults: dict[str, Any], code: int, power: str) -> None:
    host = stage.host(stage.agent("bmc"))
    rack = stage.rack_of(host)
    rack.break_device("bmc", **faults)

    async def scene() -> Any:
        async with stage.executor(rack) as executor:
            return await stage.only(executor.amany(Operation(operation), [host]))

    report = stage.run(scene())
    assert report.code == code, report.outcome
    assert report.outcome.power.value == power
    assert "s3cr3t" not in str(report.as_json())


def test_nothing_is_sent_to_a_level_that_cannot_be_confirmed() -> None:
    """One dead supply of two: no off leaves, because a half-dark host helps nobody and could not be told from a dark one."""
    host = stage.dual()
    rack = stage.rack_of(host)
    rack.break_device("host1-b", silent=True)

    async def scene() -> Any:
        async with stage.executor(rack) as executor:
            return await executor.astop(host)

    outcome = stage.run(scene())
    assert not outcome.succeeded
    assert stage.executed(rack) == []
    assert code_of(outcome) == 4


def test_a_start_with_one_dead_supply_is_a_degraded_success() -> None:
    host = stage.dual(status=HostStatus.DOWN)
    rack = stage.rack_of(host, power=PowerStatus.OFF)
    rack.break_device("host1-b", silent=True)

    async def scene() -> Any:
        async with stage.executor(rack) as executor:
            return await executor.astart(host)

    outcome = stage.run(scene())
    assert outcome.succeeded
    assert outcome.degraded
    assert code_of(outcome) == 0
    assert [(r.agent.address, r.reached) for r in outcome.agents] == [("host1-a", True), ("host1-b", False)]


def test_a_half_done_stop_names_what_is_off() -> None:
    host = stage.dual()
    rack = stage.rack_of(host)
    rack.break_device("host1-b", ignores={Action.OFF: -1})

    async def scene() -> Any:
        async with stage.executor(rack) as executor:
            return await executor.astop(host)

    outcome = stage.run(scene())
    assert not outcome.succeeded
    assert outcome.power is PowerStatus.ON
    assert any(note.startswith("half done: off: primary ipmilan at host1-a") for note in outcome.notes)
    assert outcome.agents[1].fault is not None


def test_an_agents_own_wait_moves_its_first_poll() -> None:
    """L-32: changing the power wait changes the timetable."""
    times = {}
    for wait in (0.0, 4.0):
        host = stage.host(stage.agent("bmc", options=stage.options(f"power_wait={wait:g}")))
        rack = stage.rack_of(host)

        async def scene(host: Any = host, rack: Any = rack, wait: float = wait) -> float:
            patience = stage.patience(minimum=lambda _: wait)
            async with stage.executor(rack, patience=patience) as executor:
                return (await stage.only(executor.amany(Operation.STOP, [host]))).seconds

        times[wait] = stage.run(scene())
    assert times[4.0] - times[0.0] == pytest.approx(4.0)


# Deadlines and the point of no return.


def test_a_wait_that_is_no_number_is_refused_and_not_taken_for_none() -> None:
    """B-46: neither driver is told of ``power_wait``, so nobody else would notice."""
    host = stage.host(stage.agent("bmc", options=stage.options("power_wait=4s")))
    rack = stage.rack_of(host)

    async def scene() -> Any:
        async with stage.executor(rack) as executor:
            return await executor.arestart(host)

    outcome = stage.run(scene())
    assert stage.executed(rack) == []
    assert outcome.agents[0].fault.kind is FaultKind.UNSUPPORTED
    assert "power_wait is not a number of seconds" in outcome.agents[0].fault.message


def test_a_deadline_shorter_than_one_confirmation_is_refused_beforehand() -> None:
    host = stage.dual()
    rack = stage.rack_of(host)

    async def scene() -> None:
        async with stage.executor(rack) as executor:
            await executor.astop(host, deadline=4.0)

    with pytest.raises(Refused, match="shorter"):
        stage.run(scene())
    assert rack.log == ()


def test_a_deadline_ends_a_stop_that_is_not_obeyed() -> None:
    host = stage.host(stage.agent("bmc"))
    rack = stage.rack_of(host)
    rack.break_device("bmc", ignores={Action.OFF: -1})

    async def scene() -> Any:
        patience = stage.patience(stop=Timing(delay=1.0, retries=21), minimum=lambda _: 0.0)
        async with stage.executor(rack, patience=patience) as executor:
            return await stage.only(executor.amany(Operation.STOP, [host], deadline=20.0))

    report = stage.run(scene())
    assert report.seconds <= 20.05
    assert (report.code, report.outcome.power) in {(5, PowerStatus.ON), (1, PowerStatus.ON)}


def interrupted(host: Any, rack: Any, after: float, *, reasons: tuple[str, ...] = ("SIGTERM",), **more: Any) -> Any:
    async def scene() -> Any:
        executor = stage.executor(rack, **more)
        task = asyncio.ensure_future(executor.arestart(host))
        await asyncio.sleep(after)
        for reason in reasons:
            executor.end(reason)
            await asyncio.sleep(0)
        outcome = await task
        await executor.aclose()
        return outcome

    return stage.run(scene())


@pytest.mark.parametrize("after", [0.001, 0.004, 0.006, 0.011, 0.013, 0.1, 0.5, 0.53, 0.6, 0.9, 1.02, 1.1, 1.3, 1.53, 1.8])
def test_a_signal_never_leaves_a_host_dark_nor_lights_one_that_is_not(after: float) -> None:
    """Whatever the moment: nothing was sent, or the host ends lit, and no on left before both supplies were dark."""
    host = stage.dual()
    rack = stage.rack_of(host, answer_after=0.005, settle_off=0.5, settle_on=0.5)
    outcome = interrupted(host, rack, after)
    sent = [action for _, action in stage.executed(rack)]
    assert sent in ([], ["off", "off", "on", "on"])
    if sent:
        first_on = next(entry.at for entry in rack.log if entry.action is Action.ON)
        assert all(rack.power(f"host1-{x}", at=first_on) is PowerStatus.OFF for x in "ab")
        assert outcome.succeeded
    else:
        assert outcome.stage is Stage.NOT_TOUCHED
        assert not outcome.uncertain


def test_a_signal_while_a_supply_ignores_off_sends_nothing_more() -> None:
    host = stage.dual()
    rack = stage.rack_of(host, answer_after=0.005)
    rack.break_device("host1-b", ignores={Action.OFF: -1})
    outcome = interrupted(host, rack, 2.0)
    assert [action for _, action in stage.executed(rack)] == ["off", "off"]
    assert outcome.ended_by == "SIGTERM"
    assert outcome.stage is Stage.GOING_OFF
    assert not outcome.succeeded


def test_a_second_signal_ends_at_once() -> None:
    host = stage.dual()
    rack = stage.rack_of(host, answer_after=0.005, settle_off=0.5)
    outcome = interrupted(host, rack, 0.1, reasons=("SIGINT", "SIGINT"))
    assert [action for _, action in stage.executed(rack)] == ["off", "off"]
    assert not outcome.succeeded


LONG = Timing(delay=1.0, retries=9)


def ended_late(verb: str, power: PowerStatus, *, settle: float, deadline: float) -> Any:
    """Return the outcome of an operation whose deadline came while a device was taking its time."""
    host = stage.dual()
    rack = stage.rack_of(host, power=power, settle_off=settle, settle_on=settle)

    async def scene() -> Any:
        async with stage.executor(rack, patience=stage.patience(start=LONG, stop=LONG)) as executor:
            return await stage.only(executor.amany(Operation(verb), [host], deadline=deadline))

    return stage.run(scene()).outcome


def test_what_is_on_its_way_when_the_deadline_comes_is_uncertain() -> None:
    """It was called known, and the host went the other way a few seconds later."""
    outcome = ended_late("start", PowerStatus.OFF, settle=4.0, deadline=1.0)
    assert outcome.ended_by == "deadline"
    assert outcome.uncertain
    assert outcome.power is PowerStatus.UNKNOWN


def test_what_was_watched_for_its_whole_budget_is_known_when_the_deadline_comes() -> None:
    outcome = ended_late("stop", PowerStatus.ON, settle=60.0, deadline=8.0)
    assert (outcome.ended_by, outcome.uncertain, outcome.power) == ("deadline", False, PowerStatus.ON)


def test_an_on_of_the_duty_that_has_not_shown_is_uncertain() -> None:
    host = stage.dual()
    rack = stage.rack_of(host, answer_after=0.005, settle_off=0.5, settle_on=6.0)
    outcome = interrupted(host, rack, 0.1)
    assert [action for _, action in stage.executed(rack)] == ["off", "off", "on", "on"]
    assert not outcome.succeeded
    assert outcome.uncertain


def test_the_first_signal_after_a_deadline_leaves_the_duty_alone() -> None:
    """Taken for a second one, it left the host dark."""
    host = stage.dual()
    rack = stage.rack_of(host, answer_after=0.005, settle_off=4.5)

    async def scene() -> Any:
        async with stage.executor(rack, patience=stage.patience(stop=Timing(delay=1.0, retries=4))) as executor:
            task = asyncio.ensure_future(executor.arestart(host, deadline=3.0))
            await asyncio.sleep(3.4)
            executor.end("SIGINT")
            return await task

    assert stage.run(scene()).succeeded
    assert [action for _, action in stage.executed(rack)] == ["off", "off", "on", "on"]


def test_a_signal_while_started_is_written_leaves_no_open_record() -> None:
    host, journal = stage.dual(), stage.MemoryJournal()
    rack = stage.rack_of(host)
    written = journal.started

    async def slow(request: Any, unfinished: Any) -> None:
        await asyncio.sleep(1.0)
        await written(request, unfinished)

    journal.started = slow  # type: ignore[method-assign]

    async def scene() -> Any:
        async with stage.executor(rack, journal=journal) as executor:
            task = asyncio.ensure_future(executor.arestart(host))
            await asyncio.sleep(0.5)
            executor.end("SIGTERM")
            with pytest.raises(Refused, match="not begun"):
                await task

    stage.run(scene())
    assert [line[0] for line in journal.lines] == ["started", "finished", "closed"]
    assert not rack.log


def test_waiting_for_a_shared_device_is_not_a_hosts_time() -> None:
    """Six hosts behind one slow PDU: the last were called failed without having been asked."""
    shared = [stage.host(stage.agent("pdu", options=stage.options(f"plug={i}"), type="apc"), name=f"h{i}") for i in range(6)]
    rack = stage.rack_of(*shared, answer_after=2.5)

    async def scene() -> list[Any]:
        async with stage.executor(rack, policy=Policy(per_device=1)) as executor:
            return [report async for report in executor.amany(Operation.STATUS, shared)]

    reports = stage.run(scene())
    assert [report.code for report in reports] == [0] * 6


def test_a_cancelled_restart_does_its_duty_first() -> None:
    host = stage.dual()
    rack = stage.rack_of(host, answer_after=0.005, settle_off=0.5)

    async def scene() -> None:
        async with stage.executor(rack) as executor:
            task = asyncio.ensure_future(executor.arestart(host))
            await asyncio.sleep(0.1)
            task.cancel()
            await task

    with pytest.raises(asyncio.CancelledError):
        stage.run(scene())
    assert [action for _, action in stage.executed(rack)] == ["off", "off", "on", "on"]


# Journal and lock.


def test_started_is_written_before_the_first_packet() -> None:
    host, journal = stage.dual(), stage.MemoryJournal()
    rack = stage.rack_of(host)
    seen: list[int] = []

    def listen(event: Any) -> None:
        if isinstance(event, Began):
            seen.append(len(rack.log))
            assert journal.lines == [("started", "restart", None)]

    async def scene() -> None:
        async with stage.executor(rack, journal=journal, on_event=listen) as executor:
            await executor.arestart(host)

    stage.run(scene())
    assert seen == [0]
    assert ("finished", True, None) in journal.lines


@pytest.mark.parametrize("when", ["past", "started"])
def test_a_journal_that_cannot_say_started_stops_everything(when: str) -> None:
    host, journal = stage.dual(), stage.MemoryJournal()
    rack = stage.rack_of(host)
    journal.fails = {when}

    async def scene() -> None:
        async with stage.executor(rack, journal=journal, lock=stage.MemoryLock()) as executor:
            await executor.arestart(host)

    with pytest.raises(DatabaseUnreachable):
        stage.run(scene())
    assert rack.log == ()


def test_after_the_first_packet_no_failure_of_journal_or_listener_changes_the_flow() -> None:
    """B-11, law F7."""
    host, journal = stage.dual(), stage.MemoryJournal()
    rack = stage.rack_of(host)
    journal.fails = {"record", "finished"}

    def listen(_event: Any) -> None:
        raise RuntimeError("a wrong placeholder in a log message")

    async def scene() -> Any:
        async with stage.executor(rack, journal=journal, on_event=listen) as executor:
            return await executor.arestart(host)

    outcome = stage.run(scene())
    assert outcome.succeeded
    assert any("journal" in note for note in outcome.notes)


def test_a_slow_journal_does_not_slow_the_flow() -> None:
    host, journal = stage.dual(), stage.MemoryJournal()
    rack = stage.rack_of(host, answer_after=0.005)
    journal.slow = 2.0

    async def scene() -> float:
        async with stage.executor(rack, journal=journal) as executor:
            return (await stage.only(executor.amany(Operation.RESTART, [host]))).seconds

    assert stage.run(scene()) < 0.05


@pytest.mark.parametrize(("checks", "sent"), [(0, []), (1, ["off"]), (2, ["off", "off"]), (3, ["off", "off", "on"])])
def test_a_lost_lock_ends_everything_at_once(checks: int, sent: list[str]) -> None:
    """F6: when the lock is gone nothing more is sent, not even what a restart owes; the outcome is uncertain."""
    host, lock = stage.dual(), stage.MemoryLock()
    rack = stage.rack_of(host, answer_after=0.005)
    lock.lost_after = checks

    async def scene() -> Any:
        async with stage.executor(rack, lock=lock) as executor:
            return await executor.arestart(host)

    outcome = stage.run(scene())
    assert [action for _, action in stage.executed(rack)] == sent
    assert outcome.ended_by == "lost lock"
    assert code_of(outcome) == 7
    assert lock.held == {}


def test_identical_requests_join_and_different_ones_are_refused() -> None:
    host = stage.dual()
    rack = stage.rack_of(host, answer_after=0.01)

    async def scene() -> tuple[Any, Any]:
        async with stage.executor(rack) as executor:
            first = asyncio.ensure_future(executor.arestart(host))
            second = asyncio.ensure_future(executor.arestart(host))
            await asyncio.sleep(0.005)
            with pytest.raises(Locked) as refused:
                await executor.astop(host)
            assert refused.value.holder
            status = await executor.astatus(host)
            assert status.succeeded
            return await first, await second

    first, second = stage.run(scene())
    assert first is second
    assert [action for _, action in stage.executed(rack)] == ["off", "off", "on", "on"]


def test_another_executor_is_told_who_holds_the_host() -> None:
    host, lock = stage.dual(), stage.MemoryLock()
    rack = stage.rack_of(host, answer_after=0.01)

    async def scene() -> str:
        async with stage.executor(rack, lock=lock) as one, stage.executor(rack, lock=lock) as other:
            first = asyncio.ensure_future(one.arestart(host))
            await asyncio.sleep(0.005)
            with pytest.raises(Locked) as refused:
                await other.astop(host)
            await first
            return refused.value.holder

    assert "process" in stage.run(scene())


def test_a_driver_that_breaks_or_hangs_is_an_answer() -> None:
    class Broken:
        async def perform(self, agent: Agent, action: Action, *, deadline: float) -> Answer:
            if agent.address == "hangs":
                await asyncio.sleep(10_000)
            raise ValueError("s3cr3t")

        async def close(self) -> None:
            pass

    async def scene() -> Any:
        host = stage.host(stage.agent("breaks"), stage.agent("hangs"))
        async with stage.executor(stage.rack_of(), drivers={"ipmi": Broken()}) as executor:
            return await stage.only(executor.amany(Operation.STATUS, [host]))

    report = stage.run(scene())
    assert report.code == 1
    assert report.seconds < 3.2
    assert "s3cr3t" not in str(report.as_json())


def test_the_events_begin_and_end_every_request() -> None:
    host, heard = stage.dual(), stage.Heard()
    rack = stage.rack_of(host)

    async def scene() -> None:
        async with stage.executor(rack, on_event=heard) as executor:
            await executor.arestart(host)

    stage.run(scene())
    assert isinstance(heard.events[0], Began)
    assert isinstance(heard.events[-1], Finished)
    assert [action for _, action in heard.sent if action != "status"] == ["off", "off", "on", "on"]
    assert heard.conclusions == ["confirmed", "confirmed"]
    assert not any(isinstance(event, Ending) for event in heard.events)
