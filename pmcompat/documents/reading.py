"""Host documents → values, as a stream: one ``<host>`` in memory at a time.

``None`` means *not mentioned* (keep), an empty value *set to empty* (law X9). Each ``power_management`` is validated
against its profile before anything of it is believed.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from lxml import etree

from pmcompat.documents import plain_hosts
from pmcompat.documents.limits import DEFAULT, Limits
from pmcompat.documents.plain_hosts import PlainHost
from pmcompat.documents.scanning import Plain, Scanner, Span, hosts
from pmcompat.documents.schema import known, line_of, parse, problems, refusal
from pmcompat.documents.values import AgentElement, HostElement, OptionElements, PowerManagementElement
from pmcompat.errors import DocumentError
from pmcompat.model import Secret

CHUNK = 1 << 18
_TRUE = {"true", "1"}


def read_hosts(source: BinaryIO | bytes, *, profile: str, limits: Limits = DEFAULT) -> Iterator[HostElement]:
    """Yield every host of a ``<host>`` or ``<hosts>`` document, in any form.

    Streams: a fault late in the document is raised after the hosts before it were yielded.

    :raises DocumentError: malformed, hostile, invalid in *profile*, or not a host document (line, path).
    :raises ConfigurationError: there is no such profile.
    """
    plain = Plain(plain_hosts.shape(known(profile)), hosts=True, attributes=plain_hosts.ATTRIBUTES)
    for raw, span in host_fragments(source, limits=limits, plain=plain):
        yield read_host(raw, span, profile=profile, limits=limits)


def host_fragments(
    source: BinaryIO | bytes, *, limits: Limits = DEFAULT, plain: Plain | None = None
) -> Iterator[tuple[bytes, Span]]:
    """Yield the bytes of every host as UTF-8, and where they stand.

    :raises DocumentError: malformed, hostile, or not a host document.
    """
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    scanner = Scanner(hosts, limits=limits, whole=limits.host, plain=plain)
    while chunk := stream.read(CHUNK):
        while len(chunk) < CHUNK and (more := stream.read(CHUNK - len(chunk))):
            chunk += more
        for span in scanner.feed(chunk):
            raw = scanner.data[span.start - scanner.base : span.end - scanner.base]
            yield (raw if scanner.codec == "utf-8" else raw.decode(scanner.codec).encode()), span
        if scanner.root not in {"", "host", "hosts"}:
            raise DocumentError(
                f"<{scanner.root[:64]}> is not a host document", line=1, fix="give a <host> or a <hosts> document"
            )
    scanner.close()


def read_host(raw: bytes, span: Span, *, profile: str, limits: Limits = DEFAULT) -> HostElement:
    """Return the value of one host's bytes.

    :raises DocumentError: invalid.
    """
    short = span.plain is not None and raw.count(b"<") <= limits.elements
    host = PlainHost(span.plain) if span.plain and short else _ParsedHost(raw, span, profile, limits)
    return HostElement(
        id=host.id,
        name=host.text(b"name"),
        address=host.text(b"address"),
        port=_whole(host.text(b"port"), "port", span, most=65535),
        cluster_id=host.attribute(b"cluster", b"id"),
        cluster_name=host.nested(b"cluster", b"name"),
        spm_priority=_whole(host.attribute(b"storage_manager", b"priority"), "storage_manager/@priority", span, least=-(2**31)),
        power_management=host.power_management(),
        path=span.path,
        line=span.line,
    )


class _ParsedHost:
    """A host of any shape, as lxml reads it; what :class:`~pmcompat.documents.plain_hosts.PlainHost` is for plain ones."""

    def __init__(self, raw: bytes, span: Span, profile: str, limits: Limits) -> None:
        self._host = parse(raw, span.namespaces)
        self._children = _children(self._host)
        self.id = self._host.get("id")
        self._span, self._profile, self._limits = span, profile, limits

    def text(self, name: bytes) -> str | None:
        return _text(self._children.get(name.decode()))

    def attribute(self, name: bytes, attribute: bytes) -> str | None:
        child = self._children.get(name.decode())
        return None if child is None else child.get(attribute.decode())

    def nested(self, name: bytes, inner: bytes) -> str | None:
        child = self._children.get(name.decode())
        return None if child is None else _text(child.find(inner.decode()))

    def power_management(self) -> PowerManagementElement | None:
        """Return the value of the host's ``power_management``, after its schema has agreed.

        :raises DocumentError: it is invalid.
        """
        power = self._children.get("power_management")
        if power is None:
            return None
        path, line = f"{self._span.path}/power_management", line_of(power, self._span.line)
        limits = self._limits
        if sum(1 for _ in itertools.islice(power.iter(), limits.elements + 1)) > limits.elements:
            raise DocumentError(f"more than the limit of {limits.elements:,} elements", line=line, path=path)
        found = problems(power, self._profile, line=line, path=path, limit=limits.problems)
        if found:
            raise refusal(found)
        return power_management(power)


def power_management(power: etree._Element) -> PowerManagementElement:
    """Return the value of a valid ``power_management``."""
    children = _children(power)
    agents, proxies = children.get("agents"), children.get("pm_proxies")
    return PowerManagementElement(
        enabled=_boolean(children.get("enabled")),
        flat=_agent(power, children),
        agents=None if agents is None else tuple(_agent(agent, _children(agent)) for agent in agents.iterfind("agent")),
        pm_proxies=None
        if proxies is None
        else tuple(_text(proxy.find("type")) or "" for proxy in proxies.iterfind("pm_proxy")),
        automatic_pm_enabled=_boolean(children.get("automatic_pm_enabled")),
        kdump_detection=_boolean(children.get("kdump_detection")),
    )


def _agent(element: etree._Element, children: Mapping[str, etree._Element]) -> AgentElement:
    """Return an ``<agent>``, or the flat fields of a ``<power_management>``, as a value."""
    password = _text(children.get("password"))
    return AgentElement(
        type=element.get("type"),
        address=_text(children.get("address")),
        username=_text(children.get("username")),
        password=None if password is None else Secret(password),
        options=_options(children.get("options")),
        concurrent=_boolean(children.get("concurrent")),
        order=_number(children.get("order")),
        port=_number(children.get("port")),
        encrypt_options=_boolean(children.get("encrypt_options")),
    )


def _children(element: etree._Element) -> dict[str, etree._Element]:
    """Return the child elements by name; of two of one name the first."""
    return {child.tag: child for child in element.iterchildren("*", reversed=True)}


def _options(element: etree._Element | None) -> OptionElements | None:
    if element is None:
        return None
    return tuple((option.get("name"), option.get("value")) for option in element.iterfind("option"))


def _text(element: etree._Element | None) -> str | None:
    """Return the whole text; a comment inside a value does not cut it off."""
    if element is None:
        return None
    return "".join(part for part in (element.text, *(child.tail for child in element)) if part)


def _boolean(element: etree._Element | None) -> bool | None:
    text = _text(element)
    return None if text is None else text.strip() in _TRUE


def _number(element: etree._Element | None) -> int | None:
    text = _text(element)
    return None if text is None else int(text)


def _whole(text: str | None, name: str, span: Span, *, least: int = 0, most: int = 2**31 - 1) -> int | None:
    if text is None:
        return None
    plain = text.strip(" \t\r\n")
    digits = plain[1:] if plain[:1] in {"+", "-"} else plain
    if not (digits.isascii() and digits.isdigit() and len(digits) < 12 and least <= int(plain) <= most):
        raise DocumentError(
            f"<{name}> must be a whole number from {least} to {most}", line=span.line, path=f"{span.path}/{name}"
        )
    return int(plain)
