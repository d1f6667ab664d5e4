"""What differs in meaning between two host documents: not their bytes, not their form.

A flat document and its translation do not differ. Power management is compared as an engine of the profile reads it, the
rest of a host element by element; white space, comments, quotes and the order of attributes mean nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import BinaryIO

from lxml import etree

from pmcompat.documents.limits import DEFAULT, Limits
from pmcompat.documents.meaning import Role, concurrent_pair, roles
from pmcompat.documents.reading import host_fragments, read_host
from pmcompat.documents.schema import known, parse
from pmcompat.documents.values import AgentElement, PowerManagementElement

#: (what it is, shown value); values that may be secret are told apart by a fingerprint that is never shown
Facts = dict[str, tuple[object, str]]
_SECRET = {"password", "root_password", "value"}
_ABSENT = (None, "not there")


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """One fact about one host that differs; secrets are named, never shown."""

    #: id of the host, else its name, else its place
    host: str
    fact: str
    left: str
    right: str

    def __str__(self) -> str:
        return f"{self.host}: {self.fact}: {self.left} | {self.right}"

    def as_json(self) -> dict[str, object]:
        """Return plain values for ``--json``."""
        return asdict(self)


def differences(
    left: BinaryIO | bytes, right: BinaryIO | bytes, *, profile: str = "3.2", limits: Limits = DEFAULT
) -> Iterator[Difference]:
    """Yield what differs in meaning between two ``<host>`` or ``<hosts>`` documents.

    Hosts are matched by id, else by name, else by place. Where both documents hold them in the same order, memory does not
    grow with the documents.

    :raises DocumentError: one of them is malformed, hostile or invalid.
    """
    known(profile)
    waiting: tuple[dict[str, Facts], dict[str, Facts]] = ({}, {})
    sides = (_hosts(left, profile, limits), _hosts(right, profile, limits))
    ended = [False, False]
    while not all(ended):
        for side in (0, 1):
            name, facts = next(sides[side], ("", None))
            if facts is None:
                ended[side] = True
                continue
            other = waiting[1 - side].pop(name, None)
            if other is None:
                waiting[side][name] = facts
            else:
                yield from _between(name, *((other, facts) if side else (facts, other)))
    for name in waiting[0]:
        yield Difference(host=name, fact="host", left="there", right="not there")
    for name in waiting[1]:
        yield Difference(host=name, fact="host", left="not there", right="there")


def _hosts(source: BinaryIO | bytes, profile: str, limits: Limits) -> Iterator[tuple[str, Facts | None]]:
    for index, (raw, span) in enumerate(host_fragments(source, limits=limits), start=1):
        value = read_host(raw, span, profile=profile, limits=limits)
        facts = dict(_rest(parse(raw, span.namespaces), ""))
        if value.power_management:
            facts |= _power(value.power_management, profile)
        yield value.id or value.name or f"host {index}", facts


def _between(host: str, left: Facts, right: Facts) -> Iterator[Difference]:
    for fact in [*left, *(fact for fact in right if fact not in left)]:
        (one, shown), (other, also) = left.get(fact, _ABSENT), right.get(fact, _ABSENT)
        if one != other:
            yield Difference(host=host, fact=fact, left=shown, right=also)


def _power(power: PowerManagementElement, profile: str) -> Facts:
    """Return what an engine reads: the fields of the primary laid over the flat ones, the secondary, the rest."""
    agents = power.agents or ()
    orders = [agent.order for agent in agents]
    found = roles(orders, profile)
    facts: Facts = {"power_management": (True, "there")}
    for name in ("enabled", "automatic_pm_enabled", "kdump_detection"):
        facts |= _plain(name, getattr(power, name))
    facts |= _plain("pm_proxies", None if power.pm_proxies is None else ", ".join(power.pm_proxies))
    facts |= _agent("primary", power.flat)
    for index, (agent, role) in enumerate(zip(agents, found, strict=True), start=1):
        facts |= _agent(f"agent[{index}]" if role is Role.UNREAD else role.value, agent)
    if len(agents) > 1:
        facts |= _plain("concurrent", concurrent_pair(orders, [agent.concurrent for agent in agents], profile))
    return facts


def _agent(name: str, agent: AgentElement) -> Facts:
    facts: Facts = {}
    for field in ("type", "address", "username", "port", "encrypt_options"):
        facts |= _plain(f"{name}.{field}", getattr(agent, field))
    if agent.password is not None:
        facts[f"{name}.password"] = (agent.password, "set" if agent.password else "empty")
    if agent.options is not None:
        names = ", ".join(option or "?" for option, _ in agent.options)
        facts[f"{name}.options"] = (agent.options, f"{len(agent.options)} ({names})" if names else "empty")
    return facts


def _plain(name: str, value: object) -> Facts:
    return {} if value is None else {name: (value, str(value).lower() if isinstance(value, bool) else repr(str(value)))}


def _rest(element: etree._Element, path: str) -> Iterator[tuple[str, tuple[object, str]]]:
    """Yield every attribute and text of a host but its power management."""
    for name, value in sorted((str(name), str(value)) for name, value in element.attrib.items()):
        yield f"{path}/@{name}", (value, "***" if name in _SECRET else repr(value))
    text = "".join(part for part in (element.text, *(child.tail for child in element)) if part).strip()
    children = list(element.iterchildren("*"))
    if text or not children:
        tag = str(element.tag)
        yield path or "/", (text, "***" if tag in _SECRET else repr(text))
    seen: dict[str, int] = {}
    for child in children:
        name = str(child.tag)
        seen[name] = seen.get(name, 0) + 1
        if name != "power_management" or path:
            place = f"[{seen[name]}]" if seen[name] > 1 else ""
            yield from _rest(child, f"{path}/{name}{place}")
