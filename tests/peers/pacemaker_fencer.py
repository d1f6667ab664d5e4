"""Pacemaker's fencer as a peer: Debian's ``pacemaker-fenced`` without a cluster around it, asked by ``stonith_admin``.

Its option ``--stand-alone`` is of no use here: it answers, but leaves topology out and asks one device of a level of two. The
mode of Pacemaker's own tests, ``--stand-alone-w-cpg``, has levels and wants corosync below it: a corosync of one node on
127.0.0.1, its files in a directory of its own. Both listen where a real cluster does, so they start only where there is none.
Start them from the main thread: they end with the thread that started them. Nothing here is pmcompat's code.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from peers.ipmi_sim import ADMIN, free_port

INSTALL = "apt-get install --no-install-recommends pacemaker pacemaker-cli-utils fence-agents"
#: nothing of the caller's environment reaches the fencer and its agents
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/pacemaker:/usr/libexec/pacemaker"
_PROGRAMS = ("corosync", "pacemaker-fenced", "stonith_admin", "fence_ipmilan", "setpriv")
#: sockets that a cluster on this machine would have
_CLUSTER = {"cmap", "cpg", "pacemakerd", "stonith-ng"}
_COROSYNC = """totem {{
  version: 2
  cluster_name: pmcompat-bench
  transport: udpu
  crypto_cipher: none
  crypto_hash: none
  interface {{
    ringnumber: 0
    mcastport: {port}
  }}
}}
nodelist {{
  node {{
    nodeid: 1
    name: bench
    ring0_addr: 127.0.0.1
  }}
}}
quorum {{
  provider: corosync_votequorum
}}
logging {{
  to_stderr: yes
  to_logfile: no
  to_syslog: no
}}
system {{
  state_dir: {where}
  move_to_root_cgroup: no
}}
"""


class FencerError(Exception):
    """The fencer cannot be started, or did not do what it was asked; the text says why."""


class PacemakerFencer:
    """A running fencer."""

    def __init__(self) -> None:
        self._asking: set[subprocess.Popen[str]] = set()

    def register(self, device: str, target: str, port: int) -> None:
        """Make a simulator's port known to it as a device that cuts the power of *target*."""
        options = {
            "ip": "127.0.0.1",
            "ipport": port,
            "username": ADMIN.name,
            "lanplus": 1,
            "cipher": 3,
            "power_wait": 0,
            "pcmk_host_list": target,
        }
        given = [word for name, value in options.items() for word in ("--option", f"{name}={value}")]
        # the one way to give a password that does not show it in the list of processes
        self._tell("--register", device, "--agent", "fence_ipmilan", *given, "--env-option", "password")

    def register_level(self, target: str, index: int, devices: list[str]) -> None:
        """Make devices one level of *target*'s topology."""
        chosen = [word for device in devices for word in ("--device", device)]
        self._tell("--register-level", target, "--index", str(index), *chosen)

    def ask(self, action: str, target: str, *, timeout: int) -> float:
        """Let it do ``reboot`` or ``off``, with *timeout* seconds for each device; return the seconds it took."""
        option = {"reboot": "--reboot", "off": "--fence"}[action]
        began = time.monotonic()
        self._tell(option, target, "--timeout", str(timeout))
        return time.monotonic() - began

    def devices(self) -> str:
        """Return its list of devices."""
        return self._tell("--list-registered")

    def _tell(self, *arguments: str) -> str:
        environment = {"PATH": _PATH, "OCF_RESKEY_password": ADMIN.password}
        line = ["stonith_admin", *arguments]
        pipe = subprocess.PIPE
        with subprocess.Popen(line, text=True, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=environment) as asking:
            self._asking.add(asking)
            try:
                said, complaint = asking.communicate(timeout=300)
            except subprocess.TimeoutExpired as late:
                asking.kill()
                raise FencerError(f"stonith_admin {arguments[0]} does not end") from late
            finally:
                self._asking.discard(asking)
        if asking.returncode:
            text = " ".join((complaint or said).split()) or "no text"
            raise FencerError(f"stonith_admin {arguments[0]} ended with {asking.returncode}: {text}")
        return said

    def close(self) -> None:
        """End what still asks: it would not notice that the fencer is gone."""
        for asking in tuple(self._asking):
            asking.kill()


@contextlib.contextmanager
def pacemaker_fencer() -> Iterator[PacemakerFencer]:
    """Run the fencer, knowing no devices; it and all it started and left are gone when this ends.

    Raises :class:`FencerError` where it cannot be started.
    """
    if reason := refusal():
        raise FencerError(reason)
    with tempfile.TemporaryDirectory(prefix="pmcompat-pacemaker-") as name:
        where = Path(name)
        (where / "corosync.conf").write_text(_COROSYNC.format(port=free_port(), where=where))
        with (
            _running("cpg", where, "corosync", "-f", "-c", str(where / "corosync.conf")),
            _running("stonith-ng", where, "pacemaker-fenced", "--stand-alone-w-cpg"),
        ):
            fencer = PacemakerFencer()
            try:
                fencer.devices()
                yield fencer
            finally:
                fencer.close()


def refusal() -> str:
    """Tell why it cannot be started here, or nothing."""
    if missing := [name for name in _PROGRAMS if shutil.which(name, path=_PATH) is None]:
        return f"{', '.join(missing)} not installed ({INSTALL})"
    if os.geteuid() != 0:
        return "corosync and the fencer start as root only"
    if taken := _CLUSTER & _sockets():
        return f"a cluster runs on this machine already (sockets {', '.join(sorted(taken))})"
    return ""


def _sockets() -> set[str]:
    """Return the names of all local sockets; libqb pads its abstract ones, and can be told to use files."""
    lines = (line.split() for line in Path("/proc/net/unix").read_text().splitlines())
    return {words[7].strip("@").rsplit("/", 1)[-1] for words in lines if len(words) > 7}


@contextlib.contextmanager
def _running(listens: str, where: Path, *line: str) -> Iterator[None]:
    """Run one of the daemons; it listens when this yields."""
    log = where / f"{line[0]}.log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", *line],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            env={"PATH": _PATH, "PCMK_logfile": "none", "PCMK_stderr": "1"},
            start_new_session=True,
        )
    try:
        give_up = time.monotonic() + 10
        while listens not in _sockets():
            if process.poll() is not None or time.monotonic() > give_up:
                raise FencerError(f"{line[0]} does not start (exit code {process.poll()}): {_complaint(log)}")
            time.sleep(0.02)
        yield
    finally:
        _end(process)


def _complaint(log: Path) -> str:
    """Return the first error a daemon told of, else the last it said."""
    lines = log.read_text(errors="replace").splitlines()
    errors = [line for line in lines if "error" in line.casefold()]
    return (errors or lines[-1:] or ["it says nothing"])[0]


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a daemon, the agents that it runs, and remove what it left behind."""
    agents = _below(process.pid)
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)
    for pid in agents:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for pattern in (f"qb-{process.pid}-*", f"qb-*-{process.pid}-blackbox-*"):
        for left in Path("/dev/shm").glob(pattern):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
    held = Path("/run/corosync.pid")
    if held.exists() and held.read_text().strip() == str(process.pid):
        held.unlink(missing_ok=True)


def _below(pid: int) -> list[int]:
    """Return all processes below this one."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text().split()):
                found += [child, *_below(child)]
    return found
