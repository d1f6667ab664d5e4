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

from pmcompat.documents.grammar import OPTIONS, PROXIES, STATUS, S, maybe
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
    return rf"{''.join(texts)}(?:{S}(?P<{prefix}options>{OPTIONS}))?+"


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

    __slots__ = ("_children", "_literal", "_match", "_text")

    def __init__(self, match: re.Match[bytes]) -> None:
        raw = match[0]
        plain = b"&" not in raw and b"\r" not in raw
        self._match = match
        self._text: Callable[[bytes], str] = bytes.decode if plain else text_of
        self._literal: Callable[[bytes], str] = _bare if plain else value_of
        self._children: dict[bytes, tuple[bytes, bytes, bytes]] = {}
        for group in ("after", "before"):  # of two children of one name the first counts
            for name, *rest in reversed(_CHILD.findall(match[group])):
                self._children[name] = tuple(rest)

    @property
    def id(self) -> str | None:
        """The attribute ``id``."""
        literal = self._match["id"]
        return None if literal is None else self._literal(literal)

    def text(self, name: str) -> str | None:
        """Return the text of a child, None where there is none."""
        child = self._children.get(name.encode())
        return None if child is None else self._text(child[1])

    def attribute(self, name: str, attribute: str) -> str | None:
        """Return an attribute of a child, None where there is none."""
        child = self._children.get(name.encode())
        if child is None:
            return None
        found = dict(_ATTRIBUTE.findall(child[0])).get(attribute.encode())
        return None if found is None else self._literal(found)

    def nested(self, name: str, inner: str) -> str | None:
        """Return the text of a child's child, None where there is none."""
        child = self._children.get(name.encode())
        for found, _, text, _ in _CHILD.findall(child[2]) if child is not None else ():
            if found == inner.encode():
                return self._text(text)
        return None

    def power_management(self) -> PowerManagementElement | None:
        """Return the value of the host's ``power_management``."""
        found = self._match.groupdict()
        if found["power"] is None:
            return None
        agents: tuple[AgentElement, ...] | None = None
        if found.get("agents") is not None:
            agents = (self._agent(found, "p"),)
            if found["two"] is not None:
                agents += (self._agent(found, "s"),)
        proxies = found.get("proxies")
        return PowerManagementElement(
            enabled=_flag(found["enabled"]),
            flat=_typed(found["type"], self._literal) if _says_type_alone(found) else self._agent(found, ""),
            agents=agents,
            pm_proxies=None if proxies is None else tuple(self._text(kind) for kind in _PROXY.findall(proxies)),
            automatic_pm_enabled=_flag(found.get("automatic")),
            kdump_detection=_flag(found.get("kdump")),
        )

    def _agent(self, found: dict[str, bytes | None], prefix: str) -> AgentElement:
        text = self._text
        type_, address, username = found[prefix + "type"], found[prefix + "address"], found[prefix + "username"]
        password, options, order = found[prefix + "password"], found[prefix + "options"], found.get(prefix + "order")
        port = found.get(prefix + "port")
        return AgentElement(
            type=None if type_ is None else self._literal(type_),
            address=None if address is None else text(address),
            username=None if username is None else text(username),
            password=None if password is None else Secret(text(password)),
            options=None if options is None else self._options(options),
            concurrent=_flag(found.get(prefix + "concurrent")),
            order=None if order is None else int(order),
            port=None if port is None else int(port),
            encrypt_options=_flag(found.get(prefix + "encrypt_options")),
        )

    def _options(self, raw: bytes) -> OptionElements:
        literal = self._literal
        return tuple((literal(name or name2), literal(value or value2)) for name, value, value2, name2 in _OPTION.findall(raw))


def _says_type_alone(found: dict[str, bytes | None]) -> bool:
    return all(found[name] is None for name in ("address", "username", "password", "options"))


@lru_cache(maxsize=64)
def _typed(literal: bytes | None, read: Callable[[bytes], str]) -> AgentElement:
    """Return the flat fields of which only the type is said: one value for thousands of hosts."""
    return AgentElement(type=None if literal is None else read(literal))


def _flag(word: bytes | None) -> bool | None:
    return None if word is None else word in _TRUE
