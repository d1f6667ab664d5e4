"""Give a stored procedure the seven parameters by editing its live body, and take them out again.

What lives here: text in, text out. The body is kept, a site's changes included; what is inserted stands between two comments,
so that taking it out needs no memory of what was before. A body in which the statement to extend cannot be told for certain
is refused with the reason. Pure.

How a call says "keep" (law D4): SQL cannot tell an argument left out from one equal to its default, so UpdateVdsStatic's
defaults are values nobody can mean: the text ``(not given)``, which is no address, and a port of -2147483648. For the
boolean there is no third value: NULL counts as not given, which is the same as false wherever the address is given. The
inserting procedures default to NULL.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pmcompat.db.catalog import ADDRESS, PROCEDURES, SECONDARY, SECONDARY_NAMES, TABLE, Routine, SecondaryColumn
from pmcompat.db.plan.tokens import Token, Unreadable, closing, split, tokens

OPENING, CLOSING = "/* pmcompat: */", "/* :pmcompat */"
_OURS = re.compile(re.escape(OPENING) + ".*?" + re.escape(CLOSING), re.DOTALL)
#: a column every such statement sets: tells it from a site's own statements on the same table
_LANDMARK = "pm_type"
_UPDATE = "updatevdsstatic"
_TAG = "procedure"
_ADDRESS, *_OTHERS = SECONDARY


class Uneditable(Exception):
    """The procedure cannot be edited safely; the text says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Edited:
    """A procedure as it is to be made."""

    #: the whole CREATE FUNCTION statement without a semicolon
    definition: str
    #: ``schema.name(types)`` of the new one, for what comes after
    signature: str


def is_ours(routine: Routine) -> bool:
    """Tell whether the procedure's seven parameters are the ones this module gives."""
    return OPENING in routine.body and ADDRESS in {name.removeprefix("v_") for name in routine.argument_names}


def has_seven(routine: Routine) -> bool:
    """Tell whether the procedure takes the seven parameters, ours or oVirt's."""
    return {column.parameter for column in SECONDARY} <= set(routine.argument_names)


def extended(routine: Routine) -> Edited:
    """Return *routine* with the seven parameters last.

    :raises Uneditable: its body or its kind does not allow it.
    """
    _require_plain(routine)
    if any(column.parameter in routine.argument_names for column in SECONDARY):
        raise Uneditable("it already has some of the seven parameters")
    body = _body(routine)
    parameters = ", ".join(_parameter(column, updating=routine.name == _UPDATE) for column in SECONDARY)
    arguments = f"{routine.arguments}, {parameters}"
    name, _, types = routine.signature[:-1].rpartition("(")
    types = ",".join([*types.split(","), *(column.parameter_type for column in SECONDARY)])
    return Edited(definition=_definition(routine, arguments, body), signature=f"{name}({types})")


def reduced(routine: Routine) -> Edited:
    """Return *routine* as it was before :func:`extended`, with whatever the site changed since.

    :raises Uneditable: the seven are not the last parameters, or the body does not hold our marks.
    """
    _require_plain(routine)
    found = _tokens(routine.arguments)
    parts = split(found, 0)
    ours, rest = parts[-len(SECONDARY) :], parts[: -len(SECONDARY)]
    if not is_ours(routine) or [_parameter_name(part) for part in ours] != [column.parameter for column in SECONDARY]:
        raise Uneditable("the seven parameters are not the ones pmcompat gave it")
    arguments = routine.arguments[: rest[-1][-1].end] if rest else ""
    name, _, types = routine.signature[:-1].rpartition("(")
    kept = ",".join(types.split(",")[: -len(SECONDARY)])
    return Edited(definition=_definition(routine, arguments, _OURS.sub("", routine.body)), signature=f"{name}({kept})")


def mended_insert(routine: Routine) -> Edited | None:
    """Return oVirt 3.2's InsertVds with its VALUES naming the parameters; None where nothing is wrong (facts §15, 1)."""
    try:
        found = tokens(routine.body)
        _, values = _insert(found)
    except (Uneditable, Unreadable):
        return None
    bare = [token for token in values if token.name in SECONDARY_NAMES]
    body = routine.body
    for token in reversed(bare):
        body = body[: token.start] + "v_" + token.name + body[token.end :]
    return (
        Edited(definition=_definition(routine, routine.arguments, body, replace=True), signature=routine.signature)
        if bare
        else None
    )


