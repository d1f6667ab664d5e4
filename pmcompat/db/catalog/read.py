"""Read a live database into a :class:`~pmcompat.db.catalog.Catalog`. Reads only; a read-only role is enough (law D7).

The queries stand in ``sql/queries/``; this file only asks them and makes values of what they return. What the role may
not read is left out and named, never guessed.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar, get_args, get_type_hints

import psycopg
from psycopg import sql

from pmcompat.db import catalog as values
from pmcompat.db.catalog import (
    FENCE_PAIRS,
    OPTIONS_TABLE,
    OWN_SCHEMA,
    PROCEDURES,
    SECONDARY_NAMES,
    TABLE,
    VIEWS,
    WHITE_LIST_TABLES,
    Catalog,
)
from pmcompat.db.plan.scripts import render
from pmcompat.resources import data

T = TypeVar("T")
Connection = psycopg.Connection[Any]

_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)
#: how long a reader waits for somebody's exclusive lock
PATIENCE = "5s"
_BOOKKEEPING = ("_yoyo_migration", "scripts", "upgrades", "changed_options", "archived_agents")


@cache
def queries(file: str) -> Mapping[str, str]:
    """Return the named queries of ``sql/queries/<file>.sql``."""
    text = (data("sql") / "queries" / f"{file}.sql").read_text(encoding="utf-8")
    _, *parts = _NAME.split(text)
    return dict(zip(parts[::2], (part.strip().rstrip(";") for part in parts[1::2]), strict=True))


@cache
def _makers(kind: Any) -> Mapping[str, Any]:
    """Return the fields of *kind* that are tuples of values of ours, with the kind of their items."""
    hints = get_type_hints(kind)
    return {name: args[0] for name, hint in hints.items() if (args := get_args(hint)) and dataclasses.is_dataclass(args[0])}


def value(kind: type[T], fields: Mapping[str, Any]) -> T:
    """Make a frozen value of *kind* from JSON: lists become tuples, objects the values their field names."""
    makers: Mapping[str, Any] = _makers(kind)  # type: ignore[arg-type]  # a class is hashable, says Python
    made: dict[str, Any] = {}
    for name, given in fields.items():
        if name in makers and isinstance(given, list):
            made[name] = tuple(value(makers[name], item) for item in given)
        else:
            made[name] = tuple(given) if isinstance(given, list) else given
    return kind(**made)


@contextmanager
def qualified(conn: Connection) -> Iterator[None]:
    """Read with ``search_path = pg_catalog``, in a transaction or savepoint, and put the path back."""
    with conn.transaction():
        row = conn.execute("SELECT current_setting('search_path'), set_config('search_path', 'pg_catalog', true)").fetchone()
        yield
        if row is not None:
            conn.execute("SELECT set_config('search_path', %s, true)", [row[0]])


@contextmanager
def patiently(conn: Connection) -> Iterator[None]:
    """Wait for the locks of others a few seconds at most: printing a view's definition needs a share lock on it."""
    with conn.transaction():
        row = conn.execute("SELECT current_setting('lock_timeout')").fetchone()
        if row is not None and row[0] == "0":
            conn.execute("SELECT set_config('lock_timeout', %s, true)", [PATIENCE])
        yield
        if row is not None:
            conn.execute("SELECT set_config('lock_timeout', %s, true)", [row[0]])


class _Reader:
    """Asks the named queries of one connection about one schema."""

    def __init__(self, conn: Connection, schema: str) -> None:
        self.conn = conn
        self.schema = schema

    def catalog(self, name: str, **params: Any) -> list[Any]:
        return [row[0] for row in self.conn.execute(queries("catalog")[name], params)]

    def engine(self, name: str, **params: Any) -> list[Any]:
        text = sql.SQL(queries("engine")[name]).format(schema=sql.Identifier(self.schema))
        return [row[0] for row in self.conn.execute(text, params)]

    def values(self, kind: type[T], rows: Iterable[Mapping[str, Any]]) -> tuple[T, ...]:
        return tuple(value(kind, row) for row in rows)


def read(conn: Connection, schema: str = "public") -> Catalog:
    """Return what the engine database behind *conn* is, with the engine in *schema*.

    :raises psycopg.errors.LockNotAvailable: somebody holds ACCESS EXCLUSIVE on one of the views for longer than the
        session's ``lock_timeout``.
    """
    with patiently(conn), qualified(conn):
        ask = _Reader(conn, schema)
        server = value(values.Server, ask.catalog("session")[0])
        names = {row["name"]: row for row in ask.catalog("named_relations", schema=schema, names=_names())}
        if TABLE not in names or names[TABLE]["kind"] not in {"r", "p"}:
            return Catalog(schema=schema, server=server)
        facts: dict[str, Any] = {"schema": schema, "server": server}
        facts |= _objects(ask, names)
        facts |= _rows(ask, names)
        facts |= _own(ask)
        return Catalog(**facts)


def _names() -> list[str]:
    return [TABLE, *VIEWS, *WHITE_LIST_TABLES, OPTIONS_TABLE, "schema_version"]


