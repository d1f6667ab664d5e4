"""oVirt's own event list: rows of ``audit_log`` for what pmcompat did, where that table is.

What lives here: which events an outcome gives (pure, as a table) and writing them. Ids, names and severities are oVirt's
(fencing facts §4): its quiet time is computed from these names. Every row carries the host's id (field failure B-18), and its
message is complete: no placeholder is left (B-70). Nothing depends on the rows: where they cannot be written, they are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg import errors, sql

from pmcompat.db.connection import AsyncConnection
from pmcompat.errors import Refused
from pmcompat.fence.commands import Conclusion
from pmcompat.fence.events import Origin, Request, agent_name
from pmcompat.model import Action, AgentResult, Host, Operation, Outcome, PowerStatus, Stage

NORMAL, WARNING, ERROR, ALERT = 0, 1, 2, 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """A kind of event of oVirt's."""

    id: int
    name: str
    severity: int
    #: filled with host, user, operation, reason
    message: str


KINDS: Final = {
    kind.name: kind
    for kind in (
        Kind(id=20, name="USER_VDS_START", severity=NORMAL, message="Host {host} was started by {user}."),
        Kind(id=118, name="USER_FAILED_VDS_START", severity=ERROR, message="Failed to start Host {host} (User: {user})."),
        Kind(id=21, name="USER_VDS_STOP", severity=NORMAL, message="Host {host} was stopped by {user}."),
        Kind(id=137, name="USER_FAILED_VDS_STOP", severity=ERROR, message="Failed to stop Host {host} (User: {user})."),
        Kind(id=41, name="USER_VDS_RESTART", severity=NORMAL, message="Host {host} was restarted by {user}."),
        Kind(id=107, name="USER_FAILED_VDS_RESTART", severity=ERROR, message="Failed to restart Host {host} (User: {user})."),
        Kind(id=121, name="SYSTEM_VDS_RESTART", severity=NORMAL, message="Host {host} was restarted by the engine."),
        Kind(id=122, name="SYSTEM_FAILED_VDS_RESTART", severity=ERROR, message="Failed to restart Host {host} by the engine."),
        Kind(
            id=493,
            name="VDS_ALREADY_IN_REQUESTED_STATUS",
            severity=WARNING,
            message="Host {host} is already {power}, operation {operation} skipped.",
        ),
        Kind(
            id=494,
            name="VDS_MANUAL_FENCE_STATUS",
            severity=NORMAL,
            message="Manual fence for host {host} was confirmed by {user}.",
        ),
        Kind(id=496, name="VDS_FENCE_STATUS", severity=NORMAL, message="Host {host} power management status is {power}."),
        Kind(
            id=497,
            name="VDS_FENCE_STATUS_FAILED",
            severity=ERROR,
            message="Failed to verify Host {host} power management: {reason}.",
        ),
        Kind(
            id=9001,
            name="VDS_ALERT_FENCE_TEST_FAILED",
            severity=ALERT,
            message="Power management test failed for Host {host}: {reason}.",
        ),
        Kind(
            id=9002,
            name="VDS_ALERT_FENCE_OPERATION_FAILED",
            severity=ALERT,
            message="Failed to {operation} Host {host} by power management: {reason}. Fence it manually.",
        ),
        Kind(
            id=9003,
            name="VDS_ALERT_FENCE_OPERATION_SKIPPED",
            severity=ALERT,
            message="Power management {operation} of Host {host} was skipped: {reason}.",
        ),
        Kind(
            id=9005,
            name="VDS_ALERT_FENCE_STATUS_VERIFICATION_FAILED",
            severity=ALERT,
            message="Failed to verify that Host {host} is {wanted} after {operation}: {reason}.",
        ),
        Kind(
            id=9007,
            name="VDS_ALERT_SECONDARY_AGENT_USED_FOR_FENCE_OPERATION",
            severity=ALERT,
            message="The secondary power management agent was used to {operation} Host {host}.",
        ),
    )
}

