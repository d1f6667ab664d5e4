"""The journal in a local file: one JSON object a line, for ``--no-journal`` and for callers without a database.

What lives here: the file and how its lines are read back. It knows this machine only; the journal in the database is the one
that other machines see. No line holds a secret: agents are written by name.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from pmcompat.errors import DatabaseUnreachable, Locked, Refused
from pmcompat.fence.commands import Conclusion
from pmcompat.fence.events import Answered, Ending, Event, Noticed, Origin, Request, Sent, agent_name
from pmcompat.fence.protocols import Entry, Past, Unfinished
from pmcompat.model import Action, AgentFault, Operation, Outcome, PowerStatus, Stage

Line = Mapping[str, Any]
T = TypeVar("T")


def default_path() -> Path:
    """Return the file under the user's state directory (XDG base directories)."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "pmcompat" / "journal.jsonl"


class FileJournal:
    """A :class:`pmcompat.fence.protocols.Journal` in a file that only its owner can read."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_path()

    async def past(self, host_id: UUID) -> Past:
        """Return what the file knows of the host.

        :raises DatabaseUnreachable: the file cannot be read.
        """
        lines = await self._elsewhere(lambda: list(self._lines(host_id)))
        return _past(lines, now=time.time())

    async def started(self, request: Request, unfinished: Unfinished | None) -> None:
        """Write "started" and make it durable.

        :raises DatabaseUnreachable: the file cannot be written: the executor sends nothing.
        :raises Locked: a live process of this machine has the host.
        """
        open_ = (await self.past(request.host.id)).unfinished
        if open_ is not None and (unfinished is None or open_.operation_id != unfinished.operation_id):
            raise Locked(f"{request.operation} of host {request.host.name} is refused", holder=str(open_.origin))
        closing = [] if unfinished is None else [_line(request, "settled", settles=str(unfinished.operation_id))]
        agents = [agent_name(agent) for agent in request.agents]
        await self._elsewhere(self._append, [*closing, _line(request, "started", agents=agents)])

    async def record(self, events: Sequence[Event]) -> None:
        """Append events."""
        lines = [_line(event.request, "event", at=round(event.at, 4), **said) for event in events if (said := _said(event))]
        if lines:
            await self._elsewhere(self._append, lines)

    async def finished(self, request: Request, outcome: Outcome, seconds: float) -> None:
        """Close the record."""
        line = _line(
            request,
            "finished",
            succeeded=outcome.succeeded,
            uncertain=outcome.uncertain,
            power=outcome.power.value,
            stage=outcome.stage.value,
            seconds=round(seconds, 4),
            notes=list(outcome.notes),
            resumes=str(request.resumes) if request.resumes else None,
        )
        await self._elsewhere(self._append, [line])

    async def alert(self, request: Request, what: Outcome | Refused) -> None:
        """Do nothing: a file has no list that the engine's users see."""

    async def history(self, host_id: UUID, *, limit: int = 100) -> Sequence[Entry]:
        """Return what happened to the host, newest first."""
        lines = await self._elsewhere(lambda: list(self._lines(host_id)))
        return [_entry(line) for line in reversed(lines[-limit:])]

    async def confirm(self, host_id: UUID, origin: Origin) -> int:
        """Settle what is unfinished under a person's name."""
        unfinished = (await self.past(host_id)).unfinished
        if unfinished is None:
            return 0
        line = {
            "time": time.time(),
            "what": "settled",
            "host_id": str(host_id),
            "operation": unfinished.operation.value,
            "operation_id": str(unfinished.operation_id),
            "settles": str(unfinished.operation_id),
            "user": origin.user,
            "machine": origin.machine,
            "pid": origin.pid,
            "text": "a person says that the host is off",
        }
        await self._elsewhere(self._append, [line])
        return 1

    async def close(self) -> None:
        """Nothing is held open."""

    @staticmethod
    async def _elsewhere(work: Callable[..., T], *arguments: Any) -> T:
        """Do what waits for the disk in a thread."""
        return await asyncio.to_thread(work, *arguments)

    def _append(self, lines: Sequence[Line]) -> None:
        data = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if self.path.exists() and self.path.stat().st_size and not self._ends_with_newline():
                data = b"\n" + data
            file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(file, data)
                os.fsync(file)
            finally:
                os.close(file)
        except OSError as error:
            raise self._unusable(error) from None

    def _ends_with_newline(self) -> bool:
        """Tell whether the last writer finished its line: one that was killed did not."""
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def _lines(self, host_id: UUID) -> Iterator[Line]:
        wanted = str(host_id)
        try:
            with self.path.open(encoding="utf-8") as file:
                for text in file:
                    if wanted in text and (line := _parsed(text)).get("host_id") == wanted:
                        yield line
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._unusable(error) from None

    def _unusable(self, error: OSError) -> DatabaseUnreachable:
        return DatabaseUnreachable(
            f"the journal file {self.path} cannot be used",
            why=error.strerror or type(error).__name__,
            state="nothing was sent to any agent",
            fix="make it writable, or set XDG_STATE_HOME",
        )


