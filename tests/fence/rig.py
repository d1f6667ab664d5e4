"""Where the executor meets everything that can fail: the command as a process, Postgres behind it, real IPMI devices in front.

What lives here: devices that write down what happens to them (Debian's ``ipmi_sim`` with a power switch of our own), hosts of
them in a database, and runs of the command. What the devices wrote is judged by :mod:`safety`. Nothing here is pmcompat's code.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest
from peers.ipmi_sim import ADMIN, MISSING, PROGRAM, IpmiSim, User, answers, launch
from safety import Entry, Run

from pmcompat.db.cipher import PlainCipher
from pmcompat.db.dao import VdsStaticDao
from pmcompat.model import Agent, HostStatus, Options, PowerManagement, Secret

needs_ipmi_sim = pytest.mark.skipif(PROGRAM is None, reason=MISSING)

# Every call is one line in a log that all devices share: lines are appended whole, so their order is the order of events.
# Time is that of /proc/uptime, which a shell reads without starting a program. Files beside it make the device misbehave.
_SWITCH = """#!/bin/sh
cd {where}
now() {{ read -r up _ < /proc/uptime; }}
note() {{ now; echo "$up {name} $1 $2" >> {log}; }}
change() {{ echo "$1" > power; note became "$1"; }}
if [ "$1" = get ]; then
  if [ -e blind ]; then note blind -; exit 1; fi
  until read -r p < power && [ -n "$p" ]; do :; done
  if [ -e flap ] && [ "$p" = 0 ]; then read -r p < flap; echo $((1 - p)) > flap; fi
  note read "$p"
  echo "power:$p"
else
  note told "$3"
  [ -e "blind_after$3" ] && touch blind
  [ -e "ignore$3" ] && exit 0
  if [ {settle} = 0 ]; then change "$3"; else (sleep {settle}; change "$3") >/dev/null 2>&1 & fi
fi
"""


class Witness:
    """What all devices of a rig wrote, in the order in which it happened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def entries(self, plugs: Sequence[str] | None = None) -> list[Entry]:
        found = (Entry.of(line) for line in self.path.read_text().splitlines())
        return [entry for entry in found if plugs is None or entry.plug in plugs]

    def wait(self, plugs: Sequence[str], wanted: Callable[[list[Entry]], bool], *, timeout: float = 20.0) -> bool:
        """Wait until the entries of *plugs* are as *wanted*; False if they are not in time."""
        give_up = time.monotonic() + timeout
        while time.monotonic() < give_up:
            if wanted(self.entries(plugs)):
                return True
            time.sleep(0.004)
        return False


@dataclass
class Supply:
    """One device, and the plug behind it."""

    name: str
    sim: IpmiSim
    settle: float
    #: where clients reach it: its own port, or that of a proxy
    port: int = 0

    def misbehave(self, **how: str) -> None:
        """Make it ``ignore0`` (off), ``ignore1`` (on), go ``blind``, ``blind_after0``, or ``flap``."""
        for name, text in how.items():
            (self.sim.where / name).write_text(text + "\n")

    def behave(self) -> None:
        for name in ("ignore0", "ignore1", "blind", "blind_after0", "flap"):
            (self.sim.where / name).unlink(missing_ok=True)

    def power(self) -> str:
        return self.sim.power()


@dataclass
class RigHost:
    """One host: its supplies, level by level."""

    name: str
    levels: list[list[Supply]]

    @property
    def supplies(self) -> list[Supply]:
        return [supply for level in self.levels for supply in level]

    @property
    def plugs(self) -> list[str]:
        return [supply.name for supply in self.supplies]

    @property
    def plan(self) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(supply.name for supply in level) for level in self.levels)

    def powers(self) -> list[str]:
        return [supply.power() for supply in self.supplies]

    @property
    def settle(self) -> float:
        return max(supply.settle for supply in self.supplies)


class Rig:
    """Devices and their witness. A context manager: devices are gone when it ends."""

    def __init__(self, where: Path) -> None:
        self.where = where
        self.witness = Witness(where / "log")
        self._supplies: list[Supply] = []
        self._numbers = iter(range(10_000))

    def supplies(self, count: int, *, settle: float = 0.0, users: Sequence[User] = (ADMIN,)) -> list[Supply]:
        """Start devices that are on and answer."""
        fresh = []
        for _ in range(count):
            name = f"plug{next(self._numbers)}"
            sim = launch(self.where / name, users=users)
            supply = Supply(name, sim, settle, sim.port)
            self._supplies.append(supply)
            fresh.append(supply)
            text = _SWITCH.format(where=sim.where, name=name, log=self.witness.path, settle=f"{settle:g}")
            (sim.where / "switch").write_text(text)
        give_up = time.monotonic() + 10 + count / 20
        for supply in fresh:
            while not answers(supply.sim.port):
                assert time.monotonic() < give_up, "ipmi_sim does not answer"
        return fresh

    def dual(self, name: str, *, settle: float = 0.0) -> RigHost:
        """A host with two supplies on one level."""
        return RigHost(name, [self.supplies(2, settle=settle)])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for supply in self._supplies:
            with contextlib.suppress(ProcessLookupError):
                supply.sim.thaw()
            supply.sim.stop()


def agent_of(supply: Supply, order: int, *, username: str = "admin", password: str = "pw", options: str = "cipher=3") -> Agent:
    return Agent(
        type="ipmilan",
        address="127.0.0.1",
        username=username,
        password=Secret(password),
        ip_port=supply.port,
        options=Options(f"lanplus,{options}"),
        order=order,
    )


