"""Open connections to Postgres; the one place where libpq's connection errors become ours.

What lives here: connecting, the rule about passwords in a DSN, what changes where a proxy pools sessions, and the translation
of connection failures. No other SQL of the house's own.

A proxy that pools by transaction hands a session on after each transaction, with all that was set or prepared in it. So behind
any proxy nothing is left in the session: no setting that outlives a transaction, no statement under a name.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pmcompat.errors import ConfigurationError, CredentialsRefused, DatabaseUnreachable, PmcompatError, Refused

#: a database's own encoding, or PGCLIENTENCODING, may not hold what a document says; in SQL_ASCII texts would come as bytes
ENCODING = "UTF8"
#: seconds; libpq's own default is to wait for ever
CONNECT_TIMEOUT = 10

#: libpq and server texts that mean "user or password", which arrive without an SQLSTATE
_REFUSALS = ("authentication failed", "no password supplied", "no pg_hba.conf entry", "is not permitted to log in")
#: pgbouncer's text where it pools by statement
_NO_TRANSACTIONS = "statement pooling mode"

#: the server process that serves us; at login a proxy names another, of its own making
SESSION: Final = "SELECT pg_backend_pid()"

#: what to do about a proxy that pools too much
UNPOOLED: Final = "connect to the database itself, or to a pool in session mode"

Connection = psycopg.Connection[tuple[Any, ...]]
AsyncConnection = psycopg.AsyncConnection[tuple[Any, ...]]


def parse(dsn: str) -> dict[str, Any]:
    """Return the keywords of *dsn*, a ``postgresql://`` URL or a ``key=value`` string.

    :raises ConfigurationError: it is neither. The text is not quoted: it may hold a password.
    """
    if _has_raw_password(dsn):
        raise ConfigurationError(
            "the database address cannot be read",
            why="its password holds a character that stands for something else in a URL",
            state="nothing was done",
            fix="write @ as %40, / as %2F, : as %3A; or put the password into PGPASSWORD or a passfile",
        )
    try:
        return conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        raise ConfigurationError(
            "the database address cannot be read",
            why="it is neither a postgresql:// URL nor a list of keyword=value pairs",
            state="nothing was done",
            fix="write it as postgresql://user@host:5432/database",
        ) from None


def _has_raw_password(dsn: str) -> bool:
    """Tell whether a URL's password has an unescaped @ or /: its end would pass for a host, which messages show."""
    _, url, rest = dsn.partition("://")
    before, at, _ = rest.partition("?")[0].rpartition("@")
    return bool(url and at) and ":" in before and ("@" in before or "/" in before)


def has_password(dsn: str) -> bool:
    """Tell whether *dsn* carries a password, which would show in the process list (law F10)."""
    return bool(parse(dsn).get("password"))


def describe(conn: psycopg.Connection[Any]) -> str:
    """Return *database at host:port as user*, for messages; never the password."""
    return f"{conn.info.dbname} at {conn.info.host}:{conn.info.port} as {conn.info.user}"


def connect(
    dsn: str | None,
    *,
    read_only: bool = False,
    autocommit: bool = True,
    application_name: str = "pmcompat",
) -> Connection:
    """Connect to the database *dsn*, or to what libpq's ``PG*`` variables name where it is None or empty.

    :param read_only: every transaction of the session is READ ONLY (law D7). Behind a proxy that takes a transaction around
        every statement, *autocommit* or not: a setting of the session would reach others.
    :raises DatabaseUnreachable: no answer, or no such database.
    :raises CredentialsRefused: user or password were refused.
    :raises ConfigurationError: *dsn* cannot be read.
    :raises Refused: a proxy pools by statement.
    """
    keywords = _keywords(dsn)
    keywords.setdefault("application_name", application_name)
    try:
        conn = psycopg.connect(make_conninfo(**keywords), autocommit=True)
        try:
            direct = conn.execute(SESSION).fetchone() == (conn.info.backend_pid,)
            if not direct:
                conn.prepare_threshold = None
                with conn.transaction():
                    pass  # whether there are any
            if read_only:
                conn.read_only = True
                if direct:
                    conn.execute("SET default_transaction_read_only = on")
            conn.autocommit = autocommit and (direct or not read_only)
        except BaseException:
            conn.close()
            raise
    except psycopg.OperationalError as error:
        raise _connection_error(error, keywords) from None
    except psycopg.ProgrammingError as error:
        raise _setting_error(error) from None
    return conn


