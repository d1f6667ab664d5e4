"""oVirt's own upgrade, before ours and after ours (law D6)."""

from __future__ import annotations

import psycopg
import pytest
import site_objects as site

from pmcompat.db import upgrade
from pmcompat.errors import Refused


@pytest.fixture
def vendors(pm_database):
    """A database oVirt itself upgraded, that pmcompat never saw."""
    pm_database.template("by ovirt", lambda d: site.vendor_upgrade(d.connect()), base=pm_database.shape("3.2-snapshot"))
    database = pm_database(template="by ovirt")
    return database, database.connect()


def test_it_is_recognised_and_nothing_in_public_is_touched(vendors):
    database, conn = vendors
    before = site.dump(database.dsn)
    found = upgrade.status(conn)
    assert (found.state, found.shape) == ("upgraded-by-ovirt", "upgraded-by-ovirt")
    assert {finding.kind for finding in found.findings} >= {"ovirt"}

    report = site.upgraded(conn)

    assert site.dump(database.dsn) == before
    assert report.applied == ("0005-journal",)
    assert upgrade.status(conn).state == "upgraded-by-ovirt"
    assert site.upgraded(conn).applied == ()


def test_status_lists_what_ovirt_never_did_and_repair_completes_it(vendors):
    """The reporting views, InsertVds, 60/3; nothing else."""
    _, conn = vendors
    with pytest.raises(psycopg.errors.UndefinedColumn):
        conn.execute(INSERT)
    said = " ".join(f.text for f in upgrade.status(conn).findings)
    assert "dwh_host_configuration_history_view lacks pm_secondary_ip" in said
    assert "InsertVds" in said
    assert "60 s x 3 = 180 s becomes 10 s x 18" in said
    views = site.column_names(conn, "vds")

    upgrade.repair(conn, site.QUICK, complete=True)

    assert site.column_names(conn, "dwh_host_configuration_history_view")[-1] == "pm_secondary_ip"
    assert site.column_names(conn, "vds") == views
    assert site.one(conn, "SELECT count(*) FROM vdc_options WHERE option_value = '18'") == 2
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        conn.execute(INSERT)
    assert not [f for f in upgrade.status(conn).findings if f.kind == "ovirt"]
    site.upgraded(conn)
    assert upgrade.verify(conn, site.QUICK).ok
    assert upgrade.repair(conn, site.QUICK, complete=True).findings == ()


INSERT = (
    "SELECT InsertVds(v_vds_id => gen_random_uuid(), v_host_name => 'x', v_ip => 'x', v_vds_unique_id => NULL, v_port => 1, "
    "v_vds_group_id => gen_random_uuid(), v_vds_name => 'x', v_server_ssl_enabled => true, v_vds_type => 0, "
    "v_vds_strength => 1, "
    "v_pm_type => '', v_pm_user => '', v_pm_password => '', v_pm_port => NULL, v_pm_options => '', v_pm_enabled => false, "
    "v_pm_proxy_preferences => '', v_vds_spm_priority => 5, v_pm_secondary_ip => 'p', v_pm_secondary_type => NULL, "
    "v_pm_secondary_user => NULL, v_pm_secondary_password => NULL, v_pm_secondary_port => NULL, "
    "v_pm_secondary_options => NULL, "
    "v_pm_secondary_concurrent => NULL)"
)


def test_repair_without_complete_leaves_it_alone(vendors):
    database, conn = vendors
    before = site.dump(database.dsn)
    assert upgrade.repair(conn, site.QUICK).findings == ()
    assert site.dump(database.dsn) == before


def test_ovirts_upgrade_runs_after_ours_and_the_rollback_is_refused_then(pm_database):
    """It drops every view and function and adds the columns if absent: the stored agents stay, the columns are oVirt's."""
    database = pm_database("3.2-snapshot", hosts=3, upgraded=True)
    conn = database.connect()
    conn.execute("UPDATE vds_static SET pm_secondary_ip = 'kept'")

    site.vendor_upgrade(conn)

    found = upgrade.status(conn)
    assert found.state == "upgraded-by-ovirt"
    assert site.one(conn, "SELECT count(*) FROM vds WHERE pm_secondary_ip = 'kept'") == 3
    before = site.dump(database.dsn)
    with pytest.raises(Refused, match="oVirt's own upgrade ran since"):
        upgrade.rollback(conn, site.QUICK)
    assert site.upgraded(conn).applied == ()
    assert site.dump(database.dsn) == before


def test_a_later_release_without_the_seven_undoes_half_of_ours_and_the_upgrade_does_it_again(pm_database):
    """A 3.1 that follows makes its old views and procedures anew; columns and data are still there."""
    database = pm_database("3.1.0", hosts=3, upgraded=True)
    conn = database.connect()
    conn.execute("UPDATE vds_static SET pm_secondary_ip = 'kept'")
    site.vendor_upgrade(conn, seven=False)
    conn.execute("INSERT INTO object_column_white_list VALUES ('vds', 'pm_password')")

    found = upgrade.status(conn)
    assert (found.state, found.shape) == ("pending", "partly-upgraded")
    assert found.pending == ("0002-views-and-procedures", "0003-white-list")
    with pytest.raises(Refused, match="oVirt's own upgrade ran since"):
        upgrade.rollback(conn, site.QUICK)

    again = site.upgraded(conn)

    assert again.applied == ("0002-views-and-procedures", "0003-white-list")
    assert upgrade.verify(conn).ok
    assert site.one(conn, "SELECT count(*) FROM vds WHERE pm_secondary_ip = 'kept'") == 3
    assert upgrade.rollback(conn, site.QUICK).archived == 3


def test_the_script_does_it_again_too(pm_database):
    conn = pm_database("3.1.0", hosts=1, upgraded=True).connect()
    site.vendor_upgrade(conn, seven=False)
    with conn.transaction():
        conn.execute(upgrade.script(conn).encode())
    assert upgrade.status(conn).state == "current"
    assert site.one(conn, "SELECT count(*) FROM pmcompat._yoyo_migration") == 5


def test_our_procedures_depend_on_nothing_of_ours(pm_database):
    """Law D4: schema pmcompat may go, and the procedures still work."""
    conn = pm_database("3.2-snapshot", hosts=1, upgraded=True).connect()
    conn.execute("DROP SCHEMA pmcompat CASCADE")
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        conn.execute(INSERT)
    found = upgrade.status(conn)
    assert found.shape == "upgraded"
    site.upgraded(conn)
    assert upgrade.verify(conn).ok