#: operation → (done, failed) where a person asked
_BY_USER: Final = {
    Operation.START: ("USER_VDS_START", "USER_FAILED_VDS_START"),
    Operation.STOP: ("USER_VDS_STOP", "USER_FAILED_VDS_STOP"),
    Operation.RESTART: ("USER_VDS_RESTART", "USER_FAILED_VDS_RESTART"),
    Operation.STATUS: ("VDS_FENCE_STATUS", "VDS_FENCE_STATUS_FAILED"),
}
#: likewise where no person asked: automatic runs of start and stop have no event of their own
_BY_SYSTEM: Final = {Operation.RESTART: ("SYSTEM_VDS_RESTART", "SYSTEM_FAILED_VDS_RESTART")}
#: what counts for the quiet time; only operations of users do (field failure B-20)
_QUIET: Final = {
    "USER_VDS_START": Operation.START,
    "USER_VDS_STOP": Operation.STOP,
    "USER_VDS_RESTART": Operation.RESTART,
}
#: a failed status is told again after the engine's own interval of health checks (PMHealthCheckIntervalInSec)
_REPEATED: Final = "3600 seconds"
#: oVirt's name for whoever runs without a person
ENGINE: Final = "Engine"


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditRow:
    """One row of ``audit_log``."""

    kind: Kind
    message: str
    user: str
    host: Host


def rows_of(request: Request, outcome: Outcome) -> tuple[AuditRow, ...]:
    """Return the events that an outcome gives, in order."""
    user = request.origin.user if request.origin.by_person else ENGINE
    cutting = request.operation is Operation.STOP or outcome.stage in {Stage.NOT_TOUCHED, Stage.GOING_OFF}
    wanted = "off" if cutting and request.operation is not Operation.START else "on"
    filling = {
        "host": request.host.name,
        "user": user,
        "operation": request.operation.value,
        "power": outcome.power.value,
        "wanted": wanted,
        "reason": _reason(outcome),
    }
    return tuple(
        AuditRow(kind=KINDS[name], message=KINDS[name].message.format(**filling), user=user, host=request.host)
        for name in _names(request, outcome)
    )


def _names(request: Request, outcome: Outcome) -> Iterator[str]:
    operation = request.operation
    verb = _BY_USER if request.origin.by_person else _BY_SYSTEM
    if outcome.succeeded and _skipped(outcome):
        yield "VDS_ALREADY_IN_REQUESTED_STATUS"
    if operation in verb:
        yield verb[operation][0 if outcome.succeeded else 1]
    if operation is Operation.STATUS:
        if not outcome.succeeded:
            yield "VDS_ALERT_FENCE_TEST_FAILED"
        return
    if outcome.succeeded:
        if any(note.startswith(Conclusion.LATER_USED.value) for note in outcome.notes) or _later_used(outcome):
            yield "VDS_ALERT_SECONDARY_AGENT_USED_FOR_FENCE_OPERATION"
        return
    yield "VDS_ALERT_FENCE_OPERATION_FAILED"
    if any(_was_not_read_back(result) for result in outcome.agents):
        yield "VDS_ALERT_FENCE_STATUS_VERIFICATION_FAILED"


def _was_not_read_back(result: AgentResult) -> bool:
    """Tell whether an on or off left for the agent, or may have, and its goal was never read (fencing facts §4: 9005)."""
    switched = result.asked in {Action.ON, Action.OFF} and (result.sent or result.fault is None)
    return switched and not result.reached


def _skipped(outcome: Outcome) -> bool:
    """Tell whether nothing had to be sent (fencing facts §4: 493)."""
    nothing_sent = all(result.asked is None or result.asked.value == "status" for result in outcome.agents)
    return outcome.operation in {Operation.START, Operation.STOP} and nothing_sent


def _later_used(outcome: Outcome) -> bool:
    """Tell whether an agent of a later order did what an earlier one failed to do."""
    orders = {result.agent.order for result in outcome.agents if result.reached}
    failed = {result.agent.order for result in outcome.agents if not result.reached and result.fault}
    concurrent = outcome.mode.value == "concurrent"
    return bool(orders and failed) and not concurrent and min(failed) < min(orders)


def _reason(outcome: Outcome) -> str:
    """Return why, in one line: what the agents said."""
    faults = [f"{agent_name(result.agent)}: {result.fault.message}" for result in outcome.agents if result.fault]
    if faults:
        return "; ".join(faults)
    if outcome.ended_by:
        return f"ended by {outcome.ended_by}"
    return "; ".join(outcome.notes) or (
        "the power state is unknown" if outcome.power is PowerStatus.UNKNOWN else f"the power is {outcome.power.value}"
    )


