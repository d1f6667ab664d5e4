"""Write names and texts into SQL: the filters of the upgrade scripts.

What lives here: quoting and nothing else. The plan prints scripts a person reads, so a name is quoted only where it must be.
"""

from __future__ import annotations

import re

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
#: PostgreSQL's reserved words (SQL Key Words, "reserved" and "reserved (can be function or type)"), 12 to 18
_RESERVED = frozenset(
    [
        "all",
        "analyse",
        "analyze",
        "and",
        "any",
        "array",
        "as",
        "asc",
        "asymmetric",
        "authorization",
        "binary",
        "both",
        "case",
        "cast",
        "check",
        "collate",
        "collation",
        "column",
        "concurrently",
        "constraint",
        "create",
        "cross",
        "current_catalog",
        "current_date",
        "current_role",
        "current_schema",
        "current_time",
        "current_timestamp",
        "current_user",
        "default",
        "deferrable",
        "desc",
        "distinct",
        "do",
        "else",
        "end",
        "except",
        "false",
        "fetch",
        "for",
        "foreign",
        "freeze",
        "from",
        "full",
        "grant",
        "group",
        "having",
        "ilike",
        "in",
        "initially",
        "inner",
        "intersect",
        "into",
        "is",
        "isnull",
        "join",
        "lateral",
        "leading",
        "left",
        "like",
        "limit",
        "localtime",
        "localtimestamp",
        "natural",
        "not",
        "notnull",
        "null",
        "offset",
        "on",
        "only",
        "or",
        "order",
        "outer",
        "overlaps",
        "placing",
        "primary",
        "references",
        "returning",
        "right",
        "select",
        "session_user",
        "similar",
        "some",
        "symmetric",
        "system_user",
        "table",
        "tablesample",
        "then",
        "to",
        "trailing",
        "true",
        "union",
        "unique",
        "user",
        "using",
        "variadic",
        "verbose",
        "when",
        "where",
        "window",
        "with",
    ]
)


def ident(name: str) -> str:
    """Return *name* as an SQL identifier, quoted where it must be.

    Non-reserved key words (``name``, ``type``) need no quotes where a table, column or role is named.
    """
    if _PLAIN.fullmatch(name) and name not in _RESERVED:
        return name
    return '"' + name.replace('"', '""') + '"'


def role(name: str) -> str:
    """Return a role as GRANT wants it; the empty name is PUBLIC, and roles really called public or none stay quoted."""
    if not name:
        return "PUBLIC"
    return f'"{name}"' if name in {"public", "none"} else ident(name)


def qualified(schema: str, name: str) -> str:
    """Return ``schema.name``."""
    return f"{ident(schema)}.{ident(name)}"


def literal(text: object) -> str:
    """Return *text* as an SQL string, None as NULL. Valid where ``standard_conforming_strings`` is on."""
    return "NULL" if text is None else "'" + str(text).replace("'", "''") + "'"


def dollar(text: str, tag: str = "text") -> str:
    """Return *text* between dollar quotes whose tag does not occur in it."""
    while f"${tag}" in text:
        tag += "_"
    return f"${tag}${text}${tag}$"
