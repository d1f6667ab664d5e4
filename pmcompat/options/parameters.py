"""What one agent's settings mean to a driver: address, credentials, network port, outlet, the rest by fence-agents names.

What lives here: pure decisions over an :class:`~pmcompat.model.Agent` and the tables of its level. Nothing is sent, and
nothing is checked against an installed program; that is the driver's.

The port trap (fencing facts §1.1): the shown ``port`` and ``slot`` mean a network port or an outlet depending on the type.
``ipport`` and ``plug`` say it plainly and always win. Where a type's table gives no meaning, a value is refused rather than
guessed: a network port that is silently ignored reaches another machine.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from pmcompat.errors import ModelError
from pmcompat.model import Agent, Secret
from pmcompat.options.tables import IPMI_TYPES, Tables, tables_of
from pmcompat.options.text import canonical, field_of, get, parse

DRIVERS = ("ipmi", "fence_agents", "simulated")

_TYPE = re.compile(r"[a-z0-9_]+\Z")
_TRUE = frozenset({"1", "yes", "on", "true"})
_FALSE = frozenset({"0", "no", "off", "false", ""})

#: the engine's old spellings of what a mapping may name → fence-agents' modern names (facts §8.2)
MODERN = MappingProxyType({"port": "plug", "secure": "ssh"})
# What the shown options mean where no table knows the type: fence-agents' own meaning.
_FENCE_AGENTS_OWN = MappingProxyType({"port": "port", "secure": "secure"})
_SHOWN = ("port", "slot", "secure")
# An engine's or pmcompat's own; never sent to a device.
_OURS = frozenset({"driver", "encrypt_options"})
_IDENTITY = MappingProxyType(
    {
        "ip": "address",
        "ipaddr": "address",
        "username": "username",
        "login": "username",
        "password": "password",
        "passwd": "password",
    }
)
# `option` is what old documents call the action; sent as such it was ignored and the default, reboot, ran (facts §8.1).
_DRIVERS_OWN = frozenset({"action", "option"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameters:
    """An agent as a driver needs it. Each fact stands in exactly one field and is sent once (field failure L-31).

    ``repr`` shows no value of any option: options hold secrets.
    """

    #: ``ipmi``, ``fence_agents`` or ``simulated``
    driver: str
    #: the type after the alias table: the program is ``fence_`` + program
    program: str
    address: str | None = None
    username: str | None = None
    password: Secret | None = None
    #: network port of the device, 1 to 65535; None: the device's standard one
    ip_port: int | None = None
    #: outlet, bay, blade or service profile on the device
    plug: str | None = None
    #: what the form's Secure says; None: not said
    secure: bool | None = None
    #: the option that ``secure`` is sent as: ``ssh``, ``ssl`` …
    secure_name: str = "ssh"
    #: names of settings whose seconds the flow waits (:func:`minimum_wait`): a driver does not let the device wait them again
    awaited: frozenset[str] = frozenset()
    #: the remaining options, defaults of the type included, by the names fence-agents knows; None is a bare flag
    settings: Mapping[str, str | None] = field(default_factory=lambda: MappingProxyType({}), repr=False, hash=False)


def parameters(agent: Agent, *, level: str = "newest", tables: Tables | None = None, ppc: bool = False) -> Parameters:
    """Return what *agent* means at *level*; *tables* (a live engine's) win over ours.

    The displayed type selects mapping and defaults, not the type behind the alias (facts §7.4). *ppc* tells that the fenced
    host is of POWER architecture, which has defaults of its own (field failure B-82).

    :raises ModelError: a type no program can have, or an option whose value or meaning is not clear; names the field only.
    """
    known = tables or tables_of(level)
    type_ = agent.type or ""
    if not _TYPE.match(type_):
        raise ModelError(
            "the agent's type is not a name of lower-case letters, digits and underscores"
            if type_
            else "the agent has no type",
            field="type",
            fix="`pmcompat agent types` lists the types",
        )
    given = _given(agent, known, ppc=ppc)
    found = Parameters(
        driver=_driver(type_, given),
        program=known.aliases.get(type_, type_),
        address=agent.address,
        username=agent.username,
        password=agent.password,
        ip_port=agent.ip_port,
        awaited=_awaited(agent, known),
        settings=MappingProxyType({name: value for name, value in given.items() if name not in _SPOKEN_FOR}),
    )
    return _with_shown(_with_identity(found, given), type_, given, known)


def _given(agent: Agent, known: Tables, *, ppc: bool) -> dict[str, str | None]:
    """Return the operator's options, the last of each name, and the type's defaults for names not set, by exact key."""
    given: dict[str, str | None] = {}
    for position, (key, value) in enumerate(parse(agent.options.text if agent.options else ""), start=1):
        name = canonical(key)
        if not name:
            raise ModelError(f"option {position} has no name", field=f"options[{position}]")
        if name in _DRIVERS_OWN:
            raise ModelError(
                f"the option {name} is not the operator's to set",
                field=field_of(name),
                why="pmcompat always sends the action it was asked for",
                fix="remove it",
            )
        given[name] = value
    for key, value in known.default_parameters(agent.type or "", ppc=ppc):
        given.setdefault(canonical(key), value)
    return given


def _awaited(agent: Agent, known: Tables) -> frozenset[str]:
    """``power_wait`` always; ``delay`` where it is the type's wait (eps) or a default the operator did not set (drac7)."""
    type_ = agent.type or ""
    by_default = any(canonical(key) == "delay" for key, _ in known.default_parameters(type_))
    theirs = known.power_wait_option(type_) == "delay" or (by_default and get(agent.options, "delay") is None)
    return frozenset({"power_wait", "delay"} if theirs else {"power_wait"})


def _driver(type_: str, given: Mapping[str, str | None]) -> str:
    chosen = given.get("driver")
    if chosen is None and "driver" not in given:
        return "ipmi" if type_ in IPMI_TYPES else "fence_agents"
    if chosen not in DRIVERS:
        raise ModelError("there is no such driver", field="options.driver", fix=f"choose one of {', '.join(DRIVERS)}")
    return chosen


def _with_identity(found: Parameters, given: Mapping[str, str | None]) -> Parameters:
    """Take address, user and password from options where the agent's own fields are blank; a contradiction is refused."""
    for name, where in _IDENTITY.items():
        value = given.get(name)
        if not value:
            continue
        old: str | Secret | None = getattr(found, where)
        new: str | Secret = Secret(value) if where == "password" else value
        if old and old != new:
            raise ModelError(
                f"the option {name} contradicts the agent's own {where}",
                field=field_of(name),
                fix=f"remove the option: the {where} is a field of the agent",
            )
        change: dict[str, Any] = {where: new}
        found = replace(found, **change)
    return found


def _with_shown(found: Parameters, type_: str, given: Mapping[str, str | None], known: Tables) -> Parameters:
    """Give ``port``, ``slot`` and ``secure`` the meaning of the type's table, then let the plain names win."""
    for shown in _SHOWN:
        if shown in given:
            found = _meant(found, shown, given[shown], known.mapping.get(type_), type_)
    plug, ip_port = given.get("plug"), given.get("ipport")
    if plug:
        found = replace(found, plug=plug)
    if ip_port:
        found = replace(found, ip_port=_network_port(ip_port, "ipport"))
    elif found.ip_port is not None:
        _require_port(found.ip_port, "ip_port")
    if found.secure_name in given:
        found = replace(found, secure=None)
    return found


def _meant(found: Parameters, shown: str, value: str | None, mapping: Mapping[str, str] | None, type_: str) -> Parameters:
    # A type of no table (a site's own) and `secure` of a type that shows none keep fence-agents' own meaning.
    real = (_FENCE_AGENTS_OWN if mapping is None else mapping).get(shown) or ("secure" if shown == "secure" else None)
    if shown == "secure":
        return replace(found, secure=_boolean(value, shown), secure_name=MODERN.get(real or "", real or "ssh"))
    if not value:  # a mapped key without a value says nothing (facts §7.4)
        return found
    if real is None:
        raise ModelError(
            f"an agent of type {type_} has no option {shown}",
            field=field_of(shown),
            why=f"for other types {shown} is a network port or an outlet; for this one it says nothing",
            fix="write ipport for the network port of the device, plug for the outlet",
        )
    if real == "ipport":
        return replace(found, ip_port=_network_port(value, shown))
    return replace(found, plug=value)


# Names that have a field of their own, or are nobody's business but ours.
_SPOKEN_FOR = frozenset({*_SHOWN, "plug", "ipport", *_IDENTITY, *_OURS})


def _network_port(text: str, name: str) -> int:
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 5):
        raise ModelError(f"{name} is not a network port", field=field_of(name), why="it is not a number from 1 to 65535")
    return _require_port(int(digits), field_of(name))


