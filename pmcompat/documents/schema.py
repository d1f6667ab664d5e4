"""The profiles' schemas and what they say about a piece of XML: problems with line, path and what was expected.

lxml validates, piece by piece, because a whole document with many faults costs it more than linear time (api facts §10).
Messages are our own words: validators quote the offending text, and that text may be a password. Call nothing here with
bytes that :mod:`~pmcompat.documents.scanning` has not passed.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache

from lxml import etree

from pmcompat import resources
from pmcompat.documents.values import PROFILES
from pmcompat.errors import ConfigurationError, DocumentError


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One fault of a document."""

    line: int
    path: str
    message: str
    #: names that the schema would have allowed here
    expected: tuple[str, ...] = ()

    def located(self, name: str) -> str:
        """Return ``name:line: path: message``, the form editors and CI understand."""
        return f"{name}:{self.line}: {self.path}: {self.message}"

    def as_json(self) -> dict[str, object]:
        """Return plain values for ``--json``."""
        return asdict(self)


def known(profile: str) -> str:
    """Return *profile* if there is one of that name.

    :raises ConfigurationError: there is none.
    """
    if profile not in PROFILES:
        raise ConfigurationError(f"there is no profile {profile!r}", fix=f"one of {', '.join(PROFILES)}", profile=profile)
    return profile


#: what 3.3 has beyond 3.2: (name and type of the element in 3.2's schema, name and type of the one that follows it in 3.3)
_IN_3_3 = (
    (("description", "xs:string"), ("comment", "xs:string")),
    (("root_password", "xs:string"), ("ssh", "Open")),
    (("libvirt_version", "Version"), ("display", "Open")),
)


@cache
def source(profile: str) -> str:
    """Return the text of a profile's schema; 3.3 is 3.2 with a comment (and the host's ``ssh`` and ``display``)."""
    home = resources.data("schemas")
    if known(profile) != "3.3":
        return (home / f"{profile}.xsd").read_text(encoding="utf-8")
    text = (home / "3.2.xsd").read_text(encoding="utf-8")
    for old, new in _IN_3_3:
        line, addition = (f'<xs:element name="{name}" type="{kind}" minOccurs="0"/>' for name, kind in (old, new))
        text = text.replace(line, f"{line}\n{addition}")
    return text


@cache
def _schema(profile: str) -> etree.XMLSchema:
    return etree.XMLSchema(etree.fromstring(source(profile).encode()))


def parse(raw: bytes, namespaces: str = "") -> etree._Element:
    """Parse a piece that was proven well-formed and free of a DOCTYPE; *raw* is UTF-8 without a declaration.

    :param namespaces: the prefixes declared around it, as attributes: `` xmlns:x="urn:x"``.
    :raises DocumentError: a prefix without a declaration: well-formed XML, yet not by the rules of namespaces.
    """
    parser = etree.XMLParser(encoding="utf-8", resolve_entities=False, load_dtd=False, no_network=True, huge_tree=True)
    try:
        if not namespaces:
            return etree.fromstring(raw, parser)
        return etree.fromstring(f"<around{namespaces}>".encode() + raw + b"</around>", parser)[0]
    except etree.XMLSyntaxError as error:
        line = error.lineno or 1
        raise DocumentError("a prefix without its xmlns declaration, or another fault of namespaces", line=line) from None


def line_of(element: etree._Element, first: int = 1) -> int:
    """Return the line on which *element* stands if its piece begins on line *first*."""
    line: object = element.sourceline
    return first + (line if isinstance(line, int) else 1) - 1


def problems(element: etree._Element, profile: str, *, line: int = 1, path: str = "", limit: int = 20) -> list[Problem]:
    """Return what the profile's schema says against *element*, at most *limit* problems.

    :param line: line of the document on which the element begins.
    :param path: the element's path in the document; paths inside it are appended.
    """
    schema = _schema(profile)
    if schema.validate(element):
        return []
    found = [_problem(error, element, line, path) for error in itertools.islice(_entries(schema), limit)]
    return found or [Problem(line=line, path=path, message="invalid")]


def _entries(schema: etree.XMLSchema) -> Iterator[etree._LogEntry]:
    log: Iterable[etree._LogEntry] = schema.error_log  # type: ignore[assignment]  # iterable, which its stubs do not say
    return iter(log)


