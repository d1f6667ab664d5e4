"""oVirt's event list: exact ids and names, the host on every row, no placeholder left, and nothing depends on it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from uuid import uuid4

import pytest

from pmcompat.db import audit
from pmcompat.db.connection import connect
from pmcompat.db.dao import VdsDao
from pmcompat.db.journal import PostgresJournal
from pmcompat.errors import Refused
from pmcompat.fence.drivers.simulated import Device, Faults, Rack, SimulatedDriver
from pmcompat.fence.events import Origin, Request
from pmcompat.fence.executor import FenceExecutor
from pmcompat.fence.flow import Patience, Timing
from pmcompat.fence.policy import Policy
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
    Secret,
)

ANNA = Origin(user="anna", machine="desk", pid=7)
NOBODY = replace(ANNA, by_person=False)
ONE = Agent(type="ipmilan", address="bmc", password=Secret("hush"))
TWO = replace(ONE, address="pdu", order=2)
HOST = Host(id=uuid4(), name="kv {7}", address="h", cluster_id=uuid4(), power_management=PowerManagement(agents=(ONE, TWO)))
FAULT = AgentFault(kind=FaultKind.UNREACHABLE, message="no answer")

#: fencing facts §4
IDS = {
    "USER_VDS_START": (20, 0), "USER_FAILED_VDS_START": (118, 2), "USER_VDS_STOP": (21, 0), "USER_FAILED_VDS_STOP": (137, 2),
    "USER_VDS_RESTART": (41, 0), "USER_FAILED_VDS_RESTART": (107, 2), "SYSTEM_VDS_RESTART": (121, 0),
    "SYSTEM_FAILED_VDS_RESTART": (122, 2), "VDS_ALREADY_IN_REQUESTED_STATUS": (493, 1), "VDS_MANUAL_FENCE_STATUS": (494, 0),
    "VDS_FENCE_STATUS": (496, 0), "VDS_FENCE_STATUS_FAILED": (497, 2), "VDS_ALERT_FENCE_TEST_FAILED": (9001, 10),
    "VDS_ALERT_FENCE_OPERATION_FAILED": (9002, 10), "VDS_ALERT_FENCE_OPERATION_SKIPPED": (9003, 10),
    "VDS_ALERT_FENCE_STATUS_VERIFICATION_FAILED": (9005, 10),
    "VDS_ALERT_SECONDARY_AGENT_USED_FOR_FENCE_OPERATION": (9007, 10),
}  # fmt: skip


def rows(operation, *results, succeeded, origin=ANNA, mode=Mode.SEQUENTIAL, power=PowerStatus.ON):
    request = Request(operation_id=uuid4(), operation=operation, host=HOST, origin=origin)
    made = Outcome(operation=operation, succeeded=succeeded, power=power, mode=mode, agents=results)
    return audit.rows_of(request, made)


def result(agent=ONE, *, asked: Action | None = Action.ON, reached=True, fault=None):
    return AgentResult(agent=agent, asked=asked, reached=reached, power=PowerStatus.ON, fault=fault)


def names(found):
    return [row.kind.name for row in found]


def test_ids_and_severities_are_ovirts():
    assert {name: (kind.id, kind.severity) for name, kind in audit.KINDS.items()} == IDS


@pytest.mark.parametrize(
    ("operation", "origin", "succeeded", "first"),
    [
        (Operation.START, ANNA, True, "USER_VDS_START"),
        (Operation.STOP, ANNA, True, "USER_VDS_STOP"),
        (Operation.RESTART, ANNA, True, "USER_VDS_RESTART"),
        (Operation.RESTART, NOBODY, True, "SYSTEM_VDS_RESTART"),
        (Operation.START, ANNA, False, "USER_FAILED_VDS_START"),
        (Operation.STOP, ANNA, False, "USER_FAILED_VDS_STOP"),
        (Operation.RESTART, ANNA, False, "USER_FAILED_VDS_RESTART"),
        (Operation.RESTART, NOBODY, False, "SYSTEM_FAILED_VDS_RESTART"),
        (Operation.STATUS, ANNA, True, "VDS_FENCE_STATUS"),
        (Operation.STATUS, ANNA, False, "VDS_FENCE_STATUS_FAILED"),
    ],
)
def test_each_outcome_has_its_event_and_a_failure_its_alert(operation, origin, succeeded, first):
    found = rows(operation, result(reached=succeeded, fault=None if succeeded else FAULT), succeeded=succeeded, origin=origin)
    assert names(found)[0] == first
    alerts = [row for row in found if row.kind.severity == audit.ALERT]
    assert bool(alerts) is not succeeded
    for row in found:
        assert "kv {7}" in row.message
        assert "hush" not in row.message
        assert row.user == ("anna" if origin is ANNA else "Engine")
        assert "{" not in row.message.replace("kv {7}", "")


def test_a_secondary_that_did_it_is_an_alert():
    failed = result(ONE, reached=False, fault=FAULT)
    used = "VDS_ALERT_SECONDARY_AGENT_USED_FOR_FENCE_OPERATION"
    assert used in names(rows(Operation.STOP, failed, result(TWO), succeeded=True))
    assert used not in names(rows(Operation.STOP, result(ONE), succeeded=True))
    assert used not in names(rows(Operation.START, failed, result(TWO), succeeded=True, mode=Mode.CONCURRENT))


def test_a_goal_that_was_never_read_back_is_an_alert_of_its_own():
    found = names(rows(Operation.STOP, result(asked=Action.OFF, reached=False), succeeded=False))
    assert found == [
        "USER_FAILED_VDS_STOP", "VDS_ALERT_FENCE_OPERATION_FAILED", "VDS_ALERT_FENCE_STATUS_VERIFICATION_FAILED",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("operation", "agents", "expected", "message"),
    [
        # took off and stays on: the goal was never read back
        ("stop", {"pdu": {"ignores": {Action.OFF: -1}}}, True, "is off after stop"),
        ("restart", {"pdu": {"ignores": {Action.OFF: -1}}}, True, "is off after restart"),
        ("restart", {name: {"ignores": {Action.ON: -1}} for name in ("bmc", "pdu")}, True, "is on after restart"),
        # nothing left for anybody, so there was nothing to read back
        ("stop", {"bmc": {"unreachable": True}}, False, ""),
    ],
)
def test_what_a_flow_leaves_unverified_is_an_alert(operation, agents, expected, message):
    """With the results that the flow itself makes: they carry a fault wherever the goal was not reached."""
    rack = Rack([Device(address="bmc"), Device(address="pdu")])
    for address, faults in agents.items():
        rack.break_device(address, **faults)
    found = rows_of_a_run(operation, rack, orders=(1, 1))
    about = [row for row in found if row.kind.id == 9005]
    assert bool(about) is expected
    assert all(message in row.message for row in about)


def test_a_secondary_that_cut_the_power_for_a_restart_is_an_alert():
    """Both agents read on in the end: what the secondary was used for cannot be seen from them."""
    rack = Rack([Device(address="bmc"), Device(address="pdu")])
    rack.break_device("bmc", ignores={Action.OFF: -1})
    assert 9007 in [row.kind.id for row in rows_of_a_run("restart", rack, orders=(1, 2))]


def rows_of_a_run(operation, rack, *, orders):
    agents = tuple(replace(agent, order=order) for agent, order in zip((ONE, TWO), orders, strict=True))
    host = replace(HOST, status=HostStatus.MAINTENANCE, power_management=PowerManagement(enabled=True, agents=agents))
    fast = Timing(delay=0.1, retries=2)

    async def work():
        drivers = {"simulated": SimulatedDriver(rack)}
        patience = Patience(start=fast, stop=fast)
        async with FenceExecutor(drivers, patience=patience, choose=lambda _agent: "simulated") as executor:
            return await anext(executor.amany(Operation(operation), [host]))

    report = asyncio.run(work())
    request = Request(operation_id=report.operation_id, operation=report.operation, host=host, origin=ANNA)
    return audit.rows_of(request, report.outcome)


def test_a_skipped_operation_says_so():
    """B-58."""
    found = rows(Operation.STOP, result(asked=Action.STATUS), succeeded=True, power=PowerStatus.OFF)
    assert names(found) == ["VDS_ALREADY_IN_REQUESTED_STATUS", "USER_VDS_STOP"]
    assert "already off, operation stop skipped" in found[0].message


def test_a_refusal_by_policy_is_an_alert_of_its_own():
    """B-15, B-16: one event per cause."""
    request = Request(operation_id=uuid4(), operation=Operation.STOP, host=HOST, origin=ANNA)
    (row,) = audit.rows_of_skip(request, Refused("stop is refused", why="power management is not enabled"))
    assert (row.kind.id, row.host) == (9003, HOST)
    assert "not enabled" in row.message


def work_with(dsn, work):
    async def inside():
        journal = PostgresJournal(dsn)
        try:
            await work(journal)
        finally:
            await journal.close()

    asyncio.run(inside())


def stop(host):
    request = Request(operation_id=uuid4(), operation=Operation.STOP, host=host, origin=ANNA)
    failed = (result(ONE, reached=False, fault=FAULT),)
    made = Outcome(
        operation=Operation.STOP, succeeded=False, power=PowerStatus.UNKNOWN, mode=Mode.SINGLE, agents=failed
    )  # fmt: skip

    async def work(journal):
        await journal.started(request, None)
        await journal.finished(request, made, 1.0)
        await journal.finished(request, made, 1.0)  # alerts may repeat (B-124)
        await journal.confirm(host.id, ANNA)

    return work


@pytest.mark.parametrize("shape", ["3.1.0", "3.2-snapshot"])
def test_rows_stand_in_the_engines_table_with_the_hosts_id(pm_database, shape):
    """B-18: an alert without a host could never be removed."""
    database = pm_database(shape, hosts=3, upgraded=True)
    conn = database.connect()
    host = VdsDao(conn).get_all()[0]
    conn.execute("DELETE FROM audit_log")
    work_with(database.dsn, stop(host))
    found = conn.execute(
        "SELECT log_type_name, log_type, severity, vds_id, vds_name, vds_group_name, user_name FROM audit_log ORDER BY 2"
    ).fetchall()
    assert {row[0]: row[1:3] for row in found} == {
        name: IDS[name] for name in ("USER_FAILED_VDS_STOP", "VDS_ALERT_FENCE_OPERATION_FAILED", "VDS_MANUAL_FENCE_STATUS")
    }
    assert {row[3:5] for row in found} == {(host.id, host.name)}
    assert {row[6] for row in found} == {"anna"}
    assert [row[1] for row in found].count(9002) == 2
    assert conn.execute("SELECT message FROM audit_log WHERE log_type = 494").fetchone() == (
        f"Manual fence for host {host.name} was confirmed by anna.",
    )
    conn.execute("SELECT deletevds(%s)", [host.id])
    assert conn.execute("SELECT count(*) FROM audit_log WHERE severity = 10").fetchone() == (0,)


def events_of(database, host, ask, *, origin=ANNA):
    """Let an executor whose devices are silent do what *ask* does; return the events in the engine's table."""
    rack = Rack([Device(address="bmc", faults=Faults(unreachable=True))])
    policy = Policy(quiet_time=0)

    async def work(journal):
        fencer = FenceExecutor({"ipmi": SimulatedDriver(rack)}, journal=journal, origin=origin, policy=policy)
        with suppress(Refused):
            await ask(fencer, host)

    work_with(database.dsn, work)
    with connect(database.dsn) as conn:
        return [row[0] for row in conn.execute("SELECT log_type FROM audit_log ORDER BY log_type")]


