"""The IPMI driver when its own processes hang or die, and what they leave behind."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from ipmi_steps import OVERSHOOT, ask, fault, forker, processes, use, workers
from peers.udp_proxy import UdpProxy
from test_ipmi import agent_of

import pmcompat
from pmcompat.fence.commands import ACCEPTED, Answer
from pmcompat.fence.drivers.ipmi import IpmiDriver, IpmiSettings
from pmcompat.model import Action, AgentFault, FaultKind, PowerStatus, Secret
from pmcompat.testing.bmc import Bmc

# Its own processes


def test_a_deadline_is_kept_although_the_worker_hangs(bmc: Bmc) -> None:
    agent = agent_of(bmc.port)

    async def steps(driver: IpmiDriver) -> list[float]:
        late = []
        for action in (Action.STATUS, Action.OFF, Action.STATUS):
            assert await ask(driver, agent, Action.STATUS) == PowerStatus.ON
            for pid in workers():
                os.kill(pid, signal.SIGSTOP)
            deadline = time.monotonic() + 0.3
            answer = fault(await driver.perform(agent, action, deadline=deadline))
            late.append(time.monotonic() - deadline)
            assert (answer.kind, answer.sent) == (FaultKind.TIMEOUT, False)
            for pid in workers():
                os.kill(pid, signal.SIGCONT)
            await asyncio.sleep(0.3)
        return late

    assert max(use(steps)) < OVERSHOOT
    assert bmc.commands() == []


def test_who_waits_for_a_worker_until_the_deadline_is_told_that_it_was_our_queue(bmc: Bmc) -> None:
    """Nothing was asked of the device: an executor that took this for its silence would put it behind others."""
    agent = agent_of(bmc.port)
    hung = agent_of(bmc.port)

    async def steps(driver: IpmiDriver) -> tuple[Answer, Answer]:
        assert await ask(driver, agent, Action.STATUS) == PowerStatus.ON
        for pid in workers():
            os.kill(pid, signal.SIGSTOP)
        first = asyncio.create_task(driver.perform(hung, Action.STATUS, deadline=time.monotonic() + 1.0))
        await asyncio.sleep(0.05)
        second = await driver.perform(agent, Action.OFF, deadline=time.monotonic() + 0.3)
        return await first, second

    first, second = use(steps, IpmiSettings(min_workers=1, max_workers=1, sessions_per_bmc=2))
    assert (fault(first).kind, fault(second).kind, fault(second).sent) == (FaultKind.TIMEOUT, FaultKind.BUSY, False)
    assert bmc.commands() == []


def test_a_worker_killed_before_the_command_left_is_replaced_and_the_command_done(bmc: Bmc) -> None:
    agent = agent_of(bmc.port)

    async def steps(driver: IpmiDriver) -> Answer:
        assert await ask(driver, agent, Action.STATUS) == PowerStatus.ON
        for pid in workers():
            os.kill(pid, signal.SIGSTOP)
        asking = asyncio.create_task(ask(driver, agent, Action.OFF))
        await asyncio.sleep(0.05)
        for pid in workers():
            os.kill(pid, signal.SIGKILL)
        return await asking

    assert use(steps) == ACCEPTED
    assert bmc.commands() == ["off"]


def test_a_worker_killed_after_the_command_left_leaves_it_unknown(bmc: Bmc, proxied: UdpProxy) -> None:
    agent = agent_of(proxied.port)

    async def steps(driver: IpmiDriver) -> tuple[AgentFault, Answer]:
        assert await ask(driver, agent, Action.STATUS) == PowerStatus.ON
        proxied.weather.lose_replies = 100
        asking = asyncio.create_task(ask(driver, agent, Action.OFF))
        await asyncio.sleep(0.2)
        for pid in workers():
            os.kill(pid, signal.SIGKILL)
        answer = fault(await asking)
        proxied.weather.lose_replies = 0
        return answer, await ask(driver, agent, Action.STATUS)

    answer, status = use(steps)
    assert answer.sent, "it may have acted"
    assert status == PowerStatus.OFF, "a status read in a new session tells"
    assert bmc.commands() == ["off"]


def test_a_forker_killed_is_replaced(bmc: Bmc) -> None:
    async def steps(driver: IpmiDriver) -> Answer:
        assert await ask(driver, agent_of(bmc.port), Action.STATUS) == PowerStatus.ON
        os.kill(forker(), signal.SIGKILL)
        await asyncio.sleep(0.1)
        return await ask(driver, agent_of(bmc.port), Action.STATUS)

    assert use(steps) == PowerStatus.ON
    assert processes() == {}


def test_a_cancelled_command_that_is_under_way_is_not_sent_later(bmc: Bmc, proxied: UdpProxy) -> None:
    proxied.weather.delay, proxied.weather.delay_by = 1.0, 0.1  # a login takes more than a second
    agent = agent_of(proxied.port)

    async def steps(driver: IpmiDriver) -> None:
        asking = asyncio.create_task(ask(driver, agent, Action.OFF))
        await asyncio.sleep(0.6)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.sleep(2)

    use(steps)
    assert bmc.commands() == []


def test_no_secret_in_any_command_line_or_environment_of_a_child(bmc: Bmc, tmp_path: Path) -> None:
    secret = "s3cr3t-0f-a-bmc"
    bmc.add_user("keeper", secret, "admin")
    agent = replace(agent_of(bmc.port), username="keeper", password=Secret(secret))

    def look_at(pid: int) -> None:
        for part in ("cmdline", "environ"):
            assert secret.encode() not in Path(f"/proc/{pid}/{part}").read_bytes()
        assert b"PMCOMPAT" not in Path(f"/proc/{pid}/environ").read_bytes()
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert next(line for line in limits.splitlines() if "core file" in line).split()[4:6] == ["0", "0"]

    async def steps(driver: IpmiDriver) -> None:
        assert await ask(driver, agent, Action.STATUS) == PowerStatus.ON
        assert len(workers()) >= 1
        for pid in processes():
            look_at(pid)

    os.environ["PMCOMPAT_DSN"] = f"postgresql://u:{secret}@nowhere/x"
    try:
        use(steps)
    finally:
        del os.environ["PMCOMPAT_DSN"]


_VICTIM = """
import asyncio, sys, time
from pmcompat.fence.drivers.ipmi import IpmiDriver, IpmiSettings
from pmcompat.model import Action, Agent, Options, Secret

