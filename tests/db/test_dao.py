"""The DAOs on both shapes, upgraded and not: what is written is what is read, through the engine's own procedures."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from psycopg import Cursor, sql

from pmcompat.db.baseline import init
from pmcompat.db.cipher import PlainCipher, StoredSecret
from pmcompat.db.connection import Connection, connect
from pmcompat.db.dao import BATCH, VdsDao, VdsStaticDao, forget_shape
from pmcompat.db.upgrade import UpgradeSettings, upgrade
from pmcompat.errors import ConfigurationError, DatabaseUnreachable, ModelError, Overtaken, Refused, SchemaError
from pmcompat.model import Agent, Host, HostStatus, Options, PowerManagement, Secret

SHAPES = ("3.1.0", "3.2-snapshot")
Opened = tuple[Connection, VdsStaticDao]


@pytest.fixture(params=SHAPES)
def upgraded(request, pm_database) -> Opened:
    conn = pm_database(request.param, hosts=20, upgraded=True).connect()
    return conn, VdsStaticDao(conn, PlainCipher())


@pytest.fixture(params=SHAPES)
def plain(request, pm_database) -> Opened:
    conn = pm_database(request.param, hosts=20).connect()
    return conn, VdsStaticDao(conn, PlainCipher())


def pair(**settings: object) -> PowerManagement:
    one = Agent(type="ipmilan", address="bmc.lab", username="admin", password=Secret("first"), options=Options("lanplus"))
    two = Agent(
        type="apc", address="pdu.lab", username="op", password=Secret("second"), ip_port=23, options=Options("slot=7"), order=2
    )
    return PowerManagement(enabled=True, agents=(one, two), **settings)


def new_host(dao: VdsStaticDao, name: str = "fresh", **settings: object) -> Host:
    return Host(id=uuid4(), name=name, address=f"{name}.lab", cluster_id=dao.clusters()[0].id, **settings)


def raw(conn: Connection, columns: str, host_id: UUID) -> tuple[object, ...]:
    row = conn.execute(f"SELECT {columns} FROM vds_static WHERE vds_id = %s", [host_id]).fetchone()
    assert row is not None
    return row


def test_a_host_with_two_agents_is_stored_and_read_back(upgraded):
    conn, dao = upgraded
    stored = dao.save(new_host(dao, power_management=pair(concurrent=True)))
    found = dao.get(stored.id)
    assert found == replace(stored, status=None)
    assert found.power_management.primary.password.reveal() == "first"
    assert raw(
        conn, "pm_secondary_ip, pm_secondary_type, pm_secondary_port, pm_secondary_options, pm_secondary_concurrent", found.id
    ) == ("pdu.lab", "apc", 23, "slot=7", True)


def test_every_finder_finds_it(upgraded):
    _, dao = upgraded
    stored = dao.save(new_host(dao, power_management=pair()))
    same = replace(stored, status=None)
    assert dao.get_by_name("fresh") == same
    assert dao.get_by_ip("bmc.lab") == [same]
    assert same in dao.get_all()
    assert same in dao.get_all_for_cluster(same.cluster_id)
    assert dao.get_many(names=["fresh", "absent"]) == [same]
    assert list(dao.each(names=["fresh"])) == [same]
    assert [host.name for host in dao.each()] == [host.name for host in dao.get_all()]


def test_what_is_not_there_is_none(upgraded):
    _, dao = upgraded
    assert dao.get(uuid4()) is None
    assert dao.get_by_name("absent") is None
    assert dao.get_by_ip("absent") == []
    assert dao.get_many() == []
    assert not dao.remove(uuid4())


def test_a_new_host_is_visible_in_the_view_and_in_maintenance(upgraded):
    conn, dao = upgraded
    stored = dao.save(new_host(dao, power_management=pair()))
    seen = VdsDao(conn, PlainCipher()).get(stored.id)
    assert seen.status is HostStatus.MAINTENANCE
    assert seen.cluster_name == "Default"
    assert replace(seen, cluster_name=None) == stored


def test_the_engines_own_getters_read_what_was_written(upgraded):
    conn, dao = upgraded
    stored = dao.save(new_host(dao, power_management=pair()))
    for call in ("getvdsstaticbyvdsid(%s)", "getvdsbyvdsid(%s, NULL, false)"):
        row = conn.execute(f"SELECT ip, pm_secondary_ip, pm_secondary_user FROM {call}", [stored.id]).fetchone()
        assert row == ("bmc.lab", "pdu.lab", "op")


def test_what_the_engines_procedure_writes_is_read(upgraded):
    conn, dao = upgraded
    stored = dao.save(new_host(dao, power_management=pair()))
    names = dao.shape.procedures["updatevdsstatic"].parameters
    given = dict.fromkeys(names) | {
        "v_vds_id": stored.id, "v_vds_name": "renamed", "v_host_name": "h", "v_port": 1, "v_vds_group_id": stored.cluster_id,
        "v_vds_type": 0, "v_vds_strength": 100, "v_pm_options": "", "v_pm_enabled": False, "v_pm_secondary_ip": "",
    }  # fmt: skip
    call = sql.SQL("SELECT updatevdsstatic({})").format(
        sql.SQL(", ").join(sql.SQL("{} => %({})s").format(sql.Identifier(n), sql.SQL(n)) for n in given)
    )
    conn.execute(call, given)
    found = dao.get(stored.id)
    assert found.power_management.agents == (Agent(address="", order=2),)
    assert (found.name, found.spm_priority, found.ssl_enabled) == ("renamed", None, None)


def test_the_dwh_sees_an_update_and_an_update_of_many(upgraded):
    conn, dao = upgraded
    stored = dao.save(new_host(dao))
    assert raw(conn, "_update_date", stored.id) == (None,)
    dao.update(replace(stored, address="else.lab"))
    first = raw(conn, "_update_date", stored.id)[0]
    assert first is not None
    dao.update_many([replace(stored, address="more.lab")], directly=True)
    assert raw(conn, "_update_date > 'epoch'", stored.id) == (True,)


@pytest.mark.parametrize("directly", [False, True])
@pytest.mark.parametrize("flag", [False, True])
def test_clearing_the_secondary_agent_clears_all_seven(upgraded, flag, directly):
    """Also where the flag of the pair was left standing."""
    conn, dao = upgraded
    stored = dao.save(new_host(dao, power_management=pair(concurrent=True)))
    pm = replace(stored.power_management, agents=stored.power_management.agents[:1], concurrent=flag)
    dao.update_many([replace(stored, power_management=pm)], directly=directly)
    columns = (
        "pm_secondary_ip, pm_secondary_type, pm_secondary_user, pm_secondary_password, pm_secondary_port, pm_secondary_options"
    )
    assert raw(conn, columns, stored.id) == (None,) * 6
    assert raw(conn, "coalesce(pm_secondary_concurrent, false)", stored.id) == (False,)


@pytest.mark.parametrize("directly", [False, True])
def test_a_column_of_the_seven_that_stands_alone_keeps_its_value(plain, directly):
    """A site's own, or what an interrupted upgrade by hand left: it is not read, so it must not be written."""
    conn, _ = plain
    conn.execute("ALTER TABLE vds_static ADD pm_secondary_ip varchar(255), ADD pm_secondary_concurrent boolean")
    conn.execute("UPDATE vds_static SET pm_secondary_ip = 'pdu.lab', pm_secondary_concurrent = true")
    forget_shape(conn)
    dao = VdsStaticDao(conn, PlainCipher())
    stored = dao.get_all()[0]
    dao.update_many([replace(stored, address="else.lab")], directly=directly)
    assert raw(conn, "host_name, pm_secondary_ip, pm_secondary_concurrent", stored.id) == ("else.lab", "pdu.lab", True)


