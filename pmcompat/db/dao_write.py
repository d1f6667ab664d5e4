"""The statements that write hosts: many rows in one call of a stored procedure each, by name.

What lives here: SQL for whole batches. A large batch is copied into a temporary table, a small one travels as one JSON
parameter unless the server would log it; either way the server calls the procedure for every row itself, so a thousand hosts
cost a few round trips and the procedure's own logic is kept. Names only, never positions: the shapes order the same
parameters in three ways (database facts §3.1). Everything here runs inside the caller's transaction.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Final, NoReturn
from uuid import UUID

import psycopg
from psycopg import sql

from pmcompat.db.rows import COLUMNS, FIELDS, INDEX, NAMES, SEVEN, Procedure, Row, Shape
from pmcompat.db.under_way import UnderWay
from pmcompat.errors import ModelError, SchemaError

Connection = psycopg.Connection[Any]

#: columns that a fresh row has as a default and the inserting procedure may have no parameter for
_DEFAULTS: Final[Mapping[str, object]] = {"otp_validity": None, "recoverable": True, "vds_spm_priority": 5}
_CONCURRENT: Final = "pm_secondary_concurrent"
#: whether the stored row ``s`` has a secondary agent and the new one ``t`` has none
_GOES: Final = sql.SQL("({} > 0 AND {} = 0)").format(
    *(
        sql.SQL("num_nonnulls({})").format(
            sql.SQL(", ").join(sql.Identifier(row, name) for name in SEVEN if name != _CONCURRENT)
        )
        for row in ("s", "t")
    )
)
_NAME_AT: Final = INDEX["vds_name"]
#: rows from which on copying them is cheaper than a JSON parameter
_COPIED: Final = 50
#: of new hosts: what ``vds_dynamic`` says of them
_STATUS: Final = "status"
_HANDED_OVER: Final[Mapping[str, str]] = {**COLUMNS, _STATUS: "integer"}
_TYPED: Final = sql.SQL(", ").join(
    sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(type_)) for name, type_ in _HANDED_OVER.items()
)
_RECORDSET: Final = sql.SQL("json_to_recordset(%s) AS t({})").format(_TYPED)
_TABLE: Final = sql.Identifier("pg_temp", "pmcompat_rows")
_MAKE_TABLE: Final = sql.SQL("CREATE TEMPORARY TABLE IF NOT EXISTS pmcompat_rows ({}) ON COMMIT DROP").format(_TYPED)
_FILL_TABLE: Final = sql.SQL("COPY {} FROM STDIN").format(_TABLE)


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows where the server can read them: what stands after FROM, and its parameters."""

    source: sql.Composable
    parameters: tuple[str, ...]


def batch_of(conn: Connection, rows: Sequence[Row], statuses: Iterable[int | None] = repeat(None)) -> Batch:
    """Hand *rows* to the server; the batch is good until the next one or the end of the transaction."""
    given = ((*row, status) for row, status in zip(rows, statuses, strict=False))
    if not _is_copied(conn, len(rows)):
        return Batch(_RECORDSET, (_encoded(given),))
    conn.execute(_MAKE_TABLE)
    conn.execute(sql.SQL("TRUNCATE {}").format(_TABLE))
    with conn.cursor() as cursor, cursor.copy(_FILL_TABLE) as copy:
        for row in given:
            copy.write_row(row)
    return Batch(sql.SQL("{} AS t").format(_TABLE), ())


#: whether the role may make temporary tables; whether the server's log shows the parameters of statements
_ASK_SERVER: Final = """
SELECT has_database_privilege(current_database(), 'TEMPORARY'),
    current_setting('log_statement') IN ('mod', 'all') OR EXISTS (
        SELECT FROM (VALUES ('log_min_duration_statement', '-1'), ('log_min_duration_sample', '-1'),
            ('log_transaction_sample_rate', '0'), ('log_parameter_max_length_on_error', '0'),
            ('auto_explain.log_min_duration', '-1')) AS t (name, silent)
        WHERE current_setting(name, true) NOT IN (silent, '')
    ) OR current_setting('pgaudit.log', true) NOT IN ('none', '')
"""


