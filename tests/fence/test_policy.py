"""What is allowed, and the exit codes, as tables."""

from __future__ import annotations

import uuid
from typing import Any
from uuid import UUID

import pytest
import stage

from pmcompat import errors
from pmcompat.fence.events import Origin, Request
from pmcompat.fence.executor import same_device, same_plug
from pmcompat.fence.exits import code_of, code_of_error, code_of_health, code_of_several
from pmcompat.fence.policy import Policy, Rules, plain_identity, refusal, refusal_by_past, storm
from pmcompat.fence.protocols import Past, Unfinished
from pmcompat.model import (
    Action,
    Agent,
    AgentFault,
    AgentResult,
    FaultKind,
    Host,
    HostStatus,
    Mode,
    Operation,
    Outcome,
    PowerManagement,
    PowerStatus,
)

ORIGIN = Origin(user="ann", machine="desk", pid=1)


def rules(**more: Any) -> Rules:
    return Rules(policy=Policy(**more), patience=stage.patience(), identity=same_plug)


def request(operation: str, host: Host, **more: Any) -> Request:
    return Request(**{"operation_id": uuid.uuid4(), "operation": Operation(operation), "host": host, "origin": ORIGIN, **more})


@pytest.mark.parametrize(
    ("operation", "status", "allowed"),
    [
        ("stop", HostStatus.MAINTENANCE, True),
        ("stop", HostStatus.DOWN, True),
        ("stop", HostStatus.UP, False),
        ("stop", HostStatus.NON_RESPONSIVE, False),
        ("stop", None, False),
        ("stop", 99, False),
        ("start", HostStatus.DOWN, True),
        ("start", HostStatus.NON_RESPONSIVE, True),
        ("start", HostStatus.REBOOT, True),
        ("start", HostStatus.MAINTENANCE, True),
        ("start", HostStatus.UP, False),
        ("start", HostStatus.CONNECTING, False),
        ("restart", HostStatus.UP, True),
        ("restart", None, True),
        ("status", HostStatus.UP, True),
    ],
)
def test_what_the_database_must_say(operation: str, status: Any, allowed: bool) -> None:
    """Law F9, B-22; --force overrules."""
    asked = request(operation, stage.dual(status=status))
    assert (refusal(asked, rules()) is None) == allowed
    assert refusal(asked, rules(), force=True) is None
    assert refusal(asked, rules(force=True)) is None


def test_a_host_without_power_management_is_refused_at_once() -> None:
    """B-23, B-53, B-56: a clear refusal for every operation, forced or not."""
    disabled = Host(id=uuid.uuid4(), name="h", address="h", cluster_id=UUID(int=1))
    bare = Host(id=uuid.uuid4(), name="h", address="h", cluster_id=UUID(int=1), power_management=PowerManagement(enabled=True))
    for operation in Operation:
        for host, words in ((disabled, "disabled"), (bare, "no power management agent")):
            refused = refusal(request(operation, host), rules(), force=True)
            assert refused is not None
            assert words in refused.what


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ({}, {}, True),
        ({}, {"username": "other"}, True),
        ({}, {"ip_port": 6230}, False),
        ({}, {"ip_port": 623}, True),
        ({"options": stage.options("plug=1")}, {"options": stage.options("plug=2")}, True),
        ({"type": "apc", "options": stage.options("slot=7")}, {"type": "apc", "options": stage.options("slot=8")}, False),
        (
            {"type": "apc", "options": stage.options("slot=7")},
            {"type": "apc", "options": stage.options("power_wait=2,slot=7")},
            True,
        ),
    ],
)
def test_one_plug_twice_on_a_level_is_refused(first: dict[str, Any], second: dict[str, Any], same: bool) -> None:
    host = stage.host(stage.agent("pdu.lab", 1, **first), stage.agent("PDU.lab", 1, **second))
    refused = refusal(request("restart", host), rules())
    assert (refused is not None) == same
    if refused:
        assert "twice" in refused.what


def test_one_plug_on_two_levels_is_legal() -> None:
    host = stage.host(stage.agent("pdu", 1), stage.agent("pdu", 2))
    assert refusal(request("restart", host), rules()) is None


