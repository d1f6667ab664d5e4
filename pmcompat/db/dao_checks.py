"""What a host must be before it is stored; decided here, before the database sees it.

What lives here: pure checks of values against the live table's widths and the tables of agent types. Only what changed is
checked: an odd value that an engine stored once does not stand in the way of changing another field.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import zip_longest
from typing import Final

from pmcompat.db.rows import COLUMNS, FIELDS, INDEX, NAMES, SEVEN, Row, Shape
from pmcompat.errors import ModelError, SchemaError
from pmcompat.model import ProxyKind
from pmcompat.options import is_type, types

_NOTHING_STORED = "nothing was stored"
_PROXIES: Final = frozenset(kind.value for kind in ProxyKind)
_INT4: Final = (-(2**31), 2**31 - 1)
_INT8: Final = (-(2**63), 2**63 - 1)
_NETWORK_PORT: Final = (1, 65535)

#: column → (lowest, highest); what lies outside is impossible or does not fit the column
RANGES: Final[Mapping[str, tuple[int, int]]] = {
    "port": _NETWORK_PORT,
    "pm_port": _NETWORK_PORT,
    "pm_secondary_port": _NETWORK_PORT,
    "vds_spm_priority": (-1, 10),
    "vds_type": _INT4,
    "vds_strength": _INT4,
    "otp_validity": _INT8,
}
_CONCURRENT: Final = "pm_secondary_concurrent"
_NEEDED: Final = ("vds_name", "host_name")
_NOT_NULL: Final = ("port", "vds_type", "vds_strength")
_TYPES: Final = ("pm_type", "pm_secondary_type")

_ANY_WIDTH: Final = 2**31
#: neither NULL nor an empty text
_FILLED_AT: Final = tuple(INDEX[name] for name in (*_NEEDED, *_NOT_NULL))
_TYPE_AT, _TYPE2_AT, _PROXIES_AT = INDEX["pm_type"], INDEX["pm_secondary_type"], INDEX["pm_proxy_preferences"]
_IP_AT, _IP2_AT, _ENABLED_AT = INDEX["ip"], INDEX["pm_secondary_ip"], INDEX["pm_enabled"]
#: the seven stand together and last
_SEVEN_AT: Final = slice(INDEX[SEVEN[0]], INDEX[SEVEN[-1]])
_USUAL_PROXIES: Final = frozenset({None, "", "cluster", "dc", "cluster,dc", "dc,cluster"})

#: tells whether an agent type that no table of ours knows is one of the site's own (``vdc_options``)
OwnType = Callable[[str], bool]


def no_own_types(_name: str) -> bool:
    """Know no types but those of the tables."""
    return False


class Limits:
    """The rules of :func:`check` in the form that costs least, for rows by the thousand.

    What :meth:`allow` allows, ``check`` accepts; what it does not, ``check`` decides (a test holds the two together).
    """

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self._texts = [(INDEX[name], shape.widths.get(name, _ANY_WIDTH)) for name, type_ in COLUMNS.items() if type_ == "text"]
        self._numbers = [(INDEX[name], *limits) for name, limits in RANGES.items()]
        absent = set(NAMES) - shape.columns
        self._absent = [INDEX[name] for name in NAMES if name in absent]
        self._types = frozenset({None, "", *types()})

    def allow(self, row: Row) -> bool:
        """Tell whether nothing of *row* needs a closer look."""
        for at, width in self._texts:
            text = row[at]
            if text is not None and (len(text) > width or not text.isascii() or "\0" in text):
                return False
        for at, low, high in self._numbers:
            number = row[at]
            if number is not None and (number.__class__ is not int or not low <= number <= high):
                return False
        for at in self._absent:
            if row[at] is not None and row[at] is not False:
                return False
        for at in _FILLED_AT:
            if not row[at] and row[at] != 0:
                return False
        return (
            row[_TYPE_AT] in self._types
            and row[_TYPE2_AT] in self._types
            and row[_PROXIES_AT] in _USUAL_PROXIES
            and bool((row[_IP2_AT] and row[_TYPE2_AT]) or not any(row[_SEVEN_AT]))
            and bool(not row[_ENABLED_AT] or row[_IP_AT] or row[_IP2_AT])
        )


def check(row: Row, shape: Shape, *, was: Row | None = None, own_type: OwnType = no_own_types) -> None:
    """Check the values of a row, in the order of ``rows.COLUMNS``; those equal to *was* are not looked at.

    :raises ModelError: a value that no host may have; the field is named, passwords and options are never quoted.
    :raises SchemaError: a secondary agent, and the database was not upgraded.
    """
    changed = {name for name, new, old in zip_longest(NAMES, row, was or ()) if was is None or new != old}
    if was is not None and bool(row[INDEX[_CONCURRENT]]) == bool(was[INDEX[_CONCURRENT]]):
        changed.discard(_CONCURRENT)
    _check_columns_exist(row, shape, changed)
    for name in NAMES:
        if name in changed:
            _check_value(name, row[INDEX[name]], shape)
    for name in _TYPES:
        if name in changed:
            _check_type(name, row[INDEX[name]], own_type)
    if "pm_proxy_preferences" in changed:
        _check_proxies(row[INDEX["pm_proxy_preferences"]])
    if changed.intersection(SEVEN):
        _check_secondary(row)
    if changed.intersection(("pm_enabled", "ip", "pm_secondary_ip")):
        _check_usable(row)


def _check_columns_exist(row: Row, shape: Shape, changed: set[str]) -> None:
    if not shape.has_secondary and any(row[INDEX[name]] not in {None, False} for name in SEVEN):
        raise SchemaError(
            "this database has no columns for a secondary agent",
            why="it was not upgraded yet",
            state=_NOTHING_STORED,
            fix="run `pmcompat db upgrade`",
        )
    for name in ("pm_proxy_preferences", "sshkeyfingerprint"):
        if name in changed and name not in shape.columns and row[INDEX[name]] is not None:
            raise ModelError(
                f"this database cannot store {FIELDS[name]}",
                field=FIELDS[name],
                why=f"vds_static has no column {name}: its engine is older than that",
                state=_NOTHING_STORED,
                fix="leave it out",
            )


def _check_value(name: str, value: object, shape: Shape) -> None:
    field = FIELDS[name]
    if isinstance(value, str):
        _check_text(field, value, shape.widths.get(name))
    elif isinstance(value, bool):
        if name in RANGES:
            raise ModelError(f"{field} must be a whole number", field=field, state=_NOTHING_STORED)
    elif isinstance(value, int):
        low, high = RANGES.get(name, _INT4)
        if not low <= value <= high:
            raise ModelError(f"{field} must be between {low} and {high}, not {value}", field=field, state=_NOTHING_STORED)
    elif value is None and name in {*_NOT_NULL, *_NEEDED}:
        raise ModelError(f"{field} must be set", field=field, state=_NOTHING_STORED)
    if name in _NEEDED and not value:
        raise ModelError(f"{field} must not be empty", field=field, state=_NOTHING_STORED)


def _check_text(field: str, value: str, width: int | None) -> None:
    if "\0" in value:
        raise ModelError(f"{field} holds a NUL character", field=field, state=_NOTHING_STORED)
    if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
        raise ModelError(f"{field} holds characters that are no text", field=field, state=_NOTHING_STORED)
    if width is not None and len(value) > width:
        raise ModelError(f"{field} has {len(value)} characters, the column holds {width}", field=field, state=_NOTHING_STORED)


def _check_type(name: str, value: str | None, own_type: OwnType) -> None:
    if value and not is_type(value) and not own_type(value):
        raise ModelError(
            f"{FIELDS[name]} names an unknown type of agent: {value[:40]!r}",
            field=FIELDS[name],
            state=_NOTHING_STORED,
            fix=f"known are {', '.join(types())}; own types belong into CustomVdsFenceType",
        )


def _check_proxies(value: str | None) -> None:
    unknown = [item for item in (value or "").split(",") if item and item not in _PROXIES]
    if unknown:
        raise ModelError(
            f"there is no proxy preference {unknown[0][:40]!r}",
            field=FIELDS["pm_proxy_preferences"],
            state=_NOTHING_STORED,
            fix=f"give {', '.join(sorted(_PROXIES))}, separated by commas",
        )


def _check_secondary(row: Row) -> None:
    """Refuse a secondary agent that lacks address or type while something of it is set: such a one never worked."""
    seven = {name: row[INDEX[name]] for name in SEVEN}
    filled = [name for name in SEVEN if name != _CONCURRENT and seven[name] not in {None, ""}]
    for name in ("pm_secondary_ip", "pm_secondary_type"):
        if filled and name not in filled:
            raise ModelError(
                f"the secondary agent is half-filled: {FIELDS[name]} is missing",
                field=FIELDS[name],
                why=f"{FIELDS[filled[0]]} is set",
                state=_NOTHING_STORED,
                fix="give address and type, or clear the agent",
            )


def _check_usable(row: Row) -> None:
    """Refuse power management that is on and has no agent to speak to (field failure B-97)."""
    addresses = (row[INDEX["ip"]], row[INDEX["pm_secondary_ip"]])
    if row[INDEX["pm_enabled"]] and not any(addresses):
        raise ModelError(
            "power management is enabled and no agent has an address",
            field=FIELDS["ip"],
            why="the last agent cannot be removed while power management is on",
            state=_NOTHING_STORED,
            fix="give an agent, or disable power management",
        )