def _is_copied(conn: Connection, count: int) -> bool:
    """Tell whether rows are copied: it is cheaper, or the server's log would show their secrets (law F10)."""
    may, logged = conn.execute(_ASK_SERVER).fetchone() or (False, False)
    return bool(may and (count >= _COPIED or logged))


def _encoded(rows: Iterable[Row]) -> str:
    objects = [dict(zip(_HANDED_OVER, (str(row[0]), *row[1:6], str(row[6]), *row[7:]), strict=True)) for row in rows]
    return json.dumps(objects, ensure_ascii=False)  # a server that is not in UTF8 refuses escapes beyond ASCII


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


def _written(shape: Shape) -> list[str]:
    """Return the columns that are ours to write: of the seven, where they are not all there, none is even read."""
    return [name for name in NAMES[1:] if name in shape.columns and (shape.has_secondary or name not in SEVEN)]


def update(conn: Connection, shape: Shape, rows: Sequence[Row], *, directly: bool) -> UnderWay:
    """Have the server update *rows*, through UpdateVdsStatic in order of id, or *directly*; the answer is how many there were.

    The procedure has no parameter for some columns: those are set beside it. A false ``concurrent`` is handed over as NULL
    where NULL is stored: oVirt's own procedure keeps it so. It becomes false with the secondary agent that goes.
    """
    batch = batch_of(conn, rows)
    if directly:
        changed = _setting(shape, batch.source, _written(shape), stamp=True)
        counting = sql.SQL("WITH changed AS ({} RETURNING 1) SELECT count(*)::text FROM changed").format(changed)
        return UnderWay(conn, [counting], batch.parameters)
    known = procedure(shape, "updatevdsstatic")
    special: dict[str, sql.Composable] = {}
    stored: sql.Composable = sql.SQL("")
    if shape.has_secondary:
        special[_CONCURRENT] = sql.SQL("CASE WHEN {0} OR NOT was_null THEN {0} AND NOT goes END").format(
            sql.Identifier("t", _CONCURRENT)
        )
        stored = sql.SQL(", s.{} IS NULL AS was_null, {} AS goes").format(sql.Identifier(_CONCURRENT), _GOES)
    calling = sql.SQL(
        "SELECT count({}({}))::text FROM (SELECT t.*{} FROM {} JOIN {} s ON s.vds_id = t.vds_id ORDER BY t.vds_id) AS t"
    ).format(
        sql.Identifier(shape.schema, "updatevdsstatic"),
        _arguments(known, special),
        stored,
        batch.source,
        sql.Identifier(shape.schema, "vds_static"),
    )
    left = [name for name in _written(shape) if f"v_{name}" not in known.parameters]
    beside = [_setting(shape, batch.source, left, stamp=False)] if left else []
    return UnderWay(conn, [*beside, calling], batch.parameters)


def _setting(shape: Shape, source: sql.Composable, columns: Sequence[str], *, stamp: bool) -> sql.Composed:
    """Return the statement that sets *columns* of the rows of *source*."""
    changes: list[sql.Composable] = [
        sql.SQL("{0} = CASE WHEN t.{0} OR s.{0} IS NOT NULL THEN t.{0} AND NOT {1} END").format(sql.Identifier(name), _GOES)
        if name == _CONCURRENT
        else sql.SQL("{0} = t.{0}").format(sql.Identifier(name))
        for name in columns
    ]
    same = sql.SQL("({}) IS DISTINCT FROM ({})").format(
        sql.SQL(", ").join(sql.Identifier("s", name) for name in columns),
        sql.SQL(", ").join(sql.Identifier("t", name) for name in columns),
    )
    if stamp:
        changes.append(sql.SQL("_update_date = LOCALTIMESTAMP"))
    return sql.SQL("UPDATE {} s SET {} FROM {} WHERE s.vds_id = t.vds_id AND {}").format(
        sql.Identifier(shape.schema, "vds_static"),
        sql.SQL(", ").join(changes),
        source,
        sql.SQL("true") if stamp else same,
    )


