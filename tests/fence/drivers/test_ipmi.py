"""The IPMI driver keeps the driver's contract, on Debian's ipmi_sim and on our own BMC."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest
from contract import Bench, DriverContract
from peers.ipmi_sim import MISSING, PROGRAM, IpmiSim, free_port, ipmi_sims

from pmcompat.fence.drivers.ipmi import IpmiDriver
from pmcompat.model import Action, Agent, Options, PowerStatus, Secret
from pmcompat.testing.bmc import Bmc


def agent_of(port: int, *, host: str = "127.0.0.1", password: str = "pw", options: str = "cipher=3,lanplus") -> Agent:
    return Agent(
        type="ipmilan",
        address=host,
        username="admin",
        password=Secret(password),
        ip_port=port,
        options=Options(options),
    )


@contextlib.contextmanager
def silent_port() -> Iterator[int]:
    """A UDP port that somebody holds and nobody reads."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hole:
        hole.bind(("127.0.0.1", 0))
        yield hole.getsockname()[1]


@pytest.mark.needs_ipmi_sim
@pytest.mark.skipif(PROGRAM is None, reason=MISSING)
class TestOnIpmiSim(DriverContract):
    @pytest.fixture
    def bench(self) -> Iterator[Bench]:
        with ipmi_sims(2, settle=0.2) as sims, silent_port() as silent:
            by_port = {sim.port: sim for sim in sims}

            def sim(agent: Agent) -> IpmiSim:
                return by_port[agent.ip_port or 0]

            yield Bench(
                new_driver=IpmiDriver,
                agents=(agent_of(sims[0].port), agent_of(sims[1].port)),
                power=lambda agent: PowerStatus(sim(agent).power()),
                commands=lambda agent: [Action(action) for action in sim(agent).commands()],
                silent=agent_of(silent),
                wrong_password=agent_of(sims[0].port, password="n0t-the-0ne"),
                unreachable=agent_of(free_port()),
            )


class TestOnOurOwnBmc(DriverContract):
    @pytest.fixture
    def bench(self) -> Iterator[Bench]:
        with Bmc.start(settle=0.2) as first, Bmc.start(settle=0.2) as second, silent_port() as silent:
            by_port = {bmc.port: bmc for bmc in (first, second)}
            yield Bench(
                new_driver=IpmiDriver,
                agents=(agent_of(first.port, options=""), agent_of(second.port)),
                power=lambda agent: PowerStatus(by_port[agent.ip_port or 0].power()),
                commands=lambda agent: [Action(action) for action in by_port[agent.ip_port or 0].commands()],
                silent=agent_of(silent),
                wrong_password=agent_of(first.port, password="n0t-the-0ne"),
                unreachable=agent_of(free_port()),
            )
