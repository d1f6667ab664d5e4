"""The driver for every installed ``fence_<type>`` program of the fence-agents project (FenceAgentAPI; fencing facts §8).

What lives here: finding the program, reading its metadata once, running it, and turning how it ended into an answer. What is
sent is decided in :mod:`~pmcompat.fence.drivers.fence_input`, what came back in :mod:`~pmcompat.fence.drivers.fence_replies`,
processes live and die in :mod:`~pmcompat.fence.drivers.fence_process`.

Rules of the room: parameters travel on standard input only, argv is empty; ``action`` is always sent; nothing runs before every
name and value has been checked against the program's own metadata; a program never outlives its deadline. ``on`` and ``off``
that the program took are :data:`~pmcompat.fence.commands.ACCEPTED`, also where it waited in vain for the new state: whether
power changed is for a status read to say. The agent's own power wait belongs to the flow and is never slept twice: programs get
``power_wait=0`` (field failure B-46 is kept by the flow's first poll, which comes after ``minimum_wait``).

fence_ipmilan hands the password on to ipmitool's argv for a moment (facts §8.1): prefer the ``ipmi`` driver.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import pwd
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pmcompat.errors import CredentialError, ModelError
from pmcompat.fence.commands import Answer
from pmcompat.fence.drivers.descriptors import to_spend
from pmcompat.fence.drivers.fence_input import Unsupported, input_lines
from pmcompat.fence.drivers.fence_metadata import LONGEST, Metadata, read_metadata
from pmcompat.fence.drivers.fence_process import KEPT, Runner
from pmcompat.fence.drivers.fence_replies import Ended, answer
from pmcompat.model import Action, Agent, AgentFault, FaultKind
from pmcompat.options import Parameters, Tables, parameters

#: what this machine lacks for a moment; the program itself is well
_SHORT_OF = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.ENOSPC, errno.ETXTBSY})
DIRECTORIES = ("/usr/sbin", "/sbin", "/usr/bin", "/bin")
INSTALL = "apt-get install fence-agents"

# Path, modification time in ns, size: what tells a program from its next version.
_FileAsItIs = tuple[str, int, int]

_NAME = re.compile(r"[a-z0-9_]+\Z")
# Seconds: a program is not started with less left, and what its metadata may take.
_LEAST, _METADATA = 0.1, 10.0
# Seconds between two tries to start a program.
_PAUSE = 0.1
# File descriptors that a running program costs.
_FILES_EACH = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How many programs run at once.

    A program burns CPU while it starts and then mostly waits for its device: one that runs longer than *busy* seconds gives its
    place to the next, so that silent devices delay nobody (law F8), up to *processes* altogether.
    """

    #: programs that may be starting or working
    working: int = 3 * (os.cpu_count() or 1)
    busy: float = 1.0
    processes: int = 256


