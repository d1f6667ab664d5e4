"""The journal of operations on Postgres: tables of ``sql/0005-journal.sql`` in schema ``pmcompat``.

What lives here: the statements behind :class:`pmcompat.fence.protocols.Journal`. What the executor does with the answers is the
executor's. "Started" is committed before the executor sends anything (law F7); a partial unique index keeps two open operations
of one host apart, whatever process or machine they come from (law F6). Times are the database's, so clocks of several machines
do not matter.

Used from one event loop; a handful of connections serve any number of hosts, each statement on a free one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from psycopg import errors

from pmcompat.db import audit
from pmcompat.db.connection import AsyncConnection
from pmcompat.db.journal_connections import Connections
from pmcompat.db.journal_rows import agent_names, agent_results, entry_of, event_rows, outcome_word, unfinished_of
from pmcompat.errors import Locked
from pmcompat.fence.events import Event, Origin, Request
from pmcompat.fence.protocols import Entry, Past, Unfinished
from pmcompat.model import Operation, Outcome

_COLUMNS: Final = "operation_id, operation, asked_by, machine, pid, by_person, stage"

# A restart is settled once something later is known to have decided the host's power, or a person has spoken.
_SETTLED_BY_STATUS: Final = """
    EXISTS (SELECT FROM pmcompat.operations l WHERE l.host_id = o.host_id AND l.started_at > o.started_at
        AND l.outcome IN ('succeeded', 'failed') AND l.power IN ('on', 'off'))
"""
_UNFINISHED: Final = f"""
SELECT {_COLUMNS}, extract(epoch FROM clock_timestamp() - o.started_at)::double precision
FROM pmcompat.operations o
WHERE o.host_id = %(host)s AND o.confirmed_at IS NULL
  AND (o.finished_at IS NULL OR (o.outcome = 'died' AND NOT {_SETTLED_BY_STATUS}))
ORDER BY o.started_at DESC LIMIT 1
"""
# An off that was cut short may work late, and a failed restart may have left one of two supplies dark.
_RESUMABLE: Final = f"""
SELECT {_COLUMNS}, extract(epoch FROM clock_timestamp() - o.started_at)::double precision
FROM pmcompat.operations o
WHERE o.host_id = %(host)s AND o.operation = 'restart' AND o.confirmed_at IS NULL
  AND (o.finished_at IS NULL OR o.outcome = 'died'
    OR (o.outcome IN ('failed', 'uncertain') AND (o.stage IN ('off', 'going on') OR (o.stage = 'going off' AND (
        o.outcome = 'uncertain' OR o.ended_by IS NOT NULL
        OR EXISTS (SELECT FROM pmcompat.operation_agents a WHERE a.operation_id = o.operation_id AND a.power = 'off'))))))
  AND NOT EXISTS (SELECT FROM pmcompat.operations l WHERE l.host_id = o.host_id AND l.started_at > o.started_at
    AND ((l.outcome = 'succeeded' AND l.operation <> 'status') OR (l.outcome IN ('succeeded', 'failed') AND l.power = 'on')))
ORDER BY o.started_at DESC LIMIT 1
"""
_SINCE: Final = """
SELECT operation, extract(epoch FROM clock_timestamp() - max(finished_at))::double precision
FROM pmcompat.operations
WHERE host_id = %(host)s AND by_person AND outcome = 'succeeded'
GROUP BY operation
"""
# how far an operation certainly got, from the events that reached us: a lower bound
_REACHED: Final = """
SELECT kind, action, what FROM pmcompat.operation_events WHERE operation_id = %s ORDER BY id
"""
_TAKE_OVER: Final = """
UPDATE pmcompat.operations SET
    finished_at = coalesce(finished_at, clock_timestamp()), outcome = coalesce(outcome, 'died'),
    stage = %(stage)s, taken_over_by = coalesce(taken_over_by, %(by)s)
WHERE operation_id = %(operation)s AND outcome IS DISTINCT FROM 'confirmed'
"""
_START: Final = """
INSERT INTO pmcompat.operations
    (operation_id, host_id, host_name, operation, mode, asked_by, machine, pid, by_person, resumes)
VALUES (%(operation_id)s, %(host_id)s, %(host_name)s, %(operation)s, %(mode)s, %(user)s, %(machine)s, %(pid)s, %(by_person)s,
    %(resumes)s)
