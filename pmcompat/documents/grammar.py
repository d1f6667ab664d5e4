"""The smallest shapes of a document as pieces of regular expressions: white space, literals, leaves, lists.

What lives here: strings that :mod:`~pmcompat.documents.patterns` and :mod:`~pmcompat.documents.plain_hosts` are made of. What
they are matched against is proven well-formed, before or by the same pass, so ``[^<]`` is all text there can be. Repeats are
possessive: a match takes linear time.
"""

from __future__ import annotations

from typing import Final

#: white space, maybe none
S: Final = r"[ \t\r\n]*+"
#: an attribute's value with its quotes
LITERAL: Final = r"(?:\"[^\"<]*+\"|'[^'<]*+')"


def attribute(name: str, literal: str = LITERAL) -> str:
    """Return an attribute and the white space before it."""
    return rf"[ \t\r\n]++{name}{S}={S}{literal}"


def text(name: str) -> str:
    """Return an element of text, or an empty one."""
    return rf"<{name}{S}(?:/>|>[^<]*+</{name}{S}>)"


def boolean(name: str, value: str = "true|false|1|0") -> str:
    """Return an element that holds a boolean."""
    return rf"<{name}{S}>{S}(?:{value}){S}</{name}{S}>"


def list_of(name: str, item: str) -> str:
    """Return an element of any number of items."""
    return rf"<{name}{S}(?:/>|>(?:{S}{item})*+{S}</{name}{S}>)"


def maybe(element: str) -> str:
    """Return an element that need not be there, and the white space before it."""
    return rf"(?:{S}{element})?+"


def options(literal: str = LITERAL) -> str:
    """Return ``<options>`` whose attributes' values are such literals."""
    name, value = attribute("name", literal), attribute("value", literal)
    return list_of("options", rf"<option(?:{name}{value}|{value}{name}){S}(?:/>|></option{S}>)")


OPTIONS: Final = options()
STATUS: Final = rf"<status{S}>{S}{text('state')}{maybe(text('detail'))}{S}</status{S}>"
_PROXY = rf"<pm_proxy{S}(?:/>|>{maybe(text('type'))}{S}</pm_proxy{S}>)"
PROXIES: Final = list_of("pm_proxies", _PROXY)