async def main():
    driver = IpmiDriver()
    agent = Agent(type="ipmilan", address="127.0.0.1", username="admin", password=Secret("pw"), ip_port=int(sys.argv[1]),
                  options=Options("cipher=3"))
    while True:
        await driver.perform(agent, Action.STATUS, deadline=time.monotonic() + 5)
        print("asked", flush=True)

asyncio.run(main())
"""


def test_a_program_killed_outright_leaves_no_process(bmc: Bmc) -> None:
    victim = subprocess.Popen([sys.executable, "-c", _VICTIM, str(bmc.port)], stdout=subprocess.PIPE)
    assert victim.stdout is not None
    with victim.stdout:
        assert victim.stdout.readline() == b"asked\n"
        left = set(processes())
        assert len(left) > 1
        victim.kill()
        victim.wait()
        give_up = time.monotonic() + 3
        while any(Path(f"/proc/{pid}/cmdline").exists() and _alive(pid) for pid in left) and time.monotonic() < give_up:
            time.sleep(0.02)
    assert [pid for pid in left if _alive(pid)] == []


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in {"Z", "X"}
    except OSError:
        return False


def test_ctrl_c_at_the_terminal_does_not_reach_the_workers(bmc: Bmc) -> None:
    """Law F8: an `on` that is owed must still leave after Ctrl-C, which the terminal sends to the whole process group."""

    async def steps(driver: IpmiDriver) -> Answer:
        assert await ask(driver, agent_of(bmc.port), Action.STATUS) == PowerStatus.ON
        for pid in processes():
            assert os.getsid(pid) != os.getsid(0)
            os.kill(pid, signal.SIGINT)
            os.kill(pid, signal.SIGTERM)
        return await ask(driver, agent_of(bmc.port), Action.STATUS)

    assert use(steps) == PowerStatus.ON


@pytest.mark.parametrize("name", ["PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE"])
def test_workers_leave_no_byte_code_where_their_driver_leaves_none(tmp_path: Path, name: str) -> None:
    """`make demo` left byte code in the checkout: what says where it goes was scrubbed with the rest of the environment."""
    package = tmp_path / "pmcompat"
    shutil.copytree(Path(pmcompat.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__", "_data"))
    text = (
        "import asyncio, time\n"
        "from pmcompat.fence.drivers.ipmi import IpmiDriver\n"
        "from pmcompat.model import Action, Agent\n"
        "async def steps():\n"
        "    driver = IpmiDriver()\n"
        "    agent = Agent(type='ipmilan', address='no-such-host.invalid')\n"
        "    print((await driver.perform(agent, Action.STATUS, deadline=time.monotonic() + 8)).kind.value)\n"
        "    await driver.close()\n"
        "asyncio.run(steps())\n"
    )
    known = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, "-c", text],
        env={**known, "PYTHONPATH": str(tmp_path), name: str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=60,
    )
    assert done.stdout.strip() == "unreachable", done.stderr
    assert list(package.rglob("__pycache__")) == []
