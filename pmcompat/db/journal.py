"""The journal of operations on Postgres: tables of ``sql/0005-journal.sql`` in schema ``pmcompat``.

What lives here: the statements behind :class:`pmcompat.fence.protocols.Journal`. What the executor does with the answers is the
executor's. "Started" is committed before the executor sends anything (law F7); a partial unique index keeps two open operations
of one host apart, whatever process or machine they come from (law F6). Times are the database's, so clocks of several machines
do not matter.

Used from one event loop; a handful of connections serve any number of hosts, each statement on a free one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from pmcompat.db import audit
from pmcompat.db.connection import AsyncConnection
from pmcompat.db.gathering import Gathered
from pmcompat.db.journal_connections import Connections
from pmcompat.db.journal_rows import (
    End,
    EventRow,
    entry_of,
    event_rows,
    finished_columns,
    started_columns,
    unfinished_of,
)
from pmcompat.errors import Locked, Refused
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
SELECT DISTINCT ON (o.host_id) o.host_id, {_COLUMNS}, extract(epoch FROM clock_timestamp() - o.started_at)::double precision
FROM pmcompat.operations o
WHERE o.host_id = ANY(%(hosts)s::uuid[]) AND o.confirmed_at IS NULL
  AND (o.finished_at IS NULL OR (o.outcome = 'died' AND NOT {_SETTLED_BY_STATUS}))
ORDER BY o.host_id, o.started_at DESC
"""
# An off that was cut short may work late, and a failed restart may have left one of two supplies dark.
_RESUMABLE: Final = f"""
SELECT DISTINCT ON (o.host_id) o.host_id, {_COLUMNS}, extract(epoch FROM clock_timestamp() - o.started_at)::double precision
FROM pmcompat.operations o
WHERE o.host_id = ANY(%(hosts)s::uuid[]) AND o.operation = 'restart' AND o.confirmed_at IS NULL
  AND (o.finished_at IS NULL OR o.outcome = 'died'
    OR (o.outcome IN ('failed', 'uncertain') AND (o.stage IN ('off', 'going on') OR (o.stage = 'going off' AND (
        o.outcome = 'uncertain' OR o.ended_by IS NOT NULL
        OR EXISTS (SELECT FROM pmcompat.operation_agents a WHERE a.operation_id = o.operation_id AND a.power = 'off'))))))
  AND NOT EXISTS (SELECT FROM pmcompat.operations l WHERE l.host_id = o.host_id AND l.started_at > o.started_at
    AND ((l.outcome = 'succeeded' AND l.operation <> 'status') OR (l.outcome IN ('succeeded', 'failed') AND l.power = 'on')))
ORDER BY o.host_id, o.started_at DESC
"""
_SINCE: Final = """
SELECT host_id, operation, extract(epoch FROM clock_timestamp() - max(finished_at))::double precision
FROM pmcompat.operations
WHERE host_id = ANY(%(hosts)s::uuid[]) AND by_person AND outcome = 'succeeded'
GROUP BY host_id, operation
"""
# operations of the last hour that ended without knowing what became of their off
_LATE_OFFS: Final = """
SELECT host_id, extract(epoch FROM clock_timestamp()
    - max(CASE outcome WHEN 'died' THEN started_at ELSE finished_at END))::double precision
FROM pmcompat.operations
WHERE host_id = ANY(%(hosts)s::uuid[]) AND operation IN ('stop', 'restart') AND outcome IN ('died', 'uncertain')
  AND stage IN ('not touched', 'going off') AND started_at > clock_timestamp() - interval '1 hour'
GROUP BY host_id
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
# Hundreds of hosts may begin at once: one statement, one round trip and one commit serve all that wait. Rows as columns.
_START: Final = """
WITH asked AS (
    SELECT * FROM unnest(%(operation_id)s::uuid[], %(host_id)s::uuid[], %(host_name)s::text[], %(operation)s::text[],
        %(mode)s::text[], %(user)s::text[], %(machine)s::text[], %(pid)s::integer[], %(by_person)s::boolean[],
        %(resumes)s::uuid[])
), started AS (
    INSERT INTO pmcompat.operations
        (operation_id, host_id, host_name, operation, mode, asked_by, machine, pid, by_person, resumes)
    SELECT * FROM asked ON CONFLICT DO NOTHING RETURNING operation_id
), agents AS (
    INSERT INTO pmcompat.operation_agents (operation_id, position, agent)
    SELECT operation_id, position, agent
    FROM unnest(%(agent_of)s::uuid[], %(position)s::integer[], %(agent)s::text[]) AS a(operation_id, position, agent)
    JOIN started USING (operation_id)
)
SELECT operation_id FROM started
"""
_HOLDER: Final = """
SELECT asked_by, machine, pid, started_at FROM pmcompat.operations WHERE host_id = %s AND finished_at IS NULL
"""
_RECORD: Final = """
INSERT INTO pmcompat.operation_events (operation_id, at, kind, agent, action, what)
SELECT (e->>0)::uuid, (e->>1)::double precision, e->>2, e->>3, e->>4, e->>5 FROM json_array_elements(%s::json) AS rows(e)
"""
_FINISH: Final = """
WITH ended AS (
    SELECT * FROM unnest(%(operation_id)s::uuid[], %(outcome)s::text[], %(power)s::text[], %(degraded)s::boolean[],
        %(stage)s::text[], %(seconds)s::double precision[], %(ended_by)s::text[], %(notes)s::text[], %(resumes)s::uuid[])
    AS e(operation_id, outcome, power, degraded, stage, seconds, ended_by, notes, resumes)
), finished AS (
    UPDATE pmcompat.operations o SET finished_at = clock_timestamp(), outcome = e.outcome, power = e.power,
        degraded = e.degraded, stage = e.stage, seconds = e.seconds, ended_by = e.ended_by,
        notes = ARRAY(SELECT jsonb_array_elements_text(e.notes::jsonb))
    FROM ended e WHERE o.operation_id = e.operation_id AND o.finished_at IS NULL
), resumed AS (
    UPDATE pmcompat.operations o SET finished_at = coalesce(o.finished_at, clock_timestamp()),
        outcome = coalesce(o.outcome, 'died'), taken_over_by = e.operation_id
    FROM ended e WHERE o.operation_id = e.resumes
)
INSERT INTO pmcompat.operation_agents (operation_id, position, agent, asked, reached, power, error, unsettled)
SELECT * FROM unnest(%(agent_of)s::uuid[], %(position)s::integer[], %(agent)s::text[], %(asked)s::text[],
    %(reached)s::boolean[], %(read)s::text[], %(error)s::text[], %(unsettled)s::boolean[])
