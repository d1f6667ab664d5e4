"""The shapes that almost every ``power_management`` has, recognised in one regular expression match.

This is a short cut, never a rule: a fragment that matches is valid in its profile, holds no comment, and gives no remark
that the long way (:mod:`~pmcompat.documents.schema`, :mod:`~pmcompat.documents.splicing`) would make; the tests hold the
two ways against each other. The fragment is well-formed already, so ``[^<]`` is all text there can be. Repeats are
possessive: a match takes linear time.
"""

from __future__ import annotations

import re
from functools import cache

from pmcompat.documents.values import Form

_S = r"[ \t\r\n]*+"
_LITERAL = r"(?:\"[^\"<]*+\"|'[^'<]*+')"
#: a type without a reference in it: two spellings of one value are equal
_TYPE = r"(?:\"[^\"<&]*+\"|'[^'<&]*+')"
_FRAGILE = {"3.3", "3.4", "3.5"}


def _attribute(name: str, literal: str = _LITERAL) -> str:
    return rf"[ \t\r\n]++{name}{_S}={_S}{literal}"


def _text(name: str) -> str:
    return rf"<{name}{_S}(?:/>|>[^<]*+</{name}{_S}>)"


def _boolean(name: str, value: str = "true|false|1|0") -> str:
    return rf"<{name}{_S}>{_S}(?:{value}){_S}</{name}{_S}>"


def _list(name: str, item: str) -> str:
    return rf"<{name}{_S}(?:/>|>(?:{_S}{item})*+{_S}</{name}{_S}>)"


def _maybe(element: str) -> str:
    return rf"(?:{_S}{element})?+"


_OPTION = (
    rf"<option(?:{_attribute('name')}{_attribute('value')}|{_attribute('value')}{_attribute('name')}){_S}"
    rf"(?:/>|></option{_S}>)"
)
_OPTIONS = _list("options", _OPTION)
_STATUS = rf"<status{_S}>{_S}{_text('state')}{_maybe(_text('detail'))}{_S}</status{_S}>"
_PROXY = rf"<pm_proxy{_S}(?:/>|>{_maybe(_text('type'))}{_S}</pm_proxy{_S}>)"
_PROXIES = _list("pm_proxies", _PROXY)


def _fields(prefix: str) -> str:
    """Return the fields of a device; the groups say where they are, and whether there is an address and a password."""
    return (
        rf"(?P<{prefix}fields>(?P<{prefix}address>{_maybe(_text('address'))}){_maybe(_text('username'))}"
        rf"(?P<{prefix}password>{_maybe(_text('password'))}){_maybe(_OPTIONS)})"
    )


def _agent(prefix: str, order: str) -> str:
    return (
        rf"{_S}<agent(?:{_attribute('type', f'(?P<{prefix}type>{_TYPE})')})?+{_S}>{_fields(prefix)}"
        rf"(?:{_S}<concurrent{_S}>{_S}(?P<{prefix}concurrent>true|false){_S}</concurrent{_S}>)?+"
        rf"{_S}<order{_S}>{order}</order{_S}>{_S}</agent{_S}>"
    )


@cache
def shape(profile: str) -> re.Pattern[bytes]:
    """Return the pattern of a profile's plain ``power_management``: flat fields, or one or two agents, or neither.

    Groups: ``type``, ``fields`` with the white space before them, ``between`` which ends where agents go, ``agents``; the same
    with a ``p`` before them for the primary and an ``s`` for the secondary.
    """
    number = int(profile.partition(".")[2])
    agents = ""
    if number >= 2:
        agents = rf"(?P<agents>{_S}<agents>{_agent('p', '1')}(?P<second>{_agent('s', '2')})?+{_S}</agents>)?+"
    text = (
        rf"<power_management(?:{_attribute('type', f'(?P<type>{_TYPE})')})?+{_S}>"
        rf"{_maybe(_boolean('enabled'))}{_fields('')}"
        rf"(?P<between>{_maybe(_STATUS)}{_maybe(_PROXIES) if number >= 2 else ''}){agents}"
        rf"{_maybe(_boolean('automatic_pm_enabled')) if number >= 4 else ''}"
        rf"{_maybe(_boolean('kdump_detection')) if number >= 5 else ''}"
        rf"{_S}</power_management{_S}>"
    )
    return re.compile(text.encode())


#: (start, end, what to put there), in their order
Cuts = tuple[tuple[int, int, bytes], ...]
_IPMI = frozenset({b'"ipmi"', b"'ipmi'"})


class Quick:
    """The short cut of one profile and form. Shared freely between threads."""

    def __init__(self, form: Form, profile: str) -> None:
        """Prepare the pattern."""
        #: for the scanner: what a plain fragment looks like
        self.pattern = shape(profile)
        self._fragile = profile in _FRAGILE
        self._form = form
        self._with_agents = profile != "3.1"

    def translate(self, match: re.Match[bytes]) -> Cuts | None:
        """Return the cuts that bring the fragment of *match* into the form, () if it stays as it is.

        None where only the long way knows.
        """
        if match["type"] in _IPMI:
            return None
        if self._with_agents and match["agents"] is not None:
            return self._agents(match)
        return self._flat(match)

    def _flat(self, match: re.Match[bytes]) -> Cuts | None:
        first, last = match.span("fields")
        if first == last:
            return ()
        if self._fragile and not match["address"]:
            return None
        if self._form is Form.FLAT:
            return ()
        kind = match["type"]
        opening = b"<agents><agent>" if kind is None else b"<agents><agent type=" + kind + b">"
        place = match.end("between")
        agents = (place, place, opening + match["fields"] + b"<order>1</order></agent></agents>")
        return (agents,) if self._form is Form.DUAL else ((first, last, b""), agents)

    def _agents(self, match: re.Match[bytes]) -> Cuts | None:
        """Handle plain agents without flat fields beside them."""
        kind, second = match["ptype"], match["second"]
        flags = match["pconcurrent"], match["sconcurrent"]
        if (
            match["fields"]
            or (kind is not None and match["type"] != kind)
            or _IPMI & {kind, match["stype"]}
            or (self._fragile and not match["paddress"])
            or (None not in flags and flags[0] != flags[1])
        ):
            return None
        if self._form is Form.AGENTS:
            return ()
        if self._form is Form.DUAL or second is not None or flags[0] == b"true":
            return None
        place = match.start("fields")
        return ((place, place, match["pfields"]), (*match.span("agents"), b""))


def holds_password(match: re.Match[bytes]) -> bool:
    """Tell whether a plain fragment holds a password."""
    groups = match.groupdict()
    return any(groups.get(name) for name in ("password", "ppassword", "spassword"))
