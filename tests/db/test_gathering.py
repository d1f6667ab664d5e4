"""Calls that many hosts make at once are answered together, and nobody pays for another's trouble."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from uuid import uuid4

import psycopg
import pytest

from pmcompat.db.gathering import MOST, Gathered
from pmcompat.db.journal import PostgresJournal
from pmcompat.db.locks import AdvisoryLocks
from pmcompat.errors import Locked, PmcompatError
from pmcompat.fence.events import Began, Origin, Request
from pmcompat.model import Agent, AgentResult, Host, Mode, Operation, Outcome, PowerManagement, PowerStatus, Stage

ANNA = Origin(user="anna", machine="desk", pid=7)
AGENTS = (Agent(type="ipmilan", address="a"), Agent(type="ipmilan", address="b", order=2))


def asked(name: str, operation: Operation = Operation.RESTART) -> Request:
    power = PowerManagement(enabled=True, agents=AGENTS, concurrent=True)
    host = Host(id=uuid4(), name=name, address=f"{name}.lab", cluster_id=uuid4(), power_management=power)
    return Request(operation_id=uuid4(), operation=operation, host=host, origin=ANNA)


def outcome(request: Request, *powers: PowerStatus, stage: Stage = Stage.DONE, **more: object) -> Outcome:
    agents = tuple(
        AgentResult(agent=agent, asked=None, reached=True, power=power) for agent, power in zip(AGENTS, powers, strict=True)
    )
    settings = {"succeeded": True, "power": PowerStatus.ON, "notes": ("first", 'second "note"'), **more}
    return Outcome(operation=request.operation, mode=Mode.CONCURRENT, agents=agents, stage=stage, **settings)  # type: ignore[arg-type]


@pytest.fixture
def dsn(pm_database):
    return pm_database("3.1.0", hosts=0, upgraded=True).dsn


def test_calls_that_come_together_are_answered_together_and_in_order():
    asked_for: list[list[int]] = []

    async def answer(numbers: Sequence[int]) -> list[int]:
        asked_for.append(list(numbers))
        await asyncio.sleep(0.01)
        return [number * 2 for number in numbers]

    async def work() -> list[int]:
        gathered = Gathered(answer)
        return await asyncio.gather(*(gathered(number) for number in range(150)))

    assert asyncio.run(work()) == [number * 2 for number in range(150)]
    assert [len(numbers) for numbers in asked_for] == [MOST, MOST, 150 - 2 * MOST]


def test_one_that_is_refused_does_not_disturb_the_others():
    async def answer(numbers: Sequence[int]) -> list[int | Exception]:
        return [ValueError("odd") if number % 2 else number for number in numbers]

    async def work() -> list[int | BaseException]:
        gathered = Gathered(answer)
        return await asyncio.gather(*(gathered(number) for number in range(4)), return_exceptions=True)

    assert [type(result) for result in asyncio.run(work())] == [int, ValueError, int, ValueError]


def test_who_gives_up_is_forgotten_and_closing_tells_the_rest():
    async def answer(numbers: Sequence[int]) -> list[int]:
        await asyncio.sleep(60)
        return list(numbers)

    async def work() -> list[bool]:
        gathered = Gathered(answer)
        calls = [asyncio.create_task(gathered(number)) for number in range(3)]
        await asyncio.sleep(0.01)
        calls[0].cancel()
        late = asyncio.create_task(gathered(9))
        await asyncio.sleep(0)
        await gathered.close()
        await gathered.close()
        await asyncio.wait([*calls, late], timeout=1)
        return [call.cancelled() for call in (*calls, late)]

    assert asyncio.run(work()) == [True] * 4


def test_hundreds_of_hosts_begin_and_end_at_once_and_only_the_open_one_is_refused(dsn):
    """Journal and locks, as a storm uses them."""
    requests = [asked(f"h{i}") for i in range(200)]
    open_ = replace(requests[7], operation_id=uuid4())

    async def one(journal: PostgresJournal, locks: AdvisoryLocks, request: Request) -> str:
        held = await locks.acquire(request)
        try:
            assert (await journal.past(request.host.id)).since == {}
            await journal.started(request, None)
            assert await held.check()
            await journal.record([Began(request=request, at=0.0)])
            await journal.finished(request, outcome(request, PowerStatus.ON, PowerStatus.ON), 0.5)
        except Locked as locked:
            return str(locked)
        finally:
            await held.release()
        return ""

    async def work() -> list[str]:
        journal, locks = PostgresJournal(dsn), AdvisoryLocks(dsn)
        await journal.started(open_, None)
        found = await asyncio.gather(*(one(journal, locks, request) for request in requests))
        await journal.close()
        await locks.close()
        return found

    found = asyncio.run(work())
    assert [i for i, text in enumerate(found) if text] == [7]
    assert "anna on desk" in found[7]
    with psycopg.connect(dsn) as conn:
        done = conn.execute(
            "SELECT count(*), sum(cardinality(notes)) FROM pmcompat.operations WHERE outcome = 'succeeded'"
        ).fetchone()
        assert done == (199, 398)
        assert conn.execute("SELECT count(*) FROM pmcompat.operation_agents").fetchone() == (400,)
        assert conn.execute("SELECT count(*) FROM pmcompat.operation_events").fetchone() == (199,)
        assert conn.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone() == (0,)
        assert conn.execute("SELECT count(*) FROM audit_log WHERE log_type_name = 'USER_VDS_RESTART'").fetchone() == (199,)


def test_a_value_that_cannot_be_stored_costs_only_its_own_host(dsn):
    good, bad = asked("good"), asked("b\0d")

    async def work() -> list[object]:
        journal = PostgresJournal(dsn)
        found = await asyncio.gather(*(journal.started(request, None) for request in (good, bad)), return_exceptions=True)
        await journal.close()
        return found

    first, second = asyncio.run(work())
    assert first is None
    assert isinstance(second, PmcompatError)
    with psycopg.connect(dsn) as conn:
        assert conn.execute("SELECT host_name FROM pmcompat.operations").fetchall() == [("good",)]


@pytest.mark.parametrize(
    ("powers", "settings", "offered"),
    [
        ((PowerStatus.ON, PowerStatus.ON), {}, False),
        ((PowerStatus.OFF, PowerStatus.ON), {}, True),
        ((PowerStatus.ON, PowerStatus.ON), {"ended_by": "SIGTERM"}, True),
    ],
)
def test_a_restart_that_failed_on_its_way_down_is_offered_where_a_supply_is_dark_or_may_go_dark(dsn, powers, settings, offered):
    request = asked("h")

    async def work() -> bool:
        journal = PostgresJournal(dsn)
        await journal.started(request, None)
        found = outcome(request, *powers, stage=Stage.GOING_OFF, succeeded=False, **settings)
        await journal.finished(request, found, 1.0)
        past = await journal.past(request.host.id)
        await journal.close()
        return past.resumable is not None

    assert asyncio.run(work()) is offered
