"""The executor's process is killed, signalled, or loses its database in the middle of a restart: real command, real devices.

Every run is judged by :mod:`safety`, from what the devices wrote down themselves.
"""

from __future__ import annotations

import functools
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
import safety
from rig import Going, Rig, RigHost, Site, needs_ipmi_sim, rig, side_by_side, site_of  # noqa: F401 - a fixture too
from safety import Run

pytestmark = [pytest.mark.needs_ipmi_sim, needs_ipmi_sim]

#: seconds a plug takes to follow: a restart of such a host takes half a second, most of it between off and on
SETTLE = 0.2
Hosts = Callable[[int, float], tuple[Site, list[RigHost]]]


@pytest.fixture
def hosts(pm_database: Any, rig: Rig) -> Hosts:  # noqa: F811 - the fixture
    """Dual-supply hosts in a database of their own."""

    def make(count: int, settle: float = SETTLE) -> tuple[Site, list[RigHost]]:
        made = [rig.dual(f"h{i}", settle=settle) for i in range(count)]
        return site_of(pm_database("3.1.0", hosts=12 if count <= 12 else 100, upgraded=True), rig, made), made

    return make


def interrupted(site: Site, host: RigHost, dice: random.Random, what: Callable[[Going], None], *, within: float = 0.7) -> Run:
    """Restart *host* and do *what* to the command at some moment: mostly between its first packet and its end."""
    going = site.begin("restart", host)
    if dice.random() < 0.15:
        time.sleep(dice.uniform(0.05, 0.7))
    elif going.wait_for_first_packet():
        time.sleep(dice.uniform(0, within))
    what(going)
    return going.end()


def open_operations(site: Site, host: RigHost) -> list[str]:
    """Return what the journal holds for unfinished on this host."""
    found = site.sql("SELECT operation FROM pmcompat.operations WHERE host_name = %s AND finished_at IS NULL", [host.name])
    return [row[0] for row in found]


def recover(site: Site, host: RigHost, *, look_first: bool = False) -> list[Run]:
    """Do what an operator does next, and demand that the host has all its power again and nothing is left open."""
    runs = []
    uncertain = bool(open_operations(site, host))
    if look_first:
        runs.append(site.run("status", host))
    runs.append(site.run("resume", host))
    safety.check(runs)
    told = any(note.startswith("uncertain until now") for run in runs for note in run.notes)
    assert told == uncertain, f"uncertain: {uncertain}, said so: {told}\n" + "\n".join(map(str, runs))
    assert runs[-1].code in {0, 9}, runs[-1]
    assert host.powers() == ["on"] * len(host.supplies), "\n".join(map(str, runs))
    assert not open_operations(site, host)
    return runs


# Killed


def kill(going: Going) -> None:
    going.signal(signal.SIGKILL)


def killed_and_recovered(site: Site, host: RigHost, seed: int) -> str:
    dice = random.Random(seed)
    run = interrupted(site, host, dice, kill)
    safety.check(run)
    dark = host.powers()
    recover(site, host, look_first=dice.random() < 0.5)
    return f"seed {seed}: killed with {len(run.told())} commands sent, plugs {dark}"


def kill_many(hosts: Hosts, count: int, base: int) -> list[str]:
    site, made = hosts(count, SETTLE)
    told = side_by_side(
        [functools.partial(killed_and_recovered, site, host, base + i) for i, host in enumerate(made)], at_once=4
    )
    assert any("'off'" in line for line in told), "no kill came while a plug was dark: these moments prove nothing"
    return told


def test_killed_at_any_moment_of_a_restart_it_is_safe_and_recoverable(hosts: Hosts, record_property: Any) -> None:
    """10 kills with -9; what comes next says uncertain and settles it, and ``host resume`` gives the power back."""
    record_property("runs", kill_many(hosts, 10, 100))


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("base", [1000, 2000])
def test_killed_at_a_hundred_moments_of_a_restart_it_is_safe_and_recoverable(
    hosts: Hosts, base: int, record_property: Any
) -> None:
    record_property("runs", kill_many(hosts, 50, base))


