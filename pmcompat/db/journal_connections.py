"""A handful of asynchronous connections, opened when they are needed and replaced when they broke.

What lives here: handing out connections, bounding every use in time, and the errors of the house. psycopg's own pool would
bring a dependency and threads of its own for the sake of four connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import psycopg
from psycopg import errors

from pmcompat.db.connection import AsyncConnection, connect_async
from pmcompat.errors import DatabaseUnreachable, PmcompatError, SchemaError

#: seconds that one use of a connection may take; a database that answers later cannot be waited for
LONGEST_USE = 10.0


class Connections:
    """At most *limit* connections to one database, for one event loop."""

    def __init__(self, dsn: str | None, *, limit: int, application_name: str) -> None:
        self._dsn = dsn
        self._name = application_name
        self._free: list[AsyncConnection] = []
        self._places = asyncio.Semaphore(limit)
        self._closed = False

    @asynccontextmanager
    async def one(self) -> AsyncIterator[AsyncConnection]:
        """Lend a connection in autocommit; it comes back clean, or is thrown away.

        :raises DatabaseUnreachable: no connection, the connection was lost, no answer within :data:`LONGEST_USE`, or the role
            may not use the tables (law F7: what cannot be written is not begun).
        :raises SchemaError: the tables are not there.
        """
        async with self._places:
            conn: AsyncConnection | None = None
            try:
                async with asyncio.timeout(LONGEST_USE):
                    conn = await self._get()
                    yield conn
            except TimeoutError:
                await _discard(conn)
                raise DatabaseUnreachable(
                    "the database does not answer", why=f"no answer within {LONGEST_USE:.0f} seconds", fix="check the server"
                ) from None
            except psycopg.Error as error:
                raise translated(error) from None
            finally:
                await self._put(conn)

    async def _get(self) -> AsyncConnection:
        while self._free:
            conn = self._free.pop()
            if not conn.closed:
                return conn
        return await connect_async(self._dsn, application_name=self._name)

    async def _put(self, conn: AsyncConnection | None) -> None:
        if conn is None:
            return
        clean = conn.info.transaction_status is psycopg.pq.TransactionStatus.IDLE
        if clean and not conn.closed and not self._closed:
            self._free.append(conn)
        else:
            await _discard(conn)

    async def close(self) -> None:
        """Close what is not in use, and what is in use when it comes back. Idempotent."""
        self._closed = True
        while self._free:
            await _discard(self._free.pop())


async def _discard(conn: AsyncConnection | None) -> None:
    if conn is not None:
        with suppress(Exception):
            await conn.close()


def translated(error: psycopg.Error) -> PmcompatError:
    """Return our error for what the database said about schema ``pmcompat``; values are never passed on."""
    why = error.diag.message_primary or " ".join(str(error).split())
    match error:
        case errors.UndefinedTable() | errors.InvalidSchemaName() | errors.UndefinedColumn():
            return SchemaError(
                "this database has no journal",
                why=why,
                state="nothing was sent",
                fix="run `pmcompat db upgrade`, or use --no-journal",
            )
        case errors.InsufficientPrivilege() | errors.ReadOnlySqlTransaction():
            return DatabaseUnreachable(
                "the database role may not write the journal",
                why=why,
                state="nothing was sent",
                fix="run `pmcompat db upgrade --grant-to ROLE`, or use --no-journal",
            )
        case _:
            return DatabaseUnreachable(
                "the journal cannot be written", why=why, state="what was not committed was rolled back", fix="check the server"
            )
