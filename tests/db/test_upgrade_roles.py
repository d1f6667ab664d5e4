"""Who may do what: read-only roles, owners without superuser rights, roles that own only their own, engine roles (D7, D8)."""

from __future__ import annotations

import itertools

import psycopg
import pytest
import site_objects as site
from psycopg.conninfo import make_conninfo

from pmcompat.db import upgrade
from pmcompat.db.baseline import init
from pmcompat.db.connection import connect
from pmcompat.db.upgrade import UpgradeSettings
from pmcompat.errors import NeedsConfirmation, Refused

_numbers = itertools.count(1)


@pytest.fixture
def role(pm_database):
    """A function that makes a login role of its own for this test, and gives its connection to a database."""
    made, admin = [], pm_database(empty=True).connect()

    def login(database, options=""):
        name = f"role {next(_numbers)}"
        admin.execute(f'CREATE ROLE "{name}" LOGIN {options}'.encode())
        made.append((name, database))
        return name, connect(make_conninfo(database.dsn, user=name))

    yield login
    for name, database in reversed(made):
        with psycopg.connect(database.dsn, autocommit=True) as conn:
            conn.execute(f'DROP OWNED BY "{name}" CASCADE'.encode())
        admin.execute(f'DROP ROLE "{name}"'.encode())


@pytest.fixture
def owned(pm_database, role):
    """An engine database that an ordinary role owns, in a schema of its own making."""
    database = pm_database(empty=True)
    admin = database.connect()
    name, conn = role(database)
    admin.execute(f'GRANT CREATE ON DATABASE {database.name} TO "{name}"'.encode())
    admin.execute(f'ALTER SCHEMA public OWNER TO "{name}"'.encode())
    init(conn, "3.2-snapshot", 3)
    yield database, name, conn
    conn.close()


def test_a_read_only_role_sees_status_and_plan_and_changes_nothing(owned, role):
    database, _, _ = owned
    name, conn = role(database)
    admin = database.connect()
    admin.execute(f'GRANT USAGE ON SCHEMA public TO "{name}"; GRANT SELECT ON ALL TABLES IN SCHEMA public TO "{name}"'.encode())
    conn.execute("SET default_transaction_read_only = on")
    before = site.dump(database.dsn)

    assert upgrade.status(conn).state == "pending"
    assert upgrade.plan(conn).locks
    assert any("cannot act as" in finding.text for finding in upgrade.plan(conn).refusals)

    assert site.dump(database.dsn) == before
    conn.close()


def test_a_role_that_can_read_nothing_is_told_what_it_cannot_read(owned, role):
    database, _, _ = owned
    _, conn = role(database)
    found = upgrade.status(conn)
    assert found.state == "pending"
    assert {f.text for f in found.findings if f.kind == "unreadable"} >= {"this role may not read vdc_options"}
    conn.close()


def test_an_owner_without_superuser_rights_upgrades_and_rolls_back(owned):
    database, name, conn = owned
    before = site.dump(database.dsn)
    site.upgraded(conn)
    assert upgrade.verify(conn).ok
    assert site.one(conn, "SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'pmcompat'") == f'"{name}"'
    conn.execute("UPDATE vds_static SET pm_secondary_ip = 'x'")
    assert upgrade.rollback(conn, site.QUICK).archived == 3
    assert site.dump(database.dsn) == before


def test_a_member_of_the_owner_upgrades_and_the_owner_owns_it(owned, role):
    database, owner, _ = owned
    name, conn = role(database)
    admin = database.connect()
    admin.execute(f'GRANT "{owner}" TO "{name}"; GRANT CREATE ON DATABASE {database.name} TO "{name}"'.encode())
    site.upgraded(conn)
    assert upgrade.verify(conn).ok
    owners = "SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relnamespace = 'pmcompat'::regnamespace"
    assert [row[0] for row in conn.execute(owners)] == [f'"{owner}"']
    functions = "SELECT DISTINCT proowner::regrole::text FROM pg_proc WHERE proname IN ('insertvds', 'updatevdsstatic')"
    assert [row[0] for row in conn.execute(functions)] == [f'"{owner}"']
    conn.close()