def power_management(host: RigHost, **access: str) -> PowerManagement:
    """Return the settings of a host of one or two agents."""
    agents = tuple(agent_of(supply, order, **access) for order, supply in enumerate(host.supplies, 1))
    return PowerManagement(enabled=True, agents=agents, concurrent=len(host.levels) == 1 and len(agents) > 1)


@dataclass
class Site:
    """A database with the rig's hosts in it, and the command."""

    dsn: str
    witness: Witness
    #: what every run is given beyond its own arguments
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PMCOMPAT", "PG"))},
            "PMCOMPAT_DSN": self.dsn,
            "PMCOMPAT_CIPHER": "plain",
            "PMCOMPAT_QUIET_TIME": "0",
            "PMCOMPAT_DELAY": "0.3",
            "PMCOMPAT_RETRIES": "11",
            "NO_COLOR": "1",
            **self.settings,
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "pmcompat", *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def begin(self, verb: str, host: RigHost, *arguments: str) -> Going:
        """Start ``host VERB`` of one host."""
        return Going(self, verb, host, self.start("host", verb, host.name, "--json", "--yes", *arguments))

    def run(self, verb: str, host: RigHost, *arguments: str) -> Run:
        """Run ``host VERB`` of one host to its end."""
        return self.begin(verb, host, *arguments).end()

    def run_many(self, verb: str, hosts: Sequence[RigHost], *arguments: str, timeout: float = 120) -> tuple[int, list[Run]]:
        """Run ``host VERB`` of several hosts in one process; the runs bear no exit code of their own."""
        began = {host.name: len(self.witness.entries(host.plugs)) for host in hosts}
        process = self.start("host", verb, *(host.name for host in hosts), "--json", "--yes", *arguments)
        out, err = process.communicate(timeout=timeout)
        ended = {host.name: len(self.witness.entries(host.plugs)) for host in hosts}
        time.sleep(max(host.settle for host in hosts) + 0.1)
        reports = {report["host"]: report for report in map(json.loads, out.splitlines())}
        assert len(reports) == len(hosts), err
        return process.returncode, [
            Run(
                verb=verb,
                levels=host.plan,
                entries=tuple(self.witness.entries(host.plugs)),
                began=began[host.name],
                ended=ended[host.name],
                code=None,
                report=reports[host.name],
                errors=err,
            )
            for host in hosts
        ]

    def sql(self, query: str, parameters: Sequence[Any] = ()) -> list[Any]:
        with psycopg.connect(self.dsn, autocommit=True) as conn:
            return conn.execute(query, list(parameters)).fetchall()

    def cut(self, process: subprocess.Popen[str], name: str) -> int:
        """End the database sessions of a process whose name begins with *name*; return how many there were."""
        # the application's name is the only thing that tells two of these processes apart on one machine
        mine = f"{name}%" if name != "pmcompat fence" else f"{name} %{process.pid}"
        return len(self.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE %s", [mine]))


class Going:
    """One run of the command, on its way."""

    def __init__(self, site: Site, verb: str, host: RigHost, process: subprocess.Popen[str]) -> None:
        self.site, self.verb, self.host, self.process = site, verb, host, process
        self.began = len(site.witness.entries(host.plugs))
        self.ended_by = ""

    def wait_for_first_packet(self) -> bool:
        """Wait until a device of the host noticed something; False if the command ended before."""
        plugs = self.host.plugs
        return self.site.witness.wait(plugs, lambda seen: len(seen) > self.began or self.process.poll() is not None)

    def signal(self, number: signal.Signals) -> None:
        self.ended_by = number.name
        self.process.send_signal(number)

    def end(self, *, timeout: float = 60) -> Run:
        """Wait for its end, and for what the devices still have to do."""
        try:
            out, err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, err = self.process.communicate()
            pytest.fail(f"the command did not end\n{out}\n{err}")
        ended = len(self.site.witness.entries(self.host.plugs))
        time.sleep(self.host.settle + 0.1 if self.host.settle else 0.02)
        found = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        return Run(
            verb=self.verb,
            levels=self.host.plan,
            entries=tuple(self.site.witness.entries(self.host.plugs)),
            began=self.began,
            ended=ended,
            code=self.process.returncode,
            report=found[0] if found else None,
            errors=err,
            ended_by=self.ended_by,
        )


def site_of(database: Any, rig: Rig, hosts: Sequence[RigHost], access: dict[str, dict[str, str]] | None = None) -> Site:
    """Write the rig's hosts into a database that has at least as many; *access*: host → user, password, options."""
    with database.connect() as conn:
        dao = VdsStaticDao(conn, PlainCipher())
        rows = sorted(dao.get_all(), key=lambda host: host.name)
        for row, host in zip(rows, hosts, strict=False):
            settings = power_management(host, **(access or {}).get(host.name, {}))
            dao.update(dataclasses.replace(row, name=host.name, power_management=settings))
        for row in rows[len(hosts) :]:
            dao.update(dataclasses.replace(row, power_management=PowerManagement()))
        conn.execute("UPDATE vds_dynamic SET status = %s", [HostStatus.MAINTENANCE.value])
        conn.commit()
    return Site(database.dsn, rig.witness)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Rig(tmp_path) as found:
        yield found


def side_by_side(steps: Sequence[Callable[[], Any]], *, at_once: int = 3) -> list[Any]:
    """Run *steps* in threads, a few at once, and return what they return; the first failure is raised when all are done."""
    results: list[Any] = [None] * len(steps)
    places = threading.Semaphore(at_once)

    def one(i: int) -> None:
        with places:
            try:
                results[i] = steps[i]()
            except BaseException as error:  # noqa: BLE001 - raised below, in the test's own thread
                results[i] = error

    threads = [threading.Thread(target=one, args=(i,)) for i in range(len(steps))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results