def call_arguments(routine: Routine) -> list[str]:
    """Return arguments by position for a call about nobody: NULLs, and the variable ``nobody`` as the host's id.

    Parameters with a default are left out.
    """
    arguments = []
    for part in split(_tokens(routine.arguments), 0):
        if any(token.says("DEFAULT", "=") for token in part):
            break
        first = 1 if part[0].says("IN", "INOUT") else 0
        type_ = routine.arguments[part[first + 1].start : part[-1].end]
        arguments.append("nobody" if part[first].name == "v_vds_id" else f"NULL::{type_}")
    return arguments


def _require_plain(routine: Routine) -> None:
    reasons = {
        f"it is written in {routine.language}, not plpgsql": routine.language != "plpgsql",
        "its body is parsed SQL (BEGIN ATOMIC)": routine.parsed_body,
        "it is no function": routine.kind != "f",
        "it takes a variable number of arguments": "VARIADIC" in routine.arguments.upper().split(),
        "it returns a table of columns": routine.returns.startswith("TABLE"),
        "it takes no arguments": not routine.arguments,
    }
    for reason, applies in reasons.items():
        if applies:
            raise Uneditable(reason)


def _tokens(text: str) -> tuple[Token, ...]:
    try:
        return tokens(text)
    except Unreadable as error:
        raise Uneditable(f"its text cannot be read: {error}") from None


def _parameter(column: SecondaryColumn, *, updating: bool) -> str:
    return f"{column.parameter} {column.parameter_type} DEFAULT {column.unset if updating else 'NULL'}"


def _parameter_name(part: Sequence[Token]) -> str:
    words = [token.name for token in part if token.name]
    return words[1] if words and words[0] in {"in", "out", "inout"} else words[0] if words else ""


def _definition(routine: Routine, arguments: str, body: str, *, replace: bool = False) -> str:
    """Return the CREATE statement with other arguments and body; every attribute stays as the server printed it."""
    head, separator, _ = routine.definition.partition("\nAS $function")
    before, found, after = head.partition(f"({routine.arguments})")
    if not separator or not found:
        raise Uneditable("the server prints its definition in a form that is not known")
    if not replace:
        before = before.replace("CREATE OR REPLACE FUNCTION", "CREATE FUNCTION", 1)
    tag = f"${_free_tag(body)}$"
    return f"{before}({arguments}){after}\nAS {tag}{body}{tag}"


def _free_tag(body: str) -> str:
    tag = _TAG
    while f"${tag}" in body:
        tag += "_"
    return tag


def _body(routine: Routine) -> str:
    found = _tokens(routine.body)
    body = routine.body
    if routine.name == _UPDATE:
        edits = _update_edits(found)
    else:
        columns, values = _insert(found)
        edits = [
            (columns[-1].end, ",\n        " + ", ".join(SECONDARY_NAMES)),
            (values[-1].end, ",\n        " + ", ".join(_inserted(column) for column in SECONDARY)),
        ]
    for place, text in sorted(edits, reverse=True):
        body = f"{body[:place]}{OPENING}{text}{CLOSING}{body[place:]}"
    return body


def _inserted(column: SecondaryColumn) -> str:
    return f"coalesce({column.parameter}, {column.default})" if column.default else column.parameter


def _insert(found: Sequence[Token]) -> tuple[Sequence[Token], Sequence[Token]]:
    """Return the column list and the value list of the one INSERT INTO vds_static that sets the primary agent."""
    statements = []
    for i, token in enumerate(found):
        if token.says("INSERT") and i + 2 < len(found) and found[i + 1].says("INTO"):
            lists = _insert_lists(found, i + 2)
            if lists and any(column.name == _LANDMARK for column in lists[0]):
                statements.append(lists)
    if len(statements) != 1:
        raise Uneditable(f"it holds {len(statements)} statements INSERT INTO {TABLE} (… {_LANDMARK} …) VALUES (…), not one")
    columns, values = statements[0]
    depth = columns[0].depth
    if len(split(columns, depth)) != len(split(values, depth)):
        raise Uneditable(f"its INSERT INTO {TABLE} has not as many values as columns")
    return columns, values


