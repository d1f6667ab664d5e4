"""How long a flow waits, and for what: patience as data, and the rhythm of one confirmation.

What lives here: frozen settings, and ``Watch``, which answers "when is the next poll, and is it worth one?" from the times
it is told. No clock: nothing here knows what time it is. DESIGN §3 "Waiting" is the source; ``fixed_polls`` is oVirt's own
timetable (fencing facts §2.4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pmcompat.fence.commands import Answer
from pmcompat.model import Agent, AgentFault, FaultKind, Level, Operation, PowerStatus, Stage, require

#: the first pause between two polls; each further one is twice as long, up to the delay
FIRST_PAUSE = 0.03
#: after an unclear answer (``unknown`` or a fault) the next poll waits at least this, growing likewise
UNCLEAR_PAUSE = 1.0
#: unclear answers that one confirmation bears; the next one fails the level (field failures B-45, B-10)
TOLERATED = 3
#: a level is not given up for unclear answers sooner than this after the first of them (or three delays, if that is less)
HOLD = 5.0
#: seconds after an off in which it may still take effect, where nobody waited for it: devices take up to 8 (field reports)
LATE_OFF = 30.0
#: how far an operation got of which an off may still take effect: one that was confirmed off has none under way
OFF_OPEN = frozenset({Stage.NOT_TOUCHED, Stage.GOING_OFF})
#: second reads of a level that may disagree with the first before the level fails: a plug that flaps is not off (B-46)
SECOND_READS = 4
#: a remainder of a budget below this holds no poll any more
SPENT = 0.001


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """How often and how long one kind of action is confirmed; seconds. The defaults are those of oVirt 3.3."""

    delay: float = 10.0
    #: polls at the delay: retries - 1 delays pass between the first and the last
    retries: int = 18
    #: nobody is polled sooner than this after an action
    first_wait: float = 0.0

    def __post_init__(self) -> None:
        require(self.retries >= 1, "retries must be 1 or more", name="retries")
        require(0 <= self.delay <= 86_400, "the delay must be between 0 and 86400 seconds", name="delay")
        require(0 <= self.first_wait <= 86_400, "the first wait must be between 0 and 86400 seconds", name="first_wait")

    @property
    def budget(self) -> float:
        """Seconds that one confirmation may take."""
        return self.first_wait + (self.retries - 1) * self.delay

    @property
    def hold(self) -> float:
        """Seconds that unclear answers are borne at least."""
        return min(3 * self.delay, HOLD)


def _none(_agent: Agent) -> float:
    return 0.0


def _command(_agent: Agent) -> float:
    return 10.0


def _look(_agent: Agent) -> float:
    return 1.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """Everything a flow knows about waiting. What depends on an agent is asked of a pure function of it."""

    start: Timing = field(default_factory=Timing)
    stop: Timing = field(default_factory=Timing)
    #: oVirt's own timetable: as many queries as retries, the delay between them
    fixed_polls: bool = False
    #: try the levels in their order even where the first does not answer and a later one does
    keep_order: bool = False
    #: seconds that must pass between an action and the first poll of this agent (``options.minimum_wait``)
    minimum: Callable[[Agent], float] = _none
    #: seconds one command to this agent may take
    command: Callable[[Agent], float] = _command
    #: seconds the first status read of this agent may take before it counts as not answering
    look: Callable[[Agent], float] = _look


def unclear(answer: Answer) -> bool:
    """Tell whether an answer says nothing about the power: ``unknown`` or a fault (law F2)."""
    return answer is PowerStatus.UNKNOWN or isinstance(answer, AgentFault)


def final(answer: Answer | None) -> bool:
    """Tell whether an answer is a fault that asking again does not mend."""
    return isinstance(answer, AgentFault) and answer.kind in {FaultKind.REFUSED, FaultKind.UNSUPPORTED}


@dataclass(slots=True, kw_only=True)
class Watch:
    """The polls of one agent after one action: how many, how long, how unclear. Belongs to one flow."""

    timing: Timing
    #: seconds before the first poll that the agent itself demands
    minimum: float
    fixed: bool
    #: seconds since the flow began when the action was answered
    began: float
    #: the action's own answer was unclear: the first poll waits for that too
    doubtful: bool = False
    #: a smaller budget than the timing's
    limit: float | None = None
    polls: int = 0
    unclear: int = 0
    _waited: float = 0.0
    _now: float = 0.0
    _first_unclear: float = 0.0

    @property
    def budget(self) -> float:
        """Seconds this confirmation may take."""
        return self.timing.budget if self.limit is None else min(self.limit, self.timing.budget)

    @property
    def elapsed(self) -> float:
        """Seconds since the action was answered: what the clock of the flow's driver says, or the waiting asked for."""
        return max(self._now - self.began, self._waited)

    def pause(self) -> float | None:
        """Return the seconds before the next poll, or None: the budget is spent."""
        if self.polls == 0:
            return max(self.timing.first_wait, self.minimum, min(UNCLEAR_PAUSE, self.timing.delay) if self.doubtful else 0.0)
        if self.fixed:
            return self.timing.delay if self.polls < self.timing.retries else None
        left = self.budget - self.elapsed
        wanted = min(FIRST_PAUSE * 2 ** min(self.polls - 1, 32), self.timing.delay)
        if self.doubtful:
            least = min(UNCLEAR_PAUSE * 2 ** min(self.unclear - 1, 32) if self.unclear else UNCLEAR_PAUSE, self.timing.delay)
            wanted = max(wanted, least)
            if left < min(UNCLEAR_PAUSE, self.timing.delay):
                return None
        return None if left < SPENT else min(wanted, left)

    def heard(self, answer: Answer, *, pause: float, at: float) -> None:
        """Count one poll: the pause before it, its answer, and when that came."""
        self.polls += 1
        self._waited += pause
        self._now = max(self._now, at)
        self.doubt(answer)

    def doubt(self, answer: Answer) -> None:
        """Count an answer that came outside the polls (a second read) towards the unclear ones."""
        self.doubtful = unclear(answer)
        if self.doubtful:
            self.unclear += 1
            if self.unclear == 1:
                self._first_unclear = self.elapsed

    @property
    def hopeless(self) -> bool:
        """Tell whether the agent has been unclear too often for too long."""
        return self.doubtful and self.unclear > TOLERATED and self.elapsed - self._first_unclear >= self.timing.hold - SPENT


