"""The warden of a private Postgres: a process of its own that ends the server when the process it serves is gone.

What lives here: a script of the standard library alone, started by :mod:`pmcompat.db.cluster` and by nobody else, as
``python -I -S cluster_warden.py JSON``. It imports nothing of the house, so it also runs where only its file can be read.

Its standard input is a pipe nobody writes to. The kernel closes the other end when the owner ends, however it ends: normal
exit, SIGTERM, SIGKILL. The pipe alone would not do: a forked child of the owner keeps it open, so the parent's process id
is looked at too. Then the server is stopped and the whole directory removed. The warden lives in a session of its own, so
Ctrl-C in a terminal does not reach it; it holds a lock on ``DIRECTORY/lock``, and whoever finds that lock free has found
something left over.

It answers with one line of JSON on standard output: ``{"port": 5432}`` once the server accepts connections, or
``{"failed": "…"}``.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

#: seconds between two looks while something starts, and while all is well
_BRISK, _CALM = 0.02, 1.0
#: seconds initdb and the start may take; slow machines need a few
_PATIENCE = 60.0
#: how the postmaster is asked to go, and for how many seconds: fast, at once, without asking
_FAREWELLS = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))
#: tries to find a port nobody takes between looking and binding
_PORTS = 10
#: line of postmaster.pid that says "ready" (pg_ctl reads the same one)
_STATUS_LINE = 7
_PR_SET_PDEATHSIG = 1


class _OwnerGoneError(Exception):
    """The process this server was started for has ended."""


class _StartFailedError(Exception):
    """initdb or postgres would not run; the text says why."""


def _end_with_parent() -> None:
    # a killed warden takes the postmaster with it; called after the change of user, which would clear the request
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


class Warden:
    """One server in one directory.

    :param order: what to start, as :mod:`pmcompat.db.cluster` writes it: ``owner`` (process id), ``directory``, ``bin``,
        ``tcp``, ``settings``, ``uid`` and ``gid`` (None: stay who we are).
    """

    def __init__(self, order: dict[str, Any]) -> None:
        self.order = order
        self.directory = Path(order["directory"])
        self.data = self.directory / "data"
        self.log = self.directory / "server.log"
        self.child: subprocess.Popen[bytes] | None = None

    def watch(self, seconds: float) -> None:
        """Wait *seconds*, or less when the owner ends.

        :raises _OwnerGoneError: it ended.
        """
        closed, _, _ = select.select([0], [], [], seconds)
        if closed or os.getppid() != self.order["owner"]:
            raise _OwnerGoneError

    def spawn(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a program of the installation as the ordinary user, its output going to the log."""
        uid, gid = self.order["uid"], self.order["gid"]
        became = {} if uid is None else {"user": uid, "group": gid, "extra_groups": []}
        with self.log.open("ab") as log:
            self.child = subprocess.Popen(  # noqa: S603 - an absolute path and a list, no shell
                [str(Path(self.order["bin"]) / program), *arguments],
                cwd="/",
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},  # no PG* variable of the owner reaches it
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - this process has one thread
                **became,
            )
        return self.child

    def initialise(self) -> None:
        """Run initdb.

        :raises _StartFailedError: it failed or took too long.
        """
        arguments = ("-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "-N")
        child = self.spawn("initdb", *arguments)
        until = time.monotonic() + _PATIENCE
        while child.poll() is None:
            if time.monotonic() > until:
                raise _StartFailedError(f"initdb did not finish in {_PATIENCE:.0f} seconds")
            self.watch(_BRISK)
        if child.returncode:
            raise _StartFailedError(f"initdb failed: {self.last_words()}")

    def start(self) -> int:
        """Start postgres; return its port (5432 where it has only a socket in its own directory).

        :raises _StartFailedError: it would not start.
        """
        for _ in range(_PORTS if self.order["tcp"] else 1):
            self.log.write_bytes(b"")
            port = _free_port() if self.order["tcp"] else 5432
            if self.started(self.spawn("postgres", *self.arguments(port))):
                return port
            if "Address already in use" not in self.log.read_text(errors="replace"):
                break
        raise _StartFailedError(f"postgres did not start: {self.last_words()}")

    def arguments(self, port: int) -> list[str]:
        """Return the arguments of postgres: nothing of it survives a crash of the machine, and nothing needs to."""
        settings = {
            "listen_addresses": "127.0.0.1" if self.order["tcp"] else "",
            "unix_socket_directories": str(self.directory / "socket"),
            "full_page_writes": "off",
            "synchronous_commit": "off",
            "logging_collector": "off",
            **self.order["settings"],
        }
        pairs = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return ["-D", str(self.data), "-p", str(port), "-F", *pairs]

    def started(self, child: subprocess.Popen[bytes]) -> bool:
        """Wait until the server accepts connections; False when it ended instead."""
        until = time.monotonic() + _PATIENCE
        while child.poll() is None:
            with contextlib.suppress(OSError):
                lines = (self.data / "postmaster.pid").read_text().splitlines()
                if len(lines) > _STATUS_LINE and lines[_STATUS_LINE].startswith("ready"):
                    return True
            if time.monotonic() > until:
                raise _StartFailedError(f"postgres was not ready after {_PATIENCE:.0f} seconds: {self.last_words()}")
            self.watch(_BRISK)
        return False

    def last_words(self) -> str:
        """Return the end of the log on one line."""
        with contextlib.suppress(OSError):
            return " | ".join(self.log.read_text(errors="replace").split("\n")[-12:]).strip(" |")
        return "no log"

    def serve(self) -> None:
        """Start the server, say so, and stay until the owner or the server ends."""
        self.initialise()
        _say({"port": self.start()})
        while self.child is not None and self.child.poll() is None:
            self.watch(_CALM)

    def clear(self) -> None:
        """Stop what runs and remove the directory."""
        for number, seconds in _FAREWELLS:
            if self.child is None or self.child.poll() is not None:
                break
            self.child.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.child.wait(seconds)
        for _ in range(50):  # a server process that outlives its postmaster by a moment may still write
            shutil.rmtree(self.directory, ignore_errors=True)
            if not self.directory.exists():
                return
            time.sleep(0.1)


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _say(answer: dict[str, object]) -> None:
    with contextlib.suppress(OSError):  # the owner may be gone; then there is nobody to tell
        os.write(1, json.dumps(answer).encode() + b"\n")


def _terminated(_number: int, _frame: object) -> NoReturn:
    raise _OwnerGoneError


def main(order: dict[str, Any]) -> None:
    """Serve *order* until its owner ends, and leave nothing behind."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _terminated)
    os.chdir("/")
    warden = Warden(order)
    try:
        warden.serve()
    except _OwnerGoneError:
        pass
    except (_StartFailedError, OSError, subprocess.SubprocessError) as error:
        _say({"failed": str(error)})
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        warden.clear()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
