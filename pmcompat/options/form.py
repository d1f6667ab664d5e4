"""Shown option keys ⇄ the names given to the agent, and the form's own fields ⇄ the stored option string.

The engine stores ``port``, ``slot`` and ``secure`` of its form as keys among the free options (api facts §13); which of them a
type has, and what each becomes, is the type's table. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from pmcompat.errors import ModelError
from pmcompat.model import Options
from pmcompat.options.parameters import MODERN, boolean
from pmcompat.options.tables import NEWEST, Tables, tables_of
from pmcompat.options.text import Pairs, canonical, get, join, parse, remove

#: the option fields the form can show, in its order
SHOWN = ("port", "slot", "secure")


def shown_fields(type_: str, *, level: str = NEWEST, tables: Tables | None = None) -> Mapping[str, str]:
    """Return shown key → name given to the agent (``ipport``, ``plug``, ``ssh``, ``ssl``) for the fields this type has."""
    mapping = (tables or tables_of(level)).mapping.get(type_, {})
    return MappingProxyType({shown: MODERN.get(mapping[shown], mapping[shown]) for shown in SHOWN if shown in mapping})


def to_agent_keys(pairs: Pairs, type_: str, *, level: str = NEWEST, tables: Tables | None = None) -> Pairs:
    """Return *pairs* with shown keys renamed to what the agent is given; other keys, order and values stay."""
    names = shown_fields(type_, level=level, tables=tables)
    return tuple((names.get(canonical(key), key), value) for key, value in pairs)


def to_shown_keys(pairs: Pairs, type_: str, *, level: str = NEWEST, tables: Tables | None = None) -> Pairs:
    """Return *pairs* with the agent's names renamed to the shown keys: the inverse of :func:`to_agent_keys`."""
    names = {real: shown for shown, real in shown_fields(type_, level=level, tables=tables).items()}
    return tuple((names.get(canonical(key), key), value) for key, value in pairs)


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """The option fields of one panel; None where the type does not show the field or nothing is set."""

    port: str | None = None
    slot: str | None = None
    secure: bool | None = None
    #: everything else
    options: Options = field(default_factory=Options)


def read_form(options: Options | None, type_: str, *, level: str = NEWEST, tables: Tables | None = None) -> Form:
    """Take the fields this type shows out of the stored options; what it does not show stays among the free options."""
    stored = options or Options()
    fields = shown_fields(type_, level=level, tables=tables)
    values = {name: pair[1] for name in fields if (pair := get(stored, name)) is not None}
    secure = boolean(values["secure"]) if "secure" in values else None
    taken = [name for name in values if name != "secure" or secure is not None]
    return Form(
        port=values.get("port"),
        slot=values.get("slot"),
        secure=bool(secure) if "secure" in fields else None,
        options=remove(stored, *taken),
    )


def write_form(form: Form, type_: str, *, level: str = NEWEST, tables: Tables | None = None) -> Options:
    """Return the option string of a form; ``secure`` is always written where it is shown, as the engine does.

    :raises ModelError: a field this type does not have is filled, or one cannot be carried.
    """
    fields = shown_fields(type_, level=level, tables=tables)
    secure = None if form.secure is None else str(form.secure).lower()
    values = {"port": form.port, "slot": form.slot, "secure": secure}
    for name, value in values.items():
        if value and name not in fields:
            raise ModelError(f"an agent of type {type_} has no {name}", field=name)
    written = tuple((name, value) for name, value in values.items() if name in fields and value)
    return join([*written, *parse(form.options.text)])
