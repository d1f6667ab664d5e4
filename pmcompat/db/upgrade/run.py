"""Run prepared work in one transaction, with locks taken briefly and politely.

What lives here: the attempt loop (lock, give up, name who is in the way, wait, try again), running a text with errors that
name file and line, and what was measured. What is run is decided elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import psycopg
from psycopg import pq

from pmcompat.db.catalog import Catalog
from pmcompat.db.catalog import read as catalog_read
from pmcompat.db.connection import reporting_loss
from pmcompat.db.plan import PlanSettings
from pmcompat.db.plan import scripts as plan_scripts
from pmcompat.db.plan.scripts import Text
from pmcompat.db.pooling import prove
from pmcompat.db.upgrade import locks as upgrade_locks
from pmcompat.db.upgrade.yoyo import Ledger
from pmcompat.errors import ConfigurationError, DatabaseUnreachable, Locked, OperationFailed, Refused, Uncertain

Connection = psycopg.Connection[Any]
Notify = Callable[[str], None]
T = TypeVar("T")

#: server errors that mean "somebody holds what we want"
_BUSY = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)
_NOTHING = "nothing was changed: the one transaction was rolled back"
#: seconds
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0


def _version() -> str:
    from pmcompat import __version__

    return __version__


class Changed(Exception):
    """The catalog is not what the plan was made from: plan again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UpgradeSettings(PlanSettings):
    """What the operator chose for a run."""

    #: pmcompat's version, for the record
    version: str = field(default_factory=_version)
    #: the engine's schema
    schema: str = "public"
    #: seconds to go on trying while somebody is in the way
    patience: float = 60.0
    #: rollback: delete the archive and schema pmcompat too
    purge: bool = False
    #: rollback: drop, and keep the text of, dependants that use the new columns
    drop_dependants: bool = False


@dataclass(kw_only=True)
class Measured:
    """What one run took."""

    #: (what, seconds) in order
    steps: list[tuple[str, float]] = field(default_factory=list)
    #: seconds from the first exclusive lock taken to the end of the transaction
    locked: float = 0.0
    #: seconds spent before the first of them was granted
    waited: float = 0.0
    #: tries that ended because somebody was in the way
    attempts: int = 0
    #: (relation, mode) held at the end
    locks: list[tuple[str, str]] = field(default_factory=list)


class Work(Protocol):
    """Something to do in one transaction."""

    #: relations to be locked
    oids: list[int]

    def before_locks(self, run: Run) -> None:
        """Do what needs none of the locks."""

    def locks(self, run: Run) -> None:
        """Take them."""

    def under_locks(self, run: Run) -> None:
        """Do the work; every millisecond counts."""


class Run:
    """One connection's way through one piece of work. Used by one thread."""

    def __init__(self, conn: Connection, ledger: Ledger, settings: UpgradeSettings, notify: Notify) -> None:
        self.conn = conn
        self.ledger = ledger
        self.settings = settings
        self.notify = notify
        self.measured = Measured()

    def text(self, text: Text, label: str = "") -> None:
        """Execute a whole text.

        :raises OperationFailed: the server refused it; file and line are named.
        """
        started = time.perf_counter()
        try:
            self.conn.execute(text.sql.encode(self.conn.info.encoding))
        except _BUSY:
            raise
        except psycopg.errors.ObjectNotInPrerequisiteState as error:
            if "changed since the plan was made" in str(error):
                raise Changed(error.diag.message_primary) from error
            raise failed(error, text) from error
        except psycopg.OperationalError as error:
            if error.sqlstate is None or error.sqlstate.startswith(("08", "57P")):
                raise
            raise failed(error, text) from error
        except psycopg.Error as error:
            raise failed(error, text) from error
        if self.conn.info.transaction_status is not pq.TransactionStatus.INTRANS:
            raise ConfigurationError(
                f"{text.file} ended the transaction it was to run in",
                why="a COMMIT or ROLLBACK was executed, perhaps by a procedure it calls",
                state="the database may be partly changed: run pmcompat db status",
                fix="take the statement out of the script",
            )
        self.measured.steps.append((label or text.file, time.perf_counter() - started))

    def part(self, name: str, values: Mapping[str, Any]) -> None:
        """Render and execute ``sql/parts/<name>.sql.j2``."""
        self.text(plan_scripts.render(f"parts/{name}.sql.j2", values))

    def do(self, prepare: Callable[[], Work | None], *, keep: bool) -> bool:
        """Prepare and do the work, until it is done or patience ends; tell whether there was any.

        :param keep: commit; otherwise everything is rolled back at the end (a rehearsal).
        :raises Locked: somebody was in the way for the whole of the patience; they are named.
        """
        end = time.monotonic() + self.settings.patience
        pause = _FIRST_PAUSE
        while True:
            work = prepare()
            if work is None:
                return False
            self.measured.attempts += 1
            try:
                self._attempt(work, keep=keep)
            except _BUSY as error:
                found = upgrade_locks.blockers(self.conn, work.oids)
                self._give_way(error, found, end)
                upgrade_locks.wait_for(self.conn, [b.pid for b in found], work.oids, min(pause, max(0, end - time.monotonic())))
                pause = min(pause * 2, _LONGEST_PAUSE)
            except Changed as error:
                if time.monotonic() >= end:
                    raise self._gave_up((), str(error)) from error
                self.notify(f"{error}; planning again")
            else:
                return True

    def _attempt(self, work: Work, *, keep: bool) -> None:
        self.measured.steps.clear()
        with self._settled(), self.ledger.transaction(rollback_on_exit=not keep):
            work.before_locks(self)
            asked = time.perf_counter()
            work.locks(self)
            taken = time.perf_counter()
            held = self._held_since_the_first()
            work.under_locks(self)
            if not keep:
                self.measured.locks = self._held()
        self.measured.locked = time.perf_counter() - taken + held
        self.measured.waited = max(0.0, taken - asked - held)

    @contextmanager
    def _settled(self) -> Iterator[None]:
        """Say what state a lost connection leaves behind: after COMMIT was sent, nobody here can know."""
        try:
            yield
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            if isinstance(error, _BUSY):
                raise
            committing = self.ledger.committing
            kind = Uncertain if committing else DatabaseUnreachable
            raise kind(
                "the connection to the database was lost" + (" while committing" if committing else ""),
                why=" ".join(str(error).split()),
                state="it is complete or untouched, nothing between" if committing else _NOTHING,
                fix="run pmcompat db status, then the command again",
            ) from error

    def _held_since_the_first(self) -> float:
        row = self.conn.execute(
            "SELECT extract(epoch FROM clock_timestamp() - "
            "nullif(current_setting('pmcompat.first_lock', true), '')::timestamptz)::float8"
        ).fetchone()
        return (row[0] or 0.0) if row else 0.0

    def _held(self) -> list[tuple[str, str]]:
        rows = self.conn.execute(
            "SELECT n.nspname || '.' || c.relname, l.mode FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation "
            "JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE l.pid = pg_backend_pid() "
            "AND n.nspname NOT IN ('pg_catalog', 'pg_toast', 'pmcompat') "
            "AND l.mode IN ('AccessExclusiveLock', 'ExclusiveLock', 'ShareRowExclusiveLock') ORDER BY 2, 1"
        )
        return [(name, mode) for name, mode in rows]

    def _give_way(self, error: psycopg.Error, found: tuple[upgrade_locks.Blocker, ...], end: float) -> None:
        if time.monotonic() >= end:
            raise self._gave_up(found, " ".join(str(error.diag.message_primary).split())) from error
        for blocker in found:
            self.notify(f"in the way: {blocker}")
        self.notify(f"gave way after {self.settings.lock_timeout:g} s; trying again")

    def _gave_up(self, found: tuple[upgrade_locks.Blocker, ...], why: str) -> Locked:
        named = "; ".join(map(str, found)) or "sessions that have gone since, or that this role may not see"
        return Locked(
            f"the tables could not be locked in {self.settings.patience:g} s ({self.measured.attempts} attempts)",
            holder=named,
            why=f"{why}; in the way: {named}",
            state=_NOTHING,
            fix="let those sessions end (or pg_terminate_backend), or try at a quieter time",
        )