"""
_START_AGENTS: Final = """
INSERT INTO pmcompat.operation_agents (operation_id, position, agent)
SELECT %(operation_id)s, n, agent FROM unnest(%(agents)s::text[]) WITH ORDINALITY AS t(agent, n)
"""
_HOLDER: Final = """
SELECT asked_by, machine, pid, started_at FROM pmcompat.operations WHERE host_id = %s AND finished_at IS NULL
"""
_RECORD: Final = """
INSERT INTO pmcompat.operation_events (operation_id, at, kind, agent, action, what)
SELECT * FROM unnest(%s::uuid[], %s::double precision[], %s::text[], %s::text[], %s::text[], %s::text[])
"""
_FINISH: Final = """
UPDATE pmcompat.operations SET finished_at = clock_timestamp(), outcome = %(outcome)s, power = %(power)s,
    degraded = %(degraded)s, stage = %(stage)s, seconds = %(seconds)s, ended_by = %(ended_by)s, notes = %(notes)s
WHERE operation_id = %(operation_id)s AND finished_at IS NULL
"""
_FINISH_AGENTS: Final = """
INSERT INTO pmcompat.operation_agents (operation_id, position, agent, asked, reached, power, error, unsettled)
SELECT %s, * FROM unnest(%s::integer[], %s::text[], %s::text[], %s::boolean[], %s::text[], %s::text[], %s::boolean[])
ON CONFLICT (operation_id, position) DO UPDATE SET agent = excluded.agent, asked = excluded.asked, reached = excluded.reached,
    power = excluded.power, error = excluded.error, unsettled = excluded.unsettled
"""
_CLOSE_RESUMED: Final = """
UPDATE pmcompat.operations SET finished_at = coalesce(finished_at, clock_timestamp()), outcome = coalesce(outcome, 'died'),
    taken_over_by = %(by)s
WHERE operation_id = %(resumed)s
"""
_HISTORY: Final = """
WITH newest AS (
    SELECT * FROM pmcompat.operations WHERE host_id = %(host)s ORDER BY started_at DESC LIMIT %(limit)s
)
SELECT o.operation_id, o.operation, o.started_at, o.asked_by, o.machine, '' AS agent, o.outcome, o.power, o.degraded,
    o.stage, o.ended_by, o.notes, o.confirmed_by, o.taken_over_by, NULL AS asked, NULL::boolean AS reached, NULL AS error,
    o.seconds, 0 AS position
FROM newest o
UNION ALL
SELECT o.operation_id, o.operation, o.started_at, o.asked_by, o.machine, a.agent, o.outcome, a.power, false,
    o.stage, NULL, NULL, NULL, NULL, a.asked, a.reached, a.error, NULL, a.position
FROM newest o JOIN pmcompat.operation_agents a USING (operation_id)
ORDER BY 3 DESC, 1, 19
"""
_CONFIRM: Final = """
UPDATE pmcompat.operations o SET confirmed_at = clock_timestamp(), confirmed_by = %(by)s,
    finished_at = coalesce(finished_at, clock_timestamp()),
    outcome = CASE WHEN finished_at IS NULL THEN 'confirmed' ELSE outcome END
WHERE host_id = %(host)s AND confirmed_at IS NULL AND (finished_at IS NULL OR outcome IN ('died', 'uncertain')
    OR (outcome = 'failed' AND operation = 'restart' AND stage IN ('off', 'going on')))