def _require_port(number: int, where: str) -> int:
    if not 1 <= number <= 65535:
        raise ModelError(f"{where} is not a network port", field=where, why="it is not a number from 1 to 65535")
    return number


def boolean(value: str | None) -> bool | None:
    """Return what fence-agents reads a flag's value as; a bare flag is true; None: it is no boolean."""
    text = "true" if value is None else value.strip().lower()
    return True if text in _TRUE else False if text in _FALSE else None


def _boolean(value: str | None, name: str) -> bool:
    found = boolean(value)
    if found is None:
        raise ModelError(f"{name} is neither true nor false", field=field_of(name))
    return found


def minimum_wait(agent: Agent, *, level: str = "newest", tables: Tables | None = None, ppc: bool = False) -> float:
    """Return the seconds that must pass after an ``on`` or ``off`` of this agent before its status is first read.

    DESIGN §3: its option ``power_wait`` (``delay`` for eps) if set, else the type's default parameters (ilo3, ilo4: 4;
    drac7: 10), else 0. The defaults in a fence program's metadata are not used (field failures B-46, L-32).

    :raises ModelError: the value is no number of seconds.
    """
    known = tables or tables_of(level)
    type_ = agent.type or ""
    name = known.power_wait_option(type_)
    pair = get(agent.options, name)
    if pair is not None:
        return _seconds(pair[1], name)
    defaults = {canonical(key): value for key, value in known.default_parameters(type_, ppc=ppc)}
    # drac7's wait stands in `delay`, which its program sleeps before it acts
    return next((_seconds(defaults[key], key) for key in (name, "power_wait", "delay") if key in defaults), 0.0)


def _seconds(value: str | None, name: str) -> float:
    try:
        seconds = float(value or "")
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= _LONGEST_WAIT:
        raise ModelError(f"{name} is not a number of seconds from 0 to {_LONGEST_WAIT}", field=field_of(name))
    return seconds


_LONGEST_WAIT = 86_400
