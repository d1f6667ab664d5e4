"""The power verbs from the outside: a real process, a real database, a simulated rack."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest

from pmcompat.db.cipher import PlainCipher
from pmcompat.db.dao import VdsStaticDao
from pmcompat.model import Agent, Options, PowerManagement, Secret

RACK = """
[[device]]
address = "psu-a"
users = { admin = "s3cr3t" }
settle_off = %(settle)s
[[device]]
address = "psu-b"
users = { admin = "s3cr3t" }
settle_off = %(settle)s
[device.faults]
ignores = { off = %(ignores)d }
[[device]]
address = "psu-dead"
users = { admin = "s3cr3t" }
[device.faults]
unreachable = true
[[device]]
address = "psu-c"
users = { admin = "other" }
"""


def agents(*names: str, password: str = "s3cr3t", concurrent: bool = True) -> PowerManagement:
    found = tuple(
        Agent(type="ipmilan", address=name, username="admin", password=Secret(password), options=Options("lanplus=1"), order=i)
        for i, name in enumerate(names, 1)
    )
    return PowerManagement(enabled=True, agents=found, concurrent=concurrent and len(found) > 1)


@pytest.fixture
def site(pm_database: Any, tmp_path: Path) -> Site:
    database = pm_database("3.1.0", hosts=4, upgraded=True)
    with database.connect() as conn:
        dao = VdsStaticDao(conn, PlainCipher())
        hosts = sorted(dao.get_all(), key=lambda host: host.name)
        settings = {
            "dual": agents("psu-a", "psu-b"),
            "fallback": agents("psu-dead", "psu-a", concurrent=False),
            "wrong": agents("psu-c"),
            "bare": PowerManagement(),
        }
        for host, (name, power) in zip(hosts, settings.items(), strict=True):
            dao.update(dataclasses.replace(host, name=name, power_management=power))
        conn.execute("UPDATE vds_dynamic SET status = 2")
        conn.commit()
    return Site(database.dsn, tmp_path)


class Site:
    """A database with four hosts, and a rack file."""

    def __init__(self, dsn: str, where: Path) -> None:
        self.dsn, self.where = dsn, where
        self.rack(settle=0, ignores=0)

    def rack(self, *, settle: float, ignores: int) -> None:
        (self.where / "rack.toml").write_text(RACK % {"settle": settle, "ignores": ignores})

    @property
    def environment(self) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PMCOMPAT", "PG"))},
            "PMCOMPAT_DSN": self.dsn,
            "PMCOMPAT_CIPHER": "plain",
            "PMCOMPAT_SIMULATE": str(self.where / "rack.toml"),
            "XDG_STATE_HOME": str(self.where / "state"),
            "NO_COLOR": "1",
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "pmcompat", *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=60)
        assert "s3cr3t" not in out + err
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def sql(self, query: str) -> list[Any]:
        import psycopg

        with psycopg.connect(self.dsn, autocommit=True) as conn:
            found = conn.execute(query)
            return found.fetchall() if found.description else []


def lines(result: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_restart_as_json_is_one_line_of_the_promised_shape(site: Site) -> None:
    result = site.run("host", "restart", "dual", "--json", "--yes")
    assert result.returncode == 0, result.stderr
    (found,) = lines(result)
    assert {
        "host": "dual",
        "operation": "restart",
        "succeeded": True,
        "power": "on",
        "degraded": False,
    }.items() <= found.items()
    assert found["mode"] == "concurrent"
    assert found["seconds"] < 1
    assert [set(agent) for agent in found["agents"]] == [{"order", "type", "address", "asked", "reached", "power", "error"}] * 2
    assert all(agent["reached"] is True and agent["error"] is None for agent in found["agents"])
    history = site.run("host", "history", "dual", "--json")
    assert found["operation_id"] in history.stdout


def test_without_a_terminal_a_change_needs_yes_and_a_look_does_not(site: Site) -> None:
    refused = site.run("host", "stop", "dual")
    assert refused.returncode == 9
    assert "--yes" in refused.stderr
    assert site.run("host", "status", "dual").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("stop", "fallback", "--yes"), 0, "was used because"),
        (("stop", "wrong", "--yes"), 6, "wrong"),
        (("stop", "bare", "--yes"), 9, "disabled"),
        (("stop", "nobody", "--yes"), 3, "there is no host 'nobody'"),
        (("stop", "--yes"), 2, "--all"),
        (("stop", "dual", "--yes", "--deadline", "1"), 9, "shorter than one confirmation"),
        (("resume", "dual", "--yes"), 9, "nothing to resume"),
        (("status", "--all"), 6, "left out"),
        (("status", "--cluster", "nowhere"), 3, "cluster"),
    ],
)
def test_exit_codes(site: Site, arguments: tuple[str, ...], code: int, said: str) -> None:
    result = site.run("host", *arguments)
    assert result.returncode == code, result.stdout + result.stderr
    assert said in result.stdout + result.stderr


def test_an_ignored_off_is_failed_with_the_state_known(site: Site) -> None:
    site.rack(settle=0, ignores=-1)
    result = site.run("host", "stop", "dual", "--yes", "--json", "--delay", "0.2", "--retries", "3")
    assert result.returncode == 1
    (found,) = lines(result)
    assert found["power"] == "on"
    assert any("half done" in note for note in found["notes"])


def test_the_engines_status_and_quiet_time_hold(site: Site) -> None:
    site.sql("UPDATE vds_dynamic SET status = 3 RETURNING 1")
    assert site.run("host", "stop", "dual", "--yes").returncode == 9
    assert site.run("host", "restart", "dual", "--yes").returncode == 0
    again = site.run("host", "restart", "dual", "--yes")
    assert again.returncode == 9
    assert "quiet time is 180 s" in again.stderr
    assert site.run("host", "restart", "dual", "--yes", "--quiet-time", "0").returncode == 0
    assert site.run("host", "stop", "dual", "--yes", "--force").returncode == 0


def test_all_hosts_are_one_json_line_each(site: Site) -> None:
    result = site.run("host", "stop", "--all", "--yes", "--json")
    found = {line["host"]: line for line in lines(result)}
    assert set(found) == {"dual", "fallback", "wrong", "bare"}
    assert found["dual"]["succeeded"]
    assert found["bare"]["error"]["code"] == "refused"
    assert result.returncode == 6


def test_the_storm_brake_refuses_a_cluster(site: Site) -> None:
    result = site.run("host", "stop", "dual", "fallback", "wrong", "--yes", "--json", "--storm-percent", "50")
    assert result.returncode == 9
    assert all("too much at once" in line["error"]["what"] for line in lines(result))


def test_explain_touches_nothing(site: Site) -> None:
    result = site.run("host", "restart", "dual", "--explain")
    assert result.returncode == 0
    assert [line.split()[-1] for line in result.stdout.splitlines() if "t+" in line and "status" not in line] == [
        "off",
        "off",
        "on",
        "on",
    ]
    assert site.sql("SELECT count(*) FROM pmcompat.operations") == [(0,)]


def test_verbose_in_a_pipe_is_a_line_per_event(site: Site) -> None:
    result = site.run("host", "restart", "dual", "--yes", "-v")
    sent = [line for line in result.stderr.splitlines() if line.endswith((": off sent", ": on sent"))]
    assert [line.split()[-2] for line in sent] == ["off", "off", "on", "on"]


def test_metrics_are_written_when_it_ends_and_say_what_it_did(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "pmcompat.prom"
    result = site.run("host", "status", "--all", "--metrics", str(path))
    text = path.read_text()
    assert result.returncode != 0  # there are dead agents
    assert 'pmcompat_host_power{host="dual"} 1.0' in text
    assert 'pmcompat_agent_reached{host="' in text
    assert list(tmp_path.glob("*.prom*")) == [path]


@pytest.mark.parametrize("name", ["no/such/directory.prom", "."], ids=["no directory", "a directory"])
def test_metrics_that_have_no_place_are_refused_before_anything_is_sent(site: Site, tmp_path: Path, name: str) -> None:
    result = site.run("host", "stop", "dual", "--yes", "--force", "--metrics", str(tmp_path / name))
    assert result.returncode == 3, result.stderr
    assert "nothing was sent" in result.stderr
    assert site.sql("SELECT count(*) FROM pmcompat.operations") == [(0,)]


def test_without_a_journal_in_the_database_a_file_keeps_it(site: Site) -> None:
    result = site.run("host", "restart", "dual", "--yes", "--no-journal")
    assert result.returncode == 0
    assert site.sql("SELECT count(*) FROM pmcompat.operations") == [(0,)]
    assert "restart" in (site.where / "state/pmcompat/journal.jsonl").read_text()


def test_one_agent_is_tested_also_where_power_management_is_off(site: Site) -> None:
    site.sql("UPDATE vds_static SET pm_enabled = false RETURNING 1")
    result = site.run("agent", "test", "fallback", "--agent", "secondary", "--json")
    assert result.returncode == 0
    assert lines(result)[0]["power"] == "on"
    dead = site.run("agent", "test", "fallback", "--agent", "primary", "--json")
    assert dead.returncode == 4
    assert lines(dead)[0]["fault"] == "unreachable"
    assert site.run("agent", "test", "wrong", "--agent", "secondary").returncode == 3


def test_types_are_listed_per_profile(site: Site) -> None:
    names = [line["type"] for line in lines(site.run("agent", "types", "--profile", "3.2", "--json"))]
    assert {"ipmilan", "apc", "ilo4"} <= set(names)
    assert site.run("agent", "types", "--profile", "9").returncode == 3
    alike = [site.run("agent", "types", "--profile", profile).stdout for profile in ("3.2", "3.3")]
    assert alike[0] == alike[1] != ""


@pytest.mark.parametrize("hosts", [(), ("dual", "--all"), ("--all", "--cluster", "Default")])
def test_hosts_are_chosen_in_exactly_one_way(site: Site, hosts: tuple[str, ...]) -> None:
    result = site.run("host", "stop", *hosts, "--yes")
    assert result.returncode == 2
    assert "name hosts" in result.stderr


def begun(site: Site, action: str = "off") -> None:
    """Wait until the journal has heard of the action."""
    give_up = time.monotonic() + 20
    while time.monotonic() < give_up:
        if site.sql(f"SELECT 1 FROM pmcompat.operation_events WHERE action = '{action}' LIMIT 1"):
            return
        time.sleep(0.02)
    pytest.fail("nothing happened")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_mid_restart_gives_the_power_back(site: Site, number: signal.Signals) -> None:
    site.rack(settle=1.5, ignores=0)
    process = site.start("host", "restart", "dual", "--yes", "--json")
    begun(site)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    found = json.loads(out)
    assert found["ended_by"] == number.name, err
    assert found["succeeded"]
    assert found["power"] == "on"
    assert process.returncode == 0


@pytest.mark.parametrize(
    "numbers",
    [
        (signal.SIGHUP, signal.SIGHUP),
        (signal.SIGTERM, signal.SIGHUP),
        (signal.SIGTERM, signal.SIGTERM),
        (signal.SIGINT, signal.SIGINT),
        (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGINT),
    ],
    ids=lambda numbers: "+".join(number.name for number in numbers),
)
def test_one_event_that_comes_as_several_signals_leaves_no_host_dark(site: Site, numbers: tuple[signal.Signals, ...]) -> None:
    """A terminal that closed sent SIGHUP twice, 3 ms apart: the second was taken for a person who insists."""
    site.rack(settle=1.5, ignores=0)
    process = site.start("host", "restart", "dual", "--yes", "--json")
    begun(site)
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.003)
    out, err = process.communicate(timeout=30)
    found = json.loads(out)
    assert (found["succeeded"], found["power"], process.returncode) == (True, "on", 0), err


def test_a_second_ctrl_c_ends_at_once_and_says_uncertain(site: Site) -> None:
    site.rack(settle=4.0, ignores=0)
    process = site.start("host", "restart", "dual", "--yes", "--json")
    begun(site)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert time.monotonic() - began < 2
    assert (json.loads(out)["succeeded"], process.returncode) == (False, 7)


def test_a_hangup_that_whoever_started_us_ignores_ends_nothing(site: Site) -> None:
    """``nohup``."""
    site.rack(settle=1.0, ignores=0)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = site.start("host", "restart", "dual", "--yes", "--json")
    finally:
        signal.signal(signal.SIGHUP, before)
    begun(site)
    process.send_signal(signal.SIGHUP)
    out, _ = process.communicate(timeout=30)
    assert (json.loads(out)["ended_by"], process.returncode) == (None, 0)


@pytest.mark.parametrize("option", ["--quiet-time", "--deadline", "--storm-percent", "--first-wait", "--delay"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_what_is_no_number_is_wrong_usage(site: Site, option: str, value: str) -> None:
    result = site.run("host", "stop", "dual", "--yes", "--json", option, value)
    assert result.returncode == 2, result.stderr
    assert site.sql("SELECT count(*) FROM pmcompat.operations") == [(0,)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_after_the_work_is_done_does_not_take_its_exit_code(site: Site, number: signal.Signals) -> None:
    """The interpreter gives its handlers back before the process ends: one that came then ended a done restart with -15."""
    process = site.start("host", "restart", "dual", "--yes", "--json")
    assert process.stdout is not None
    found = json.loads(process.stdout.readline())
    while process.poll() is None:
        process.send_signal(number)
        time.sleep(0.001)
    process.communicate(timeout=30)
    assert (found["succeeded"], process.returncode) == (True, 0)


def test_a_reader_who_leaves_early_leaves_no_host_dark(site: Site) -> None:
    """``| head -1``: the refused hosts are printed first, and the second of them has no reader any more."""
    site.rack(settle=1.5, ignores=0)
    with site.start("host", "restart", "bare", "wrong", "dual", "--yes", "--json") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(30) == 6
    assert site.sql("SELECT outcome, power FROM pmcompat.operations WHERE host_name = 'dual'") == [("succeeded", "on")]


def test_a_full_disk_leaves_no_host_dark(site: Site) -> None:
    site.rack(settle=1.5, ignores=0)
    arguments = ("host", "restart", "wrong", "dual", "--yes", "--json")
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "pmcompat", *arguments],
            env=site.environment,
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert result.returncode == 6
    assert "cannot be written: No space left on device" in result.stderr
    assert "Traceback" not in result.stderr
    assert site.sql("SELECT outcome, power FROM pmcompat.operations WHERE host_name = 'dual'") == [("succeeded", "on")]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_name_that_the_terminal_cannot_show_ends_nothing(site: Site, encoding: str) -> None:
    site.sql("UPDATE vds_static SET vds_name = 'dürr' WHERE vds_name = 'dual'")
    environment = {**site.environment, "PYTHONIOENCODING": encoding}
    command = [sys.executable, "-m", "pmcompat", "host", "restart", "dürr", "--yes"]
    as_text, as_json = [
        subprocess.run([*command, *more], env=environment, capture_output=True, check=False) for more in ([], ["--json"])
    ]
    assert as_text.returncode == 0, as_text.stderr.decode(errors="replace")
    assert b"restart done" in as_text.stdout
    assert json.loads(as_json.stdout)["host"] == "dürr"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_do_not_matter(site: Site, closed: str) -> None:
    command = f"exec {sys.executable} -m pmcompat host stop dual --yes {closed}"
    result = subprocess.run(["/bin/sh", "-c", command], env=site.environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr


def test_a_signal_is_obeyed_though_nobody_reads_stderr(site: Site) -> None:
    """A terminal that closes takes stderr along, and its SIGHUP must end the command all the same."""
    site.rack(settle=60, ignores=0)
    with site.start("host", "restart", "dual", "--yes", "--json") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stderr.close()
        begun(site)
        process.send_signal(signal.SIGHUP)
        assert json.loads(process.stdout.read())["ended_by"] == "SIGHUP"
        assert process.wait(20) == 7, "the off may show later, and does"


def test_after_a_kill_the_next_operation_says_uncertain_and_a_person_can_settle_it(site: Site) -> None:
    site.rack(settle=60, ignores=0)
    process = site.start("host", "restart", "dual", "--yes", "--json")
    begun(site)
    refused = site.run("host", "stop", "dual", "--yes")
    assert refused.returncode == 9
    assert str(process.pid) in refused.stderr
    process.kill()
    process.communicate(timeout=30)
    site.rack(settle=0, ignores=0)
    result = site.run("host", "restart", "dual", "--yes", "--json")
    assert result.returncode == 0, result.stderr
    assert lines(result)[0]["notes"][0].startswith("uncertain until now: a restart by")


def test_confirm_settles_under_the_persons_name(site: Site) -> None:
    site.rack(settle=60, ignores=0)
    process = site.start("host", "restart", "dual", "--yes", "--json")
    begun(site)
    process.kill()
    process.communicate(timeout=30)
    assert site.run("host", "confirm", "dual").returncode == 9
    result = site.run("host", "confirm", "dual", "--yes")
    assert result.returncode == 0, result.stderr
    assert "1 records" in result.stderr
    assert "confirm" in site.run("host", "history", "dual").stdout


def at_a_terminal(site: Site, keys: bytes, *arguments: str) -> tuple[int, str]:
    """Run a command at a pseudo-terminal, press *keys* when it asks, and return its exit code and all that was shown."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "pmcompat", *arguments],
        env={**site.environment, "TERM": "xterm", "COLUMNS": "120"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - the test has no threads
    )
    os.close(terminal)
    shown = b""
    try:
        while data := os.read(controller, 4096):
            shown += data
            if b"[y/N]" in data:
                os.write(controller, keys)
    except OSError:  # the other end closed: the process is gone
        pass
    finally:
        os.close(controller)
    return process.wait(30), shown.decode()


def test_at_a_terminal_it_asks_and_draws_a_row_per_agent(site: Site) -> None:
    site.rack(settle=0.5, ignores=0)
    code, shown = at_a_terminal(site, b"y\n", "host", "restart", "dual")
    assert code == 0, shown
    assert "Restart dual (MAINTENANCE)?" in shown
    assert "status" in shown
    assert "dual: restart done, power on" in shown


@pytest.mark.parametrize(("keys", "code"), [(b"n\n", 9), (b"\x03", 130)])
def test_at_a_terminal_no_and_ctrl_c_mean_no(site: Site, keys: bytes, code: int) -> None:
    found, shown = at_a_terminal(site, keys, "host", "stop", "dual")
    assert found == code, shown
    assert site.sql("SELECT count(*) FROM pmcompat.operations") == [(0,)]
