"""Run foreign programs: parameters on standard input, a small environment, a hard end.

What lives here: processes in sessions of their own, their bounded output, and their death. Nothing here knows about fencing.

However a program ends (by itself, at the deadline, by cancellation), every process of its group has been sent SIGKILL before
its answer is used; at a deadline or a cancellation also what left the group (a terminal under pexpect), as far as ``/proc``
shows it to be a descendant. The group is killed before its leader is reaped: until then nobody else can bear its number.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from pmcompat.fence.drivers.fence_replies import Ended

#: what is kept of each output, bytes; the rest is read and dropped, so that no program waits for us
KEPT = 1 << 16
# Seconds: how long before the deadline the kill goes out, how long a killed process is waited for, and that at the close.
_KILL_BEFORE, _DISAPPEARS, _LINGERS = 0.04, 0.02, 2.0


class Runner:
    """Runs programs in the event loop it is used in."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._alive: set[_Watched] = set()

    async def run(self, argv: Sequence[str], text: str, *, deadline: float, kept: int = KEPT) -> Ended:
        """Start *argv*, write *text* to its standard input, and return how it ended.

        :param deadline: seconds of the running loop's clock; everything is killed shortly before it.
        :raises OSError: the program could not be started; nothing runs.
        """
        # Popen returns after the program was started; the caller checked the path, and no shell is involved.
        process = subprocess.Popen(  # noqa: ASYNC220, S603
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._environment,
            cwd="/",
            close_fds=True,
            start_new_session=True,
        )
        try:
            watched = _Watched(process, kept)
        except OSError:  # no descriptor left: it was told nothing yet
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()  # it was killed
            raise
        self._alive.add(watched)
        try:
            watched.feed(text.encode())
            async with asyncio.timeout_at(deadline - _KILL_BEFORE):
                await watched.ended.wait()
        except TimeoutError:
            pass
        finally:
            by_itself = watched.ended.is_set()
            watched.kill(strays=not by_itself)
            out, err = watched.outputs()
            await self._gone(watched)
        return Ended(code=process.returncode if by_itself else None, out=out, err=err)

    async def close(self) -> None:
        """Kill what runs and wait, for a moment, until it is gone."""
        for watched in self._alive:
            watched.kill(strays=True)
        for watched in tuple(self._alive):
            await self._gone(watched, _LINGERS)

    async def _gone(self, watched: _Watched, seconds: float = _DISAPPEARS) -> None:
        """Reap a killed process; one that is stuck in the kernel is left until the close."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await watched.ended.wait()
        if watched.process.poll() is not None:
            self._alive.discard(watched)


class _Watched:
    """A running process whose pipes and whose end are watched by the running event loop."""

    def __init__(self, process: subprocess.Popen[bytes], kept: int) -> None:
        self.process = process
        self.ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._kept = kept
        self._unsent = b""
        self._kept_output: dict[IO[bytes], bytearray] = {}
        self._pidfd = os.pidfd_open(process.pid)
        self._loop.add_reader(self._pidfd, self._on_end)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                self._kept_output[stream] = bytearray()
                os.set_blocking(stream.fileno(), False)
                self._loop.add_reader(stream.fileno(), self._take, stream)

    def feed(self, data: bytes) -> None:
        """Write *data* to the program as it takes it, then close its input."""
        stdin = self.process.stdin
        if stdin is not None:
            os.set_blocking(stdin.fileno(), False)
            self._unsent = data
            self._loop.add_writer(stdin.fileno(), self._write, stdin)
            self._write(stdin)

    def kill(self, *, strays: bool) -> None:
        """Kill the whole group, with *strays* every descendant outside it too. Harmless when all are gone."""
        pids = descendants(self.process.pid) if strays else set()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    def outputs(self) -> tuple[bytes, ...]:
        """Return what was kept of stdout and stderr, what still lies in the pipes included, and close all pipes."""
        for stream in self._kept_output:
            self._take(stream)
            self._close(stream)
        if self.process.stdin is not None:
            self._close(self.process.stdin)
        return tuple(bytes(kept) for kept in self._kept_output.values())

    def _on_end(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self.ended.set()

    def _write(self, stdin: IO[bytes]) -> None:
        try:
            self._unsent = self._unsent[os.write(stdin.fileno(), self._unsent) :]
        except BlockingIOError:
            return
        except OSError:  # it closed its input or ended: its exit code tells
            self._unsent = b""
        if not self._unsent:
            self._close(stdin)

    def _take(self, stream: IO[bytes]) -> None:
        kept = self._kept_output[stream]
        while not stream.closed:
            try:
                data = os.read(stream.fileno(), 1 << 16)
            except BlockingIOError:
                return
            if not data:
                self._close(stream)
            kept += data[: max(0, self._kept - len(kept))]

    def _close(self, stream: IO[bytes]) -> None:
        if not stream.closed:
            self._loop.remove_reader(stream.fileno())
            self._loop.remove_writer(stream.fileno())
            with contextlib.suppress(OSError):
                stream.close()


def descendants(pid: int) -> set[int]:
    """Return the processes below *pid* as ``/proc`` shows them now."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                # the command name may hold blanks and brackets: state and parent follow the last bracket
                parent = int((entry / "stat").read_text(errors="replace").rsplit(")", 1)[1].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found: set[int] = set()
    todo = [pid]
    while todo:
        below = [child for child in children.get(todo.pop(), ()) if child not in found]
        found.update(below)
        todo += below
    return found