def test_a_null_concurrent_reads_as_false_and_never_becomes_true(upgraded):
    conn, dao = upgraded
    conn.execute("UPDATE vds_static SET pm_secondary_concurrent = NULL")
    hosts = dao.get_all()
    assert not any(host.power_management.concurrent for host in hosts)
    dao.update_many(hosts, directly=True)
    assert conn.execute("SELECT count(*) FROM vds_static WHERE pm_secondary_concurrent IS NOT NULL").fetchone() == (0,)
    dao.update_many(hosts, was=hosts)
    assert conn.execute("SELECT count(*) FROM vds_static WHERE pm_secondary_concurrent").fetchone() == (0,)


@pytest.mark.parametrize("directly", [False, True])
def test_reading_and_writing_back_changes_no_column(upgraded, directly):
    """L-15: upstream left two columns out and reset them."""
    conn, dao = upgraded
    everything = "SELECT to_jsonb(s) - '_update_date' FROM vds_static s ORDER BY vds_id"
    conn.execute("UPDATE vds_static SET vds_spm_priority = -1, recoverable = false, otp_validity = 17, vds_strength = 3")
    before = conn.execute(everything).fetchall()
    dao.update_many(dao.get_all(), was=dao.get_all(), directly=directly)
    assert conn.execute(everything).fetchall() == before