class FenceAgentsDriver:
    """The driver contract over installed fence programs. One event loop; any number of tasks.

    :param directories: where programs are looked for; the first one that has it counts. Nowhere else, no ``PATH``.
    :param tables: a live engine's own types, mappings and defaults; default: ours of the newest level.
    :param allowed: refused options that this site allows all the same (``ssh_path`` …).
    """

    def __init__(
        self,
        *,
        directories: Sequence[str | Path] = DIRECTORIES,
        tables: Tables | None = None,
        allowed: frozenset[str] = frozenset(),
        limits: Limits | None = None,
    ) -> None:
        self._directories = tuple(Path(directory) for directory in directories)
        self._tables = tables
        self._allowed = allowed
        self._limits = limits or Limits()
        self._runner = Runner(_environment())
        self._working = asyncio.Semaphore(self._limits.working)
        self._processes = asyncio.Semaphore(min(self._limits.processes, max(to_spend() // _FILES_EACH, 4)))
        self._metadata: dict[_FileAsItIs, asyncio.Task[Metadata]] = {}
        #: paths of programs that are saying at this moment what they accept
        self._telling: set[str] = set()
        self._closed = False

    async def perform(self, agent: Agent, action: Action, *, deadline: float) -> Answer:
        """Run *agent*'s program; see :class:`pmcompat.fence.drivers.Driver`."""
        program = f"fence_{agent.type}"
        await asyncio.sleep(0)  # a cancellation that is already there comes before anything is started
        if asyncio.get_running_loop().time() >= deadline:
            return _unsent(FaultKind.TIMEOUT, "the deadline passed before the device was asked")
        try:
            needs = parameters(agent, tables=self._tables)
            program, file = self._find(needs)
            metadata = await self._read_metadata(program, file, deadline)
            async with self._place(deadline):
                left = deadline - asyncio.get_running_loop().time()
                text = input_lines(program, metadata, needs, action, seconds=left, allowed=self._allowed)
                ended = await self._start([file[0]], text, deadline=deadline)
            return answer(program, action, ended, needs)
        except (ModelError, Unsupported, CredentialError, _NoMetadata, OSError) as error:
            return _unstarted(program, error)

    async def close(self) -> None:
        """Kill every program that runs and return when they are gone; who waits for one gets a fault. Idempotent."""
        self._closed = True
        await self._runner.close()
        if reading := [task for task in self._metadata.values() if not task.done()]:
            await asyncio.wait(reading)

    def _find(self, needs: Parameters) -> tuple[str, _FileAsItIs]:
        """Return the program's name and file; the name comes from data, so it is checked again before it becomes a path."""
        if not _NAME.match(needs.program):
            raise Unsupported("the type is not the name of a fence program")
        program = f"fence_{needs.program}"
        for directory in self._directories:
            path = directory / program
            if path.is_file() and os.access(path, os.X_OK):
                found = path.stat()
                return program, (str(path), found.st_mtime_ns, found.st_size)
        raise Unsupported(f"{program} is not installed: Debian has it in the package fence-agents ({INSTALL})")

    async def _read_metadata(self, program: str, file: _FileAsItIs, deadline: float) -> Metadata:
        """Return the program's metadata, read once for the file as it is on disk now."""
        if file not in self._metadata or _has_failed(self._metadata[file]):
            self._metadata[file] = asyncio.ensure_future(self._ask_metadata(program, file[0]))
            self._metadata[file].add_done_callback(_has_failed)  # looks at the exception: nobody may be left to
        try:
            async with asyncio.timeout_at(deadline - _LEAST):
                return await asyncio.shield(self._metadata[file])  # others wait for the same answer
        except TimeoutError:
            if file[0] in self._telling:
                raise _NoMetadata from None
            raise

    async def _ask_metadata(self, program: str, path: str) -> Metadata:
        deadline = asyncio.get_running_loop().time() + _METADATA
        async with self._place(deadline):
            self._telling.add(path)
            try:
                ended = await self._start([path, "-o", "metadata"], "", deadline=deadline, kept=LONGEST)
            finally:
                self._telling.discard(path)
        if ended.code is None:
            raise Unsupported(f"{program} does not say what it accepts: it did not end")
        try:
            return read_metadata(ended.out)
        except ValueError as error:
            raise Unsupported(f"{program} does not say what it accepts: {error}") from None

    async def _start(self, argv: Sequence[str], text: str, *, deadline: float, kept: int = KEPT) -> Ended:
        """Run *argv*; where this machine is short of something to start it with, try again until half of the time is gone.

        :raises TimeoutError: it is short of it still.
        :raises OSError: the program cannot be run.
        """
        loop = asyncio.get_running_loop()
        give_up = (loop.time() + deadline) / 2
        while True:
            try:
                return await self._runner.run(argv, text, deadline=deadline, kept=kept)
            except OSError as error:
                if error.errno not in _SHORT_OF:
                    raise
                if loop.time() > give_up:
                    raise TimeoutError from error
            await asyncio.sleep(_PAUSE)

    @contextlib.asynccontextmanager
    async def _place(self, deadline: float) -> AsyncIterator[None]:
        """Wait for a place among those that run, no longer than makes sense; hold it while busy, then pass it on.

        :raises TimeoutError: none came free in time.
        :raises Unsupported: the driver was closed meanwhile.
        """
        async with contextlib.AsyncExitStack() as places:
            async with asyncio.timeout_at(deadline - _LEAST):
                await places.enter_async_context(self._processes)
                await self._working.acquire()
            working = _Place(self._working)
            places.callback(working.leave)
            timer = asyncio.get_running_loop().call_later(self._limits.busy, working.leave)
            places.callback(timer.cancel)
            if self._closed:
                raise Unsupported("the driver is closed")
            yield


class _NoMetadata(Exception):
    """The program runs and does not say in time what it accepts."""


class _Place:
    """A place among the working, left once: by the clock or at the end, whichever comes first."""

    def __init__(self, working: asyncio.Semaphore) -> None:
        self._working: asyncio.Semaphore | None = working

    def leave(self) -> None:
        if self._working is not None:
            self._working.release()
            self._working = None


def installed_types(directories: Sequence[str | Path] = DIRECTORIES) -> frozenset[str]:
    """Return the types whose program is installed, by the program's own name: offer only what can run (field failure B-75)."""
    found = (path for directory in directories for path in Path(directory).glob("fence_*"))
    return frozenset(path.name.removeprefix("fence_") for path in found if _NAME.match(path.name) and os.access(path, os.X_OK))


def _environment() -> dict[str, str]:
    """Return all a program gets to see: nothing of ours, above all no ``PCMK_service`` (facts §8.4)."""
    try:
        home = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        home = "/"
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C", "HOME": home}


def _unsent(kind: FaultKind, message: str) -> AgentFault:
    return AgentFault(kind=kind, message=message, sent=False)


def _unstarted(program: str, error: Exception) -> AgentFault:
    """Return why a program was not started."""
    match error:
        case CredentialError():
            return _unsent(FaultKind.REFUSED, error.what)
        case _NoMetadata():
            return _unsent(FaultKind.TIMEOUT, f"{program} does not say in time what it accepts")
        case TimeoutError():
            return _unsent(FaultKind.BUSY, f"there was not time enough to start {program}: too much else runs at once")
        case OSError():
            return _unsent(FaultKind.UNSUPPORTED, f"{program} cannot be run: {error.strerror}")
        case _:
            return _unsent(FaultKind.UNSUPPORTED, str(error).partition("\n")[0])


def _has_failed(task: asyncio.Task[Metadata]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
