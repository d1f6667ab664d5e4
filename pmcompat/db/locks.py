"""One operation per host at a time, across processes and machines: session advisory locks on Postgres (law F6).

What lives here: the locks behind :class:`pmcompat.fence.protocols.HostLock`. They live as long as their connection, which is
used for nothing else: a process that dies, however, gives its hosts back. One connection carries the locks of all hosts of a
process (a session can hold any number), and one round trip answers every check that is waiting for it.

A lock taken in a session that others are given too protects nobody. So the session is proven to be ours before the first lock
is taken (:mod:`pmcompat.db.pooling`), and every check proves it again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg import errors

from pmcompat.db.connection import SESSION, AsyncConnection, connect_async, within
from pmcompat.db.gathering import Gathered
from pmcompat.db.pooling import pooled, prove_async
from pmcompat.errors import DatabaseUnreachable, Locked
from pmcompat.fence.events import Request

#: seconds that a check may take; later the lock counts as lost
CHECK_TIME: Final = 2.0
#: seconds that taking a lock may take
ACQUIRE_TIME: Final = 10.0
_CANNOT: Final = "a host cannot be locked through it"

_ACQUIRE: Final = "SELECT pg_try_advisory_lock(key), pg_backend_pid() FROM unnest(%s::bigint[]) AS k(key)"
_RELEASE: Final = "SELECT pg_advisory_unlock(key) FROM unnest(%s::bigint[]) AS k(key)"
_HOLDER: Final = """
SELECT a.pid, a.usename, coalesce(host(a.client_addr), 'this machine'), a.application_name, a.backend_start
FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
  AND l.classid::bigint = %(high)s AND l.objid::bigint = %(low)s
"""
_ASKED_BY: Final = """
SELECT asked_by, machine, pid, operation, started_at FROM pmcompat.operations WHERE host_id = %s AND finished_at IS NULL
"""


def key_of(host_id: UUID) -> int:
    """Return the advisory lock's key for a host: 64 bits of a hash, the same for every process and release."""
    digest = hashlib.sha256(b"pmcompat host " + host_id.bytes).digest()
    return int.from_bytes(digest[:8], signed=True)


class AdvisoryHeld:
    """One host's lock while it is held; fulfils :class:`pmcompat.fence.protocols.Held`."""

    def __init__(self, locks: AdvisoryLocks, session: Session, host_id: UUID) -> None:
        self._locks = locks
        self._session = session
        self._host_id = host_id
        self._released = False

    async def check(self) -> bool:
        """Tell whether the lock is still held; at most :data:`CHECK_TIME` seconds; once False, always False."""
        return not self._released and await self._session.check()

    async def release(self) -> None:
        """Give the host back. Idempotent; never raises."""
        if not self._released:
            self._released = True
            await self._locks.give_back(self._session, self._host_id)


class Session:
    """The connection that carries the locks, and proof that it is still the one that took them."""

    def __init__(self, conn: AsyncConnection, pid: int) -> None:
        self.conn = conn
        self.pid = pid
        self.lost = False
        #: keys → whether they were taken, and by which server process; hosts that begin or end together share a round trip
        self.take = Gathered(self._take)
        self.give = Gathered(self._give)
        self._next: asyncio.Task[bool] | None = None
        self._current: asyncio.Task[bool] | None = None

    async def _take(self, keys: Sequence[int]) -> Sequence[tuple[bool, int]]:
        cursor = await self.conn.execute(_ACQUIRE, [list(keys)])
        return [(bool(taken), int(pid)) for taken, pid in await cursor.fetchall()]

    async def _give(self, keys: Sequence[int]) -> Sequence[None]:
        await self.conn.execute(_RELEASE, [list(keys)])
        return [None] * len(keys)

    async def close(self) -> None:
        """Give up the connection and with it every lock. Never raises."""
        self.lost = True
        await self.take.close()
        await self.give.close()
        with suppress(Exception):
            await self.conn.close()

    async def check(self) -> bool:
        """Tell whether the session still is what it was; checks that wait together share one round trip.

        A round trip that was under way when a check began says nothing about now: the check takes part in the next one.
        """
        if self.lost:
            return False
        if self._next is None:
            self._next = asyncio.create_task(self._round_trip(self._current))
        return await asyncio.shield(self._next)

    async def _round_trip(self, before: asyncio.Task[bool] | None) -> bool:
        if before is not None:
            await before
        self._current, self._next = self._next, None
        if not self.lost:
            self.lost = not await self._is_ours()
            if self.lost:
                with suppress(Exception):
                    await self.conn.close()
        return not self.lost

    async def _is_ours(self) -> bool:
        try:
            async with within(CHECK_TIME, self.conn):
                cursor = await self.conn.execute(SESSION)
                return await cursor.fetchone() == (self.pid,)
        except (psycopg.Error, TimeoutError, OSError):
            return False