def _objects(ask: _Reader, names: Mapping[str, Any]) -> dict[str, Any]:
    """Read the table, the views, the procedures and whatever depends on them."""
    targets = [names[name]["oid"] for name in (TABLE, *VIEWS) if name in names]
    routines = ask.catalog("named_routines", schema=ask.schema, names=list(PROCEDURES))
    users = ask.values(values.ColumnUser, ask.catalog("column_users", oids=targets, columns=list(SECONDARY_NAMES)))
    reading = tuple(ask.catalog("reading_views", oid=names[TABLE]["oid"]))
    replaced = {*targets, *(row["oid"] for row in routines), *(user.oid for user in users)} - {names[TABLE]["oid"]}
    dependants = ask.values(values.Dependant, ask.catalog("dependants", oids=list(replaced)))
    row_types = {row["oid"]: row["relation"] for row in ask.catalog("row_type_routines", oids=targets)}
    mentioning = tuple(ask.catalog("routines_mentioning", word="pm_secondary_"))
    wanted = {d.oid for d in dependants if d.catalog == "pg_class"} | {user.oid for user in users} | {*reading}
    functions = {r["oid"] for r in routines} | {d.oid for d in dependants if d.catalog == "pg_proc"} | {*row_types, *mentioning}
    relations = {r.oid: r for r in ask.values(values.Relation, ask.catalog("relations", oids=[*targets, *wanted]))}
    read_routines = {r.oid: r for r in ask.values(values.Routine, ask.catalog("routines", oids=list(functions)))}
    table = relations[names[TABLE]["oid"]]
    views = {name: relations[names[name]["oid"]] for name in VIEWS if name in names}
    procedures = {
        name: tuple(read_routines[row["oid"]] for row in routines if row["name"] == name)
        for name in PROCEDURES
        if any(row["name"] == name for row in routines)
    }
    return {
        "table": table,
        "views": views,
        "procedures": procedures,
        "dependants": dependants,
        "relations": relations,
        "routines": read_routines,
        "row_type_routines": row_types,
        "mentioning": mentioning,
        "column_users": users,
        "fingerprint": fingerprint(ask.conn, ask.schema),
        "reading_views": reading,
        "composite_users": tuple(ask.catalog("composite_users", oid=table.oid)),
        **_powers(ask, relations, read_routines),
        **_size(ask, table.oid),
    }


def fingerprint(conn: Connection, schema: str) -> dict[str, tuple[str, str]]:
    """Return what ``sql/parts/fingerprint.sql.j2`` says about the objects of the change. Call it inside :func:`qualified`."""
    names = {"kept_only": False, "schema": schema, "fingerprinted": [TABLE, *VIEWS], "procedure_names": list(PROCEDURES)}
    text = render("parts/fingerprint.sql.j2", names).sql
    return {name: (whole, kept) for name, whole, kept in conn.execute(text.encode())}


def _size(ask: _Reader, oid: int) -> dict[str, Any]:
    size = ask.catalog("size", oid=oid)[0]
    return {"hosts": size["rows"], "bytes": size["bytes"]}


def _powers(ask: _Reader, relations: Mapping[int, Any], routines: Mapping[int, Any]) -> dict[str, Any]:
    """Read which of the roles involved the session can act as, and which of them may create in the schema."""
    objects = [*relations.values(), *routines.values()]
    roles = {o.owner for o in objects} | {grant.grantor for o in objects for grant in o.grants}
    usable = {row["name"]: row["usable"] for row in ask.catalog("roles", names=sorted(roles))}
    schema = ask.catalog("schema", schema=ask.schema, roles=sorted(roles))[0]
    return {"roles": usable, "creators": tuple(schema["creators"])}


def _rows(ask: _Reader, names: Mapping[str, Any]) -> dict[str, Any]:
    """Read the few rows of the engine's own settings; what is missing or not readable is named."""
    missing, unreadable = list[str](), list[str]()
    found: dict[str, Any] = {}
    options = sorted(default.name.lower() for pair in FENCE_PAIRS.values() for default in pair)
    wanted: dict[str, tuple[str, type, str, dict[str, Any]]] = {
        "options": (OPTIONS_TABLE, values.Option, "options", {"names": options}),
        "white_list": (WHITE_LIST_TABLES[0], values.Listed, "white_list", {}),
        "white_list_cache": (WHITE_LIST_TABLES[1], values.CachedSql, "white_list_cache", {}),
        "release": ("schema_version", values.Release, "release", {}),
    }
    for name, (table, kind, query, params) in wanted.items():
        if table not in names:
            missing.append(table)
        elif not ask.catalog("readable", oid=names[table]["oid"])[0]:
            unreadable.append(table)
        else:
            rows: tuple[Any, ...] = ask.values(kind, ask.engine(query, **params))
            found[name] = next(iter(rows), None) if name == "release" else rows
    sequence = ask.catalog("option_sequence", oid=names[OPTIONS_TABLE]["oid"]) if OPTIONS_TABLE in names else []
    found["option_sequence"] = sequence[0] if sequence else ""
    return {**found, "missing": tuple(missing), "unreadable": tuple(unreadable)}


def _own(ask: _Reader) -> dict[str, Any]:
    """Read schema pmcompat as far as it exists and this role may."""
    tables = {row["name"]: row["oid"] for row in ask.catalog("named_relations", schema=OWN_SCHEMA, names=list(_BOOKKEEPING))}
    if len(tables) < len(_BOOKKEEPING):
        return {}
    usable = ask.catalog("session")[0]["own_schema_readable"]
    asked = {name: "archive_readable" if name == "archived_agents" else "readable" for name in tables}
    if not usable or not all(ask.catalog(asked[name], oid=oid)[0] for name, oid in tables.items()):
        return {"bookkeeping": True, "applied": None}
    last = ask.engine("last_upgrade")
    return {
        "bookkeeping": True,
        "applied": ask.values(values.AppliedScript, ask.engine("scripts")),
        "before": last[0]["before"] if last else None,
        "changed_options": ask.values(values.ChangedOption, ask.engine("changed_options")),
        "archived": ask.values(values.ArchivedAgent, ask.engine("archived")),
    }
