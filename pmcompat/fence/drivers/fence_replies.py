"""What a fence program's exit code and text mean (fencing facts §8.3).

What lives here: one table of foreign words, and the only door from a finished program to an answer. Pure.

All reasons a program knows collapse to exit 1; only its standard error tells them apart, mixed with the noise of its
interpreter. An exit code of 2 means *off* for ``status``, and "wrong usage" for half of the world's programs: it is believed
only where the program says nothing else.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from urllib.parse import quote, quote_plus

from pmcompat.fence.commands import ACCEPTED, Answer
from pmcompat.model import Action, AgentFault, FaultKind, PowerStatus, Secret
from pmcompat.options import Parameters, is_secret_option

_LONGEST_MESSAGE = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """How a program ended."""

    #: exit code; negative: the signal that killed it; None: killed at the deadline
    code: int | None
    out: bytes = b""
    err: bytes = b""


@dataclass(frozen=True, slots=True)
class _Words:
    """Words on standard error and what they mean."""

    pattern: re.Pattern[str]
    kind: FaultKind
    #: said where the program's own line cannot be shown
    meaning: str
    #: the words can come after an ``on`` or ``off`` reached the device
    after: bool = False


def _words(pattern: str, kind: FaultKind, meaning: str, *, after: bool = False) -> _Words:
    return _Words(re.compile(pattern, re.IGNORECASE), kind, meaning, after)


# The first row that fits counts. The programs read the status before they switch (fence_action in their library), so what
# they say of their settings and of user and password is said before anything acted. That a device cannot be reached may as well
# be said of the status after the switch: those that ask anew each time connect for it.
_TABLE = (
    _words(r"Ignoring (unknown )?option", FaultKind.UNSUPPORTED, "the program did not understand an option", after=True),
    _words(
        r"(Cannot run command|Unable to run|not found or was not executable).*?/",
        FaultKind.UNSUPPORTED,
        "a program it needs is not installed",
    ),
    _words(
        r"You have to |Unrecognised action|valid choice|not a valid |Parse error",
        FaultKind.UNSUPPORTED,
        "the program cannot work with these settings",
    ),
    _words(
        r"(login|log in|logon|authenticat\w*|authori[sz]ation|credentials?|password|user ?name)\b.{0,40}"
        r"\b(fail\w*|denied|incorrect|invalid|(?<!connection )refused|wrong|rejected|unsuccessful)"
        r"|(incorrect|invalid|wrong|bad) (user|pass|cred|login)|permission denied|unauthori[sz]ed|forbidden"
        r"|\b(HTTP|status|code|error)\W{0,3}40[13]\b|correct privileges|authorizationError|Unknown user name",
        FaultKind.REFUSED,
        "the device refused user, password or privilege",
    ),
    _words(
        r"Connection refused|No route to host|(host|network) is unreachable|not known|could ?n[o']t resolve"
        r"|Temporary failure in name|lookup .{0,80} failed|(failed|could ?n[o']t|unable) to connect to|Max retries exceeded",
        FaultKind.UNREACHABLE,
        "the device does not answer",
        after=True,
    ),
    _words(r"Unable to connect/login", FaultKind.UNREACHABLE, "the device does not answer or refuses the login", after=True),
    _words(
        r"Connection (timed out|lost|reset|aborted)|timed out|Timeout|No Response",
        FaultKind.UNREACHABLE,
        "the device stopped answering",
        after=True,
    ),
    _words(
        r"Unable to obtain correct plug status|plug is not available",
        FaultKind.FAILED,
        "no status of this outlet: it does not exist, or the password is wrong",
        after=True,
    ),
)
# Rows whose lines hold what was sent, a password among it: never shown.
_NEVER_SHOWN = _TABLE[:2]
# The line is about the sending of the command itself.
_SENDING = re.compile(r"send_post|sending power|set_power", re.IGNORECASE)
_NEEDED = re.compile(r"/[\w/.-]*/(\w[\w-]*)")
#: Debian's packages of the programs that fence programs call
_PACKAGES = {"ipmitool": "ipmitool", "gnutls-cli": "gnutls-bin", "ssh": "openssh-client", "telnet": "telnet"}
_WAITED_IN_VAIN = re.compile(r"Timed out waiting to power (ON|OFF)", re.IGNORECASE)

_STAMP = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ |^(ERROR|WARNING|CRITICAL): ")
_NOISE = re.compile(r"DeprecationWarning|SyntaxWarning|InsecureRequestWarning|^\s+|^Traceback |^$|-h' for usage")
_STATUS = re.compile(r"^Status:[ \t]*(\S+)", re.IGNORECASE | re.MULTILINE)
_SAID = re.compile(r"\b(on|off)\b", re.IGNORECASE)
#: an output that says off and nothing else
_OFF = re.compile(r"\s*(Status:\s*)?off\s*\Z", re.IGNORECASE)
#: a warning of the interpreter as it prints it, with the line of code it is about
_WARNING = re.compile(r"^\S+:\d+: (Deprecation|Syntax|InsecureRequest)Warning: .*\n?( {2}\S.*\n?)?", re.MULTILINE)


def answer(program: str, action: Action, ended: Ended, needs: Parameters) -> Answer:
    """Return what *ended* answers; a fault's message is one line without anything that could be a secret."""
    out, err = ended.out.decode(errors="replace"), ended.err.decode(errors="replace")
    if ended.code is None:
        return AgentFault(
            kind=FaultKind.TIMEOUT, message=f"{program} did not end in time and was killed", sent=action is not Action.STATUS
        )
    misunderstood = _TABLE[0].pattern.search(err) is not None
    if action is Action.STATUS and not misunderstood:
        if (power := _power(ended.code, out, err)) is not None:
            return power
    elif not misunderstood and (ended.code == 0 or _WAITED_IN_VAIN.search(err)):
        return ACCEPTED
    return _fault(program, action, ended.code, out, err, needs)