def read(conn: Connection, settings: UpgradeSettings) -> Catalog:
    """Return the catalog of the database, with the server's refusals as errors of ours.

    :raises Locked: somebody holds an exclusive lock on what must be read.
    :raises OperationFailed: the server refused a query.
    :raises DatabaseUnreachable: the connection was lost.
    """
    with reporting_loss():
        try:
            return catalog_read.read(conn, settings.schema)
        except psycopg.errors.LockNotAvailable as error:
            raise Locked(
                "the catalog could not be read",
                holder="a session that is changing the views or tables",
                why=" ".join(str(error).split()),
                state="nothing was changed",
                fix="wait for it; see pg_stat_activity",
            ) from error
        except psycopg.OperationalError:
            raise
        except psycopg.Error as error:
            raise OperationFailed(
                "the catalog could not be read", why=" ".join(str(error).split()), state="nothing was changed"
            ) from error


def failed(error: psycopg.Error, text: Text) -> OperationFailed | Refused:
    """Return our error for the server's, with file and line where the server says where."""
    diag = error.diag
    place = text.place(int(diag.statement_position)) if diag.statement_position else text.file
    details = [detail for detail in (diag.message_detail, diag.message_hint, diag.context) if detail]
    kind = Refused if isinstance(error, psycopg.errors.InsufficientPrivilege) else OperationFailed
    return kind(
        f"{place}: {diag.message_primary or error}",
        why="; ".join(" ".join(detail.split()) for detail in details)[:2000],
        state=_NOTHING,
        fix="mend what the message names, then run the command again",
        sqlstate=error.sqlstate,
    )


@contextmanager
def session(conn: Connection, settings: UpgradeSettings, notify: Notify | None) -> Iterator[Run]:
    """Give a run on *conn* that holds the advisory lock, in autocommit and with NOTICEs passed on.

    :raises ConfigurationError: *conn* is inside a transaction.
    :raises Locked: another session holds the lock.
    :raises Refused: a proxy pools by transaction: the lock would be left in a session of others.
    """
    if conn.info.transaction_status is not pq.TransactionStatus.IDLE:
        raise ConfigurationError(
            "the connection is inside a transaction",
            why="the upgrade is one transaction of its own",
            state="nothing was done",
            fix="commit or roll back first, or give it a connection of its own",
        )
    say: Notify = notify or (lambda _: None)

    def heard(diag: psycopg.errors.Diagnostic) -> None:
        say(diag.message_primary or "")

    autocommit, conn.autocommit = conn.autocommit, True
    conn.add_notice_handler(heard)
    ledger = Ledger(conn)
    try:
        with reporting_loss():
            prove(conn, "the schema cannot be changed through it", state="nothing was changed")
        with ledger.lock():
            yield Run(conn, ledger, settings, say)
    finally:
        conn.remove_notice_handler(heard)
        if not conn.closed:
            conn.autocommit = autocommit
