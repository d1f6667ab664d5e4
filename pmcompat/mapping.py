"""Host documents ⇄ hosts: the design page's HostMapper. Pure.

What lives here: what a document says, laid over what is stored, and a stored host in the words of a document. No I/O.

**Laying over** (law X9): what is not mentioned stays, what is mentioned empty is emptied. Agents win over flat fields, field by
field, options as a whole (law X5). An agents block that is empty removes every agent, if power management is off; an agent 2
whose address is emptied, and for which nothing else is said, is removed with all of its seven columns.

**Secrets never leave** (law X9): passwords are not written, and of an options text neither are the values that are secrets
(``snmp_priv_passwd``). So an options block that does not mention such an option keeps it; one that mentions it empty empties
it, and an empty block empties all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final, NamedTuple
from uuid import UUID

from pmcompat import options as option_texts
from pmcompat.documents.meaning import Role, concurrent_pair, is_resource, oddities, roles
from pmcompat.documents.values import AgentElement, HostElement, OptionElements, PowerManagementElement
from pmcompat.errors import ConfigurationError, ModelError
from pmcompat.model import PRIMARY, SECONDARY, Agent, Host, HostStatus, Options, PowerManagement, Secret

SEMANTICS: Final = ("keep", "profile")
#: profiles whose release cleared what a document did not mention (api facts §5)
CLEARING: Final = frozenset({"3.5", "3.6"})

_RANKS: Final = {PRIMARY: "primary", SECONDARY: "secondary"}
#: what a document says of a host itself
_OWN: Final = ("name", "address", "port", "spm_priority")
_NOTHING: Final = PowerManagement()
_NOBODY: Final = {order: Agent(order=order) for order in _RANKS}
_NOT_STORED: Final = ("automatic_pm_enabled", "kdump_detection")


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One field that a document changes; both values are for eyes: secrets are ``***``."""

    field: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.field}: {self.before} -> {self.after}"


class Laid(NamedTuple):
    """What a document makes of a host."""

    host: Host
    #: what the document says and what became of it, where that is not what its writer may have meant
    notes: tuple[str, ...] = ()
    #: fields that were set and are removed
    cleared: tuple[str, ...] = ()


# ---------------------------------------------------------------------- document over host


def lay(
    element: HostElement, stored: Host | None, *, profile: str, cluster_id: UUID, new_id: UUID, semantics: str = "keep"
) -> Laid:
    """Return the host that *element* makes of *stored*, or of nothing.

    :param cluster_id: where a new host goes; it begins in Maintenance.
    :param new_id: the id of a new host.
    :param semantics: ``keep``: what is not mentioned stays; ``profile``: 3.5 and 3.6 clear what their release cleared.
    :raises ModelError: what the columns cannot hold, or what engines would read in several ways; the field is named.
    :raises ConfigurationError: there is no such semantics.
    """
    if semantics not in SEMANTICS:
        raise ConfigurationError(f"there is no semantics {semantics!r}", fix=f"one of {', '.join(SEMANTICS)}")
    before = _NOTHING if stored is None else stored.power_management
    pm, notes = before, list[str]()
    if element.power_management is not None:
        pm = _lay_power_management(element.power_management, before, profile, semantics, notes)
    said: dict[str, Any] = {name: value for name in _OWN if (value := getattr(element, name)) is not None}
    if stored is not None:
        host = replace(stored, power_management=pm, **said)
    else:
        for field in ("name", "address"):
            if not said.get(field):
                raise ModelError(f"a new host needs a {field}", field=field, why="no stored host has this id or name")
        host = Host(id=new_id, cluster_id=cluster_id, power_management=pm, status=HostStatus.MAINTENANCE, **said)
    cleared = tuple(_RANKS[agent.order] for agent in before.agents if pm.of_order(agent.order) is None)
    return Laid(host=host, notes=tuple(notes), cleared=cleared)


def _lay_power_management(
    said: PowerManagementElement, stored: PowerManagement, profile: str, semantics: str, notes: list[str]
) -> PowerManagement:
    notes += [
        f"{name} is not stored: the database has no column for it" for name in _NOT_STORED if getattr(said, name) is not None
    ]
    enabled = stored.enabled if said.enabled is None else said.enabled
    before_one, before_two = stored.primary, stored.secondary
    proxies = stored.proxy_preferences
    if said.pm_proxies is not None and said.pm_proxies != _proxies(stored):
        proxies = ",".join(said.pm_proxies)
    one, two, together = _said_agents(said, profile, notes)
    # of agents that are resources a lone one of order 2 is the second of a host that has agents: what is not mentioned stays
    second = one is not None and two is None and one.order == SECONDARY and semantics == "keep" and bool(stored.agents)
    if one is not None and said.agents is not None:
        notes += _ignored(said.flat, one, before_two if second else before_one)
        one = one.over(said.flat)
        if second:
            one, two = None, one
    elif said.flat.describes_device() or (said.flat.type is not None and (said.agents is None or before_one)):
        one = said.flat
    primary = before_one if one is None else _merged(before_one, one, PRIMARY, notes)
    secondary = before_two if two is None else _merged(before_two, two, SECONDARY, notes)
    if two is not None and _empties(two) and secondary != before_two:
        secondary = None
    if said.agents == () and not said.flat.describes_device():
        primary = secondary = None
        if enabled:
            raise ModelError(
                "the document removes every agent of a host whose power management is enabled",
                field="power_management.agents",
                why="<agents> is empty",
                fix="leave <agents> out to keep the agents, or disable power management",
            )
    elif semantics == "profile" and profile in CLEARING:
        primary, secondary = _as_released(said, primary, secondary, profile)
    removed = before_two is not None and secondary is None
    return PowerManagement(
        enabled=enabled,
        agents=tuple(agent for agent in (primary, secondary) if agent is not None),
        concurrent=not removed and (stored.concurrent if together is None else together),
        proxy_preferences=proxies,
    )