def test_recoverable_and_otp_validity_of_a_new_host_are_stored(upgraded):
    conn, dao = upgraded
    stored = dao.save(new_host(dao, recoverable=False, otp_validity=99, spm_priority=None))
    assert raw(conn, "recoverable, otp_validity, vds_spm_priority", stored.id) == (False, 99, None)


def test_a_row_that_changed_since_it_was_read_is_reported_and_kept(upgraded):
    conn, dao = upgraded
    stored = dao.save(new_host(dao, power_management=pair()))
    read = dao.get(stored.id)
    conn.execute("UPDATE vds_static SET pm_secondary_user = 'someone' WHERE vds_id = %s", [stored.id])
    with pytest.raises(Overtaken) as caught:
        dao.update(replace(read, address="mine.lab"), was=read)
    assert caught.value.fields == ("secondary.username",)
    assert raw(conn, "host_name, pm_secondary_user", stored.id) == ("fresh.lab", "someone")


def test_updating_a_host_that_is_not_there_is_an_error(upgraded):
    _, dao = upgraded
    with pytest.raises(ModelError) as caught:
        dao.update(new_host(dao))
    assert caught.value.field == "id"


def test_many_are_stored_all_or_none_with_progress(upgraded):
    _, dao = upgraded
    before = len(dao.get_all())
    told: list[tuple[int, int]] = []
    dao.save_many((new_host(dao, f"n{i}") for i in range(BATCH + 200)), progress=lambda done, total: told.append((done, total)))
    assert told == [(BATCH, BATCH + 200), (BATCH + 200, BATCH + 200)]
    with pytest.raises(ModelError) as caught:
        dao.save_many([*(new_host(dao, f"m{i}") for i in range(BATCH + 100)), new_host(dao, "n5")])
    assert caught.value.field == "name"
    assert len(dao.get_all()) == before + BATCH + 200


def test_inside_a_callers_transaction_nothing_is_committed(upgraded):
    conn, dao = upgraded
    with conn.transaction(force_rollback=True):
        dao.save(new_host(dao))
    assert dao.get_by_name("fresh") is None


def test_a_taken_unique_id_is_an_error_and_not_a_silent_nothing(upgraded):
    _, dao = upgraded
    dao.save(new_host(dao, "first", unique_id="ABC"))
    for several in ([new_host(dao, "second", unique_id="ABC")], [new_host(dao, n, unique_id="D") for n in ("x", "y")]):
        with pytest.raises(ModelError) as caught:
            dao.save_many(several)
        assert caught.value.field == "unique_id"
    assert dao.get_by_name("x") is None


def test_the_id_is_the_callers_where_the_procedure_takes_it(upgraded):
    _, dao = upgraded
    host = new_host(dao)
    made_there = dao.shape.procedures["insertvdsstatic"].returns_id
    assert (dao.save(host).id == host.id) is not made_there


