"""The journal in a file: what it says of the past, and that it holds no secret."""

from __future__ import annotations

import asyncio
import resource
import signal
import stat
import uuid
from pathlib import Path
from typing import Any

import pytest
import stage

from pmcompat.errors import DatabaseUnreachable, Locked
from pmcompat.fence.events import Origin, Request
from pmcompat.fence.file_journal import FileJournal
from pmcompat.model import Action, Host, Operation, PowerStatus, Stage

ORIGIN = Origin(user="ann", machine="desk", pid=1)


def request(host: Host, operation: str = "restart") -> Request:
    return Request(operation_id=uuid.uuid4(), operation=Operation(operation), host=host, origin=ORIGIN)


def test_a_restart_leaves_its_story_and_no_secret(tmp_path: Path) -> None:
    host, journal = stage.dual(), FileJournal(tmp_path / "deep" / "journal.jsonl")
    rack = stage.rack_of(host)

    async def scene() -> Any:
        async with stage.executor(rack, journal=journal) as executor:
            await executor.arestart(host)
        return await journal.past(host.id), await journal.history(host.id)

    past, history = asyncio.run(scene())
    assert past.unfinished is None
    assert past.resumable is None
    assert past.since[Operation.RESTART] < 5
    assert any(entry.agent == "primary ipmilan at host1-a" and "sent off" in entry.what for entry in history)
    assert history[0].succeeded
    assert "s3cr3t" not in journal.path.read_text()
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600


def test_a_dead_restart_is_unfinished_and_resumable_until_something_settles_it(tmp_path: Path) -> None:
    host, journal = stage.dual(), FileJournal(tmp_path / "j")
    rack = stage.rack_of(host, power=PowerStatus.OFF)
    died = request(host)

    async def scene() -> None:
        await journal.started(died, None)
        past = await journal.past(host.id)
        assert past.unfinished is not None
        assert past.resumable is not None
        assert past.unfinished.operation_id == past.resumable.operation_id == died.operation_id
        with pytest.raises(Locked):
            await journal.started(request(host, "stop"), None)
        async with stage.executor(rack, journal=journal) as executor:
            outcome = await executor.aresume(host)
        assert outcome.succeeded
        assert (await journal.past(host.id)).unfinished is None
        assert (await journal.past(host.id)).resumable is None

    asyncio.run(scene())
    assert [action for _, action in stage.executed(rack)] == ["on", "on"]


def test_a_restart_that_ended_dark_can_be_resumed(tmp_path: Path) -> None:
    host, journal = stage.dual(), FileJournal(tmp_path / "j")
    rack = stage.rack_of(host)
    for name in ("host1-a", "host1-b"):
        rack.break_device(name, ignores={Action.ON: -1})

    async def scene() -> None:
        async with stage.executor(rack, journal=journal, patience=stage.patience()) as executor:
            outcome = await executor.arestart(host)
        assert outcome.stage is Stage.GOING_ON
        past = await journal.past(host.id)
        assert past.unfinished is None
        assert past.resumable is not None

    stage.run(_threadless(scene(), journal))


async def _threadless(scene: Any, journal: FileJournal) -> None:
    # virtual time knows no threads: what the journal hands to one is done at once
    async def at_once(work: Any, *arguments: Any) -> Any:
        return work(*arguments)

    journal._elsewhere = at_once  # type: ignore[method-assign]  # the one seam of the file journal
    await scene


def test_a_person_settles_what_a_crash_left(tmp_path: Path) -> None:
    host, journal = stage.dual(), FileJournal(tmp_path / "j")

    async def scene() -> None:
        assert await journal.confirm(host.id, ORIGIN) == 0
        await journal.started(request(host), None)
        assert await journal.confirm(host.id, ORIGIN) == 1
        assert (await journal.past(host.id)).unfinished is None

    asyncio.run(scene())


def test_half_a_line_of_a_killed_process_is_passed_over(tmp_path: Path) -> None:
    host, journal = stage.dual(), FileJournal(tmp_path / "j")

    async def scene() -> None:
        await journal.started(request(host), None)
        with journal.path.open("a") as file:
            file.write(f'{{"host_id": "{host.id}", "wha')
        assert (await journal.past(host.id)).unfinished is not None

    asyncio.run(scene())


def test_a_file_that_cannot_be_written_stops_everything(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    journal = FileJournal(tmp_path / "file" / "journal")
    with pytest.raises(DatabaseUnreachable):
        asyncio.run(journal.started(request(stage.dual()), None))


def test_what_a_person_confirmed_is_not_to_be_resumed_and_what_was_only_looked_at_is(tmp_path: Path) -> None:
    """As in the database's journal; the file did the reverse of both."""
    host, journal = stage.dual(), FileJournal(tmp_path / "j")
    rack = stage.rack_of(host, power=PowerStatus.OFF)

    async def scene() -> None:
        await journal.started(request(host), None)
        async with stage.executor(rack, journal=journal) as executor:
            assert (await executor.astatus(host)).power is PowerStatus.OFF
        assert (await journal.past(host.id)).resumable is not None
        assert await journal.confirm(host.id, ORIGIN) == 1
        past = await journal.past(host.id)
        assert (past.unfinished, past.resumable) == (None, None)

    asyncio.run(scene())


def test_a_disk_that_takes_only_a_part_of_started_sends_nothing(tmp_path: Path) -> None:
    host, journal = stage.dual(), FileJournal(tmp_path / "j")
    rack = stage.rack_of(host)
    journal.path.write_text(" " * 4000 + "\n")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    async def scene() -> None:
        async with stage.executor(rack, journal=journal) as executor:
            await executor.astop(host)

    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        with pytest.raises(DatabaseUnreachable, match="cannot be used"):
            asyncio.run(scene())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert not rack.log


def test_an_off_that_was_cut_short_is_remembered(tmp_path: Path) -> None:
    host, journal = stage.dual(), FileJournal(tmp_path / "j")
    rack = stage.rack_of(host, settle_off=60.0)

    async def scene() -> None:
        async with stage.executor(rack, journal=journal) as executor:
            asyncio.get_running_loop().call_later(0.3, executor.end, "SIGTERM")
            assert (await executor.astop(host)).uncertain
        late = (await journal.past(host.id)).late_off
        assert late is not None
        assert late < 5

    asyncio.run(scene())