def _power(code: int, out: str, err: str) -> PowerStatus | None:
    said = {word.lower() for word in (*_SAID.findall(out), *_STATUS.findall(out))}
    if code == 0:
        return PowerStatus.ON if said <= {"on"} else PowerStatus.UNKNOWN
    if code == 2 and _OFF.match(out):
        return PowerStatus.OFF
    if code == 2 and not (out + _WARNING.sub("", err)).strip():
        return PowerStatus.OFF
    return None


def _fault(program: str, action: Action, code: int, out: str, err: str, needs: Parameters) -> AgentFault:
    lines = [*_lines(err)] or [*_lines(out)]
    secrets = _secrets(needs)
    for words in _TABLE:
        if (line := next(filter(words.pattern.search, lines), None)) is not None:
            message = _advice(line) if words in _NEVER_SHOWN else _shown(line, secrets)
            may_have_acted = action is not Action.STATUS and (words.after or _SENDING.search(line) is not None)
            return AgentFault(kind=words.kind, message=f"{program}: {message or words.meaning}", sent=may_have_acted)
    ending = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    said = _shown(lines[-1], secrets) if lines else None
    message = f"{program} {ending}" + (f": {said}" if said else "")
    return AgentFault(kind=FaultKind.FAILED, message=message, sent=action is not Action.STATUS)


def _advice(line: str) -> str | None:
    """Name the Debian package of a program that is not there; nothing else of the line is said."""
    needed = _NEEDED.search(line)
    name = needed[1] if needed else ""
    package = _PACKAGES.get(name) or ("snmp" if name.startswith("snmp") else None)
    return f"it needs {name}: apt-get install {package}" if package else None


def _lines(text: str) -> Iterator[str]:
    """Yield the lines that say something: the interpreter's warnings and stack, time stamps and levels are left out."""
    for raw in text.splitlines():
        line = raw
        while line != (line := _STAMP.sub("", line)):
            pass
        if not _NOISE.search(line):
            yield " ".join(line.split())


def _shown(line: str, secrets: frozenset[str]) -> str | None:
    """Return *line* for a reader's eyes, or None where it may hold a secret in any spelling."""
    folded = _plain(line)
    if any(_plain(secret) in folded for secret in secrets):
        return None
    return "".join(character for character in line if character.isprintable())[:_LONGEST_MESSAGE] or None


def _plain(text: str) -> str:
    """Return *text* without what a program may add or drop: case, blanks, quotes and backslashes."""
    return re.sub(r"[\s'\"\\]+", "", text).lower()


def _secrets(needs: Parameters) -> frozenset[str]:
    values: Iterable[Secret | None] = (
        needs.password,
        *(Secret(value) for name, value in needs.settings.items() if value and is_secret_option(name)),
    )
    found = set()
    for value in values:
        if not value:
            continue
        plain = value.reveal()
        login = f"{needs.username or ''}:{plain}"
        found |= {plain, quote(plain, safe=""), quote_plus(plain), repr(plain)[1:-1], plain.encode().hex()}
        found |= {escape(plain), json.dumps(plain)[1:-1], repr(plain.encode())[2:-1]}
        found |= {base64.b64encode(text.encode()).decode().rstrip("=") for text in (plain, login)}
    return frozenset(filter(_plain, found))
