"""Drivers that break the contract, each in one way: the suite that all drivers pass must fail on every one of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from contract import Bench, DriverContract

from pmcompat.fence.commands import ACCEPTED, Answer
from pmcompat.fence.drivers.simulated import Rack, SimulatedDriver
from pmcompat.model import Action, Agent, AgentFault, FaultKind, Options, PowerStatus, Secret


def agent(address: str, password: str = "pw") -> Agent:
    return Agent(type="apc", address=address, username="admin", password=Secret(password), options=Options("slot=7"))


class SendsTwice(SimulatedDriver):
    async def perform(self, agent: Agent, action: Action, *, deadline: float) -> Answer:
        await super().perform(agent, action, deadline=deadline)
        return await super().perform(agent, action, deadline=deadline)


class ReadsErrorsAsOff(SimulatedDriver):
    async def perform(self, agent: Agent, action: Action, *, deadline: float) -> Answer:
        answer = await super().perform(agent, action, deadline=deadline)
        return PowerStatus.OFF if isinstance(answer, AgentFault) else answer


class Raises(SimulatedDriver):
    async def perform(self, agent: Agent, action: Action, *, deadline: float) -> Answer:
        answer = await super().perform(agent, action, deadline=deadline)
        if isinstance(answer, AgentFault):
            raise OSError(answer.message)
        return answer


class IsLate(SimulatedDriver):
    async def perform(self, agent: Agent, action: Action, *, deadline: float) -> Answer:
        return await super().perform(agent, action, deadline=deadline + 0.5)


class SendsAfterItsDeadline(SimulatedDriver):
    async def perform(self, agent: Agent, action: Action, *, deadline: float) -> Answer:
        return await super().perform(agent, action, deadline=max(deadline, time.monotonic() + 1))


class SendsAlthoughCancelled(SimulatedDriver):
    async def perform(self, agent: Agent, action: Action, *, deadline: float) -> Answer:
        return await asyncio.shield(super().perform(agent, action, deadline=deadline))


class ShowsPasswords(SimulatedDriver):
    async def perform(self, agent: Agent, action: Action, *, deadline: float) -> Answer:
        answer = await super().perform(agent, action, deadline=deadline)
        if isinstance(answer, AgentFault) and answer.kind is FaultKind.REFUSED and agent.password:
            return AgentFault(kind=answer.kind, message=f"{agent.password.reveal()} was refused")
        return answer


class SaysRefusedCommandsWereSent(SimulatedDriver):
    async def perform(self, agent: Agent, action: Action, *, deadline: float) -> Answer:
        answer = await super().perform(agent, action, deadline=deadline)
        return AgentFault(kind=answer.kind, message=answer.message, sent=True) if isinstance(answer, AgentFault) else answer


class AnswersOneAtATime(SimulatedDriver):
    def __init__(self, rack: Rack) -> None:
        super().__init__(rack)
        self._turn = asyncio.Lock()

    async def perform(self, agent: Agent, action: Action, *, deadline: float) -> Answer:
        async with self._turn:
            return await super().perform(agent, action, deadline=deadline)


class BelievesItsOwnCommands(SimulatedDriver):
    said = PowerStatus.ON

    async def perform(self, agent: Agent, action: Action, *, deadline: float) -> Answer:
        if action is Action.STATUS:
            return self.said
        self.said = PowerStatus(action.value)
        return ACCEPTED


class SwitchesOnStatus(SimulatedDriver):
    async def perform(self, agent: Agent, action: Action, *, deadline: float) -> Answer:
        if action is Action.STATUS:
            await super().perform(agent, Action.ON, deadline=deadline)
        return await super().perform(agent, action, deadline=deadline)


def bench(mutant: Callable[[Rack], SimulatedDriver]) -> Bench:
    agents = (agent("pdu1"), agent("pdu2"))
    rack = Rack.serving([*agents, agent("silent")], settle_off=0.02, answer_after=0.001)
    rack.break_device("silent", silent=True)
    return Bench(
        new_driver=lambda: mutant(rack),
        agents=agents,
        power=lambda one: rack.power(one.address or "", "7"),
        commands=lambda one: [entry.action for entry in rack.commands() if entry.address == one.address],
        silent=agent("silent"),
        wrong_password=agent("pdu1", password="wr0ng-password"),
        unreachable=agent("nowhere"),
        settles=0.2,
        patience=1,
    )


@pytest.mark.parametrize(
    ("mutant", "promise"),
    [
        (SendsTwice, "test_on_and_off_are_accepted_and_executed_once_each"),
        (ReadsErrorsAsOff, "test_an_address_that_cannot_be_reached_is_a_device_that_does_not_answer"),
        (Raises, "test_an_address_that_cannot_be_reached_is_a_device_that_does_not_answer"),
        (SendsAfterItsDeadline, "test_a_deadline_that_has_passed_sends_nothing"),
        (SendsAlthoughCancelled, "test_a_command_cancelled_before_it_ran_is_never_sent"),
        (ShowsPasswords, "test_a_wrong_password_is_refused_and_never_shown"),
        (SaysRefusedCommandsWereSent, "test_a_wrong_password_is_refused_and_never_shown"),
        (AnswersOneAtATime, "test_a_silent_device_does_not_delay_another"),
        (BelievesItsOwnCommands, "test_status_says_what_the_device_is"),
        (SwitchesOnStatus, "test_status_changes_nothing"),
    ],
)
def test_a_driver_that_breaks_a_promise_is_caught(mutant: type[SimulatedDriver], promise: str):
    with pytest.raises((AssertionError, OSError)):
        getattr(DriverContract(), promise)(bench(mutant))


def test_a_driver_that_is_late_is_caught():
    with pytest.raises(AssertionError):
        DriverContract().test_a_silent_device_is_answered_for_before_the_deadline(bench(IsLate), Action.STATUS)


def test_the_driver_the_mutants_are_made_of_breaks_none():
    DriverContract().test_on_and_off_are_accepted_and_executed_once_each(bench(SimulatedDriver))