"""


class PostgresJournal:
    """The journal in the database; fulfils :class:`pmcompat.fence.protocols.Journal`.

    :param dsn: as for :func:`pmcompat.db.connection.connect`.
    :param connections: how many statements run at once.
    :param write_audit: also write oVirt's ``audit_log`` rows where that table is and may be written.
    """

    def __init__(self, dsn: str | None, *, schema: str = "public", connections: int = 4, write_audit: bool = True) -> None:
        self._connections = Connections(dsn, limit=connections, application_name="pmcompat journal")
        self._schema = schema
        self._write_audit = write_audit

    async def past(self, host_id: UUID) -> Past:
        """Return what is known of the host's earlier operations.

        :raises DatabaseUnreachable: it cannot be read.
        :raises SchemaError: the database has no journal.
        """
        async with self._connections.one() as conn:
            since = {Operation(name): age for name, age in await _all(conn, _SINCE, {"host": host_id})}
            unfinished = await self._unfinished(conn, _UNFINISHED, host_id)
            resumable = await self._unfinished(conn, _RESUMABLE, host_id)
            for operation, age in await audit.ages(conn, host_id, schema=self._schema):
                since[operation] = min(age, since.get(operation, age))
        return Past(since=since, unfinished=unfinished, resumable=resumable)

    async def _unfinished(self, conn: AsyncConnection, query: str, host_id: UUID) -> Unfinished | None:
        found = await _all(conn, query, {"host": host_id})
        if not found:
            return None
        return unfinished_of(found[0], await _all(conn, _REACHED, [found[0][0]]))

    async def started(self, request: Request, unfinished: Unfinished | None) -> None:
        """Write "started" with one record per agent, committed when this returns (law F7).

        :raises DatabaseUnreachable: it could not be committed: nothing may be sent.
        :raises Locked: another operation of the host is open and is not *unfinished* (law F6).
        :raises SchemaError: the database has no journal.
        """
        values = {
            "operation_id": request.operation_id,
            "host_id": request.host.id,
            "host_name": request.host.name,
            "operation": request.operation.value,
            "mode": request.mode.value,
            "user": request.origin.user,
            "machine": request.origin.machine,
            "pid": request.origin.pid,
            "by_person": request.origin.by_person,
            "resumes": request.resumes,
            "agents": agent_names(request),
        }
        async with self._connections.one() as conn:
            try:
                async with conn.transaction():
                    if unfinished is not None:
                        taken = {
                            "by": request.operation_id,
                            "operation": unfinished.operation_id,
                            "stage": unfinished.stage.value,
                        }
                        await conn.execute(_TAKE_OVER, taken)
                    await conn.execute(_START, values)
                    await conn.execute(_START_AGENTS, values)
            except errors.UniqueViolation:
                raise await self._locked(conn, request) from None

    async def _locked(self, conn: AsyncConnection, request: Request) -> Locked:
        found = await _all(conn, _HOLDER, [request.host.id])
        user, machine, pid, since = found[0] if found else ("?", "?", 0, None)
        holder = f"{user} on {machine} (process {pid})" + (f" since {since:%Y-%m-%d %H:%M:%S %Z}" if since else "")
        return Locked(
            f"another operation of host {request.host.name} is open in the journal",
            holder=holder,
            state="nothing was sent",
            fix="wait for it, or see `pmcompat host history`",
        )

    async def record(self, events: Sequence[Event]) -> None:
        """Append events, in order."""
        rows = event_rows(events)
        if rows:
            async with self._connections.one() as conn:
                await conn.execute(_RECORD, [list(column) for column in zip(*rows, strict=True)])

    async def finished(self, request: Request, outcome: Outcome, seconds: float) -> None:
        """Close the record of *request*, and that of ``request.resumes``; write the audit rows."""
        closing = {
            "operation_id": request.operation_id,
            "outcome": outcome_word(outcome),
            "power": outcome.power.value,
            "degraded": outcome.degraded,
            "stage": outcome.stage.value,
            "seconds": seconds,
            "ended_by": outcome.ended_by,
            "notes": list(outcome.notes),
        }
        agents = agent_results(request, outcome)
        async with self._connections.one() as conn:
            async with conn.transaction():
                await conn.execute(_FINISH, closing)
                if agents:
                    columns = [list(column) for column in zip(*agents, strict=True)]
                    await conn.execute(_FINISH_AGENTS, [request.operation_id, *columns])
                if request.resumes is not None:
                    await conn.execute(_CLOSE_RESUMED, {"resumed": request.resumes, "by": request.operation_id})
            if self._write_audit:
                await audit.write(conn, audit.rows_of(request, outcome), schema=self._schema)

    async def history(self, host_id: UUID, *, limit: int = 100) -> Sequence[Entry]:
        """Return what happened to the host, newest operation first; *limit* counts operations."""
        async with self._connections.one() as conn:
            return [entry_of(row) for row in await _all(conn, _HISTORY, {"host": host_id, "limit": limit})]

    async def confirm(self, host_id: UUID, origin: Origin) -> int:
        """Settle what is unfinished because a person says the host is off; return how many records that closed (law F9)."""
        async with self._connections.one() as conn:
            cursor = await conn.execute(_CONFIRM, {"host": host_id, "by": str(origin)})
            if self._write_audit:
                await audit.confirmed(conn, host_id, origin, schema=self._schema)
            return cursor.rowcount

    async def close(self) -> None:
        """Release connections. Idempotent."""
        await self._connections.close()


async def _all(conn: AsyncConnection, query: str, parameters: Any) -> list[tuple[Any, ...]]:
    cursor = await conn.execute(query, parameters)
    return await cursor.fetchall()
