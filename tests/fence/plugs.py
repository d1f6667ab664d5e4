"""A world of simulated plugs in virtual time, and the properties of fencing facts §3 and DESIGN §4 checked against it.

What lives here: the ground truth (when each plug really had power), a driver of flows that knows no real time, and one
function per property. The tests and the mutants share them.
"""

from __future__ import annotations

import enum
import heapq
import importlib.util
import itertools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pmcompat.fence.flow
from pmcompat.fence.commands import ACCEPTED, Command, Remark, Reply
from pmcompat.model import (
    Action,
    Agent,
    AgentFault,
    FaultKind,
    Operation,
    Outcome,
    PowerManagement,
    PowerStatus,
)

ON, OFF, UNKNOWN = PowerStatus.ON, PowerStatus.OFF, PowerStatus.UNKNOWN
ROOMS = ("timing", "notebook", "steps", "operations", "duty")


class Switching(enum.Enum):
    """What becomes of an ``on`` or ``off``."""

    OK = "executed, accepted"
    LOST = "not executed, no reply"
    LATE = "executed, no reply"
    VERY_LATE = "executed seconds after the command was given up"
    IGNORED = "accepted, nothing happens"
    UNREACHABLE = "never reached the device"
    REFUSED = "refused"
    FAILED = "an error was reported, nothing happened"
    FAILED_LATE = "an error was reported, and it happened all the same"


class Reading(enum.Enum):
    """What becomes of a status read."""

    TRUE = "the truth"
    UNKNOWN = "unknown"
    SILENT = "no reply"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"


#: answer, and seconds until it takes effect (None: never)
SWITCHED: dict[Switching, tuple[Any, float | None]] = {
    Switching.OK: (ACCEPTED, 0.0),
    Switching.LOST: (AgentFault(kind=FaultKind.TIMEOUT, message="no reply", sent=True), None),
    Switching.LATE: (AgentFault(kind=FaultKind.TIMEOUT, message="no reply", sent=True), 0.0),
    Switching.VERY_LATE: (AgentFault(kind=FaultKind.TIMEOUT, message="no reply", sent=True), 2.5),
    Switching.IGNORED: (ACCEPTED, None),
    Switching.UNREACHABLE: (AgentFault(kind=FaultKind.UNREACHABLE, message="no route"), None),
    Switching.REFUSED: (AgentFault(kind=FaultKind.REFUSED, message="wrong password", sent=True), None),
    Switching.FAILED: (AgentFault(kind=FaultKind.FAILED, message="busy", sent=True), None),
    Switching.FAILED_LATE: (AgentFault(kind=FaultKind.FAILED, message="busy", sent=True), 0.0),
}
READ_FAULTS = {
    Reading.SILENT: AgentFault(kind=FaultKind.TIMEOUT, message="no reply", sent=True),
    Reading.UNREACHABLE: AgentFault(kind=FaultKind.UNREACHABLE, message="no route"),
    Reading.REFUSED: AgentFault(kind=FaultKind.REFUSED, message="wrong password"),
}


@dataclass
class Plug:
    """One supply and its device. The fates are used up in order; then *ever after* holds."""

    lit: bool = True
    switching: list[Switching] = field(default_factory=list)
    reading: list[Reading] = field(default_factory=list)
    #: seconds an answer takes, cycling
    latency: tuple[float, ...] = (0.0,)
    #: seconds between an executed command and its effect
    settle: float = 0.0
    switching_ever_after: Switching = Switching.OK
    reading_ever_after: Reading = Reading.TRUE
    #: at these times the plug changes by itself
    flaps: tuple[float, ...] = ()

    def describe(self) -> str:
        return (
            f"lit={self.lit} switching={[s.name for s in self.switching]}→{self.switching_ever_after.name} "
            f"reading={[r.name for r in self.reading]}→{self.reading_ever_after.name} latency={self.latency} "
            f"settle={self.settle} flaps={self.flaps}"
        )


@dataclass(frozen=True)
class Line:
    """One line of the log: a command that left, and what came back. Ticks order what happens at the same time."""

    sent: int
    heard: int
    command: Command
    answer: Any


@dataclass
class Record:
    """Everything that happened."""

    levels: tuple[tuple[Agent, ...], ...]
    log: list[Line]
    #: (tick, agent, lit) of every change, in order; the state at tick 0 first
    history: list[tuple[int, Agent, bool]]
    remarks: list[Remark]
    outcome: Outcome
    end: float
    last_tick: int
    outstanding: int
    spontaneous: bool
    patience: Any

    def lit_at_end(self, agent: Agent) -> bool:
        return next(lit for _, other, lit in reversed(self.history) if other is agent)


