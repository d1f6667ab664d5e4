"""The upgrade end to end: both shapes with a site's own objects, used through old and new signatures, and run again."""

from __future__ import annotations

import subprocess

import psycopg
import pytest
import site_objects as site

from pmcompat.db import upgrade
from pmcompat.db.upgrade import UpgradeSettings
from pmcompat.errors import ConfigurationError


@pytest.fixture(params=site.SHAPES)
def shape(request):
    return request.param


@pytest.fixture
def planted(pm_database, shape):
    """A database of each shape with a site's own objects in it, and a connection."""
    name = f"{shape} planted"
    pm_database.template(name, lambda database: site.plant(database.connect()), base=pm_database.shape(shape))
    database = pm_database(template=name)
    return database, database.connect()


def test_everything_gains_its_columns_and_nothing_of_the_site_is_lost(planted, shape):
    database, conn = planted
    views = {name: site.column_names(conn, name) for name in ("vds", "vds_with_tags", "vds_static")}
    objects = site.dump(database.dsn, "-s")

    site.upgraded(conn)

    for name, columns in views.items():
        assert site.column_names(conn, name) == [*columns, *site.SEVEN], "appended, nothing moved"
    for name in ("history", "full_check"):
        assert site.column_names(conn, f"dwh_host_configuration_{name}_view")[-1] == "pm_secondary_ip"
    # every statement of the dump before is still there, but those that define what the upgrade changed
    now = set(site.dump(database.dsn, "-s").splitlines())
    gone = [line for line in objects.splitlines() if line not in now and not line.startswith(" ")]
    assert [
        line for line in gone if not any(name in line for name in ("insertvds", "updatevdsstatic")) and line != "BEGIN"
    ] == []
    assert upgrade.verify(conn).ok
    assert upgrade.status(conn).state == "current"


def test_an_upgrade_of_an_upgraded_database_does_nothing(planted):
    database, conn = planted
    site.upgraded(conn)
    before = site.dump(database.dsn)
    own = site.one(conn, "SELECT count(*) FROM pmcompat.upgrades")

    assert site.upgraded(conn).applied == ()

    assert site.dump(database.dsn) == before
    assert site.one(conn, "SELECT count(*) FROM pmcompat.upgrades") == own


def test_a_rehearsal_changes_nothing_and_names_locks_and_times(planted):
    database, conn = planted
    before = site.dump(database.dsn)

    report = upgrade.rehearse(conn, site.QUICK)

    assert site.dump(database.dsn) == before
    assert upgrade.status(conn).bookkeeping == "absent"
    assert ("public.vds_static", "AccessExclusiveLock") in report.measured.locks
    assert "public.vds_groups" not in dict(report.measured.locks), "LOCK TABLE on a view would lock what is below it"
    assert report.measured.locked > 0
    assert [step for step, _ in report.measured.steps][-1].startswith("sql/verify/")


def test_the_script_run_by_psql_gives_the_same_catalogs_and_bookkeeping(planted, pm_database, shape, tmp_path):
    database, conn = planted
    twin = pm_database(template=f"{shape} planted")
    file = tmp_path / "upgrade.sql"
    file.write_text(upgrade.script(twin.connect(), UpgradeSettings(grant_to=("site_reader",))), encoding="utf-8")
    twin.close()

    done = subprocess.run(
        [site.programs(database.dsn) / "psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-1", "-f", file, "-d", twin.dsn],
        capture_output=True,
        text=True,
        check=False,
    )
    site.upgraded(conn, grant_to=("site_reader",))

    assert done.returncode == 0, done.stderr
    assert site.dump(twin.dsn) == site.dump(database.dsn)
    other = twin.connect()
    for query in BOOKKEEPING:
        assert other.execute(query).fetchall() == conn.execute(query).fetchall(), query
    assert upgrade.status(other).as_json() | {"database": ""} == upgrade.status(conn).as_json() | {"database": ""}
    assert upgrade.verify(other).ok


BOOKKEEPING = (
    "SELECT migration_hash, migration_id FROM pmcompat._yoyo_migration ORDER BY 2",
    "SELECT migration_hash, migration_id, operation, username FROM pmcompat._yoyo_log ORDER BY 2",
    "SELECT version FROM pmcompat._yoyo_version",
    "SELECT id, sha256, sql, applied_by FROM pmcompat.scripts ORDER BY 1",
    "SELECT id, operation, by, version, before FROM pmcompat.upgrades",
    "SELECT * FROM pmcompat.changed_options ORDER BY 1",
    "SELECT * FROM pmcompat.changed_white_list ORDER BY 1, 2",
    (
        "SELECT oid::regclass::text, relacl::text, relowner::regrole::text FROM pg_class "
        "WHERE relnamespace = 'pmcompat'::regnamespace AND relkind IN ('r', 'S') ORDER BY 1"
    ),
)


