"""The IPMI driver beside its peers, in one run, on Debian's ipmi_sim: ``python tests/bench/bench_ipmi.py [--hosts 500]``.

Measured: a dual-supply restart (round trips of one host), many hosts off and confirmed with and without silent devices, a black
hole, overshoot of deadlines, idle cost. The peers are ``fence_ipmilan`` (its processes in parallel) and ``ipmitool``. Every
simulator logs what it executed; a run in which a device was told twice, or a power state is wrong, is not a result.

The steps of a host are those of the flow without its policy: look, off, read until off, read again once all are off.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from peers.ipmi_sim import IpmiSim, ipmi_sims

from pmcompat.fence.drivers.ipmi import IpmiDriver
from pmcompat.model import Action, Agent, AgentFault, Options, PowerStatus, Secret

# The simulator starts its power program for every status read and every command, through a shell: that would cost more than all
# clients together. Loaded into it, this answers in its place. Power and log stay where they are.
_SWITCH = r"""
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
FILE *popen(const char *command, const char *mode) {
    static char path[4096], name[4096], answer[32], c = '0', value = '0';
    const char *words = strstr(command, "/switch");
    if (!words) return NULL;
    while (*command == '"' || *command == ' ') command++;
    snprintf(path, sizeof path, "%.*s/power", (int)(words - command), command);
    snprintf(name, sizeof name, "%.*s/log", (int)(words - command), command);
    strcpy(answer, "\n");
    if (strstr(words, " get ")) {
        int f = open(path, O_RDONLY);
        if (read(f, &c, 1) != 1) c = '0';
        close(f);
        snprintf(answer, sizeof answer, "power:%c\n", c);
    } else {
        struct timespec now;
        const char *digit = strpbrk(strstr(words, "power"), "01");
        value = digit ? *digit : '?';
        int f = open(path, O_WRONLY | O_TRUNC);
        dprintf(f, "%c\n", value);
        close(f);
        clock_gettime(CLOCK_REALTIME, &now);
        f = open(name, O_WRONLY | O_APPEND | O_CREAT, 0644);
        dprintf(f, "%ld.%09ld %c\n", (long)now.tv_sec, now.tv_nsec, value);
        close(f);
    }
    return fmemopen(answer, strlen(answer), "r");
}
int pclose(FILE *stream) { fclose(stream); return 0; }
"""


def agent_of(port: int) -> Agent:
    return Agent(
        type="ipmilan",
        address="127.0.0.1",
        username="admin",
        password=Secret("pw"),
        ip_port=port,
        options=Options("cipher=3,lanplus"),
    )


@contextlib.contextmanager
def simulators(count: int) -> Iterator[list[IpmiSim]]:
    """Run ipmi_sim, with a fast power switch where there is a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    with tempfile.TemporaryDirectory(prefix="pmcompat-bench-") as where:
        source, library = Path(where) / "switch.c", Path(where) / "switch.so"
        if compiler:
            source.write_text(_SWITCH)
            subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-w", "-o", library, source], check=True)
        with ipmi_sims(count, preload=str(library) if compiler else "") as sims:
            yield sims


def reset(sims: Sequence[IpmiSim]) -> None:
    for sim in sims:
        sim.switch("on")
        (sim.where / "log").unlink(missing_ok=True)


def check(sims: Sequence[IpmiSim], commands: list[str], power: str) -> None:
    wrong = [sim.port for sim in sims if sim.commands() != commands or sim.power() != power]
    if wrong:
        print(f"    NOT A RESULT: {len(wrong)} of {len(sims)} devices were told otherwise than {commands}")


# Ours


async def status(driver: IpmiDriver, agent: Agent, budget: float) -> PowerStatus | AgentFault:
    answer = await driver.perform(agent, Action.STATUS, deadline=time.monotonic() + budget)
    assert isinstance(answer, PowerStatus | AgentFault)
    return answer