def test_removing_a_host_removes_its_rows(upgraded):
    conn, dao = upgraded
    stored = dao.save(new_host(dao, power_management=pair()))
    assert dao.remove(stored.id)
    for table in ("vds_static", "vds_dynamic", "vds_statistics"):
        assert conn.execute(f"SELECT count(*) FROM {table} WHERE vds_id = %s", [stored.id]).fetchone() == (0,)


def test_a_host_that_others_refer_to_is_not_removed(upgraded):
    conn, dao = upgraded
    stored = dao.save(new_host(dao))
    conn.execute("CREATE TABLE other (vds_id uuid REFERENCES vds_static)")
    conn.execute("INSERT INTO other VALUES (%s)", [stored.id])
    with pytest.raises(Refused):
        dao.remove(stored.id)
    assert VdsDao(conn).get(stored.id) is not None


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "node-0001"}, "name"),
        ({"address": "{taken}"}, "address"),
        ({"cluster_id": uuid4()}, "cluster_id"),
        ({"name": ""}, "name"),
        ({"name": "x" * 256}, "name"),
        ({"port": 0}, "port"),
        ({"spm_priority": 11}, "spm_priority"),
        ({"strength": 2**31}, "strength"),
        ({"otp_validity": 2**63}, "otp_validity"),
        ({"unique_id": "u" * 129}, "unique_id"),
    ],
)
def test_a_value_that_no_host_may_have_names_its_field(upgraded, change, field):
    _, dao = upgraded
    taken = dao.get_all()[0]
    given = {key: (taken.address if value == "{taken}" else value) for key, value in change.items()}
    if given.get("name") == "node-0001":
        given["name"] = taken.name
    with pytest.raises(ModelError) as caught:
        dao.save(replace(new_host(dao), **given))
    assert caught.value.field == field


def test_without_the_upgrade_one_agent_is_stored_and_a_second_refused(plain):
    conn, dao = plain
    one = replace(pair(), agents=pair().agents[:1])
    stored = dao.save(new_host(dao, power_management=one))
    assert dao.get(stored.id) == replace(stored, status=None)
    with pytest.raises(SchemaError, match="db upgrade"):
        dao.update(replace(stored, power_management=pair()))
    assert VdsDao(conn).get(stored.id) is not None


def test_proxies_are_refused_where_there_is_no_column_and_kept_where_there_is(plain):
    _, dao = plain
    host = new_host(dao, power_management=PowerManagement(proxy_preferences="dc,cluster"))
    if dao.shape.has_proxies:
        assert dao.get(dao.save(host).id).power_management.proxy_preferences == "dc,cluster"
    else:
        with pytest.raises(ModelError) as caught:
            dao.save(host)
        assert caught.value.field == "power_management.proxy_preferences"


@pytest.mark.parametrize("schema", ["site", 'Odd "name"'])
def test_another_schema_is_served_where_public_has_the_same_tables(upgraded, schema):
    """The engine's functions name no schema: they read and wrote the tables of the search path."""
    conn, public = upgraded
    init(conn, "3.2-snapshot", 0, schema=schema)
    upgrade(conn, UpgradeSettings(schema=schema))
    before = conn.execute("SELECT s FROM public.vds_static s ORDER BY vds_id").fetchall()
    path = conn.execute("SHOW search_path").fetchone()
    dao = VdsStaticDao(conn, PlainCipher(), schema=schema)
    stored = dao.save(new_host(dao, power_management=pair()))
    twin = replace(stored, id=public.get_all()[0].id, name="twin", address="twin.lab")  # the id of a host in public
    dao.save(twin)
    dao.update(replace(twin, address="else.lab"), was=replace(twin, status=None))
    assert [host.address for host in dao.get_all()] == ["fresh.lab", "else.lab"]
    assert [host.name for host in VdsDao(conn, schema=schema).get_all()] == ["fresh", "twin"]
    assert [host.name for host in dao.each()] == ["fresh", "twin"]
    with pytest.raises(ModelError):
        dao.save(replace(stored, id=uuid4()))
    assert dao.remove(twin.id)
    assert dao.get(twin.id) is None
    assert conn.execute("SELECT s FROM public.vds_static s ORDER BY vds_id").fetchall() == before
    assert conn.execute("SHOW search_path").fetchone() == path
    conn.execute("SET search_path TO ''")
    assert dao.get(stored.id) is not None