class Insertion:
    """New hosts on their way through InsertVdsStatic, with their rows in ``vds_dynamic`` and ``vds_statistics``.

    The 3.1.0 procedure makes the ids itself. It inserts nothing, silently, where the unique id is taken: that is an error here.
    Without the two other rows a host is invisible in the view ``vds`` (database facts §2).
    """

    def __init__(self, conn: Connection, shape: Shape, rows: Sequence[Row], statuses: Sequence[int]) -> None:
        """Hand *rows* over and have the server begin.

        :raises ModelError: a unique id is taken.
        """
        self._conn, self._shape, self._rows = conn, shape, rows
        self._known = procedure(shape, "insertvdsstatic")
        _check_unique_ids(conn, shape, rows)
        batch = batch_of(conn, rows, statuses)
        self.under_way = UnderWay(conn, _insert_statements(shape, self._known, batch.source), batch.parameters)

    def ids(self) -> list[UUID]:
        """Wait until they are stored, and return their ids in order.

        :raises ModelError: a unique id was taken meanwhile.
        """
        answer = {name: id_ for name, id_ in self.under_way.answer()}  # noqa: C416 - pairs, which the rows' type does not say
        ids = self._made(answer) if self._known.returns_id else self._given(answer)
        left = [name for name in _written(self._shape) if f"v_{name}" not in self._known.parameters]
        usual = [(INDEX[name], _DEFAULTS.get(name)) for name in left]
        odd = [
            (new, *row[1:])
            for new, row in zip(ids, self._rows, strict=True)
            if any(row[at] != default for at, default in usual)
        ]
        if odd:
            batch = batch_of(self._conn, odd)
            self._conn.execute(_setting(self._shape, batch.source, left, stamp=False), batch.parameters)
        return ids

    def _made(self, answer: Mapping[str | None, str | None]) -> list[UUID]:
        """Return the ids that the procedure made; it answers with the name and id of each row that is there."""
        made = (answer.get(row[_NAME_AT]) or _taken(row) for row in self._rows)
        return [UUID(id_) for id_ in made]

    def _given(self, answer: Mapping[str | None, str | None]) -> list[UUID]:
        """Return the ids that were given; the answer has a row for each host that is not there."""
        for row in self._rows:
            if row[_NAME_AT] in answer:
                _taken(row)
        return [row[0] for row in self._rows]


def _insert_statements(shape: Shape, known: Procedure, source: sql.Composable) -> list[sql.Composed]:
    """Return the statements that store the rows of *source*.

    The last one answers with names and ids: where the procedure makes the ids, of all rows; else of those that are *not* there.
    The engine's own companions take 36 to 44 arguments that only a running host knows; InsertVds does what is done here.
    """
    special = {"vds_id": sql.SQL("NULL::uuid")} if known.returns_id else {}
    static = sql.Identifier(shape.schema, "vds_static")
    key = sql.Identifier("vds_name" if known.returns_id else "vds_id")
    stored = sql.SQL("{} JOIN {} s ON s.{key} = t.{key}").format(source, static, key=key)
    missing = sql.SQL("{} LEFT JOIN {} s ON s.{key} = t.{key} WHERE s.{key} IS NULL").format(source, static, key=key)
    return [
        sql.SQL("SELECT count({}({})) FROM {}").format(
            sql.Identifier(shape.schema, "insertvdsstatic"), _arguments(known, special), source
        ),
        sql.SQL("INSERT INTO {} (vds_id, status) SELECT s.vds_id, t.status FROM {}").format(
            sql.Identifier(shape.schema, "vds_dynamic"), stored
        ),
        sql.SQL("INSERT INTO {} (vds_id) SELECT s.vds_id FROM {}").format(
            sql.Identifier(shape.schema, "vds_statistics"), stored
        ),
        sql.SQL("SELECT t.vds_name::text, s.vds_id::text FROM {}").format(stored if known.returns_id else missing),
    ]


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


def _taken(row: Row) -> NoReturn:
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
