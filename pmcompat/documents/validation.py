"""Validate whole documents against a profile's schema, piece by piece, in memory that does not grow with the document.

A ``<hosts>`` document is validated host by host, and its frame with every host replaced by an empty one: the same verdict
as on the whole, at linear cost however many faults there are (api facts §10).
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, BinaryIO

from lxml import etree

from pmcompat.documents.limits import DEFAULT, Limits
from pmcompat.documents.pieces import lines_in
from pmcompat.documents.scanning import Scanner, Span
from pmcompat.documents.schema import Problem, known, line_of, parse, problems, source
from pmcompat.errors import DocumentError

__all__ = ["Problem", "validate"]

_CHUNK = 1 << 18
#: hosts validated in one go; on a fault each of them is looked at again
_BATCH = 64
_BLANK_MARKUP = re.compile(rb"<!--.*?-->|<\?.*?\?>", re.DOTALL)


def validate(
    document: BinaryIO | bytes, profile: str, *, limit: int = 20, explain: bool = False, limits: Limits = DEFAULT
) -> list[Problem]:
    """Return what is invalid in *document* under *profile*, at most *limit* problems in document order; [] if it is valid.

    :param explain: let xmlschema, an independent validator, say its reasons as well; slow, meant for a person.
    :raises DocumentError: malformed or hostile: there is nothing to validate.
    :raises ConfigurationError: there is no such profile.
    """
    judge = _Judge(profile=known(profile), limit=limit, explain=explain)
    stream = io.BytesIO(document) if isinstance(document, bytes) else document
    scanner = Scanner(_pieces, limits=limits, whole=limits.host)
    while chunk := stream.read(_CHUNK):
        while len(chunk) < _CHUNK and (more := stream.read(_CHUNK - len(chunk))):
            chunk += more
        for raw, span in _taken(scanner, chunk, judge):
            judge.take(raw, span)
        if judge.enough:
            return judge.verdict()
    scanner.close()
    if scanner.root == "hosts":
        judge.gap(scanner.data[judge.seen - scanner.base :], scanner.line)
        judge.frame(scanner.root_attributes)
    return judge.verdict()


def _pieces(path: tuple[str, ...]) -> bool:
    """Tell what is validated on its own: the members of ``hosts``, else the whole document."""
    return path != ("hosts",) and (len(path) == 1 or (len(path) == 2 and path[0] == "hosts"))


def _taken(scanner: Scanner, chunk: bytes, judge: _Judge) -> Iterator[tuple[bytes, Span]]:
    """Yield the pieces that end in *chunk* as UTF-8, and let the judge see what stands between them."""
    spans = scanner.feed(chunk)
    base, codec = scanner.base, scanner.codec

    def plain(start: int, end: int) -> bytes:
        raw = scanner.data[max(start - base, 0) : end - base]
        return raw if codec == "utf-8" else raw.decode(codec).encode()

    for span in spans:
        if scanner.root == "hosts":
            judge.gap(plain(judge.seen, span.start), span.line)
        judge.seen = span.end
        yield plain(span.start, span.end), span
    if scanner.root == "hosts":
        settled = scanner.settled
        if settled > judge.seen:
            judge.gap(plain(judge.seen, settled), scanner.line)
            judge.seen = settled


@dataclass(slots=True)
class _Judge:
    profile: str
    limit: int
    explain: bool
    seen: int = 0
    found: list[Problem] = field(default_factory=list)
    batch: list[tuple[bytes, Span]] = field(default_factory=list)
    #: one line for every child of ``hosts``, hosts without content; (line in the document, bytes)
    children: list[tuple[int, bytes]] = field(default_factory=list)
    inside: bool = False

    @property
    def enough(self) -> bool:
        return len(self.found) >= self.limit

    def verdict(self) -> list[Problem]:
        self._settle()
        return sorted(self.found, key=lambda problem: problem.line)[: self.limit]

    def gap(self, raw: bytes, line: int) -> None:
        """Look at what stands between two members: nothing but white space and comments may."""
        text = _BLANK_MARKUP.sub(b"", raw)
        if not self.inside:  # the declaration and the root's own start tag
            self.inside = b"<hosts" in text
            text = re.sub(rb"^.*<hosts(?:[^>\"']|\"[^\"]*\"|'[^']*')*>", b"", text, count=1, flags=re.DOTALL)
        text = re.sub(rb"</hosts\s*>\s*$", b"", text.strip())
        if text.strip(b" \t\r\n"):
            where = max(line - lines_in(raw), 1)
            self.found.append(Problem(line=where, path="/hosts", message="text is not allowed in <hosts>"))

    def take(self, raw: bytes, span: Span) -> None:
        """Take one piece."""
        name = span.path.rpartition("/")[2]
        if not span.path.startswith("/hosts/"):
            self._look(raw, span)
            return
        if name.startswith("host["):
            if not self.children or self.children[-1][1] != b"<host/>":
                self.children.append((span.line, b"<host/>"))
            self.batch.append((raw, span))
            if len(self.batch) >= _BATCH:
                self._settle()
        elif len(self.children) < 1000:
            self.children.append((span.line, re.sub(rb"[\r\n]", b" ", raw)))

    def frame(self, attributes: list[str]) -> None:
        """Validate the root with its children, hosts emptied."""
        names = [name for name in attributes[::2] if not name.startswith("xmlns")]
        root = etree.Element("hosts", dict.fromkeys(names, ""))
        for _, child in self.children:
            root.append(parse(child))
        for problem in problems(root, self.profile, path="/hosts", limit=self.limit):
            step = re.match(r"/hosts/([^/\[]+)(?:\[(\d+)\])?", problem.path)
            same = [line for line, raw in self.children if step and raw.startswith(f"<{step[1]}".encode())]
            index = int(step[2] or 1) - 1 if step else 0
            line = same[index] if index < len(same) else 1
            self.found.append(Problem(line=line, path=problem.path, message=problem.message, expected=problem.expected))

    def _settle(self) -> None:
        """Validate the hosts that wait: together, and one by one only if something is wrong."""
        batch, self.batch = self.batch, []
        if not batch:
            return
        try:
            together = parse(b"<hosts>" + b"".join(raw for raw, _ in batch) + b"</hosts>", batch[0][1].namespaces)
            if not problems(together, self.profile, limit=1):
                return
        except DocumentError:
            pass  # one of them; it is found below
        for raw, span in batch:
            if not self.enough:
                self._look(raw, span)

    def _look(self, raw: bytes, span: Span) -> None:
        try:
            element = parse(raw, span.namespaces)
        except DocumentError as error:
            self.found.append(Problem(line=span.line + error.line - 1, path=span.path, message=error.what))
            return
        left = self.limit - len(self.found)
        found = problems(element, self.profile, line=span.line, path=span.path, limit=left)
        self.found += found
        if found and self.explain:
            self.found += _reasons(element, self.profile, span, left)


# ---------------------------------------------------------------------- the second opinion


@cache
def _second(profile: str) -> Any:
    import xmlschema

    return xmlschema.XMLSchema(source(profile))


@cache
def _vocabulary(profile: str) -> frozenset[str]:
    return frozenset(re.findall(r"[\w:]+", source(profile)))


def _reasons(element: etree._Element, profile: str, span: Span, limit: int) -> list[Problem]:
    """Return xmlschema's reasons, without the text it quotes: that text may be a password."""
    words = _vocabulary(profile)
    # xmlschema takes a comment inside a value for an element: it gets a copy without comments
    bare = etree.XMLParser(remove_comments=True, remove_pis=True, resolve_entities=False, huge_tree=True)
    element = etree.fromstring(etree.tostring(element, with_tail=False), bare)

    def redacted(match: re.Match[str]) -> str:
        return match[0] if match[1] in words else "'…'"

    found = []
    for error in _second(profile).iter_errors(element):
        reason = re.sub(r"'([^']*)'", redacted, str(error.reason or "invalid").splitlines()[0])[:300]
        inside = [step for step in str(error.path or "").split("/") if step][1:]
        line = line_of(error.elem, span.line) if error.elem is not None else span.line
        found.append(Problem(line=line, path="/".join([span.path, *inside]), message=f"(xmlschema) {reason}"))
        if len(found) >= limit:
            break
    return found
