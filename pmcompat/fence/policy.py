"""What is allowed: pure decisions taken before anything is sent, each a ``Refused`` that says why and until when.

What lives here: the settings, the rules in the order of fencing facts §2.2, law F9, the storm brake. No I/O and no clock:
what the rules need to know about the past is handed to them (:class:`pmcompat.fence.protocols.Past`). No rule probes an agent:
a dead first agent must never veto the second (field failure B-07). User and password are not asked for here: some devices
have none, and the driver that needs them says so.

Quiet time (facts §2.2), by host id, for people only (B-20), never between the halves of a restart (B-21): ``start`` looks at
the last stop; ``stop`` and ``restart`` at the last start, and a restart ends with one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from pmcompat.errors import ModelError, Refused
from pmcompat.fence.events import Request, agent_name
from pmcompat.fence.flow import Patience
from pmcompat.fence.protocols import Past
from pmcompat.model import Agent, Host, HostStatus, Operation, PowerManagement

#: operation → those whose success begins its quiet time
LOOKS_BACK: Mapping[Operation, tuple[Operation, ...]] = {
    Operation.START: (Operation.STOP,),
    Operation.STOP: (Operation.START, Operation.RESTART),
    Operation.RESTART: (Operation.START, Operation.RESTART),
    Operation.STATUS: (),
}
#: operation → what the database must say of the host, unless forced (law F9)
FITTING: Mapping[Operation, frozenset[HostStatus]] = {
    Operation.STOP: frozenset({HostStatus.MAINTENANCE, HostStatus.DOWN}),
    Operation.START: frozenset({HostStatus.DOWN, HostStatus.NON_RESPONSIVE, HostStatus.REBOOT, HostStatus.MAINTENANCE}),
}
#: operations that take power away
DARKENING = frozenset({Operation.STOP, Operation.RESTART})

NOTHING_SENT = "nothing was sent to any agent"


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """What a site allows. Everything but law F9 is off unless configured."""

    #: seconds that must pass between two operations that people ask for on one host; the engine's own default is 180
    quiet_time: float = 0.0
    #: hosts worked on at once; the others wait for their turn
    hosts_at_once: int = 256
    #: commands at once to one device (address and network port): a PDU that many hosts share; None: no limit
    per_device: int | None = None
    #: refuse to take power from more than this share of a cluster's hosts in one go; None: no brake
    storm_percent: float | None = None
    #: the operator knows better than status, quiet time and brake
    force: bool = False

    def __post_init__(self) -> None:
        for name in ("quiet_time", "hosts_at_once", "per_device", "storm_percent"):
            value = getattr(self, name)
            if value is not None and (value < 0 or (value < 1 and name in {"hosts_at_once", "per_device"})):
                raise ModelError(f"{name} must be positive", field=name)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """What the decisions stand on, besides the request."""

    policy: Policy = field(default_factory=Policy)
    patience: Patience = field(default_factory=Patience)
    #: two agents with the same value are one device and one plug
    identity: Callable[[Agent], Hashable]


def plain_identity(agent: Agent) -> Hashable:
    """Return what tells two plugs apart where nothing is known of types: address, network port, options without order."""
    options = (agent.options.text if agent.options else "").replace("\n", ",").split(",")
    return (agent.address or "").casefold(), agent.ip_port, frozenset(option.strip() for option in options if option.strip())


def refusal(request: Request, rules: Rules, *, deadline: float | None = None, force: bool = False) -> Refused | None:
    """Return why the request is refused whatever its host's past is, or None."""
    host, settings = request.host, request.host.power_management
    return (
        _disabled(host)
        or _without_agents(host)
        or _twice_in_a_level(host, settings, rules.identity)
        or (None if force or rules.policy.force else _unfit(request))
        or _too_short(request, rules.patience, deadline)
    )


def refusal_by_past(request: Request, rules: Rules, past: Past, *, force: bool = False) -> Refused | None:
    """Return why the host's past forbids the request, or None."""
    if force or rules.policy.force or not request.origin.by_person or request.resumes:
        return None
    ages = [(past.since[kind], kind) for kind in LOOKS_BACK[request.operation] if kind in past.since]
    if not ages:
        return None
    age, kind = min(ages)
    left = rules.policy.quiet_time - age
    if left <= 0:
        return None
    return Refused(
        f"{request.operation} of host {request.host.name} comes too soon",
        why=f"a {kind} was done {age:.0f} s ago and the quiet time is {rules.policy.quiet_time:g} s",
        state=NOTHING_SENT,
        fix=f"wait {left:.0f} s, or use --quiet-time or --force",
        seconds_left=round(left, 1),
    )


