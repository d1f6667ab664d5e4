"""Who is in the way: the sessions that hold locks the upgrade wants.

What lives here: naming blockers and waiting for them, outside any transaction and holding nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

_BLOCKERS = """
    SELECT DISTINCT a.pid, a.usename, a.state, extract(epoch FROM now() - coalesce(a.xact_start, a.query_start))::float8,
        a.query, a.application_name, coalesce(host(a.client_addr), 'local'),
        (SELECT string_agg(DISTINCT k.relation::regclass::text, ', ') FROM pg_locks AS k
         WHERE k.pid = a.pid AND k.relation = ANY (%(oids)s::oid[]) AND k.granted)
    FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
    WHERE l.granted AND l.relation = ANY (%(oids)s::oid[]) AND l.pid <> pg_backend_pid()
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    UNION ALL
    SELECT -1, NULL, 'prepared transaction', extract(epoch FROM now() - p.prepared)::float8, p.gid, '', '', p.owner
    FROM pg_prepared_xacts AS p WHERE p.database = current_database()
    ORDER BY 4 DESC NULLS LAST
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Blocker:
    """A session that holds a lock on something the upgrade must lock."""

    pid: int
    user: str | None
    state: str | None
    #: seconds since its transaction began
    age: float | None
    query: str
    application: str
    address: str
    relations: str

    def __str__(self) -> str:
        since = f"{self.age:.1f} s" if self.age is not None else "unknown age"
        query = " ".join(self.query.split())
        shown = query if len(query) <= 120 else query[:117] + "..."
        return (
            f"pid {self.pid}, user {self.user} from {self.address}, {self.state} for {since}, holds {self.relations}: {shown}"
        )


def blockers(conn: psycopg.Connection[Any], oids: Sequence[int]) -> tuple[Blocker, ...]:
    """Return the sessions that hold any lock on the relations *oids*, the oldest transaction first."""
    rows = conn.execute(_BLOCKERS, {"oids": list(oids)})
    return tuple(
        Blocker(
            pid=pid,
            user=user,
            state=state,
            age=age,
            query=query or "",
            application=application or "",
            address=address or "",
            relations=relations or "",
        )
        for pid, user, state, age, query, application, address, relations in rows
    )


def wait_for(conn: psycopg.Connection[Any], pids: Sequence[int], oids: Sequence[int], seconds: float) -> None:
    """Wait until none of *pids* holds a lock on the relations any more, *seconds* at most; no lock is asked for meanwhile."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if not {blocker.pid for blocker in blockers(conn, oids)} & set(pids):
            return
        time.sleep(min(0.1, left))
