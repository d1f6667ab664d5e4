"""The way back: exactly what was there before, nothing of the site lost, no secondary agent destroyed (law D5)."""

from __future__ import annotations

import pytest
import site_objects as site

from pmcompat.db import upgrade
from pmcompat.db.upgrade import UpgradeSettings
from pmcompat.errors import LossRefused, Refused, SchemaError

AGENT = (
    "UPDATE vds_static SET pm_secondary_ip = 'pdu', pm_secondary_type = 'apc', pm_secondary_concurrent = true "
    "WHERE vds_name = %s"
)


def back(conn, **chosen):
    return upgrade.rollback(conn, UpgradeSettings(lock_timeout=1.0, patience=5.0, **chosen))


@pytest.fixture(params=site.SHAPES)
def planted(pm_database, request):
    name = f"{request.param} planted"
    pm_database.template(name, lambda database: site.plant(database.connect()), base=pm_database.shape(request.param))
    database = pm_database(template=name)
    return database, database.connect()


def test_up_and_down_is_before_byte_for_byte(planted):
    """Schema, grants and rows, as a whole dump prints them; three times, since dropped columns leave gaps."""
    database, conn = planted
    conn.execute("DELETE FROM vdc_options WHERE option_name LIKE 'FenceStart%%'")
    conn.execute("INSERT INTO object_column_white_list_sql VALUES ('vds', 'SELECT 1')")
    before = site.dump(database.dsn)
    for _ in range(3):
        site.upgraded(conn)
        assert site.dump(database.dsn) != before
        report = back(conn)
        assert site.dump(database.dsn) == before
        assert report.different == ()
    assert conn.execute("SELECT count(*) FROM site_stock").fetchone()
    assert upgrade.status(conn).state == "pending"


def test_a_dump_and_restore_of_the_original_prints_what_the_rollback_left(planted, pm_database):
    """The text of a view may settle when it is read again: then the settled text counts."""
    database, conn = planted
    conn.execute("ALTER VIEW vds OWNER TO site_owner")
    restored = pm_database(empty=True)
    restored.connect().execute(site.dump(database.dsn, "-s").encode())
    site.upgraded(conn)
    back(conn)
    assert site.dump(database.dsn, "-s") == site.dump(restored.dsn, "-s")


def test_default_privileges_of_the_database_do_not_leak_into_what_is_put_back(planted):
    database, conn = planted
    for text in (
        "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO site_reader",
        "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC",
        "ALTER DEFAULT PRIVILEGES FOR ROLE site_owner GRANT SELECT ON TABLES TO PUBLIC",
    ):
        conn.execute(text)
    before = site.dump(database.dsn)
    site.upgraded(conn)
    assert site.one(conn, "SELECT has_function_privilege('site_reader', 'insertvds'::regproc, 'EXECUTE')")
    back(conn)
    assert site.dump(database.dsn) == before


def test_secondary_agents_are_archived_and_the_next_upgrade_restores_them(pm_database):
    """Into the host of the same id, if its seven are empty; the rest is listed and stays."""
    conn = pm_database("3.2-snapshot", hosts=5, upgraded=True).connect()
    names = [row[0] for row in conn.execute("SELECT vds_name FROM vds_static ORDER BY 1 LIMIT 3")]
    for name in names:
        conn.execute(AGENT, [name])

    report = back(conn)

    assert report.archived == 3
    conn.execute(
        "WITH gone AS (SELECT vds_id FROM vds_static WHERE vds_name = %s), a AS (DELETE FROM vds_dynamic USING gone "
        "WHERE vds_dynamic.vds_id = gone.vds_id), b AS (DELETE FROM tags_vds_map USING gone "
        "WHERE tags_vds_map.vds_id = gone.vds_id) "
        "DELETE FROM vds_statistics USING gone WHERE vds_statistics.vds_id = gone.vds_id",
        [names[0]],
    )
    conn.execute("DELETE FROM vds_static WHERE vds_name = %s", [names[0]])
    again = site.upgraded(conn)

    assert any("2 restored, 1 stay" in notice for notice in again.notices)
    rows = conn.execute("SELECT vds_name FROM vds_static WHERE pm_secondary_ip = 'pdu' AND pm_secondary_concurrent ORDER BY 1")
    assert [row[0] for row in rows] == names[1:]
    assert upgrade.status(conn).archived == (names[0],)


