"""The fence_agents driver against real programs: Debian's own, and small ones that end in every way there is."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TypeVar

import pytest
from contract import children
from peers.fence_programs import FenceX, needs_fence_agents, starts, x_agent

from pmcompat.fence.commands import ACCEPTED, Answer
from pmcompat.fence.drivers import Driver
from pmcompat.fence.drivers.fence_agents import DIRECTORIES, FenceAgentsDriver, Limits, installed_types
from pmcompat.fence.drivers.fence_input import input_lines
from pmcompat.fence.drivers.fence_metadata import Metadata, read_metadata
from pmcompat.fence.drivers.fence_process import Runner
from pmcompat.fence.drivers.fence_replies import Ended, answer
from pmcompat.model import Action, Agent, AgentFault, FaultKind, Options, PowerStatus, Secret
from pmcompat.options import LEVELS, parameters, tables_of

T = TypeVar("T")
#: with it in their environment, programs have no timeout of their own (fencing facts §8.4)
PACEMAKERS = "PCMK_service"
ON, OFF, STATUS = Action.ON, Action.OFF, Action.STATUS


@pytest.fixture
def fence_x(tmp_path: Path) -> FenceX:
    return FenceX(tmp_path)


def run(steps: Callable[[FenceAgentsDriver], Awaitable[T]], *directories: Path, limits: Limits | None = None) -> T:
    """Run *steps* with a driver that finds programs in *directories*, and close it."""

    async def inside() -> T:
        driver = FenceAgentsDriver(directories=directories or DIRECTORIES, limits=limits)
        try:
            return await steps(driver)
        finally:
            await driver.close()

    return asyncio.run(inside())


def ask(directory: Path, agent: Agent, action: Action, within: float = 8) -> Answer:
    return run(lambda driver: driver.perform(agent, action, deadline=time.monotonic() + within), directory)


async def started(where: Path, count: int = 1) -> None:
    """Return when fence_x has been started *count* times for this outlet."""
    while len(starts(where)) < count:  # noqa: ASYNC110 # the event is in another process
        await asyncio.sleep(0.02)


def descriptors() -> int:
    """Return how many file descriptors this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def status_of(code: int, out: str, err: str = "") -> Answer:
    """Return what a status is that ended like this."""
    ended = Ended(code=code, out=out.encode(), err=err.encode())
    return answer("fence_x", STATUS, ended, parameters(Agent(type="x", address="a")))


def fault(answer: Answer) -> AgentFault:
    assert isinstance(answer, AgentFault), answer
    return answer


