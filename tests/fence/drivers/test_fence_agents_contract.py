"""The contract of all drivers, on fence programs: Debian's own against real devices, and a small one of ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from contract import Bench, DriverContract
from peers.fence_programs import FENCE_WATCHED, FenceX, Program, needs_fence_agents, starts, x_agent
from peers.ipmi_sim import MISSING, PROGRAM, ipmi_sims
from peers.redfish_device import redfish_devices

from pmcompat.fence.drivers.fence_agents import FenceAgentsDriver
from pmcompat.model import Action, Agent, Options, PowerStatus, Secret


@pytest.fixture
def fence_x(tmp_path: Path) -> FenceX:
    return FenceX(tmp_path)


class TestTheContractOnFenceX(DriverContract):
    @pytest.fixture
    def bench(self, fence_x: FenceX) -> Bench:
        agents = (x_agent(fence_x.outlet("1")), x_agent(fence_x.outlet("2")))
        spare = fence_x.outlet("3")

        def where(agent: Agent) -> Path:
            return Path(agent.options.text.removeprefix("where=")) if agent.options else Path()

        def commands(agent: Agent) -> list[Action]:
            given = [start["given"]["action"] for start in starts(where(agent)) if start["given"]["passwd"] == "pw"]
            return [Action(action) for action in given if action != "status"]

        return Bench(
            new_driver=lambda: FenceAgentsDriver(directories=[fence_x.directory]),
            agents=agents,
            power=lambda agent: PowerStatus((where(agent) / "power").read_text()),
            commands=commands,
            silent=x_agent(spare, "silent", address="silent"),
            wrong_password=x_agent(where(agents[0]), password=Secret("wr0ng-password")),
            unreachable=x_agent(spare, address="nowhere"),
            knows_what_left=False,
            settles=0.5,
        )


@needs_fence_agents
class TestTheContractOnFenceDummy(DriverContract):
    """Debian's fence_dummy switches a file: it knows no network and no password."""

    test_a_silent_device_is_answered_for_before_the_deadline = None
    test_a_silent_device_does_not_delay_another = None
    test_a_wrong_password_is_refused_and_never_shown = None
    test_an_address_that_cannot_be_reached_is_a_device_that_does_not_answer = None

    @pytest.fixture
    def bench(self, tmp_path: Path) -> Bench:
        watched = Program(tmp_path, "fence_watched", FENCE_WATCHED)
        files = [tmp_path / "1", tmp_path / "2"]
        agents = [Agent(type="watched", options=Options(f"type=file,status_file={file}")) for file in files]
        for file in files:
            file.write_text("on")

        def file_of(agent: Agent) -> Path:
            return files[agents.index(agent)]

        def commands(agent: Agent) -> list[Action]:
            log = file_of(agent).with_suffix(".log")
            return [Action(line) for line in log.read_text().split()] if log.exists() else []

        return Bench(
            new_driver=lambda: FenceAgentsDriver(directories=[watched.directory]),
            agents=(agents[0], agents[1]),
            power=lambda agent: PowerStatus(file_of(agent).read_text()),
            commands=commands,
            settles=0.5,
        )


@needs_fence_agents
class TestTheContractOnFenceRedfish(DriverContract):
    """A device with HTTPS and basic authentication of its own, behind Debian's fence_redfish."""

    # it says the same for a wrong password as for other refusals, and a silent device is shown with fence_ipmilan
    test_a_silent_device_is_answered_for_before_the_deadline = None
    test_a_silent_device_does_not_delay_another = None
    test_a_wrong_password_is_refused_and_never_shown = None

    @pytest.fixture
    def bench(self, tmp_path: Path) -> Iterator[Bench]:
        def agent(port: int) -> Agent:
            options = Options("ssl_insecure=1")
            return Agent(
                type="redfish", address="127.0.0.1", ip_port=port, username="admin", password=Secret("pw"), options=options
            )

        with redfish_devices(2, tmp_path) as devices:
            by_port = {device.port: device for device in devices}
            yield Bench(
                new_driver=FenceAgentsDriver,
                agents=(agent(devices[0].port), agent(devices[1].port)),
                power=lambda one: PowerStatus(by_port[one.ip_port or 0].power),
                commands=lambda one: [Action(command) for command in by_port[one.ip_port or 0].commands],
                unreachable=agent(1),
                knows_what_left=False,
                settles=0.5,
            )


@needs_fence_agents
@pytest.mark.needs_ipmi_sim
@pytest.mark.skipif(PROGRAM is None, reason=MISSING)
class TestTheContractOnFenceIpmilan(DriverContract):
    """fence_ipmilan says the same for a wrong password and a wrong outlet (fencing facts §8.3), so neither is claimed."""

    test_a_wrong_password_is_refused_and_never_shown = None
    # a closed port costs the program its own 20 s: the silent device stands for both
    test_an_address_that_cannot_be_reached_is_a_device_that_does_not_answer = None

    @pytest.fixture
    def bench(self) -> Iterator[Bench]:
        def agent(port: int, password: str = "pw") -> Agent:
            return Agent(
                type="ipmilan",
                address="127.0.0.1",
                username="admin",
                password=Secret(password),
                options=Options(f"driver=fence_agents,ipport={port},lanplus=1,cipher=3"),
            )

        with ipmi_sims(3) as sims:
            agents = (agent(sims[0].port), agent(sims[1].port))
            by_agent = dict(zip(agents, sims, strict=False))
            sims[2].freeze()
            yield Bench(
                new_driver=FenceAgentsDriver,
                agents=agents,
                power=lambda one: PowerStatus(by_agent[one].power()),
                commands=lambda one: [Action(command) for command in by_agent[one].commands()],
                silent=agent(sims[2].port),
            )
