"""Extend a view by columns of one of its tables, and take them out again, on its live definition.

What lives here: text in, text out. A view can only grow at its end (database facts §9.1), so each new column is appended to
the outer target list. The text is what ``pg_get_viewdef`` prints under ``search_path = pg_catalog``: all table names
qualified, no comments. What cannot be extended without changing its meaning is refused with the reason. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from pmcompat.db.plan.tokens import Token, Unreadable, closing, split, tokens

#: what ends the FROM clause of a query
_AFTER_FROM = ("WHERE", "GROUP", "HAVING", "WINDOW", "UNION", "INTERSECT", "EXCEPT", "ORDER", "LIMIT", "OFFSET", "FETCH", "FOR")
#: what can stand before a table in FROM
_BEFORE_TABLE = ("FROM", "JOIN", "(", ",", "ONLY")
#: what can follow a table or a join in FROM without being its alias
_NOT_ALIAS = (*_AFTER_FROM, "JOIN", "LEFT", "RIGHT", "FULL", "INNER", "CROSS", "NATURAL", "ON", "USING", "TABLESAMPLE")
#: outer clause → why a column cannot be appended
_REFUSED = {
    "UNION": "it unites queries (UNION)",
    "INTERSECT": "it intersects queries (INTERSECT)",
    "EXCEPT": "it subtracts queries (EXCEPT)",
    "GROUP": "it groups rows (GROUP BY): a further column would need grouping too",
    "HAVING": "it groups rows (HAVING)",
}


class Unextendable(Exception):
    """The definition cannot be extended safely; the text says why."""


@dataclass(frozen=True, slots=True)
class _Query:
    """The outer query of a view: its tokens and where its clauses begin."""

    tokens: tuple[Token, ...]
    #: index of the first token of the target list and of the outer FROM
    targets: int
    source: int
    #: index of the first token behind the FROM clause
    rest: int


def extend(definition: str, columns: Sequence[str], table: tuple[str, str]) -> str:
    """Return *definition* with *columns* of *table* (schema, name) appended to its target list.

    :raises Unextendable: the result could mean something else for the old columns, or the table is not there exactly once.
    """
    query = _query(definition)
    alias = _alias(query, table)
    last = query.tokens[query.source - 1]
    added = "".join(f",\n    {alias}.{column}" for column in columns)
    return definition[: last.end] + added + definition[last.end :]


def without(definition: str, columns: Sequence[str]) -> str:
    """Return *definition* without the targets that are one of *columns* under its own name.

    :raises Unextendable: the definition is none this module could have extended.
    """
    query = _query(definition)
    parts = split(query.tokens[query.targets : query.source], 0)
    kept = definition
    for part in reversed(parts[1:]):
        if _plain_column(part) in columns:
            comma = query.tokens[query.tokens.index(part[0]) - 1]
            kept = kept[: comma.start] + kept[part[-1].end :]
    return kept


def targets(definition: str, columns: Sequence[str]) -> list[str]:
    """Return how the targets that are one of *columns* are written, as in ``vds_static.pm_secondary_ip``."""
    query = _query(definition)
    parts = split(query.tokens[query.targets : query.source], 0)
    return [definition[part[0].start : part[-1].end] for part in parts if _plain_column(part) in columns]


def _plain_column(target: Sequence[Token]) -> str:
    """Return the column a target is, as in ``a.b`` or ``b``; '' for anything else."""
    if len(target) == 1:
        return target[0].name
    if len(target) == 3 and target[1].says("."):
        return target[2].name
    return ""


def _query(definition: str) -> _Query:
    try:
        found = tokens(definition)
    except Unreadable as error:
        raise Unextendable(f"its definition cannot be read: {error}") from None
    if not found or not found[0].says("SELECT"):
        reason = (
            "it begins with common table expressions (WITH)" if found and found[0].says("WITH") else "it is no plain SELECT"
        )
        raise Unextendable(reason)
    if found[1].says("DISTINCT"):
        raise Unextendable("it removes duplicates (DISTINCT): with further columns fewer rows would be equal")
    _refuse(found)
    source = next((i for i, token in enumerate(found) if token.depth == 0 and _is_from(found, i)), None)
    if source is None:
        raise Unextendable("it reads no table")
    rest = next((i for i in range(source, len(found)) if found[i].depth == 0 and found[i].says(*_AFTER_FROM, ";")), len(found))
    return _Query(found, 1, source, rest)


def _refuse(found: Sequence[Token]) -> None:
    for before, token in pairwise(found):
        if token.depth == 0 and token.says(*_REFUSED) and not before.says("WITHIN", "."):
            raise Unextendable(_REFUSED[token.text.upper()])


def _is_from(found: Sequence[Token], i: int) -> bool:
    """Tell the clause from the FROM of ``a IS DISTINCT FROM b``."""
    return found[i].says("FROM") and not found[i - 1].says("DISTINCT", ".")


def _alias(query: _Query, table: tuple[str, str]) -> str:
    """Return the name by which the outer query knows *table*, as written in SQL."""
    found = query.tokens
    places = [i for i in range(1, len(found) - 2) if _is_table(found, i, table)]
    if len(places) != 1:
        times = "not at all" if not places else f"{len(places)} times"
        raise Unextendable(f"it reads {table[1]} {times}, where exactly once is needed")
    place = places[0]
    if not query.source < place < query.rest:
        raise Unextendable(f"it reads {table[1]} in a sub-select only")
    _outside_subselects(found, query.source, place)
    follower = found[place + 3] if place + 3 < len(found) else None
    if follower and follower.says("AS"):
        follower = found[place + 4]
    return follower.text if follower and _is_alias(follower) else found[place + 2].text


def _is_table(found: Sequence[Token], i: int, table: tuple[str, str]) -> bool:
    """Tell whether *table* stands at index *i* as something a query reads."""
    return (
        (found[i].name, found[i + 2].name) == table
        and found[i + 1].says(".")
        and found[i - 1].says(*_BEFORE_TABLE)
        and not (i + 3 < len(found) and found[i + 3].says(".", "("))
    )


def _is_alias(token: Token) -> bool:
    return token.kind == "quoted" or (token.kind == "word" and not token.says(*_NOT_ALIAS))


def _outside_subselects(found: Sequence[Token], source: int, place: int) -> None:
    """Refuse a table inside a sub-select or inside a join that has an alias, which hides the table's own."""
    for i in range(source, place):
        if not found[i].says("(") or closing(found, i) < place:
            continue
        if found[i + 1].says("SELECT", "WITH", "VALUES"):
            raise Unextendable("it reads the table in a sub-select of FROM")
        after = closing(found, i) + 1
        if after < len(found) and (found[after].says("AS") or _is_alias(found[after])):
            raise Unextendable("it joins the table under an alias of the whole join")