class TestHowAProgramIsStarted:
    def test_parameters_travel_on_standard_input_only_and_the_action_comes_first(self, fence_x: FenceX):
        where = fence_x.outlet()
        os.environ[PACEMAKERS] = "pacemaker-fenced"
        try:
            agent = x_agent(where, more="level=OPERATOR,ssl,delay=0", ip_port=2300)
            assert ask(fence_x.directory, agent, OFF, within=7.5) == ACCEPTED
        finally:
            del os.environ[PACEMAKERS]
        [start] = starts(where)
        assert start["argv"] == []
        assert set(start["environ"]) - {"LC_CTYPE"} == {"PATH", "LANG", "HOME"}, "LC_CTYPE is set by Python itself"
        assert start["cwd"] == "/"
        assert start["descriptors"][:3] == [0, 1, 2]
        assert len(start["descriptors"]) <= 4, "one more for the directory it lists"
        assert start["sid"] == start["pid"], "a session of its own"
        assert next(iter(start["given"])) == "action"
        assert start["given"] == {
            "action": "off",
            "ip": "device",
            "login": "admin",
            "passwd": "pw",
            "ipport": "2300",
            "where": str(where),
            "level": "operator",
            "ssl": "1",
            "delay": "0",
            "method": "onoff",
            "power_wait": "0",
            "power_timeout": "7",
            "retry_on": "1",
        }

    @pytest.mark.parametrize("type_", ["../x", "x y", "x;reboot", "X", "x/..", "x\n", ""])
    def test_a_type_that_is_no_name_starts_nothing(self, fence_x: FenceX, type_: str):
        answer = ask(fence_x.directory, Agent(type=type_, address="a", options=Options(f"where={fence_x.outlet()}")), OFF)
        assert (fault(answer).kind, fault(answer).sent) == (FaultKind.UNSUPPORTED, False)

    def test_an_engines_own_alias_is_followed_and_one_that_is_a_path_is_not(self, fence_x: FenceX):
        async def off(alias: str) -> Answer:
            tables = tables_of("3.6", {"CustomFenceAgentMapping": f"mine={alias}"})
            driver = FenceAgentsDriver(directories=[fence_x.directory], tables=tables)
            agent = replace(x_agent(fence_x.outlet(alias.replace("/", "-"))), type="mine")
            try:
                return await driver.perform(agent, OFF, deadline=time.monotonic() + 8)
            finally:
                await driver.close()

        assert asyncio.run(off("x")) == ACCEPTED
        (fence_x.directory / "fence_sub").mkdir()
        (fence_x.directory / "fence_sub" / "x").symlink_to(fence_x.path)
        answer = fault(asyncio.run(off("sub/x")))
        assert (answer.kind, answer.sent) == (FaultKind.UNSUPPORTED, False)

    def test_a_missing_program_is_named_with_its_package(self, fence_x: FenceX):
        answer = fault(ask(fence_x.directory, Agent(type="apc", address="a"), OFF))
        assert (answer.kind, answer.sent) == (FaultKind.UNSUPPORTED, False)
        assert "apt-get install fence-agents" in answer.message

    def test_only_the_given_directories_are_looked_into(self, fence_x: FenceX, tmp_path: Path):
        (tmp_path / "empty").mkdir()
        answer = run(
            lambda driver: driver.perform(x_agent(fence_x.outlet()), OFF, deadline=time.monotonic() + 5), tmp_path / "empty"
        )
        assert fault(answer).kind is FaultKind.UNSUPPORTED

    @pytest.mark.parametrize(
        ("text", "named"),
        [
            ("acti0n=off", "acti0n"),
            ("level=root", "level"),
            ("delay=soon", "delay"),
            ("retry_on=many", "retry_on"),
            ("ssl=maybe", "ssl"),
            ("method=cycle", "method"),
            ("kg", "kg"),
            ("plug=1 ", "plug"),
            ('kg="quoted"', "kg"),
            ("kg= hush", "kg"),
            ("kg=hush\nmethod=cycle", "kg"),
            ("kg=hush\u2028x", "kg"),
            ("tool_path=/bin/sh", "tool_path"),
            ("debug_file=/tmp/x", "debug_file"),
            ("disable_timeout=1", "disable_timeout"),
            ("missing_as_off=1", "missing_as_off"),
            ("password_script=/bin/x", "password_script"),
            ("ssh_options=-o ProxyCommand=id", "ssh_options"),
        ],
    )
    def test_what_the_program_does_not_know_or_cannot_be_given_starts_nothing(self, fence_x: FenceX, text: str, named: str):
        where = fence_x.outlet()
        answer = fault(ask(fence_x.directory, x_agent(where, more=text), OFF))
        assert (answer.kind, answer.sent) == (FaultKind.UNSUPPORTED, False)
        assert named in answer.message
        assert "hush" not in answer.message
        assert starts(where) == []

    @pytest.mark.parametrize(
        "address",
        [
            '127.0.0.1 -oProxyCommand="id"',
            "-oProxyCommand=id",
            "127.0.0.1\t-I open",
            "a;id",
            "$(id)",
            "a'b",
            'a"b',
            "a\\ b",
            "a|b",
        ],
    )
    def test_an_address_that_is_more_than_an_address_starts_nothing(self, fence_x: FenceX, address: str):
        """Facts §8.1, §13: the programs paste it into the command lines of ssh and ipmitool, and it ran as root."""
        where = fence_x.outlet()
        answer = fault(ask(fence_x.directory, replace(x_agent(where), address=address), STATUS))
        assert (answer.kind, answer.sent) == (FaultKind.UNSUPPORTED, False)
        assert "address" in answer.message
        assert starts(where) == []

    @pytest.mark.parametrize("address", ["10.0.0.1", "bmc-7.lab", "fe80::1%eth0", "[::1]", "pdü.example", "host/path"])
    def test_what_an_address_may_be_is_sent(self, fence_x: FenceX, address: str):
        where = fence_x.outlet()
        assert ask(fence_x.directory, replace(x_agent(where), address=address), STATUS) is PowerStatus.ON
        assert [start["given"]["ip"] for start in starts(where)] == [address]

    @pytest.mark.parametrize("name", ["-oProxyCommand=id x", "root -p 1", 'a"b', "a'b"])
    def test_a_user_name_that_is_more_than_a_name_starts_no_program_that_calls_others(self, fence_x: FenceX, name: str):
        where = fence_x.outlet()
        answer = fault(ask(fence_x.directory, replace(x_agent(where), username=name), STATUS))
        assert (answer.kind, answer.sent) == (FaultKind.UNSUPPORTED, False)
        assert "user name" in answer.message
        assert starts(where) == []

    @needs_fence_agents
    @pytest.mark.parametrize("option", ["cipher=3 -H 127.0.0.9", "target=0x72 -I open", "hexadecimal_kg=00 -x"])
    def test_no_option_of_the_bmcs_program_becomes_two_of_ipmitools(self, option: str):
        options = Options(f"driver=fence_agents,lanplus=1,{option}")
        agent = Agent(type="ipmilan", address="127.0.0.1", username="a", password=Secret("b"), ip_port=1, options=options)
        answer = fault(run(lambda driver: driver.perform(agent, STATUS, deadline=time.monotonic() + 8)))
        assert (answer.kind, answer.sent) == (FaultKind.UNSUPPORTED, False)
        assert option.partition("=")[0] in answer.message

    def test_a_required_option_that_is_missing_starts_nothing(self, fence_x: FenceX):
        answer = fault(ask(fence_x.directory, Agent(type="x", address="device"), OFF))
        assert (answer.kind, answer.sent) == (FaultKind.UNSUPPORTED, False)
        assert "where" in answer.message

    @needs_fence_agents
    @pytest.mark.parametrize("type_", ["scsi", "mpath", "brocade", "cisco_mds", "sanbox2", "ifmib", "compute"])
    def test_programs_that_do_not_cut_power_are_refused(self, type_: str):
        agent = Agent(type=type_, address="127.0.0.1", username="a", password=Secret("b"), options=Options("plug=1"))
        answer = fault(run(lambda driver: driver.perform(agent, OFF, deadline=time.monotonic() + 8)))
        assert (answer.kind, answer.sent) == (FaultKind.UNSUPPORTED, False)

    @needs_fence_agents
    @pytest.mark.parametrize("type_", ["kdump", "ovh", "rcd_serial", "heuristics_ping", "ack_manual"])
    def test_programs_that_cannot_read_a_status_are_refused(self, type_: str):
        answer = fault(run(lambda driver: driver.perform(Agent(type=type_), OFF, deadline=time.monotonic() + 8)))
        assert (answer.kind, answer.sent) == (FaultKind.UNSUPPORTED, False)

    def test_metadata_is_read_once_until_the_file_changes(self, fence_x: FenceX):
        where, count = fence_x.outlet(), fence_x.directory / "count"
        text = fence_x.path.read_text()
        fence_x.path.write_text(
            text.replace("    sys.stderr.write(", f"    open('{count}', 'a').write('.')\n    sys.stderr.write(", 1)
        )

        async def steps(driver: FenceAgentsDriver) -> None:
            async def read() -> None:
                answer = await driver.perform(x_agent(where), STATUS, deadline=time.monotonic() + 8)
                assert answer is PowerStatus.ON

            await asyncio.gather(read(), read(), read())
            assert count.read_text() == "."
            os.utime(fence_x.path, ns=(1, 1))
            await read()
            assert count.read_text() == ".."

        run(steps, fence_x.directory)