def test_a_sites_own_columns_do_no_harm(upgraded):
    conn, dao = upgraded
    conn.execute("ALTER TABLE vds_static ADD COLUMN site_rack text DEFAULT 'r1'")
    forget_shape(conn)
    stored = dao.save(new_host(dao, power_management=pair()))
    dao.update(replace(stored, address="x.lab"))
    assert raw(conn, "site_rack, host_name", stored.id) == ("r1", "x.lab")


def test_a_sites_own_agent_type_is_a_type_and_an_invented_one_is_not(upgraded):
    conn, dao = upgraded
    host = new_host(dao, power_management=PowerManagement(agents=(Agent(type="ourpdu", address="a"),)))
    with pytest.raises(ModelError) as caught:
        dao.save(host)
    assert caught.value.field == "primary.type"
    conn.execute("INSERT INTO vdc_options (option_name, option_value) VALUES ('CustomVdsFenceType', 'mine,ourpdu')")
    assert dao.get(dao.save(host).id).power_management.primary.type == "ourpdu"


def test_odd_hosts_cost_no_query_each(upgraded, monkeypatch):
    """Never N+1: a site's own type, and a stored value that is no host's any more, are looked up once per batch."""
    conn, dao = upgraded
    conn.execute("INSERT INTO vdc_options (option_name, option_value) VALUES ('CustomVdsFenceType', 'mine')")
    pm = PowerManagement(enabled=True, agents=(Agent(type="mine", address="a"),))
    fresh = [new_host(dao, f"odd{number}", power_management=pm) for number in range(30)]
    sent = []
    execute = Cursor.execute
    monkeypatch.setattr(Cursor, "execute", lambda self, *args, **kw: sent.append(args[0]) or execute(self, *args, **kw))
    saved = dao.save_many(fresh)
    assert len(sent) < 15
    conn.execute("UPDATE vds_static SET pm_type = 'invented' WHERE pm_type = 'mine'")
    odd = [replace(host, address=f"{host.name}.else") for host in dao.get_many(ids=[host.id for host in saved])]
    sent.clear()
    dao.update_many(odd)
    assert len(sent) < 15
    with pytest.raises(ModelError, match="there is no host gone"):
        dao.update_many([*odd, replace(odd[0], id=uuid4(), name="gone")])


def test_an_odd_stored_value_does_not_stand_in_the_way_of_another_field(upgraded):
    conn, dao = upgraded
    stored = dao.save(new_host(dao))
    conn.execute("UPDATE vds_static SET pm_type = 'relic', pm_port = -3 WHERE vds_id = %s", [stored.id])
    dao.update(replace(dao.get(stored.id), address="new.lab"))
    assert raw(conn, "pm_type, pm_port, host_name", stored.id) == ("relic", -3, "new.lab")


def test_filtered_reads_obey_permissions_and_never_hold_a_password(upgraded):
    conn, dao = upgraded
    stored = dao.save(new_host(dao, power_management=pair()))
    conn.execute("UPDATE vds_static SET pm_options = 'lanplus,snmp_priv_passwd=deep' WHERE vds_id = %s", [stored.id])
    user = uuid4()
    view = VdsDao(conn, PlainCipher())
    assert view.get(stored.id, user_id=user) is None
    conn.execute(
        f"CREATE OR REPLACE VIEW user_vds_permissions_view AS SELECT vds_id AS entity_id, '{user}'::uuid AS user_id FROM vds"
    )
    everywhere = [
        view.get(stored.id, user_id=user),
        next(host for host in view.get_all(user_id=user) if host.id == stored.id),
        next(host for host in view.get_all_for_cluster(stored.cluster_id, user_id=user) if host.id == stored.id),
    ]
    for seen in everywhere:
        assert [agent.address for agent in seen.power_management.agents] == ["bmc.lab", "pdu.lab"]
        assert [agent.password for agent in seen.power_management.agents] == [None, None]
        assert seen.power_management.primary.options == Options("lanplus")


