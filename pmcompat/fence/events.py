"""What the executor tells while it works: one stream of frozen values for table, log, metrics and journal.

What lives here: the request that was accepted and the events of its life. Values only, made of the words of the model;
nothing that listens. No event carries a secret: an agent's password is a ``Secret`` and its options have a ``repr`` without
values, and a listener that writes an agent down writes :func:`agent_name` of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from pmcompat.fence.commands import Answer, Remark
from pmcompat.model import Action, Agent, Host, Mode, Operation, Outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Who asks, and from where: what another operator reads when the host is locked, and what the journal keeps."""

    #: login name of the person, or the name of the service
    user: str
    #: name of the machine the executor runs on
    machine: str
    pid: int
    #: False for a run that no person asked for: such runs know no quiet time (field failure B-20)
    by_person: bool = True

    def __str__(self) -> str:
        return f"{self.user} on {self.machine} (process {self.pid})"


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One operation asked of one host."""

    #: new for every operation; in the journal, in ``--json`` and in the lock's name for its holder
    operation_id: UUID
    operation: Operation
    host: Host
    origin: Origin
    #: the operation that this one completes (``host resume``)
    resumes: UUID | None = None

    @property
    def mode(self) -> Mode:
        """How the host's agents stand to each other."""
        return self.host.power_management.mode

    @property
    def agents(self) -> tuple[Agent, ...]:
        """Every agent that may be asked, level by level."""
        return tuple(agent for level in self.host.power_management.levels for agent in level)


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Something that happened to one request."""

    request: Request
    #: seconds since the request was accepted
    at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Began(Event):
    """Accepted: policy agreed, the host is locked, the journal says "started". Nothing was sent yet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent(Event):
    """A command is about to leave for an agent."""

    agent: Agent
    action: Action


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered(Event):
    """An agent answered, or its driver gave up on it (an ``AgentFault`` is an answer)."""

    agent: Agent
    action: Action
    answer: Answer
    #: seconds between ``Sent`` and this
    took: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Noticed(Event):
    """The flow drew a conclusion: a level confirmed or failed, a later level used, an ``on`` sent again."""

    remark: Remark


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending(Event):
    """A deadline or a signal ended the waiting; ``duty`` tells whether an ``on`` is still owed (law F8)."""

    reason: str
    duty: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished(Event):
    """The operation ended; the last event of its request."""

    outcome: Outcome


def agent_name(agent: Agent) -> str:
    """Return an agent's name for people: ``primary ipmilan at bmc7.lab``. Never a secret."""
    rank = {1: "primary", 2: "secondary"}.get(agent.order, f"agent {agent.order}")
    where = agent.address or "-"
    if agent.ip_port is not None:
        where = f"[{where}]:{agent.ip_port}" if ":" in where else f"{where}:{agent.ip_port}"
    return f"{rank} {agent.type or '-'} at {where}"