async def reached(driver: IpmiDriver, agents: Sequence[Agent], action: Action, wanted: PowerStatus, budget: float) -> bool:
    """Look, act, read until every agent is there, and read every agent again."""

    async def one(agent: Agent) -> bool:
        answer = await driver.perform(agent, action, deadline=time.monotonic() + budget)
        if isinstance(answer, AgentFault):
            return False
        pause, give_up = 0.03, time.monotonic() + budget
        while (read := await status(driver, agent, budget)) != wanted:
            if isinstance(read, AgentFault) or time.monotonic() > give_up:
                return False
            await asyncio.sleep(pause)
            pause *= 2
        return True

    looked = await asyncio.gather(*(status(driver, agent, budget) for agent in agents))
    if any(isinstance(answer, AgentFault) for answer in looked):
        return False
    if not all(await asyncio.gather(*map(one, agents))):
        return False
    return all(read == wanted for read in await asyncio.gather(*(status(driver, agent, budget) for agent in agents)))


async def many(driver: IpmiDriver, hosts: Sequence[Sequence[Agent]], budget: float = 60.0) -> tuple[list[float], int]:
    """Switch all hosts off at once; return the seconds each good one took, and how many failed."""
    started = time.monotonic()

    async def one(agents: Sequence[Agent]) -> float | None:
        done = await reached(driver, agents, Action.OFF, PowerStatus.OFF, budget)
        return time.monotonic() - started if done else None

    took = await asyncio.gather(*map(one, hosts))
    good = sorted(seconds for seconds in took if seconds is not None)
    return good, len(took) - len(good)


# Peers


def fence(port: int, action: str) -> bool:
    text = f"ip=127.0.0.1\nipport={port}\nusername=admin\npassword=pw\nlanplus=1\ncipher=3\npower_wait=0\naction={action}\n"
    return subprocess.run(["fence_ipmilan"], input=text, text=True, capture_output=True, check=False).returncode in {0, 2}


def ipmitool(port: int, *command: str) -> str:
    line = ["ipmitool", "-I", "lanplus", "-C", "3", "-H", "127.0.0.1", "-p", str(port), "-U", "admin", "-E", *command]
    environment = {**os.environ, "IPMI_PASSWORD": "pw"}
    return subprocess.run(line, text=True, capture_output=True, check=False, env=environment).stdout


def in_parallel(function: object, arguments: Sequence[tuple[object, ...]], at_once: int) -> float:
    assert callable(function)
    started = time.monotonic()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(lambda given: function(*given), arguments))
    return time.monotonic() - started


# Measures


def measure(loops: int, hosts: int, peers: int) -> None:
    asyncio.run(restart(loops))
    asyncio.run(storm(hosts, peers))
    asyncio.run(black_hole())


async def restart(loops: int) -> None:
    with simulators(2) as sims:
        agents = [agent_of(sim.port) for sim in sims]
        driver = IpmiDriver()
        started = time.monotonic()
        await status(driver, agents[0], 5)
        first = time.monotonic() - started
        ours, theirs = [], []
        for _ in range(loops):
            reset(sims)
            started = time.monotonic()
            assert await reached(driver, agents, Action.OFF, PowerStatus.OFF, 5)
            assert await reached(driver, agents, Action.ON, PowerStatus.ON, 5)
            ours.append(time.monotonic() - started)
            check(sims, ["off", "on"], "on")
            started = time.monotonic()
            for action in ("off", "on"):
                await asyncio.to_thread(in_parallel, fence, [(sim.port, action) for sim in sims], 2)
            theirs.append(time.monotonic() - started)
            await asyncio.sleep(0.2)
        await driver.close()
    ratio = statistics.median(ours) / statistics.median(theirs)
    print(f"dual restart, instant devices: {_p(ours)}; fence_ipmilan pair {_p(theirs)}; ratio {ratio:.3f} (goal 0.25)")
    print(f"    the first command of a process: {first * 1000:.0f} ms, most of it the start of the workers")


def _p(seconds: Sequence[float]) -> str:
    ordered = sorted(seconds)
    return f"p50 {statistics.median(ordered) * 1000:.1f} ms p95 {ordered[int(0.95 * (len(ordered) - 1))] * 1000:.1f} ms"