async def connect_async(dsn: str | None, *, application_name: str = "pmcompat") -> AsyncConnection:
    """Do what :func:`connect` does, for an event loop; in autocommit.

    :raises DatabaseUnreachable: no answer, or no such database.
    :raises CredentialsRefused: user or password were refused.
    :raises ConfigurationError: *dsn* cannot be read.
    :raises Refused: a proxy pools by statement.
    """
    keywords = _keywords(dsn)
    keywords["application_name"] = application_name
    try:
        conn = await psycopg.AsyncConnection.connect(make_conninfo(**keywords), autocommit=True)
        try:
            cursor = await conn.execute(SESSION)
            if await cursor.fetchone() != (conn.info.backend_pid,):
                conn.prepare_threshold = None
                async with conn.transaction():
                    pass  # whether there are any
        except BaseException:
            await conn.close()
            raise
    except psycopg.OperationalError as error:
        raise _connection_error(error, keywords) from None
    except psycopg.ProgrammingError as error:
        raise _setting_error(error) from None
    return conn


def _keywords(dsn: str | None) -> dict[str, Any]:
    """Return what *dsn* says and what we ask of every connection."""
    keywords = parse(dsn or "")
    keywords["client_encoding"] = ENCODING
    if "PGCONNECT_TIMEOUT" not in os.environ:
        keywords.setdefault("connect_timeout", CONNECT_TIMEOUT)
    return keywords


def _setting_error(error: psycopg.ProgrammingError) -> ConfigurationError:
    return ConfigurationError(
        "a setting of the database connection cannot be used",
        why=str(error),
        state="nothing was done",
        fix="check --dsn, PMCOMPAT_DSN and the PG* variables",
    )


def _connection_error(error: psycopg.OperationalError, keywords: dict[str, Any]) -> PmcompatError:
    why = " ".join(str(error).split())
    where = (
        " ".join(f"{key} {keywords[key]}" for key in ("dbname", "host", "port", "user") if keywords.get(key))
        or "libpq's defaults"
    )
    if _NO_TRANSACTIONS in why:
        return Refused(
            f"the database is behind a proxy that pools by statement: it has no transactions there ({where})",
            why=why,
            state="nothing was done",
            fix=UNPOOLED,
        )
    if any(text in why for text in _REFUSALS):
        return CredentialsRefused(
            f"the database refused the login ({where})",
            why=why,
            state="nothing was done",
            fix="check the user, and the password in PGPASSWORD, a passfile or PMCOMPAT_DSN",
        )
    return DatabaseUnreachable(
        f"the database cannot be reached ({where})",
        why=why,
        state="nothing was done",
        fix="check --dsn, PMCOMPAT_DSN or the PG* variables, and that the server runs and listens there",
    )


@asynccontextmanager
async def within(seconds: float, conn: AsyncConnection) -> AsyncIterator[None]:
    """Bound a use of *conn*; when the time is up the connection is closed at once.

    psycopg would first ask the server to cancel the statement: where nobody answers, that takes ten seconds more.

    :raises TimeoutError: it took longer.
    """
    end = asyncio.get_running_loop().call_later(seconds, conn.pgconn.finish)
    try:
        async with asyncio.timeout(seconds):
            yield
    finally:
        end.cancel()


@contextmanager
def reporting_loss() -> Iterator[None]:
    """Turn the loss of an open connection into DatabaseUnreachable.

    :raises DatabaseUnreachable: the server ended the session or the network did.
    """
    try:
        yield
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        if isinstance(error, psycopg.OperationalError) and error.sqlstate and not error.sqlstate.startswith(("08", "57P")):
            raise
        raise DatabaseUnreachable(
            "the connection to the database was lost",
            why=" ".join(str(error).split()),
            state="what was not committed was rolled back",
            fix="find out why the server ended the session, then run the command again",
        ) from error
