"""The forker and its workers as processes: starting, hearing, killing and burying them.

What lives here: pipes and pids. What the workers are for, the pool knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from pmcompat.fence.drivers.ipmi_door import Door
from pmcompat.fence.drivers.ipmi_jobs import Bmc, Job
from pmcompat.fence.drivers.ipmi_wire import BROKEN, LONGEST, REAP, SPAWN, Order, Report, decode_report, encode

#: what a worker may know of the driver's environment: it can hold passwords (``PMCOMPAT_DSN``)
_ENVIRONMENT = (
    *("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "RES_OPTIONS", "LOCALDOMAIN"),
    *("PYTHONPATH", "PYTHONHOME", "PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE"),
)
#: seconds the forker gets to end by itself once its socket is closed
_FAREWELL = 2.0


@dataclass(eq=False, slots=True)
class Worker:
    """One process, seen from here."""

    channel: socket.socket
    #: 0 until it said its first word
    pid: int = 0
    #: what it is doing
    job: Job | None = None
    #: whose session it has open, or is about to open
    door: Door | None = None
    bmc: Bmc | None = None
    #: when it last got or finished an order
    since: float = 0.0
    #: at its order for so long that it must be waiting for its device
    stuck: bool = False
    #: it was killed or told to quit
    ending: bool = False

    def tell(self, order: Order) -> bool:
        """Send an order; False if nobody is there to hear it."""
        try:
            self.channel.send(encode(order))
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """End it at once. Nothing more leaves it; its socket reads end of file when it is gone."""
        self.ending = True
        if self.pid:
            # It is no stranger: a dead worker keeps its number until the forker is told to reap it.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def reports(self) -> tuple[list[Report], bool]:
        """Return what it said since the last time, and whether it is gone."""
        heard: list[Report] = []
        while True:
            try:
                packet = self.channel.recv(LONGEST)
            except BlockingIOError:
                return heard, False
            except OSError:
                return heard, True
            if not packet:
                return heard, True
            heard.append(decode_report(packet))


class Forker:
    """The process that forks workers for us (:mod:`~pmcompat.fence.drivers.ipmi_forker`)."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, on_report: Callable[[Worker], None], on_end: Callable[[str], None]
    ) -> None:
        self._loop = loop
        self._on_report = on_report
        self._on_end = on_end
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        with theirs:
            # A session of its own: the terminal's Ctrl-C is for us, and an `on` that is owed must still leave (law F8).
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-P", "-m", "pmcompat.fence.drivers.ipmi_forker", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        loop.add_reader(self._control, self._read)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def spawn(self) -> Worker | None:
        """Ask for a worker; it says its pid when it is ready. None if it cannot even be asked for."""
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError:
            return None
        with theirs:
            ours.setblocking(False)
            try:
                socket.send_fds(self._control, [SPAWN], [theirs.fileno()])
            except OSError:
                ours.close()
                return None
        worker = Worker(ours)
        self._loop.add_reader(ours, self._on_report, worker)
        return worker

    def bury(self, worker: Worker) -> None:
        """Forget a worker that is gone, or is being killed."""
        self._loop.remove_reader(worker.channel)
        worker.channel.close()
        if worker.pid:
            with contextlib.suppress(OSError):
                self._control.send(REAP + str(worker.pid).encode())

    def _read(self) -> None:
        try:
            said = self._control.recv(1024)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if said.startswith(BROKEN):
            self._on_end(said.removeprefix(BROKEN).decode(errors="replace"))
        elif not said:
            self._loop.remove_reader(self._control)
            self._on_end("")

    async def close(self) -> None:
        """End it, and with it every worker; returns when it is gone."""
        self._loop.remove_reader(self._control)
        self._control.close()
        give_up = time.monotonic() + _FAREWELL
        while self._process.poll() is None:
            if time.monotonic() > give_up:
                self._process.kill()
            await asyncio.sleep(0.003)
