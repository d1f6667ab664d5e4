"""``pmcompat demo``: the whole job on an embedded Postgres and two simulated BMCs, with the commands a user would type.

Everything shown is the real command line run as a child process: the demo itself only prepares the stage (a private
Postgres, two BMC processes that speak IPMI, one silent port), prints each command before it runs, and clears everything
away afterwards, also after Ctrl-C and SIGTERM.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from pmcompat.db.cluster import Cluster
from pmcompat.errors import OperationFailed
from pmcompat.testing.bmc import Bmc

#: made up for this run only; nothing outside the demo knows it
_PASSWORD = "demo-" + os.urandom(6).hex()


class _Terminated(BaseException):
    """SIGTERM arrived: unwind and clear away like Ctrl-C, then end with the shell's code for it."""


@dataclass
class Stage:
    """What the demo runs on: a database and the places of its devices."""

    dsn: str
    directory: Path
    bmcs: tuple[Bmc, Bmc]
    silent_port: int
    started: float = field(default_factory=time.monotonic)
    steps: list[tuple[str, float]] = field(default_factory=list)

    def title(self, text: str) -> None:
        """Print the heading of the next scene."""
        print(f"\n\033[1m── {text}\033[0m" if _colour() else f"\n-- {text}", flush=True)

    def run(self, *arguments: str, expect: int = 0, stdout: Path | None = None) -> None:
        """Print and run one pmcompat command; time it.

        :raises OperationFailed: it did not end as the scene expects.
        """
        line = "pmcompat " + shlex.join(arguments) + (f" > {stdout.name}" if stdout else "")
        print(f"\033[36m$ {line}\033[0m" if _colour() else f"$ {line}", flush=True)
        begin = time.monotonic()
        environment = {**os.environ, "PMCOMPAT_DSN": self.dsn, "PMCOMPAT_QUIET_TIME": "0"}
        with contextlib.ExitStack() as stack:
            target = stack.enter_context(stdout.open("wb")) if stdout else None
            child = subprocess.Popen(  # noqa: S603 - our own command line
                [sys.executable, "-m", "pmcompat", *arguments], cwd=self.directory, env=environment, stdout=target
            )
            stack.callback(_end, child)
            code = child.wait()
        took = time.monotonic() - begin
        self.steps.append((line, took))
        if code != expect:
            raise OperationFailed(
                f"`{line}` ended with exit code {code}, expected {expect}", state="the demo stops here and clears away"
            )


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _colour() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


@contextlib.contextmanager
def _sigterm_unwinds() -> Iterator[None]:
    def unwind(_number: int, _frame: FrameType | None) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _stage(*, keep: bool) -> Iterator[Stage]:
    """Start Postgres, two BMCs and a silent port; clear them away at the end unless *keep*."""
    with contextlib.ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="pmcompat-demo-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        cluster = stack.enter_context(Cluster(prefer="wheel"))
        cluster.create_database("engine")
        bmcs = tuple(stack.enter_context(Bmc.start(username="fence", password=_PASSWORD, settle=0.4)) for _ in range(2))
        silent = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        silent.bind(("127.0.0.1", 0))  # takes every packet and never answers: a dead BMC
        stage = Stage(cluster.dsn("engine"), directory, (bmcs[0], bmcs[1]), silent.getsockname()[1])
        yield stage
        if keep:
            _keep(stage)


