"""Open connections to Postgres; the one place where libpq's connection errors become ours.

What lives here: connecting, the rule about passwords in a DSN, and the translation of connection failures. No SQL of the
house's own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pmcompat.errors import ConfigurationError, CredentialsRefused, DatabaseUnreachable, PmcompatError

#: seconds; libpq's own default is to wait for ever
CONNECT_TIMEOUT = 10

#: libpq and server texts that mean "user or password", which arrive without an SQLSTATE
_REFUSALS = ("authentication failed", "no password supplied", "no pg_hba.conf entry", "is not permitted to log in")

Connection = psycopg.Connection[tuple[Any, ...]]
AsyncConnection = psycopg.AsyncConnection[tuple[Any, ...]]


def parse(dsn: str) -> dict[str, Any]:
    """Return the keywords of *dsn*, a ``postgresql://`` URL or a ``key=value`` string.

    :raises ConfigurationError: it is neither. The text is not quoted: it may hold a password.
    """
    try:
        return conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        raise ConfigurationError(
            "the database address cannot be read",
            why="it is neither a postgresql:// URL nor a list of keyword=value pairs",
            state="nothing was done",
            fix="write it as postgresql://user@host:5432/database",
        ) from None


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

    :param read_only: every transaction of the session is READ ONLY (law D7).
    :raises DatabaseUnreachable: no answer, or no such database.
    :raises CredentialsRefused: user or password were refused.
    :raises ConfigurationError: *dsn* cannot be read.
    """
    keywords = parse(dsn or "")
    keywords.setdefault("application_name", application_name)
    if "PGCONNECT_TIMEOUT" not in os.environ:
        keywords.setdefault("connect_timeout", CONNECT_TIMEOUT)
    try:
        conn = psycopg.connect(make_conninfo(**keywords), autocommit=autocommit)
    except psycopg.OperationalError as error:
        raise _connection_error(error, keywords) from None
    if read_only:
        conn.read_only = True
        if autocommit:
            conn.execute("SET default_transaction_read_only = on")
    return conn


async def connect_async(dsn: str | None, *, application_name: str = "pmcompat") -> AsyncConnection:
    """Do what :func:`connect` does, for an event loop; in autocommit.

    :raises DatabaseUnreachable: no answer, or no such database.
    :raises CredentialsRefused: user or password were refused.
    :raises ConfigurationError: *dsn* cannot be read.
    """
    keywords = parse(dsn or "")
    keywords["application_name"] = application_name
    if "PGCONNECT_TIMEOUT" not in os.environ:
        keywords.setdefault("connect_timeout", CONNECT_TIMEOUT)
    try:
        return await psycopg.AsyncConnection.connect(make_conninfo(**keywords), autocommit=True)
    except psycopg.OperationalError as error:
        raise _connection_error(error, keywords) from None


def _connection_error(error: psycopg.OperationalError, keywords: dict[str, Any]) -> PmcompatError:
    why = " ".join(str(error).split())
    where = (
        " ".join(f"{key} {keywords[key]}" for key in ("dbname", "host", "port", "user") if keywords.get(key))
        or "libpq's defaults"
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