def test_resumed_before_the_off_has_shown_the_host_is_not_left_dark(hosts: Hosts) -> None:
    """The device takes 1.5 s to go off; the executor dies at once, and ``host resume`` comes while the plugs still read on."""
    site, (host,) = hosts(1, 1.5)
    going = site.begin("restart", host)
    assert site.witness.wait(host.plugs, lambda seen: sum(entry.what == "told" for entry in seen) == 2)
    time.sleep(0.2)  # the journal hears of what was sent a moment later
    kill(going)
    going.process.communicate()
    run = site.run("resume", host)
    assert host.powers() == ["on", "on"], run
    assert run.code == 0, run
    assert run.told(power="on"), "it is not taken for on before the off has shown"
    safety.check(run)


# Signalled


def signalled_and_recovered(site: Site, host: RigHost, seed: int, number: signal.Signals) -> str:
    dice = random.Random(seed)
    run = interrupted(site, host, dice, lambda going: going.signal(number))
    safety.check(run)
    if run.report is None:  # it came before anything was begun
        assert run.code in {-number, 128 + number, 130}, run
    powers = host.powers()
    assert "on" in powers, run
    recover(site, host)
    return f"seed {seed}: {number.name} with {len(run.told())} commands sent, exit {run.code}, plugs {powers}"


def signal_many(hosts: Hosts, count: int, base: int) -> list[str]:
    numbers = [(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)[i % 3] for i in range(count)]
    site, made = hosts(count, SETTLE)
    steps = [
        functools.partial(signalled_and_recovered, site, host, base + i, number)
        for i, (host, number) in enumerate(zip(made, numbers, strict=True))
    ]
    return list(side_by_side(steps))


def test_a_stop_signal_at_any_moment_of_a_restart_leaves_no_host_dark(hosts: Hosts, record_property: Any) -> None:
    """Ctrl-C, SIGTERM and SIGHUP, twice each."""
    record_property("runs", signal_many(hosts, 6, 300))


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_sixty_stop_signals_leave_no_host_dark(hosts: Hosts, record_property: Any) -> None:
    record_property("runs", signal_many(hosts, 60, 3000))


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_second_signal_ends_it_at_once_and_it_is_recoverable(hosts: Hosts) -> None:
    site, made = hosts(12, 1.0)

    def twice(host: RigHost, seed: int) -> None:
        dice = random.Random(seed)
        going = site.begin("restart", host)
        if going.wait_for_first_packet():
            time.sleep(dice.uniform(0, 0.8))
        going.process.send_signal(signal.SIGINT)
        time.sleep(dice.uniform(0.05, 0.3))
        began = time.monotonic()
        going.process.send_signal(signal.SIGINT)
        going.process.wait(30)
        took = time.monotonic() - began
        run = going.end()
        safety.check(run)
        assert took < 1.5, f"a second signal ends at once, and took {took:.1f} s\n{run}"
        recover(site, host)

    side_by_side([functools.partial(twice, host, 400 + i) for i, host in enumerate(made)])


# Without its database


def uptime() -> float:
    return float(Path("/proc/uptime").read_text().split()[0])


def cut_and_recovered(site: Site, host: RigHost, seed: int, session: str) -> str:
    dice = random.Random(seed)
    cut = []

    def do(going: Going) -> None:
        cut.append((site.cut(going.process, session), uptime()))

    run = interrupted(site, host, dice, do, within=1.3)
    safety.check(run)
    (sessions, at), late = cut[0], 0.3  # a command whose check was answered before the cut may still be on its way
    told = f"seed {seed}: {sessions} sessions of {session!r} cut, {len(run.told())} commands sent, exit {run.code}"
    if session == "pmcompat fence" and sessions:
        after = [entry for entry in run.told() if entry.at > at + late]
        assert not after, f"F6: sent after the lock was lost at {at:.2f}: {after}\n{run}"
        assert run.code in {0, 4, 7}, run
        if run.code == 7:
            assert run.report is not None
            assert run.report.get("ended_by") == "lost lock", run
    elif sessions and run.told():
        assert run.code == 0, f"F7: the journal must not disturb\n{run}"
    recover(site, host)
    return told