def test_the_view_dao_reads_by_name_cluster_and_power_management(upgraded):
    conn, dao = upgraded
    stored = dao.save(new_host(dao, power_management=pair()))
    dao.save(new_host(dao, "dull"))
    view = VdsDao(conn, PlainCipher())
    assert view.get_by_name("fresh") == view.get(stored.id)
    assert view.get(stored.id) in view.get_all_for_cluster(stored.cluster_id)
    managed = {host.name for host in view.get_all_with_power_management()}
    assert "fresh" in managed
    assert "dull" not in managed
    assert [host.name for host in view.get_many(["fresh", "absent"])] == ["fresh"]


def test_a_host_mapped_in_two_pools_is_read_once(upgraded):
    conn, dao = upgraded
    stored = dao.save(new_host(dao))
    conn.execute("DELETE FROM vds_spm_id_map WHERE vds_id = %s", [stored.id])
    for name in ("p1", "p2"):
        conn.execute(
            "WITH p AS (INSERT INTO storage_pool (id, name, description, storage_pool_type, status, master_domain_version) "
            "VALUES (gen_random_uuid(), %s, '', 1, 1, 1) RETURNING id) "
            "INSERT INTO vds_spm_id_map SELECT id, 1, %s FROM p",
            [name, stored.id],
        )
    assert conn.execute("SELECT count(*) FROM vds WHERE vds_id = %s", [stored.id]).fetchone() == (2,)
    assert [host.name for host in VdsDao(conn).get_all()].count("fresh") == 1


def test_stored_passwords_are_written_back_untouched_by_a_dao_that_cannot_read_them(upgraded):
    conn, dao = upgraded
    stored = dao.save(new_host(dao, power_management=pair()))
    sealed = "A" * 343 + "="
    conn.execute("UPDATE vds_static SET pm_password = %s WHERE vds_id = %s", [sealed, stored.id])
    blind = VdsStaticDao(conn)
    blind.update(replace(blind.get(stored.id), address="moved.lab"))
    assert raw(conn, "pm_password, host_name", stored.id) == (sealed, "moved.lab")


def test_a_new_password_needs_a_cipher(upgraded):
    conn, dao = upgraded
    blind = VdsStaticDao(conn)
    with pytest.raises(ConfigurationError, match="cipher"):
        blind.save(new_host(dao, power_management=pair()))
    assert isinstance(dao.get_all()[0].power_management.agents, tuple)


def test_passwords_are_read_as_stored_secrets(upgraded):
    _, dao = upgraded
    stored = dao.save(new_host(dao, power_management=pair()))
    password = dao.get(stored.id).power_management.primary.password
    assert isinstance(password, StoredSecret)
    assert "first" not in repr(dao.get(stored.id))


def test_a_database_that_is_no_engines_is_refused(pm_database):
    with pytest.raises(SchemaError, match="not an engine"):
        VdsStaticDao(pm_database(empty=True).connect()).get_all()


@pytest.fixture
def encoded(pm_server):
    """A function that gives a database of an encoding."""
    names = []

    def make(encoding: str) -> str:
        names.append(f"encoded_{encoding.lower()}")
        with connect(pm_server.cluster.dsn()) as conn:
            conn.execute(
                sql.SQL("CREATE DATABASE {} ENCODING {} LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0").format(
                    sql.Identifier(names[-1]), encoding
                )
            )
        return pm_server.cluster.dsn(names[-1])

    yield make
    for name in names:
        pm_server.cluster.drop_database(name)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