async def storm(hosts: int, peers: int) -> None:
    with simulators(2 * hosts) as sims, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hole:
        hole.bind(("127.0.0.1", 0))
        pairs = [(agent_of(sims[2 * n].port), agent_of(sims[2 * n + 1].port)) for n in range(hosts)]
        driver = IpmiDriver()
        await status(driver, pairs[0][0], 5)
        rates = []
        for _ in range(3):
            reset(sims)
            cpu = os.times()
            started = time.monotonic()
            good, failed = await many(driver, pairs)
            took = time.monotonic() - started
            used = os.times()
            assert not failed, f"{failed} hosts failed"
            check(sims, ["off"], "off")
            rates.append(hosts / took)
            own = (used.user + used.system - cpu.user - cpu.system) / hosts / 2 * 1000
            print(f"{hosts} hosts x 2 off and confirmed: {took:.2f} s, {hosts / took:.0f} hosts/s (goal 150)")
            print(f"    a host: {_p(good)}; an agent costs this process {own:.2f} ms")
            await asyncio.sleep(0.5)
        reset(sims)
        lost = max(hosts // 20, 1)
        dead = [(agent_of(hole.getsockname()[1]), agent_of(sims[2 * n].port)) for n in range(lost)]
        good, failed = await many(driver, [*dead, *pairs[lost:]])
        base = hosts / statistics.median(rates)
        print(f"the same with 5 % silent: last good host after {good[-1]:.2f} s = {good[-1] / base:.2f} x (goal 1.5)")
        print(f"    {failed} hosts failed, those with the {lost} silent devices")
        waiting = _memory()
        print(f"workers: {waiting[0]} processes, {waiting[1]:.0f} MB of their own; this process {_rss():.0f} MB")
        cpu = os.times()
        await asyncio.sleep(2)
        used = os.times()
        print(f"idle: {(used.user + used.system - cpu.user - cpu.system) / 2 * 100:.2f} % of a processor in this process")
        await driver.close()
        few = sims[: 2 * peers]
        reset(few)
        seconds = await asyncio.to_thread(in_parallel, fence, [(sim.port, "off") for sim in few], len(few))
        slow = peers / seconds
        print(f"fence_ipmilan, {peers} x 2 at once, power_wait 0: {seconds:.2f} s, {peers / seconds:.1f} hosts/s")
        reset(few)
        seconds = await asyncio.to_thread(in_parallel, _off_and_read, [(sim.port,) for sim in few], 8)
        print(f"ipmitool off + status, {peers} x 2, 8 at once: {seconds:.2f} s, {peers / seconds:.1f} hosts/s")
        ours = statistics.median(rates)
        print(f"ours: {ours / slow:.0f} x fence_ipmilan (goal 10), {ours / (peers / seconds):.0f} x ipmitool")


def _off_and_read(port: int) -> None:
    ipmitool(port, "chassis", "power", "off")
    ipmitool(port, "chassis", "power", "status")


def _memory() -> tuple[int, float]:
    """Return the number of worker processes and the memory they share with nobody, in MB."""
    count, private = 0, 0
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"ipmi_forker" not in (entry / "cmdline").read_bytes():
                continue
            count += 1
            for line in (entry / "smaps_rollup").read_text().splitlines():
                if line.startswith(("Private_Clean", "Private_Dirty")):
                    private += int(line.split()[1])
    return count, private / 1024


def _rss() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def black_hole() -> None:
    with simulators(1) as (sim,), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hole:
        hole.bind(("127.0.0.1", 0))
        driver = IpmiDriver()
        driver.start()
        started = time.monotonic()
        await status(driver, agent_of(hole.getsockname()[1]), 30)
        print(f"silent port known after {time.monotonic() - started:.2f} s (pyghmi 4.4 to 29 s, fence_ipmilan 20 s)")
        await status(driver, agent_of(sim.port), 5)
        sim.freeze()
        late = []
        for budget in (0.05, 0.1, 0.2, 0.5, 0.9):
            deadline = time.monotonic() + budget
            await driver.perform(agent_of(sim.port), Action.OFF, deadline=deadline)
            late.append(time.monotonic() - deadline)
        print(f"overshoot of deadlines at a frozen device: {max(late) * 1000:.0f} ms at most (goal 50)")
        sim.thaw()
        await driver.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loops", type=int, default=20, help="restarts of one host")
    parser.add_argument("--hosts", type=int, default=100, help="hosts of the storm, two devices each")
    parser.add_argument("--peers", type=int, default=20, help="hosts given to the peers")
    options = parser.parse_args()
    measure(options.loops, options.hosts, options.peers)
