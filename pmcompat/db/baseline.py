"""Make the databases we upgrade from: ``pmcompat db init``, the demo and the tests.

What lives here: loading the scripts of ``sql/baseline/`` into an empty schema in one transaction, and the mark that says a
database was made that way. The shapes themselves, and the hosts that fill them, are SQL a DBA can read and run with psql.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import psycopg
from psycopg import errors, sql

from pmcompat.db.connection import reporting_loss
from pmcompat.errors import ConfigurationError, SchemaError
from pmcompat.model import require
from pmcompat.resources import data

Shape = Literal["3.1.0", "3.2-snapshot"]
#: the shapes a database can be made in: the release, and the day before secondary power management came
SHAPES: tuple[Shape, ...] = get_args(Shape)
#: more than any installation has; the ids and addresses of the hosts are made for no more
MAX_HOSTS = 10_000_000
#: PostgreSQL 13: the first with gen_random_uuid() in its core, and with sha512() long before
MIN_SERVER = 130000

_INCLUDE = re.compile(r"^\\ir (\S+)$", re.MULTILINE)
_CREATED = re.compile(r"^CREATE (TABLE|VIEW|SEQUENCE|FUNCTION) (\w+)", re.MULTILINE)
#: the role may not create things, or somebody else creates the same at this moment
_IN_THE_WAY = (
    errors.InsufficientPrivilege,
    errors.DuplicateTable,
    errors.DuplicateFunction,
    errors.DuplicateObject,
    errors.DuplicateSchema,
    errors.UniqueViolation,
)
#: how many of the names in the way a message shows, and which of them say most
_NAMED = 5
_TELLING = frozenset({"vds_static", "vds", "vdc_options", "schema_version"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What was made."""

    shape: Shape
    schema: str
    hosts: int
    tables: int
    views: int
    functions: int
    seconds: float

    def as_json(self) -> dict[str, object]:
        """Return plain values for ``--json``."""
        return asdict(self)


def script(name: str) -> str:
    r"""Return the text of ``sql/baseline/NAME`` with its ``\ir`` lines replaced by the files they name, as psql reads it."""
    return _expanded(data("sql") / "baseline" / name)


def _expanded(path: Path) -> str:
    return _INCLUDE.sub(lambda found: _expanded(path.parent / found[1]), path.read_text(encoding="utf-8"))


def created(shape: Shape) -> dict[str, list[str]]:
    """Return the names a shape brings by kind (``TABLE``, ``VIEW``, ``SEQUENCE``, ``FUNCTION``), spelt as in the catalog."""
    names: dict[str, list[str]] = {"TABLE": [], "VIEW": [], "SEQUENCE": [], "FUNCTION": []}
    for kind, name in _CREATED.findall(script(f"{shape}.sql")):
        names[kind].append(name.lower())
    return names


def init(
    conn: psycopg.Connection[Any],
    shape: Shape,
    hosts: int = 0,
    *,
    schema: str = "public",
    progress: Callable[[str], None] | None = None,
) -> Summary:
    """Create *shape* in an empty schema: one data centre and one cluster, "Default", and *hosts* hosts in it.

    All in one transaction. On a connection with a transaction already open it becomes part of that one, and nothing is done
    until the caller commits. The rows depend on nothing but *shape* and *hosts* (see ``sql/baseline/shared/hosts.sql``). The
    role of *conn* owns everything; it needs no more than the right to create things in *schema* and schemas in the database.

    :param hosts: 0 to 10,000,000; a million takes one to two minutes on two cores.
    :param schema: created where it is missing.
    :param progress: is told what is being done, a few words at a time.
    :raises SchemaError: the schema already holds something of an engine, the server is too old, or the role may not create
        things; nothing was changed.
    :raises ConfigurationError: there is no such shape.
    :raises ModelError: *hosts* is out of range.
    :raises DatabaseUnreachable: the connection was lost; nothing was changed.
    """
    if shape not in SHAPES:
        raise ConfigurationError(
            f"there is no shape {shape!r}", state="nothing was changed", fix=f"choose {' or '.join(SHAPES)}"
        )
    require(0 <= hosts <= MAX_HOSTS, f"{hosts} hosts cannot be made", name="hosts", why=f"0 to {MAX_HOSTS:,} are possible")
    _require_server(conn)
    tell = progress or (lambda _text: None)
    began = time.monotonic()
    names = created(shape)
    try:
        with reporting_loss(), conn.transaction():
            path = _enter(conn, schema)
            _require_empty(conn, schema, names)
            tell(f"tables, views and functions of {shape}")
            conn.execute(_text(script(f"{shape}.sql")))
            if hosts:
                tell(f"{hosts:,} hosts")
                _fill(conn, shape, hosts)
            conn.execute(_text(script("origin.sql")))
            conn.execute(
                "INSERT INTO pmcompat.origin (vds_static, shape, hosts) VALUES (CAST('vds_static' AS regclass), %s, %s)",
                [shape, hosts],
            )
            conn.execute("SELECT set_config('search_path', %s, true)", [path])
    except _IN_THE_WAY as error:
        raise SchemaError(
            f"the {shape} shape cannot be created in schema {schema}",
            why=" ".join(str(error).split()),
            state="nothing was changed",
            fix="use an empty database and a role that may create schemas and tables in it (its owner)",
        ) from error
    return Summary(
        shape=shape,
        schema=schema,
        hosts=hosts,
        tables=len(names["TABLE"]),
        views=len(names["VIEW"]),
        functions=len(names["FUNCTION"]),
        seconds=round(time.monotonic() - began, 3),
    )