class World:
    """Plugs in virtual time; drives one flow at a time."""

    def __init__(self, plugs: Sequence[Plug], *, stamped: bool = True) -> None:
        self.plugs = list(plugs)
        self.stamped = stamped
        self.now = 0.0
        self.log: list[Line] = []
        self.history: list[tuple[int, Agent, bool]] = []
        self.tick = 0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._latency: dict[int, Any] = {}
        self._replies: list[Reply] = []
        self.outstanding: dict[Command, bool] = {}

    def connect(self, agents: Sequence[Agent]) -> None:
        """Put the plugs behind the agents, in order."""
        self._plug = {id(agent): plug for agent, plug in zip(agents, self.plugs, strict=True)}
        self._agent = {id(self._plug[id(agent)]): agent for agent in agents}
        for agent, plug in zip(agents, self.plugs, strict=True):
            self.history.append((0, agent, plug.lit))
            self._latency[id(plug)] = itertools.cycle(plug.latency)
            for time in plug.flaps:
                self._at(time, lambda plug=plug: self._set(plug, not plug.lit))

    def _at(self, time: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (time, next(self._count), happen))

    def _set(self, plug: Plug, lit: bool) -> None:
        plug.lit = lit
        self.history.append((self._next_tick(), self._agent[id(plug)], lit))

    def _next_tick(self) -> int:
        self.tick += 1
        return self.tick

    def _dispatch(self, command: Command) -> None:
        plug = self._plug[id(command.agent)]
        self.outstanding[command] = True
        sent, latency = self._next_tick(), next(self._latency[id(plug)])
        if command.action is Action.STATUS:
            fate = plug.reading.pop(0) if plug.reading else plug.reading_ever_after
            answer: Any = None
            if fate in READ_FAULTS:
                answer = READ_FAULTS[fate]
                latency = command.within or 2.0 if fate is Reading.SILENT else latency
            self._at(self.now + latency, lambda: self._answer(command, sent, self._read(plug, fate, answer)))
            return
        fate_ = plug.switching.pop(0) if plug.switching else plug.switching_ever_after
        answer, effect = SWITCHED[fate_]
        if effect is not None:
            self._at(self.now + latency / 2 + effect + plug.settle, lambda: self._set(plug, command.action is Action.ON))
        if isinstance(answer, AgentFault) and answer.kind is FaultKind.TIMEOUT:
            latency = command.within or 2.0
        self._at(self.now + latency, lambda: self._answer(command, sent, answer))

    def _read(self, plug: Plug, fate: Reading, answer: Any) -> Any:
        if answer is not None:
            return answer
        if fate is Reading.UNKNOWN:
            return UNKNOWN
        return ON if plug.lit else OFF

    def _answer(self, command: Command, sent: int, answer: Any) -> None:
        if self.outstanding.pop(command, None) is None:
            return  # given up meanwhile
        self.log.append(Line(sent, self._next_tick(), command, answer))
        self._replies.append(Reply(command, answer, self.now if self.stamped else 0.0))

    def step(self) -> None:
        """Let the next thing happen."""
        time, _, happen = heapq.heappop(self._queue)
        self.now = max(self.now, time)
        happen()

    def give(self, commands: Sequence[Command]) -> None:
        for command in commands:
            self.outstanding[command] = False
            self._at(self.now + command.after, lambda command=command: self._dispatch(command))

    def drive(self, flow: Any, *, until: float = float("inf")) -> Any:
        """Drive *flow* to its end and return what it returns, or None at the time *until*."""
        try:
            self.give(next(flow))
            while True:
                while not self._replies:
                    if self._queue[0][0] >= until:
                        self.now = until
                        return None
                    self.step()
                assert len(self.log) < 20_000, "the flow does not end"
                self.give(flow.send(self._replies.pop(0)))
        except StopIteration as end:
            return end.value

    def interrupt(self, book: Any) -> None:
        """Do what the executor does when a deadline ends a flow: nothing new leaves, what left is heard."""
        for command, sent in list(self.outstanding.items()):
            if not sent:
                book.never_sent(command)
                del self.outstanding[command]
        self._queue = [item for item in self._queue if not _is_dispatch(item[2])]
        heapq.heapify(self._queue)
        give_up = self.now + 5
        while self.outstanding and self._queue and self._queue[0][0] <= give_up:
            self.step()
        for reply in self._replies:
            book.hear(reply.command, reply.answer, at=self.now)
        for command in self.outstanding:
            book.hear(command, AgentFault(kind=FaultKind.TIMEOUT, message="given up", sent=True), at=self.now)
        self.outstanding.clear()
        self._replies.clear()


def _is_dispatch(happen: Callable[[], None]) -> bool:
    return "_dispatch" in happen.__code__.co_names


