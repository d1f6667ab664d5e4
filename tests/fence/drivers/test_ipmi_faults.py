"""The IPMI driver on bad networks and with bad devices."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from ipmi_steps import ask, fault, use
from peers.ipmi_sim import MISSING, PROGRAM, ipmi_sims
from peers.udp_proxy import UdpProxy, Weather, udp_proxy
from test_ipmi import agent_of, silent_port

from pmcompat.fence.commands import ACCEPTED, Answer
from pmcompat.fence.drivers.ipmi import IpmiDriver, IpmiSettings
from pmcompat.model import Action, Agent, AgentFault, FaultKind, Options, PowerStatus, Secret
from pmcompat.testing.bmc import Bmc

# The network

WEATHER = [
    pytest.param(Weather(drop=0.01), id="drop 1 %"),
    pytest.param(Weather(drop=0.10), id="drop 10 %"),
    pytest.param(Weather(drop=0.30), id="drop 30 %"),
    pytest.param(Weather(duplicate=0.01), id="duplicate 1 %"),
    pytest.param(Weather(duplicate=0.10), id="duplicate 10 %"),
    pytest.param(Weather(duplicate=0.30), id="duplicate 30 %"),
    pytest.param(Weather(delay=0.01), id="delay 1 %"),
    pytest.param(Weather(delay=0.10), id="delay 10 %"),
    pytest.param(Weather(delay=0.30), id="delay 30 %"),
    pytest.param(Weather(reorder=0.01), id="reorder 1 %"),
    pytest.param(Weather(reorder=0.10), id="reorder 10 %"),
    pytest.param(Weather(reorder=0.30), id="reorder 30 %"),
]


async def restart(driver: IpmiDriver, agent: Agent, truth: Callable[[], str]) -> None:
    """Off, confirmed, on, confirmed; what was not sent is asked again, and no status read may contradict the device."""
    for action, wanted in ((Action.OFF, PowerStatus.OFF), (Action.ON, PowerStatus.ON)):
        give_up = time.monotonic() + 60
        await insist(driver, agent, action, give_up)
        while (read := await ask(driver, agent, Action.STATUS)) != wanted:
            assert time.monotonic() < give_up, read
            if isinstance(read, PowerStatus):
                assert read == truth(), "a status read says what is"
                await ask(driver, agent, action)  # the command was lost for good: its sender decides to send it again
        assert truth() == wanted


async def insist(driver: IpmiDriver, agent: Agent, action: Action, give_up: float) -> None:
    """Ask again as long as the command certainly did not leave."""
    while isinstance(answer := await ask(driver, agent, action), AgentFault) and not answer.sent:
        assert time.monotonic() < give_up, answer


def in_order(commands: list[str], rounds: int) -> bool:
    """Tell whether the device saw off, on, off, on …; one command twice in a row is harmless, out of turn it is not."""
    return [command for command, _ in itertools.groupby(commands)] == ["off", "on"] * rounds


@pytest.mark.needs_ipmi_sim
@pytest.mark.skipif(PROGRAM is None, reason=MISSING)
@pytest.mark.parametrize("weather", WEATHER)
def test_bad_weather_delays_but_never_lies_on_ipmi_sim(weather: Weather) -> None:
    with ipmi_sims(1) as (sim,), udp_proxy(sim.port, replace(weather), seed=1) as proxy:
        agent = agent_of(proxy.port)

        if weather.drop >= 0.3:  # half a minute for a restart, most of it logins: the soak has time for that
            use(lambda driver: insist(driver, agent, Action.OFF, time.monotonic() + 60))
            assert set(sim.commands()) <= {"off"}
        else:
            use(lambda driver: restart(driver, agent, sim.power))
            assert in_order(sim.commands(), 1)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("weather", WEATHER)
def test_bad_weather_delays_but_never_lies(weather: Weather, seed: int, bmc: Bmc) -> None:
    with udp_proxy(bmc.port, replace(weather), seed=seed) as proxy:
        use(lambda driver: asyncio.wait_for(many_restarts(driver, agent_of(proxy.port), bmc), 800))
        assert in_order(bmc.commands(), 10)


async def many_restarts(driver: IpmiDriver, agent: Agent, bmc: Bmc) -> None:
    for _ in range(10):
        await restart(driver, agent, bmc.power)


def test_a_lost_reply_does_not_make_the_device_act_twice(bmc: Bmc, proxied: UdpProxy) -> None:
    """The library alone sends the command again (defect 7): see the test after this one."""
    agent = agent_of(proxied.port)

    async def steps(driver: IpmiDriver) -> Answer:
        assert await ask(driver, agent, Action.STATUS) == PowerStatus.ON
        proxied.weather.lose_replies = 1  # the session is open: the next reply is that to `off`
        return await ask(driver, agent, Action.OFF)

    assert use(steps) == ACCEPTED
    assert bmc.commands() == ["off"]


_LIBRARY_ALONE = """
import sys
from pyghmi.ipmi.private.session import Session
session = Session("127.0.0.1", b"admin", b"pw", port=int(sys.argv[1]))
print("in", flush=True)
sys.stdin.readline()
session.raw_command(netfn=0, command=2, data=[0])
"""


def test_the_test_before_this_one_would_see_a_command_sent_twice(bmc: Bmc, proxied: UdpProxy) -> None:
    """A mutant that must be caught: pyghmi used as it comes makes the device act twice for one lost reply."""
    line = [sys.executable, "-c", _LIBRARY_ALONE, str(proxied.port)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as alone:
        assert alone.stdin is not None
        assert alone.stdout is not None
        assert alone.stdout.readline() == b"in\n"
        proxied.weather.lose_replies = 1
        alone.stdin.write(b"go\n")
        alone.stdin.close()
        assert alone.wait(30) == 0
    assert bmc.commands() == ["off", "off"]


def test_a_lost_command_is_sent_again_once_a_status_read_shows_that_it_was_lost(bmc: Bmc, proxied: UdpProxy) -> None:
    agent = agent_of(proxied.port)

    async def steps(driver: IpmiDriver) -> Answer:
        assert await ask(driver, agent, Action.STATUS) == PowerStatus.ON
        proxied.weather.lose_requests = 1
        return await ask(driver, agent, Action.OFF)

    assert use(steps) == ACCEPTED
    assert bmc.commands() == ["off"]


def test_a_slow_reply_does_not_make_the_device_act_twice(bmc: Bmc, proxied: UdpProxy) -> None:
    agent = agent_of(proxied.port)

    async def steps(driver: IpmiDriver) -> Answer:
        assert await ask(driver, agent, Action.STATUS) == PowerStatus.ON
        proxied.weather.delay, proxied.weather.delay_by = 1.0, 0.8
        return await ask(driver, agent, Action.OFF)

    assert use(steps) == ACCEPTED
    assert bmc.commands() == ["off"]


def test_a_session_in_which_a_command_was_slow_is_not_used_again(bmc: Bmc, proxied: UdpProxy) -> None:
    """A copy that is late on the network finds its session closed."""
    agent = agent_of(proxied.port)

    async def steps(driver: IpmiDriver) -> int:
        await ask(driver, agent, Action.STATUS)
        proxied.weather.lose_replies = 1
        await ask(driver, agent, Action.OFF)
        await asyncio.sleep(0.1)
        return bmc.sessions()

    assert use(steps, IpmiSettings(linger=10)) == 0


# The device


def test_a_device_that_dies_in_mid_session_is_known_within_seconds_and_well_again_when_it_is_back(bmc: Bmc) -> None:
    agent = agent_of(bmc.port)

    async def steps(driver: IpmiDriver) -> tuple[float, AgentFault, AgentFault]:
        assert await ask(driver, agent, Action.STATUS) == PowerStatus.ON
        bmc.misbehave(mute=True)
        started = time.monotonic()
        off = fault(await ask(driver, agent, Action.OFF, 20))
        took = time.monotonic() - started
        status = fault(await ask(driver, agent, Action.STATUS, 20))
        bmc.misbehave()
        await asyncio.sleep(0.3)
        assert await ask(driver, agent, Action.STATUS) == PowerStatus.ON
        return took, off, status

    took, off, status = use(steps)
    assert took < 5, "pyghmi alone takes 29 s"
    assert (off.kind, off.sent) == (FaultKind.TIMEOUT, True), "it may have acted"
    assert (status.kind, status.sent) == (FaultKind.UNREACHABLE, False)


@pytest.mark.parametrize("action", list(Action))
def test_a_black_hole_is_known_after_a_second(action: Action) -> None:
    with silent_port() as port:

        async def steps(driver: IpmiDriver) -> tuple[float, AgentFault]:
            driver.start()
            started = time.monotonic()
            answer = fault(await ask(driver, agent_of(port), action, 30))
            return time.monotonic() - started, answer

        took, answer = use(steps)
    assert 0.9 < took < 1.3
    assert (answer.kind, answer.sent) == (FaultKind.UNREACHABLE, False)


def test_a_device_that_answers_no_login_is_given_up_and_the_suite_named(bmc: Bmc) -> None:
    bmc.misbehave(lame=True)
    answer = fault(use(lambda driver: ask(driver, agent_of(bmc.port), Action.OFF)))
    assert (answer.kind, answer.sent) == (FaultKind.UNREACHABLE, False)
    assert "cipher suite 3" in answer.message


def test_a_device_that_is_busy_at_the_first_question_is_not_one_of_another_protocol() -> None:
    """Taken for "does not speak IPMI 2.0", which is final, it ended a restart with the host dark."""
    with Bmc.start() as bmc, answering_once(bytes.fromhex("c0"), bmc.port) as port:
        assert use(lambda driver: ask(driver, agent_of(port), Action.STATUS)) == PowerStatus.ON


@contextlib.contextmanager
def answering_once(code: bytes, target: int) -> Iterator[int]:
    """A proxy that answers the first packet itself: Get Channel Authentication Capabilities failed with *code*."""

    def serve() -> None:
        packet, client = front.recvfrom(512)
        front.sendto(packet[:14] + bytes.fromhex("08 81 1c 63 20 00 38") + code + bytes(9), client)
        ready = {front: back, back: front}
        while not stop.is_set():
            for link in select.select(list(ready), (), (), 0.05)[0]:
                packet, sender = link.recvfrom(512)
                if link is front:
                    client = sender
                    back.sendto(packet, ("127.0.0.1", target))
                else:
                    front.sendto(packet, client)

    stop = threading.Event()
    with socket.socket(type=socket.SOCK_DGRAM) as front, socket.socket(type=socket.SOCK_DGRAM) as back:
        front.bind(("127.0.0.1", 0))
        back.bind(("127.0.0.1", 0))
        server = threading.Thread(target=serve)
        server.start()
        try:
            yield front.getsockname()[1]
        finally:
            stop.set()
            server.join()


def test_a_full_device_is_asked_again_until_it_has_room() -> None:
    with Bmc.start(slots=1) as bmc:
        first, second = agent_of(bmc.port), agent_of(bmc.port, options="cipher=3,privlvl=operator")

        async def steps(driver: IpmiDriver) -> tuple[AgentFault, Answer]:
            other = IpmiDriver(IpmiSettings(linger=2.0))
            assert await ask(other, first, Action.STATUS) == PowerStatus.ON  # holds the only session for 2 s
            crowded = fault(await ask(driver, second, Action.OFF, 1.0))
            served = await ask(driver, second, Action.STATUS, 8.0)
            await other.close()
            return crowded, served

        crowded, served = use(steps)
        assert (crowded.kind, crowded.sent) == (FaultKind.FAILED, False)
        assert "no free session" in crowded.message
        assert served == PowerStatus.ON
        assert bmc.commands() == []


def test_a_full_device_is_called_full_though_the_deadline_came_in_the_middle_of_a_try() -> None:
    with Bmc.start(slots=1) as bmc, udp_proxy(bmc.port, Weather(delay=1.0, delay_by=0.2)) as far:
        # 0.4 s there and back: asked whether anybody is there, told "full", 0.25 s of patience, cut off in the second try
        near, second = agent_of(bmc.port), agent_of(far.port, options="cipher=3")

        async def steps(driver: IpmiDriver) -> AgentFault:
            other = IpmiDriver(IpmiSettings(linger=4.0))
            assert await ask(other, near, Action.STATUS) == PowerStatus.ON
            crowded = fault(await ask(driver, second, Action.OFF, 1.25))
            await other.close()
            return crowded

        crowded = use(steps)
        assert (crowded.kind, crowded.sent) == (FaultKind.FAILED, False), crowded
        assert "no free session" in crowded.message


@pytest.mark.parametrize("code", [0xC1, 0xC9, 0xCC, 0xD4, 0xD5, 0xD6])
def test_an_off_whose_reply_was_lost_is_not_unsent_because_its_copy_was_refused(code: int) -> None:
    """A device that is switching refuses the second off; taken for the first one's answer, the host was left dark."""
    with Bmc.start(settle=2.5) as bmc, udp_proxy(bmc.port) as proxy:

        async def refuse_the_copy() -> None:
            while not await asyncio.to_thread(bmc.commands):  # noqa: ASYNC110 - the event is in another process
                await asyncio.sleep(0.005)
            await asyncio.to_thread(bmc.misbehave, refuse=["off"], code=code)

        async def steps(driver: IpmiDriver) -> Answer:
            agent = agent_of(proxy.port)
            assert await ask(driver, agent, Action.STATUS) == PowerStatus.ON
            proxy.weather.lose_replies = 1
            refusing = asyncio.create_task(refuse_the_copy())
            answer = await ask(driver, agent, Action.OFF, 10.0)
            await refusing
            return answer

        assert fault(use(steps)).sent
        assert bmc.commands() == ["off"]


