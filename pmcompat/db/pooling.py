"""Proxies between us and the database: proof that a session is ours alone, before a lock is taken that lives in it.

What lives here: the proof, for both kinds of connection. Connected directly, the process that serves us is the one the server
itself named at login. A proxy names another; then a second connection holds a transaction open while the first one speaks
again: a proxy that pools by transaction has to give it another process, or lets it wait.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

import psycopg

from pmcompat.db.connection import SESSION, UNPOOLED, AsyncConnection, connect, connect_async, within
from pmcompat.errors import Refused

#: statements that look for a second session behind one connection
_PROOFS: Final = 3
#: seconds that the first connection may wait while the second one holds a session
_WAIT: Final = 2.0
_NAME: Final = "pmcompat proof"
_SEVERAL: Final = "one connection was served by several sessions"
_TAKEN: Final = "a second connection took its session away"


def pooled(cannot: str, why: str, *, state: str) -> Refused:
    """Return the error for a session that others are given too."""
    return Refused(
        f"the database is behind a proxy that pools by transaction: {cannot}",
        why=why,
        state=state,
        fix=UNPOOLED,
    )


async def prove_async(conn: AsyncConnection, dsn: str | None, cannot: str, *, state: str) -> int:
    """Return the server process behind *conn* once it is certain that it stays there.

    :raises Refused: it does not; *cannot* and *state* complete the message.
    """
    pid = await _pid_async(conn)
    if pid == conn.info.backend_pid:
        return pid
    other = await connect_async(dsn, application_name=_NAME)
    try:
        for _ in range(_PROOFS):
            async with other.transaction():
                taken = await _pid_async(other)
                async with within(_WAIT, conn):
                    again = await _pid_async(conn)
            if again != pid or taken == pid:
                raise pooled(cannot, _SEVERAL, state=state)
    except (TimeoutError, psycopg.Error):
        raise pooled(cannot, _TAKEN, state=state) from None
    finally:
        with suppress(Exception):
            await other.close()
    return pid


async def _pid_async(conn: AsyncConnection) -> int:
    row = await (await conn.execute(SESSION)).fetchone()
    return int(row[0]) if row else 0


def prove(conn: psycopg.Connection[Any], cannot: str, *, state: str) -> None:
    """Return once it is certain that the session behind *conn* stays there; *conn* is in autocommit.

    :raises Refused: it does not; *cannot* and *state* complete the message.
    :raises DatabaseUnreachable: there is a proxy, and no second connection.
    """
    pid = _pid(conn)
    if pid == conn.info.backend_pid:
        return
    password = {"password": conn.info.password} if conn.info.password else {}
    with connect(psycopg.conninfo.make_conninfo(conn.info.dsn, **password, application_name=_NAME)) as other:
        try:
            for _ in range(_PROOFS):
                with other.transaction():
                    # the server ends the second one if the first waits for it; the waiting itself has no end of its own
                    other.execute(f"SET LOCAL idle_in_transaction_session_timeout = '{_WAIT:g}s'")
                    taken, again = _pid(other), _pid(conn)
                if again != pid or taken == pid:
                    raise pooled(cannot, _SEVERAL, state=state)
        except psycopg.Error:
            raise pooled(cannot, _TAKEN, state=state) from None


def _pid(conn: psycopg.Connection[Any]) -> int:
    row = conn.execute(SESSION).fetchone()
    return int(row[0]) if row else 0
