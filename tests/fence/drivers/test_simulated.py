"""The simulated rack keeps the contract of real devices, and every fault it offers is what it says."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from contract import Bench, DriverContract

from pmcompat.errors import ConfigurationError
from pmcompat.fence.commands import ACCEPTED, Answer
from pmcompat.fence.drivers.registry import default_drivers
from pmcompat.fence.drivers.simulated import ALWAYS, Device, Faults, Rack, SimulatedDriver
from pmcompat.model import Action, Agent, AgentFault, FaultKind, Options, PowerStatus, Secret

T = TypeVar("T")
ON, OFF, STATUS = Action.ON, Action.OFF, Action.STATUS


def agent(address: str = "pdu1", plug: str = "7", password: str = "pw", **fields: Any) -> Agent:
    return Agent(
        type="apc", address=address, username="admin", password=Secret(password), options=Options(f"slot={plug}"), **fields
    )


class VirtualTime(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next timer instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.skipped = 0.0

    def time(self) -> float:
        return super().time() + self.skipped

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:
            self.skipped += max(0.0, self._scheduled[0].when() - self.time())
        super()._run_once()


def at_once(steps: Callable[[], Awaitable[T]]) -> T:
    """Run *steps* in virtual time."""
    with asyncio.Runner(loop_factory=VirtualTime) as runner:
        return runner.run(steps())  # type: ignore[arg-type] # a coroutine function


class TestTheContract(DriverContract):
    @pytest.fixture
    def bench(self) -> Bench:
        agents = (agent("pdu1"), agent("pdu2"))
        rack = Rack.serving([*agents, agent("silent")], settle_off=0.1, settle_on=0.05, answer_after=0.002)
        rack.break_device("silent", silent=True)
        return Bench(
            new_driver=lambda: SimulatedDriver(rack),
            agents=agents,
            power=lambda one: rack.power(one.address or "", "7"),
            commands=lambda one: [entry.action for entry in rack.commands() if entry.address == one.address],
            silent=agent("silent"),
            wrong_password=agent("pdu1", password="wr0ng-password"),
            unreachable=agent("nowhere"),
        )


class TestFaults:
    def ask(self, rack: Rack, *steps: Action | float, agent_: Agent | None = None, within: float = 5) -> list[Answer]:
        """Ask for each action in turn, let each number of seconds pass, and return the answers."""

        async def run() -> list[Answer]:
            driver, answers, loop = SimulatedDriver(rack), [], asyncio.get_running_loop()
            for step in steps:
                if isinstance(step, Action):
                    answers.append(await driver.perform(agent_ or agent(), step, deadline=loop.time() + within))
                else:
                    await asyncio.sleep(step)
            return answers

        return at_once(run)

    def rack(self, **settings: Any) -> Rack:
        return Rack.serving([agent()], **settings)

    def test_power_changes_when_it_has_settled_and_reads_as_before_until_then(self):
        answers = self.ask(self.rack(settle_off=8), OFF, STATUS, 7.9, STATUS, 0.2, STATUS)
        assert answers == [ACCEPTED, PowerStatus.ON, PowerStatus.ON, PowerStatus.OFF]

    def test_a_later_command_overrides_one_that_has_not_settled(self):
        rack = self.rack(settle_off=8, settle_on=1)
        assert self.ask(rack, OFF, 4, ON, 20, STATUS)[-1] is PowerStatus.ON
        assert [power for _, power in rack.changes("pdu1", "7")] == [PowerStatus.ON, PowerStatus.ON], "it never was off"

    def test_an_outlet_may_switch_itself_on_again(self):
        rack = self.rack(faults=Faults(on_again_after=3))
        assert self.ask(rack, OFF, STATUS, 4, STATUS) == [ACCEPTED, PowerStatus.OFF, PowerStatus.ON]

    def test_an_ignored_command_is_accepted_and_changes_nothing(self):
        rack = self.rack(faults=Faults(ignores={OFF: 1}))
        assert self.ask(rack, OFF, 1, STATUS, OFF, STATUS) == [ACCEPTED, PowerStatus.ON, ACCEPTED, PowerStatus.OFF]
        assert [entry.executed for entry in rack.log if entry.action is OFF] == [False, True]

    def test_an_always_ignored_command_never_wears_off(self):
        rack = self.rack(faults=Faults(ignores={OFF: ALWAYS}))
        assert self.ask(rack, OFF, OFF, OFF, STATUS)[-1] is PowerStatus.ON

    @pytest.mark.parametrize(("fault", "power"), [("loses", PowerStatus.ON), ("loses_reply", PowerStatus.OFF)])
    def test_a_lost_command_and_a_lost_reply_look_the_same_from_here(self, fault: str, power: PowerStatus):
        rack = self.rack(faults=Faults(**{fault: {OFF: 1}}))
        lost, read = self.ask(rack, OFF, STATUS)
        assert isinstance(lost, AgentFault)
        assert (lost.kind, lost.sent, read) == (FaultKind.TIMEOUT, True, power)

    def test_unknown_is_read_as_often_as_said(self):
        rack = self.rack(faults=Faults(unknown_reads=2))
        assert self.ask(rack, STATUS, STATUS, STATUS) == [PowerStatus.UNKNOWN, PowerStatus.UNKNOWN, PowerStatus.ON]
        rack.break_device("pdu1", unknown_reads=ALWAYS)
        assert set(self.ask(rack, *[STATUS] * 9)) == {PowerStatus.UNKNOWN}

    def test_a_flapping_device_contradicts_itself_and_a_lying_one_never(self):
        assert self.ask(self.rack(faults=Faults(flaps=True)), *[STATUS] * 4) == [PowerStatus.OFF, PowerStatus.ON] * 2
        assert set(self.ask(self.rack(faults=Faults(lies=PowerStatus.OFF)), *[STATUS] * 3)) == {PowerStatus.OFF}

    def test_a_device_that_restarts_with_the_host_is_gone_for_a_while(self):
        """B-25."""
        gone, back = self.ask(self.rack(faults=Faults(gone_after_off=30)), OFF, STATUS, 31, STATUS)[1:]
        assert isinstance(gone, AgentFault)
        assert (gone.kind, gone.sent, back) == (FaultKind.UNREACHABLE, False, PowerStatus.OFF)

    def test_a_device_fed_by_an_outlet_is_gone_while_that_is_off(self):
        rack = Rack([Device(address="pdu1", plugs=("7",)), Device(address="bmc", fed_by=("pdu1", "7"))])
        bmc = Agent(type="ipmilan", address="bmc")
        assert self.ask(rack, STATUS, agent_=bmc) == [PowerStatus.ON]
        self.ask(rack, OFF)
        [gone] = self.ask(rack, STATUS, agent_=bmc)
        assert isinstance(gone, AgentFault)

    def test_a_slow_answer_comes_late_and_too_slow_a_one_never(self):
        rack = self.rack(answer_after=3)
        assert self.ask(rack, STATUS) == [PowerStatus.ON]
        [late] = self.ask(rack, OFF, within=2)
        assert isinstance(late, AgentFault)
        assert (late.kind, late.sent) == (FaultKind.TIMEOUT, True)
        assert rack.power("pdu1", "7", at=float("inf")) is PowerStatus.OFF, "it was executed all the same"

    def test_a_reader_may_not_switch(self):
        rack = Rack([Device(address="pdu1", plugs=("7",), users={"admin": Secret("pw")}, readers=frozenset({"admin"}))])
        read, refused = self.ask(rack, STATUS, OFF)
        assert isinstance(refused, AgentFault)
        assert (read, refused.kind, refused.sent) == (PowerStatus.ON, FaultKind.REFUSED, False)

    @pytest.mark.parametrize("plug", ["9", ""])
    def test_an_outlet_that_is_not_there_is_a_fault(self, plug: str):
        [answer] = self.ask(self.rack(), OFF, agent_=agent(plug=plug))
        assert isinstance(answer, AgentFault)
        assert not answer.sent

    def test_settings_that_are_not_clear_are_a_fault_and_nothing_is_sent(self):
        rack = self.rack()
        [answer] = self.ask(rack, OFF, agent_=Agent(type="apc", address="pdu1", options=Options("ipport=hush")))
        assert isinstance(answer, AgentFault)
        assert (answer.kind, answer.sent, rack.log) == (FaultKind.UNSUPPORTED, False, ())
        assert "hush" not in answer.message

    def test_an_hour_passes_in_a_moment_and_twice_the_same(self):
        def day() -> list[Answer]:
            return self.ask(self.rack(settle_off=3600, faults=Faults(unknown_reads=2)), OFF, *[STATUS, 900.0] * 8)

        assert day() == day()

    def test_the_log_tells_what_reached_which_outlet_when(self):
        rack = self.rack()
        self.ask(rack, OFF, 5, ON)
        off, on = rack.commands()
        assert (off.address, off.plug, off.action, on.action) == ("pdu1", "7", OFF, ON)
        assert on.at - off.at == pytest.approx(5, abs=0.5)


class TestRackFiles:
    RACK = """
        [[device]]
        address = "pdu1"
        plugs = ["7", "8"]
        users = { admin = "pw" }
        settle_off = 0.5
        [device.faults]
        ignores = { off = 1 }
        lies = "unknown"
        [[device]]
        address = "10.0.0.1:6230"
        power = "off"
        fed_by = ["pdu1", "8"]
    """

    def test_a_rack_is_read_from_toml_and_json_alike(self, tmp_path: Path):
        (tmp_path / "rack.toml").write_text(self.RACK)
        plain = {
            "device": [
                {
                    "address": "pdu1",
                    "plugs": ["7", "8"],
                    "users": {"admin": "pw"},
                    "settle_off": 0.5,
                    "faults": {"ignores": {"off": 1}, "lies": "unknown"},
                },
                {"address": "10.0.0.1:6230", "power": "off", "fed_by": ["pdu1", "8"]},
            ]
        }
        (tmp_path / "rack.json").write_text(json.dumps(plain))
        one, other = (Rack.from_file(tmp_path / name) for name in ("rack.toml", "rack.json"))
        devices = [[live.device for live in rack._live.values()] for rack in (one, other)]
        assert devices[0] == devices[1]
        assert one.power("10.0.0.1:6230") is PowerStatus.OFF

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "[[device]]",
            "[[device]]\naddress = 'a'\n[[device]]\naddress = 'a'",
            "[[device]]\naddress = 'a'\ncolour = 'red'",
            "[[device]]\naddress = 'a'\npower = 'high'",
            "[[device]]\naddress = 'a'\n[device.faults]\nignores = { reboot = 1 }",
            "[[device]]\naddress = 'a'\n[device.faults]\ntired = true",
            "not toml",
        ],
    )
    def test_what_no_rack_has_is_refused(self, tmp_path: Path, text: str):
        (tmp_path / "rack.toml").write_text(text)
        with pytest.raises(ConfigurationError):
            Rack.from_file(tmp_path / "rack.toml")

    def test_a_file_that_is_not_there_is_refused(self, tmp_path: Path):
        with pytest.raises(ConfigurationError):
            Rack.from_file(tmp_path / "rack.toml")

    def test_devices_on_one_address_are_told_apart_by_network_port(self):
        agents = [Agent(type="ipmilan", address="127.0.0.1", ip_port=port, username="a") for port in (6230, 6231)]
        rack = Rack.serving(agents)

        async def run() -> None:
            drivers = default_drivers(simulate=rack)
            await drivers["ipmi"].perform(agents[0], OFF, deadline=asyncio.get_running_loop().time() + 1)

        at_once(run)
        assert [rack.power(f"127.0.0.1:{port}") for port in (6230, 6231)] == [PowerStatus.OFF, PowerStatus.ON]


def test_every_fault_of_the_table_can_be_written_in_a_file():
    """A fault that only tests can set would make ``--simulate`` a lesser rack."""
    names = itertools.chain.from_iterable((Faults.__dataclass_fields__, ()))
    sample: dict[str, Any] = {"lies": "on", "on_again_after": 1, "gone_after_off": 1, "unknown_reads": 1}
    counts = {"ignores", "loses", "loses_reply", "fails"}
    faults = {name: sample.get(name, {"on": 1} if name in counts else True) for name in names}
    Rack.from_mapping({"device": [{"address": "a", "faults": faults}]})