class TestHowAProgramEnds:
    @pytest.mark.parametrize(
        ("mode", "action", "answer"),
        [
            ("", STATUS, PowerStatus.ON),
            ("", OFF, ACCEPTED),
            ("", ON, ACCEPTED),
            ("noise", STATUS, PowerStatus.ON),
            ("noise", OFF, ACCEPTED),
            ("ignores", OFF, ACCEPTED),
            ("flood", OFF, ACCEPTED),
            ("exit0", STATUS, PowerStatus.ON),
            ("exit2", STATUS, PowerStatus.OFF),
        ],
    )
    def test_what_it_says_is_the_answer(self, fence_x: FenceX, mode: str, action: Action, answer: Answer):
        assert ask(fence_x.directory, x_agent(fence_x.outlet(), mode), action) == answer

    @pytest.mark.parametrize("code", [0, 2])
    def test_a_state_in_between_is_neither_on_nor_off(self, code: int):
        """Facts §12: transitional states are unknown; the exit code alone would say on."""
        assert status_of(code, "Status: PoweringOff\n") not in {PowerStatus.ON, PowerStatus.OFF}

    @pytest.mark.parametrize(
        ("mode", "kind", "sent"),
        [
            ("exit1", FaultKind.FAILED, True),
            ("exit2", FaultKind.FAILED, True),
            ("exit42", FaultKind.FAILED, True),
            ("partial", FaultKind.FAILED, True),
            ("warns", FaultKind.UNSUPPORTED, True),
            ("says Unable to connect/login to fencing device", FaultKind.UNREACHABLE, True),
            ("says Connection timed out", FaultKind.UNREACHABLE, True),
            ("says Failed: Unable to obtain correct plug status or plug is not available", FaultKind.FAILED, True),
            (
                "says Failed: The user does not have the correct privileges to do the requested action.",
                FaultKind.REFUSED,
                False,
            ),
            ("says Failed: You have to enter existing physical plug!", FaultKind.UNSUPPORTED, False),
            ("says The command was not found or was not executable: /usr/bin/gnutls-cli.", FaultKind.UNSUPPORTED, False),
            ("says Returned 1: Timeout: No Response from 10.0.0.1", FaultKind.UNREACHABLE, True),
            ("says login to 10.0.0.1: Connection refused", FaultKind.UNREACHABLE, True),
            ("says [Errno -2] Name or service not known", FaultKind.UNREACHABLE, True),
        ],
    )
    def test_every_failure_has_its_kind(self, fence_x: FenceX, mode: str, kind: FaultKind, sent: bool):
        """What is only said before anything is switched was not sent; a lost device may have been lost after it obeyed."""
        answer = fault(ask(fence_x.directory, x_agent(fence_x.outlet(), mode), OFF))
        assert (answer.kind, answer.sent) == (kind, sent)
        assert answer.message
        assert "\n" not in answer.message

    @pytest.mark.parametrize("mode", ["exit1", "exit3", "partial", "usage"])
    def test_no_failed_status_read_counts_as_off(self, fence_x: FenceX, mode: str):
        """P3: exit code 2 is also what argparse says to a wrong option."""
        answer = ask(fence_x.directory, x_agent(fence_x.outlet(power="off"), mode), STATUS)
        assert fault(answer).kind is FaultKind.FAILED
        assert not fault(answer).sent

    @pytest.mark.parametrize(
        ("out", "err"),
        [
            ("", "Try 'fence_x -h' for usage."),
            ("", "   cannot reach the BMC: no route"),
            ("", "\tlogin failed"),
            ("", "2024-01-01 00:00:00,000 ERROR: \n   login to 10.0.0.1 failed"),
            ("", "InsecureRequestWarning: then login failed"),
            ("", "x.py:1: DeprecationWarning: old\n  import old\n  login failed"),
            ("", "Traceback (most recent call last):"),
            ("usage: fence_x [-h] [-o off]", ""),
            ("the login is off-line", ""),
            ("Status: OFFLINE", ""),
            ("Status: OFF\nbut the outlet does not answer", ""),
        ],
    )
    def test_no_text_beside_exit_code_2_is_read_as_off(self, out: str, err: str):
        """F2: exit code 2 is *off* to a fence program and *wrong usage* to half of the world's."""
        assert status_of(2, out, err) is not PowerStatus.OFF

    @pytest.mark.parametrize(
        ("out", "err"),
        [
            ("Status: OFF\n", "WARNING: slow"),
            ("off\n", ""),
            ("", ""),
            ("", "x.py:1: DeprecationWarning: 'pipes' is deprecated\n  import pipes\n"),
            ("", "/a/b.py:10: InsecureRequestWarning: Unverified HTTPS request\n"),
        ],
    )
    def test_off_is_believed_where_nothing_else_is_said(self, out: str, err: str):
        assert status_of(2, out, err) is PowerStatus.OFF

    def test_the_programs_own_words_reach_the_reader(self, fence_x: FenceX):
        """B-47."""
        answer = fault(ask(fence_x.directory, x_agent(fence_x.outlet(), "says The fan is on fire"), OFF))
        assert answer.message == "fence_x ended with exit code 1: The fan is on fire"

    @pytest.mark.parametrize(
        ("mode", "secret"), [("leak", "tr0ub4dor&3"), ("warns", "tr0ub4dor&3"), ("leak-option", "c0mmunity")]
    )
    def test_a_line_that_holds_a_secret_is_not_shown(self, fence_x: FenceX, mode: str, secret: str):
        agent = x_agent(
            fence_x.outlet(), mode, f"snmp_priv_passwd={secret}", password=Secret("pw" if mode == "warns" else secret)
        )
        answer = fault(ask(fence_x.directory, agent, OFF))
        assert secret.lower() not in answer.message.lower()
        assert "passwd=" not in answer.message

    @pytest.mark.parametrize(
        ("secret", "said"),
        [
            ("correct  horse", "trap, sent: correct horse"),
            ("tab\there", "trap, sent: tab here"),
            ("p&<w", "trap: p&amp;&lt;w"),
            ("pässe", "trap: p\\u00e4sse"),
            ("pässe", "trap: p\\xc3\\xa4sse"),
            ('q"uo', 'trap: q\\"uo'),
            ("it's", "trap: it'\"'\"'s"),
        ],
    )
    def test_no_spelling_of_a_secret_is_shown(self, secret: str, said: str):
        needs = parameters(Agent(type="x", address="a", password=Secret(secret)))
        found = fault(answer("fence_x", OFF, Ended(code=1, err=said.encode()), needs))
        assert "trap" not in found.message

    def test_a_command_line_is_never_shown_and_a_missing_tool_is_named_with_its_package(self, fence_x: FenceX):
        mode = "says Cannot run command /usr/bin/snmpwalk -c 'private' 10.0.0.1"
        answer = fault(ask(fence_x.directory, x_agent(fence_x.outlet(), mode), STATUS))
        assert answer.message == "fence_x: it needs snmpwalk: apt-get install snmp"

    @pytest.mark.parametrize("mode", ["hang", "children"])
    def test_a_hanging_program_is_killed_with_all_it_started(self, fence_x: FenceX, mode: str):
        before, where = children(), fence_x.outlet()

        async def steps(driver: FenceAgentsDriver) -> tuple[Answer, float]:
            await driver.perform(x_agent(fence_x.outlet("other")), STATUS, deadline=time.monotonic() + 8)
            deadline = time.monotonic() + 0.7
            answer = await driver.perform(x_agent(where, mode), OFF, deadline=deadline)
            return answer, time.monotonic() - deadline

        answer, late = run(steps, fence_x.directory)
        assert (fault(answer).kind, fault(answer).sent) == (FaultKind.TIMEOUT, True)
        assert late < 0.15
        assert children() - before == set()
        assert left_behind(where) == []

    def test_what_a_program_leaves_behind_is_killed_and_not_waited_for(self, fence_x: FenceX):
        before, where = time.monotonic(), fence_x.outlet()
        assert ask(fence_x.directory, x_agent(where, "leaves"), OFF) == ACCEPTED
        assert time.monotonic() - before < 5
        assert left_behind(where) == []

    def test_cancellation_kills_the_program(self, fence_x: FenceX):
        where = fence_x.outlet()

        async def steps(driver: FenceAgentsDriver) -> None:
            asking = asyncio.ensure_future(driver.perform(x_agent(where, "children"), OFF, deadline=time.monotonic() + 60))
            await started(where)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            assert left_behind(where) == []

        run(steps, fence_x.directory)

    def test_a_command_cancelled_before_it_ran_starts_nothing_although_the_metadata_is_known(self, fence_x: FenceX):
        where = fence_x.outlet()

        async def steps(driver: FenceAgentsDriver) -> None:
            await driver.perform(x_agent(where), STATUS, deadline=time.monotonic() + 8)
            before = children()
            asking = asyncio.ensure_future(driver.perform(x_agent(where), OFF, deadline=time.monotonic() + 8))
            await asyncio.sleep(0)
            assert children() == before
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await asyncio.sleep(0.3)

        run(steps, fence_x.directory)
        assert [start["given"]["action"] for start in starts(where)] == ["status"]

    def test_output_beyond_the_bound_is_read_and_dropped(self):
        async def steps() -> Ended:
            runner = Runner({})
            return await runner.run(["/usr/bin/head", "-c", "9000000", "/dev/zero"], "", deadline=time.monotonic() + 8, kept=10)

        ended = asyncio.run(steps())
        assert (ended.code, len(ended.out)) == (0, 10)

    def test_closing_ends_everything_and_everybody_gets_an_answer(self, fence_x: FenceX):
        where = fence_x.outlet()

        async def steps(driver: FenceAgentsDriver) -> list[Answer]:
            asking = [
                asyncio.ensure_future(driver.perform(x_agent(where, "hang"), OFF, deadline=time.monotonic() + 60))
                for _ in range(3)
            ]
            await started(where, 2)
            await driver.close()
            return [*await asyncio.gather(*asking), await driver.perform(x_agent(where), OFF, deadline=time.monotonic() + 5)]

        answers = [fault(answer) for answer in run(steps, fence_x.directory, limits=Limits(working=2, busy=30))]
        assert [answer.sent for answer in answers] == [True, True, False, False]
        assert left_behind(where) == []