def test_identity_without_tables_compares_address_port_and_options() -> None:
    one = stage.agent("A", options=stage.options("b=1,a=2"))
    assert plain_identity(one) == plain_identity(stage.agent("a", options=stage.options("a=2, b=1")))
    assert plain_identity(one) != plain_identity(stage.agent("a"))


@pytest.mark.parametrize(
    ("operation", "since", "refused"),
    [
        ("start", {Operation.STOP: 100}, True),
        ("start", {Operation.START: 100}, False),
        ("start", {Operation.STOP: 180}, False),
        ("stop", {Operation.START: 100}, True),
        ("stop", {Operation.RESTART: 100}, True),
        ("stop", {Operation.STOP: 100}, False),
        ("restart", {Operation.START: 100}, True),
        ("restart", {Operation.RESTART: 100, Operation.START: 900}, True),
        ("restart", {Operation.STOP: 1}, False),
        ("status", {Operation.START: 1, Operation.STOP: 1}, False),
    ],
)
def test_quiet_time_looks_at_the_opposite(operation: str, since: dict[Operation, float], refused: bool) -> None:
    asked, past = request(operation, stage.dual()), Past(since=since)
    found = refusal_by_past(asked, rules(quiet_time=180), past)
    assert (found is not None) == refused
    if found:
        assert found.operands["seconds_left"] == 80
    assert refusal_by_past(asked, rules(), past) is None


def test_quiet_time_binds_people_and_not_the_halves_of_a_restart() -> None:
    """B-20, B-21."""
    past = Past(since={Operation.START: 1, Operation.RESTART: 1})
    robot = Origin(user="engine", machine="m", pid=1, by_person=False)
    assert refusal_by_past(request("restart", stage.dual(), origin=robot), rules(quiet_time=180), past) is None
    assert refusal_by_past(request("restart", stage.dual(), resumes=uuid.uuid4()), rules(quiet_time=180), past) is None
    assert refusal_by_past(request("restart", stage.dual()), rules(quiet_time=180), past, force=True) is None


def test_the_storm_brake_counts_per_cluster() -> None:
    one, other = UUID(int=1), UUID(int=2)
    hosts = [stage.dual(f"a{i}", cluster_id=one) for i in range(6)] + [stage.dual("b", cluster_id=other)]
    sizes = {one: 10, other: 10}
    brake = rules(storm_percent=50)
    assert set(storm(Operation.STOP, hosts, sizes, brake)) == {one}
    assert set(storm(Operation.RESTART, hosts, sizes, brake)) == {one}
    assert storm(Operation.START, hosts, sizes, brake) == {}
    assert storm(Operation.STOP, hosts[:5], sizes, brake) == {}
    assert storm(Operation.STOP, hosts, sizes, rules()) == {}
    assert storm(Operation.STOP, hosts, sizes, rules(storm_percent=50, force=True)) == {}


def test_a_deadline_must_hold_one_confirmation_of_off() -> None:
    for operation, refused in (("stop", True), ("restart", True), ("start", False), ("status", False)):
        asked = request(operation, stage.dual())
        assert (refusal(asked, rules(), deadline=4.99) is not None) == refused
        assert refusal(asked, rules(), deadline=5.0) is None


@pytest.mark.parametrize("wrong", [{"quiet_time": -1}, {"hosts_at_once": 0}, {"per_device": 0}, {"storm_percent": -5}])
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(errors.ModelError):
        Policy(**wrong)


def result(kind: FaultKind | None = None, **more: Any) -> AgentResult:
    fault = None if kind is None else AgentFault(kind=kind, message="m", sent=more.get("sent", False))
    settings = {"agent": Agent(), "asked": Action.STATUS, "reached": False, "power": PowerStatus.UNKNOWN, "fault": fault}
    return AgentResult(**{**settings, **more})


def outcome(*agents: AgentResult, succeeded: bool = False, **more: Any) -> Outcome:
    settings = {"operation": Operation.STOP, "power": PowerStatus.UNKNOWN, "mode": Mode.SINGLE}
    return Outcome(**{**settings, "succeeded": succeeded, "agents": agents, **more})


