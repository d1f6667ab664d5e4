"""yoyo's record and order, made one transaction with the plan (database facts §10.3).

What lives here: yoyo's psycopg backend on a connection that is already open, and scripts as yoyo's migrations. yoyo decides
what is applied and in which order and keeps the record; the texts are executed whole, by us.

yoyo's own way commits each migration on a second connection and marks it afterwards on the first. Here ``copy()`` gives the
backend itself, so that its transactions become savepoints of ours, and its lock is an advisory one that dies with its session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import psycopg
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.migrations import Migration, MigrationList, MigrationStep, TransactionWrapper, topological_sort

from pmcompat.db.plan import LOCK_KEY
from pmcompat.db.plan.scripts import Script
from pmcompat.errors import Locked

_HOLDER = """
    SELECT a.pid, a.usename, coalesce(host(a.client_addr), 'local'), a.application_name, a.backend_start
    FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND l.classid::bigint = %s AND l.objid::bigint = %s
"""


class Ledger(PostgresqlPsycopgBackend):  # type: ignore[misc]  # yoyo ships no types
    """yoyo's backend on *conn*, which must be in autocommit and outside a transaction. Used by one thread."""

    migration_table_quoted = 'pmcompat."_yoyo_migration"'
    log_table_quoted = 'pmcompat."_yoyo_log"'
    log_migration_sql = (
        "INSERT INTO {0.log_table_quoted} (id, migration_hash, migration_id, operation, username, hostname, created_at_utc) "
        "VALUES (gen_random_uuid()::text, :migration_hash, :migration_id, :operation, session_user, "
        "coalesce(host(inet_client_addr()), 'local'), now() AT TIME ZONE 'utc')"
    )
    mark_migration_sql = (
        "INSERT INTO {0.migration_table_quoted} (migration_hash, migration_id, applied_at_utc) "
        "VALUES (:migration_hash, :migration_id, now() AT TIME ZONE 'utc')"
    )
    #: the tables are made by ``sql/parts/bookkeeping.sql.j2``, in the form of yoyo's schema version 2
    _internal_schema_updated = True

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self._connection = conn
        self.migration_table = "_yoyo_migration"
        self.has_transactional_ddl = True
        self.DatabaseError = psycopg.DatabaseError
        #: COMMIT was sent and not answered
        self.committing = False

    @contextmanager
    def copy(self) -> Iterator[Self]:
        """Give the backend itself: one connection, one transaction."""
        yield self

    @contextmanager
    def lock(self, timeout: float = 0) -> Iterator[None]:  # noqa: ARG002 - yoyo's signature; this lock never waits
        """Hold the advisory lock of everything that changes the schema.

        :raises Locked: another session holds it; pid, user, address and start are named.
        """
        row = self._connection.execute("SELECT pg_try_advisory_lock(%s)", [LOCK_KEY]).fetchone()
        if row is None or not row[0]:
            raise self._locked()
        try:
            yield
        finally:
            if not self._connection.closed:
                self._connection.execute("SELECT pg_advisory_unlock(%s)", [LOCK_KEY])

    def _locked(self) -> Locked:
        found = self._connection.execute(_HOLDER, [LOCK_KEY >> 32, LOCK_KEY & 0xFFFFFFFF]).fetchone()
        pid, user, address, application, since = found or ("?", "?", "?", "?", "?")
        return Locked(
            "another pmcompat is changing this database",
            holder=f"pid {pid}, user {user}, from {address} ({application}), connected since {since}",
            state="nothing was changed",
            fix="wait for it, or end that session with pg_terminate_backend",
        )

    def commit(self) -> None:
        """Commit, and be known to have tried: a connection lost behind this point leaves the result open."""
        self.committing = True
        super().commit()
        self.committing = False

    def get_log_data(self, migration: Migration | None = None, operation: str = "apply") -> dict[str, object]:
        """Return what the log row needs from here; who and when is the server's to say."""
        return {
            "migration_id": migration.id if migration else None,
            "migration_hash": migration.hash if migration else None,
            "operation": operation,
        }


class RenderedMigration(Migration):  # type: ignore[misc]  # yoyo ships no types
    """A script as yoyo's migration: one step, whose functions run it and take it back."""

    def __init__(self, script: Script, apply: Callable[[Script], None], undo: Callable[[Script], None]) -> None:
        super().__init__(script.id, script.file, "sql")
        self.script = script
        self.steps = [TransactionWrapper(MigrationStep(0, lambda _: apply(script), lambda _: undo(script)))]
        self._depends: set[Migration] = set()
        self.use_transactions = True

    def depend_on(self, others: Iterable[Migration]) -> None:
        """Say which migrations come first."""
        self._depends = set(others)


def migrations(scripts: Iterable[Script], apply: Callable[[Script], None], undo: Callable[[Script], None]) -> MigrationList:
    """Return the scripts as yoyo's migrations, in the order yoyo gives them."""
    made = {script.id: RenderedMigration(script, apply, undo) for script in scripts}
    for migration in made.values():
        migration.depend_on(made[name] for name in migration.script.depends if name in made)
    return MigrationList(made.values())


def in_order(scripts: Iterable[Script]) -> Iterator[Script]:
    """Yield the scripts in the order yoyo would run them."""
    found = migrations(scripts, lambda _: None, lambda _: None)
    yield from (migration.script for migration in topological_sort(found))