@pytest.mark.parametrize("count", [1, 60])
def test_a_database_of_another_encoding_is_served(encoded, encoding, count):
    """In SQL_ASCII psycopg gives bytes for texts; a JSON escape is refused by a server that is not in UTF8."""
    with connect(encoded(encoding)) as conn:
        init(conn, "3.2-snapshot", 0)
        upgrade(conn, UpgradeSettings())
        dao = VdsStaticDao(conn, PlainCipher())
        saved = dao.save_many([new_host(dao, f"ké{number}", power_management=pair()) for number in range(count)])
        dao.update_many([replace(host, address=f"é.{host.name}") for host in saved])
        assert dao.get_by_name("ké0").address == "é.ké0"
        assert VdsDao(conn).get_by_name("ké0").power_management.primary.address == "bmc.lab"
        if encoding == "LATIN1":
            with pytest.raises(ModelError, match="cannot be carried"):
                dao.save(new_host(dao, "€"))
            return
        conn.execute("UPDATE vds_static SET pm_user = 'l' || convert_from('\\xe4', 'SQL_ASCII')")
        with pytest.raises(ModelError, match="cannot be carried") as caught:
            dao.get_all()
        assert "xe4" not in str(caught.value)


def test_the_connections_encoding_is_ours_and_a_callers_other_one_is_reported(upgraded, pm_database, monkeypatch):
    conn, dao = upgraded
    conn.execute("SET client_encoding TO 'LATIN1'")
    with pytest.raises(ModelError, match="cannot be carried"):
        dao.save(new_host(dao, "ł"))
    monkeypatch.setenv("PGCLIENTENCODING", "SQL_ASCII")
    with pm_database().connect() as other:
        assert VdsStaticDao(other, PlainCipher()).save(new_host(VdsStaticDao(other), "ł")).name == "ł"


def test_a_lost_connection_is_reported(upgraded):
    conn, dao = upgraded
    dao.get_all()
    conn.close()
    with pytest.raises(DatabaseUnreachable):
        dao.get_all()


@pytest.mark.parametrize(
    "setting",
    [
        "log_statement = 'all'",
        "log_statement = 'mod'",
        "log_min_duration_statement = 0",
        "log_transaction_sample_rate = 1",
        "log_parameter_max_length_on_error = -1",
    ],
)
def test_the_servers_log_shows_no_secret(pm_server, pm_database, setting):
    """F10: parameters of statements stand in the log, where the server logs statements; copied rows do not."""
    database = pm_database("3.2-snapshot", hosts=0, upgraded=True)
    with database.connect() as conn:
        conn.execute(f"ALTER DATABASE {database.name} SET {setting}")
    conn = database.connect()
    dao = VdsStaticDao(conn, PlainCipher())
    one = Agent(type="ipmilan", address="bmc.lab", password=Secret("hush-1"), options=Options("snmp_priv_passwd=hush-2"))
    stored = dao.save(new_host(dao, "logged", power_management=PowerManagement(enabled=True, agents=(one,))))
    dao.update(replace(stored, address="else.lab"))
    dao.update_many([stored], directly=True)
    with pytest.raises(ModelError):
        dao.save(replace(stored, id=uuid4(), address="taken.lab"))
    log = (pm_server.cluster.directory / "server.log").read_text(errors="replace")
    assert "hush" not in log
    if setting.startswith("log_statement"):
        assert "pmcompat_rows" in log


def test_no_error_of_the_database_quotes_a_row(upgraded):
    """A server's message may hold the failing row, passwords included."""
    conn, dao = upgraded
    conn.execute("ALTER TABLE vds_static ADD CONSTRAINT site CHECK (vds_name <> 'bad')")
    with pytest.raises(ModelError) as caught:
        dao.save(new_host(dao, "bad", power_management=pair()))
    error: BaseException | None = caught.value
    while error is not None:
        assert "first" not in str(error)
        assert "second" not in str(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    conn.execute("SET default_transaction_read_only = on")
    with pytest.raises(Refused):
        dao.save(new_host(dao))
