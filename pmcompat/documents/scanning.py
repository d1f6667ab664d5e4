"""Find elements in a stream of bytes: one expat pass that proves the document well-formed and reports byte offsets.

What lives here: the only use of expat. Everything is refused here that has to be refused before anybody builds a tree:
a DOCTYPE (law X8), an encoding that is not accepted, depth, attribute and size floods, malformed input. What the bytes
between the offsets mean is decided elsewhere.

Expat's two traps (api facts §11): the end event of an empty-element tag points *after* the tag, and only an end tag may be
searched for its ``>``, because a start tag may hold one in an attribute value.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple, NoReturn
from xml.parsers import expat

from pmcompat.documents.limits import DEFAULT, Limits
from pmcompat.errors import DocumentError

#: declared names → the codec that reads the bytes; everything else is refused by name
ENCODINGS = {"utf-8": "utf-8", "us-ascii": "utf-8", "iso-8859-1": "iso-8859-1"}
_WIDE = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
_ACCEPTED = "UTF-8, UTF-16 with a byte order mark, ISO-8859-1 and US-ASCII are accepted"
#: first bytes of what is not accepted → its name; the longest come first
_FOREIGN = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"<\x00\x00\x00": "UTF-32",
    b"\x00\x00\x00<": "UTF-32",
    b"\x4c\x6f\xa7\x94": "EBCDIC",
    b"<\x00": "UTF-16 without a byte order mark",
    b"\x00<": "UTF-16 without a byte order mark",
    b"\x1f\x8b": "compressed input (gzip)",
    b"BZh": "compressed input (bzip2)",
    b"\xfd7zX": "compressed input (xz)",
    b"\x28\xb5\x2f\xfd": "compressed input (zstd)",
    b"PK\x03\x04": "compressed input (zip)",
}
_PM = "power_management"
_AFTER_NAME = frozenset("> \t\r\n")
_TAG, _HOST_TAG = b"<power_management", b"<host"
_PLAIN_URI = re.compile(r"[A-Za-z0-9:/._#~?=&+@,-]+")
_MEMBER = ("hosts", "host")
_IN_HOSTS, _IN_HOST = (*_MEMBER, _PM), ("host", _PM)
_StartHandler = Callable[[str, list[str]], None]


class Span(NamedTuple):
    """One element that was looked for: bytes *start* to *end* of the document."""

    start: int
    end: int
    #: names from the root down
    steps: tuple[str, ...]
    #: which member of ``hosts`` it is or belongs to, from 1
    member: int
    #: the host around it carries an ``href``: the document looks like an answer of an engine
    answer: bool
    #: line of the start tag, from 1
    line: int
    #: the prefixes declared around it, as attributes: `` xmlns:x="urn:x"``
    namespaces: str = ""
    #: the match of the plain pattern the scanner was given, its positions counted in ``data``
    plain: re.Match[bytes] | None = None

    @property
    def path(self) -> str:
        """Slash path of the element: ``/hosts/host[3]/power_management``."""
        return _slashed(self.steps, self.member)


class Plain(NamedTuple):
    """What almost every element that is looked for looks like: it is found by its bytes, in one match.

    Expat proves it well-formed without a call for each of its elements. A short cut: every span is found without it as well.
    """

    pattern: re.Pattern[bytes]
    #: whole hosts, with groups ``href`` and ``power``; else the ``power_management`` of a host
    hosts: bool = False
    #: levels that such an element may have at most, counted from the root:
    #: hosts/host/power_management/agents/agent/options/option
    depth: int = 7
    #: attributes that one element of it may have at most
    attributes: int = 2

    @property
    def tag(self) -> bytes:
        """How it begins."""
        return _HOST_TAG if self.hosts else _TAG


#: what is looked for: (names from the root down) → wanted; asked for elements down to the third level only
Wanted = Callable[[tuple[str, ...]], bool]


def power_managements(path: tuple[str, ...]) -> bool:
    """Tell whether *path* is one of the places that are translated (api facts §4)."""
    return path in {_IN_HOSTS, _IN_HOST, (_PM,)}


def hosts(path: tuple[str, ...]) -> bool:
    """Tell whether *path* is a host: the document itself or a member of ``hosts``."""
    return path in {("hosts", "host"), ("host",)}


def _slashed(steps: tuple[str, ...], member: int) -> str:
    if len(steps) > 1 and steps[1] == "host":
        return "/".join(("", steps[0], f"host[{member}]", *steps[2:]))
    return "/".join(("", *steps)) if steps else ""


def _local(path: list[str]) -> tuple[str, ...]:
    return tuple(step.rpartition(":")[2] for step in path)


def _declared(prefixes: dict[str, str]) -> str:
    """Return the declarations as attributes. What no parser takes for a name only has to be bound: its name is replaced."""
    names = {key: value if _PLAIN_URI.fullmatch(value) else "urn:name" for key, value in prefixes.items()}
    return "".join(f' {key}="{value.replace("&", "&amp;")}"' for key, value in names.items())


def sniff(head: bytes) -> str | None:
    """Return the codec that the first bytes announce, None where only a declaration can tell; refuse what is not accepted."""
    if head.startswith(b"\xef\xbb\xbf"):
        return "utf-8"
    for signature, name in _FOREIGN.items():
        if head.startswith(signature):
            raise DocumentError(f"{name} is not accepted", line=1, offset=0, fix=_ACCEPTED)
    return _WIDE.get(head[:2])


class Scanner:
    """Push bytes in, take spans out. Not to be shared between threads; memory does not grow with the document.

    After :meth:`feed`, ``data`` holds the bytes from offset ``base`` of the document on: everything that was not settled
    before. The next call drops what is settled by then.
    """

    def __init__(
        self,
        wanted: Wanted = power_managements,
        *,
        limits: Limits = DEFAULT,
        whole: int | None = None,
        plain: Plain | None = None,
    ) -> None:
        """Look for *wanted* elements of at most *whole* bytes each (default: the limit of a fragment), *plain* ones quickly."""
        self._wanted = wanted
        self._limits = limits
        self._whole = limits.fragment if whole is None else whole
        usable = plain is not None and limits.depth >= plain.depth and limits.attributes >= plain.attributes
        self._plain = plain if usable else None
        self._codec: str | None = None
        self._path: list[str] = []
        self._member = 0
        # by depth: a default namespace holds; the element is in a namespace; the prefixes declared
        self._defaults = [False] * 4
        self._foreign = [False] * 4
        self._prefixes: list[dict[str, str]] = [{}] * 4
        self._answer = False
        self._managed = False
        self._in_section = False
        self._plain_members = False  # members of the root that are hosts need no more than to be counted
        self._open: Span | None = None
        self._spans: list[Span] = []
        self.data = b""
        self.base = 0
        #: name of the root element once it was seen
        self.root = ""
        #: where its start tag begins
        self.root_at = 0
        #: its attributes: name, value, name, value …
        self.root_attributes: list[str] = []
        parser = expat.ParserCreate()
        parser.ordered_attributes = True
        parser.XmlDeclHandler = self._declaration
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartCdataSectionHandler, parser.EndCdataSectionHandler = self._section_begins, self._section_ends
        if hasattr(parser, "SetReparseDeferralEnabled"):  # expat 2.6: what is complete is to be reported at once
            parser.SetReparseDeferralEnabled(False)
        self._parser = parser
        self._start_handler, self._end_handler, self._depth = self._handlers()
        parser.StartElementHandler, parser.EndElementHandler = self._start_handler, self._end_handler

    # ------------------------------------------------------------------ what the caller does

    @property
    def codec(self) -> str:
        """The Python codec of the document's bytes."""
        return self._codec or "utf-8"

    @property
    def narrow(self) -> bool:
        """Whether a byte below 128 always is the ASCII character it looks like."""
        return self._codec not in _WIDE.values()

    @property
    def fed(self) -> int:
        """Bytes of the document seen so far."""
        return self.base + len(self.data)

    @property
    def line(self) -> int:
        """The line the parser stands at."""
        return self._parser.CurrentLineNumber

    @property
    def between_members(self) -> bool:
        """Whether all that was fed is parsed and ends between two members of ``<hosts>``."""
        if self._depth() != 1 or self.root != "hosts" or self._foreign[1] or self._in_section:
            return False
        return self._parser.CurrentByteIndex == self.fed

    @property
    def settled(self) -> int:
        """Offset before which no further span can begin or end: those bytes are free to go."""
        if self._open:
            return self._open.start
        return max(self._parser.CurrentByteIndex, self.base)

    def feed(self, chunk: bytes, *, last: bool = False) -> list[Span]:
        """Parse *chunk* and return the spans that ended in it. The first chunk holds at least four bytes if the document does.

        :param last: nothing follows; close() is called next.
        :raises DocumentError: malformed, hostile, or beyond a limit.
        """
        if not self.fed:
            self._codec = sniff(chunk)
        settled = self.settled
        self.data = self.data[settled - self.base :] + chunk
        self.base = settled
        if self._limits.document is not None and self.fed > self._limits.document:
            self._refuse(f"the document is larger than the limit of {self._limits.document:,} bytes")
        begin = len(self.data) - len(chunk)
        if self._plain is not None and self.narrow:
            begin = self._jump(self._plain, begin)
        rest = self.data[begin:] if begin else self.data
        if last and self._nothing_left_in(rest):
            self._parser.StartElementHandler = self._parser.EndElementHandler = None
        self._parse(rest)
        if self._open and self.fed - self._open.start > self._whole:
            self._too_large(self._open)
        if self.fed - self._parser.CurrentByteIndex > self._limits.token:
            self._refuse(f"a tag, comment or processing instruction is larger than the limit of {self._limits.token:,} bytes")
        spans, self._spans = self._spans, []
        return spans

    def _jump(self, plain: Plain, begin: int) -> int:
        """Parse the data from *begin* on as far as there are plain elements in it; return where to go on.

        A hit of the byte search is a tag, and no text in a comment or a value, where the parser stands exactly at it: it
        stands at the beginning of what it has not completed. Only a CDATA section it completes piece by piece.
        """
        data, base, parser, find, tag = self.data, self.base, self._parser, self.data.find, plain.tag
        listening, match_at = self._start_handler, plain.pattern.match
        hit = find(tag, begin)
        while hit >= 0:
            self._parse(data[begin:hit])
            begin = hit
            after = hit + len(tag)
            if max(parser.CurrentByteIndex, 0) != base + hit:  # -1 before the first byte
                break  # inside a comment or a value, which the parser would begin anew at every call
            expected = self._between_hosts if plain.hosts else self._inside_host
            if expected and (match := match_at(data, hit)):
                after = match.end()
                if after - hit > self._whole:
                    break  # refused where it is looked at singly
                self._note(plain, match)
                parser.StartElementHandler = parser.EndElementHandler = None
                self._parse(data[hit:after])
                parser.StartElementHandler, parser.EndElementHandler = listening, self._end_handler
                if plain.hosts:
                    self._path.pop()
                begin = after
            hit = find(tag, after)
        return begin

    def _note(self, plain: Plain, match: re.Match[bytes]) -> None:
        """Note the span of a plain element; the parser stands at its begin."""
        if plain.hosts:
            self._member += 1
            self._path.append("host")  # for the place of a fault
            self._answer = match["href"] is not None
            steps: tuple[str, ...] = _MEMBER
        else:
            steps = _IN_HOSTS if len(self._path) == 2 else _IN_HOST
        self._managed = True
        first, last = match.span()
        line = self._parser.CurrentLineNumber
        self._spans.append(Span(self.base + first, self.base + last, steps, self._member, self._answer, line, "", match))

    def _nothing_left_in(self, rest: bytes) -> bool:
        """Tell whether the end of a ``<host>`` can be left to the parser: no other power_management, and no limit in reach.

        Every attribute has a ``=`` and every level a ``<``, so that counting them is enough.
        """
        return (
            self._managed
            and self.root == "host"
            and self._depth() == 1
            and self.narrow
            and rest.find(_TAG[1:]) < 0
            and rest.count(b"=") <= self._limits.attributes
            and rest.count(b"<") - rest.count(b"</") < self._limits.depth
        )

    @property
    def _inside_host(self) -> bool:
        """Whether the parser stands in a host that had no power_management yet, and that is in no namespace."""
        if self._managed or self._open or self._in_section:
            return False
        depth = self._depth()
        if depth == 2:
            return self._path == ["hosts", "host"] and not self._foreign[2]
        return depth == 1 and self.root == "host" and not self._foreign[1]

    @property
    def _between_hosts(self) -> bool:
        """Whether the parser stands between two members of ``<hosts>``, in UTF-8 and in no namespace."""
        inside = self._depth() == 1 and self.root == "hosts" and self.codec == "utf-8"
        return inside and not (self._foreign[1] or self._in_section or self._open)

    def close(self) -> None:
        """Say that the document ends here.

        :raises DocumentError: it ends too early.
        """
        self._parse(b"", final=True)

    # ------------------------------------------------------------------ expat's side

    def _parse(self, chunk: bytes, *, final: bool = False) -> None:
        try:
            self._parser.Parse(chunk, final)
        except expat.ExpatError as error:
            what = "not well-formed XML: " + expat.errors.messages.get(error.code, "unknown error")
            raise DocumentError(what, line=error.lineno, offset=self._parser.ErrorByteIndex, path=self._where()) from None
        except (ValueError, LookupError, UnicodeError):
            self._refuse("the bytes do not fit the encoding of the document", fix=_ACCEPTED)

    def _handlers(self) -> tuple[_StartHandler, Callable[[str], None], Callable[[], int]]:
        """Return the two handlers, and what tells the depth: almost every element costs a counter and two comparisons."""
        depth = 0
        most, deepest = 2 * self._limits.attributes, self._limits.depth
        shallow_start, shallow_end, flood = self._start, self._end, self._flood

        def start(name: str, attributes: list[str]) -> None:
            nonlocal depth
            depth += 1
            if len(attributes) > most:
                flood(name, "attributes", self._limits.attributes)
            if depth > 3:
                if depth > deepest:
                    flood(name, "levels of nesting", deepest)
            elif depth < 3 or name[-16:] == _PM:
                shallow_start(name, attributes, depth)

        def end(name: str) -> None:
            nonlocal depth
            if depth < 3 or (depth == 3 and name[-16:] == _PM):
                shallow_end(name, depth)
            depth -= 1

        return start, end, lambda: depth

    def _start(self, name: str, attributes: list[str], depth: int) -> None:
        """Note an element of the first three levels, and begin a span if it is wanted."""
        path = self._path
        if depth == 2 and name == "host" and self._plain_members:
            keys = attributes[::2]
            if "xmlns" not in "".join(keys):  # the common case of what follows
                path[1:] = ("host",)
                self._member += 1
                self._answer = "href" in keys
                self._managed = self._foreign[2] = self._defaults[2] = False
                self._prefixes[2] = self._prefixes[1]
                return
        path[depth - 1 :] = [name]
        prefix, _, local = name.rpartition(":")
        self._defaults[depth] = self._defaults[depth - 1]
        self._prefixes[depth] = self._prefixes[depth - 1]
        keys = attributes[::2]
        for key in keys:
            if key.startswith("xmlns"):
                self._declare(dict(zip(keys, attributes[1::2], strict=True)), depth)
                break
        self._foreign[depth] = self._foreign[depth - 1] or bool(prefix) or self._defaults[depth]
        if depth == 1:
            self._plain_members = not (self._foreign[1] or self._wanted((name, "host")))
            self.root, self.root_attributes, self.root_at = name, attributes, self._parser.CurrentByteIndex
        if depth < 3 and local == "host":
            self._member += 1
            self._answer = "href" in keys
            self._managed = False
        if not self._open and self._wanted(tuple(path) if not self._foreign[depth] else _local(path)):
            self._begin(depth)

    def _declare(self, attributes: dict[str, str], depth: int) -> None:
        """Note the namespaces an element declares."""
        self._defaults[depth] = bool(attributes.get("xmlns", self._defaults[depth]))
        prefixes = {key: value for key, value in attributes.items() if key.startswith("xmlns:")}
        self._prefixes[depth] = self._prefixes[depth] | prefixes

    def _begin(self, depth: int) -> None:
        if self._foreign[depth]:
            self._refuse(
                "namespace not expected",
                why="the documents of the API are in no namespace; what is in one is not translated",
                fix="remove the xmlns declaration or the prefix",
            )
        if self._path[-1] == _PM:
            if self._managed:
                self._refuse("power_management stands twice in one host")
            self._managed = True
        around = _declared(self._prefixes[depth - 1])
        at, line = self._parser.CurrentByteIndex, self._parser.CurrentLineNumber
        self._open = Span(at, at, tuple(self._path), self._member, self._answer, line, around)

    def _end(self, name: str, depth: int) -> None:
        """Leave an element of the first three levels, and complete the span if it was one."""
        span = self._open
        if span and depth == len(span.steps):
            span = span._replace(end=self._end_of_element(self._parser.CurrentByteIndex, name))
            self._open = None
            if span.end - span.start > self._whole:
                self._too_large(span)
            self._spans.append(span)
        del self._path[depth - 1 :]

    def _end_of_element(self, offset: int, name: str) -> int:
        """Return where the element ends whose end event came at *offset*."""
        at = offset - self.base
        opening, close = f"</{name}".encode(self.codec), ">".encode(self.codec)
        after = at + len(opening)
        follows = self.data[after : after + len(close)].decode(self.codec, "replace")
        if not self.data.startswith(opening, at) or follows not in _AFTER_NAME:
            return offset  # an empty-element tag: the offset points behind it already, maybe at the end tag of its parent
        at = self.data.index(close, after)
        while (at - after) % len(close):  # half of one character and half of the next
            at = self.data.index(close, at + 1)
        return self.base + at + len(close)

    def _section_begins(self) -> None:
        self._in_section = True

    def _section_ends(self) -> None:
        self._in_section = False

    def _declaration(self, version: str, encoding: str | None, _standalone: int) -> None:
        name = (encoding or "").lower()
        if version != "1.0":
            self._refuse(f"XML version {version[:8]!r} is not accepted", fix="XML 1.0 is accepted")
        if self._codec in _WIDE.values():
            accepted = name in {"", "utf-16", self._codec}
        elif self._codec == "utf-8":
            accepted = name in {"", "utf-8"}
        else:
            accepted = name in ENCODINGS or not name
            self._codec = ENCODINGS.get(name, "utf-8")
        if not accepted:
            self._refuse(f"encoding {(encoding or '')[:40]!r} is not accepted here", fix=_ACCEPTED)

    def _doctype(self, *_: object) -> None:
        self._refuse("a DOCTYPE is not accepted", why="entities and defaults it could define are never read or relayed")

    # ------------------------------------------------------------------ refusing

    def _where(self) -> str:
        """Return the path of the element of the first three levels the parser is in."""
        return _slashed(tuple(step[:64] for step in self._path), self._member)

    def _flood(self, name: str, what: str, limit: int) -> NoReturn:
        self._refuse(f"<{name[:40]}> has more {what} than the limit of {limit:,}")

    def _too_large(self, span: Span) -> NoReturn:
        raise DocumentError(f"the element is larger than the limit of {self._whole:,} bytes", line=span.line, path=span.path)

    def _refuse(self, what: str, *, why: str = "", fix: str = "") -> NoReturn:
        offset = max(self._parser.CurrentByteIndex, 0)
        raise DocumentError(what, line=self._parser.CurrentLineNumber, path=self._where(), offset=offset, why=why, fix=fix)
