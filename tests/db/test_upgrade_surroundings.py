"""The upgrade away from a fresh engine: other schemas, overloads, half-done changes, admins' settings, drift."""

from __future__ import annotations

import shutil

import pytest
import site_objects as site

from pmcompat.db import upgrade
from pmcompat.db.baseline import init
from pmcompat.db.upgrade import UpgradeSettings
from pmcompat.errors import OperationFailed, PmcompatError, Refused, SchemaError
from pmcompat.resources import data


def unchanged(database, conn, kind, match, settings=site.QUICK):
    """See that an upgrade is refused with *kind* and *match*, and that nothing changed."""
    before = site.dump(database.dsn)
    with pytest.raises(kind, match=match) as refused:
        upgrade.upgrade(conn, settings)
    assert site.dump(database.dsn) == before
    assert upgrade.status(conn).applied == ()
    return refused.value


def test_a_schema_other_than_public_with_names_that_need_quotes(pm_database):
    database = pm_database(empty=True)
    conn = database.connect()
    init(conn, "3.2-snapshot", 5, schema='Engine "DB"')
    settings = UpgradeSettings(schema='Engine "DB"', lock_timeout=1)
    before = site.dump(database.dsn)

    assert upgrade.status(conn).state == "unknown"
    assert upgrade.status(conn, settings).state == "pending"
    with conn.transaction(force_rollback=True):
        conn.execute(upgrade.script(conn, settings).encode())
    upgrade.upgrade(conn, settings)

    assert site.column_names(conn, "vds", 'Engine "DB"')[-7:] == site.SEVEN
    assert upgrade.verify(conn, settings).ok
    upgrade.rollback(conn, settings)
    assert site.dump(database.dsn) == before


def test_an_overload_is_refused_with_both_signatures(pm_database):
    database = pm_database("3.1.0", hosts=0)
    conn = database.connect()
    conn.execute("CREATE FUNCTION InsertVds(v_x int) RETURNS void LANGUAGE sql AS ''")
    error = unchanged(database, conn, Refused, r"insertvds\(integer\)")
    assert "insertvds(character varying" in error.what


@pytest.mark.parametrize(
    ("definition", "reason"),
    [
        ("SELECT DISTINCT * FROM vds_old", "DISTINCT"),
        ("SELECT * FROM vds_old UNION ALL SELECT * FROM vds_old", "UNION"),
        ("WITH old AS (SELECT * FROM vds_old) SELECT * FROM old", "WITH"),
        ("SELECT * FROM vds_old", "not at all"),
    ],
)
def test_a_view_that_cannot_be_extended_is_refused_with_the_reason(pm_database, definition, reason):
    database = pm_database("3.1.0", hosts=2)
    conn = database.connect()
    conn.execute("CREATE VIEW vds_old AS " + site.one(conn, "SELECT pg_get_viewdef('vds'::regclass)"))
    conn.execute(f"CREATE OR REPLACE VIEW vds AS {definition}")
    unchanged(database, conn, Refused, f"vds cannot be extended.*{reason}")


def test_a_procedure_that_cannot_be_edited_is_refused_with_the_reason(pm_database):
    database = pm_database("3.1.0", hosts=0)
    conn = database.connect()
    text = site.one(conn, "SELECT pg_get_functiondef('updatevdsstatic'::regproc)")
    conn.execute(
        text.replace("UPDATE vds_static SET", "UPDATE vds_static SET pm_type = v_pm_type; UPDATE vds_static SET").encode()
    )
    # two statements set pm_type now, one of them for all hosts: nobody can know which one is meant
    conn.execute(text.replace("WHERE vds_id", "WHERE true; UPDATE vds_static SET pm_type = v_pm_type WHERE vds_id").encode())
    unchanged(database, conn, Refused, "updatevdsstatic.*cannot be edited.*2 statements")


