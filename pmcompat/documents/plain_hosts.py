"""The shape that almost every ``<host>`` has, recognised and read in one regular expression match.

A short cut like :mod:`~pmcompat.documents.patterns`, and never a rule: a host that matches has a valid ``power_management`` of
at most two agents, no comment, and other children nested three deep at most. What is made of it is what the long way
(:mod:`~pmcompat.documents.reading`) makes of it; the tests hold the two against each other.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Final

from pmcompat.documents.grammar import PROXIES, STATUS, S, maybe, options
from pmcompat.documents.pieces import text_of, value_of
from pmcompat.documents.values import AgentElement, OptionElements, PowerManagementElement
from pmcompat.model import Secret

#: how deep elements of a plain host nest, the root included, and how many attributes they have at most
DEPTH, ATTRIBUTES = 7, 8

_WHITE = r"[ \t\r\n]++"
#: a literal whose white space needs no normalising
_LITERAL = r"(?:\"[^\"<\t\r\n]*+\"|'[^'<\t\r\n]*+')"
_NAME = r"[a-z_]++"
_ATTRIBUTES = rf"(?:{_WHITE}{_NAME}{S}={S}{_LITERAL}){{0,{ATTRIBUTES}}}+"


def _element(levels: int) -> str:
    """Return any element but a ``power_management``, with *levels* levels of elements in it at most."""
    nested = rf"|(?:{S}{_element(levels - 1)})++{S}" if levels else ""
    return rf"<(?!power_management){_NAME}{_ATTRIBUTES}{S}(?:/>|>(?:[^<]*+{nested})</{_NAME}{S}>)"


#: a child of a host: name, attributes, text, what is nested in it
_CHILD = re.compile(rf"<({_NAME})({_ATTRIBUTES}){S}(?:/>|>(?:([^<]*+)|((?:{S}{_element(1)})++){S})</{_NAME}{S}>)".encode())
_ATTRIBUTE = re.compile(rf"({_NAME}){S}={S}({_LITERAL})".encode())
_OPTION = re.compile(
    rf"<option{_WHITE}(?:name{S}={S}({_LITERAL}){_WHITE}value{S}={S}({_LITERAL})"
    rf"|value{S}={S}({_LITERAL}){_WHITE}name{S}={S}({_LITERAL}))".encode()
)
_PROXY = re.compile(rf"<pm_proxy{S}(?:/>|>{S}(?:<type{S}>([^<]*+)<)?+)".encode())
_TRUE: Final = frozenset({b"true", b"1"})


def _attribute(name: str, group: str) -> str:
    return rf"{_WHITE}{name}{S}={S}(?P<{group}>{_LITERAL})"


def _text(name: str, group: str) -> str:
    return rf"(?:{S}<{name}{S}>(?P<{group}>[^<]*+)</{name}{S}>)?+"


def _word(name: str, group: str, word: str = "true|false|1|0") -> str:
    return rf"(?:{S}<{name}{S}>{S}(?P<{group}>{word}){S}</{name}{S}>)?+"


def _fields(prefix: str) -> str:
    texts = (_text(name, prefix + name) for name in ("address", "username", "password"))
    return rf"{''.join(texts)}(?:{S}(?P<{prefix}options>{options(_LITERAL)}))?+"


def _agent(prefix: str, number: int) -> str:
    resource = number >= 6
    others = rf"|{_WHITE}(?:id|href){S}={S}{_LITERAL}" if resource else ""
    encrypted = _word("encrypt_options", prefix + "encrypt_options") if resource else ""
    port = _word("port", prefix + "port", r"[0-9]{1,9}") if resource else ""
    return (
        rf"{S}<agent(?:{_attribute('type', prefix + 'type')}{others}){{0,3}}+{S}>{_fields(prefix)}{encrypted}"
        rf"{_word('concurrent', prefix + 'concurrent')}{_word('order', prefix + 'order', '[0-9]{1,9}')}{port}{S}</agent{S}>"
    )


@cache
def shape(profile: str) -> re.Pattern[bytes]:
    """Return the pattern of a profile's plain ``<host>``."""
    number = int(profile.partition(".")[2])
    agents = ""
    if number >= 2:
        both = rf"(?P<one>{_agent('p', number)})(?P<two>{_agent('s', number)})?+"
        agents = rf"(?:{S}(?P<proxies>{PROXIES}))?+(?P<agents>{S}<agents{S}>{both}{S}</agents{S}>)?+"
    power = (
        rf"<power_management(?:{_attribute('type', 'type')})?+{S}>"
        rf"{_word('enabled', 'enabled')}{_fields('')}{maybe(STATUS)}{agents}"
        rf"{_word('automatic_pm_enabled', 'automatic') if number >= 4 else ''}"
        rf"{_word('kdump_detection', 'kdump') if number >= 5 else ''}{S}</power_management{S}>"
    )
    children = rf"(?:{S}{_element(2)})*+"
    identity = rf"(?:{_attribute('id', 'id')}|{_attribute('href', 'href')}){{0,2}}+"
    host = rf"<host{identity}{S}>(?P<before>{children})(?:{S}(?P<power>{power}))?+(?P<after>{children}){S}</host{S}>"
    return re.compile(host.encode())


