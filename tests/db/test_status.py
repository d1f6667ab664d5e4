"""What status and plan say, and the command line's exit codes and forms (DESIGN §5)."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import site_objects as site

from pmcompat.db import upgrade
from pmcompat.errors import Locked


def run(database, *arguments, code=0, env=None):
    """Run the command line, as a user does, without a terminal."""
    done = subprocess.run(
        [sys.executable, "-m", "pmcompat", "db", *arguments],
        env={**os.environ, "PMCOMPAT_DSN": database.dsn, "NO_COLOR": "1", **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.mark.parametrize("shape", site.SHAPES)
def test_status_before_and_after(pm_database, shape):
    conn = pm_database(shape, hosts=3).connect(read_only=True)
    found = upgrade.status(conn)
    assert (found.state, found.shape, found.applied) == ("pending", shape, ())
    assert found.pending[:2] == ("0001-secondary-columns", "0002-views-and-procedures")

    found = upgrade.status(pm_database(shape, hosts=3, upgraded=True).connect(read_only=True))
    assert (found.state, found.shape, found.pending, found.drift) == ("current", "upgraded", (), ())


def test_the_json_is_one_object_on_one_line_with_the_promised_keys(pm_database):
    database = pm_database("3.1.0", hosts=3)
    text = run(database, "status", "--json").stdout
    assert text.count("\n") == 1
    found = json.loads(text)
    assert {"database", "state", "applied", "pending", "drift"} <= set(found)
    assert found["database"] == database.name


def test_exit_codes(pm_database):
    """8 where something is pending and asked for, 9 where nobody can be asked, 3 where there is no engine."""
    database = pm_database("3.1.0", hosts=1)
    run(database, "status", "--exit-code", code=8)
    run(database, "plan", "--exit-code", code=8)
    assert "--yes" in run(database, "upgrade", code=9).stderr
    run(database, "upgrade", "--yes")
    run(database, "status", "--exit-code")
    run(database, "upgrade")
    assert "--yes" in run(database, "rollback", code=9).stderr
    run(database, "verify")
    run(database, "rollback", "--yes")
    run(database, "rollback", "--yes", code=3)
    run(database, "verify", code=1)
    run(pm_database(empty=True), "upgrade", "--yes", code=3)
    run(database, "status", code=4, env={"PMCOMPAT_DSN": "postgresql://127.0.0.1:1/x"})


def test_a_person_reads_what_a_program_reads(pm_database):
    database = pm_database("3.2-snapshot", hosts=2)
    assert "pre-3.2 snapshot" in run(database, "status").stdout
    text = run(database, "plan").stdout
    assert "LOCK TABLE public.vds_static IN ACCESS EXCLUSIVE MODE" in text
    assert "user_vds_permissions_view" in text
    assert "masks nothing" in text
    rehearsed = run(database, "upgrade", "--rehearse")
    assert "rehearsed and rolled back" in rehearsed.stdout
    assert "rows compared: " in rehearsed.stderr
    done = json.loads(run(database, "upgrade", "--yes", "--json").stdout)
    assert done["seconds_locked"] > 0
    assert "everything is as it should be" in run(database, "verify").stderr


def test_the_printed_script_runs(pm_database, tmp_path):
    database = pm_database("3.1.0", hosts=2)
    script = run(database, "plan", "--sql").stdout
    file = tmp_path / "upgrade.sql"
    file.write_text(script, encoding="utf-8")
    psql = site.programs(database.dsn) / "psql"
    subprocess.run(
        [psql, "-Xq", "-v", "ON_ERROR_STOP=1", "-1", "-f", file, "-d", database.dsn], check=True, capture_output=True
    )
    run(database, "status", "--exit-code")
    assert "none pending" in run(database, "plan", "--sql").stdout


def surprises(conn, statement):
    conn.execute(statement)
    return {finding.kind: finding.text for finding in upgrade.status(conn).findings}


@pytest.mark.parametrize(
    ("statement", "kind", "named"),
    [
        (
            (
                "CREATE OR REPLACE FUNCTION site_hosts() RETURNS SETOF vds_static LANGUAGE plpgsql AS "
                "$$ BEGIN RETURN QUERY SELECT vds_id, vds_name FROM vds_static; END $$"
            ),
            "column-list",
            "site_hosts",
        ),
        ("CREATE FUNCTION site_f() RETURNS SETOF vds LANGUAGE sql AS 'SELECT vds_id, ip FROM vds'", "column-list", "site_f"),
        ("CREATE VIEW site_every AS SELECT * FROM vds", "select-all", "site_every"),
        ("CREATE VIEW site_all AS SELECT * FROM vds_static", "select-all", "site_all"),
        (
            (
                "CREATE FUNCTION t() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';"
                "CREATE TRIGGER site_t AFTER UPDATE ON vds_static FOR EACH ROW EXECUTE FUNCTION t()"
            ),
            "trigger",
            "site_t",
        ),
        ("INSERT INTO object_column_white_list_sql VALUES ('vds', 'SELECT 1')", "cache", "vds"),
        ("INSERT INTO vdc_options (option_name, option_value) VALUES ('FenceStopStatusRetries', '9')", "duplicate", "2 rows"),
        ("DROP VIEW dwh_host_configuration_history_view", "missing", "dwh_host_configuration_history_view"),
    ],
)
def test_every_surprise_that_matters_is_named(pm_database, statement, kind, named):
    conn = pm_database("3.1.0", hosts=1).connect()
    conn.execute("SET check_function_bodies = off")
    assert named in surprises(conn, statement)[kind]


def test_a_site_s_column_in_a_view_and_sessions_to_restart_are_named(pm_database):
    database = pm_database("3.1.0", hosts=1)
    conn = database.connect()
    text = site.one(conn, "SELECT pg_get_viewdef('vds'::regclass)")
    head, _, tail = text.partition("\n   FROM ")
    database.connect()
    found = surprises(conn, f"CREATE OR REPLACE VIEW vds AS {head}, 42 AS site_answer FROM {tail}")
    assert "site_answer" in found["column"]
    assert "reconnect" in found["sessions"]


def test_an_engine_s_own_objects_are_no_surprise(pm_database):
    """Neither shape's own views and getters are taken for a site's."""
    for shape in site.SHAPES:
        kinds = {finding.kind for finding in upgrade.status(pm_database(shape, hosts=1).connect()).findings}
        assert kinds <= {"option", "sessions"}


def test_whoever_may_not_read_the_record_goes_by_the_catalog(pm_database):
    conn = pm_database("3.1.0", hosts=1, upgraded=True).connect()
    conn.execute(site.ROLES.encode())
    conn.execute("SET ROLE site_reader")
    found = upgrade.status(conn)
    conn.execute("RESET ROLE")
    assert (found.bookkeeping, found.state) == ("not readable by this role", "current")


def test_status_does_not_wait_for_ever_behind_an_exclusive_lock(pm_database):
    database = pm_database("3.1.0", hosts=1)
    conn = database.connect()
    conn.execute("SET lock_timeout = '50ms'")
    with database.connect(autocommit=False) as other:
        other.execute("LOCK TABLE vds_static IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(Locked):
            upgrade.status(conn)
    assert upgrade.status(conn).state == "pending"
    assert conn.execute("SHOW lock_timeout").fetchone() == ("50ms",)


def test_a_read_only_role_prints_the_script_somebody_else_runs(pm_database):
    conn = pm_database("3.1.0", hosts=1).connect()
    conn.execute(site.ROLES.encode())
    conn.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO site_reader")
    owners = upgrade.script(conn)
    conn.execute("SET ROLE site_reader")
    assert upgrade.plan(conn).refusals
    assert upgrade.script(conn) == owners
    conn.execute("RESET ROLE")
