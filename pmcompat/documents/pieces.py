"""Take a well-formed fragment apart without changing a byte: elements as offsets into it.

The fragment is UTF-8 and was proven well-formed by :mod:`~pmcompat.documents.scanning` before it comes here; only therefore
may it be cut by a regular expression. No meaning and no output here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

#: one piece of markup; the alternatives come in the order in which XML tells them apart
_MARKUP = re.compile(
    rb"<!--.*?-->|<!\[CDATA\[.*?\]\]>|<\?.*?\?>"
    rb"|</(?P<end>[^\s>]++)\s*+>"
    rb"|<(?P<start>[^\s/>!?]++)(?P<attributes>[^>\"']*+(?:\"[^\"]*+\"[^>\"']*+|'[^']*+'[^>\"']*+)*+)>",
    re.DOTALL,
)
_ATTRIBUTE = re.compile(rb"([^\s=/]+)\s*=\s*(\"[^\"]*\"|'[^']*')")
_UNSEEN = re.compile(rb"<!--.*?-->|<\?.*?\?>|<!\[CDATA\[(?P<cdata>.*?)\]\]>", re.DOTALL)
_REFERENCE = re.compile(r"&(?:#x([0-9a-fA-F]+)|#([0-9]+)|(lt|gt|amp|apos|quot));")
_NAMED = {"lt": "<", "gt": ">", "amp": "&", "apos": "'", "quot": '"'}


@dataclass(slots=True)
class Piece:
    """One element of a fragment; all offsets count bytes of the fragment."""

    source: bytes
    name: str
    #: where the white space and comments before it begin: they move with it
    before: int
    start: int
    #: end of the start tag, where the content begins
    inner: int
    #: the text between the name and the end of the start tag
    head: bytes
    #: the tag is ``<x/>``: no end tag, ``inner == close == end``
    empty: bool
    #: where the end tag begins
    close: int = 0
    end: int = 0
    children: list[Piece] = field(default_factory=list)

    @property
    def raw(self) -> bytes:
        """The element as it stands."""
        return self.source[self.start : self.end]

    @property
    def moving(self) -> bytes:
        """The element and the white space and comments before it."""
        return self.source[self.before : self.end]

    @property
    def last(self) -> int:
        """Where the last child ends, or the content begins: what follows belongs to the end tag."""
        return self.children[-1].end if self.children else self.inner

    def child(self, name: str) -> Piece | None:
        """Return the child of this name, or None."""
        return next((child for child in self.children if child.name == name), None)

    def literal(self, name: str) -> bytes | None:
        """Return an attribute's value as it is spelled, with its quotes, or None."""
        return next((value for key, value in _ATTRIBUTE.findall(self.head) if key == name.encode()), None)

    def literal_place(self, name: str) -> tuple[int, int] | None:
        """Return where that literal stands."""
        begin = self.start + 1 + len(self.name.encode())
        for match in _ATTRIBUTE.finditer(self.head):
            if match[1] == name.encode():
                return begin + match.start(2), begin + match.end(2)
        return None

    def attribute(self, name: str) -> str | None:
        """Return an attribute's value, or None."""
        literal = self.literal(name)
        return None if literal is None else value_of(literal)

    def attributes(self) -> list[str]:
        """Return the attributes' names."""
        return [name.decode() for name, _ in _ATTRIBUTE.findall(self.head)]

    @property
    def text(self) -> str:
        """The whole text, whatever comments or sections it is made of; elements inside do not count."""
        return text_of(self.source[self.inner : self.close])

    def line(self, first: int) -> int:
        """Return the line of the element in a document in which the fragment begins on line *first*."""
        return first + lines_in(self.source[: self.start])


def lines_in(raw: bytes) -> int:
    """Count line ends as XML counts them: CR LF, LF or CR."""
    return raw.count(b"\n") + raw.count(b"\r") - raw.count(b"\r\n")


def value_of(literal: bytes) -> str:
    """Return the value of an attribute literal."""
    text = literal[1:-1].decode().replace("\r\n", "\n")
    return _resolve(re.sub(r"[\t\r\n]", " ", text))


def text_of(raw: bytes) -> str:
    """Return the text of raw content: comments and instructions left out, sections and references resolved."""
    parts: list[str] = []
    seen = 0
    for match in _UNSEEN.finditer(raw):
        parts += [_resolve(_plain(raw[seen : match.start()])), _plain(match["cdata"] or b"")]
        seen = match.end()
    return "".join([*parts, _resolve(_plain(raw[seen:]))])


def _plain(raw: bytes) -> str:
    return raw.decode().replace("\r\n", "\n").replace("\r", "\n")


def _resolve(text: str) -> str:
    if "&" not in text:
        return text
    return _REFERENCE.sub(lambda m: _NAMED[m[3]] if m[3] else chr(int(m[1], 16) if m[1] else int(m[2])), text)


def markup(source: bytes, start: int, end: int) -> Iterator[re.Match[bytes]]:
    """Yield every tag, comment, section and instruction between two places that are not inside one."""
    return _MARKUP.finditer(source, start, end)


def take_apart(source: bytes) -> Piece:
    """Return the one element that *source* is."""
    root: Piece | None = None
    path: list[Piece] = []
    for match in _MARKUP.finditer(source):
        if match["start"] is not None:
            piece = _open(source, match, path)
            root = root or piece
            if not piece.empty:
                path.append(piece)
        elif match["end"] is not None:
            piece = path.pop()
            piece.close, piece.end = match.span()
    if root is None or path:
        msg = "take_apart() was given something else than one well-formed element"
        raise AssertionError(msg)
    return root


def _open(source: bytes, match: re.Match[bytes], path: list[Piece]) -> Piece:
    head = match["attributes"]
    empty = head.endswith(b"/")
    parent = path[-1] if path else None
    start, inner = match.span()
    before = parent.last if parent else start
    piece = Piece(source, match["start"].decode(), before, start, inner, head.removesuffix(b"/") if empty else head, empty)
    if empty:
        piece.close = piece.end = inner
    if parent:
        parent.children.append(piece)
    return piece
