"""What is written to a fence program's standard input, checked against its own metadata before it is started.

What lives here: pure decisions. A name the program does not know is refused: it would be ignored with a warning, and a
program that ignores what it was told runs its default action, ``reboot`` (fencing facts §8.1).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from pmcompat.fence.drivers.fence_metadata import Metadata, Option
from pmcompat.model import Action
from pmcompat.options import Parameters, boolean, field_of

#: options that no operator's text may set, and why
REFUSED: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("password_script", "passwd_script", "snmp_priv_passwd_script"), "its value runs in a shell"),
        "ssh_options": "it can name a program to run (ProxyCommand)",
        "disable_timeout": "without a timeout a device that takes off and stays on is polled for ever",
        "missing_as_off": "an outlet that cannot be found does not count as off",
        "plug_separator": "an agent is one outlet",
        **dict.fromkeys(("debug", "debug_file", "verbose", "verbose_level"), "it writes secrets out"),
        **dict.fromkeys(("quiet", "help", "version"), "the program's answer would be lost"),
    }
)
_RUNS_A_PROGRAM = re.compile(r"_path\Z")
# The programs paste these as they are into the command lines of ssh, telnet and ipmitool (facts §8.1): what would end a word
# there, or begin an option, runs a command of its own on this machine.
_PASTED = frozenset({"cipher", "target", "hexadecimal_kg", "identity_file"})
_ENDS_A_WORD = re.compile(r"\A-|[\s'\"`\\;&|<>$(){}*?!#\0]")
_ENDS_A_NAME = re.compile(r"\A-|[\s'\"`]")

# The program's own name of each fact, modern spelling first (facts §8.2).
_SPELLINGS = MappingProxyType(
    {
        "address": ("ip", "ipaddr"),
        "username": ("username", "login"),
        "password": ("password", "passwd"),
        "plug": ("plug", "port"),
        "ip_port": ("ipport",),
        "ssh": ("ssh", "secure"),
        "ssl": ("ssl",),
    }
)
_DEFAULT_POWER_TIMEOUT = 20
_INTEGER = re.compile(r"-?[0-9]+\Z")
_SECONDS = re.compile(r"[0-9]+\Z")
_LINE_BREAKS = re.compile("[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029\0]")


class Unsupported(Exception):
    """The program cannot be asked this; the driver turns it into a fault.

    The text is one line and holds no value of any option.
    """


def input_lines(
    program: str,
    metadata: Metadata,
    needs: Parameters,
    action: Action,
    *,
    seconds: float,
    allowed: frozenset[str] = frozenset(),
) -> str:
    """Return the text for standard input; ``action`` stands first, so that no shortened text could run the default.

    The flow owns the waiting (DESIGN §3), so ``power_wait`` is always 0 and ``delay`` is left out where it is the type's wait;
    ``power_timeout`` never exceeds the *seconds* left; ``method`` is ``onoff``. Flags that are false are left out: some
    programs only test whether they are there.

    :param allowed: names of :data:`REFUSED` options and ``…_path`` that the site allows all the same.
    :raises Unsupported: the program cannot do this, or an option is unknown, malformed or refused.
    """
    _require_power_agent(program, metadata, action)
    sent = {"action": action.value, **_facts(program, metadata, needs)}
    for name, value in needs.settings.items():
        if name in needs.awaited:
            continue
        text = _setting(program, metadata, name, value, allowed)
        if text is not None:
            sent[name] = text
    for name, make in _OURS.items():
        if name in metadata.options:
            sent[name] = make(needs, seconds)
    missing = [name for name, option in metadata.options.items() if option.required and not _is_given(name, sent)]
    if missing:
        raise Unsupported(f"{program} needs {' and '.join(sorted(set(map(_modern, missing))))}")
    return "".join(f"{name}={_carried(program, name, text)}\n" for name, text in sent.items())


def _require_power_agent(program: str, metadata: Metadata, action: Action) -> None:
    if metadata.is_fabric:
        raise Unsupported(f"{program} cuts a host off from storage or network, not from power")
    if Action.STATUS not in metadata.actions:
        raise Unsupported(f"{program} cannot read a power status, so nothing it does could be believed")
    if action not in metadata.actions:
        raise Unsupported(f"{program} has no action {action}")


def _facts(program: str, metadata: Metadata, needs: Parameters) -> dict[str, str]:
    """Return address, credentials, network port, outlet and Secure by the names this program knows, each once."""
    facts: dict[str, str | None] = {
        "address": needs.address,
        "username": needs.username,
        "password": needs.password.reveal() if needs.password else None,
        "plug": needs.plug,
        "ip_port": str(needs.ip_port) if needs.ip_port is not None else None,
        needs.secure_name: "1" if needs.secure else None,
    }
    if needs.address and _ENDS_A_WORD.search(needs.address):
        raise Unsupported("the address holds blanks, quotes or other characters that no address has, or begins with -")
    if needs.username and _ENDS_A_NAME.search(needs.username) and any(map(_RUNS_A_PROGRAM.search, metadata.options)):
        raise Unsupported(f"{program} calls other programs with the user name: it may hold no blank or quote, nor begin with -")
    found = {}
    for fact, value in facts.items():
        if not value:
            continue
        name = next((name for name in _SPELLINGS.get(fact, (fact,)) if name in metadata.options), None)
        if name is not None:
            found[name] = value
        elif fact not in {"address", "username", "password"}:  # these three a program may have no use for: fence_dummy
            raise Unsupported(f"{program} has no option {_SPELLINGS.get(fact, (fact,))[0]}")
    plug = needs.plug or ""
    if "plug_separator" in metadata.options and "," in plug:
        raise Unsupported("an agent is one outlet: give each outlet an agent of its own")
    return found


def _setting(program: str, metadata: Metadata, name: str, value: str | None, allowed: frozenset[str]) -> str | None:
    """Return the text of one option, or None to leave it out."""
    shown = field_of(name)
    why = REFUSED.get(name) or ("it names a program to run" if _RUNS_A_PROGRAM.search(name) else "")
    if why and name not in allowed:
        raise Unsupported(f"{shown} is refused: {why}")
    option = metadata.options.get(name)
    if option is None:
        raise Unsupported(f"{program} has no option {shown.removeprefix('options.')}")
    if name == "method" and value != "onoff":
        raise Unsupported(f"{shown} must be onoff: other methods report success unproven")
    if option.kind == "boolean":
        flag = boolean(value)
        if flag is None:
            raise Unsupported(f"{shown} is neither true nor false")
        return "1" if flag else None
    if value is None:
        raise Unsupported(f"{shown} needs a value")
    if name in _PASTED and _ENDS_A_WORD.search(value):
        raise Unsupported(f"{shown} holds blanks, quotes or other characters that its meaning has no use for, or begins with -")
    return _checked(option, value, shown)


def _checked(option: Option, value: str, shown: str) -> str:
    if option.kind == "integer" and not _INTEGER.match(value):
        raise Unsupported(f"{shown} is not a number")
    if option.kind == "second" and not _SECONDS.match(value):
        raise Unsupported(f"{shown} is not a whole number of seconds")
    if option.kind == "select":
        # the programs compare without case; what they pass on is sent as they list it
        same = [choice for choice in option.choices if choice.lower() == value.lower()]
        if not same:
            raise Unsupported(f"{shown} must be one of {', '.join(option.choices)}")
        return same[0]
    return value


def _carried(program: str, name: str, value: str) -> str:
    """Return *value* if one line of standard input can carry it unchanged; otherwise the device would get another value."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Unsupported(f"{field_of(name)} holds characters that cannot be encoded") from None
    quoted = len(value) > 1 and value.startswith('"') and value.endswith('"')
    if _LINE_BREAKS.search(value) or value != value.strip() or quoted:
        raise Unsupported(f"{name} cannot be given to {program}: line breaks, outer blanks and outer quotes would be lost")
    return value


def _modern(name: str) -> str:
    return next((spellings[0] for spellings in _SPELLINGS.values() if name in spellings), name)


def _is_given(name: str, sent: Mapping[str, str]) -> bool:
    return any(spelling in sent for spelling in next((s for s in _SPELLINGS.values() if name in s), (name,)))


def _power_timeout(needs: Parameters, seconds: float) -> str:
    """Return the program's own limit: as configured, never beyond the deadline and never 0, which means no limit."""
    wanted = needs.settings.get("power_timeout") or ""
    limit = int(wanted) if _SECONDS.match(wanted) and int(wanted) > 0 else _DEFAULT_POWER_TIMEOUT
    return str(max(1, min(limit, int(seconds))))


# What pmcompat sends by itself, wherever the program knows the name.
_OURS: Mapping[str, Callable[[Parameters, float], str]] = {
    "method": lambda _needs, _seconds: "onoff",
    "power_wait": lambda _needs, _seconds: "0",
    "power_timeout": _power_timeout,
    # a driver never repeats an `on`: the flow does (B-83: an operator's own value stays)
    "retry_on": lambda needs, _seconds: needs.settings.get("retry_on") or "1",
}