def storm(operation: Operation, hosts: Iterable[Host], sizes: Mapping[UUID, int], rules: Rules) -> Mapping[UUID, Refused]:
    """Return the clusters that would lose too many hosts at once, with the refusal.

    :param sizes: cluster → number of its hosts; a cluster that is not named is taken to have only the hosts given.
    """
    limit = rules.policy.storm_percent
    if limit is None or rules.policy.force or operation not in DARKENING:
        return {}
    hosts = list(hosts)
    counts = Counter(host.cluster_id for host in hosts)
    names = {host.cluster_id: host.cluster_name for host in hosts}
    refused = {}
    for cluster, count in counts.items():
        size = max(sizes.get(cluster, count), count)
        if count > 1 and count * 100 > limit * size:
            refused[cluster] = Refused(
                f"{operation} of {count} of the {size} hosts of cluster {names[cluster] or cluster} is too much at once",
                why=f"the storm brake allows {limit:g} %",
                state=NOTHING_SENT,
                fix="name fewer hosts, raise --storm-percent, or use --force",
            )
    return refused


def _disabled(host: Host) -> Refused | None:
    if host.power_management.enabled:
        return None
    return Refused(
        f"power management of host {host.name} is disabled",
        why="the host's settings say so",
        state=NOTHING_SENT,
        fix="enable power management for the host",
    )


def _without_agents(host: Host) -> Refused | None:
    usable = [agent for level in host.power_management.levels for agent in level]
    if not usable:
        return Refused(
            f"host {host.name} has no power management agent",
            why="power management is enabled, but no agent is configured",
            state=NOTHING_SENT,
            fix="give the host an agent, or disable its power management",
        )
    without_type = [agent for agent in usable if not agent.type]
    homeless = [agent for agent in usable if not agent.address and not agent.options]
    # a level that cannot be asked is a level that failed (law F5): another one may do
    asked = [level for level in host.power_management.levels if not any(agent in homeless for agent in level)]
    for name, agents in (("type", without_type), ("address", [] if asked else homeless)):
        if agents:
            return Refused(
                f"the {agent_name(agents[0]).split()[0]} agent of host {host.name} has no {name}",
                why=f"an agent without {name} cannot be asked",
                state=NOTHING_SENT,
                fix=f"set the agent's {name}",
            )
    return None


def _twice_in_a_level(host: Host, settings: PowerManagement, identity: Callable[[Agent], Hashable]) -> Refused | None:
    for level in settings.levels:
        seen: dict[Hashable, Agent] = {}
        for agent in level:
            other = seen.setdefault(identity(agent), agent)
            if other is not agent:
                return Refused(
                    f"host {host.name} has one device twice on one level",
                    why=f"{agent_name(other)} and {agent_name(agent)} are the same plug: two supplies would be counted as one",
                    state=NOTHING_SENT,
                    fix="correct address, port or plug of one of them, or remove it",
                )
    return None


def _unfit(request: Request) -> Refused | None:
    fitting, status = FITTING.get(request.operation), request.host.status
    if fitting is None or status in fitting:
        return None
    says = "nothing" if status is None else HostStatus(status).name if status in set(HostStatus) else str(status)
    wanted = " or ".join(sorted(status.name for status in fitting))
    risk = "guests may still run on it" if request.operation is Operation.STOP else "it may be running"
    connecting = request.operation is Operation.START and status == HostStatus.CONNECTING
    return Refused(
        f"{request.operation} of host {request.host.name} is refused: the database says {says}",
        why=f"{risk}; {request.operation} needs {wanted}",
        state=NOTHING_SENT,
        fix="try again shortly" if connecting else "put the host into maintenance first, or use --force",
        status=says,
    )


def _too_short(request: Request, patience: Patience, deadline: float | None) -> Refused | None:
    if deadline is None or request.operation not in DARKENING or request.resumes is not None:
        return None
    stop, wait = patience.stop, max((patience.minimum(agent) for agent in request.agents), default=0.0)
    least = max(stop.budget, wait)
    if deadline >= least:
        return None
    if wait > stop.budget:
        why = f"an agent is not asked before {wait:g} s have passed since its off (power_wait, or its type's own wait)"
        fix = "set the agent's option power_wait"
    else:
        polls = f"then {stop.retries} polls {stop.delay:g} s apart"
        why = f"an off is waited for {least:g} s: first wait {stop.first_wait:g} s, {polls}"
        fix = "lower --retries or --delay"
    return Refused(
        f"a deadline of {deadline:g} s is shorter than one confirmation of off",
        why=why,
        state=NOTHING_SENT,
        fix=f"allow {least:g} s or more, or {fix}",
        least=least,
    )
