"""The whole executor beside its peers, in one run, on Debian's ipmi_sim: ``python tests/bench/bench_executor.py``.

Measured, with the journal and the locks in a Postgres of its own: a dual-supply restart and its round trips, many hosts off and
confirmed with and without silent devices, a black-holed primary, what waiting costs. The peers are ``fence_ipmilan`` (its
programs in parallel), ``ipmitool`` and, where it can be started, Pacemaker's fencer. Every simulator logs what it executed; a
run in which a device was told twice, or a power state is wrong, is not a result.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import gc
import io
import itertools
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "fence"))

from bench_ipmi import agent_of, check, fence, in_parallel, ipmitool, reset, simulators
from peers.ipmi_sim import IpmiSim
from peers.pacemaker_fencer import FencerError, PacemakerFencer, pacemaker_fencer
from peers.udp_proxy import udp_proxy
from rig import Rig

from pmcompat.cli import COLLECT_AFTER
from pmcompat.db.cipher import PlainCipher
from pmcompat.db.dao import VdsStaticDao
from pmcompat.db.journal import PostgresJournal
from pmcompat.db.locks import AdvisoryLocks
from pmcompat.fence.allowances import patience
from pmcompat.fence.drivers.ipmi import IpmiDriver
from pmcompat.fence.drivers.simulated import Rack, SimulatedDriver
from pmcompat.fence.executor import FenceExecutor, Report
from pmcompat.fence.flow import Timing
from pmcompat.fence.policy import Policy
from pmcompat.model import Host, HostStatus, Operation, PowerManagement
from pmcompat.testing.databases import Database, Databases, Templates
from pmcompat.testing.server import Server

#: simulators started at once
BATCH = 100
#: seconds that Pacemaker's fencer gives each device: where it loses nothing (its default), and where it waits for a silent one
CALM, SILENT = 120, 10
#: operations with a silent device that it is asked for; each lasts as long as that
SILENCES = 2
#: round trips of one device in a restart, at least (fencing facts §11.3): login, look, off, read, read again, on, read, close
LEAST = 5 + 1 + 1 + 1 + 1 + 1 + 1 + 1


def spread(seconds: Sequence[float], unit: str = "ms") -> str:
    """Return minimum, median and maximum."""
    factor, places = (1000, 1) if unit == "ms" else (1, 2)
    low, middle, high = min(seconds) * factor, statistics.median(seconds) * factor, max(seconds) * factor
    return f"{middle:.{places}f} {unit} ({low:.{places}f} to {high:.{places}f}, n={len(seconds)})"


@contextlib.contextmanager
def many_simulators(count: int) -> Iterator[list[IpmiSim]]:
    """Run many simulators, started in batches."""
    with contextlib.ExitStack() as stack:
        sims: list[IpmiSim] = []
        while len(sims) < count:
            sims += stack.enter_context(simulators(min(BATCH, count - len(sims))))
        yield sims


def settings(sims: Sequence[IpmiSim | int], *, concurrent: bool = True) -> PowerManagement:
    """Return the power management of a host with these devices, or silent ports."""
    agents = tuple(
        dataclasses.replace(agent_of(sim if isinstance(sim, int) else sim.port), order=order)
        for order, sim in enumerate(sims, 1)
    )
    return PowerManagement(enabled=True, agents=agents, concurrent=concurrent and len(agents) > 1)


def stored(database: Database, found: Sequence[PowerManagement]) -> list[Host]:
    """Give the first hosts of the database these settings and put them into maintenance."""
    conn = database.connect()
    dao = VdsStaticDao(conn, PlainCipher())
    rows = sorted(dao.get_all(), key=lambda host: host.name)[: len(found)]
    assert len(rows) == len(found), "the database has too few hosts"
    hosts = [dataclasses.replace(row, power_management=power) for row, power in zip(rows, found, strict=True)]
    for host in hosts:
        dao.update(host)
    conn.execute("UPDATE vds_dynamic SET status = %s", [HostStatus.MAINTENANCE.value])
    conn.commit()
    database.close()
    return [dataclasses.replace(host, status=HostStatus.MAINTENANCE) for host in hosts]


def executor(database: Database, **more: Any) -> FenceExecutor:
    """Return an executor as the command makes it."""
    given = {"policy": Policy(quiet_time=0, hosts_at_once=256), "drivers": {"ipmi": IpmiDriver()}, **more}
    return FenceExecutor(journal=PostgresJournal(database.dsn), lock=AdvisoryLocks(database.dsn), **given)


async def all_of(
    operation: Operation, hosts: Sequence[Host], fencer: FenceExecutor, **more: Any
) -> tuple[dict[str, float], list[Report]]:
    """Do it to all hosts; return when each was done, seconds from the beginning, and the reports."""
    began, at, reports = time.monotonic(), {}, []
    async for report in fencer.amany(operation, hosts, **more):
        at[report.host.name] = time.monotonic() - began
        reports.append(report)
    return at, reports


def command(database: Database, *arguments: str) -> tuple[float, list[dict[str, Any]]]:
    """Run the command; return the seconds of the whole process and what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PMCOMPAT", "PG"))}
    environment |= {"PMCOMPAT_DSN": database.dsn, "PMCOMPAT_CIPHER": "plain", "PMCOMPAT_QUIET_TIME": "0", "NO_COLOR": "1"}
    line = [sys.executable, "-m", "pmcompat", *arguments, "--json", "--yes"]
    began = time.monotonic()
    done = subprocess.run(line, text=True, capture_output=True, check=False, env=environment)
    found = [json.loads(text) for text in done.stdout.splitlines()]
    assert found, done.stderr
    return time.monotonic() - began, found


