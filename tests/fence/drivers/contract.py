"""The contract every driver keeps, as one suite. A driver's own test file subclasses it and says on what bench it runs.

::

    from contract import Bench, DriverContract

    class TestOnIpmiSim(DriverContract):
        @pytest.fixture
        def bench(self):
            with ipmi_sims(2) as sims:
                yield Bench(new_driver=IpmiDriver, agents=…, power=…, commands=…, …)

Nothing here knows a protocol. Ground truth comes from the device, never from the driver.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import pytest

from pmcompat.errors import CredentialError
from pmcompat.fence.commands import ACCEPTED, Answer
from pmcompat.fence.drivers import Driver
from pmcompat.model import Action, Agent, AgentFault, FaultKind, PowerStatus, Secret

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A driver and devices it can reach, with the truth about them."""

    #: makes a fresh driver; called inside the event loop it is used in, closed by the suite
    new_driver: Callable[[], Driver]
    #: two agents of two healthy devices, both on
    agents: tuple[Agent, Agent]
    #: what the device behind an agent really is
    power: Callable[[Agent], PowerStatus]
    #: the ``on`` and ``off`` commands the device behind an agent executed, in order
    commands: Callable[[Agent], list[Action]]
    #: an agent whose device never answers; None: the driver cannot meet one
    silent: Agent | None = None
    #: an agent of the first device with a wrong password; None: the devices know no passwords
    wrong_password: Agent | None = None
    #: an agent whose address is nothing that could be reached; None: the driver knows no addresses
    unreachable: Agent | None = None
    #: the driver can tell a device that was lost before it obeyed from one that was lost after: a foreign program cannot
    knows_what_left: bool = True
    #: the most seconds a device takes to reach the state it accepted
    settles: float = 2.0
    #: seconds one command may take on a busy machine
    patience: float = 10.0
    #: seconds by which an answer may be later than the deadline; the goal is 0.05, the rest is this machine's noise
    overshoot: float = 0.15


def use(bench: Bench, steps: Callable[[Driver], Awaitable[T]]) -> T:
    """Run *steps* with a fresh driver in a fresh event loop, and close it."""

    async def run() -> T:
        driver = bench.new_driver()
        try:
            return await steps(driver)
        finally:
            await driver.close()

    return asyncio.run(run())


async def ask(bench: Bench, driver: Driver, agent: Agent, action: Action) -> Answer:
    return await driver.perform(agent, action, deadline=time.monotonic() + bench.patience)


async def settled(bench: Bench, driver: Driver, agent: Agent, wanted: PowerStatus) -> PowerStatus:
    """Poll until the agent reads *wanted* or its device had time enough; return the last status read."""
    give_up = time.monotonic() + bench.settles + bench.patience
    while (answer := await ask(bench, driver, agent, Action.STATUS)) != wanted and time.monotonic() < give_up:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    assert isinstance(answer, PowerStatus), answer
    return answer


def fault(answer: Answer) -> AgentFault:
    assert isinstance(answer, AgentFault), answer
    assert answer.message, "a fault says what happened"
    assert "\n" not in answer.message, "in one line"
    return answer


def needed(agent: Agent | None, what: str) -> Agent:
    assert agent is not None, f"this bench has no {what}: set the test to None in its class, with the reason"
    return agent


