"""What the power verbs print: a live table on a terminal, a line per event in a pipe, the result of each host.

What lives here: text. Data goes to stdout, everything else to stderr.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from uuid import UUID

from pmcompat.cli.output import err, out, print_json, say, silence_stdout
from pmcompat.fence.events import Answered, Began, Ending, Event, Finished, Noticed, Sent, agent_name
from pmcompat.fence.executor import Report
from pmcompat.fence.flow.explain import Row
from pmcompat.fence.scribe import Listener
from pmcompat.model import Agent, AgentFault, Host, Outcome

#: agents beyond which the live table shows counts instead of a row each
MOST_ROWS = 40


def answer_text(answer: object) -> str:
    """Return an answer for people."""
    return answer.message if isinstance(answer, AgentFault) else str(getattr(answer, "value", "accepted"))


def event_text(event: Event) -> str:
    """Return one event as one line."""
    return f"{event.at:8.3f} s  {event.request.host.name}: {_said(event)}"


def _said(event: Event) -> str:
    text = type(event).__name__
    match event:
        case Began(request=request):
            text = f"{request.operation} begins ({request.mode}, {request.operation_id})"
        case Sent(agent=agent, action=action):
            text = f"{agent_name(agent)}: {action} sent"
        case Answered(agent=agent, action=action, answer=answer, took=took):
            text = f"{agent_name(agent)}: {action}: {answer_text(answer)} ({took:.3f} s)"
        case Noticed(remark=remark):
            text = f"{remark.conclusion} ({remark.power}): {', '.join(map(agent_name, remark.agents))}"
        case Ending(reason=reason, duty=duty):
            text = f"ended by {reason}" + (": doing what is owed first" if duty else "")
        case Finished(outcome=outcome):
            text = f"{'done' if outcome.succeeded else 'failed'}, power {outcome.power}"
    return text


class Lines:
    """One line per event on stderr."""

    def __call__(self, event: Event) -> None:
        """Print the event."""
        say(event_text(event))

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, *_: object) -> None:
        """Nothing to restore."""


class LiveTable:
    """A row per agent on the terminal, or counts where there are too many."""

    def __init__(self, hosts: Iterable[Host]) -> None:
        from rich.live import Live

        self._agents: dict[tuple[UUID, int], tuple[Host, Agent]] = {
            (host.id, id(agent)): (host, agent) for host in hosts for level in host.power_management.levels for agent in level
        }
        self._state: dict[tuple[UUID, int], tuple[str, float]] = {}
        self._hosts = {host.id for host, _ in self._agents.values()}
        self._began: set[UUID] = set()
        self._ended: dict[UUID, bool] = {}
        self._live = Live(console=err(), get_renderable=self._render, refresh_per_second=10, transient=True)

    def __enter__(self) -> None:
        """Begin to draw."""
        self._live.start()

    def __exit__(self, *_: object) -> None:
        """Take the table away."""
        self._live.stop()

    def __call__(self, event: Event) -> None:
        """Note the event; it is drawn with the next frame."""
        host = event.request.host.id
        match event:
            case Began():
                self._began.add(host)
            case Sent(agent=agent, action=action):
                self._state[host, id(agent)] = (f"{action} …", event.at)
            case Answered(agent=agent, action=action, answer=answer):
                self._state[host, id(agent)] = (f"{action}: {answer_text(answer)}", event.at)
            case Finished(outcome=outcome):
                self._ended[host] = outcome.succeeded

    def _render(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        if len(self._agents) > MOST_ROWS:
            done, failed = sum(self._ended.values()), sum(not ok for ok in self._ended.values())
            waiting = len(self._hosts - self._began)
            running = len(self._began) - len(self._ended)
            return Text(f"{len(self._hosts)} hosts: {done} done, {failed} failed, {running} running, {waiting} waiting")
        table = Table(box=None, pad_edge=False)
        for heading in ("host", "agent", "", "s"):
            table.add_column(heading)
        for key, (host, agent) in self._agents.items():
            state, at = self._state.get(key, ("waiting", 0.0))
            table.add_row(Text(host.name), Text(agent_name(agent)), Text(state), f"{at:.2f}")
        return table


def listener(hosts: list[Host], *, json: bool, verbose: bool) -> tuple[Listener | None, AbstractContextManager[None], bool]:
    """Return who hears the events, what to enter while they come, and whether that draws on the terminal."""
    if verbose:
        lines = Lines()
        return lines, lines, False
    if not json and err().is_terminal and hosts:
        table = LiveTable(hosts)
        return table, table, True
    return None, nullcontext(), False


def show_report(report: Report, *, json: bool) -> None:
    """Print what became of one host; an error goes to stderr, as JSON also to stdout."""
    if json:
        print_json(report.as_json())
    if report.error is not None:
        say("\n".join(report.error.lines()))
    elif report.outcome is not None and not json:
        _show_outcome(report, report.outcome)


class Reports:
    """Prints what became of each host. A stdout that fails changes nothing but the exit code: others are still under way."""

    def __init__(self, *, json: bool) -> None:
        self._json = json
        #: stdout failed, and not because its reader had enough
        self.lost = False

    def show(self, report: Report) -> None:
        """Print one report. Never raises for what is wrong with stdout."""
        try:
            show_report(report, json=self._json)
        except OSError as error:
            silence_stdout()
            if not isinstance(error, BrokenPipeError):
                self.lost = True
                say(f"what became of host {report.host.name} and others cannot be written: {error.strerror}")


def _show_outcome(report: Report, outcome: Outcome) -> None:
    from rich.text import Text

    console = out()
    word = "done" if outcome.succeeded else "UNCERTAIN" if outcome.uncertain else "failed"
    word += ", degraded" if outcome.degraded else ""
    style = "green" if outcome.succeeded and not outcome.degraded else "yellow" if outcome.succeeded else "red"
    line = f" ({outcome.mode}, {report.seconds:.2f} s)"
    if not outcome.succeeded:
        line += f", state: {outcome.stage}" + (f", ended by {outcome.ended_by}" if outcome.ended_by else "")
    console.print(
        Text.assemble(f"{report.host.name}: {outcome.operation} ", (word, style), f", power {outcome.power}{line}"),
    )
    for result in outcome.agents:
        said = f": {result.fault.message}" if result.fault else ""
        asked = "not asked" if result.asked is None else f"asked {result.asked}"
        console.print(Text(f"  {agent_name(result.agent)}: {result.power} ({asked}){said}"))
    for note in outcome.notes:
        console.print(Text(f"  {note}"))


def show_timetable(host: Host, rows: list[Row], *, latest: float) -> None:
    """Print the timetable of one host."""
    from rich.text import Text

    console = out()
    console.print(Text(f"{host.name} ({host.power_management.mode}), if every device obeys at once:"))
    for row in rows:
        console.print(Text(f"  t+{row.at:<8g} {agent_name(row.agent)}: {row.action}"))
    console.print(Text(f"  at the latest after {latest:g} s it has ended, one way or the other"))