def test_a_site_s_own_changes_in_a_procedure_survive(pm_database):
    conn = pm_database("3.2-snapshot", hosts=2).connect()
    conn.execute("CREATE TABLE site_log (what text)")
    text = site.one(conn, "SELECT pg_get_functiondef('updatevdsstatic'::regproc)")
    changed = text.replace(
        "BEGIN\n", "<<outer>>\nDECLARE n int := 1; -- BEGIN\nBEGIN /* UPDATE vds_static SET pm_type */\n"
    ).replace("END;", "INSERT INTO site_log VALUES ('UPDATE vds_static SET pm_type = 1 WHERE');\nEND;")
    conn.execute(changed.encode())
    site.upgraded(conn)
    body = site.one(conn, "SELECT prosrc FROM pg_proc WHERE proname = 'updatevdsstatic'")
    assert "site_log" in body
    assert "<<outer>>" in body
    assert upgrade.verify(conn).ok


def test_a_column_of_another_type_is_refused(pm_database):
    database = pm_database("3.1.0", hosts=0)
    conn = database.connect()
    conn.execute("ALTER TABLE vds_static ADD COLUMN pm_secondary_port text")
    assert upgrade.status(conn).shape == "partly-upgraded"
    unchanged(database, conn, Refused, "pm_secondary_port is text, not integer")


def test_a_partly_upgraded_database_is_completed(pm_database):
    """Columns of the right type are kept with what they hold."""
    conn = pm_database("3.1.0", hosts=3).connect()
    conn.execute("ALTER TABLE vds_static ADD COLUMN pm_secondary_ip varchar(255)")
    conn.execute("UPDATE vds_static SET pm_secondary_ip = 'kept'")
    site.upgraded(conn)
    assert upgrade.verify(conn).ok
    assert site.one(conn, "SELECT count(*) FROM vds WHERE pm_secondary_ip = 'kept'") == 3


def test_rows_of_the_table_stored_as_values_are_refused(pm_database):
    database = pm_database("3.1.0", hosts=2)
    conn = database.connect()
    conn.execute("CREATE TABLE site_copy AS SELECT s AS host FROM vds_static AS s")
    unchanged(database, conn, Refused, "site_copy.host holds rows of vds_static")


def test_a_function_that_needs_a_procedure_goes_and_comes_back(pm_database):
    database = pm_database("3.2-snapshot", hosts=1)
    conn = database.connect()
    conn.execute(
        "CREATE FUNCTION site_call(host uuid) RETURNS void LANGUAGE sql BEGIN ATOMIC "
        "SELECT UpdateVdsStatic('a', 'b', NULL, 1, host, "
        "host, 'n', true, 0, 1, '', '', '', 1, '', false, '', 1, 1, ''); END"
    )
    before = site.dump(database.dsn)
    site.upgraded(conn)
    conn.execute("SELECT site_call(gen_random_uuid())")
    assert upgrade.verify(conn).ok
    upgrade.rollback(conn, site.QUICK)
    assert site.dump(database.dsn) == before


def test_options_change_by_pairs(pm_database):
    conn = pm_database("3.1.0", hosts=0).connect()
    conn.execute("UPDATE vdc_options SET option_value = '7' WHERE option_name = 'FenceStopStatusRetries'")
    conn.execute("DELETE FROM vdc_options WHERE option_name = 'FenceStartStatusRetries'")
    report = site.upgraded(conn)
    assert options(conn) == {
        "FenceStartStatusDelayBetweenRetriesInSec": "10",
        "FenceStartStatusRetries": "18",
        "FenceStopStatusDelayBetweenRetriesInSec": "60",
        "FenceStopStatusRetries": "7",
    }
    said = [finding.text for finding in report.findings if finding.kind == "option"]
    assert any("60 s x 7 = 420 s" in text and "10 s x 18 = 180 s" in text for text in said)