class AdvisoryLocks:
    """Locks hosts in the database; fulfils :class:`pmcompat.fence.protocols.HostLock`.

    For one event loop. Two of these exclude each other like two processes do.

    :param dsn: as for :func:`pmcompat.db.connection.connect`; the database itself, not a pool.
    """

    def __init__(self, dsn: str | None) -> None:
        self._dsn = dsn
        self._session: Session | None = None
        self._opening = asyncio.Lock()
        #: host → who asked for it here: a session could take its own lock twice
        self._held: dict[UUID, Request] = {}

    async def acquire(self, request: Request) -> AdvisoryHeld:
        """Lock the request's host, without waiting.

        :raises Locked: somebody else holds it; ``holder`` says who, from where and since when.
        :raises Refused: a proxy stands between: sessions are not ours alone.
        :raises DatabaseUnreachable: the lock cannot be asked for.
        """
        host_id = request.host.id
        if host_id in self._held:
            raise _locked(request, f"{self._held[host_id].origin} for {self._held[host_id].operation.value}")
        self._held[host_id] = request
        try:
            async with asyncio.timeout(ACQUIRE_TIME):
                session = await self._open(request)
                await self._take(session, request)
        except BaseException as error:
            del self._held[host_id]
            if isinstance(error, psycopg.Error | TimeoutError):
                raise DatabaseUnreachable(
                    "the host cannot be locked",
                    why=" ".join(str(error).split()) or f"no answer within {ACQUIRE_TIME:.0f} seconds",
                    state="nothing was sent",
                ) from None
            raise
        return AdvisoryHeld(self, session, host_id)

    async def _open(self, request: Request) -> Session:
        async with self._opening:
            if self._session is None or self._session.lost or self._session.conn.closed:
                origin = request.origin
                conn = await connect_async(
                    self._dsn, application_name=f"pmcompat fence {origin.user}@{origin.machine} {origin.pid}"
                )
                try:
                    self._session = Session(conn, await prove_async(conn, self._dsn, _CANNOT, state="nothing was sent"))
                except BaseException:
                    await conn.close()
                    raise
            return self._session

    async def _take(self, session: Session, request: Request) -> None:
        taken, pid = await session.take(key_of(request.host.id))
        if pid != session.pid:
            session.lost = True
            raise pooled(_CANNOT, f"session {session.pid} became session {pid}", state="nothing was sent")
        if not taken:
            raise _locked(request, await self._holder(session, request.host.id))

    async def _holder(self, session: Session, host_id: UUID) -> str:
        """Return who holds a host: the journal knows the person and the time, the server the session."""
        key = key_of(host_id) & (2**64 - 1)
        found = await _row(session.conn, _HOLDER, {"high": key >> 32, "low": key & (2**32 - 1)})
        with suppress(errors.UndefinedTable, errors.InvalidSchemaName, errors.InsufficientPrivilege):
            asked = await _row(session.conn, _ASKED_BY, [host_id])
            if asked:
                user, machine, pid, operation, since = asked
                where = f", database session {found[0]} from {found[2]}" if found else ""
                return f"{user} on {machine} (process {pid}) for {operation} since {_time(since)}{where}"
        if not found:
            return "a session that has just ended"
        pid, user, address, name, since = found
        return f"database session {pid} of {user} from {address} ({name or 'no name'}), connected since {_time(since)}"

    async def give_back(self, session: Session, host_id: UUID) -> None:
        """Unlock a host on the session that took it. Never raises."""
        self._held.pop(host_id, None)
        if session.lost or session.conn.closed:
            return
        with suppress(psycopg.Error, TimeoutError, OSError):
            async with within(CHECK_TIME, session.conn):
                await session.give(key_of(host_id))
                return
        await session.close()

    async def close(self) -> None:
        """Release the connection and with it every lock. Idempotent."""
        session, self._session = self._session, None
        self._held.clear()
        if session is not None:
            await session.close()


def _locked(request: Request, holder: str) -> Locked:
    return Locked(
        f"host {request.host.name} is locked by another operation",
        holder=holder,
        state="nothing was sent",
        fix="wait until it is done, or see `pmcompat host history`",
    )


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S %Z}"


async def _row(conn: AsyncConnection, query: str, parameters: Any) -> tuple[Any, ...] | None:
    cursor = await conn.execute(query, parameters)
    return await cursor.fetchone()