ON CONFLICT (operation_id, position) DO UPDATE SET agent = excluded.agent, asked = excluded.asked, reached = excluded.reached,
    power = excluded.power, error = excluded.error, unsettled = excluded.unsettled
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
    OR (outcome = 'failed' AND operation = 'restart' AND stage IN ('going off', 'off', 'going on')))
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
        self._pasts = Gathered(self._pasts_of)
        self._starts = Gathered(self._start)
        self._records = Gathered(self._insert)
        self._ends = Gathered(self._end)
        self._alerts = Gathered(self._alert)

    async def past(self, host_id: UUID) -> Past:
        """Return what is known of the host's earlier operations.

        :raises DatabaseUnreachable: it cannot be read.
        :raises SchemaError: the database has no journal.
        """
        return await self._pasts(host_id)

    async def _pasts_of(self, hosts: Sequence[UUID]) -> Sequence[Past]:
        since: dict[UUID, dict[Operation, float]] = {host: {} for host in hosts}
        async with self._connections.one() as conn:
            async with conn.pipeline():
                queries = (_SINCE, _UNFINISHED, _RESUMABLE, _LATE_OFFS)
                cursors = [await conn.execute(query, {"hosts": list(since)}) for query in queries]
            ages, unfinished, resumable, late = [await cursor.fetchall() for cursor in cursors]
            for host, name, age in ages:
                since[host][Operation(name)] = age
            for host, operation, age in await audit.ages(conn, list(since), schema=self._schema):
                since[host][operation] = min(age, since[host].get(operation, age))
            left = {host: await self._unfinished(conn, row) for host, *row in unfinished}
            dark = {host: await self._unfinished(conn, row) for host, *row in resumable}
        offs = dict(late)
        return [
            Past(since=since[host], unfinished=left.get(host), late_off=offs.get(host), resumable=dark.get(host))
            for host in hosts
        ]

    async def _unfinished(self, conn: AsyncConnection, row: Sequence[Any]) -> Unfinished:
        return unfinished_of(row, await _all(conn, _REACHED, [row[0]]))

    async def started(self, request: Request, unfinished: Unfinished | None) -> None:
        """Write "started" with one record per agent, committed when this returns (law F7).

        :raises DatabaseUnreachable: it could not be committed: nothing may be sent.
        :raises Locked: another operation of the host is open and is not *unfinished* (law F6).
        :raises SchemaError: the database has no journal.
        """
        if unfinished is None:
            await self._starts(request)
            return
        taken = {"by": request.operation_id, "operation": unfinished.operation_id, "stage": unfinished.stage.value}
        async with self._connections.one() as conn, conn.transaction():
            await conn.execute(_TAKE_OVER, taken)
            (refused,) = await self._insert_starts(conn, [request])
            if refused is not None:
                raise refused

    async def _start(self, requests: Sequence[Request]) -> Sequence[Exception | None]:
        async with self._connections.one() as conn:
            return await self._insert_starts(conn, requests)

    async def _insert_starts(self, conn: AsyncConnection, requests: Sequence[Request]) -> list[Exception | None]:
        found = await _all(conn, _START, started_columns(requests))
        started = {row[0] for row in found}
        return [None if request.operation_id in started else await self._locked(conn, request) for request in requests]

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
        if events:
            await self._records(event_rows(events))

    async def _insert(self, parts: Sequence[Sequence[EventRow]]) -> Sequence[None]:
        rows = [row for part in parts for row in part]
        async with self._connections.one() as conn:
            await conn.execute(_RECORD, [json.dumps(rows, ensure_ascii=False)])
        return [None] * len(parts)

    async def finished(self, request: Request, outcome: Outcome, seconds: float) -> None:
        """Close the record of *request*, and that of ``request.resumes``; write the audit rows."""
        await self._ends((request, outcome, seconds))

    async def _end(self, ends: Sequence[End]) -> Sequence[None]:
        async with self._connections.one() as conn:
            await conn.execute(_FINISH, finished_columns(ends))
            if self._write_audit:
                rows = [row for request, outcome, _ in ends for row in audit.rows_of(request, outcome)]
                await audit.write(conn, rows, schema=self._schema)
        return [None] * len(ends)

    async def alert(self, request: Request, what: Outcome | Refused) -> None:
        """Write the audit rows of what leaves no record here."""
        if self._write_audit:
            await self._alerts((request, what))

    async def _alert(self, found: Sequence[tuple[Request, Outcome | Refused]]) -> Sequence[None]:
        async with self._connections.one() as conn:
            told = await audit.told_lately(conn, [request.host.id for request, _ in found], schema=self._schema)
            rows: list[audit.AuditRow] = []
            for request, what in found:
                if isinstance(what, Refused):
                    rows += audit.rows_of_skip(request, what)
                elif request.host.id not in told:
                    rows += audit.rows_of(request, what)
            await audit.write(conn, rows, schema=self._schema)
        return [None] * len(found)

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
        for gathered in (self._pasts, self._starts, self._records, self._ends, self._alerts):
            await gathered.close()
        await self._connections.close()


async def _all(conn: AsyncConnection, query: str, parameters: Any) -> list[tuple[Any, ...]]:
    cursor = await conn.execute(query, parameters)
    return await cursor.fetchall()