def _keep(stage: Stage) -> None:
    stage.title("Kept: look around, Ctrl-C ends it")
    print(f"  database   {stage.dsn}\n  documents  {stage.directory}")
    for number, bmc in enumerate(stage.bmcs, 1):
        print(f"  BMC {number}      127.0.0.1 port {bmc.port}, user fence (IPMI over LAN 2.0, cipher suite 3)")
    print(f'\n  export PMCOMPAT_DSN="{stage.dsn}" PMCOMPAT_QUIET_TIME=0', flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()


def _agent(port: int, order: int, *, concurrent: bool) -> str:
    return (
        f'        <agent type="ipmilan">\n'
        f"          <address>127.0.0.1</address>\n"
        f"          <username>fence</username>\n"
        f"          <password>{_PASSWORD}</password>\n"
        f'          <options><option name="ipport" value="{port}"/><option name="cipher" value="3"/></options>\n'
        f"          <concurrent>{str(concurrent).lower()}</concurrent>\n"
        f"          <order>{order}</order>\n"
        f"        </agent>\n"
    )


def _host(name: str, *agents: str) -> str:
    return (
        f"  <host>\n    <name>{name}</name>\n    <address>{name}.lab</address>\n"
        f'    <power_management type="ipmilan">\n      <enabled>true</enabled>\n'
        f"      <agents>\n{''.join(agents)}      </agents>\n    </power_management>\n  </host>\n"
    )


FLAT = """\
<?xml version="1.0" encoding="UTF-8"?>
<host>
  <name>legacy-1</name><!-- written by a client of 2011 -->
  <address>legacy-1.lab</address>
  <power_management type="apc">
    <enabled>true</enabled>
    <address>pdu1.lab</address>
    <username>apc</username>
    <options><option name="slot" value="7"/></options>
  </power_management>
</host>
"""


def _documents(stage: Stage, dead: str) -> None:
    """Write the documents of the demo: a flat one, and one with two dual-supply hosts."""
    first, second = (bmc.port for bmc in stage.bmcs)
    pair = (stage.silent_port, second) if dead == "primary" else (first, stage.silent_port)
    (stage.directory / "flat.xml").write_text(FLAT, encoding="utf-8")
    (stage.directory / "two-agents.xml").write_text(
        "<hosts>\n"
        + _host("dual", _agent(first, 1, concurrent=True), _agent(second, 2, concurrent=True))
        + _host("fallback", _agent(pair[0], 1, concurrent=False), _agent(pair[1], 2, concurrent=False))
        + "</hosts>\n",
        encoding="utf-8",
    )


def _play(stage: Stage, dead: str) -> None:
    stage.title("DBA: an oVirt 3.1 database learns about secondary agents")
    stage.run("db", "init", "--shape", "3.1.0", "--hosts", "12")
    stage.run("db", "status")
    stage.run("db", "upgrade", "--yes")
    stage.run("db", "verify")

    stage.title("Gateway: a flat document becomes an agents document, byte for byte")
    _documents(stage, dead)
    agents = stage.directory / "agents.xml"
    stage.run("xml", "translate", "--to", "agents", "flat.xml", stdout=agents)
    print(agents.read_text(encoding="utf-8"), end="")
    stage.run("xml", "translate", "--to", "flat", "agents.xml", stdout=stage.directory / "back.xml")
    if (stage.directory / "back.xml").read_bytes() != FLAT.encode():
        raise OperationFailed("the way back did not give the same bytes")
    print("back again: the same bytes")

    stage.title("Engine: documents in, rows through the stored procedures")
    stage.run("host", "import", "agents.xml")
    stage.run("host", "import", "two-agents.xml")
    stage.run("host", "show", "dual")

    stage.title("Operator: restart a host with two power supplies (both off, confirmed, then both on)")
    stage.run("host", "restart", "dual", "--yes")
    _bmc_logs(stage)

    stage.title(f"Operator: the {dead} agent is dead; the host is restarted all the same")
    stage.run("host", "restart", "fallback", "--yes")
    stage.run("host", "history", "fallback")


def _bmc_logs(stage: Stage) -> None:
    events = sorted((at, f"BMC {number}", action) for number, bmc in enumerate(stage.bmcs, 1) for at, action in bmc.log())
    print("what the BMCs themselves executed:")
    for at, name, action in events:
        print(f"  t+{at - events[0][0]:5.2f} s  {name}  {action}")


def _summary(stage: Stage, *, clear: bool) -> None:
    stage.title("What was done")
    for line, seconds in stage.steps:
        print(f"  {seconds:6.2f} s  {line}")
    total = time.monotonic() - stage.started
    print(f"  {total:6.2f} s  in all" + ("; database, BMCs and files are cleared away now" if clear else ""), flush=True)


def run(*, keep: bool = False, fail_agent: str = "primary") -> None:
    """Play the demo.

    :param keep: leave the database and the BMCs running until Ctrl-C.
    :param fail_agent: which agent of the host ``fallback`` is dead: ``primary`` or ``secondary``.
    :raises PmcompatError: a step failed; everything was cleared away.
    """
    try:
        with _sigterm_unwinds(), _stage(keep=keep) as stage:
            _play(stage, fail_agent)
            _summary(stage, clear=not keep)
    except _Terminated:
        raise SystemExit(128 + signal.SIGTERM) from None