# One host


async def restart(database: Database, loops: int) -> None:
    """Restart a host of two instant devices, and let the peers do the same."""
    with simulators(2) as sims, pacemaker([[sim.port for sim in sims]]) as other:
        (host,) = stored(database, [settings(sims)])
        ours, whole, pairs, tools = [], [], [], []
        async with executor(database) as fencer:
            await fencer.astatus(host)
            for turn in range(loops):
                reset(sims)
                _, (report,) = await all_of(Operation.RESTART, [host], fencer)
                assert report.outcome is not None
                assert report.outcome.succeeded
                ours.append(report.seconds)
                check(sims, ["off", "on"], "on")
                pairs.append(await asyncio.to_thread(fence_pair, sims))
                reset(sims)
                if await asyncio.to_thread(other.ask, "reboot", CALM):
                    check(sims, ["off", "on"], "on")
                if turn % 4:
                    continue
                reset(sims)
                seconds, (found,) = await asyncio.to_thread(command, database, "host", "restart", host.name)
                assert found["succeeded"]
                whole.append((seconds, found["seconds"]))
                check(sims, ["off", "on"], "on")
                tools.append(await asyncio.to_thread(tool_pair, sims))
    ratio = statistics.median(ours) / statistics.median(pairs)
    print(f"dual-supply restart, instant devices: {spread(ours)}")
    print(
        f"    the command: {spread([seconds for _, seconds in whole])} by its own clock, "
        f"whole process {spread([w for w, _ in whole])}"
    )
    print(f"    two fence_ipmilan in parallel, power_wait 0: {spread(pairs)}; ratio {ratio:.3f} (goal 0.25)")
    print(f"    two ipmitool in parallel, off, status, on, status: {spread(tools)}")
    other.compare("one level of two devices, power_wait 0", ours, [seconds for seconds, _ in whole], "ms")