def test_the_script_refuses_a_database_that_changed_since(pm_database, tmp_path):
    database = pm_database("3.1.0", hosts=3)
    conn = database.connect()
    text = upgrade.script(conn)
    conn.execute("ALTER VIEW vds SET (security_barrier = true)")

    with pytest.raises(psycopg.Error, match="changed since the plan was made: relation vds"), conn.transaction():
        conn.execute(text.encode())
    assert upgrade.status(conn).bookkeeping == "absent"


def test_the_script_refuses_to_run_outside_one_transaction(pm_database):
    database = pm_database("3.1.0", hosts=0)
    done = subprocess.run(
        [site.programs(database.dsn) / "psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-d", database.dsn],
        input=upgrade.script(database.connect()),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "must run in one transaction" in done.stderr
    assert upgrade.status(database.connect()).bookkeeping == "absent"


OLD_UPDATE = {
    "3.1.0": "SELECT UpdateVdsStatic('renamed','10.0.0.9',NULL,54321,%(cluster)s,%(id)s,"
    "'renamed',true,0,100,'apc','u','p',NULL,'',"
    "true,NULL,5)",
    "3.2-snapshot": "SELECT UpdateVdsStatic('renamed','10.0.0.9',NULL,54321,%(cluster)s,%(id)s,"
    "'renamed',true,0,100,'apc','u','p',"
    "NULL,'',true,'',NULL,5,NULL)",
}
NAMED = (
    "SELECT UpdateVdsStatic(v_host_name => 'renamed', v_ip => '10.0.0.9', v_vds_unique_id => NULL, v_port => 54321, "
    "v_vds_group_id => %(cluster)s, v_vds_id => %(id)s, v_vds_name => 'renamed', v_server_ssl_enabled => true, "
    "v_vds_type => 0, "
    "v_vds_strength => 100, v_pm_type => 'apc', v_pm_user => 'u', v_pm_password => 'p', v_pm_port => NULL, v_pm_options => '', "
    "v_pm_enabled => true, {more}v_otp_validity => NULL, v_vds_spm_priority => 5"
)
LATER = "v_pm_proxy_preferences => '', v_sshkeyfingerprint => NULL, "
STORED = "SELECT ROW(" + ", ".join(site.SEVEN) + ")::text FROM vds_static WHERE vds_id = %s"


class Caller:
    """Calls the procedures the way callers do, about one host."""

    def __init__(self, conn, shape):
        self.conn, self.shape = conn, shape
        self.ids = conn.execute("SELECT vds_id, vds_group_id FROM vds_static ORDER BY vds_id LIMIT 1").fetchone()

    def old(self):
        self.conn.execute(OLD_UPDATE[self.shape], {"id": self.ids[0], "cluster": self.ids[1]})

    def named(self, **seven):
        text = NAMED.format(more=LATER if self.shape != "3.1.0" else "")
        more = "".join(f", v_pm_secondary_{name} => %({name})s" for name in seven)
        self.conn.execute(text + more + ")", {"id": self.ids[0], "cluster": self.ids[1], **seven})

    def stored(self):
        return site.one(self.conn, STORED, self.ids[0])


@pytest.fixture
def caller(pm_database, shape):
    return Caller(pm_database(shape, hosts=3, upgraded=True).connect(), shape)


FULL = {"ip": "10.0.0.2", "type": "ilo", "user": "u2", "password": "p2", "port": 623, "options": "a=1", "concurrent": True}
STORED_FULL = "(10.0.0.2,ilo,u2,p2,623,a=1,t)"


def test_an_old_call_by_position_or_by_name_keeps_a_stored_secondary_agent(caller):
    caller.named(**FULL)
    assert caller.stored() == STORED_FULL
    caller.old()
    assert caller.stored() == STORED_FULL
    caller.named()
    assert caller.stored() == STORED_FULL
    assert site.one(caller.conn, "SELECT ip FROM vds_static WHERE vds_id = %s", caller.ids[0]) == "10.0.0.9"


def test_giving_the_address_sets_all_seven(caller):
    """The others default to NULL and false; NULL for the address clears."""
    caller.named(**FULL)
    caller.named(ip="10.0.0.3", type="apc")
    assert caller.stored() == "(10.0.0.3,apc,,,,,f)"
    caller.named(**FULL)
    caller.named(ip=None)
    assert caller.stored() == "(,,,,,,f)"
    caller.named(**FULL | {"concurrent": None})
    assert caller.stored() == STORED_FULL.replace(",t)", ",f)")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("type", "ilo"),
        ("type", None),
        ("user", "u"),
        ("password", "p"),
        ("port", 623),
        ("port", None),
        ("options", ""),
        ("concurrent", False),
    ],
)
def test_any_other_of_the_seven_without_the_address_is_an_error_naming_it(pm_database, name, value):
    caller = Caller(pm_database("3.2-snapshot", hosts=3, upgraded=True).connect(), "3.2-snapshot")
    caller.named(**FULL)
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=f"v_pm_secondary_{name} given without v_pm_secondary_ip"):
        caller.named(**{name: value})
    assert caller.stored() == STORED_FULL


