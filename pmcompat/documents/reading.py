"""Host documents → values, as a stream: one ``<host>`` in memory at a time.

``None`` means *not mentioned* (keep), an empty value *set to empty* (law X9). Each ``power_management`` is validated
against its profile before anything of it is believed.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from typing import BinaryIO

from lxml import etree

from pmcompat.documents.limits import DEFAULT, Limits
from pmcompat.documents.scanning import Scanner, Span, hosts
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
    known(profile)
    for raw, span in host_fragments(source, limits=limits):
        yield read_host(raw, span, profile=profile, limits=limits)


def host_fragments(source: BinaryIO | bytes, *, limits: Limits = DEFAULT) -> Iterator[tuple[bytes, Span]]:
    """Yield the bytes of every host as UTF-8, and where they stand.

    :raises DocumentError: malformed, hostile, or not a host document.
    """
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    scanner = Scanner(hosts, limits=limits, whole=limits.host)
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
    host = parse(raw, span.namespaces)
    power = host.find("power_management")
    value = None
    if power is not None:
        path, line = f"{span.path}/power_management", line_of(power, span.line)
        if sum(1 for _ in itertools.islice(power.iter(), limits.elements + 1)) > limits.elements:
            raise DocumentError(f"more than the limit of {limits.elements:,} elements", line=line, path=path)
        found = problems(power, profile, line=line, path=path, limit=limits.problems)
        if found:
            raise refusal(found)
        value = power_management(power, path=path, first=span.line)
    storage = host.find("storage_manager")
    return HostElement(
        id=host.get("id"),
        name=_text(host.find("name")),
        address=_text(host.find("address")),
        port=_whole(_text(host.find("port")), "port", span, most=65535),
        cluster_id=_attribute(host.find("cluster"), "id"),
        cluster_name=_text(host.find("cluster/name")),
        spm_priority=_whole(_attribute(storage, "priority"), "storage_manager/@priority", span, least=-(2**31)),
        power_management=value,
        path=span.path,
        line=span.line,
    )


def power_management(power: etree._Element, *, path: str = "", first: int = 1) -> PowerManagementElement:
    """Return the value of a valid ``power_management``; its piece begins on line *first*."""
    agents = power.find("agents")
    proxies = power.find("pm_proxies")
    return PowerManagementElement(
        enabled=_boolean(power.find("enabled")),
        flat=_agent(power, path=path, first=first),
        agents=None if agents is None else tuple(_agents(agents, path=f"{path}/agents", first=first)),
        pm_proxies=None
        if proxies is None
        else tuple(_text(proxy.find("type")) or "" for proxy in proxies.iterfind("pm_proxy")),
        automatic_pm_enabled=_boolean(power.find("automatic_pm_enabled")),
        kdump_detection=_boolean(power.find("kdump_detection")),
        path=path,
        line=line_of(power, first),
    )


def _agents(agents: etree._Element, *, path: str, first: int) -> Iterator[AgentElement]:
    for index, agent in enumerate(agents.iterfind("agent"), start=1):
        yield _agent(agent, path=f"{path}/agent[{index}]", first=first)


def _agent(element: etree._Element, *, path: str, first: int) -> AgentElement:
    """Return an ``<agent>``, or the flat fields of a ``<power_management>``, as a value."""
    password = _text(element.find("password"))
    return AgentElement(
        type=element.get("type"),
        address=_text(element.find("address")),
        username=_text(element.find("username")),
        password=None if password is None else Secret(password),
        options=_options(element.find("options")),
        concurrent=_boolean(element.find("concurrent")),
        order=_number(element.find("order")),
        port=_number(element.find("port")),
        encrypt_options=_boolean(element.find("encrypt_options")),
        path=path,
        line=line_of(element, first),
    )


def _options(element: etree._Element | None) -> OptionElements | None:
    if element is None:
        return None
    return tuple((option.get("name"), option.get("value")) for option in element.iterfind("option"))


def _text(element: etree._Element | None) -> str | None:
    """Return the whole text; a comment inside a value does not cut it off."""
    if element is None:
        return None
    return "".join(part for part in (element.text, *(child.tail for child in element)) if part)


def _attribute(element: etree._Element | None, name: str) -> str | None:
    return None if element is None else element.get(name)


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