@dataclasses.dataclass
class Pacemaker:
    """Pacemaker's fencer beside us: the seconds of ``stonith_admin``'s whole process, or why there are none."""

    fencer: PacemakerFencer | None = None
    seconds: list[float] = dataclasses.field(default_factory=list)
    trouble: str = ""

    def ask(self, action: str, timeout: int) -> bool:
        """Let it do this, if it runs; it is not asked again once it failed."""
        if self.fencer is None:
            return False
        try:
            self.seconds.append(self.fencer.ask(action, "peer", timeout=timeout))
        except FencerError as error:
            self.fencer, self.trouble = None, f"NOT A RESULT: {error}"
            return False
        return True

    def compare(self, what: str, ours: Sequence[float], whole: Sequence[float], unit: str) -> None:
        """Print its figures, and what ours are of them: those of a running executor, as the fencer runs, and of a command."""
        if self.seconds:
            running, started = (statistics.median(found) / statistics.median(self.seconds) for found in (ours, whole))
            print(
                f"    Pacemaker's fencer, {what}: {spread(self.seconds, unit)}; ratio {running:.3f}, "
                f"of our whole command {started:.2f}"
            )
        if self.trouble:
            print(f"    Pacemaker's fencer: {self.trouble}")


@contextlib.contextmanager
def pacemaker(levels: Sequence[Sequence[int]]) -> Iterator[Pacemaker]:
    """Run Pacemaker's fencer with one target, whose levels are devices on these ports; where that fails, without it."""
    with contextlib.ExitStack() as stack:
        try:
            fencer = stack.enter_context(pacemaker_fencer())
            for index, ports in enumerate(levels, 1):
                for port in ports:
                    fencer.register(f"device-{port}", "peer", port)
                fencer.register_level("peer", index, [f"device-{port}" for port in ports])
        except FencerError as error:
            yield Pacemaker(trouble=f"skipped, {error}")
        else:
            yield Pacemaker(fencer)


def fence_pair(sims: Sequence[IpmiSim]) -> float:
    """Off on both, then on on both."""
    return sum(in_parallel(fence, [(sim.port, action) for sim in sims], 2) for action in ("off", "on"))


def tool_pair(sims: Sequence[IpmiSim]) -> float:
    """As :func:`fence_pair`, each command followed by one status read."""
    steps = [("off",), ("status",), ("on",), ("status",)]
    return sum(in_parallel(ipmitool, [(sim.port, "chassis", "power", *step) for sim in sims], 2) for step in steps)


async def round_trips(database: Database) -> None:
    """Count the datagrams of one restart."""
    with simulators(2) as sims, udp_proxy(sims[0].port) as one, udp_proxy(sims[1].port) as other:
        (host,) = stored(database, [settings([one.port, other.port])])
        async with executor(database) as fencer:
            await all_of(Operation.RESTART, [host], fencer)
        await asyncio.sleep(0.3)
        check(sims, ["off", "on"], "on")
        sent, heard = one.requests + other.requests, one.replies + other.replies
        ours = f"{sent} packets sent, {heard} answered"
        print(f"round trips of that restart: {ours}; the protocol's least is {2 * LEAST} (12 a device)")
        for proxy in (one, other):
            proxy.requests = proxy.replies = 0
        for action in ("off", "on"):
            await asyncio.to_thread(in_parallel, fence, [(proxy.port, action) for proxy in (one, other)], 2)
        print(f"    two fence_ipmilan: {one.requests + other.requests} packets")


async def black_hole(database: Database, loops: int) -> None:
    """Stop a host whose primary agent is silent and whose secondary works; everything at its default."""
    with simulators(1) as (sim,), hole() as silent, pacemaker([[silent], [sim.port]]) as other:
        (host,) = stored(database, [settings([silent, sim], concurrent=False)])
        ours, whole = [], []
        for turn in range(loops):
            reset([sim])
            async with executor(database) as fencer:
                _, (report,) = await all_of(Operation.STOP, [host], fencer)
            assert report.outcome is not None
            assert report.outcome.succeeded
            ours.append(report.seconds)
            reset([sim])
            seconds, (found,) = await asyncio.to_thread(command, database, "host", "stop", host.name)
            assert found["succeeded"]
            whole.append(seconds)
            check([sim], ["off"], "off")
            reset([sim])
            if turn < SILENCES and await asyncio.to_thread(other.ask, "off", SILENT):
                check([sim], ["off"], "off")
    print(
        f"black-holed primary, sequential, to confirmed off: {spread(ours, 's')}, whole command {spread(whole, 's')} (goal 3 s)"
    )
    other.compare(f"level 1 black-holed, level 2 good, off, timeout {SILENT} s a device", ours, whole, "s")