def _parsed(text: str) -> Line:
    try:
        line = json.loads(text)
    except ValueError:  # the last line of a process that was killed while it wrote
        return {}
    return line if isinstance(line, dict) else {}


def _line(request: Request, what: str, **more: object) -> Line:
    return {
        "time": time.time(),
        "what": what,
        "operation_id": str(request.operation_id),
        "operation": request.operation.value,
        "host_id": str(request.host.id),
        "host": request.host.name,
        "user": request.origin.user,
        "machine": request.origin.machine,
        "pid": request.origin.pid,
        "by_person": request.origin.by_person,
        **more,
    }


def _said(event: Event) -> dict[str, object] | None:
    """Return what an event says, as plain values; None for those that the record itself says."""
    match event:
        case Sent(agent=agent, action=action):
            return {"agent": agent_name(agent), "sent": action.value}
        case Answered(agent=agent, action=action, answer=answer, took=took):
            text = answer.message if isinstance(answer, AgentFault) else str(getattr(answer, "value", "accepted"))
            return {"agent": agent_name(agent), "asked": action.value, "answer": text, "took": round(took, 4)}
        case Noticed(remark=remark):
            names = ", ".join(map(agent_name, remark.agents))
            return {"agent": names, "remark": remark.conclusion.value, "power": remark.power.value}
        case Ending(reason=reason):
            return {"ended": reason}
    return None


def _past(lines: Sequence[Line], *, now: float) -> Past:
    since: dict[Operation, float] = {}
    open_: dict[str, Line] = {}
    dark: dict[str, Line] = {}
    stages: dict[str, Stage] = {}
    for line in lines:
        key = str(line.get("operation_id"))
        match line.get("what"):
            case "started":
                open_[key] = line
            case "event":
                stages[key] = _stage(line, stages.get(key, Stage.NOT_TOUCHED))
            case "settled":
                settled = str(line.get("settles"))
                was = open_.pop(settled, None)
                if was is not None and was["operation"] == Operation.RESTART and stages.get(settled):
                    dark[settled] = was
            case "finished":
                begun = open_.pop(key, line)
                dark.pop(str(line.get("resumes")), None)
                if line.get("succeeded"):
                    dark.clear()
                    if line.get("by_person"):
                        since[Operation(line["operation"])] = max(now - line["time"], 0.0)
                elif line["operation"] == Operation.RESTART and line["stage"] in {Stage.OFF, Stage.GOING_ON, Stage.GOING_OFF}:
                    dark[key], stages[key] = begun, Stage(line["stage"])
    unfinished = [_unfinished(line, stages, now) for line in open_.values()]
    left_dark = [_unfinished(line, stages, now) for line in (*dark.values(), *open_.values()) if line["operation"] == "restart"]
    return Past(
        since=since,
        unfinished=unfinished[-1] if unfinished else None,
        resumable=left_dark[-1] if left_dark else None,
    )


def _stage(line: Line, before: Stage) -> Stage:
    if line.get("sent") == Action.OFF and before is Stage.NOT_TOUCHED:
        return Stage.GOING_OFF
    if line.get("sent") == Action.ON:
        return Stage.GOING_ON
    if line.get("remark") == Conclusion.CONFIRMED and line.get("power") == PowerStatus.OFF:
        return Stage.OFF
    return before


def _unfinished(line: Line, stages: Mapping[str, Stage], now: float) -> Unfinished:
    origin = Origin(user=line["user"], machine=line["machine"], pid=line["pid"], by_person=line.get("by_person", True))
    return Unfinished(
        operation_id=UUID(line["operation_id"]),
        operation=Operation(line["operation"]),
        origin=origin,
        age=max(now - line["time"], 0.0),
        stage=stages.get(line["operation_id"], Stage.NOT_TOUCHED),
    )


def _entry(line: Line) -> Entry:
    skipped = {"time", "operation_id", "operation", "host_id", "host", "user", "machine", "pid", "by_person", "agent", "what"}
    said = ", ".join(f"{name} {value}" for name, value in line.items() if name not in skipped and value not in (None, [], ""))
    return Entry(
        operation_id=UUID(line["operation_id"]),
        operation=line["operation"],
        at=datetime.fromtimestamp(line["time"], UTC),
        user=line["user"],
        machine=line["machine"],
        agent=line.get("agent", ""),
        what=said if line["what"] == "event" else f"{line['what']}: {said}" if said else line["what"],
        seconds=line.get("seconds", line.get("took")),
        succeeded=line.get("succeeded"),
    )
