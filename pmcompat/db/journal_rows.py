"""Operations, events and outcomes as rows of the journal, and back. Pure; nothing in a row is a secret."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import singledispatch
from typing import Any

from pmcompat.fence.commands import Accepted, Conclusion
from pmcompat.fence.events import Answered, Began, Ending, Event, Finished, Noticed, Origin, Request, Sent, agent_name
from pmcompat.fence.protocols import Entry, Unfinished
from pmcompat.model import AgentFault, Operation, Outcome, PowerStatus, Stage

#: operation id, at, kind, agent, action, what; a row is a JSON list on its way
EventRow = tuple[str, float, str, str, str, str]
End = tuple[Request, Outcome, float]
AgentRow = tuple[int, str, str | None, bool, str, str | None, bool]


def agent_names(request: Request) -> list[str]:
    """Return the agents of a request as they are written down: no secret."""
    return [agent_name(agent) for agent in request.agents]


def agent_results(request: Request, outcome: Outcome) -> list[AgentRow]:
    """Return one row per agent of the outcome, at the position "started" gave it; agents that it did not name come last."""
    places = {agent: position for position, agent in enumerate(request.agents, start=1)}
    rows = []
    for result in outcome.agents:
        position = places.setdefault(result.agent, len(places) + 1)
        rows.append(
            (
                position,
                agent_name(result.agent),
                result.asked.value if result.asked else None,
                result.reached,
                result.power.value,
                result.fault.message if result.fault else None,
                result.unsettled,
            )
        )
    return rows


def started_columns(requests: Sequence[Request]) -> dict[str, list[Any]]:
    """Return requests as columns: one place per request, and one per agent of any of them."""
    agents = [
        (request.operation_id, position, name) for request in requests for position, name in enumerate(agent_names(request), 1)
    ]
    return {
        "operation_id": [request.operation_id for request in requests],
        "host_id": [request.host.id for request in requests],
        "host_name": [request.host.name for request in requests],
        "operation": [request.operation.value for request in requests],
        "mode": [request.mode.value for request in requests],
        "user": [request.origin.user for request in requests],
        "machine": [request.origin.machine for request in requests],
        "pid": [request.origin.pid for request in requests],
        "by_person": [request.origin.by_person for request in requests],
        "resumes": [request.resumes for request in requests],
        **_columns(("agent_of", "position", "agent"), agents),
    }


def finished_columns(ends: Sequence[End]) -> dict[str, list[Any]]:
    """Return outcomes as columns: one place per request, and one per agent of any of them. Notes are a JSON list."""
    agents = [(request.operation_id, *row) for request, outcome, _ in ends for row in agent_results(request, outcome)]
    names = ("agent_of", "position", "agent", "asked", "reached", "read", "error", "unsettled")
    return {
        "operation_id": [request.operation_id for request, _, _ in ends],
        "outcome": [outcome.word for _, outcome, _ in ends],
        "power": [outcome.power.value for _, outcome, _ in ends],
        "degraded": [outcome.degraded for _, outcome, _ in ends],
        "stage": [outcome.stage.value for _, outcome, _ in ends],
        "seconds": [seconds for _, _, seconds in ends],
        "ended_by": [outcome.ended_by for _, outcome, _ in ends],
        "notes": [json.dumps(outcome.notes) for _, outcome, _ in ends],
        "resumes": [request.resumes for request, _, _ in ends],
        **_columns(names, agents),
    }


def _columns(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, list[Any]]:
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


@singledispatch
def _said(_event: Event) -> tuple[str, str, str, str]:
    """Return (kind, agent, action, what) of an event."""
    return "event", "", "", ""


@_said.register
def _(_event: Began) -> tuple[str, str, str, str]:
    return "began", "", "", ""


@_said.register
def _(event: Sent) -> tuple[str, str, str, str]:
    return "sent", agent_name(event.agent), event.action.value, ""


@_said.register
def _(event: Answered) -> tuple[str, str, str, str]:
    return "answered", agent_name(event.agent), event.action.value, answer_text(event)


@_said.register
def _(event: Noticed) -> tuple[str, str, str, str]:
    remark = event.remark
    names = ", ".join(agent_name(agent) for agent in remark.agents)
    return "noticed", names, remark.power.value, f"{remark.conclusion.value}: {remark.text}".rstrip(": ")


@_said.register
def _(event: Ending) -> tuple[str, str, str, str]:
    return "ending", "", "", f"{event.reason}{', an on is owed' if event.duty else ''}"


@_said.register
def _(event: Finished) -> tuple[str, str, str, str]:
    return "finished", "", "", event.outcome.word


def answer_text(event: Answered) -> str:
    """Return an answer in words."""
    match event.answer:
        case PowerStatus() as power:
            return f"power {power.value}"
        case Accepted():
            return "accepted"
        case AgentFault(kind=kind, message=message):
            return f"{kind.value}: {message}"


def event_rows(events: Sequence[Event]) -> list[EventRow]:
    """Return a row per event, in order."""
    return [(str(event.request.operation_id), event.at, *_said(event)) for event in events]


def unfinished_of(row: Sequence[Any], events: Sequence[Sequence[str]]) -> Unfinished:
    """Return the value of a row of ``operations`` with its age, and of its events (kind, action, what)."""
    operation_id, operation, user, machine, pid, by_person, stage, age = row
    return Unfinished(
        operation_id=operation_id,
        operation=Operation(operation),
        origin=Origin(user=user, machine=machine, pid=pid, by_person=by_person),
        age=age,
        stage=max(Stage(stage), reached(events), key=list(Stage).index),
    )


def reached(events: Sequence[Sequence[str]]) -> Stage:
    """Return how far an operation certainly got by its events: a lower bound, the last ones may be missing."""
    stage = Stage.NOT_TOUCHED
    for kind, action, what in events:
        match kind, action:
            case "sent", "off":
                stage = max(stage, Stage.GOING_OFF, key=list(Stage).index)
            case "noticed", "off" if what.startswith(Conclusion.CONFIRMED.value):
                stage = Stage.OFF
            case "sent", "on":
                stage = Stage.GOING_ON
    return stage


def entry_of(row: Sequence[Any]) -> Entry:
    """Return a line of the history: an operation, or an agent of one."""
    (operation_id, operation, at, user, machine, agent, outcome, power, degraded, stage, ended_by, notes, confirmed_by,
     taken_over_by, asked, reached_it, error, seconds, _position) = row  # fmt: skip
    if agent:
        what = _agent_text(asked, reached_it, power, error)
        succeeded = reached_it
    else:
        what = _operation_text(operation, outcome, power, stage, degraded=degraded)
        extra = [
            f"ended by {ended_by}" if ended_by else "",
            f"confirmed by {confirmed_by}" if confirmed_by else "",
            f"taken over by {taken_over_by}" if taken_over_by else "",
            *(notes or ()),
        ]
        what = "; ".join([what, *filter(None, extra)])
        succeeded = None if outcome in {None, "died", "confirmed", "uncertain"} else outcome == "succeeded"
    return Entry(
        operation_id=operation_id,
        operation=operation,
        at=at,
        user=user,
        machine=machine,
        agent=agent,
        what=what,
        seconds=seconds,
        succeeded=succeeded,
    )


def _agent_text(asked: str | None, reached_it: bool | None, power: str | None, error: str | None) -> str:
    if reached_it is None:
        return "was to be asked"
    parts = [f"asked for {asked}" if asked else "not asked", f"power {power}"]
    return "; ".join(parts + ([error] if error else []))


def _operation_text(operation: str, outcome: str | None, power: str | None, stage: str, *, degraded: bool) -> str:
    match outcome:
        case None:
            return "running, or its process died: uncertain until a status is read"
        case "died":
            where = f", got as far as: {stage}" if operation == "restart" else ""
            return f"uncertain: its process died{where}"
        case "confirmed":
            return "a person says the host is off"
        case _:
            return f"{outcome}{' (degraded)' if degraded else ''}, power {power}"