def children() -> set[int]:
    """Return the processes below this one, zombies left out."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:2]
        except OSError:
            continue
        if state != "Z":
            parents[int(entry.name)] = int(parent)
    found: set[int] = set()
    todo = {os.getpid()}
    while todo:
        todo = {pid for pid, parent in parents.items() if parent in todo} - found
        found |= todo
    return found


class DriverContract:
    """Inherit it, give the fixture ``bench``, and the driver keeps its promises or fails by name.

    A promise that cannot be put to the test on a bench is set to None in its class, where the reason is said.
    """

    @pytest.fixture
    def bench(self) -> Bench:
        raise NotImplementedError

    def test_status_says_what_the_device_is(self, bench: Bench) -> None:
        async def steps(driver: Driver) -> list[Answer]:
            agent = bench.agents[0]
            read = [await ask(bench, driver, agent, Action.STATUS)]
            await ask(bench, driver, agent, Action.OFF)
            read.append(await settled(bench, driver, agent, PowerStatus.OFF))
            assert bench.power(agent) is PowerStatus.OFF
            await ask(bench, driver, agent, Action.ON)
            read.append(await settled(bench, driver, agent, PowerStatus.ON))
            assert bench.power(agent) is PowerStatus.ON
            return read

        assert use(bench, steps) == [PowerStatus.ON, PowerStatus.OFF, PowerStatus.ON]

    def test_on_and_off_are_accepted_and_executed_once_each(self, bench: Bench) -> None:
        async def steps(driver: Driver) -> None:
            for action, wanted in ((Action.OFF, PowerStatus.OFF), (Action.ON, PowerStatus.ON)):
                assert await ask(bench, driver, bench.agents[0], action) == ACCEPTED
                await settled(bench, driver, bench.agents[0], wanted)

        use(bench, steps)
        assert bench.commands(bench.agents[0]) == [Action.OFF, Action.ON]
        assert bench.commands(bench.agents[1]) == []

    def test_off_of_a_device_that_is_off_is_no_failure(self, bench: Bench) -> None:
        async def steps(driver: Driver) -> Answer:
            await ask(bench, driver, bench.agents[0], Action.OFF)
            await settled(bench, driver, bench.agents[0], PowerStatus.OFF)
            return await ask(bench, driver, bench.agents[0], Action.OFF)

        assert use(bench, steps) == ACCEPTED
        assert bench.power(bench.agents[0]) is PowerStatus.OFF

    def test_status_changes_nothing(self, bench: Bench) -> None:
        async def steps(driver: Driver) -> list[Answer]:
            return [await ask(bench, driver, agent, Action.STATUS) for agent in bench.agents * 3]

        assert use(bench, steps) == [PowerStatus.ON] * 6
        assert [bench.commands(agent) for agent in bench.agents] == [[], []]

    def test_two_devices_act_at_the_same_time_and_each_on_its_own_orders(self, bench: Bench) -> None:
        first, second = bench.agents

        async def steps(driver: Driver) -> list[Answer]:
            await asyncio.gather(*(ask(bench, driver, agent, Action.OFF) for agent in bench.agents))
            await asyncio.gather(*(settled(bench, driver, agent, PowerStatus.OFF) for agent in bench.agents))
            await ask(bench, driver, second, Action.ON)
            await settled(bench, driver, second, PowerStatus.ON)
            return [await ask(bench, driver, agent, Action.STATUS) for agent in bench.agents]

        assert use(bench, steps) == [PowerStatus.OFF, PowerStatus.ON]
        assert bench.commands(first) == [Action.OFF]
        assert bench.commands(second) == [Action.OFF, Action.ON]

    def test_many_questions_at_once_are_all_answered(self, bench: Bench) -> None:
        async def steps(driver: Driver) -> list[Answer]:
            return await asyncio.gather(*(ask(bench, driver, agent, Action.STATUS) for agent in bench.agents * 4))

        assert use(bench, steps) == [PowerStatus.ON] * 8

    def test_a_deadline_that_has_passed_sends_nothing(self, bench: Bench) -> None:
        async def steps(driver: Driver) -> Answer:
            return await driver.perform(bench.agents[0], Action.OFF, deadline=time.monotonic() - 1)

        answer = fault(use(bench, steps))
        assert (answer.kind, answer.sent) == (FaultKind.TIMEOUT, False)
        assert bench.commands(bench.agents[0]) == []
        assert bench.power(bench.agents[0]) is PowerStatus.ON

    @pytest.mark.parametrize("action", [Action.STATUS, Action.OFF])
    def test_a_silent_device_is_answered_for_before_the_deadline(self, bench: Bench, action: Action) -> None:
        silent = needed(bench.silent, "silent device")

        async def steps(driver: Driver) -> tuple[Answer, float]:
            await ask(bench, driver, bench.agents[0], Action.STATUS)  # what starts with the first question is up
            deadline = time.monotonic() + 0.7
            answer = await driver.perform(silent, action, deadline=deadline)
            return answer, time.monotonic() - deadline

        answer, late = use(bench, steps)
        assert fault(answer).kind in {FaultKind.UNREACHABLE, FaultKind.TIMEOUT}
        assert late <= bench.overshoot

    def test_a_silent_device_does_not_delay_another(self, bench: Bench) -> None:
        silent = needed(bench.silent, "silent device")

        async def steps(driver: Driver) -> tuple[bool, Answer]:
            await ask(bench, driver, bench.agents[0], Action.STATUS)
            waiting = asyncio.create_task(driver.perform(silent, Action.STATUS, deadline=time.monotonic() + 3))
            await asyncio.sleep(0)
            good = await asyncio.gather(*(ask(bench, driver, agent, Action.STATUS) for agent in bench.agents))
            assert good == [PowerStatus.ON, PowerStatus.ON]
            done = waiting.done()
            return done, await waiting

        done, answer = use(bench, steps)
        assert not done, "the good ones were answered first"
        fault(answer)

    def test_a_wrong_password_is_refused_and_never_shown(self, bench: Bench) -> None:
        wrong = needed(bench.wrong_password, "password")
        assert wrong.password is not None

        async def steps(driver: Driver) -> tuple[Answer, str]:
            return await ask(bench, driver, wrong, Action.OFF), repr(driver)

        answer, shown = use(bench, steps)
        assert fault(answer).kind is FaultKind.REFUSED
        assert not fault(answer).sent, "what was refused at the door has not acted"
        assert wrong.password.reveal() not in repr(answer) + shown
        assert bench.commands(bench.agents[0]) == []

    def test_a_password_that_cannot_be_decrypted_is_refused_and_nothing_is_sent(self, bench: Bench) -> None:
        """Field failure L-16: what looks encrypted is never sent to a device."""

        class Undecryptable(Secret):
            def reveal(self) -> str:
                raise CredentialError("a stored password cannot be decrypted")

        locked = replace(bench.agents[0], password=Undecryptable("gAAAA"))

        async def steps(driver: Driver) -> list[Answer]:
            return [await ask(bench, driver, locked, action) for action in (Action.STATUS, Action.OFF)]

        for answer in use(bench, steps):
            found = fault(answer)
            assert (found.kind, found.sent) == (FaultKind.REFUSED, False)
            assert "decrypted" in found.message
        assert bench.commands(bench.agents[0]) == []

    def test_an_address_that_cannot_be_reached_is_a_device_that_does_not_answer(self, bench: Bench) -> None:
        unreachable = needed(bench.unreachable, "address")

        async def steps(driver: Driver) -> Answer:
            return await ask(bench, driver, unreachable, Action.ON)

        answer = fault(use(bench, steps))
        assert answer.kind is FaultKind.UNREACHABLE
        assert answer.sent is not bench.knows_what_left, "nothing was sent, as far as that can be known"

    def test_a_device_is_well_after_a_bad_one_was_asked(self, bench: Bench) -> None:
        bad = [agent for agent in (bench.wrong_password, bench.unreachable, bench.silent) if agent is not None]

        async def steps(driver: Driver) -> Answer:
            for agent in bad:
                fault(await driver.perform(agent, Action.STATUS, deadline=time.monotonic() + 2))
            return await ask(bench, driver, bench.agents[0], Action.STATUS)

        assert use(bench, steps) == PowerStatus.ON

    def test_a_command_cancelled_before_it_ran_is_never_sent(self, bench: Bench) -> None:
        async def steps(driver: Driver) -> None:
            task = asyncio.create_task(ask(bench, driver, bench.agents[0], Action.OFF))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0.3)

        use(bench, steps)
        assert bench.commands(bench.agents[0]) == []

    def test_closing_twice_is_the_same_as_once_and_leaves_no_process(self, bench: Bench) -> None:
        before = children()

        async def steps(driver: Driver) -> None:
            await ask(bench, driver, bench.agents[0], Action.STATUS)
            await driver.close()

        use(bench, steps)
        give_up = time.monotonic() + 3
        while (left := children() - before) and time.monotonic() < give_up:
            time.sleep(0.02)
        assert left == set()