def agents_of(shape: Sequence[int]) -> PowerManagement:
    """A host with as many agents on each level as *shape* says."""
    agents = [
        Agent(type="ipmilan", address=f"bmc-{order}-{i}", username="u", order=order)
        for order, count in enumerate(shape, 1)
        for i in range(count)
    ]
    return PowerManagement(enabled=True, agents=tuple(agents))


def load(*changes: tuple[str, str, str]) -> SimpleNamespace:
    """Load the pure modules of the flow anew, with *changes* (module, old text, new text) made to their source."""
    home = Path(pmcompat.fence.flow.__file__).parent
    name = f"flow_under_test_{next(_loaded)}"
    rooms: dict[str, ModuleType] = {}
    try:
        for room in ROOMS:
            text = (home / f"{room}.py").read_text()
            for where, old, new in changes:
                if where == room:
                    assert text.count(old) == 1, f"{where}: {old!r} stands {text.count(old)} times"
                    text = text.replace(old, new)
            for other in ROOMS:
                text = text.replace(f"from pmcompat.fence.flow.{other} import", f"from {name}_{other} import")
            spec = importlib.util.spec_from_loader(f"{name}_{room}", loader=None)
            assert spec is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[f"{name}_{room}"] = module
            exec(compile(text, f"{room}.py (changed)", "exec"), module.__dict__)
            rooms[room] = module
    finally:
        for room in ROOMS:
            sys.modules.pop(f"{name}_{room}", None)
    return SimpleNamespace(**rooms)


_loaded = itertools.count()


def play(
    house: Any,
    operation: Operation,
    shape: Sequence[int],
    plugs: Sequence[Plug],
    patience: Any,
    *,
    stamped: bool = True,
    until: float = float("inf"),
    how: str = "run",
) -> Record:
    """Play one operation in a world of *plugs* and return its record."""
    settings = agents_of(shape)
    spontaneous = any(plug.flaps for plug in plugs)
    world = World(plugs, stamped=stamped)
    world.connect(settings.agents)
    remarks: list[Remark] = []
    book = house.notebook.Notebook.of(operation, settings, remarks.append)
    flow = getattr(house.operations, how)(book, patience)
    outcome = world.drive(flow, until=until)
    if outcome is None:
        flow.close()
        world.interrupt(book)
        outcome = world.drive(house.duty.finish(book, ended_by="deadline"))
    return Record(
        levels=settings.levels,
        log=world.log,
        history=world.history,
        remarks=remarks,
        outcome=outcome,
        end=world.now,
        last_tick=world.tick,
        outstanding=len(world.outstanding) + len(book.pending),
        spontaneous=spontaneous,
        patience=patience,
    )


def draw_case(choose: Callable[[Sequence[Any]], Any], house: Any) -> dict[str, Any]:
    """Draw one case: *choose* picks from a sequence (Hypothesis or a seeded generator)."""
    shape = choose([(1,), (2,), (1, 1), (1, 2), (2, 1), (3,), (2, 2), (1, 1, 1), (1, 2, 1), (4,)])
    health = choose(["mixed", "mixed", "good", "bad"])
    plugs = [_draw_plug(choose, health) for _ in range(sum(shape))]
    delay, retries = choose([(1.0, 4), (1.0, 4), (0.2, 3), (10.0, 3), (2.0, 1), (3.0, 6)])
    timing = house.timing.Timing(delay=delay, retries=retries, first_wait=choose([0.0, 0.0, 0.5]))
    minimum = choose([0.0, 0.0, 1.5])
    patience = house.timing.Patience(
        start=timing,
        stop=timing,
        fixed_polls=choose([False, False, True]),
        keep_order=choose([False, False, True]),
        minimum=lambda _agent: minimum,
    )
    return {
        "operation": choose([Operation.RESTART, Operation.RESTART, Operation.STOP, Operation.START]),
        "shape": shape,
        "plugs": plugs,
        "patience": patience,
        "stamped": choose([True, True, False]),
    }


def _draw_plug(choose: Callable[[Sequence[Any]], Any], health: str) -> Plug:
    plug = Plug(lit=choose([True, True, True, False]))
    plug.latency = choose([(0.0,), (0.01,), (0.3, 0.0), (0.0, 0.02, 0.7)])
    if health == "good":
        return plug
    plug.settle = choose([0.0, 0.0, 0.5, 2.0])
    switchings = [Switching.OK, *Switching]
    plug.switching = [choose(switchings) for _ in range(choose([0, 1, 2, 3]))]
    plug.reading = [choose([Reading.TRUE, *Reading]) for _ in range(choose([0, 0, 1, 2, 4, 7]))]
    if health == "bad":
        plug.switching_ever_after = choose(switchings)
        plug.reading_ever_after = choose([Reading.TRUE, Reading.TRUE, *Reading])
        plug.flaps = choose([(), (), (0.4,), (0.02, 0.05), (1.0, 1.1, 1.2, 1.4, 2.0)])
    return plug