@contextlib.contextmanager
def hole() -> Iterator[int]:
    """A port that somebody holds and nobody reads."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
        found.bind(("127.0.0.1", 0))
        yield found.getsockname()[1]


# Many hosts


async def storm(database: Database, count: int, loops: int, peers: int) -> None:
    """Switch all hosts off and confirm it, without and with silent devices."""
    with many_simulators(2 * count) as sims, hole() as silent:
        pairs = [sims[2 * n : 2 * n + 2] for n in range(count)]
        hosts = stored(database, [settings(pair) for pair in pairs])
        rates = [await calm(database, sims, hosts) for _ in range(loops)]
        rate = statistics.median(rates)
        print(
            f"{count} hosts x 2 devices off and confirmed: {rate:.0f} hosts/s ({min(rates):.0f} to {max(rates):.0f}; goal 150)"
        )
        reset(sims)
        seconds, found = await asyncio.to_thread(command, database, "host", "stop", *(host.name for host in hosts))
        assert all(line["succeeded"] for line in found)
        check(sims, ["off"], "off")
        print(f"    the command, whole process: {seconds:.2f} s, {count / seconds:.0f} hosts/s")
        await with_silence(database, sims, hosts, silent, count / rate)
        slow = await asyncio.to_thread(peer_storm, sims, peers)
        print(f"    ours is {rate / slow:.0f} x fence_ipmilan in parallel (goal 10; the peer on a sample of {peers} devices)")


@dataclasses.dataclass(frozen=True)
class Costs:
    """Seconds of processor time spent so far, by whom."""

    ours: float
    workers: float
    postgres: float
    simulators: float
    machine: float

    @classmethod
    def now(cls, database: Database, sims: Sequence[IpmiSim]) -> Costs:
        """Look at all of them."""
        own, *workers = family(os.getpid())
        with database.connect() as conn:
            backend = conn.info.backend_pid
        postmaster = int(Path(f"/proc/{backend}/stat").read_text().rsplit(")", 1)[1].split()[1])
        busy = sum(int(field) for i, field in enumerate(Path("/proc/stat").read_text().split()[1:9]) if i not in {3, 4})
        return cls(
            ran([own]),
            ran(workers),
            ran([postmaster, *children(postmaster)]),
            ran([sim.process.pid for sim in sims]),
            busy / os.sysconf("SC_CLK_TCK"),
        )

    def since(self, before: Costs, hosts: int) -> str:
        """Return what was spent per host, and what two idle processors could do at that price."""
        spent = [new - old for new, old in zip(dataclasses.astuple(self), dataclasses.astuple(before), strict=True)]
        ours, workers, postgres, simulators, machine = spent
        price = (sum(spent) - machine) / hosts
        return (
            f"ms of processor a host: this process {ours / hosts * 1000:.1f}, workers {workers / hosts * 1000:.1f}, "
            f"Postgres {postgres / hosts * 1000:.1f}, simulators {simulators / hosts * 1000:.1f} "
            f"(two idle cores: {2 / price:.0f} hosts/s at most); others took {max(machine / (sum(spent) - machine) - 1, 0):.0%}"
        )


def ran(pids: Sequence[int]) -> float:
    """Return the seconds that these processes have run."""
    total = 0.0
    for pid in pids:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                total += int((task / "schedstat").read_text().split()[0]) / 1e9
    return total


def children(pid: int) -> list[int]:
    """Return the processes that *pid* started."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, task.read_text().split())
    return found


