"""A BMC that really speaks IPMI 2.0, for the demo and for tests, in a process of its own.

What lives here: the side that starts, asks and stops one. ``python -m pmcompat.testing.bmc --port 0`` runs one by hand: it
binds 127.0.0.1 only, takes the password from the first line of its standard input, prints its port, and ends when its standard
input ends, so it never outlives who started it. The device itself is :mod:`~pmcompat.testing.bmc_device`.
"""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
import threading
from collections.abc import Iterable
from typing import IO, Any, Self

#: seconds a device may take to start on a busy machine
_START = 20.0


class Bmc:
    """One running device. A context manager; safe to use from several threads."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self._process = process
        self._lock = threading.Lock()
        #: UDP port on 127.0.0.1
        self.port = port

    @classmethod
    def start(
        cls,
        *,
        username: str = "admin",
        password: str = "pw",  # noqa: S107 - a device of straw has a password of straw
        settle: float = 0.0,
        port: int = 0,
        slots: int = 16,
    ) -> Self:
        """Start a device that is on, and return when it answers.

        :param settle: seconds between taking ``on`` or ``off`` and being in that state.
        :param port: 0 for any free one.
        :param slots: sessions it holds at once.
        :raises RuntimeError: it does not start.
        """
        options = ["--port", str(port), "--username", username, "--settle", str(settle), "--slots", str(slots)]
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", "pmcompat.testing.bmc", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            _pipe(process.stdin).write(json.dumps(password) + "\n")
            _pipe(process.stdin).flush()
            if not select.select([_pipe(process.stdout)], [], [], _START)[0]:
                raise RuntimeError("the BMC did not start in time")  # noqa: TRY301 - one place cleans up
            line = _pipe(process.stdout).readline()
            return cls(process, int(line or "-1"))
        except BaseException:
            _end(process)
            raise

    def power(self) -> str:
        """Return ``on`` or ``off``, as the device itself knows it."""
        return str(self._ask(do="power"))

    def log(self) -> list[tuple[float, str]]:
        """Return (time of day in seconds, command) of every power command that was executed, in order.

        ``on`` and ``off``; also ``cycle``, ``reset``, ``diag`` and ``softoff``, so that a test can see that nobody sent one.
        """
        return [(float(at), str(command)) for at, command in self._ask(do="log")]

    def commands(self) -> list[str]:
        """Return the executed power commands, in order."""
        return [command for _, command in self.log()]

    def switch(self, power: str) -> None:
        """Set the power behind everybody's back."""
        self._ask(do="switch", power=power)

    def add_user(self, username: str, password: str, privilege: str = "operator") -> None:
        """Let another user in, up to *privilege*."""
        self._ask(do="user", name=username, password=password, privilege=privilege)

    def misbehave(
        self,
        *,
        ignore: Iterable[str] = (),
        refuse: Iterable[str] = (),
        code: int = 0xFF,
        busy: int = 0,
        mute: bool = False,
        lame: bool = False,
    ) -> None:
        """Behave badly from now on; without arguments: well again.

        :param ignore: ``on``, ``off``: taken and answered, and nothing happens.
        :param refuse: ``on``, ``off``, ``status``: answered with completion code *code*.
        :param busy: this many next answers are "node busy" (0xC0).
        :param mute: nothing is answered at all.
        :param lame: nothing but the first question of a login is answered.
        """
        self._ask(do="misbehave", ignore=[*ignore], refuse=[*refuse], code=code, busy=busy, mute=mute, lame=lame)

    def sessions(self) -> int:
        """Return how many sessions it holds open."""
        return int(self._ask(do="sessions"))

    def stop(self) -> None:
        """End it. Idempotent."""
        _end(self._process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _ask(self, **request: object) -> Any:
        with self._lock:
            stdin, stdout = _pipe(self._process.stdin), _pipe(self._process.stdout)
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
            line = stdout.readline()
        if not line:
            raise RuntimeError("the BMC has ended")
        return json.loads(line)


def _pipe(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise RuntimeError("the BMC has no pipe")
    return pipe


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


if __name__ == "__main__":
    from pmcompat.testing.bmc_device import main

    main()
