"""What the tests of the IPMI driver share: steps, fixtures, and a look at its processes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from contract import children

from pmcompat.fence.commands import Answer
from pmcompat.fence.drivers.ipmi import IpmiDriver, IpmiSettings
from pmcompat.model import Action, Agent, AgentFault

T = TypeVar("T")
OVERSHOOT = 0.15  # the goal is 0.05, the rest is the noise of a machine that runs other tests


def use(steps: Callable[[IpmiDriver], Awaitable[T]], settings: IpmiSettings | None = None) -> T:
    async def run() -> T:
        driver = IpmiDriver(settings)
        try:
            return await steps(driver)
        finally:
            await driver.close()

    return asyncio.run(run())


async def ask(driver: IpmiDriver, agent: Agent, action: Action, within: float = 10.0) -> Answer:
    return await driver.perform(agent, action, deadline=time.monotonic() + within)


def fault(answer: Answer) -> AgentFault:
    assert isinstance(answer, AgentFault), answer
    return answer


def processes() -> dict[int, str]:
    """Return the worker processes below this one, by pid, with what they are."""
    found = {}
    for pid in children():
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if "ipmi_forker" in line:
            found[pid] = line
    return found


def workers() -> list[int]:
    """Return the workers: processes below the forker."""
    ours = processes()
    return [pid for pid in ours if int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1]) in ours]


def forker() -> int:
    return next(iter(set(processes()) - set(workers())))