def test_no_more_sessions_than_allowed_are_opened_at_one_device(bmc: Bmc) -> None:
    agents = [agent_of(bmc.port, options=f"cipher=3,privlvl={level}") for level in ("administrator", "operator", "user")]

    async def steps(driver: IpmiDriver) -> tuple[list[Answer], int]:
        answers = await asyncio.gather(*(ask(driver, agent, Action.STATUS) for agent in agents * 5))
        return answers, bmc.sessions()

    answers, sessions = use(steps, IpmiSettings(sessions_per_bmc=1))
    assert answers == [PowerStatus.ON] * 15
    assert sessions <= 1


def test_a_session_is_closed_when_nobody_comes_back(bmc: Bmc) -> None:
    async def steps(driver: IpmiDriver) -> tuple[int, int]:
        await ask(driver, agent_of(bmc.port), Action.STATUS)
        held = bmc.sessions()
        await asyncio.sleep(0.5)
        return held, bmc.sessions()

    assert use(steps) == (1, 0)


def test_a_user_without_privilege_can_read_but_not_act(bmc: Bmc) -> None:
    bmc.add_user("watcher", "pw", "user")
    watcher = replace(agent_of(bmc.port), username="watcher")

    async def steps(driver: IpmiDriver) -> tuple[Answer, Answer]:
        return await ask(driver, watcher, Action.STATUS), await ask(driver, watcher, Action.OFF)

    read, off = use(steps)
    assert read == PowerStatus.ON
    assert (fault(off).kind, fault(off).sent) == (FaultKind.REFUSED, False)
    assert "privilege" in fault(off).message
    assert bmc.commands() == []