def _proxies(pm: PowerManagement) -> tuple[str, ...]:
    return tuple(item for item in (pm.proxy_preferences or "").split(",") if item)


def _as_released(
    said: PowerManagementElement, primary: Agent | None, secondary: Agent | None, profile: str
) -> tuple[Agent | None, Agent | None]:
    """Return what 3.5 and 3.6 left of the agents (api facts §5)."""
    addresses = [said.flat.address, *(agent.address for agent in said.agents or ())]
    if profile == "3.5":
        if not said.flat.address and not said.agents:
            return None, None
        if said.agents and len(said.agents) == 1 and roles([said.agents[0].order], profile) == [Role.PRIMARY]:
            return primary, None
    elif not any(addresses):
        return None, None
    return primary, secondary


def _said_agents(
    said: PowerManagementElement, profile: str, notes: list[str]
) -> tuple[AgentElement | None, AgentElement | None, bool | None]:
    """Return what is said of the primary, of the secondary, and of their acting together (None: nothing)."""
    agents = said.agents or ()
    orders = tuple(agent.order for agent in agents)
    if len(agents) > 2:
        raise ModelError(
            f"a host has {len(agents)} agents, and the database can hold two",
            field="power_management.agents",
            why="the columns of vds_static have room for a primary and a secondary agent",
        )
    found, odd = _reading(orders, profile)
    by_role = dict(zip(found, agents, strict=True))
    if odd and (Role.UNREAD in by_role or len(by_role) < len(agents)):
        raise ModelError(odd[0], field="power_management.agents.order", fix="give the agents the orders 1 and 2")
    notes += odd
    notes += ["encrypt_options is not stored: the database has no column for it" for agent in agents if agent.encrypt_options]
    one, two = by_role.get(Role.PRIMARY), by_role.get(Role.SECONDARY)
    together: bool | None = None
    if two is not None:
        if is_resource(profile):
            together = concurrent_pair(orders, [agent.concurrent for agent in agents], profile) if one else None
        else:
            together = two.concurrent
    if one is not None and one.concurrent is not None and one.concurrent != (together or False) and not is_resource(profile):
        notes.append("concurrent of the primary agent is not read: the secondary agent's counts")
    return one, two, together


@lru_cache(maxsize=256)
def _reading(orders: tuple[int | None, ...], profile: str) -> tuple[tuple[Role, ...], tuple[str, ...]]:
    """Return the roles that these orders mean, and what is odd about them; thousands of hosts have the same two."""
    return tuple(roles(orders, profile)), tuple(oddities(orders, profile))


def _empties(said: AgentElement) -> bool:
    """Tell whether the address is emptied and nothing else is set: the agent is to go."""
    return said.address == "" and not (said.username or said.password or said.options or said.port)


def _ignored(flat: AgentElement, agent: AgentElement, stored: Agent | None) -> Iterator[str]:
    """Yield the flat fields that differ from agent and store: somebody changed them and the agents win (B-90)."""
    if flat.type in {None, agent.type} and not flat.describes_device():
        return
    kept = None if stored is None or stored.options is None else option_texts.parse(stored.options.text)
    known = {
        "type": stored and stored.type,
        "address": stored and stored.address,
        "username": stored and stored.username,
        "password": stored and stored.password,
        "options": None if kept is None else _public(kept),
    }
    for field, value in known.items():
        given, winner = getattr(flat, field), getattr(agent, field)
        if given is not None and winner is not None and given not in {winner, value}:
            yield f"the flat {field} differs from what is stored and is ignored: the agents block wins"


def _merged(stored: Agent | None, said: AgentElement, order: int, notes: list[str]) -> Agent:
    """Return *stored* with what is said of it; a password that is the stored one stays the stored text."""
    old = stored or _NOBODY[order]
    password: Secret | None = old.password
    if said.password is not None and not (password is not None and password == said.password):
        password = said.password
    return Agent(
        type=old.type if said.type is None else said.type,
        address=old.address if said.address is None else said.address,
        username=old.username if said.username is None else said.username,
        password=password,
        ip_port=old.ip_port if said.port is None else said.port,
        options=old.options if said.options is None else _stored_options(said.options, old.options, _RANKS[order], notes),
        order=order,
    )