class TestManyAtOnce:
    def test_no_more_work_at_once_than_the_limit_and_nobody_is_forgotten(self, fence_x: FenceX):
        outlets = [fence_x.outlet(str(number)) for number in range(8)]

        async def steps(driver: FenceAgentsDriver) -> list[Answer]:
            return await asyncio.gather(
                *(driver.perform(x_agent(where), OFF, deadline=time.monotonic() + 30) for where in outlets)
            )

        assert run(steps, fence_x.directory, limits=Limits(working=2)) == [ACCEPTED] * 8
        assert [len(starts(where)) for where in outlets] == [1] * 8

    def test_hanging_programs_give_their_place_to_others(self, fence_x: FenceX):
        """F8: with every place taken by a silent device, a good one is answered long before their deadlines."""
        hung, good = fence_x.outlet("hung"), fence_x.outlet("good")

        async def steps(driver: FenceAgentsDriver) -> tuple[Answer, float]:
            waiting = [
                asyncio.ensure_future(driver.perform(x_agent(hung, "hang"), OFF, deadline=time.monotonic() + 60)) for _ in "12"
            ]
            await started(hung, len(waiting))
            begun = time.monotonic()
            answer = await driver.perform(x_agent(good), STATUS, deadline=time.monotonic() + 20)
            return answer, time.monotonic() - begun

        answer, took = run(steps, fence_x.directory, limits=Limits(working=2, busy=0.5))
        assert answer is PowerStatus.ON
        assert took < 5

    def test_a_moment_without_file_descriptors_is_waited_out(self, fence_x: FenceX):
        """One after the off ended a restart for good, with the host dark."""
        where = fence_x.outlet()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

        async def steps(driver: FenceAgentsDriver) -> Answer:
            await driver.perform(x_agent(where), STATUS, deadline=time.monotonic() + 8)
            restore = asyncio.get_running_loop().call_later(0.3, resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors(), hard))
            try:
                return await driver.perform(x_agent(where), STATUS, deadline=time.monotonic() + 8)
            finally:
                restore.cancel()
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

        assert run(steps, fence_x.directory) is PowerStatus.ON

    def test_a_program_that_does_not_say_what_it_accepts_is_slow_and_not_out_of_turn(self, fence_x: FenceX):
        text = fence_x.path.read_text()
        fence_x.path.write_text(
            text.replace('if sys.argv[1:] == ["-o", "metadata"]:', "if sys.argv[1:]:\n    time.sleep(60)", 1)
        )
        found = fault(ask(fence_x.directory, x_agent(fence_x.outlet()), STATUS, within=1.0))
        assert (found.kind, found.sent) == (FaultKind.TIMEOUT, False)
        assert "what it accepts" in found.message

    def test_who_finds_no_place_in_time_is_told_that_nothing_was_sent(self, fence_x: FenceX):
        hung, good = fence_x.outlet("hung"), fence_x.outlet("good")

        async def steps(driver: FenceAgentsDriver) -> Answer:
            await driver.perform(x_agent(good), STATUS, deadline=time.monotonic() + 8)
            waiting = asyncio.ensure_future(driver.perform(x_agent(hung, "hang"), OFF, deadline=time.monotonic() + 60))
            await started(hung)
            assert not waiting.done()
            return await driver.perform(x_agent(good), OFF, deadline=time.monotonic() + 0.5)

        answer = fault(run(steps, fence_x.directory, limits=Limits(working=1, busy=30)))
        assert (answer.kind, answer.sent) == (FaultKind.BUSY, False)
        assert [start["given"]["action"] for start in starts(good)] == ["status"]