def test_a_level_that_the_user_may_not_have_is_refused(bmc: Bmc) -> None:
    bmc.add_user("watcher", "pw", "user")
    watcher = replace(agent_of(bmc.port, options="cipher=3,privlvl=administrator"), username="watcher")
    answer = fault(use(lambda driver: ask(driver, watcher, Action.STATUS)))
    assert answer.kind is FaultKind.REFUSED
    assert "privilege" in answer.message


@pytest.mark.parametrize(
    ("options", "kind"),
    [("", None), ("cipher=3", None), ("cipher=17", FaultKind.UNSUPPORTED), ("cipher=1", FaultKind.UNSUPPORTED)],
)
def test_the_cipher_suite_is_the_agents_option_and_a_failure_names_it(bmc: Bmc, options: str, kind: FaultKind | None) -> None:
    answer = use(lambda driver: ask(driver, agent_of(bmc.port, options=options), Action.STATUS))
    if kind is None:
        assert answer == PowerStatus.ON
    else:
        assert fault(answer).kind is kind
        assert f"suite {options[7:]}" in fault(answer).message


def test_a_busy_device_is_asked_again_for_its_status_but_not_to_act(bmc: Bmc) -> None:
    agent = agent_of(bmc.port)

    async def steps(driver: IpmiDriver) -> tuple[Answer, Answer]:
        bmc.misbehave(busy=3)
        read = await ask(driver, agent, Action.STATUS)
        bmc.misbehave(busy=3)
        return read, await ask(driver, agent, Action.OFF)

    read, off = use(steps)
    assert read == PowerStatus.ON
    assert fault(off).kind is FaultKind.FAILED
    assert "0xC0" in fault(off).message


