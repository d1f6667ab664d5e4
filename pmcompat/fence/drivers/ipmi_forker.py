"""The process that makes workers: ``python -m pmcompat.fence.drivers.ipmi_forker FD``.

What lives here: fork, reap, and dying in time. It imports pyghmi once, before any session exists, stays single-threaded and
forks a worker in about a millisecond. A program with threads or an event loop never forks (fencing facts §9.3).

It learns no secret: each worker has a socket pair of its own with the driver, and only its number passes through here.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable

from pmcompat.fence.drivers.ipmi_wire import BROKEN, REAP, SPAWN

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4
#: seconds workers get to close their sessions when the driver is gone
_GRACE = 0.1


def main(descriptor: int) -> int:
    """Serve the driver at the other end of the socket *descriptor* until it goes away; return the exit code."""
    control = socket.socket(fileno=descriptor)
    harden()
    try:
        from pmcompat.fence.drivers.ipmi_worker import serve
        from pmcompat.fence.drivers.ipmi_worker_link import prepare

        prepare()
    except Exception as error:  # noqa: BLE001 - whatever it is, the driver must be told
        control.send(BROKEN + f"{type(error).__name__}: {error}".encode()[:500])
        return 1
    gc.freeze()  # what is here now is shared with every worker; leave its pages alone
    children: set[int] = set()
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 256, 4)
        if not message:
            break
        if message == SPAWN and descriptors:
            _fork(descriptors[0], control, children, serve)
        elif message.startswith(REAP):
            _reap(int(message.removeprefix(REAP)), children)
    _end(children)
    return 0


def harden() -> None:
    """No core dump, not readable by a debugger of the same user, deaf to the terminal's signals."""
    _prctl(_PR_SET_DUMPABLE, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the driver ends us: a Ctrl-C must not lose an `on` that is owed (law F8)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _fork(descriptor: int, control: socket.socket, children: set[int], serve: Callable[[socket.socket], None]) -> None:
    """Make a worker that talks on *descriptor*. A fork that fails closes it, and the driver sees that."""
    parent = os.getpid()
    try:
        pid = os.fork()
    except OSError:
        os.close(descriptor)
        return
    if pid:
        children.add(pid)
        os.close(descriptor)
        return
    code = 1
    with contextlib.suppress(BaseException):  # nothing of a worker may run on in the forker's frames
        control.close()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            serve(socket.socket(fileno=descriptor))
            code = 0
    os._exit(code)


def _reap(pid: int, children: set[int]) -> None:
    # Only the driver says when: until then a dead worker keeps its number, so that no kill can hit a stranger.
    if pid in children:
        children.discard(pid)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def _end(children: set[int]) -> None:
    """Let workers that are idle close their sessions, then end whatever is left."""
    give_up = time.monotonic() + _GRACE
    while children and time.monotonic() < give_up:
        for pid in list(children):
            if os.waitpid(pid, os.WNOHANG)[0]:
                children.discard(pid)
        time.sleep(0.005)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