REFUSED, UNREACHABLE, TIMEOUT, FAILED = FaultKind.REFUSED, FaultKind.UNREACHABLE, FaultKind.TIMEOUT, FaultKind.FAILED


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (outcome(succeeded=True), 0),
        (outcome(result(UNREACHABLE), succeeded=True, degraded=True), 0),
        (outcome(result(REFUSED)), 6),
        (outcome(result(REFUSED), result(REFUSED)), 6),
        (outcome(result(REFUSED), result(UNREACHABLE)), 1),
        (outcome(result(UNREACHABLE)), 4),
        (outcome(result(UNREACHABLE), result(TIMEOUT)), 4),
        (outcome(result(UNREACHABLE), result(reached=False, sent=True)), 1),
        (outcome(result(UNREACHABLE, sent=True, asked=Action.OFF)), 1),
        (outcome(result(FAILED)), 1),
        (outcome(result(FAILED), ended_by="deadline"), 5),
        (outcome(result(REFUSED), ended_by="deadline"), 5),
        (outcome(result(FAILED), ended_by="SIGINT"), 1),
        (outcome(result(REFUSED, unsettled=True)), 7),
        (outcome(result(FAILED, unsettled=True), ended_by="deadline"), 7),
        (outcome(result(), ended_by="lost lock"), 7),
        (outcome(result(UNREACHABLE, unsettled=True), succeeded=True, degraded=True), 0),
    ],
)
def test_the_exit_code_of_one_host(found: Outcome, code: int) -> None:
    assert code_of(found) == code


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        ([], 0),
        ([0, 0], 0),
        ([0, 9], 9),
        ([9, 4], 4),
        ([4, 6], 6),
        ([6, 5], 5),
        ([5, 1], 1),
        ([1, 7], 7),
        ([3, 0], 3),
        ([9, 3], 9),
    ],
)
def test_the_exit_code_of_several_hosts(codes: list[int], code: int) -> None:
    assert code_of_several(codes) == code


def test_a_monitor_sees_a_dead_agent_of_a_host_that_is_on() -> None:
    seen = outcome(result(reached=True, power=PowerStatus.ON), result(UNREACHABLE), succeeded=True, operation=Operation.STATUS)
    assert code_of(seen) == 0
    assert code_of_health(seen) == 4


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.DatabaseUnreachable("x"), 4),
        (errors.Locked("x", holder="y"), 9),
        (errors.ConfigurationError("x"), 3),
        (errors.Uncertain("x"), 7),
        (errors.OperationFailed("x"), 1),
    ],
)
def test_the_exit_code_of_an_error(error: errors.PmcompatError, code: int) -> None:
    assert code_of_error(error) == code


# Through the executor: the past, and what a dead predecessor left.


def test_the_executor_refuses_by_the_past_and_sends_nothing() -> None:
    host = stage.dual()
    rack = stage.rack_of(host)
    journal = stage.MemoryJournal(Past(since={Operation.RESTART: 30}))

    async def scene() -> None:
        async with stage.executor(rack, journal=journal, policy=Policy(quiet_time=180)) as executor:
            await executor.arestart(host)

    with pytest.raises(errors.Refused, match="too soon"):
        stage.run(scene())
    assert rack.log == ()
    assert journal.lines == [("closed",)]


def dead(stage_: Any = None) -> Unfinished:
    return Unfinished(operation_id=uuid.uuid4(), operation=Operation.RESTART, origin=ORIGIN, age=30)


def test_the_next_operation_after_a_crash_says_uncertain_and_takes_over() -> None:
    host, left = stage.dual(), dead()
    rack = stage.rack_of(host)
    journal = stage.MemoryJournal(Past(unfinished=left))

    async def scene() -> Any:
        async with stage.executor(rack, journal=journal) as executor:
            return await executor.arestart(host)

    found = stage.run(scene())
    assert found.succeeded
    assert found.notes[0].startswith("uncertain until now: a restart by ann on desk")
    assert journal.lines[0] == ("started", "restart", left.operation_id)


def test_a_status_settles_what_a_crash_left_open_and_writes_nothing_otherwise() -> None:
    host, left = stage.dual(), dead()
    rack = stage.rack_of(host)
    for past, expected in ((Past(unfinished=left), ["started", "finished", "closed"]), (Past(), ["closed"])):
        journal = stage.MemoryJournal(past)

        async def scene(journal: Any = journal) -> Any:
            async with stage.executor(rack, journal=journal) as executor:
                return await executor.astatus(host)

        assert stage.run(scene()).power is PowerStatus.ON
        assert [line[0] for line in journal.lines] == expected