def rows_of_skip(request: Request, refused: Refused) -> tuple[AuditRow, ...]:
    """Return the alert for an operation that policy refused: its own kind, not 9002 (fencing facts §4; B-15, B-16)."""
    kind, host = KINDS["VDS_ALERT_FENCE_OPERATION_SKIPPED"], request.host
    message = kind.message.format(host=host.name, operation=request.operation.value, reason=refused.why or refused.what)
    return (AuditRow(kind=kind, message=message, user=request.origin.user if request.origin.by_person else ENGINE, host=host),)


_INSERT: Final = sql.SQL(
    "INSERT INTO {} (log_time, log_type_name, log_type, severity, message, user_name, vds_id, vds_name, vds_group_id, "
    "vds_group_name) SELECT now(), * FROM unnest(%s::text[], %s::integer[], %s::integer[], %s::text[], %s::text[], "
    "%s::uuid[], %s::text[], %s::uuid[], %s::text[])"
)


async def write(conn: AsyncConnection, rows: Sequence[AuditRow], *, schema: str = "public") -> bool:
    """Write *rows*, if the table is there and may be written; return whether they all were.

    Never raises for what the database says: nothing depends on these rows.
    """
    if not rows:
        return True
    query = _INSERT.format(sql.Identifier(schema, "audit_log"))
    try:
        await conn.execute(query, [list(column) for column in zip(*map(_values, rows), strict=True)])
    except errors.Error:
        # one row's text may be what the database cannot take: the others are still written
        return len(rows) > 1 and all([await write(conn, [row], schema=schema) for row in rows])
    return True


def _values(row: AuditRow) -> list[Any]:
    host, kind = row.host, row.kind
    return [
        kind.name,
        kind.id,
        kind.severity,
        row.message,
        row.user[:255],
        host.id,
        host.name,
        host.cluster_id,
        host.cluster_name,
    ]


async def confirmed(conn: AsyncConnection, host_id: UUID, origin: Origin, *, schema: str = "public") -> None:
    """Write that a person says the host is off (law F9)."""
    kind = KINDS["VDS_MANUAL_FENCE_STATUS"]
    query = sql.SQL(
        "INSERT INTO {} (log_time, log_type_name, log_type, severity, message, user_name, vds_id, vds_name, vds_group_id) "
        "SELECT now(), %s, %s, %s, replace(%s, '{{host}}', vds_name), %s, vds_id, vds_name, vds_group_id FROM {} "
        "WHERE vds_id = %s"
    ).format(sql.Identifier(schema, "audit_log"), sql.Identifier(schema, "vds_static"))
    message = kind.message.replace("{user}", origin.user)
    with suppress(psycopg.Error):
        async with conn.transaction():
            await conn.execute(query, [kind.name, kind.id, kind.severity, message, origin.user[:255], host_id])


async def told_lately(conn: AsyncConnection, hosts: Sequence[UUID], *, schema: str = "public") -> set[UUID]:
    """Return those of *hosts* whose failed status is in the list already: a monitor that asks every minute repeats nothing."""
    query = sql.SQL(
        "SELECT DISTINCT vds_id FROM {} WHERE vds_id = ANY(%s) AND log_type = %s AND log_time > now() - %s::interval"
    ).format(sql.Identifier(schema, "audit_log"))
    try:
        cursor = await conn.execute(query, [list(hosts), KINDS["VDS_ALERT_FENCE_TEST_FAILED"].id, _REPEATED])
        return {host for (host,) in await cursor.fetchall()}
    except errors.Error:
        return set()


async def ages(conn: AsyncConnection, hosts: Sequence[UUID], *, schema: str = "public") -> list[tuple[UUID, Operation, float]]:
    """Return the seconds since the hosts' last operations by users of oVirt; nothing where the table cannot be read."""
    query = sql.SQL(
        "SELECT vds_id, log_type_name, extract(epoch FROM clock_timestamp() - max(log_time))::double precision FROM {} "
        "WHERE vds_id = ANY(%s) AND log_type_name = ANY(%s) GROUP BY vds_id, log_type_name"
    ).format(sql.Identifier(schema, "audit_log"))
    try:
        cursor = await conn.execute(query, [list(hosts), list(_QUIET)])
        return [(host, _QUIET[name], age) for host, name, age in await cursor.fetchall()]
    except (errors.UndefinedTable, errors.UndefinedColumn, errors.InsufficientPrivilege, errors.InvalidSchemaName):
        return []
