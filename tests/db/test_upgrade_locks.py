"""Locks taken briefly and politely (law D2), and death at any moment (law D1)."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time

import psycopg
import pytest
import site_objects as site

from pmcompat.db import upgrade
from pmcompat.db.plan import LOCK_KEY
from pmcompat.db.upgrade import UpgradeSettings
from pmcompat.errors import Locked, PmcompatError

#: seconds a busy machine may add to any wait
SLACK = 1.0


@contextlib.contextmanager
def reader(database, query="SELECT count(*) FROM vds"):
    """A session that has read and stays in its transaction."""
    with psycopg.connect(database.dsn, application_name="a report") as conn:
        conn.execute(query)
        yield conn


@pytest.fixture
def database(pm_database):
    return pm_database("3.1.0", hosts=20)


@pytest.mark.parametrize(
    "query", ["SELECT count(*) FROM vds", "SELECT count(*) FROM vds_static", "SELECT * FROM vds_with_tags"]
)
def test_a_reader_that_stays_is_named_and_nothing_is_changed(database, query):
    before, said = site.dump(database.dsn), []
    settings = UpgradeSettings(lock_timeout=0.1, patience=1.5)
    with reader(database, query) as blocker:
        named = f"pid {blocker.info.backend_pid}, user postgres"
        with pytest.raises(Locked) as locked:
            upgrade.upgrade(database.connect(), settings, notify=said.append)
    assert named in locked.value.holder
    assert "idle in transaction" in locked.value.holder
    assert query in locked.value.holder
    assert any(named in text for text in said)
    assert site.dump(database.dsn) == before


def test_it_gets_through_as_soon_as_the_reader_ends(database):
    """Trying again is cheap; nobody waits for it meanwhile."""
    with reader(database) as blocker:
        timer = threading.Timer(0.7, blocker.rollback)
        timer.start()
        report = upgrade.upgrade(database.connect(), UpgradeSettings(lock_timeout=0.1, patience=20))
        timer.join()
    assert report.applied
    assert report.measured.attempts > 1


def test_no_bystander_waits_longer_than_the_lock_timeout(database):
    stop, longest = threading.Event(), []

    def read():
        with psycopg.connect(database.dsn, autocommit=True) as conn:
            while not stop.is_set():
                started = time.monotonic()
                conn.execute("SELECT count(*) FROM vds").fetchone()
                longest.append(time.monotonic() - started)

    with reader(database):
        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        with pytest.raises(Locked):
            upgrade.upgrade(database.connect(), UpgradeSettings(lock_timeout=0.2, patience=1.5))
        stop.set()
        for thread in threads:
            thread.join()
    assert max(longest) < 0.2 + SLACK


def test_a_session_that_wants_our_tables_in_the_other_order_is_no_victim(database):
    """It holds vds_static and wants vds, while we hold vds and want vds_static: we give way before the server's check runs."""
    conn = database.connect()
    done = []
    with reader(database, "SELECT count(*) FROM vds_static") as other:

        def cross():
            time.sleep(0.4)
            done.append(other.execute("SELECT count(*) FROM vds").fetchone())
            other.rollback()

        thread = threading.Thread(target=cross)
        thread.start()
        report = upgrade.upgrade(conn, UpgradeSettings(lock_timeout=3, patience=30))
        thread.join()
    assert done, "the bystander was not ended"
    assert report.applied


def test_two_upgrades_at_once(database):
    """The second is told who holds the lock."""
    with psycopg.connect(database.dsn, autocommit=True, application_name="first") as first:
        first.execute("SELECT pg_advisory_lock(%s)", [LOCK_KEY])
        named = f"pid {first.info.backend_pid}, user postgres"
        with pytest.raises(Locked) as locked:
            upgrade.upgrade(database.connect())
    assert named in locked.value.holder
    assert "first" in locked.value.holder
    assert upgrade.upgrade(database.connect()).applied


def test_a_change_between_plan_and_locks_is_seen_and_planned_again(database):
    """A site edits a procedure while we wait for the tables: the edit is in the upgraded one."""
    conn, said = database.connect(), []
    other = database.connect()
    text = site.one(other, "SELECT pg_get_functiondef('updatevdsstatic'::regproc)")
    with reader(database) as blocker:

        def change():
            time.sleep(0.4)
            other.execute(text.replace("BEGIN", "BEGIN -- site's own").encode())
            blocker.rollback()

        thread = threading.Thread(target=change)
        thread.start()
        upgrade.upgrade(conn, UpgradeSettings(lock_timeout=5, patience=30), notify=said.append)
        thread.join()
    assert any("changed since the plan was made: procedure updatevdsstatic" in text for text in said)
    assert "-- site's own" in site.one(conn, "SELECT prosrc FROM pg_proc WHERE proname = 'updatevdsstatic'")


def test_statements_have_a_time_limit(database):
    conn = database.connect()
    conn.execute("CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(9); RETURN new; END $$")
    conn.execute("CREATE TRIGGER slow BEFORE INSERT ON vds_static FOR EACH ROW EXECUTE FUNCTION slow()")
    with pytest.raises(PmcompatError, match="statement timeout"):
        upgrade.upgrade(conn, UpgradeSettings(statement_timeout=0.3))
    assert upgrade.status(conn).applied == ()
    assert upgrade.upgrade(conn, UpgradeSettings(statement_timeout=0.3, call=False)).applied


# ---------------------------------------------------------------------- kill -9

CHILD = """
import sys
from pmcompat.db import upgrade
from pmcompat.db.connection import connect
conn = connect(sys.argv[1])
upgrade.status(conn)
print(conn.info.backend_pid, flush=True)
sys.stdin.readline()
upgrade.upgrade(conn, upgrade.UpgradeSettings(lock_timeout=2, patience=5))
"""


def killed(database, seconds, *, backend):
    """Start an upgrade in a process of its own, and kill it or its backend after so many seconds; tell whether it was done."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, database.dsn],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with child, psycopg.connect(database.dsn, autocommit=True) as conn:
        pid = int(child.stdout.readline())
        child.stdin.write("go\n")
        child.stdin.flush()
        time.sleep(seconds)
        if backend:
            conn.execute("SELECT pg_terminate_backend(%s)", [pid])
        else:
            os.kill(child.pid, signal.SIGKILL)
        code = child.wait(30)
        while site.one(conn, "SELECT count(*) FROM pg_stat_activity WHERE pid = %s", pid):
            time.sleep(0.01)
    return code == 0


def both_ends(pm_database, times, span):
    chance = random.Random(20)
    outcomes = []
    untouched = complete = None
    for i in range(times):
        database = pm_database("3.1.0", hosts=2)
        untouched = untouched or site.dump(database.dsn)
        killed(database, chance.uniform(0, span), backend=bool(i % 2))
        conn = database.connect()
        state = upgrade.status(conn).state
        outcomes.append(state)
        if state == "current":
            complete = complete or site.dump(database.dsn)
        assert site.dump(database.dsn) == (complete if state == "current" else untouched)
        assert site.upgraded(conn).applied or state == "current"
        database.close()
    return outcomes


def test_killed_at_any_moment_it_is_untouched_or_complete(pm_database):
    assert len(both_ends(pm_database, 20, 0.5)) == 20


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_killed_two_hundred_times(pm_database):
    outcomes = both_ends(pm_database, 200, 0.6)
    assert {"pending", "current"} <= set(outcomes), "moments before and after the commit were met"