@pytest.fixture
def watched(pm_database):
    """A database with an empty event list, and a host of it in maintenance."""
    database = pm_database("3.1.0", hosts=3, upgraded=True)
    conn = database.connect()
    conn.execute("DELETE FROM audit_log")
    host = VdsDao(conn).get_all()[0]
    power = PowerManagement(enabled=True, agents=(replace(ONE, username="admin"),))
    return database, replace(host, power_management=power, status=HostStatus.MAINTENANCE)


def test_a_status_that_cannot_be_read_is_an_alert_once_an_hour(watched):
    """Facts §2.7; a monitor asks every minute."""
    database, host = watched
    for _ in range(2):
        assert events_of(database, host, FenceExecutor.astatus) == [497, 9001]
    with database.connect() as conn:
        conn.execute("UPDATE audit_log SET log_time = log_time - interval '61 minutes'")
    assert events_of(database, host, FenceExecutor.astatus) == [497, 497, 9001, 9001]


def test_an_automatic_run_that_is_refused_is_an_alert_and_a_persons_is_not(watched):
    """B-15, B-16: nobody else would learn of it; a person reads why it was refused."""
    database, host = watched
    unusable = replace(host, power_management=replace(host.power_management, enabled=False))
    assert events_of(database, unusable, FenceExecutor.arestart) == []
    assert events_of(database, unusable, FenceExecutor.arestart, origin=NOBODY) == [9003]


def test_without_the_table_nothing_fails(pm_database):
    database = pm_database(hosts=3, upgraded=True)
    conn = database.connect()
    conn.execute("DROP TABLE audit_log CASCADE")
    work_with(database.dsn, stop(VdsDao(conn).get_all()[0]))
    with connect(database.dsn) as other:
        assert other.execute("SELECT outcome FROM pmcompat.operations").fetchone() == ("failed",)
