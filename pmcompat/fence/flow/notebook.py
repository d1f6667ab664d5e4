"""What a flow knows of its agents while it runs, and the outcome that follows from it at any moment.

What lives here: one ``Track`` per agent, the ``Notebook`` of an operation, and the pure joins over them. The flow alone
writes them; whoever drives the flow may read the outcome when a deadline or a signal ends it early (law F8).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from pmcompat.fence.commands import Accepted, Answer, Command, Conclusion, Remark, Tell
from pmcompat.fence.flow.timing import Watch
from pmcompat.model import (
    Action,
    Agent,
    AgentFault,
    AgentResult,
    FaultKind,
    Mode,
    Operation,
    Outcome,
    PowerManagement,
    PowerStatus,
    Stage,
)


def join(answers: Iterable[PowerStatus]) -> PowerStatus:
    """Join the power of several agents (facts §2.7): any on = on; all off = off; anything else is unknown (law F2)."""
    seen = set(answers)
    if PowerStatus.ON in seen:
        return PowerStatus.ON
    return PowerStatus.OFF if seen == {PowerStatus.OFF} else PowerStatus.UNKNOWN


@dataclass(slots=True, eq=False)
class Track:
    """One agent in one operation. Compared by identity."""

    agent: Agent
    #: last action other than status it was asked
    asked: Action | None = None
    #: at least one status read was asked of it
    looked: bool = False
    #: last answer of any kind
    answer: Answer | None = None
    #: last power status read
    power: PowerStatus = PowerStatus.UNKNOWN
    fault: AgentFault | None = None
    #: a command was sent whose effect no definite status read has shown yet
    unsettled: bool = False
    #: the power that the last on or off was to bring has been read since
    shown: bool = False
    #: an on or off was taken by the device, or may have reached it
    sent: bool = False
    #: the device took the last on or off
    accepted: bool = False
    #: an off was asked of it in this operation
    darkened: bool = False
    #: it was read off after a level was confirmed dark, before it was asked on again
    was_dark: bool = False
    #: when its last on or off was asked, seconds since the flow began
    switched_at: float = 0.0
    watch: Watch | None = None

    @property
    def readable(self) -> bool:
        """Tell whether the last answer was a power status."""
        return isinstance(self.answer, PowerStatus)

    @property
    def clear(self) -> bool:
        """Tell whether the last answer was on or off."""
        return self.answer in {PowerStatus.ON, PowerStatus.OFF}

    def reads(self, power: PowerStatus) -> bool:
        """Tell whether the last answer was this power status."""
        return self.answer is power

    def ask(self, action: Action, *, at: float) -> None:
        """Note that the agent is about to be asked."""
        if action is Action.STATUS:
            self.looked = True
            return
        self.asked, self.unsettled, self.sent, self.accepted, self.shown = action, True, True, False, False
        self.switched_at = at
        self.darkened = self.darkened or action is Action.OFF

    def hear(self, action: Action, answer: Answer, *, before: Track) -> None:
        """Note its answer; *before* is the track as it was when the agent was asked."""
        self.answer = answer
        match answer:
            case PowerStatus():
                self.power = answer
                self.shown = self.shown or (self.asked is not None and answer.value == self.asked.value)
                self.doubt()
                if answer is not PowerStatus.UNKNOWN:
                    self.unsettled = False
            case Accepted():
                self.accepted = True
            case AgentFault():
                # a refused login is the cause worth telling, whatever else went wrong after it
                if self.fault is None or self.fault.kind is not FaultKind.REFUSED:
                    self.fault = answer
                if action is not Action.STATUS and not answer.sent:
                    self.unsettled, self.sent, self.shown = before.unsettled, before.sent, before.shown
                if action is Action.STATUS:
                    self.doubt()

    def doubt(self) -> None:
        """Note that nobody can see any more whether the last on or off works: a read from before says nothing about now."""
        self.unsettled = self.unsettled or (self.sent and not self.shown)

    def result(self, goal: PowerStatus | None) -> AgentResult:
        """Return what became of the agent; *goal* is None for a status operation."""
        if self.asked is Action.OFF:  # also in a restart: one that never came to its on had to go off
            goal = PowerStatus.OFF
        reached = self.clear if goal is None else self.reads(goal)
        asked = self.asked or (Action.STATUS if self.looked else None)
        fault = None if reached else self.fault
        if fault is None and not reached and goal is not None and self.asked is not None:
            fault = AgentFault(kind=FaultKind.FAILED, message=f"not confirmed {goal}: it reads {self.power}", sent=True)
        if fault is None and not reached and goal is None and self.looked and self.answer is not None:
            fault = AgentFault(kind=FaultKind.FAILED, message="it reads unknown")
        return AgentResult(
            agent=self.agent,
            asked=asked,
            reached=reached,
            power=self.power,
            fault=fault,
            unsettled=self.unsettled,
            sent=self.sent,
        )


#: the tracks of one level's agents
Tracks = tuple[Track, ...]


def _silent(_remark: Remark) -> None:
    pass


@dataclass(slots=True, eq=False)
class Notebook:
    """One operation on one host: its tracks, how far it got, and what is worth telling."""

    operation: Operation
    #: in the configured order
    levels: tuple[Tracks, ...]
    mode: Mode
    tell: Tell = _silent
    stage: Stage = Stage.NOT_TOUCHED
    #: the level that is being worked on
    working: Tracks = ()
    #: the level that was confirmed off
    dark: Tracks = ()
    succeeded: bool = False
    degraded: bool = False
    #: seconds from now on in which an off of an operation that died may still take effect: a plug that reads on may go dark
    late_off: float = 0.0
    notes: list[str] = field(default_factory=list)
    #: the largest ``Reply.at`` so far
    now: float = 0.0
    #: what was asked and not answered: the track, and a copy of it from before it was asked
    pending: dict[Command, tuple[Track, Track]] = field(default_factory=dict)

    @classmethod
    def of(cls, operation: Operation, settings: PowerManagement, tell: Tell = _silent) -> Notebook:
        """Open a notebook for a host's power management."""
        levels = tuple(tuple(Track(agent) for agent in level) for level in settings.levels)
        return cls(operation=operation, levels=levels, mode=settings.mode, tell=tell)

    @property
    def tracks(self) -> Tracks:
        """Every agent's track, level by level."""
        return tuple(track for level in self.levels for track in level)

    @property
    def goal(self) -> PowerStatus | None:
        """The power status the operation wants in the end."""
        return {
            Operation.START: PowerStatus.ON,
            Operation.RESTART: PowerStatus.ON,
            Operation.STOP: PowerStatus.OFF,
            Operation.STATUS: None,
        }[self.operation]

    @property
    def off_was_asked(self) -> bool:
        """Tell whether an off was asked of any agent: the point of no return of a restart (law F8)."""
        return any(track.darkened for track in self.tracks)

    def ask(self, track: Track, command: Command) -> None:
        """Note that *command* is about to be given."""
        self.pending[command] = (track, replace(track))
        track.ask(command.action, at=self.now)

    def hear(self, command: Command, answer: Answer, *, at: float) -> None:
        """Note the answer to *command*, *at* seconds after the flow began."""
        track, before = self.pending.pop(command)
        self.now = max(self.now, at)
        track.hear(command.action, answer, before=before)

    def never_sent(self, command: Command) -> None:
        """Forget *command*: it was given up before it left."""
        track, before = self.pending.pop(command)
        track.asked, track.looked = before.asked, before.looked
        track.unsettled, track.sent, track.shown = before.unsettled, before.sent, before.shown
        track.accepted, track.darkened, track.switched_at = before.accepted, before.darkened, before.switched_at

    def remark(self, conclusion: Conclusion, level: Sequence[Track], power: PowerStatus, text: str = "") -> None:
        """Tell one conclusion."""
        self.tell(Remark(conclusion=conclusion, agents=tuple(track.agent for track in level), power=power, text=text))

    def note(self, text: str) -> None:
        """Keep a sentence for the outcome; the same one only once."""
        if text not in self.notes:
            self.notes.append(text)

    def power(self) -> PowerStatus:
        """Return the host's power as far as it is known."""
        if self.succeeded and self.goal is not None:
            return self.goal
        if any(track.unsettled for track in self.tracks):
            return PowerStatus.UNKNOWN
        asked = [track for track in self.tracks if track.looked or track.asked]
        # an agent that did not answer last is unknown, whatever it said before
        return join(track.power if track.clear else PowerStatus.UNKNOWN for track in asked)

    def outcome(self, *, ended_by: str | None = None) -> Outcome:
        """Return the outcome as things stand."""
        return Outcome(
            operation=self.operation,
            succeeded=self.succeeded,
            power=self.power(),
            mode=self.mode,
            agents=tuple(track.result(self.goal) for track in self.tracks),
            degraded=self.degraded,
            stage=self.stage,
            ended_by=ended_by,
            notes=tuple(self.notes),
        )