def _stored_options(said: OptionElements, stored: Options | None, rank: str, notes: list[str]) -> Options:
    """Return the options text for a block; secret options that it does not mention stay (module docstring)."""
    pairs = tuple((name, value) for name, value in said if name is not None)
    if len(pairs) < len(said):
        notes.append(f"an option of the {rank} agent has no name and is skipped")
    if stored and pairs:
        old = option_texts.parse(stored.text)
        if pairs in {old, _public(old)}:
            return stored
        mentioned = {option_texts.canonical(name) for name, _ in pairs}
        secrets = [pair for pair in old if option_texts.is_secret_option(pair[0])]
        pairs += tuple(pair for pair in secrets if option_texts.canonical(pair[0]) not in mentioned)
    return option_texts.join(pairs)


# ---------------------------------------------------------------------- what differs


def changes(before: Host | None, after: Host) -> tuple[Change, ...]:
    """Return the fields in which two hosts differ, for eyes: passwords and secret options masked."""
    old = {} if before is None else dict(_fields(before))
    found = []
    for field, value in _fields(after):
        was = old.pop(field, None)
        if was == value or (before is None and not value):
            continue
        found.append(Change(field=field, before=_shown(was), after=_shown(value)))
    found += [Change(field=field, before=_shown(was), after="-") for field, was in old.items() if was is not None]
    return tuple(found)


def _fields(host: Host) -> Iterator[tuple[str, object]]:
    yield from (("name", host.name), ("address", host.address), ("port", host.port), ("spm_priority", host.spm_priority))
    pm = host.power_management
    yield from (
        ("power_management.enabled", pm.enabled),
        ("power_management.proxy_preferences", pm.proxy_preferences),
        ("power_management.concurrent", pm.concurrent),
    )
    for agent in pm.agents:
        rank = _RANKS.get(agent.order, f"agent {agent.order}")
        yield from (
            (f"{rank}.type", agent.type),
            (f"{rank}.address", agent.address),
            (f"{rank}.username", agent.username),
            (f"{rank}.password", agent.password),
            (f"{rank}.ip_port", agent.ip_port),
            (f"{rank}.options", agent.options),
        )


def _shown(value: object) -> str:
    match value:
        case None:
            return "-"
        case Secret():
            return "***" if value else "''"
        case Options():
            return f"'{option_texts.masked(value)}'"
        case bool():
            return str(value).lower()
        case str():
            return value or "''"
        case _:
            return str(value)


# ---------------------------------------------------------------------- host as document


def to_element(host: Host, *, profile: str) -> HostElement:
    """Return *host* in the words of a document: no password, no secret option."""
    pm = host.power_management
    agents = tuple(_agent_element(agent, pm, profile) for agent in pm.agents)
    proxies = _proxies(pm)
    primary = pm.primary
    return HostElement(
        id=str(host.id),
        name=host.name,
        address=host.address,
        port=host.port,
        cluster_id=str(host.cluster_id),
        spm_priority=host.spm_priority,
        power_management=PowerManagementElement(
            enabled=pm.enabled,
            flat=AgentElement(type=primary.type if primary else None),
            agents=agents or None,
            pm_proxies=proxies if proxies and profile != "3.1" else None,
        ),
    )


def _agent_element(agent: Agent, pm: PowerManagement, profile: str) -> AgentElement:
    return AgentElement(
        type=agent.type,
        address=agent.address,
        username=agent.username,
        options=_public_options(agent.options),
        concurrent=pm.concurrent if agent.order == SECONDARY else None,
        order=agent.order,
        port=agent.ip_port if is_resource(profile) else None,
    )


def _public_options(options: Options | None) -> OptionElements | None:
    """Return the options that may be seen; None, not an empty block, where all of them are secrets: empty means clear."""
    if options is None:
        return None
    pairs = option_texts.parse(options.text)
    public = _public(pairs)
    return public if public or not pairs else None


def _public(pairs: Sequence[tuple[str, str | None]]) -> tuple[tuple[str, str | None], ...]:
    return tuple(pair for pair in pairs if not option_texts.is_secret_option(pair[0]))


def unsaid(host: Host, *, profile: str) -> tuple[str, ...]:
    """Return what of a host a document of *profile* does not say, beside passwords; importing it back keeps all of this."""
    pm = host.power_management
    found = []
    if profile == "3.1" and pm.proxy_preferences:
        found.append("proxy preferences (since profile 3.2)")
    for agent in pm.agents:
        rank = _RANKS.get(agent.order, f"agent {agent.order}")
        if agent.ip_port is not None and not is_resource(profile):
            found.append(f"{rank}.ip_port {agent.ip_port} (since profile 3.6)")
        pairs = option_texts.parse(agent.options.text) if agent.options else ()
        found += [f"{rank} option {name} (a secret)" for name, _ in pairs if option_texts.is_secret_option(name)]
    return tuple(found)
