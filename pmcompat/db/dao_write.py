"""The statements that write hosts: many rows in one call of a stored procedure each, by name.

What lives here: SQL for whole batches. A batch travels as one JSON parameter and is unrolled by the server, so a thousand hosts
cost one round trip and the procedure's own logic is kept. Names only, never positions: the shapes order the same parameters in
three ways (database facts §3.1). Everything here runs inside the caller's transaction.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg import sql

from pmcompat.db.rows import COLUMNS, FIELDS, INDEX, NAMES, SEVEN, Procedure, Row, Shape
from pmcompat.errors import ModelError, SchemaError

Connection = psycopg.Connection[Any]

#: columns that a fresh row has as a default and the inserting procedure may have no parameter for
_DEFAULTS: Final[Mapping[str, object]] = {"otp_validity": None, "recoverable": True, "vds_spm_priority": 5}
_MANY = sql.SQL("json_to_recordset(%s) AS t({})").format(
    sql.SQL(", ").join(sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(type_)) for name, type_ in COLUMNS.items())
)


def encoded(rows: Iterable[Row]) -> str:
    """Return *rows* as the JSON text that the statements unroll."""
    return json.dumps([dict(zip(NAMES, (str(row[0]), *row[1:6], str(row[6]), *row[7:]), strict=True)) for row in rows])


def procedure(shape: Shape, name: str) -> Procedure:
    """Return what the catalog knows of a stored procedure.

    :raises SchemaError: it is missing, or it cannot take the secondary agent although the table has its columns.
    """
    found = shape.procedures.get(name)
    if found is None:
        raise SchemaError(
            f"the database has no procedure {name}", why="every engine has it", state="nothing was stored", fix="check --schema"
        )
    if shape.has_secondary and not found.parameters.issuperset(f"v_{column}" for column in SEVEN):
        raise SchemaError(
            f"the procedure {name} does not know the secondary agent, but the table has its columns",
            why="the database was upgraded in part, or the procedure was replaced since",
            state="nothing was stored",
            fix="run `pmcompat db status` and `pmcompat db upgrade`",
        )
    return found


def _arguments(known: Procedure, special: Mapping[str, sql.Composable]) -> sql.Composed:
    given = (
        sql.SQL("{} => {}").format(sql.Identifier(f"v_{name}"), special.get(name, sql.Identifier("t", name)))
        for name in NAMES
        if f"v_{name}" in known.parameters
    )
    return sql.SQL(", ").join(given)


def update(conn: Connection, shape: Shape, rows: Sequence[Row]) -> None:
    """Update *rows* through UpdateVdsStatic, then the columns it has no parameter for.

    A false ``concurrent`` is handed over as NULL where NULL is stored: oVirt's own procedure keeps it so.
    """
    known = procedure(shape, "updatevdsstatic")
    special: dict[str, sql.Composable] = {
        "pm_secondary_concurrent": sql.SQL(
            "CASE WHEN t.pm_secondary_concurrent OR s.pm_secondary_concurrent IS NOT NULL THEN t.pm_secondary_concurrent END"
        )
    }
    query = sql.SQL("SELECT count({}({})) FROM {} JOIN {} s ON s.vds_id = t.vds_id").format(
        sql.Identifier(shape.schema, "updatevdsstatic"),
        _arguments(known, special),
        _MANY,
        sql.Identifier(shape.schema, "vds_static"),
    )
    conn.execute(query, [encoded(rows)])
    left = [name for name in NAMES[1:] if name in shape.columns and f"v_{name}" not in known.parameters]
    _set(conn, shape, rows, left, stamp=False)


def update_directly(conn: Connection, shape: Shape, rows: Sequence[Row]) -> None:
    """Update *rows* without the procedure: all columns in one statement, ``_update_date`` stamped for the DWH."""
    _set(conn, shape, rows, [name for name in NAMES[1:] if name in shape.columns], stamp=True)


def _set(conn: Connection, shape: Shape, rows: Sequence[Row], columns: Sequence[str], *, stamp: bool) -> None:
    if not columns:
        return
    changes: list[sql.Composable] = [
        sql.SQL("{0} = CASE WHEN t.{0} OR s.{0} IS NOT NULL THEN t.{0} END" if name == SEVEN[-1] else "{0} = t.{0}").format(
            sql.Identifier(name)
        )
        for name in columns
    ]
    same = sql.SQL("({}) IS DISTINCT FROM ({})").format(
        sql.SQL(", ").join(sql.Identifier("s", name) for name in columns),
        sql.SQL(", ").join(sql.Identifier("t", name) for name in columns),
    )
    if stamp:
        changes.append(sql.SQL("_update_date = LOCALTIMESTAMP"))
    query = sql.SQL("UPDATE {} s SET {} FROM {} WHERE s.vds_id = t.vds_id AND {}").format(
        sql.Identifier(shape.schema, "vds_static"),
        sql.SQL(", ").join(changes),
        _MANY,
        sql.SQL("true") if stamp else same,
    )
    conn.execute(query, [encoded(rows)])


def insert(conn: Connection, shape: Shape, rows: Sequence[Row], statuses: Sequence[int]) -> list[UUID]:
    """Insert *rows* through InsertVdsStatic, with their rows in ``vds_dynamic`` and ``vds_statistics``; return their ids.

    The 3.1.0 procedure makes the ids itself. It inserts nothing, silently, where the unique id is taken: that is an error here.
    Without the two other rows a host is invisible in the view ``vds`` (database facts §2).

    :raises ModelError: a unique id is taken.
    """
    known = procedure(shape, "insertvdsstatic")
    _check_unique_ids(conn, shape, rows)
    ids = _insert_static(conn, shape, rows, known)
    _insert_companions(conn, shape, ids, statuses)
    placed = [(new, *row[1:]) for new, row in zip(ids, rows, strict=True)]
    left = [name for name in NAMES[1:] if name in shape.columns and f"v_{name}" not in known.parameters]
    odd = [row for row in placed if any(row[INDEX[name]] != _DEFAULTS.get(name) for name in left)]
    if odd:
        _set(conn, shape, odd, left, stamp=False)
    return ids


def _insert_static(conn: Connection, shape: Shape, rows: Sequence[Row], known: Procedure) -> list[UUID]:
    special = {"vds_id": sql.SQL("NULL::uuid")} if known.returns_id else {}
    query = sql.SQL("SELECT {}({}) FROM {}").format(
        sql.Identifier(shape.schema, "insertvdsstatic"), _arguments(known, special), _MANY
    )
    if known.returns_id:
        made = [row[0] for row in conn.execute(query, [encoded(rows)])]
        missing = [row for row, new in zip(rows, made, strict=True) if new is None]
    else:
        made = [row[0] for row in rows]
        conn.execute(query, [encoded(rows)])
        there = sql.SQL("SELECT vds_id FROM {} WHERE vds_id = ANY(%s)").format(sql.Identifier(shape.schema, "vds_static"))
        found = {row[0] for row in conn.execute(there, [made])}
        missing = [row for row in rows if row[0] not in found]
    if missing:
        _taken(missing[0])
    return made


def _insert_companions(conn: Connection, shape: Shape, ids: Sequence[UUID], statuses: Sequence[int]) -> None:
    # the engine's own companions take 36 to 44 arguments that only a running host knows; InsertVds does what we do here
    dynamic = sql.SQL("INSERT INTO {} (vds_id, status) SELECT * FROM unnest(%s::uuid[], %s::integer[])")
    conn.execute(dynamic.format(sql.Identifier(shape.schema, "vds_dynamic")), [list(ids), list(statuses)])
    statistics = sql.SQL("INSERT INTO {} (vds_id) SELECT unnest(%s::uuid[])")
    conn.execute(statistics.format(sql.Identifier(shape.schema, "vds_statistics")), [list(ids)])


def _check_unique_ids(conn: Connection, shape: Shape, rows: Sequence[Row]) -> None:
    at, given = INDEX["vds_unique_id"], [row for row in rows if row[INDEX["vds_unique_id"]] is not None]
    if not given:
        return
    query = sql.SQL("SELECT vds_unique_id FROM {} WHERE vds_unique_id = ANY(%s)").format(
        sql.Identifier(shape.schema, "vds_static")
    )
    taken = {row[0] for row in conn.execute(query, [[row[at] for row in given]])}
    twice = {text for text, count in Counter(row[at] for row in given).items() if count > 1}
    for row in given:
        if row[at] in taken or row[at] in twice:
            _taken(row)


def _taken(row: Row) -> None:
    raise ModelError(
        f"host {row[INDEX['vds_name']]} cannot be stored: its unique id is taken by another host",
        field=FIELDS["vds_unique_id"],
        why="InsertVdsStatic stores nothing, silently, where the unique id is taken",
        state="nothing was stored",
    )


def delete(conn: Connection, shape: Shape, host_id: UUID) -> bool:
    """Remove a host through the engine's own procedures; return whether it was there."""
    query = sql.SQL("SELECT 1 FROM {} WHERE vds_id = %s FOR UPDATE").format(sql.Identifier(shape.schema, "vds_static"))
    if conn.execute(query, [host_id]).fetchone() is None:
        return False
    for name in ("deletevds_spm_id_map", "deletevdsstatistics", "deletevdsdynamic", "deletevdsstatic"):
        if name in shape.procedures or name == "deletevdsstatic":
            call = sql.SQL("SELECT {}(v_vds_id => %s)").format(sql.Identifier(shape.schema, name))
            conn.execute(call, [host_id])
    return True