def _bare(literal: bytes) -> str:
    return literal[1:-1].decode()


class PlainHost:
    """A host that matched: its parts, read when they are asked for. The bytes are UTF-8."""

    __slots__ = ("_children", "_literal", "_match", "_text", "id")

    def __init__(self, match: re.Match[bytes]) -> None:
        raw = match[0]
        plain = b"&" not in raw and b"\r" not in raw
        self._match = match
        self._text: Callable[[bytes], str] = bytes.decode if plain else text_of
        self._literal: Callable[[bytes], str] = _bare if plain else value_of
        id_, before, after = match.group("id", "before", "after")
        #: the attribute ``id``
        self.id = None if id_ is None else self._literal(id_)
        found = _CHILD.findall(before)
        if after:
            found += _CHILD.findall(after)
        found.reverse()  # of two children of one name the first counts
        self._children: dict[bytes, _Child] = {child[0]: child for child in found}

    def text(self, name: bytes) -> str | None:
        """Return the text of a child, None where there is none."""
        child = self._children.get(name)
        return None if child is None else self._text(child[2])

    def attribute(self, name: bytes, attribute: bytes) -> str | None:
        """Return an attribute of a child, None where there is none."""
        child = self._children.get(name)
        if child is None:
            return None
        found = dict(_ATTRIBUTE.findall(child[1])).get(attribute)
        return None if found is None else self._literal(found)

    def nested(self, name: bytes, inner: bytes) -> str | None:
        """Return the text of a child's child, None where there is none."""
        child = self._children.get(name)
        if child is None:
            return None
        return next((self._text(text) for found, _, text, _ in _CHILD.findall(child[3]) if found == inner), None)

    def power_management(self) -> PowerManagementElement | None:
        """Return the value of the host's ``power_management``."""
        match = self._match
        if match["power"] is None:
            return None
        known = match.re.groupindex
        enabled, *flat = match.group("enabled", *_FLAT)
        agents: tuple[AgentElement, ...] | None = None
        proxies = automatic = kdump = None
        if "agents" in known:
            proxies, there, second = match.group("proxies", "agents", "two")
            if there is not None:
                extras = _RESOURCE if "pport" in known else ()
                agents = (self._agent(*match.group(*_PRIMARY, *(f"p{name}" for name in extras))),)
                if second is not None:
                    agents += (self._agent(*match.group(*_SECONDARY, *(f"s{name}" for name in extras))),)
        if "automatic" in known:
            automatic = match["automatic"]
        if "kdump" in known:
            kdump = match["kdump"]
        return PowerManagementElement(
            enabled=_flag(enabled),
            flat=self._agent(*flat) if any(part is not None for part in flat[1:]) else _typed(flat[0], self._literal),
            agents=agents,
            pm_proxies=None if proxies is None else tuple(self._text(kind) for kind in _PROXY.findall(proxies)),
            automatic_pm_enabled=_flag(automatic),
            kdump_detection=_flag(kdump),
        )

    def _agent(
        self,
        type_: bytes | None,
        address: bytes | None,
        username: bytes | None,
        password: bytes | None,
        options: bytes | None,
        *more: bytes | None,
    ) -> AgentElement:
        """Return an agent; *more*: what only agents have, as far as the profile has it."""
        text = self._text
        concurrent, order, port, encrypt_options = (*more, None, None, None, None)[:4]
        return AgentElement(
            None if type_ is None else self._literal(type_),
            None if address is None else text(address),
            None if username is None else text(username),
            None if password is None else Secret(text(password)),
            None if options is None else self._options(options),
            _flag(concurrent),
            None if order is None else int(order),
            None if port is None else int(port),
            _flag(encrypt_options),
        )

    def _options(self, raw: bytes) -> OptionElements:
        literal = self._literal
        return tuple(
            [(literal(name or name2), literal(value or value2)) for name, value, value2, name2 in _OPTION.findall(raw)]
        )


#: a child of a host as its pattern splits it: name, attributes, text, what is nested in it
_Child = tuple[bytes, bytes, bytes, bytes]
_FLAT: Final = ("type", "address", "username", "password", "options")
_FIELDS: Final = (*_FLAT, "concurrent", "order")
_PRIMARY: Final = tuple(f"p{name}" for name in _FIELDS)
_SECONDARY: Final = tuple(f"s{name}" for name in _FIELDS)
#: what agents have where they are resources (3.6)
_RESOURCE: Final = ("port", "encrypt_options")


@lru_cache(maxsize=64)
def _typed(literal: bytes | None, read: Callable[[bytes], str]) -> AgentElement:
    """Return the flat fields of which only the type is said: one value for thousands of hosts."""
    return AgentElement(type=None if literal is None else read(literal))


def _flag(word: bytes | None) -> bool | None:
    return None if word is None else word in _TRUE
