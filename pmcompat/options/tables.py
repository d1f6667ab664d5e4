"""What each agent type is, per profile: which types exist, what their shown options mean, aliases, default parameters.

What lives here: the data of fencing facts §7 and the reading of the engine's own settings (``vdc_options``) in the same
string forms, so that a live engine's values and its ``Custom…`` twins can stand in for ours. No decision about an agent.

Two repairs of what the releases shipped: ``ilo3`` is in profile 3.1 (its absence was an oversight; field failure B-76), and at
the newest level ``ipmilan`` and ``amt_ws`` keep the network port that level 4.8 lost (B-87).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType
from typing import Any

from pmcompat.errors import ConfigurationError
from pmcompat.options.text import Pairs, parse

NEWEST = "newest"
#: the levels there are tables for, oldest first; ``3.3`` reads as ``3.2`` (DESIGN §5)
LEVELS = ("3.1", "3.2", "3.4", "3.5", "3.6", NEWEST)

#: types that the pyghmi driver serves: IPMI 2.0 without anything of a vendor (DESIGN §5)
IPMI_TYPES = frozenset({"ipmilan", "ilo3", "ilo4", "drac7"})

_TYPES = {
    "3.1": "alom,apc,bladecenter,drac5,eps,ilo,ilo3,ipmilan,rsa,rsb,wti,cisco_ucs",
    "3.2": "alom,apc,bladecenter,cisco_ucs,drac5,eps,ilo,ilo2,ilo3,ilo4,ipmilan,rsa,rsb,wti",
    "3.4": "apc,apc_snmp,bladecenter,cisco_ucs,drac5,drac7,eps,hpblade,ilo,ilo2,ilo3,ilo4,ipmilan,rsa,rsb,wti",
    NEWEST: "amt_ws,apc,apc_snmp,bladecenter,cisco_ucs,drac5,drac7,eps,hpblade,"
    "ilo,ilo2,ilo3,ilo4,ilo_ssh,ipmilan,redfish,rsa,rsb,wti",
}

_MAPPING_31 = (
    "alom:secure=secure,port=ipport;apc:secure=secure,port=ipport,slot=port;bladecenter:secure=secure,port=ipport,slot=port;"
    "drac5:secure=secure,slot=port;eps:slot=port;ilo:secure=ssl,port=ipport;ipmilan:;rsa:secure=secure,port=ipport;rsb:;"
    "wti:secure=secure,port=ipport,slot=port;cisco_ucs:secure=ssl,slot=port;ilo3:"
)
_MAPPING_32 = _MAPPING_31 + ";ilo2:secure=ssl,port=ipport;ilo4:"
_MAPPING_34 = _MAPPING_32 + ";apc_snmp:port=port;drac7:;hpblade:port=port"
_MAPPING_35 = _MAPPING_34 + ";apc_snmp:port=port,encrypt_options=encrypt_options"
_MAPPING_NEWEST = _MAPPING_35 + ";amt_ws:port=ipport;ilo_ssh:port=port;ipmilan:port=ipport;redfish:port=ipport,secure=ssl"

_DEFAULTS_35 = "drac7:privlvl=OPERATOR,lanplus=1,delay=10;ilo3:lanplus=1,power_wait=4;ilo4:lanplus=1,power_wait=4"
_DEFAULTS_NEWEST = (
    "drac7:privlvl=OPERATOR,lanplus=1,delay=10;ilo3:power_wait=4;ilo4:power_wait=4;ilo_ssh:secure=1;redfish:ssl_insecure=1"
)
# The fenced host's architecture is POWER: its service processors need suite 1 and a second `on` (B-82, B-83).
_DEFAULTS_PPC_35 = ";".join(
    f"{type_}:lanplus=1,cipher=1,privlvl=administrator,power_wait=4,retry_on=2" for type_ in ("ilo3", "ilo4", "ipmilan")
)
_DEFAULTS_PPC_NEWEST = (
    "ilo3:cipher=1,privlvl=OPERATOR,power_wait=4,retry_on=2;ilo4:cipher=1,privlvl=OPERATOR,power_wait=4,retry_on=2;"
    "ipmilan:lanplus=1,cipher=1,privlvl=OPERATOR,power_wait=4,retry_on=2;ilo_ssh:secure=1;redfish:ssl_insecure=1"
)

# option_name of vdc_options per value below; each has a `Custom` twin that is added to it (3.5 on)
_OPTION_TYPES_31 = "secure=bool,port=int,slot=int"
_OPTION_TYPES_35 = _OPTION_TYPES_31 + ",encrypt_options=bool"
_POWER_WAIT = "eps=delay"

_SHIPPED: Mapping[str, Mapping[str, str]] = {
    "3.1": {
        "VdsFenceType": _TYPES["3.1"],
        "VdsFenceOptionMapping": _MAPPING_31,
        "VdsFenceOptionTypes": _OPTION_TYPES_31,
        "FenceAgentMapping": "ilo3=ipmilan",
        "FenceAgentDefaultParams": "ilo3:lanplus,power_wait=4",
    },
    "3.2": {
        "VdsFenceType": _TYPES["3.2"],
        "VdsFenceOptionMapping": _MAPPING_32,
        "VdsFenceOptionTypes": _OPTION_TYPES_31,
        "FenceAgentMapping": "ilo2=ilo,ilo3=ipmilan,ilo4=ipmilan",
        "FenceAgentDefaultParams": "ilo3:lanplus,power_wait=4;ilo4:lanplus,power_wait=4",
    },
    "3.4": {
        "VdsFenceType": _TYPES["3.4"],
        "VdsFenceOptionMapping": _MAPPING_34,
        "VdsFenceOptionTypes": _OPTION_TYPES_31,
        "FenceAgentMapping": "drac7=ipmilan,ilo2=ilo,ilo3=ipmilan,ilo4=ipmilan",
        "FenceAgentDefaultParams": _DEFAULTS_35,
        "FenceAgentDefaultParamsForPPC": _DEFAULTS_PPC_35,
    },
    "3.5": {
        "VdsFenceType": _TYPES["3.4"],
        "VdsFenceOptionMapping": _MAPPING_35,
        "VdsFenceOptionTypes": _OPTION_TYPES_35,
        "FenceAgentMapping": "drac7=ipmilan,ilo2=ilo,ilo3=ipmilan,ilo4=ipmilan",
        "FenceAgentDefaultParams": _DEFAULTS_35,
        "FenceAgentDefaultParamsForPPC": _DEFAULTS_PPC_35,
    },
    NEWEST: {
        "VdsFenceType": _TYPES[NEWEST],
        "VdsFenceOptionMapping": _MAPPING_NEWEST,
        "VdsFenceOptionTypes": _OPTION_TYPES_35,
        "FenceAgentMapping": "drac7=ipmilan,ilo2=ilo",
        "FenceAgentDefaultParams": _DEFAULTS_NEWEST,
        "FenceAgentDefaultParamsForPPC": _DEFAULTS_PPC_NEWEST,
    },
}
_ALIAS_OF_LEVEL = {"3.3": "3.2", "3.6": "3.5"}

#: names of the engine's settings that :meth:`Tables.with_settings` reads; each also as ``Custom`` + name
SETTINGS = (
    "VdsFenceType",
    "VdsFenceOptionMapping",
    "VdsFenceOptionTypes",
    "FenceAgentMapping",
    "FenceAgentDefaultParams",
    "FenceAgentDefaultParamsForPPC",
    "FencePowerWaitParam",
)
_CUSTOM = "Custom"


@dataclass(frozen=True, kw_only=True, slots=True)
class Tables:
    """The tables of one level. Shared freely: nothing in them can change.

    A type that is in no table is not wrong by itself: it may be any installed ``fence_*`` program.
    """

    level: str
    #: types the level offers, in the order the engine stores them
    types: tuple[str, ...]
    #: type → shown option → name given to the agent (``port`` there is fence-agents' old name of ``plug``)
    mapping: Mapping[str, Mapping[str, str]]
    #: shown option → ``int``, ``bool`` …
    option_types: Mapping[str, str]
    #: type → the type whose program serves it
    aliases: Mapping[str, str]
    #: type → parameters added where the operator did not set the key
    defaults: Mapping[str, Pairs]
    #: as ``defaults``, for hosts of POWER architecture; None: the level knows none and ``defaults`` hold
    defaults_ppc: Mapping[str, Pairs] | None
    #: type → option that holds its power wait, where that is not ``power_wait``
    power_wait: Mapping[str, str]

    def with_settings(self, settings: Mapping[str, str]) -> Tables:
        """Return tables in which an engine's own settings stand in for ours, and its ``Custom…`` values are added.

        :param settings: ``option_name`` → ``option_value`` of ``vdc_options`` for this level; other names are ignored.
        :raises ConfigurationError: a value that does not have the form fencing facts §7 gives.
        """
        changes: dict[str, Any] = {}
        for name in SETTINGS:
            field, read = _READERS[name]
            if name in settings:
                changes[field] = read(name, settings[name])
            if custom := settings.get(_CUSTOM + name):
                changes[field] = _added(changes.get(field, getattr(self, field)), read(_CUSTOM + name, custom))
        return replace(self, **changes)

    def default_parameters(self, type_: str, *, ppc: bool = False) -> Pairs:
        """Return the default parameters of a type; *ppc* tells that the fenced host is of POWER architecture."""
        source = self.defaults_ppc if ppc and self.defaults_ppc is not None else self.defaults
        return source.get(type_, ())

    def power_wait_option(self, type_: str) -> str:
        """Return the option that holds a type's power wait: ``power_wait``, for eps ``delay``."""
        return self.power_wait.get(type_, "power_wait")


