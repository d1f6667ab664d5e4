"""Limits on what a document may cost (law X8), as one frozen value with safe defaults.

Sizes are bytes of the document as it comes in, whatever its encoding. A limit that is exceeded is a
:class:`~pmcompat.errors.DocumentError` naming the limit and its value.
"""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What a document may cost; shared freely between threads."""

    #: bytes of the whole document; None: any size, memory does not grow with it
    document: int | None = None
    #: bytes of one start tag, comment or processing instruction: the parser must hold it whole
    token: int = 2 * MIB
    #: bytes of one ``power_management``: held whole and validated
    fragment: int = MIB
    #: bytes of one ``host`` where whole hosts are read or validated
    host: int = 8 * MIB
    #: how deep elements may nest
    depth: int = 256
    #: attributes of one element, namespace declarations included
    attributes: int = 256
    #: elements in one ``power_management``
    elements: int = 10_000
    #: problems and warnings named before the rest is only counted
    problems: int = 20


DEFAULT = Limits()