def test_forcing_sets_values_an_admin_chose_and_the_rollback_restores_them(pm_database):
    conn = pm_database("3.1.0", hosts=0).connect()
    conn.execute("UPDATE vdc_options SET option_value = '7' WHERE option_name = 'FenceStopStatusRetries'")
    site.upgraded(conn, force_defaults=True)
    assert options(conn)["FenceStopStatusRetries"] == "18"
    upgrade.rollback(conn, site.QUICK)
    assert options(conn)["FenceStopStatusRetries"] == "7"


def options(conn):
    rows = conn.execute("SELECT option_name, option_value FROM vdc_options WHERE option_name LIKE 'Fence%Status%'")
    return dict(rows.fetchall())


@pytest.mark.parametrize(("second", "left"), [("3", False), ("5", True)])
def test_several_rows_of_one_option_are_named_and_decided_together(pm_database, second, left):
    conn = pm_database("3.1.0", hosts=0).connect()
    conn.execute("INSERT INTO vdc_options (option_name, option_value) VALUES ('FENCESTARTSTATUSRETRIES', %s)", [second])
    report = site.upgraded(conn)
    assert any(finding.kind == "duplicate" and "2 rows" in finding.text for finding in report.findings)
    values = {
        r[0] for r in conn.execute("SELECT option_value FROM vdc_options WHERE lower(option_name) = 'fencestartstatusretries'")
    }
    assert values == ({"3", "5"} if left else {"18"})


def test_a_database_without_reporting_views_white_list_or_options(pm_database):
    conn = pm_database("3.1.0", hosts=1).connect()
    conn.execute("DROP VIEW dwh_host_configuration_history_view, dwh_host_configuration_full_check_view")
    conn.execute("DROP TABLE object_column_white_list, object_column_white_list_sql, vdc_options CASCADE")
    site.upgraded(conn)
    assert upgrade.verify(conn).ok
    upgrade.rollback(conn, site.QUICK)
    assert upgrade.status(conn).state == "pending"


def test_a_database_that_is_no_engine_is_refused(pm_database):
    database = pm_database(empty=True)
    conn = database.connect()
    conn.execute("CREATE TABLE vds_static (vds_id uuid)")
    assert upgrade.status(conn).state == "unknown"
    with pytest.raises(SchemaError, match="not an engine database"):
        upgrade.upgrade(conn)


# ---------------------------------------------------------------------- scripts: order, drift, errors


@pytest.fixture
def scripts(tmp_path):
    """A copy of ``sql/`` that a test may change."""
    home = tmp_path / "sql"
    shutil.copytree(data("sql"), home)
    return home


def using(home):
    return UpgradeSettings(lock_timeout=1, patience=5, sql=home)


def test_an_edited_applied_script_is_drift_refused_until_repair_accepts_it(pm_database, scripts):
    conn = pm_database("3.1.0", hosts=0).connect()
    upgrade.upgrade(conn, using(scripts))
    file = scripts / "0003-white-list.sql.j2"
    file.write_text(file.read_text() + "\n-- edited\n")
    (scripts / "0009-more.sql").write_text("-- scope: pmcompat\nCREATE TABLE pmcompat.more (n integer);\n")

    assert upgrade.status(conn, using(scripts)).drift == ("0003-white-list.sql.j2 was edited after it was applied",)
    with pytest.raises(SchemaError, match="edited after it was applied"):
        upgrade.upgrade(conn, using(scripts))
    assert upgrade.repair(conn, using(scripts)).findings
    assert upgrade.status(conn, using(scripts)).drift == ()
    assert upgrade.upgrade(conn, using(scripts)).applied == ("0009-more",)
    assert site.one(
        conn,
        "SELECT relowner = (SELECT relowner FROM pg_class WHERE oid = 'vds_static'::regclass) "
        "FROM pg_class WHERE oid = 'pmcompat.more'::regclass",
    )