def tables_of(level: str = NEWEST, settings: Mapping[str, str] | None = None) -> Tables:
    """Return the tables of a profile or level: ``3.1`` … ``3.6`` or ``newest``.

    :raises ConfigurationError: no such level.
    """
    shipped = _tables(_ALIAS_OF_LEVEL.get(level, level), level)
    return shipped.with_settings(settings) if settings else shipped


@cache
def _tables(shipped_as: str, level: str) -> Tables:
    if shipped_as not in _SHIPPED:
        raise ConfigurationError(f"there is no profile {level}", fix=f"choose one of {', '.join(LEVELS)}")
    empty = Tables(
        level=level,
        types=(),
        mapping={},
        option_types={},
        aliases={},
        defaults={},
        defaults_ppc=None,
        power_wait=_flat("FencePowerWaitParam", _POWER_WAIT),
    )
    return empty.with_settings(_SHIPPED[shipped_as])


def types(profile: str = NEWEST, *, custom: Tables | None = None) -> tuple[str, ...]:
    """Return the agent types of a profile in the engine's order; *custom* tables (a live engine's) win."""
    return (custom or tables_of(profile)).types


def is_type(type_: str | None, profile: str | None = None, *, custom: Tables | None = None) -> bool:
    """Tell whether *type_* is a whole, exact name of a type: of *profile*, or of any profile where none is given."""
    if custom is not None and type_ in custom.types:
        return True
    levels = (profile,) if profile is not None else LEVELS
    return any(type_ in tables_of(level).types for level in levels)


