"""Debian's ``ipmi_sim`` (package openipmi) as a peer: real BMC simulators on 127.0.0.1, with their own log as ground truth.

One process per BMC, cipher suite 3 only. Power lives in a file that the simulator's ``chassis_control`` program reads and
writes; every power command it executes is appended to a log (fencing facts §10.1). Nothing here is pmcompat's code.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PROGRAM = shutil.which("ipmi_sim")
MISSING = "needs Debian's openipmi: apt-get install openipmi ipmitool"

_EMULATION = "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02\nmc_enable 0x20\n"
# The change happens `settle` seconds after the command, and the command is answered at once, as real devices do.
_SWITCH = """#!/bin/sh
if [ "$1" = get ]; then echo "power:$(cat {d}/power)"; fi
if [ "$1" = set ]; then
  echo "$(date +%s.%N) $3" >> {d}/log
  if [ {settle} = 0 ]; then echo "$3" > {d}/power; else (sleep {settle}; echo "$3" > {d}/power) >/dev/null 2>&1 & fi
fi
"""
#: Get Channel Authentication Capabilities, outside any session: every BMC answers it
_HELLO = bytes.fromhex("0600ff07000000000000000000092018c88100388e04b5")
_given: set[int] = set()


@dataclass(frozen=True)
class User:
    name: str
    password: str
    #: ``callback``, ``user``, ``operator``, ``admin``
    privilege: str = "admin"


ADMIN = User("admin", "pw")


def free_port(family: int = socket.AF_INET) -> int:
    """Return a free UDP port, never the same twice: two simulators would bind one silently (facts §10.1)."""
    host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    while True:
        with socket.socket(family, socket.SOCK_DGRAM) as s:
            s.bind((host, 0))
            port: int = s.getsockname()[1]
        if port not in _given:
            _given.add(port)
            return port


def answers(port: int, *, host: str = "127.0.0.1", timeout: float = 0.2) -> bool:
    """Tell whether an IPMI device answers on this port."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(timeout)
        with contextlib.suppress(OSError):
            s.connect((host, port))
            s.send(_HELLO)
            return bool(s.recv(100))
    return False


class IpmiSim:
    """One running simulator."""

    def __init__(self, where: Path, port: int, process: subprocess.Popen[bytes], *, host: str = "127.0.0.1") -> None:
        self.where = where
        self.port = port
        self.host = host
        self.process = process

    def power(self) -> str:
        """Return ``on`` or ``off``, as the device itself knows it."""
        return "on" if self._read("power").strip() == "1" else "off"

    def switch(self, power: str) -> None:
        """Set the power behind everybody's back."""
        (self.where / "power").write_text("1\n" if power == "on" else "0\n")

    def log(self) -> list[tuple[float, str]]:
        """Return (time of day, ``on`` or ``off``) of every power command that was executed, in order."""
        lines = (line.split() for line in self._read("log").splitlines())
        return [(float(at), "on" if value == "1" else "off") for at, value in lines]

    def commands(self) -> list[str]:
        """Return the executed power commands, in order."""
        return [action for _, action in self.log()]

    def stop(self) -> None:
        """End the simulator and what it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def freeze(self) -> None:
        """Let it go silent: its port stays bound, nothing is answered."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.killpg(self.process.pid, signal.SIGCONT)

    def _read(self, name: str) -> str:
        path = self.where / name
        return path.read_text() if path.exists() else ""


def launch(
    where: Path, *, users: Sequence[User] = (ADMIN,), settle: float = 0, host: str = "127.0.0.1", preload: str = ""
) -> IpmiSim:
    """Start one simulator with its files in *where*, not waiting for it; *preload* is a library to load into it."""
    assert PROGRAM, MISSING
    port = free_port(socket.AF_INET6 if ":" in host else socket.AF_INET)
    (where / "state").mkdir(parents=True)
    (where / "power").write_text("1\n")
    (where / "switch").write_text(_SWITCH.format(d=where, settle=settle))
    (where / "switch").chmod(0o755)
    accounts = "".join(
        f'  user {number} true "{user.name}" "{user.password}" {user.privilege} 10 none md2 md5 straight\n'
        for number, user in enumerate(users, start=2)
    )
    (where / "lan.conf").write_text(
        f'name "bmc"\nset_working_mc 0x20\n  startlan 1\n    addr {host} {port}\n    priv_limit admin\n'
        "    guid a123456789abcdefa123456789abcdef\n  endlan\n"
        f'  chassis_control "{where / "switch"}"\n{accounts}'
    )
    (where / "bmc.emu").write_text(_EMULATION)
    process = subprocess.Popen(
        [PROGRAM, "-n", "-c", where / "lan.conf", "-f", where / "bmc.emu", "-s", where / "state"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "LD_PRELOAD": preload} if preload else None,
        start_new_session=True,
    )
    # Its children close every descriptor they might have, one by one: 2.6 ms for each status read where many are allowed.
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (64, 64))
    return IpmiSim(where, port, process, host=host)


@contextlib.contextmanager
def ipmi_sims(
    count: int, *, users: Sequence[User] = (ADMIN,), settle: float = 0, host: str = "127.0.0.1", preload: str = ""
) -> Iterator[list[IpmiSim]]:
    """Run *count* simulators, powered on; they answer when this yields and are gone with all they started when it ends."""
    where = Path(tempfile.mkdtemp(prefix="pmcompat-ipmi-sim-"))
    sims: list[IpmiSim] = []
    try:
        for number in range(count):
            sims.append(launch(where / str(number), users=users, settle=settle, host=host, preload=preload))  # noqa: PERF401 - those that started are stopped
        give_up = time.monotonic() + 10 + count / 20
        for sim in sims:
            while not answers(sim.port, host=host):
                assert sim.process.poll() is None, "ipmi_sim ended by itself"
                assert time.monotonic() < give_up, "ipmi_sim does not answer"
        yield sims
    finally:
        for sim in sims:
            sim.stop()
        shutil.rmtree(where, ignore_errors=True)
