"""The shapes that almost every ``power_management`` has, recognised in one regular expression match.

This is a short cut, never a rule: a fragment that matches is valid in its profile, holds no comment, and gives no remark
that the long way (:mod:`~pmcompat.documents.schema`, :mod:`~pmcompat.documents.splicing`) would make; the tests hold the
two ways against each other.
"""

from __future__ import annotations

import re
from functools import cache

from pmcompat.documents.grammar import OPTIONS, PROXIES, STATUS, S, attribute, boolean, maybe, text
from pmcompat.documents.values import Form

#: a type without a reference in it: two spellings of one value are equal
_TYPE = r"(?:\"[^\"<&]*+\"|'[^'<&]*+')"
_FRAGILE = {"3.3", "3.4", "3.5"}


def _fields(prefix: str) -> str:
    """Return the fields of a device; the groups say where they are, and whether there is an address and a password."""
    return (
        rf"(?P<{prefix}fields>(?P<{prefix}address>{maybe(text('address'))}){maybe(text('username'))}"
        rf"(?P<{prefix}password>{maybe(text('password'))}){maybe(OPTIONS)})"
    )


def _agent(prefix: str, order: str) -> str:
    return (
        rf"{S}<agent(?:{attribute('type', f'(?P<{prefix}type>{_TYPE})')})?+{S}>{_fields(prefix)}"
        rf"(?:{S}<concurrent{S}>{S}(?P<{prefix}concurrent>true|false){S}</concurrent{S}>)?+"
        rf"{S}<order{S}>{order}</order{S}>{S}</agent{S}>"
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
        agents = rf"(?P<agents>{S}<agents>{_agent('p', '1')}(?P<second>{_agent('s', '2')})?+{S}</agents>)?+"
    whole = (
        rf"<power_management(?:{attribute('type', f'(?P<type>{_TYPE})')})?+{S}>"
        rf"{maybe(boolean('enabled'))}{_fields('')}"
        rf"(?P<between>{maybe(STATUS)}{maybe(PROXIES) if number >= 2 else ''}){agents}"
        rf"{maybe(boolean('automatic_pm_enabled')) if number >= 4 else ''}"
        rf"{maybe(boolean('kdump_detection')) if number >= 5 else ''}"
        rf"{S}</power_management{S}>"
    )
    return re.compile(whole.encode())


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