INSERTS = {
    "3.1.0": "('new','10.1.0.1',NULL,54321,%(cluster)s,%(id)s,'new',true,0,100,'apc','u','p',NULL,'',true,5",
    "3.2-snapshot": "(%(id)s,'new','10.1.0.1',NULL,54321,%(cluster)s,'new',true,0,100,'apc','u','p',NULL,'',true,'',5",
}


@pytest.mark.parametrize("procedure", ["InsertVds", "InsertVdsStatic"])
def test_the_inserting_procedures_insert_the_seven_or_nothing(caller, procedure):
    """Also through the old signature; 3.1.0 makes the id itself."""
    old = INSERTS[caller.shape]
    if procedure == "InsertVdsStatic" and caller.shape != "3.1.0":
        old += ",NULL"
    new = "".join(f", v_pm_secondary_{name} => %({name})s" for name in FULL)
    given = {"cluster": caller.ids[1], "id": "11111111-1111-1111-1111-111111111111", **FULL}
    for call, stored in ((f"{old})", "(,,,,,,f)"), (f"{old}{new})", STORED_FULL)):
        with caller.conn.transaction(force_rollback=True):
            made = caller.conn.execute(f"SELECT {procedure}{call}", given).fetchone()[0]
            assert site.one(caller.conn, STORED, made or given["id"]) == stored


def test_filtered_readers_see_the_six_and_no_password_right_after_the_commit(pm_database, shape):
    """The cached SQL is filled before the upgrade, and would fail after it."""
    conn = pm_database(shape, hosts=5).connect()
    host, user = conn.execute("SELECT vds_id, gen_random_uuid() FROM vds LIMIT 1").fetchone()
    grant_everything(conn, user)
    assert conn.execute("SELECT vds_name FROM getvdsbyvdsid(%s, %s, true)", [host, user]).fetchall()
    assert site.one(conn, "SELECT count(*) FROM object_column_white_list_sql") == 1

    site.upgraded(conn)
    conn.execute("UPDATE vds_static SET pm_secondary_ip = 'pdu', pm_secondary_password = 'secret', pm_password = 'secret'")

    row = conn.execute(
        "SELECT pm_secondary_ip, pm_secondary_password, pm_password FROM getvdsbyvdsid(%s, %s, true)", [host, user]
    ).fetchone()
    assert row == ("pdu", None, None)
    assert site.one(conn, "SELECT count(*) FROM object_column_white_list WHERE column_name LIKE '%%password'") == 0


def grant_everything(conn, user):
    """Let *user* see every host, through the baseline's small permission tables."""
    conn.execute(
        "INSERT INTO permissions (id, role_id, ad_element_id, object_id, object_type_id) "
        "SELECT gen_random_uuid(), (SELECT id FROM roles WHERE role_type = 2 AND allows_viewing_children LIMIT 1), "
        "%s, vds_id, 3 FROM vds_static",
        [user],
    )


def test_a_connection_inside_a_transaction_is_refused(pm_database):
    conn = pm_database("3.1.0", hosts=0).connect(autocommit=False)
    conn.execute("SELECT 1")
    with pytest.raises(ConfigurationError):
        upgrade.upgrade(conn)
    conn.rollback()
    assert upgrade.status(conn).state == "pending"
    conn.rollback()
    assert upgrade.upgrade(conn).applied
    assert conn.autocommit is False


def test_every_getter_returns_the_wider_rows(pm_database, shape):
    conn = pm_database(shape, hosts=5, upgraded=True).connect()
    rows = conn.execute(
        "SELECT p.oid::regproc::text, p.pronargs, array_to_string(ARRAY(SELECT 'NULL::' || format_type(t, NULL) "
        "FROM unnest(p.proargtypes) AS t), ', '), p.prorettype::regtype::text FROM pg_proc AS p "
        "WHERE p.pronamespace = 'public'::regnamespace AND p.proretset "
        "AND p.prorettype IN ('vds'::regtype, 'vds_static'::regtype)"
    ).fetchall()
    assert len(rows) >= 19
    for name, _, arguments, _ in rows:
        cursor = conn.execute(f"SELECT * FROM {name}({arguments})")
        assert set(site.SEVEN) <= {column.name for column in cursor.description}, name