def cut_many(hosts: Hosts, count: int, base: int) -> list[str]:
    site, made = hosts(count, 0.6)
    steps = [functools.partial(cut_and_recovered, site, host, base + i, "pmcompat fence") for i, host in enumerate(made)]
    told = side_by_side(steps)
    assert any("exit 7" in line for line in told), "no cut came in time to matter"
    return told


def test_without_its_lock_it_sends_nothing_more_and_says_uncertain(hosts: Hosts, record_property: Any) -> None:
    """``pg_terminate_backend`` of the lock's session, at 3 moments."""
    record_property("runs", cut_many(hosts, 3, 501))


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_without_its_lock_at_forty_moments(hosts: Hosts, record_property: Any) -> None:
    record_property("runs", cut_many(hosts, 40, 5000))


def test_a_journal_that_is_cut_changes_nothing(hosts: Hosts) -> None:
    """The journal's sessions bear no process's name: one process at a time."""
    site, made = hosts(1, 0.3)
    for i, host in enumerate(made):
        cut_and_recovered(site, host, 600 + i, "pmcompat journal")


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_journal_that_is_cut_at_thirty_moments_changes_nothing(hosts: Hosts) -> None:
    site, made = hosts(30, 0.3)
    for i, host in enumerate(made):
        cut_and_recovered(site, host, 6000 + i, "pmcompat journal")


def close_database(site: Site) -> None:
    """Let nobody in any more, and put out who is there but for the lock."""
    name = site.sql("SELECT current_database()")[0][0]
    with psycopg.connect(site.dsn, dbname="postgres", autocommit=True) as conn:
        conn.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = %s AND application_name NOT LIKE 'pmcompat fence%%'",
            [name],
        )


def open_database(site: Site) -> None:
    name = psycopg.conninfo.conninfo_to_dict(site.dsn)["dbname"]
    with psycopg.connect(site.dsn, dbname="postgres", autocommit=True) as conn:
        conn.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


def test_a_journal_that_stays_away_is_told_and_settled_by_the_next_command(hosts: Hosts) -> None:
    """Law F7: after the first packet the restart goes on to its end; the record stays open until somebody looks."""
    site, (host,) = hosts(1, 0.3)
    going = site.begin("restart", host)
    assert going.wait_for_first_packet()
    close_database(site)
    try:
        run = going.end()
    finally:
        open_database(site)
    safety.check(run)
    assert run.code == 0, run
    assert any("the journal could not be written" in note for note in run.notes), run
    assert open_operations(site, host) == ["restart"]
    assert recover(site, host, look_first=True)[0].code == 0


def test_without_a_database_nothing_is_sent(hosts: Hosts) -> None:
    site, (host,) = hosts(1, 0.0)
    close_database(site)
    try:
        run = site.run("restart", host)
    finally:
        open_database(site)
    assert run.code == 4, run
    assert run.own == ()


# A worker of the IPMI driver


def children(pid: int) -> list[int]:
    """Return the processes below *pid*."""
    below: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found = [int(child) for child in task.read_text().split()]
        except OSError:
            continue
        for child in found:
            below += [child, *children(child)]
    return below


@pytest.mark.parametrize("whole", [False, True], ids=["the workers", "the forker too"])
def test_workers_killed_in_the_middle_of_a_restart_cost_nothing_but_time(hosts: Hosts, whole: bool) -> None:
    site, (host,) = hosts(1, 0.4)
    going = site.begin("restart", host)
    assert site.witness.wait(host.plugs, lambda seen: sum(entry.what == "told" for entry in seen) == 2)
    below = children(going.process.pid)
    assert len(below) > 2
    for pid in below if whole else below[1:]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    run = going.end()
    safety.check(run)
    assert run.code == 0, run
    assert host.powers() == ["on", "on"]
