"""The database's errors as ours: one table, at the boundary.

A server's message may quote a row, passwords included (``Failing row contains``), so only its primary line is ever passed
on, and the foreign error is not chained.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg import errors

from pmcompat.db.connection import reporting_loss
from pmcompat.db.rows import FIELDS
from pmcompat.errors import ModelError, OperationFailed, PmcompatError, Refused, SchemaError

_STATE = "nothing was stored: the transaction was rolled back"

#: unique constraint → column, and the sentence
_UNIQUE: Final[Mapping[str, str]] = {
    "vds_static_vds_name_unique": "vds_name",
    "vds_static_host_name_unique": "host_name",
    "pk_vds_static": "vds_id",
}


@contextmanager
def reporting() -> Iterator[None]:
    """Turn what the database refuses into errors of the house.

    :raises ModelError: a value is taken or names nothing, the field is named; or a text is none in the encoding used.
    :raises Refused: the role may not do this, or other rows still refer to the host.
    :raises SchemaError: a procedure or column is not what the catalog said when the connection was new.
    :raises OperationFailed: anything else the server reported.
    :raises DatabaseUnreachable: the connection was lost.
    """
    try:
        with reporting_loss():
            yield
    except psycopg.Error as error:
        raise translated(error) from None
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        # the foreign error holds the text, which may be a secret
        raise _unreadable(f"it is no {error.encoding}") from None


def _unreadable(why: str) -> ModelError:
    return ModelError(
        "a text cannot be carried between here and the database",
        field="?",
        why=why,
        state=_STATE,
        fix="leave out what the database's encoding lacks; in one of encoding SQL_ASCII mend the stored text",
    )


def translated(error: psycopg.Error) -> PmcompatError:  # noqa: PLR0911 - a table: one line of answer per kind of error
    """Return our error for *error*."""
    why = error.diag.message_primary or type(error).__name__
    match error:
        case errors.UniqueViolation():
            column = _UNIQUE.get(error.diag.constraint_name or "", "")
            field = FIELDS.get(column, "name")
            # of these three columns the server's detail may be quoted: Key (host_name)=(kv1.lab) already exists.
            value = re.search(r"\)=\((.*)\)", error.diag.message_detail or "") if column else None
            named = f"this {field}: {value[1]}" if value else f"this {field}"
            return ModelError(f"another host has {named}", field=field, why=why, state=_STATE)
        case errors.ForeignKeyViolation() if error.diag.constraint_name == "vds_groups_vds_static":
            return ModelError("there is no such cluster", field="cluster_id", why=why, state=_STATE)
        case errors.ForeignKeyViolation():
            return Refused("other rows still refer to the host", why=why, state=_STATE)
        case errors.InsufficientPrivilege() | errors.ReadOnlySqlTransaction():
            return Refused(
                "the database role may not do this", why=why, state=_STATE, fix="use a role with the engine's rights"
            )
        case errors.UndefinedFunction() | errors.UndefinedColumn() | errors.UndefinedTable() | errors.AmbiguousFunction():
            return SchemaError(
                "the database is not what it was when the connection was opened, or not an engine's",
                why=why,
                state=_STATE,
                fix="run `pmcompat db status`, then connect anew",
            )
        case errors.CharacterNotInRepertoire() | errors.UntranslatableCharacter():
            # the server's own words quote bytes of the text
            return _unreadable("it cannot be read or written in the encoding of the database or of the connection")
        case errors.IntegrityError() | errors.DataError():
            column = error.diag.column_name or ""
            return ModelError("the database refused a value", field=FIELDS.get(column, column or "?"), why=why, state=_STATE)
        case _:
            return OperationFailed("the database reported an error", why=why, state=_STATE)