def _insert_lists(found: Sequence[Token], i: int) -> tuple[Sequence[Token], Sequence[Token]] | None:
    i = _behind_table(found, i)
    if i < 0:
        return None
    if i < len(found) and found[i].says("AS"):
        i += 2
    if i >= len(found) or not found[i].says("("):
        return None
    end = closing(found, i)
    columns, j = found[i + 1 : end], end + 1
    if j + 2 < len(found) and found[j].says("OVERRIDING"):
        j += 3
    if j + 1 >= len(found) or not found[j].says("VALUES") or not found[j + 1].says("("):
        return None
    values_end = closing(found, j + 1)
    if values_end + 1 < len(found) and found[values_end + 1].says(","):
        return None
    return columns, found[j + 2 : values_end]


def _behind_table(found: Sequence[Token], i: int) -> int:
    """Return the index behind ``[ONLY] [schema.]vds_static [*]`` at *i*, or -1."""
    if i < len(found) and found[i].says("ONLY"):
        i += 1
    if i + 1 < len(found) and found[i].name and found[i + 1].says("."):
        i += 2
    if i >= len(found) or found[i].name != TABLE:
        return -1
    i += 1
    return i + 1 if i < len(found) and found[i].says("*") else i


def _update_edits(found: Sequence[Token]) -> list[tuple[int, str]]:
    begin = next((token for token in found if token.says("BEGIN")), None)
    statements = []
    for i, token in enumerate(found):
        if token.says("UPDATE") and (statement := _update(found, i)):
            statements.append(statement)
    if begin is None or len(statements) != 1:
        raise Uneditable(f"it holds {len(statements)} statements UPDATE {TABLE} SET … {_LANDMARK} … WHERE …, not one")
    place, name = statements[0]
    return [
        (begin.end, _GUARD),
        (place, "".join(f",\n        {column.name} = {_updated(column, name)}" for column in SECONDARY)),
    ]


def _update(found: Sequence[Token], i: int) -> tuple[int, str] | None:
    """Return where to extend the SET list of the UPDATE at *i*, and what the statement calls the table."""
    depth = found[i].depth
    j = _behind_table(found, i + 1)
    if j < 0 or j >= len(found):
        return None
    name = found[j - 1].text if not found[j - 1].says("*") else found[j - 2].text
    if found[j].says("AS"):
        j += 1
    if not found[j].says("SET"):
        name, j = found[j].text, j + 1
    if not found[j].says("SET"):
        return None
    end = next((k for k in range(j, len(found)) if found[k].depth == depth and _ends_set(found, k)), None)
    if end is None or not found[end].says("WHERE", "FROM"):
        return None
    if not any(part and part[0].name == _LANDMARK for part in split(found[j + 1 : end], depth)):
        return None
    return found[end - 1].end, name


def _ends_set(found: Sequence[Token], k: int) -> bool:
    return found[k].says("WHERE", "RETURNING", ";") or (found[k].says("FROM") and not found[k - 1].says("DISTINCT"))


def _updated(column: SecondaryColumn, table: str) -> str:
    keep = f"CASE WHEN {_ADDRESS.parameter} = {_ADDRESS.unset} THEN {table}.{column.name} ELSE"
    if column is _ADDRESS:
        return f"{keep} {column.parameter} END"
    given = (
        f"coalesce({column.parameter}, {column.default})" if column.default else f"NULLIF({column.parameter}, {column.unset})"
    )
    return f"{keep} {given} END"


_GIVEN = {column.parameter: f"{column.parameter} IS DISTINCT FROM {column.unset}" for column in _OTHERS}
_ANY_GIVEN = "\n            OR ".join(_GIVEN.values())
_NAMES_GIVEN = "".join(f",\n                CASE WHEN {test} THEN '{name}' END" for name, test in _GIVEN.items())
_GUARD = f"""
    -- {_ADDRESS.parameter} left out: a stored secondary agent stays as it is. Given, NULL included: all seven are set.
    IF {_ADDRESS.parameter} = {_ADDRESS.unset} AND ({_ANY_GIVEN}) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = '{PROCEDURES[_UPDATE]}: ' || concat_ws(', '{_NAMES_GIVEN}) || ' given without {_ADDRESS.parameter}',
            HINT = 'Give {_ADDRESS.parameter} as well: the seven are set together or kept together.';
    END IF;
"""
