"""The journal on Postgres: started before anything is sent, uncertain after a crash, one open operation per host."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from pmcompat.db.connection import connect
from pmcompat.db.journal import PostgresJournal
from pmcompat.errors import DatabaseUnreachable, Locked, SchemaError
from pmcompat.fence.commands import ACCEPTED, Conclusion, Remark
from pmcompat.fence.events import Answered, Began, Ending, Event, Finished, Noticed, Origin, Request, Sent
from pmcompat.fence.protocols import Journal
from pmcompat.model import (
    Action,
    Agent,
    AgentFault,
    AgentResult,
    FaultKind,
    Host,
    Mode,
    Operation,
    Outcome,
    PowerManagement,
    PowerStatus,
    Secret,
    Stage,
)

ANNA = Origin(user="anna", machine="desk", pid=7)
ONE = Agent(type="ipmilan", address="bmc", username="u", password=Secret("hush"))
TWO = replace(ONE, address="pdu", order=2)
HOST = Host(
    id=uuid4(), name="h", address="h.lab", cluster_id=uuid4(), power_management=PowerManagement(enabled=True, agents=(ONE, TWO))
)


@pytest.fixture
def dsn(pm_database):
    return pm_database("3.1.0", hosts=0, upgraded=True).dsn


def asked(operation: Operation = Operation.RESTART, *, host: Host = HOST, origin: Origin = ANNA, resumes: UUID | None = None):
    return Request(operation_id=uuid4(), operation=operation, host=host, origin=origin, resumes=resumes)


def outcome(
    request: Request,
    *,
    succeeded: bool = True,
    power: PowerStatus = PowerStatus.ON,
    stage: Stage = Stage.DONE,
    unsettled: bool = False,
) -> Outcome:
    fault = None if succeeded else AgentFault(kind=FaultKind.TIMEOUT, message="no answer", sent=unsettled)
    results = tuple(
        AgentResult(agent=agent, asked=Action.ON, reached=succeeded, power=power, fault=fault, unsettled=unsettled)
        for agent in request.agents
    )
    return Outcome(
        operation=request.operation, succeeded=succeeded, power=power, mode=Mode.SEQUENTIAL, agents=results, stage=stage
    )


def run(dsn, work):
    """Run the coroutine that *work* makes of a journal."""

    async def inside():
        journal: Journal = PostgresJournal(dsn)
        try:
            return await work(journal)
        finally:
            await journal.close()

    return asyncio.run(inside())


def test_started_is_committed_when_it_returns(dsn):
    request = asked()

    async def work(journal):
        await journal.started(request, None)
        with connect(dsn) as other:
            assert other.execute("SELECT operation_id FROM pmcompat.operations WHERE finished_at IS NULL").fetchone() == (
                request.operation_id,
            )
            return other.execute("SELECT agent FROM pmcompat.operation_agents ORDER BY position").fetchall()

    assert run(dsn, work) == [("primary ipmilan at bmc",), ("secondary ipmilan at pdu",)]


def test_a_host_has_one_open_operation_and_the_second_is_told_who(dsn):
    async def work(journal):
        await journal.started(asked(), None)
        with pytest.raises(Locked) as caught:
            await journal.started(asked(Operation.STOP, origin=replace(ANNA, user="bert")), None)
        await journal.started(asked(host=replace(HOST, id=uuid4())), None)
        return caught.value.holder

    holder = run(dsn, work)
    assert "anna on desk (process 7)" in holder
    assert "since" in holder


def test_a_finished_operation_counts_for_the_quiet_time_by_host_id(dsn):
    async def work(journal):
        stop, start = asked(Operation.STOP), asked(Operation.START)
        await journal.started(stop, None)
        await journal.finished(stop, outcome(stop, power=PowerStatus.OFF), 1.5)
        await journal.started(start, None)
        await journal.finished(start, outcome(start, succeeded=False), 1.5)
        other = await journal.past(uuid4())
        assert (other.since, other.unfinished, other.resumable) == ({}, None, None)
        return await journal.past(HOST.id)

    past = run(dsn, work)
    assert set(past.since) == {Operation.STOP}
    assert 0 <= past.since[Operation.STOP] < 60
    assert past.unfinished is None


def test_operations_that_nobody_asked_for_know_no_quiet_time(dsn):
    """B-20."""

    async def work(journal):
        request = asked(Operation.RESTART, origin=replace(ANNA, by_person=False))
        await journal.started(request, None)
        await journal.finished(request, outcome(request), 1.0)
        return await journal.past(HOST.id)

    assert run(dsn, work).since == {}


def test_operations_of_ovirts_users_count_too(dsn):
    with connect(dsn) as conn:
        conn.execute(
            "INSERT INTO audit_log (log_time, log_type_name, log_type, severity, message, vds_id) "
            "VALUES (now() - interval '50 s', 'USER_VDS_STOP', 21, 0, 'x', %s), (now(), 'USER_VDS_START', 20, 0, 'x', %s)",
            [HOST.id, uuid4()],
        )

    async def work(journal):
        return await journal.past(HOST.id)

    since = run(dsn, work).since
    assert list(since) == [Operation.STOP]
    assert 49 < since[Operation.STOP] < 100


def crash(dsn, request, events=()):
    """Leave *request* as a dying process leaves it."""

    async def work(journal):
        await journal.started(request, None)
        await journal.record(events)

    run(dsn, work)


def steps(request: Request) -> list[Event]:
    off = Remark(conclusion=Conclusion.CONFIRMED, agents=(ONE,), power=PowerStatus.OFF)
    fault = AgentFault(kind=FaultKind.UNREACHABLE, message="no route")
    return [
        Began(request=request, at=0.0),
        Sent(request=request, at=0.1, agent=ONE, action=Action.OFF),
        Answered(request=request, at=0.2, agent=ONE, action=Action.OFF, answer=ACCEPTED, took=0.1),
        Noticed(request=request, at=0.3, remark=off),
        Sent(request=request, at=0.4, agent=ONE, action=Action.ON),
        Answered(request=request, at=0.5, agent=ONE, action=Action.STATUS, answer=fault, took=0.1),
        Ending(request=request, at=0.6, reason="deadline", duty=True),
        Finished(request=request, at=0.7, outcome=outcome(request)),
    ]


@pytest.mark.parametrize(
    ("count", "stage"),
    [(1, Stage.NOT_TOUCHED), (2, Stage.GOING_OFF), (3, Stage.GOING_OFF), (4, Stage.OFF), (5, Stage.GOING_ON)],
)
def test_after_a_crash_the_host_is_uncertain_as_far_as_it_certainly_got(dsn, count, stage):
    request = asked()
    crash(dsn, request, steps(request)[:count])

    async def work(journal):
        return await journal.past(HOST.id)

    past = run(dsn, work)
    for found in (past.unfinished, past.resumable):
        assert (found.operation_id, found.operation, found.origin, found.stage) == (
            request.operation_id, Operation.RESTART, ANNA, stage,
        )  # fmt: skip


def test_the_successor_closes_the_dead_record_and_settles_it_by_a_status(dsn):
    dead, status = asked(), asked(Operation.STATUS)
    crash(dsn, dead, steps(dead)[:4])

    async def work(journal):
        past = await journal.past(HOST.id)
        await journal.started(status, past.unfinished)
        still = await journal.past(HOST.id)
        assert still.unfinished.operation_id == status.operation_id
        await journal.finished(status, outcome(status, power=PowerStatus.OFF), 1.0)
        return await journal.past(HOST.id), await journal.history(HOST.id)

    past, history = run(dsn, work)
    assert past.unfinished is None
    assert past.resumable.operation_id == dead.operation_id
    assert past.resumable.stage is Stage.OFF
    line = next(entry for entry in history if entry.operation_id == dead.operation_id and not entry.agent)
    assert "its process died" in line.what
    assert str(status.operation_id) in line.what
    assert line.succeeded is None


def test_a_status_that_could_not_be_read_settles_nothing(dsn):
    dead, status = asked(Operation.STOP), asked(Operation.STATUS)
    crash(dsn, dead)

    async def work(journal):
        await journal.started(status, (await journal.past(HOST.id)).unfinished)
        await journal.finished(status, outcome(status, succeeded=False, power=PowerStatus.UNKNOWN), 1.0)
        return await journal.past(HOST.id)

    assert run(dsn, work).unfinished.operation_id == dead.operation_id


@pytest.mark.parametrize(
    ("operation", "power", "resumable"),
    [
        (Operation.STATUS, PowerStatus.ON, False),
        (Operation.STATUS, PowerStatus.OFF, True),
        (Operation.START, PowerStatus.ON, False),
        (Operation.STOP, PowerStatus.OFF, False),
    ],
)
def test_a_restart_that_died_is_offered_until_something_else_decided(dsn, operation, power, resumable):
    dead, later = asked(), asked(operation)
    crash(dsn, dead)

    async def work(journal):
        await journal.started(later, (await journal.past(HOST.id)).unfinished)
        await journal.finished(later, outcome(later, power=power), 1.0)
        return await journal.past(HOST.id)

    assert (run(dsn, work).resumable is not None) is resumable


def test_a_restart_that_ended_with_a_level_off_is_offered_and_resuming_closes_it(dsn):
    failed = asked()

    async def work(journal):
        await journal.started(failed, None)
        await journal.finished(failed, outcome(failed, succeeded=False, power=PowerStatus.OFF, stage=Stage.OFF), 1.0)
        offered = (await journal.past(HOST.id)).resumable
        assert offered.operation_id == failed.operation_id
        resuming = asked(resumes=failed.operation_id)
        await journal.started(resuming, None)
        await journal.finished(resuming, outcome(resuming), 1.0)
        return await journal.past(HOST.id)

    past = run(dsn, work)
    assert (past.resumable, past.unfinished) == (None, None)


def test_a_restart_that_failed_before_anything_was_off_is_not_offered(dsn):
    failed = asked()

    async def work(journal):
        await journal.started(failed, None)
        await journal.finished(failed, outcome(failed, succeeded=False, stage=Stage.GOING_OFF), 1.0)
        return await journal.past(HOST.id)

    assert run(dsn, work).resumable is None


@pytest.mark.parametrize(
    ("operation", "stage", "unsettled", "late"),
    [
        (Operation.STOP, Stage.GOING_OFF, True, True),
        (Operation.RESTART, Stage.GOING_OFF, True, True),
        (Operation.STOP, Stage.GOING_OFF, False, False),
        (Operation.RESTART, Stage.GOING_ON, True, False),
        (Operation.START, Stage.GOING_ON, True, False),
    ],
)
def test_an_off_that_may_still_take_effect_is_remembered(dsn, operation, stage, unsettled, late):
    """The next start said "already on" of a host that went dark a few seconds later."""
    cut = asked(operation)

    async def work(journal):
        await journal.started(cut, None)
        await journal.finished(cut, outcome(cut, succeeded=False, stage=stage, unsettled=unsettled), 1.0)
        return (await journal.past(HOST.id)).late_off

    found = run(dsn, work)
    assert (found is not None) == late
    assert found is None or 0 <= found < 10


def test_the_off_of_one_that_died_is_remembered_though_a_start_took_over_and_died_too(dsn):
    crash(dsn, asked(Operation.STOP))

    async def work(journal):
        await journal.started(asked(Operation.START), (await journal.past(HOST.id)).unfinished)
        return (await journal.past(HOST.id)).late_off

    assert run(dsn, work) is not None


def test_a_degraded_start_is_one_that_succeeded(dsn):
    """Recorded as uncertain, it counted for no quiet time and settled nothing."""
    begun = asked(Operation.START)
    degraded = replace(outcome(begun), degraded=True)
    lost = replace(degraded.agents[1], reached=False, power=PowerStatus.UNKNOWN, unsettled=True)

    async def work(journal):
        await journal.started(begun, None)
        await journal.finished(begun, replace(degraded, agents=(degraded.agents[0], lost)), 1.0)
        return await journal.past(HOST.id)

    assert Operation.START in run(dsn, work).since


def test_what_a_person_confirmed_is_not_offered_although_only_one_supply_went_off(dsn):
    failed = asked()
    half = outcome(failed, succeeded=False, power=PowerStatus.ON, stage=Stage.GOING_OFF)
    half = replace(half, agents=(replace(half.agents[0], power=PowerStatus.OFF), half.agents[1]))

    async def work(journal):
        await journal.started(failed, None)
        await journal.finished(failed, half, 1.0)
        assert (await journal.past(HOST.id)).resumable is not None
        assert await journal.confirm(HOST.id, ANNA) == 1
        return (await journal.past(HOST.id)).resumable

    assert run(dsn, work) is None


def test_a_person_settles_what_is_open(dsn):
    crash(dsn, asked())

    async def work(journal):
        assert await journal.confirm(HOST.id, replace(ANNA, user="bert")) == 1
        assert await journal.confirm(HOST.id, ANNA) == 0
        await journal.started(asked(Operation.START), None)
        return await journal.past(HOST.id), await journal.history(HOST.id)

    past, history = run(dsn, work)
    assert past.unfinished.operation is Operation.START
    assert past.resumable is None
    assert any("bert on desk" in entry.what for entry in history)


def test_history_is_newest_first_with_a_line_per_agent_and_no_secret(dsn):
    first, second = asked(Operation.STOP), asked(Operation.START)

    async def work(journal):
        for request in (first, second):
            await journal.started(request, None)
            await journal.record(steps(request))
            await journal.finished(request, outcome(request, succeeded=request is second), 2.5)
        return await journal.history(HOST.id), await journal.history(HOST.id, limit=1)

    entries, newest = run(dsn, work)
    assert [(e.operation, e.agent) for e in entries] == [
        ("start", ""), ("start", "primary ipmilan at bmc"), ("start", "secondary ipmilan at pdu"),
        ("stop", ""), ("stop", "primary ipmilan at bmc"), ("stop", "secondary ipmilan at pdu"),
    ]  # fmt: skip
    assert [entry.succeeded for entry in entries] == [True, True, True, False, False, False]
    assert (entries[0].user, entries[0].machine, entries[0].seconds) == ("anna", "desk", 2.5)
    assert "no answer" in entries[4].what
    assert entries[0].at.tzinfo is not None
    assert newest == entries[:3]
    with connect(dsn) as conn:
        for table in ("operations", "operation_agents", "operation_events"):
            assert "hush" not in str(conn.execute(f"SELECT t::text FROM pmcompat.{table} t").fetchall())


def test_many_hosts_at_once(dsn):
    hosts = [replace(HOST, id=uuid4(), name=f"h{i}") for i in range(60)]

    async def one(journal, host):
        request = asked(Operation.STATUS, host=host)
        await journal.past(host.id)
        await journal.started(request, None)
        await journal.record(steps(request))
        await journal.finished(request, outcome(request), 0.1)

    async def work(journal):
        await asyncio.gather(*(one(journal, host) for host in hosts))

    run(dsn, work)
    with connect(dsn) as conn:
        assert conn.execute("SELECT count(*), count(finished_at) FROM pmcompat.operations").fetchone() == (60, 60)


def test_a_database_that_does_not_answer_is_unreachable():
    async def work(journal):
        with pytest.raises(DatabaseUnreachable):
            await journal.started(asked(), None)

    run("postgresql://postgres@127.0.0.1:1/none", work)


def test_a_lost_connection_is_reported_and_the_next_call_opens_another(dsn):
    async def work(journal):
        await journal.past(HOST.id)
        with connect(dsn) as conn:
            conn.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pmcompat journal' "
                "AND datname = current_database()"
            )
        with pytest.raises(DatabaseUnreachable):
            await journal.started(asked(), None)
        await journal.started(asked(), None)

    run(dsn, work)


def test_without_the_upgrade_there_is_no_journal_and_it_says_so(pm_database):
    async def work(journal):
        with pytest.raises(SchemaError, match="db upgrade"):
            await journal.past(HOST.id)

    run(pm_database("3.1.0", hosts=0).dsn, work)


def test_a_role_that_may_not_write_it_is_told_how(dsn):
    with connect(dsn) as conn:
        conn.execute("CREATE ROLE journal_reader LOGIN; GRANT USAGE ON SCHEMA pmcompat TO journal_reader")
        conn.execute("GRANT SELECT ON ALL TABLES IN SCHEMA pmcompat TO journal_reader")

    async def work(journal):
        assert (await journal.past(HOST.id)).unfinished is None
        with pytest.raises(DatabaseUnreachable, match="grant-to"):  # law F7: exit 4
            await journal.started(asked(), None)

    try:
        run(dsn.replace("postgres@", "journal_reader@"), work)
    finally:
        with connect(dsn) as conn:
            conn.execute("DROP OWNED BY journal_reader; DROP ROLE journal_reader")
