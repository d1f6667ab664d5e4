"""Compare the rows of views before and after, by their old columns.

What lives here: reading and comparing rows, for ``--rehearse`` and ``db verify``. An upgrade never does this (law D2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from pmcompat.db.catalog import Catalog
from pmcompat.errors import OperationFailed

#: a rehearsal holds exclusive locks while it compares: beyond this many hosts it does not
REHEARSED_HOSTS = 5_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """View → (number of rows, an order-free hash of their old columns); None where there were too many."""

    found: Mapping[str, tuple[int, str]] | None


def _summary(schema: str, name: str, columns: tuple[str, ...]) -> sql.Composed:
    """Return the query that counts the rows and adds up their hashes."""
    return sql.SQL(
        "SELECT count(*), coalesce(sum(('x' || left(md5(r.line), 15))::bit(60)::bigint), 0)::text "
        "FROM (SELECT ROW({})::text AS line FROM {} AS v) AS r"
    ).format(sql.SQL(", ").join(sql.Identifier("v", column) for column in columns), sql.Identifier(schema, name))


def read(conn: psycopg.Connection[Any], catalog: Catalog) -> Rows:
    """Return what the views show now, by the columns *catalog* knows."""
    if catalog.hosts > REHEARSED_HOSTS:
        return Rows(found=None)
    found = {}
    for view in catalog.target_views:
        row = conn.execute(_summary(view.schema, view.name, tuple(column.name for column in view.columns))).fetchone()
        found[view.name] = (row[0], row[1]) if row else (0, "")
    return Rows(found=found)


def compare(conn: psycopg.Connection[Any], catalog: Catalog, before: Rows, notify: Callable[[str], None]) -> None:
    """See that the views show the same rows as *before*, by their old columns.

    :raises OperationFailed: one does not.
    """
    if before.found is None:
        notify(f"rows not compared: more than {REHEARSED_HOSTS} hosts, and the locks are held; db verify compares them")
        return
    after = read(conn, catalog).found or {}
    for name, rows in before.found.items():
        if after.get(name) != rows:
            raise OperationFailed(
                f"view {name} shows other rows than before",
                why=f"{rows[0]} rows before, {after.get(name, (0, ''))[0]} after, or other values in their old columns",
                state="nothing was changed",
                fix="this should not happen: report it with the view's definition",
            )
    notify("rows compared: " + ", ".join(f"{name} {count}" for name, (count, _) in before.found.items()))
