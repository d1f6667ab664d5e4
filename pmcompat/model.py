"""The words of the house as values: hosts, their power management, agents, outcomes.

What lives here: frozen values and the enums they speak (DESIGN §2). No parsing, no XML, no SQL, no clock, no I/O; the
standard library only. Values are shared freely between threads: nothing here can change after it was made.
"""

from __future__ import annotations

import enum
import hmac
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NoReturn
from uuid import UUID

from pmcompat.errors import ModelError


class Secret:
    """A value nobody may see: a password or a passphrase.

    ``repr``, ``str``, ``format``, JSON and pickle never show it; ``reveal()`` is called in the one adapter that sends it.
    """

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        self.__value = value

    def reveal(self) -> str:
        """Return the secret itself. Only the adapter that sends it calls this.

        :raises CredentialError: a stored password (``pmcompat.db.cipher.StoredSecret``) that cannot be decrypted: its agent
            fails, nothing is sent to the device.
        """
        return self.__value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __bool__(self) -> bool:
        return bool(self.__value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.__value.encode(errors="surrogatepass"), other.__value.encode(errors="surrogatepass"))

    def __hash__(self) -> int:
        # says nothing of the value, and costs a stored password no decryption
        return hash(Secret)

    def __reduce__(self) -> NoReturn:
        msg = "a Secret is never pickled"
        raise TypeError(msg)


class PowerStatus(enum.StrEnum):
    """What a power status read says (oVirt ``PowerStatus``; fence-agents ``status``)."""

    ON = "on"
    OFF = "off"
    #: neither could be read, or the device is between the two; never counts as off (law F2)
    UNKNOWN = "unknown"


class Action(enum.StrEnum):
    """What one agent can be asked (FenceAgentAPI). ``reboot`` and ``cycle`` are never sent: they report unproven success."""

    ON = "on"
    OFF = "off"
    STATUS = "status"


class Operation(enum.StrEnum):
    """What a host can be asked (oVirt ``fence_type``)."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"
    STATUS = "status"


class Mode(enum.StrEnum):
    """How a host's agents stand to each other."""

    SINGLE = "single"
    SEQUENTIAL = "sequential"
    CONCURRENT = "concurrent"
    #: anything beyond two agents that is neither purely sequential nor purely concurrent
    LEVELS = "levels"


class ProxyKind(enum.StrEnum):
    """Where oVirt runs an agent from (``pm_proxies``). pmcompat keeps and writes the preference."""

    CLUSTER = "cluster"
    DC = "dc"
    OTHER_DC = "other_dc"


class HostStatus(enum.IntEnum):
    """``vds_dynamic.status`` as the engine writes it; pmcompat reads it and never writes it (law F9)."""

    UNASSIGNED = 0
    DOWN = 1
    MAINTENANCE = 2
    UP = 3
    NON_RESPONSIVE = 4
    ERROR = 5
    INSTALLING = 6
    INSTALL_FAILED = 7
    REBOOT = 8
    PREPARING_FOR_MAINTENANCE = 9
    NON_OPERATIONAL = 10
    PENDING_APPROVAL = 11
    INITIALIZING = 12
    CONNECTING = 13


@dataclass(frozen=True, slots=True)
class Options:
    """An agent's option string as it is stored, e.g. ``slot=7,lanplus,power_wait=4``.

    The text is the one representation; everything else is derived from it (field failure B-08). Parsing and writing live
    in :mod:`pmcompat.options`. Options can hold secrets (``snmp_priv_passwd``), so ``repr`` shows no value.
    """

    text: str = ""

    def __repr__(self) -> str:
        return f"Options({len(self.text)} characters)" if self.text else "Options()"

    def __bool__(self) -> bool:
        return bool(self.text)


#: orders of the two agents that the columns of ``vds_static`` can hold
PRIMARY, SECONDARY = 1, 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Agent:
    """One configured fence-device account.

    ``None`` and the empty string are told apart because the database and the documents do; both mean "not set" to a
    device.
    """

    #: what speaks to it, as shown to the operator: ``ipmilan``, ``apc_snmp`` …
    type: str | None = None
    #: name or IP of the device
    address: str | None = None
    username: str | None = None
    password: Secret | None = None
    #: network port of the device (``pm_port``); never an outlet
    ip_port: int | None = None
    options: Options | None = None
    #: agents of equal order act together; smaller orders are tried first
    order: int = PRIMARY

    def __repr__(self) -> str:
        return f"Agent({self.order}: {self.type or '-'} at {self.address or '-'})"

    @property
    def is_blank(self) -> bool:
        """Tell whether nothing that a device needs is set: no address, user or password."""
        return not (self.address or self.username or self.password)


