"""Verification proves, or says what is wrong: each thing it looks at is broken once (mutants that must die)."""

from __future__ import annotations

import pytest
import site_objects as site

from pmcompat.db import upgrade
from pmcompat.db.upgrade import UpgradeSettings

#: what somebody broke → the check that must fail
BROKEN = {
    "DELETE FROM object_column_white_list WHERE column_name = 'pm_secondary_ip'": "white list",
    "INSERT INTO object_column_white_list VALUES ('vds', 'pm_secondary_password')": "white list",
    "INSERT INTO object_column_white_list VALUES ('vds_static', 'PM_PASSWORD')": "white list",
    "CREATE FUNCTION insertvds(int) RETURNS int LANGUAGE sql AS 'SELECT 1'": "function insertvds",
    "REVOKE EXECUTE ON FUNCTION insertvds FROM PUBLIC": "owners, grants, comments, options",
    "ALTER VIEW vds SET (security_barrier = true)": "owners, grants, comments, options",
    "DELETE FROM pmcompat._yoyo_migration WHERE migration_id LIKE '0003%%'": "scripts",
    "UPDATE pmcompat.scripts SET sha256 = 'x' WHERE id LIKE '0001%%'": "scripts",
    "DROP VIEW dwh_host_configuration_history_view; CREATE VIEW dwh_host_configuration_history_view AS "
    "SELECT vds_id AS host_id FROM vds_static": "view dwh_host_configuration_history_view",
}


@pytest.mark.parametrize("statement", BROKEN)
def test_what_is_broken_is_named(pm_database, statement):
    conn = pm_database("3.2-snapshot", hosts=3, upgraded=True).connect()
    assert upgrade.verify(conn).ok
    conn.execute(statement.replace("%%", "%"))
    found = upgrade.verify(conn)
    assert not found.ok
    assert BROKEN[statement] in {check.name for check in found.checks if not check.ok}


@pytest.mark.parametrize(
    ("old", "new", "check"),
    [
        ("NULLIF(v_pm_secondary_type", "NULLIF(pm_secondary_nothing", "call UpdateVdsStatic"),
        ("/* pmcompat: */", "", "function updatevdsstatic"),
    ],
)
def test_a_procedure_that_cannot_be_called_is_named(pm_database, old, new, check):
    """Creation without error proves nothing (field failure L-01)."""
    conn = pm_database("3.2-snapshot", hosts=1, upgraded=True).connect()
    conn.execute(site.one(conn, "SELECT pg_get_functiondef('updatevdsstatic'::regproc)").replace(old, new).encode())
    found = upgrade.verify(conn)
    assert check in {check.name for check in found.checks if not check.ok}


def test_rows_that_differ_in_old_columns_are_found(pm_database):
    conn = pm_database("3.2-snapshot", hosts=3, upgraded=True).connect()
    text = site.one(conn, "SELECT pg_get_viewdef('vds'::regclass)")
    conn.execute(
        text.replace(" SELECT ", "CREATE OR REPLACE VIEW vds AS SELECT ", 1)
        .replace("vds_static.vds_name,", "(vds_static.vds_name || 'x')::varchar(255) AS vds_name,", 1)
        .encode()
    )
    (wrong,) = [check for check in upgrade.verify(conn).checks if not check.ok]
    assert (wrong.name, wrong.text) == ("rows of vds", "6 of 3 rows differ")


def test_a_real_call_leaves_nothing_and_the_triggers_are_named_first(pm_database):
    database = pm_database("3.2-snapshot", hosts=3, upgraded=True)
    conn = database.connect()
    conn.execute("CREATE TABLE site_log (n serial)")
    conn.execute(
        "CREATE FUNCTION t() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO site_log DEFAULT VALUES; RETURN new; END'"
    )
    conn.execute("CREATE TRIGGER site_t BEFORE INSERT OR UPDATE ON vds_static FOR EACH STATEMENT EXECUTE FUNCTION t()")
    said = []
    before = site.dump(database.dsn, "-s")

    assert upgrade.verify(conn, notify=said.append).ok

    assert "site_t" in " ".join(said)
    assert site.one(conn, "SELECT count(*) FROM site_log") == 0
    assert site.one(conn, "SELECT last_value FROM site_log_n_seq") > 1, "it was really fired"
    assert site.dump(database.dsn, "-s") == before
    called = {check.name for check in upgrade.verify(conn, UpgradeSettings(call=False)).checks}
    assert not any(name.startswith("call") for name in called)


def test_getters_that_do_not_mask_are_named(pm_database):
    found = upgrade.verify(pm_database("3.1.0", hosts=1, upgraded=True).connect())
    unmasked = " ".join(finding.text for finding in found.findings if finding.kind == "unmasked")
    assert "getallfromvds" in unmasked
    assert "getvdsbystoragepoolid" in unmasked
    assert "getvdsbyvdsid" not in unmasked


def test_before_an_upgrade_it_says_what_is_missing(pm_database):
    found = upgrade.verify(pm_database("3.1.0", hosts=1).connect())
    assert not found.ok
    assert {"columns of vds_static", "view vds", "function insertvds"} <= {c.name for c in found.checks if not c.ok}
    assert not upgrade.verify(pm_database(empty=True).connect()).ok


def test_an_option_an_admin_changed_since_is_said_and_is_no_failure(pm_database):
    conn = pm_database("3.1.0", hosts=1, upgraded=True).connect()
    conn.execute("UPDATE vdc_options SET option_value = '12' WHERE option_name = 'FenceStartStatusRetries'")
    found = upgrade.verify(conn)
    assert found.ok
    assert "12 now" in next(check.text for check in found.checks if check.name == "option FenceStartStatusRetries")