def test_a_host_that_has_a_secondary_agent_again_keeps_it(pm_database):
    """Two rollbacks in a row archive twice; only the newest comes back."""
    conn = pm_database("3.1.0", hosts=3, upgraded=True).connect()
    name = site.one(conn, "SELECT min(vds_name) FROM vds_static")
    conn.execute(AGENT, [name])
    back(conn)
    conn.execute("ALTER TABLE vds_static ADD COLUMN pm_secondary_ip varchar(255)")
    conn.execute("UPDATE vds_static SET pm_secondary_ip = 'other' WHERE vds_name = %s", [name])
    site.upgraded(conn)
    assert site.one(conn, "SELECT pm_secondary_ip FROM vds_static WHERE vds_name = %s", name) == "other"
    assert upgrade.status(conn).archived == (name,)


def test_purge_deletes_archive_journal_and_schema(pm_database):
    conn = pm_database("3.1.0", hosts=3, upgraded=True).connect()
    back(conn)
    assert site.one(conn, "SELECT count(*) FROM pmcompat.operations") == 0, "the journal outlives a rollback"
    site.upgraded(conn)
    assert back(conn, purge=True).purged
    assert not site.one(conn, "SELECT count(*) FROM pg_namespace WHERE nspname = 'pmcompat'")


def test_purge_after_a_rollback_only_deletes_the_schema(pm_database):
    conn = pm_database("3.1.0", hosts=3, upgraded=True).connect()
    back(conn)
    report = back(conn, purge=True)
    assert report.undone == ()
    assert not site.one(conn, "SELECT count(*) FROM pg_namespace WHERE nspname = 'pmcompat'")


def test_purge_does_not_take_a_site_s_report_over_the_journal_with_it(pm_database):
    conn = pm_database("3.1.0", hosts=1, upgraded=True).connect()
    conn.execute("CREATE VIEW site_report AS SELECT * FROM pmcompat.operations")
    with pytest.raises(LossRefused) as refused:
        back(conn, purge=True)
    assert "site_report" in refused.value.losses[0]
    assert upgrade.status(conn).state == "current"


def test_hundreds_of_local_objects(pm_database):
    database = pm_database("3.2-snapshot", hosts=2)
    conn = database.connect()
    for n in range(100):
        conn.execute(
            f"CREATE VIEW site_v{n} AS SELECT * FROM {f'site_v{n - 1}' if n % 5 else 'vds'};"
            f"CREATE FUNCTION site_f{n}() RETURNS SETOF site_v{n} LANGUAGE sql AS 'SELECT * FROM site_v{n}';"
            f"CREATE VIEW site_w{n} AS SELECT vds_id FROM site_f{n}(); COMMENT ON VIEW site_w{n} IS '{n}'".encode()
        )
    before = site.dump(database.dsn, "-s")
    site.upgraded(conn)
    assert upgrade.verify(conn).ok
    back(conn)
    assert site.dump(database.dsn, "-s") == before


def test_dependants_that_use_the_new_columns_are_named_and_kept_unless_told_otherwise(pm_database):
    database = pm_database("3.1.0", hosts=3, upgraded=True)
    conn = database.connect()
    conn.execute("CREATE VIEW site_second AS SELECT vds_name, pm_secondary_ip FROM vds")
    conn.execute("CREATE VIEW site_third AS SELECT * FROM site_second")
    conn.execute("CREATE VIEW site_table AS SELECT pm_secondary_type FROM vds_static")
    before = site.dump(database.dsn)

    with pytest.raises(LossRefused) as refused:
        back(conn)

    assert {"public.site_second", "public.site_table"} <= set(" ".join(refused.value.losses).split())
    assert site.dump(database.dsn) == before
    report = back(conn, drop_dependants=True)
    assert {finding.text for finding in report.findings if finding.kind == "dropped"} == {
        "dropped: view public.site_second",
        "dropped: view public.site_table",
        "dropped: view public.site_third",
    }
    kept = site.one(conn, "SELECT string_agg(definition, '') FROM pmcompat.dropped_objects")
    assert kept.count("CREATE VIEW") == 3


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE INDEX site_index ON vds_static (pm_secondary_ip)",
        "ALTER TABLE vds_static ADD CONSTRAINT site_check CHECK (pm_secondary_port > 0)",
        "CREATE TRIGGER site_of BEFORE UPDATE OF pm_secondary_ip ON vds_static FOR EACH ROW EXECUTE FUNCTION site_trg()",
    ],
)
def test_an_index_constraint_or_trigger_on_a_new_column_is_named(pm_database, statement):
    conn = pm_database("3.1.0", hosts=3, upgraded=True).connect()
    conn.execute("CREATE FUNCTION site_trg() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$")
    conn.execute(statement)
    with pytest.raises(LossRefused, match="new columns") as refused:
        back(conn)
    assert "site_" in " ".join(refused.value.losses)


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("CREATE TABLE site_rows (host vds)", "site_rows"),
        ("CREATE TABLE site_t (n int DEFAULT 1); CREATE POLICY site_p ON site_t USING (EXISTS (SELECT FROM vds))", "site_p"),
        (
            (
                "CREATE FUNCTION site_f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT count(*)::int FROM vds; END;"
                "CREATE TABLE site_t (n int DEFAULT site_f())"
            ),
            "site_t",
        ),
    ],
)
def test_a_dependant_that_cannot_be_put_back_is_named_before_anything_is_touched(pm_database, statement, named):
    database = pm_database("3.1.0", hosts=3, upgraded=True)
    conn = database.connect()
    conn.execute(statement)
    before = site.dump(database.dsn)
    with pytest.raises(Refused, match=named):
        back(conn)
    assert site.dump(database.dsn) == before