#: agents of equal order, in the order they were given; never empty
Level = tuple[Agent, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class PowerManagement:
    """A host's power management settings.

    ``agents`` keeps every configured agent, also while ``enabled`` is false (field failure B-114). ``concurrent`` is the
    flag of the pair as the 3.2 columns and documents have it: both agents act together although their orders are 1 and 2.
    """

    enabled: bool = False
    agents: tuple[Agent, ...] = ()
    concurrent: bool = False
    #: ``pm_proxy_preferences`` as stored; None and '' read as the engine's default ``cluster,dc``
    proxy_preferences: str | None = None

    def of_order(self, order: int) -> Agent | None:
        """Return the first agent of this order, or None."""
        return next((agent for agent in self.agents if agent.order == order), None)

    @property
    def primary(self) -> Agent | None:
        """The agent of order 1."""
        return self.of_order(PRIMARY)

    @property
    def secondary(self) -> Agent | None:
        """The agent of order 2."""
        return self.of_order(SECONDARY)

    @property
    def levels(self) -> tuple[Level, ...]:
        """Agents that can be asked, grouped by order, ascending; blank ones are left out.

        ``concurrent`` puts exactly two agents on one level whatever their orders (api facts §6: 3.2 → 3.6).
        """
        usable = sorted((agent for agent in self.agents if not agent.is_blank), key=lambda agent: agent.order)
        if self.concurrent and len(usable) == 2:
            return (tuple(usable),)
        return tuple(tuple(level) for _, level in groupby(usable, key=lambda agent: agent.order))

    @property
    def mode(self) -> Mode:
        """How the agents stand to each other."""
        levels = self.levels
        match len(levels), sum(map(len, levels)):
            case _, 0 | 1:
                return Mode.SINGLE
            case 1, _:
                return Mode.CONCURRENT
            case count, total if count == total == 2:
                return Mode.SEQUENTIAL
            case _:
                return Mode.LEVELS


@dataclass(frozen=True, kw_only=True, slots=True)
class Host:
    """A machine whose power is managed: one row of ``vds_static`` and, where it was read through ``vds``, its status."""

    id: UUID
    name: str
    #: ``host_name``: name or address of the host itself, not of a fence device
    address: str
    cluster_id: UUID
    power_management: PowerManagement = field(default_factory=PowerManagement)
    unique_id: str | None = None
    #: network port of the host's daemon
    port: int = 54321
    ssl_enabled: bool | None = True
    type: int = 0
    strength: int = 100
    otp_validity: int | None = None
    spm_priority: int | None = 5
    recoverable: bool = True
    #: absent from the 3.1.0 shape
    ssh_key_fingerprint: str | None = None
    #: from ``vds_dynamic``; None where the host has no such row or was read from ``vds_static`` alone
    status: HostStatus | int | None = None
    cluster_name: str | None = None


class FaultKind(enum.StrEnum):
    """Why an agent could not answer (fencing facts §8.3, §9.2): the one place every driver maps its errors to."""

    #: no answer from the network: closed or silent port, unknown name
    UNREACHABLE = "unreachable"
    #: user, password, key or privilege refused
    REFUSED = "refused"
    #: the time allowed for this one command ran out
    TIMEOUT = "timeout"
    #: it waited for its turn behind other commands of ours and was never asked: says nothing of the device
    BUSY = "busy"
    #: the device or program cannot do this: missing program, unknown option or action, no cipher suite in common
    UNSUPPORTED = "unsupported"
    #: anything else the device reported
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentFault:
    """An agent that failed has answered: a value, not an exception."""

    kind: FaultKind
    #: one line, no secret; never empty
    message: str
    #: whether the command may have reached the device: if so its effect is not known until a status is read
    sent: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentResult:
    """What became of one agent in an operation."""

    agent: Agent
    #: last action other than status that was sent to it; STATUS where only its status was asked; None if never asked
    asked: Action | None
    #: the power status the operation wanted was read back from it
    reached: bool
    #: last power status read from it
    power: PowerStatus
    fault: AgentFault | None = None
    #: True where a sent command's effect was not settled by any later status read
    unsettled: bool = False
    #: an ``on`` or ``off`` was taken by the device, or may have reached it
    sent: bool = False

    def as_json(self) -> dict[str, object]:
        """Return plain values in the shape DESIGN §5 gives."""
        return {
            "order": self.agent.order,
            "type": self.agent.type,
            "address": self.agent.address,
            "asked": self.asked.value if self.asked else None,
            "reached": self.reached,
            "power": self.power.value,
            "error": self.fault.message if self.fault else None,
        }


class Stage(enum.StrEnum):
    """How far a restart got (fencing facts §2.8)."""

    NOT_TOUCHED = "not touched"
    #: at least one off was sent, no whole level was confirmed off
    GOING_OFF = "going off"
    #: a whole level was confirmed off and no on was sent
    OFF = "off"
    GOING_ON = "going on"
    DONE = "done"


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """Result of an operation on a host, with one result for every agent that was asked."""

    operation: Operation
    succeeded: bool
    power: PowerStatus
    mode: Mode
    agents: tuple[AgentResult, ...]
    #: started, but these agents' supplies were not confirmed on (law F4)
    degraded: bool = False
    stage: Stage = Stage.NOT_TOUCHED
    #: a deadline or a signal ended it
    ended_by: str | None = None
    #: human-readable remarks: skipped because already off, secondary used, which supplies are off …
    notes: tuple[str, ...] = ()

    @property
    def uncertain(self) -> bool:
        """Tell whether a command was sent whose effect no later status read settled."""
        return any(result.unsettled for result in self.agents)

    @property
    def word(self) -> str:
        """Return ``succeeded`` (a degraded start too), ``uncertain`` or ``failed``: what records and metrics call it."""
        if self.succeeded:
            return "succeeded"
        return "uncertain" if self.uncertain else "failed"


def require(condition: object, what: str, *, name: str, **answers: Any) -> None:
    """Raise ModelError about field *name* unless *condition* holds."""
    if not condition:
        raise ModelError(what, field=name, **answers)