def test_resume_lights_a_dark_host_and_closes_the_old_record() -> None:
    host, left = stage.dual(status=HostStatus.REBOOT), dead()
    rack = stage.rack_of(host, power=PowerStatus.OFF)
    journal = stage.MemoryJournal(Past(resumable=left))

    async def scene() -> Any:
        async with stage.executor(rack, journal=journal) as executor:
            return await executor.aresume(host)

    found = stage.run(scene())
    assert found.succeeded
    assert [action for _, action in stage.executed(rack)] == ["on", "on"]
    assert ("finished", True, left.operation_id) in journal.lines


def test_resume_of_nothing_is_refused() -> None:
    host = stage.dual()
    rack = stage.rack_of(host)

    async def scene() -> Any:
        async with stage.executor(rack, journal=stage.MemoryJournal()) as executor:
            return await executor.aresume(host)

    with pytest.raises(errors.Refused, match="nothing to resume"):
        stage.run(scene())
    assert rack.log == ()


def test_resume_of_a_host_that_is_on_sends_nothing() -> None:
    host = stage.dual()
    rack = stage.rack_of(host)

    async def scene() -> Any:
        async with stage.executor(rack, journal=stage.MemoryJournal(Past(resumable=dead()))) as executor:
            return await executor.aresume(host)

    found = stage.run(scene())
    assert found.succeeded
    assert stage.executed(rack) == []
    assert any("already on" in note for note in found.notes)


def test_a_bmc_whose_usual_port_or_address_is_written_otherwise_is_not_taken_for_another_device():
    plain = stage.agent("bmc1")
    for same in (stage.agent("BMC1", ip_port=623), stage.agent("bmc1", options=stage.options("ipport=623"))):
        assert same_device(same) == same_device(plain)
        assert same_plug(same) == same_plug(plain)
    assert same_device(stage.agent("bmc1", ip_port=6230)) != same_device(plain)
    assert same_device(stage.agent("", options=stage.options("ipaddr=bmc1"))) == same_device(plain)


def test_outlets_of_one_pdu_share_its_device_and_are_not_taken_for_one_plug():
    one, two = (stage.agent("pdu", type="apc", options=stage.options(f"slot={n}")) for n in (1, 2))
    assert same_device(one) == same_device(two)
    assert same_plug(one) != same_plug(two)


def test_a_deadline_must_hold_an_agents_own_wait_too() -> None:
    asked = request("stop", stage.host(stage.agent("a", type="drac7")))
    slow = Rules(policy=Policy(), patience=stage.patience(minimum=lambda _: 10.0), identity=same_plug)
    refused = refusal(asked, slow, deadline=9.9)
    assert refused is not None
    assert refused.operands["least"] == 10.0
    assert refusal(asked, slow, deadline=10.0) is None


def test_a_way_without_an_address_leaves_the_other_way() -> None:
    """F5; both supplies of one level are needed, so there it is refused."""
    broken, well = stage.agent(""), stage.agent("well", 2)
    assert refusal(request("stop", stage.host(broken, well)), rules()) is None
    refused = refusal(request("stop", stage.host(broken, well, concurrent=True)), rules())
    assert refused is not None
    assert "has no address" in refused.what
    assert refusal(request("stop", stage.host(broken)), rules()) is not None
    assert refusal(request("stop", stage.host(well, stage.agent("a", 3, type=""))), rules()) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("fd00::1", "fd00:0:0:0:0:0:0:1"),
        ("[fd00::1]", "FD00::0001"),
        ("psu", "psu."),
        ("PSU.lab", "psu.lab"),
    ],
)
def test_one_device_is_one_device_however_its_address_is_spelled(one: str, other: str) -> None:
    assert same_plug(stage.agent(one)) == same_plug(stage.agent(other, 2))


def test_a_bmc_is_one_plug_whichever_driver_reaches_it() -> None:
    plain = stage.agent("bmc")
    foreign = stage.agent("bmc", 2, options=stage.options("driver=fence_agents,lanplus=1,plug=3"))
    assert same_plug(plain) == same_plug(foreign)