def made_by_init(conn: psycopg.Connection[Any], *, schema: str = "public") -> bool:
    """Tell whether :func:`init` made the ``vds_static`` that is in *schema* now. Reads only.

    A copy of the database as a template keeps the mark; a dump restored elsewhere does not, and neither does a database whose
    schema ``pmcompat`` was purged. Where the mark cannot be read, the answer is no.
    """
    table = sql.Identifier(schema, "vds_static").as_string(conn)
    readable = conn.execute(
        "SELECT to_regclass(%s), coalesce((SELECT has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = 'pmcompat' AND c.relname = 'origin'), false)",
        [table],
    ).fetchone()
    if readable is None or None in readable or not readable[1]:
        return False
    marked = conn.execute("SELECT 1 FROM pmcompat.origin WHERE vds_static = to_regclass(%s)", [table]).fetchone()
    return marked is not None


def _text(text: str) -> Any:
    # psycopg types a query as LiteralString, so that no value is pasted into one; these come from our own files whole
    return cast("Any", text)


def _require_server(conn: psycopg.Connection[Any]) -> None:
    if conn.info.server_version < MIN_SERVER:
        raise SchemaError(
            f"PostgreSQL {conn.info.server_version // 10000} is too old for the baseline",
            why="it needs gen_random_uuid(), which is in the server since version 13",
            state="nothing was changed",
            fix="use PostgreSQL 13 or newer",
        )


def _enter(conn: psycopg.Connection[Any], schema: str) -> str:
    """Make *schema* the one things are created in until the transaction ends; return the search path before."""
    if conn.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [schema]).fetchone() is None:
        conn.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    before = conn.execute("SELECT current_setting('search_path')").fetchone()
    conn.execute("SELECT set_config('search_path', %s, true)", [sql.Identifier(schema).as_string(conn)])
    return str(before[0]) if before else ""


def _require_empty(conn: psycopg.Connection[Any], schema: str, names: dict[str, list[str]]) -> None:
    found = conn.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = CAST(%(schema)s AS regnamespace) AND relname = ANY(%(relations)s)"
        " UNION"
        " SELECT proname FROM pg_proc WHERE pronamespace = CAST(%(schema)s AS regnamespace) AND proname = ANY(%(functions)s)",
        {
            "schema": sql.Identifier(schema).as_string(conn),
            "relations": [*names["TABLE"], *names["VIEW"], *names["SEQUENCE"]],
            "functions": names["FUNCTION"],
        },
    ).fetchall()
    if not found:
        return
    there = sorted((row[0] for row in found), key=lambda name: (name not in _TELLING, name))
    shown = ", ".join(there[:_NAMED])
    raise SchemaError(
        f"the database {conn.info.dbname} is not empty",
        why=f"schema {schema} already has {shown}" + (f" and {len(there) - _NAMED} more" if len(there) > _NAMED else ""),
        state="nothing was changed",
        fix="create an empty database for it (createdb NAME); an engine's own database is upgraded with pmcompat db upgrade",
        found=there,
    )


def _fill(conn: psycopg.Connection[Any], shape: Shape, hosts: int) -> None:
    conn.execute("SELECT set_config('pmcompat.hosts', %s, true)", [str(hosts)])
    conn.execute("SET LOCAL work_mem = '64MB'")
    conn.execute(_text(script(f"hosts-{shape}.sql")))
    conn.execute("ANALYZE vds_static, vds_dynamic, vds_statistics, tags_vds_map")