def _added(old: Any, more: Any) -> Any:
    """Add the ``Custom`` twin's value: types not there yet, and entries that win over ours."""
    if isinstance(old, tuple):
        return old + tuple(type_ for type_ in more if type_ not in old)
    return MappingProxyType({**(old or {}), **more})


def _names(_setting: str, text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for item in text.split(",") if (name := item.strip())))


def _flat(setting: str, text: str) -> Mapping[str, str]:
    found = {}
    for key, value in parse(text):
        if not key.strip() or not value or not value.strip():
            raise _malformed(setting, "name=value,name=value")
        found[key.strip()] = value.strip()
    return MappingProxyType(found)


def _sections(setting: str, text: str) -> dict[str, str]:
    """Split ``type:…;type:…``; a type that comes twice counts the last time (3.2.0 ships ``ipmilan:`` twice)."""
    found = {}
    for section in text.split(";"):
        if not section.strip():
            continue
        type_, colon, rest = section.partition(":")
        if not colon or not type_.strip():
            raise _malformed(setting, "type:name=value,…;type:…")
        found[type_.strip()] = rest.strip()
    return found


def _mapping(setting: str, text: str) -> Mapping[str, Mapping[str, str]]:
    return MappingProxyType({type_: _flat(setting, rest) for type_, rest in _sections(setting, text).items()})


def _defaults(setting: str, text: str) -> Mapping[str, Pairs]:
    return MappingProxyType({type_: parse(rest) for type_, rest in _sections(setting, text).items()})


def _malformed(setting: str, form: str) -> ConfigurationError:
    return ConfigurationError(f"the engine's setting {setting} cannot be read", why=f"it does not have the form {form}")


_READERS: Mapping[str, tuple[str, Callable[[str, str], Any]]] = {
    "VdsFenceType": ("types", _names),
    "VdsFenceOptionMapping": ("mapping", _mapping),
    "VdsFenceOptionTypes": ("option_types", _flat),
    "FenceAgentMapping": ("aliases", _flat),
    "FenceAgentDefaultParams": ("defaults", _defaults),
    "FenceAgentDefaultParamsForPPC": ("defaults_ppc", _defaults),
    "FencePowerWaitParam": ("power_wait", _flat),
}