def polls_within(timing: Timing, *, minimum: float = 0.0, fixed: bool = False) -> int:
    """Return how many polls of instant, clear answers fit one confirmation: the bound of property P5."""
    watch = Watch(timing=timing, minimum=minimum, fixed=fixed, began=0.0)
    while (pause := watch.pause()) is not None:
        watch.heard(PowerStatus.ON, pause=pause, at=0.0)
    return watch.polls


def longest(operation: Operation, levels: Sequence[Level], patience: Patience) -> float:
    """Return the sum of an operation's budgets in seconds: its deadline unless another is given (law F8).

    Every level fails in turn, every command takes all it may, and every confirmation is used to its end.
    """
    agents = [agent for level in levels for agent in level]
    if not agents:
        return 0.0
    if operation is Operation.STATUS:
        return max(map(patience.command, agents)) + UNCLEAR_PAUSE
    looks = max(min(patience.look(agent), patience.command(agent)) for agent in agents)
    down = sum(_level(level, patience, patience.stop, tries=1, reads=SECOND_READS) for level in levels)
    up = sum(_level(level, patience, patience.start, tries=2, reads=1) for level in levels)
    return looks + {Operation.STOP: down, Operation.START: up, Operation.RESTART: down + up}[operation]


def _level(level: Level, patience: Patience, timing: Timing, *, tries: int, reads: int) -> float:
    command = max(map(patience.command, level))
    polls = (timing.retries if patience.fixed_polls else 1) * command
    confirmation = max([timing.budget, *map(patience.minimum, level)]) + polls
    return UNCLEAR_PAUSE + command + tries * (UNCLEAR_PAUSE + command + confirmation) + reads * command
