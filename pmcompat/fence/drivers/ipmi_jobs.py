"""What the pool keeps in mind: its settings, the devices it knows, the orders on their way.

What lives here: values and records, no decisions and no I/O.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

from pmcompat.fence.drivers.ipmi_door import Door
from pmcompat.fence.drivers.ipmi_wire import Report
from pmcompat.model import AgentFault


@dataclass(frozen=True, kw_only=True, slots=True)
class IpmiSettings:
    """How the driver spends processes, sessions and time. Seconds throughout."""

    #: workers that run at once while devices answer fast; None: four per processor
    min_workers: int | None = None
    #: workers altogether
    max_workers: int = 1000
    #: sessions one BMC is asked to hold for us
    sessions_per_bmc: int = 2
    #: a device that answers nothing for this long counts as silent; an agent's ``login_timeout`` goes before it
    connect_timeout: float = 1.0
    #: a name that is not resolved by then counts as unknown
    name_timeout: float = 3.0
    #: a session stays open this long for the next command of the same agent
    linger: float = 0.15
    #: first and longest pause before a BMC is entered again that had no free session or cost a worker its life
    first_back_off: float = 0.25
    longest_back_off: float = 5.0
    #: a device that answered within this time is not asked again whether it is there
    heard_within: float = 5.0
    #: a worker without work for this long ends, but for ``min_workers`` of them
    idle: float = 10.0


@dataclass(eq=False, slots=True)
class Bmc:
    """What is known of one device, by host and port as operators write them."""

    #: numeric address that answered last
    host: str = ""
    #: when it last answered anything
    heard: float = float("-inf")
    #: when a command of it was last ordered
    ordered: float = float("-inf")
    #: when its session that lingered made room for another device's
    evicted: float = float("-inf")
    #: seconds after which an unanswered packet is sent again
    patience: float = 0.5
    #: sessions open, being opened, or promised to a queued job
    sessions: int = 0
    #: back-off: entries in a row that found no session or cost a worker its life
    failures: int = 0
    not_before: float = 0.0
    #: jobs that wait for a session
    waiting: deque[Job] = field(default_factory=deque)


@dataclass(eq=False, kw_only=True, slots=True)
class Job:
    """One order on its way to an answer."""

    #: ``on``, ``off``, ``status`` or ``resolve``
    do: str
    door: Door
    bmc: Bmc
    #: seconds of ``time.monotonic()``
    deadline: float
    answer: asyncio.Future[Report | AgentFault]
    #: its agent was asked before, a moment ago: its operation has begun
    follow_up: bool = False
    #: the worker said that the next packet is the command itself
    sending: bool = False
    #: it waits for a worker
    queued: bool = False
    #: it holds one of the BMC's sessions while it is queued
    promised: bool = False
    #: workers that died under it
    deaths: int = 0
    #: the device had no free session for it
    crowded: bool = False
    #: its deadline has passed; its worker is being killed
    expired: bool = False
    timers: list[asyncio.TimerHandle] = field(default_factory=list)

    @property
    def enters(self) -> bool:
        """Whether it needs a session."""
        return self.do != "resolve"
