"""How long the upgrade is in the way: a million hosts beside the same statements by hand, and bystanders behind a reader.

    python tests/bench/bench_upgrade.py [hosts]

Peers: psql running the statements by hand (no checks, no bookkeeping), and the same without lock discipline. Goals: exclusive
locks held 50 ms at most and 1.5 times the hand-run script at most; no bystander waits longer than lock_timeout + 0.2 s.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psycopg

from pmcompat.db import plan, upgrade
from pmcompat.db.baseline import init
from pmcompat.db.catalog import read as catalog_read
from pmcompat.db.cluster import Cluster
from pmcompat.db.connection import connect
from pmcompat.db.plan.scripts import load, render
from pmcompat.db.upgrade import UpgradeSettings
from pmcompat.errors import Locked

ROUNDS = 7
READER_SECONDS, BYSTANDERS = 10, 20
MS = 1000


def by_hand(conn: psycopg.Connection) -> str:
    """Return the statements a careful person would type, timed by the server: the scripts' own, without checks or records."""
    values = plan.make(catalog_read.read(conn)).values()
    names = [script.file for script in load() if script.scope == "engine"]
    texts = [
        re.sub(r"INSERT INTO pmcompat\.changed_options.*?;", "SELECT 1;", render(name, values).sql, flags=re.DOTALL)
        for name in names
    ]
    body = "\n".join(
        [f"ALTER TABLE {values['table']}" + texts[0].partition("ALTER TABLE public.vds_static")[2].partition(";")[0] + ";"]
    )
    body += texts[1] + WHITE_LIST + texts[3].replace("RETURNING option_id, option_name, version\n)\nSELECT 1;", ") SELECT 1;")
    return f"BEGIN;\nSELECT clock_timestamp() AS began;\n{body}\nCOMMIT;\nSELECT clock_timestamp() AS done;\n"


WHITE_LIST = """
DELETE FROM object_column_white_list WHERE column_name = 'pm_password';
INSERT INTO object_column_white_list SELECT 'vds', 'pm_secondary_' || n
FROM unnest('{ip,type,user,port,options,concurrent}'::text[]) n;
TRUNCATE object_column_white_list_sql;
"""


def psql_seconds(cluster: Cluster, name: str, script: str) -> float:
    """Run *script* in psql; return the seconds between its BEGIN and its COMMIT, by the server's clock."""
    psql = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin/psql"))), Path("psql"))
    done = subprocess.run(
        [psql, "-XqtA", "-v", "ON_ERROR_STOP=1", "-d", cluster.dsn(name)],
        input=script,
        capture_output=True,
        text=True,
        check=True,
    )
    stamps = re.findall(r"^\d{4}-\d\d-\d\d (\d\d):(\d\d):([\d.]+)", done.stdout, re.MULTILINE)
    first, last = (int(h) * 3600 + int(m) * 60 + float(s) for h, m, s in (stamps[0], stamps[-1]))
    return last - first


def rounds(cluster: Cluster, hosts: int) -> None:
    """Upgrade and take back on one database, ours and by hand in turn."""
    conn = connect(cluster.dsn("bench"))
    started = time.perf_counter()
    init(conn, "3.2-snapshot", hosts)
    conn.execute("VACUUM ANALYZE vds_static")
    print(f"{hosts} hosts made in {time.perf_counter() - started:.0f} s")
    ours, whole, hand, back = [], [], [], []
    upgrade.rehearse(conn)
    # the peer gets a copy of the database each time: a large one takes long to copy
    for _ in range(ROUNDS if hosts <= 100_000 else 3):
        script = by_hand(conn)
        copy = "bench_by_hand"
        conn.close()
        cluster.create_database(copy, template="bench")
        hand.append(psql_seconds(cluster, copy, script))
        cluster.drop_database(copy)
        conn = connect(cluster.dsn("bench"))
        started = time.perf_counter()
        report = upgrade.upgrade(conn)
        whole.append(time.perf_counter() - started)
        ours.append(report.measured.locked)
        back.append(upgrade.rollback(conn, UpgradeSettings()).measured.locked)
        conn.execute("DELETE FROM pmcompat.upgrades")
    conn.close()
    show("exclusive locks held, pmcompat", ours, goal=0.050)
    show("the same statements by hand in psql", hand)
    show("whole upgrade, from the call to the return", whole)
    show("exclusive locks held, rollback", back)
    print(f"ratio of medians {statistics.median(ours) / statistics.median(hand):.2f} (goal 1.5)")


def show(what: str, seconds: list[float], goal: float | None = None) -> None:
    """Print the median and the range in milliseconds."""
    text = f"{what:<46} median {statistics.median(seconds) * MS:7.1f} ms   {min(seconds) * MS:.1f} to {max(seconds) * MS:.1f}"
    print(text + (f"   (goal {goal * MS:.0f})" if goal else ""))


def longest_wait(cluster: Cluster, name: str, change: Callable[[], None]) -> float:
    """Return the longest time one of twenty short readers waited while *change* met a reader that stays ten seconds."""
    stop, waits = threading.Event(), [0.0]

    def read() -> None:
        with psycopg.connect(cluster.dsn(name), autocommit=True) as conn:
            while not stop.wait(0.05):
                started = time.monotonic()
                conn.execute("SELECT count(*) FROM vds WHERE vds_name = 'x'").fetchone()
                waits.append(time.monotonic() - started)

    with psycopg.connect(cluster.dsn(name)) as reader:
        reader.execute("SELECT count(*) FROM vds")
        threading.Timer(READER_SECONDS, reader.rollback).start()
        threads = [threading.Thread(target=read) for _ in range(BYSTANDERS)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        change()
        time.sleep(0.5)
        stop.set()
        for thread in threads:
            thread.join()
    return max(waits)


def bystanders(cluster: Cluster) -> None:
    """Compare bystanders' longest wait with and without lock discipline."""
    settings = UpgradeSettings(lock_timeout=2.0, patience=60)
    with connect(cluster.dsn("crowd")) as conn:
        init(conn, "3.2-snapshot", 1000)

        def disciplined() -> None:
            try:
                report = upgrade.upgrade(conn, settings)
                print(f"through after {report.measured.attempts} attempts")
            except Locked as locked:
                print(locked.what)

        waited = longest_wait(cluster, "crowd", disciplined)
        print(f"{'longest wait of a bystander, pmcompat':<46} {waited:6.2f} s   (goal {settings.lock_timeout + 0.2:.1f})")
        upgrade.rollback(conn)
        waited = longest_wait(cluster, "crowd", lambda: naive(conn))
        print(f"{'the same, ALTER TABLE without lock_timeout':<46} {waited:6.2f} s")


def naive(conn: psycopg.Connection) -> None:
    """Do what a script without lock discipline does."""
    conn.execute("ALTER VIEW vds OWNER TO CURRENT_USER; ALTER TABLE vds_static ADD COLUMN site_naive text")


def main() -> None:
    """Run both measurements on a private server."""
    hosts = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with Cluster(tcp=True) as cluster:
        for name in ("bench", "crowd"):
            cluster.create_database(name)
        rounds(cluster, hosts)
        bystanders(cluster)


if __name__ == "__main__":
    main()