@pytest.mark.parametrize("thing", ["TABLE vds_static", "VIEW vds_with_tags", "FUNCTION insertvds"])
def test_a_role_that_owns_only_some_of_it_is_refused_before_anything_is_touched(owned, thing):
    database, name, conn = owned
    database.connect().execute(f"ALTER {thing} OWNER TO postgres".encode())
    before = site.dump(database.dsn)
    with pytest.raises(Refused, match=f"cannot act as postgres, who owns {thing.split()[1]}"):
        upgrade.upgrade(conn, site.QUICK)
    assert site.dump(database.dsn) == before
    assert name in str(upgrade.plan(conn).refusals)


@pytest.mark.parametrize(
    ("statement", "match"),
    [
        ('REVOKE CREATE ON DATABASE {database} FROM "{role}"', "may not create schema pmcompat"),
        (
            'ALTER SCHEMA public OWNER TO postgres; REVOKE CREATE ON SCHEMA public FROM "{role}", PUBLIC',
            "may not create anything in schema public",
        ),
    ],
)
def test_a_missing_privilege_is_named_before_anything_is_touched(owned, statement, match):
    database, name, conn = owned
    admin = database.connect()
    admin.execute("DROP SCHEMA IF EXISTS pmcompat CASCADE")
    admin.execute(statement.format(database=database.name, role=name).encode())
    with pytest.raises(Refused, match=match):
        upgrade.upgrade(conn, site.QUICK)


def test_an_engine_role_with_grants_can_use_everything_it_needs(owned, role):
    """Not the owner, not a superuser: procedures, views, the journal, the bookkeeping; no archived password."""
    database, _, owner = owned
    name, conn = role(database)
    admin = database.connect()
    admin.execute(f'GRANT USAGE ON SCHEMA public TO "{name}"; GRANT ALL ON ALL TABLES IN SCHEMA public TO "{name}"'.encode())
    admin.execute(f'GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO "{name}"'.encode())
    site.upgraded(owner, grant_to=(name,))

    assert upgrade.status(conn).state == "current"
    assert upgrade.verify(conn).ok
    conn.execute("UPDATE vds_static SET pm_secondary_ip = 'pdu'")
    assert site.one(conn, "SELECT count(*) FROM vds WHERE pm_secondary_ip = 'pdu'") == 3
    conn.execute("DELETE FROM pmcompat.operations")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute("SELECT pm_secondary_password FROM pmcompat.archived_agents")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute("DELETE FROM pmcompat.scripts")
    conn.close()


def test_grants_can_be_given_later(owned, role):
    database, _, owner = owned
    name, conn = role(database)
    database.connect().execute(f'GRANT USAGE ON SCHEMA public TO "{name}"'.encode())
    site.upgraded(owner)
    assert upgrade.status(conn).bookkeeping == "not readable by this role"
    site.upgraded(owner, grant_to=(name,))
    assert upgrade.status(conn).bookkeeping == "present"
    conn.close()


def test_a_view_whose_owner_could_not_read_the_new_columns_is_refused(pm_database):
    """Columns granted one by one do not include those to come: the view would fail for everybody."""
    database = pm_database("3.1.0", hosts=2)
    conn = database.connect()
    conn.execute(site.ROLES.encode())
    columns = ", ".join(site.column_names(conn, "vds_static"))
    conn.execute(f"GRANT SELECT ({columns}) ON vds_static TO site_reader; ALTER VIEW vds OWNER TO site_reader".encode())
    with pytest.raises(Refused, match="owner of view vds may not read the new columns"):
        upgrade.upgrade(conn, site.QUICK)
    assert upgrade.status(conn).applied == ()


def test_settings_are_values():
    assert UpgradeSettings() == UpgradeSettings(lock_timeout=2.0)
    assert issubclass(NeedsConfirmation, Refused)