def _problem(error: etree._LogEntry, element: etree._Element, line: int, path: str) -> Problem:
    inside = (error.path or "").removeprefix("/around").split("/", 2)[2:]
    message, expected = _explain(error, element)
    where = path or f"/{element.tag}"
    return Problem(line=line + error.line - 1, path="/".join([where, *inside]), message=message, expected=expected)


_SUBJECT = re.compile(r"Element '([^']*)'(?:, attribute '([^']*)')?: ")
_KIND = re.compile(r"of the atomic type '([^']*)'")
_EXPECTED = re.compile(r"Expected is (?:one of )?\( (.*?) \)")
#: the schema's types in words
_TYPES = {
    "xs:boolean": "true, false, 1 or 0",
    "xs:int": "a whole number",
    "xs:unsignedInt": "a whole number, not negative",
    "xs:unsignedShort": "a whole number from 0 to 65535",
    "xs:long": "a whole number",
}
#: wrong names found in published texts and on the design page → what to write instead (api facts §3.1)
_HINTS = {
    "user_name": "the element is called username",
    "user": "the element is called username",
    "ip": "the element is called address",
    "port": 'before profile 3.6 the port is an option: <option name="port" value="..."/>',
}
#: the design page prints `order="primary"` as text behind the user name
_STRAY_ORDER = "the order is an element of its own: write <order>1</order> for the primary, <order>2</order> for the secondary"


#: words of a validator's message → ours, tried in this order; {name} is the element, {expected} what may stand here
_WORDS = (
    ("Missing child", "<{name}> lacks {expected}"),
    ("not expected. Expected", "<{name}> is not expected here, expected {expected}"),
    ("not expected", "<{name}> is not expected here, nothing may follow"),
    ("haracter content", "text is not allowed in <{name}>"),
    ("lement content", "<{name}> may hold text only"),
    ("global declaration", "<{name}> is not a document of this profile"),
    ("", "<{name}> is invalid in this profile"),
)


def _explain(error: etree._LogEntry, element: etree._Element) -> tuple[str, tuple[str, ...]]:
    """Return a validator's message in our words, without the text it quotes, and what it expected."""
    subject = _SUBJECT.match(error.message)
    name, attribute = (subject[1], subject[2]) if subject else ("element", None)
    name = name.rpartition("}")[2][:64]
    allowed = _EXPECTED.search(error.message)
    expected = tuple(part.strip(" ,") for part in allowed[1].split(",")) if allowed else ()
    kind = _KIND.search(error.message)
    if kind:
        text = f"{'attribute ' + attribute + ' of ' if attribute else ''}<{name}> must be {_TYPES.get(kind[1], kind[1])}"
    elif attribute:
        text = f"<{name}> may not have an attribute {attribute[:64]}"
    else:
        words = next(words for sign, words in _WORDS if sign in error.message)
        text = words.format(name=name, expected=_listed(expected))
    hint = _hint(error, element, name, attribute)
    return text + (f"; {hint}" if hint else ""), expected


def _hint(error: etree._LogEntry, element: etree._Element, name: str, attribute: str | None) -> str:
    """Return what to write instead, where published texts misled the writer."""
    if "not expected" in error.message:
        return _HINTS.get(name, "")
    if "order" in (name, attribute):
        return _STRAY_ORDER
    inside = "/".join((error.path or "").removeprefix("/around").split("/")[2:])
    found = element.find(inside) if inside else element
    stray = found is not None and 'order="' in "".join(part or "" for part in (found.text, *(child.tail for child in found)))
    return _STRAY_ORDER if stray and "haracter content" in error.message else ""


def _listed(names: Sequence[str]) -> str:
    return " or ".join(f"<{name}>" for name in names) if names else "a child"


def refusal(found: Sequence[Problem], *, more: bool = False) -> DocumentError:
    """Return the error that names *found*; the first problem gives its place. Every problem travels along in ``problems``."""
    first = found[0]
    why = "" if len(found) == 1 else f"{len(found)} problems" + (" or more" if more else "")
    return DocumentError(
        first.message, line=first.line, path=first.path, why=why, problems=[problem.as_json() for problem in found]
    )


def listed(error: DocumentError) -> Iterator[Problem]:
    """Yield every problem an error names: those it carries, else the one it is."""
    carried = error.operands.get("problems")
    if not isinstance(carried, list):
        yield Problem(line=error.line, path=error.path, message=error.what)
        return
    for problem in carried:
        yield Problem(
            line=problem["line"], path=problem["path"], message=problem["message"], expected=tuple(problem["expected"])
        )