def test_a_script_that_sorts_before_applied_ones_is_reported_and_applied(pm_database, scripts):
    conn = pm_database("3.1.0", hosts=0).connect()
    upgrade.upgrade(conn, using(scripts))
    (scripts / "0000-late.sql").write_text("/* a licence */\n-- scope: pmcompat\nCREATE TABLE pmcompat.late (n integer);\n")
    assert upgrade.status(conn, using(scripts)).out_of_order == ("0000-late",)
    assert upgrade.upgrade(conn, using(scripts)).applied == ("0000-late",)


def test_an_applied_script_whose_file_is_gone_is_drift(pm_database, scripts):
    conn = pm_database("3.1.0", hosts=0).connect()
    (scripts / "0009-more.sql").write_text("-- scope: pmcompat\nCREATE TABLE pmcompat.more (n integer);\n")
    upgrade.upgrade(conn, using(scripts))
    (scripts / "0009-more.sql").unlink()
    assert upgrade.status(conn, using(scripts)).drift == ("0009-more is applied and its file is gone",)
    upgrade.repair(conn, using(scripts))
    assert upgrade.status(conn, using(scripts)).state == "current"


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        ("0009-bad.sql", "-- scope: pmcompat\nSELECT 1;\nSELECT nothing FROM nowhere;\n", r"sql/0009-bad.sql:3: "),
        ("0009-bad.sql.j2", "{% for n in seven %}\nSELECT 1;\n{% endfor %}\n{{ '' }}\nSELEC 1;\n", r"sql/0009-bad.sql.j2:5: "),
        ("0009-bad.sql", "DO $$ BEGIN\nRAISE EXCEPTION 'no';\nEND $$;\n", r"sql/0009-bad.sql: no"),
    ],
)
def test_an_error_names_file_and_line_and_undoes_everything(pm_database, scripts, name, text, place):
    database = pm_database("3.1.0", hosts=0)
    conn = database.connect()
    (scripts / name).write_text(text)
    unchanged(database, conn, OperationFailed, f"^{place}", using(scripts))


@pytest.mark.parametrize("text", ["COMMIT;", "SELECT 1; begin;", "/* x */ ROLLBACK", "-- transactional: false\nSELECT 1"])
def test_a_script_that_would_break_the_one_transaction_is_refused(pm_database, scripts, text):
    database = pm_database("3.1.0", hosts=0)
    (scripts / "0009-bad.sql").write_text(text)
    with pytest.raises(PmcompatError, match=r"0009-bad\.sql"):
        upgrade.upgrade(database.connect(), using(scripts))


def test_a_failing_check_undoes_everything(pm_database, scripts):
    """The checks in sql/verify run inside the transaction."""
    database = pm_database("3.1.0", hosts=0)
    (scripts / "0009-x.sql").write_text("SELECT 1;")
    (scripts / "verify/0009-x.sql").write_text("DO $$ BEGIN RAISE EXCEPTION 'not right'; END $$;")
    unchanged(database, database.connect(), OperationFailed, "sql/verify/0009-x.sql: not right", using(scripts))


@pytest.mark.parametrize(
    ("file", "old", "new", "match"),
    [
        (
            "0002-views-and-procedures.sql.j2",
            "{{ view.options }} AS",
            " AS",
            "relation vds: owner, grants, comment or settings",
        ),
        ("0001-secondary-columns.sql.j2", "~ column.default if", '~ "true" if', "pm_secondary_concurrent"),
        ("0003-white-list.sql.j2", "lower(w.column_name) IN", "w.column_name NOT IN", "white list|password"),
        ("0002-views-and-procedures.sql.j2", "DROP FUNCTION {{ procedure.old }};", "", "there are 2 functions"),
    ],
)
def test_the_checks_kill_mutants(pm_database, scripts, file, old, new, match):
    """A check that finds nothing is decoration: break each script in one place and its check must say so."""
    database = pm_database("3.2-snapshot", hosts=0)
    conn = database.connect()
    conn.execute("ALTER VIEW vds SET (security_barrier = true)")
    text = (scripts / file).read_text()
    assert old in text
    (scripts / file).write_text(text.replace(old, new))
    unchanged(database, conn, OperationFailed, match, using(scripts))