def test_what_the_site_changed_since_the_upgrade_stays(pm_database):
    """A column appended behind ours, another comment, a changed body: the rollback takes out ours alone."""
    conn = pm_database("3.2-snapshot", hosts=3, upgraded=True).connect()
    text = site.one(conn, "SELECT pg_get_viewdef('vds'::regclass)")
    head, _, tail = text.partition("\n   FROM ")
    conn.execute(f"CREATE OR REPLACE VIEW vds AS {head}, 42 AS site_answer FROM {tail}".encode())
    conn.execute("COMMENT ON FUNCTION insertvds IS 'new'")
    body = site.one(conn, "SELECT pg_get_functiondef('updatevdsstatic'::regproc)")
    conn.execute(body.replace("_update_date = LOCALTIMESTAMP", "_update_date = clock_timestamp()").encode())

    report = back(conn)

    assert site.column_names(conn, "vds")[-1] == "site_answer"
    assert site.one(conn, "SELECT count(site_answer) FROM vds") == 3
    assert site.one(conn, "SELECT obj_description('insertvds'::regproc, 'pg_proc')") == "new"
    body = site.one(conn, "SELECT prosrc FROM pg_proc WHERE proname = 'updatevdsstatic'")
    assert "clock_timestamp()" in body
    assert "pmcompat" not in body
    assert set(report.different) == {"procedure insertvds", "procedure updatevdsstatic", "relation vds"}


def test_only_options_nobody_changed_since_are_restored(pm_database):
    conn = pm_database("3.1.0", hosts=0).connect()
    conn.execute("DELETE FROM vdc_options WHERE option_name = 'FenceStopStatusRetries'")
    site.upgraded(conn)
    conn.execute("UPDATE vdc_options SET option_value = '12' WHERE option_name = 'FenceStartStatusRetries'")
    back(conn)
    found = dict(
        conn.execute("SELECT option_name, option_value FROM vdc_options WHERE option_name LIKE 'Fence%Status%'").fetchall()
    )
    assert found == {
        "FenceStartStatusDelayBetweenRetriesInSec": "60",
        "FenceStartStatusRetries": "12",
        "FenceStopStatusDelayBetweenRetriesInSec": "60",
    }


def test_the_white_list_of_an_admin_survives(pm_database):
    conn = pm_database("3.1.0", hosts=0).connect()
    conn.execute("INSERT INTO object_column_white_list VALUES ('vds', 'pm_secondary_type')")
    site.upgraded(conn)
    conn.execute("INSERT INTO object_column_white_list VALUES ('vds', 'site_column')")
    back(conn)
    rows = {row[0] for row in conn.execute("SELECT column_name FROM object_column_white_list WHERE object_name = 'vds'")}
    assert {"pm_secondary_type", "site_column", "pm_password"} <= rows
    assert "pm_secondary_ip" not in rows


def test_a_rollback_where_nothing_of_ours_is_says_so(pm_database):
    with pytest.raises(SchemaError, match="no upgrade of ours"):
        back(pm_database("3.1.0", hosts=0).connect())
