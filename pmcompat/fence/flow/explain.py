"""The timetable of an operation, printed without touching anything.

What lives here: one more driver of flows, which answers every command itself. The answers are a guess about devices: all
of them obey at once, or none ever does. What really happens lies between the two.
"""

from __future__ import annotations

import enum
import heapq
from dataclasses import dataclass

from pmcompat.fence.commands import ACCEPTED, Answer, Command, Reply
from pmcompat.fence.flow import operations
from pmcompat.fence.flow.notebook import Notebook
from pmcompat.fence.flow.timing import Patience
from pmcompat.model import Action, Agent, Operation, Outcome, PowerManagement, PowerStatus


class Devices(enum.StrEnum):
    """What the timetable supposes of every device. They answer instantly."""

    #: does what it is told at once
    OBEY = "obey"
    #: takes every command and does nothing
    IGNORE = "ignore"


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of a timetable."""

    #: seconds after the beginning at which the command leaves
    at: float
    agent: Agent
    action: Action


def explain(
    operation: Operation,
    settings: PowerManagement,
    patience: Patience,
    *,
    devices: Devices = Devices.OBEY,
    power: PowerStatus | None = None,
    resuming: bool = False,
) -> tuple[list[Row], Outcome]:
    """Return what would be asked of whom and when, and how it would end.

    :param power: what every agent reads at first; None: off for a start, on for everything else.
    :param resuming: explain ``host resume`` instead of *operation*.
    """
    book = Notebook.of(operation, settings)
    flow = (operations.resume if resuming else operations.run)(book, patience)
    first = power or (PowerStatus.OFF if operation is Operation.START or resuming else PowerStatus.ON)
    state = {id(agent): first for level in settings.levels for agent in level}
    waiting: list[tuple[float, int, Command]] = []
    rows: list[Row] = []
    now, count = 0.0, 0
    try:
        commands = next(flow)
        while True:
            for command in commands:
                count += 1
                heapq.heappush(waiting, (now + command.after, count, command))
            now, _, command = heapq.heappop(waiting)
            rows.append(Row(at=round(now, 3), agent=command.agent, action=command.action))
            commands = flow.send(Reply(command, _answer(command, state, devices), now))
    except StopIteration as end:
        outcome: Outcome = end.value
        return rows, outcome


def _answer(command: Command, state: dict[int, PowerStatus], devices: Devices) -> Answer:
    if command.action is Action.STATUS:
        return state[id(command.agent)]
    if devices is Devices.OBEY:
        state[id(command.agent)] = PowerStatus(command.action.value)
    return ACCEPTED