@needs_fence_agents
@pytest.mark.parametrize("level", LEVELS)
def test_every_default_parameter_is_known_to_its_program(level: str):
    """L-30: a misspelt default was shipped for years."""
    installed, tables, checked = installed_types(), tables_of(level), set()
    for type_ in sorted(set(tables.types) | set(tables.defaults)):
        agent = Agent(type=type_, address="a", username="u", password=Secret("p"))
        for ppc in (False, True):
            needs = parameters(agent, level=level, ppc=ppc)
            if needs.program not in installed:
                continue
            metadata = metadata_of(f"/usr/sbin/fence_{needs.program}")
            needs = replace(needs, plug="1" if "plug" in metadata.options else None)
            text = input_lines(needs.program, metadata, needs, Action.OFF, seconds=10)
            assert text.startswith("action=off\n")
            assert "power_wait=0\n" in text or "power_wait" not in metadata.options
            assert "\ndelay=" not in text, "the flow waits; the program does not wait again"
            checked.add(type_)
    assert len(checked) >= 10


@cache
def metadata_of(program: str) -> Metadata:
    run = subprocess.run([program, "-o", "metadata"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return read_metadata(run.stdout)


def test_what_is_installed_is_what_can_be_run(fence_x: FenceX):
    (fence_x.directory / "fence_not-a-type").touch(mode=0o755)
    (fence_x.directory / "fence_readme").touch(mode=0o644)
    assert installed_types([fence_x.directory]) == {"x"}


@pytest.mark.parametrize("document", [b"", b"nonsense", b"<resource-agent/>", b"<x><actions/></x>", b"<a>" * (1 << 19)])
def test_what_is_no_metadata_is_refused(document: bytes):
    with pytest.raises(ValueError, match="it is"):
        read_metadata(document)


def commands_running() -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(entry.read_bytes().replace(b"\0", b" ").decode(errors="replace").strip())
        except OSError:
            continue
    return found


def left_behind(where: Path) -> list[str]:
    """Return what still runs of the programs started for this outlet, or of their children."""
    give_up = time.monotonic() + 2
    pids = [start["pid"] for start in starts(where)]
    while True:
        left = [f"pid {pid}" for pid in pids if Path(f"/proc/{pid}").exists()]
        left += [line for line in commands_running() if line.endswith(f" {where}")]
        if not left or time.monotonic() > give_up:
            return left
        time.sleep(0.02)


def test_the_driver_keeps_the_protocol():
    driver: Driver = FenceAgentsDriver()
    asyncio.run(driver.close())