def test_a_device_that_takes_off_and_stays_on_reads_on(bmc: Bmc) -> None:
    """F3: that a command was taken proves nothing."""
    bmc.misbehave(ignore=["off"])
    agent = agent_of(bmc.port)

    async def steps(driver: IpmiDriver) -> list[Answer]:
        return [await ask(driver, agent, action) for action in (Action.OFF, Action.STATUS)]

    assert use(steps) == [ACCEPTED, PowerStatus.ON]


def test_nothing_but_on_and_off_is_ever_sent(bmc: Bmc) -> None:
    agent = agent_of(bmc.port)

    async def steps(driver: IpmiDriver) -> None:
        for action in list(Action) * 4:
            await ask(driver, agent, action)

    use(steps)
    assert set(bmc.commands()) == {"on", "off"}


@pytest.mark.needs_ipmi_sim
@pytest.mark.skipif(PROGRAM is None, reason=MISSING)
@pytest.mark.parametrize("host", ["::1", "localhost"])
def test_ipv6_and_names_are_addresses_too(host: str) -> None:
    with ipmi_sims(1, host="::1" if host == "::1" else "127.0.0.1") as (sim,):
        assert use(lambda driver: ask(driver, agent_of(sim.port, host=host), Action.STATUS)) == PowerStatus.ON


