"""Cut SQL text into tokens: enough of PostgreSQL's lexer to find one's way in a view or a function body.

What lives here: the scanner, and walking over tokens with regard to parentheses. It knows quotes (``''``, ``E''``,
``$tag$``), quoted identifiers, both kinds of comments (block comments nest) and nothing of the grammar. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<comment>--[^\n]*)
  | (?P<block>/\*)
  | (?P<string>[eE]'(?:[^'\\]|\\.|'')*' | (?:[bBxXnN]|[uU]&)?'(?:[^']|'')*')
  | (?P<dollar>\$(?:[^\W\d]\w*)?\$)
  | (?P<quoted>(?:[uU]&)?"(?:[^"]|"")*")
  | (?P<word>[^\W\d][\w$]*)
  | (?P<number>\d[\w.]*)
  | (?P<mark>::|:=|=>|<=|>=|<>|!=|\|\||.)
    """,
    re.VERBOSE | re.DOTALL,
)
_BLOCK_EDGE = re.compile(r"/\*|\*/")


@dataclass(frozen=True, slots=True)
class Token:
    """One token: its kind, its text as written, and where it stands in the whole text."""

    kind: str
    text: str
    start: int
    #: how many parentheses are open around it; the parentheses themselves count as outside
    depth: int

    @property
    def end(self) -> int:
        """Return the offset just behind the token."""
        return self.start + len(self.text)

    @property
    def name(self) -> str:
        """Return the identifier this token is, as the catalog spells it; '' where it is none."""
        if self.kind == "word":
            return self.text.lower()
        if self.kind == "quoted":
            return self.text[1:-1].replace('""', '"')
        return ""

    def says(self, *keywords: str) -> bool:
        """Tell whether this is one of these keywords (upper case) or marks; a quoted identifier never is."""
        return self.kind in {"word", "mark"} and self.text.upper() in keywords


class Unreadable(Exception):
    """The text ends inside a quote or comment, or its parentheses do not match."""


def tokens(text: str) -> tuple[Token, ...]:
    """Return the tokens of *text* without white space and comments.

    :raises Unreadable: a quote, comment or parenthesis is not closed.
    """
    return tuple(token for token in _scan(text) if token.kind not in {"space", "comment"})


def _scan(text: str) -> Iterator[Token]:
    at = depth = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        assert match is not None, "the last alternative takes any character"  # noqa: S101 - a promise of the pattern
        kind, end = match.lastgroup or "mark", match.end()
        if kind == "block":
            kind, end = "comment", _block_end(text, at)
        elif kind == "dollar":
            kind, end = "string", _closing(text, match.group(), end)
        elif kind == "mark" and match.group() in {"'", '"'}:
            raise Unreadable(f"a quote opened at character {at} is not closed")
        piece = text[at:end]
        if kind == "mark" and piece == ")":
            depth -= 1
            if depth < 0:
                raise Unreadable(f"a parenthesis closed at character {at} was never opened")
        yield Token(kind, piece, at, depth)
        if kind == "mark" and piece == "(":
            depth += 1
        at = end
    if depth:
        raise Unreadable("a parenthesis is not closed")


def _block_end(text: str, start: int) -> int:
    open_comments = 0
    for edge in _BLOCK_EDGE.finditer(text, start):
        open_comments += 1 if edge.group() == "/*" else -1
        if not open_comments:
            return edge.end()
    raise Unreadable(f"a comment opened at character {start} is not closed")


def _closing(text: str, tag: str, start: int) -> int:
    end = text.find(tag, start)
    if end < 0:
        raise Unreadable(f"a {tag} quote is not closed")
    return end + len(tag)


def closing(found: Sequence[Token], opening: int) -> int:
    """Return the index of the parenthesis that closes the one at index *opening*."""
    depth = found[opening].depth
    return next(i for i in range(opening + 1, len(found)) if found[i].depth == depth and found[i].says(")"))


def split(found: Sequence[Token], depth: int) -> list[Sequence[Token]]:
    """Split tokens at the commas of *depth*; no tokens at all give no part."""
    parts: list[Sequence[Token]] = []
    start = 0
    for i, token in enumerate(found):
        if token.depth == depth and token.says(","):
            parts.append(found[start:i])
            start = i + 1
    return [*parts, found[start:]] if found else []
