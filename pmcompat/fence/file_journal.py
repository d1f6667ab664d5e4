"""The journal in a local file: one JSON object a line, for ``--no-journal`` and for callers without a database.

What lives here: the file and how its lines are read back. It knows this machine only; the journal in the database is the one
that other machines see. No line holds a secret: agents are written by name.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from pmcompat.errors import DatabaseUnreachable, Locked, Refused
from pmcompat.fence.commands import Conclusion
from pmcompat.fence.events import Answered, Ending, Event, Noticed, Origin, Request, Sent, agent_name
from pmcompat.fence.flow.timing import OFF_OPEN
from pmcompat.fence.policy import DARKENING
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
            uncertain=outcome.word == "uncertain",
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
        past = await self.past(host_id)
        open_ = {left.operation_id: left for left in (past.unfinished, past.resumable) if left is not None}
        lines = [
            {
                "time": time.time(),
                "what": "settled",
                "host_id": str(host_id),
                "operation": left.operation.value,
                "operation_id": str(left.operation_id),
                "settles": str(left.operation_id),
                "user": origin.user,
                "machine": origin.machine,
                "pid": origin.pid,
                "text": "a person says that the host is off",
            }
            for left in open_.values()
        ]
        if lines:
            await self._elsewhere(self._append, lines)
        return len(lines)

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
                while data:  # a disk that fills up takes a part, and says so at the next one
                    data = data[os.write(file, data) :]
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


class _Reading:
    """What the lines of one host say, read in their order."""

    def __init__(self) -> None:
        self.since: dict[Operation, float] = {}
        self.open: dict[str, Line] = {}
        #: restarts that owe the host its on
        self.dark: dict[str, Line] = {}
        #: operations that ended with an off on its way
        self.late: list[Line] = []
        self.stages: dict[str, Stage] = {}

    def read(self, line: Line) -> None:
        """Take one line in."""
        key = str(line.get("operation_id"))
        match line.get("what"):
            case "started":
                self.open[key] = line
            case "event":
                self.stages[key] = _stage(line, self.stages.get(key, Stage.NOT_TOUCHED))
            case "settled":
                self._settled(str(line.get("settles")), by_person=line.get("settles") == key)
            case "finished":
                self._finished(key, line)

    def _settled(self, key: str, *, by_person: bool) -> None:
        was = self.open.pop(key, None)
        if by_person:
            self.dark.pop(key, None)
        elif was is not None:  # it died, and another operation took over
            if was["operation"] in DARKENING and self.stages.get(key, Stage.NOT_TOUCHED) in OFF_OPEN:
                self.late.append(was)
            if was["operation"] == Operation.RESTART:
                self.dark[key] = was

    def _finished(self, key: str, line: Line) -> None:
        begun = self.open.pop(key, line)
        self.dark.pop(str(line.get("resumes")), None)
        if line.get("succeeded"):
            if line["operation"] != Operation.STATUS or line.get("power") == PowerStatus.ON:
                self.dark.clear()
            if line.get("by_person"):
                self.since[Operation(line["operation"])] = line["time"]
            return
        if line.get("uncertain") and line["operation"] in DARKENING and line["stage"] in OFF_OPEN:
            self.late.append(line)
        if line["operation"] == Operation.RESTART and line["stage"] in {Stage.OFF, Stage.GOING_ON, Stage.GOING_OFF}:
            self.dark[key], self.stages[key] = begun, Stage(line["stage"])


def _past(lines: Sequence[Line], *, now: float) -> Past:
    found = _Reading()
    for line in lines:
        found.read(line)

    def newest(left: Iterable[Line]) -> Unfinished | None:
        return next((_unfinished(line, found.stages, now) for line in reversed([*left])), None)

    restarts = [line for line in (*found.dark.values(), *found.open.values()) if line["operation"] == Operation.RESTART]
    return Past(
        since={operation: max(now - at, 0.0) for operation, at in found.since.items()},
        unfinished=newest(found.open.values()),
        late_off=min((max(now - line["time"], 0.0) for line in found.late), default=None),
        resumable=newest(restarts),
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