@pytest.mark.parametrize("host", ["no.such.host.invalid", "256.256.256.256", "a b", "x" * 300, "fe80::1"])
def test_an_address_that_leads_nowhere_is_unreachable_at_once(host: str) -> None:
    async def steps(driver: IpmiDriver) -> tuple[float, AgentFault]:
        driver.start()
        started = time.monotonic()
        return time.monotonic() - started, fault(await ask(driver, agent_of(623, host=host), Action.OFF))

    took, answer = use(steps)
    assert took < 3.5
    assert (answer.kind, answer.sent) == (FaultKind.UNREACHABLE, False)


# Many devices


@pytest.mark.needs_ipmi_sim
@pytest.mark.skipif(PROGRAM is None, reason=MISSING)
def test_silent_devices_cost_the_good_ones_nothing() -> None:
    """20 good and 5 silent BMCs: pyghmi in threads fell to a tenth, or froze (defect 3)."""
    with ipmi_sims(20) as sims, silent_port() as silent:
        good = [agent_of(sim.port) for sim in sims]
        bad = [
            agent_of(silent, options=f"cipher=3,privlvl={level}")
            for level in ("admin", "operator", "user", "callback", "administrator")
        ]

        async def off(driver: IpmiDriver, agent: Agent) -> Answer:
            assert await ask(driver, agent, Action.OFF, 5) == ACCEPTED
            return await ask(driver, agent, Action.STATUS, 5)

        async def steps(driver: IpmiDriver) -> float:
            await ask(driver, good[0], Action.STATUS)
            lost = [asyncio.create_task(ask(driver, agent, Action.OFF, 2.0)) for agent in bad]
            started = time.monotonic()
            answers = await asyncio.gather(*(off(driver, agent) for agent in good))
            took = time.monotonic() - started
            assert answers == [PowerStatus.OFF] * 20
            faults = [fault(answer) for answer in await asyncio.gather(*lost)]
            assert {answer.kind for answer in faults} == {FaultKind.UNREACHABLE}
            return took

        took = use(steps)
        assert [sim.commands() for sim in sims] == [["off"]] * 20
    assert took < 1.0


def test_devices_that_hang_in_mid_login_do_not_hold_up_the_others(bmc: Bmc) -> None:
    """The pool grows past the workers that wait for their devices."""
    with Bmc.start() as lame:
        lame.misbehave(lame=True)
        names = [replace(agent_of(lame.port), username=f"u{n}") for n in range(12)]

        async def steps(driver: IpmiDriver) -> float:
            await ask(driver, agent_of(bmc.port), Action.STATUS)
            hanging = [asyncio.create_task(ask(driver, agent, Action.STATUS, 1.5)) for agent in names]
            await asyncio.sleep(0.3)
            started = time.monotonic()
            assert await ask(driver, agent_of(bmc.port), Action.STATUS) == PowerStatus.ON
            took = time.monotonic() - started
            await asyncio.gather(*hanging)
            return took

        assert use(steps, IpmiSettings(min_workers=2, sessions_per_bmc=12)) < 0.6


def test_options_of_an_agent_that_cannot_be_are_said_before_anything_is_sent(bmc: Bmc) -> None:
    bad = {
        "cipher=99": "suite",
        "privlvl=king": "privlvl",
        "hexadecimal_kg=xyz": "hexadecimal_kg",
        "login_timeout=soon": "login_timeout",
    }
    for options, word in bad.items():
        answer = fault(use(lambda driver, options=options: ask(driver, agent_of(bmc.port, options=options), Action.OFF)))
        assert (answer.kind, answer.sent) == (FaultKind.UNSUPPORTED, False)
        assert word in answer.message
    long = replace(agent_of(bmc.port), password=Secret("x" * 21), options=Options("cipher=3"))
    assert fault(use(lambda driver: ask(driver, long, Action.OFF))).kind is FaultKind.REFUSED