async def calm(database: Database, sims: Sequence[IpmiSim], hosts: Sequence[Host]) -> float:
    """One run with all devices well; return hosts per second."""
    reset(sims)
    async with executor(database) as fencer:
        await fencer.astatus(hosts[0])  # the workers are up, as they are when the command has read its hosts
        before, began = Costs.now(database, sims), time.monotonic()
        at, reports = await all_of(Operation.STOP, hosts, fencer)
        took, after = time.monotonic() - began, Costs.now(database, sims)
    assert all(report.outcome and report.outcome.succeeded for report in reports), "a host failed"
    check(sims, ["off"], "off")
    alone = statistics.median(report.seconds for report in reports)
    print(
        f"    {took:.2f} s, {len(hosts) / took:.0f} hosts/s; the median host {alone:.2f} s, the last {max(at.values()):.2f} s"
    )
    print(f"        {after.since(before, len(hosts))}")
    await asyncio.sleep(0.5)
    return len(hosts) / took


async def with_silence(database: Database, sims: Sequence[IpmiSim], hosts: Sequence[Host], silent: int, base: float) -> None:
    """The same where 5 % of the devices are silent; then once more with a deadline that ends those hosts."""
    lost = max(2 * len(hosts) // 20, 1)
    every = max(len(hosts) // lost, 1)
    broken = {hosts[i].id for i in range(0, len(hosts), every)}
    mixed = [
        dataclasses.replace(host, power_management=settings([silent, sims[2 * i + 1]])) if host.id in broken else host
        for i, host in enumerate(hosts)
    ]
    for deadline in (None, 1.2):
        reset(sims)
        timing = Timing(delay=0.25, retries=5) if deadline else Timing()
        async with executor(database, patience=patience(start=timing, stop=timing)) as fencer:
            await fencer.astatus(hosts[1])
            at, reports = await all_of(Operation.STOP, mixed, fencer, deadline=deadline)
        good = [at[report.host.name] for report in reports if report.host.id not in broken]
        failed = [
            report for report in reports if report.host.id not in broken and not (report.outcome and report.outcome.succeeded)
        ]
        last = max(good)
        if deadline is None:
            print(
                f"with {len(broken)} silent devices (5 %): last good host after {last:.2f} s = {last / base:.2f} x (goal 1.5), "
                f"{len(failed)} of them failed"
            )
        late = [
            report.seconds - (deadline or 0) for report in reports if report.outcome and report.outcome.ended_by == "deadline"
        ]
        if late:
            print(f"    deadline {deadline} s, {len(late)} hosts ended by it: overshoot {spread(late)} (goal 50 ms)")


def peer_storm(sims: Sequence[IpmiSim], peers: int) -> float:
    """Let the peers switch a sample of devices off, all at once and a few at once; return the best hosts per second."""
    few, best = sims[:peers], 0.0
    for at_once in (peers, 8):
        reset(few)
        seconds = in_parallel(fence, [(sim.port, "off") for sim in few], at_once)
        best = max(best, peers / 2 / seconds)
        print(
            f"    fence_ipmilan, {peers} devices, {at_once} at once, power_wait 0: {seconds:.2f} s, "
            f"{peers / 2 / seconds:.1f} hosts/s"
        )
    reset(few)
    seconds = sum(in_parallel(ipmitool, [(sim.port, "chassis", "power", word) for sim in few], 8) for word in ("off", "status"))
    print(f"    ipmitool off and status, 8 at once: {seconds:.2f} s, {peers / 2 / seconds:.1f} hosts/s")
    return best


# Waiting


def private(pids: Sequence[int]) -> float:
    """Return MB of memory that these processes share with nobody."""
    total = 0.0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith(("Private_Clean", "Private_Dirty")):
                    total += int(line.split()[1]) / 1024
    return total


def family(pid: int) -> list[int]:
    """Return *pid* and the processes below it, but for simulators."""
    found = [pid]
    for child in children(pid):
        with contextlib.suppress(OSError):
            if b"ipmi_forker" in Path(f"/proc/{child}/cmdline").read_bytes():
                found += family(child)
    return found


async def waiting(database: Database, hosts: Sequence[Host], driver: Any, name: str, settle: float) -> None:
    """Have hosts wait for an off that does not come; measure ten seconds of it."""
    gc.collect()
    before = private([os.getpid()])
    fencer = executor(database, drivers={"ipmi": driver}, policy=Policy(quiet_time=0, hosts_at_once=len(hosts)))
    task = asyncio.create_task(all_of(Operation.STOP, hosts, fencer))
    await asyncio.sleep(settle)
    own, *workers = family(os.getpid())
    began, seconds = (ran([own]), ran(workers)), 10
    await asyncio.sleep(seconds)
    ended = (ran([own]), ran(workers))
    memory, beside = private([own]) - before, private(workers)
    fencer.end("bench")
    await task
    await fencer.aclose()
    per = 1000 / len(hosts)
    shares = [(new - old) / seconds * 100 * per for new, old in zip(ended, began, strict=True)]
    print(
        f"1,000 hosts that wait, {name}: {shares[0]:.1f} % of a processor and {memory * per:.0f} MB in this process, "
        f"{shares[1]:.1f} % in the workers (measured with {len(hosts)}; its {len(workers)} workers hold {beside:.0f} MB)"
    )


async def waits_simulated(database: Database, count: int) -> None:
    """What waiting costs without any device: off is taken, and an hour passes."""
    hosts = stored(database, [settings([10_000 + 2 * n, 10_001 + 2 * n]) for n in range(count)])
    rack = Rack.serving([agent for host in hosts for agent in host.power_management.agents], settle_off=3600.0)
    await waiting(database, hosts, SimulatedDriver(rack), "simulated driver", 25)


async def waits_ipmi(database: Database, count: int) -> None:
    """What waiting costs on IPMI devices that take ``off`` and stay on."""
    with tempfile.TemporaryDirectory(prefix="pmcompat-bench-") as where, Rig(Path(where)) as rig:
        pairs = [rig.supplies(2) for _ in range(count)]
        for supply in itertools.chain(*pairs):
            supply.misbehave(ignore0="")
        hosts = stored(database, [settings([supply.sim for supply in pair]) for pair in pairs])
        await waiting(database, hosts, IpmiDriver(), "IPMI driver", 40)


async def measure(options: argparse.Namespace, databases: Databases) -> None:
    """Measure what was asked for."""

    def database(hosts: int) -> Database:
        return databases("3.1.0", hosts=hosts, upgraded=True)

    cores = len(os.sched_getaffinity(0))
    print(f"{cores} cores, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}, everything on 127.0.0.1")
    parts = {
        "restart": lambda: restart(database(20), options.loops),
        "round-trips": lambda: round_trips(database(20)),
        "black-hole": lambda: black_hole(database(20), 5),
        "storm": lambda: storm(database(options.hosts), options.hosts, options.storms, options.peers),
    }
    alone = {
        "waiting-simulated": lambda: waits_simulated(database(options.waiting), options.waiting),
        "waiting-ipmi": lambda: waits_ipmi(database(options.waiting), options.waiting),
    }
    for name, part in {**parts, **alone}.items():
        if name in options.only or (not options.only and name in parts):
            await part()
        elif not options.only:  # memory is measured in a process that has done nothing before
            line = [sys.executable, __file__, name, "--waiting", str(options.waiting)]
            await asyncio.to_thread(subprocess.run, line, check=True)


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loops", type=int, default=20, help="restarts of one host")
    parser.add_argument("--hosts", type=int, default=500, help="hosts of the storm, two devices each")
    parser.add_argument("--storms", type=int, default=3, help="storms without silent devices")
    parser.add_argument("--peers", type=int, default=60, help="devices given to the peers")
    parser.add_argument("--waiting", type=int, default=200, help="hosts that wait")
    parser.add_argument("only", nargs="*", help="restart, round-trips, black-hole, storm, waiting-simulated, waiting-ipmi")
    options = parser.parse_args()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # parts that run alone print in between
    if missing := [name for name in ("ipmi_sim", "fence_ipmilan", "ipmitool") if shutil.which(name) is None]:
        print(f"skipped: {', '.join(missing)} not installed (apt-get install openipmi ipmitool fence-agents)")
        return
    gc.set_threshold(COLLECT_AFTER)  # as the command does
    with Server() as server, Databases(Templates(server.cluster)) as databases:
        asyncio.run(measure(options, databases))


if __name__ == "__main__":
    main()
