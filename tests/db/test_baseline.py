"""The baseline is what engine databases of both shapes are: names, positions, types, signatures, behaviour."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import psycopg
import pytest
from psycopg import errors, sql

from pmcompat.db.baseline import SHAPES, created, init, made_by_init
from pmcompat.db.cluster import Cluster, find_binaries
from pmcompat.errors import ConfigurationError, ModelError, SchemaError
from pmcompat.resources import data

GOLDEN = Path(__file__).parent / "golden"
CLUSTER = "5c000000-0000-4000-8000-000000000001"
POOL = "5d000000-0000-4000-8000-000000000001"
USER = "5a000000-0000-4000-8000-000000000001"
HOST = "50000000-0000-4000-8000-000000000001"
shapes = pytest.mark.parametrize("shape", SHAPES)

#: database facts §16.3: columns of vds_static, vds, vds_with_tags and both DWH views; arguments of InsertVdsStatic,
#: UpdateVdsStatic, InsertVds; functions SETOF vds and SETOF vds_static; listed columns
COUNTS = {
    "3.1.0": (21, 82, 83, 20, 20, 17, 18, 17, 13, 6, 82),
    "3.2-snapshot": (23, 93, 92, 21, 21, 19, 20, 18, 16, 6, 91),
}
COUNT = """
SELECT (SELECT count(*) FROM pg_attribute WHERE attrelid = 'vds_static'::regclass AND attnum > 0),
    (SELECT count(*) FROM pg_attribute WHERE attrelid = 'vds'::regclass AND attnum > 0),
    (SELECT count(*) FROM pg_attribute WHERE attrelid = 'vds_with_tags'::regclass AND attnum > 0),
    (SELECT count(*) FROM pg_attribute WHERE attrelid = 'dwh_host_configuration_history_view'::regclass AND attnum > 0),
    (SELECT count(*) FROM pg_attribute WHERE attrelid = 'dwh_host_configuration_full_check_view'::regclass AND attnum > 0),
    (SELECT pronargs FROM pg_proc WHERE oid = 'insertvdsstatic'::regproc),
    (SELECT pronargs FROM pg_proc WHERE oid = 'updatevdsstatic'::regproc),
    (SELECT pronargs FROM pg_proc WHERE oid = 'insertvds'::regproc),
    (SELECT count(*) FROM pg_proc WHERE prorettype = 'vds'::regtype AND proretset),
    (SELECT count(*) FROM pg_proc WHERE prorettype = 'vds_static'::regtype AND proretset),
    (SELECT count(*) FROM object_column_white_list WHERE object_name = 'vds')
"""


def content(conn, schema: str = "public") -> dict[str, str]:
    """A hash of every row of every table, whatever the order."""
    conn.execute("SET TimeZone = 'UTC'")
    names = conn.execute(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = quote_ident(%s)::regnamespace", [schema]
    ).fetchall()
    query = "SELECT md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM {} AS t"
    return {name: conn.execute(sql.SQL(query).format(sql.Identifier(schema, name))).fetchone()[0] for (name,) in names}


def objects(conn) -> list[tuple[str, ...]]:
    """Everything in the catalog that a user made."""
    return conn.execute(
        "SELECT 'relation', oid::regclass::text FROM pg_class WHERE relnamespace::regnamespace::text !~ '^(pg_|information)'"
        " UNION ALL SELECT 'function', oid::regprocedure::text FROM pg_proc"
        " WHERE pronamespace::regnamespace::text !~ '^(pg_|information)'"
        " UNION ALL SELECT 'schema', nspname FROM pg_namespace WHERE nspname !~ '^pg_' ORDER BY 1, 2"
    ).fetchall()


# --- what it is -------------------------------------------------------------------------------------------------------


@shapes
def test_the_counts_are_those_of_the_shape(pm_database, shape) -> None:
    conn = pm_database(shape, hosts=0).connect()
    assert conn.execute(COUNT).fetchone() == COUNTS[shape]


def _notation(kind: str) -> str:
    return (
        kind.replace("character varying", "varchar")
        .replace("timestamp with time zone", "timestamptz")
        .replace("timestamp without time zone", "timestamp")
    )


@shapes
def test_every_column_has_the_position_type_and_default_of_the_shape(pm_database, shape) -> None:
    conn = pm_database(shape, hosts=0).connect()
    text = (GOLDEN / f"columns-{shape}.txt").read_text()
    lines = []
    for relation in [line for line in text.splitlines() if not line.startswith(" ")]:
        lines.append(relation)
        for number, name, kind, needed, stored in conn.execute(
            "SELECT attnum, attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid)"
            " FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum"
            " WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum",
            [relation],
        ):
            line = f"    {number:>2} {name} {_notation(kind)}" + (" not null" if needed else "")
            default = (stored or "").replace("::character varying", "").replace("::regclass", "").replace("::text", "")
            lines.append(line + (f" default {default}" if default else ""))
    assert lines == text.splitlines()


CONSTRAINTS = {
    "vds_static": {
        "pk_vds_static": "PRIMARY KEY (vds_id)",
        "vds_groups_vds_static": "FOREIGN KEY (vds_group_id) REFERENCES vds_groups(vds_group_id)",
        "vds_static_vds_name_unique": "UNIQUE (vds_name)",
        "vds_static_host_name_unique": "UNIQUE (host_name)",
        "vds_static_vds_spm_priority_check": "CHECK (((vds_spm_priority >= '-1'::integer) AND (vds_spm_priority <= 10)))",
    },
    "vds_dynamic": {
        "pk_vds_dynamic": "PRIMARY KEY (vds_id)",
        "vds_static_vds_dynamic": "FOREIGN KEY (vds_id) REFERENCES vds_static(vds_id)",
    },
    "vds_statistics": {
        "pk_vds_statistics": "PRIMARY KEY (vds_id)",
        "vds_static_vds_statistics": "FOREIGN KEY (vds_id) REFERENCES vds_static(vds_id)",
    },
    "vds_groups": {
        "pk_vds_groups": "PRIMARY KEY (vds_group_id)",
        "fk_vds_groups_storage_pool_id": "FOREIGN KEY (storage_pool_id) REFERENCES storage_pool(id) ON DELETE SET NULL",
    },
    "storage_pool": {"pk_storage_pool": "PRIMARY KEY (id)"},
    "vds_spm_id_map": {
        "pk_vds_spm_id_map": "PRIMARY KEY (storage_pool_id, vds_spm_id)",
        "fk_vds_spm_id_map_storage_pool": "FOREIGN KEY (storage_pool_id) REFERENCES storage_pool(id) ON DELETE CASCADE",
        "fk_vds_spm_id_map_vds_id": "FOREIGN KEY (vds_id) REFERENCES vds_static(vds_id) ON DELETE CASCADE",
    },
    "tags": {"pk_tags_id": "PRIMARY KEY (tag_id)"},
    "tags_vds_map": {
        "pk_tags_vds_map": "PRIMARY KEY (tag_id, vds_id)",
        "tags_vds_map_tag": "FOREIGN KEY (tag_id) REFERENCES tags(tag_id)",
        "tags_vds_map_vds": "FOREIGN KEY (vds_id) REFERENCES vds_static(vds_id)",
    },
    "dwh_history_timekeeping": {},
    "vdc_options": {"pk_vdc_options": "PRIMARY KEY (option_id)"},
    "schema_version": {"schema_version_primary_key": "PRIMARY KEY (id)"},
    "object_column_white_list": {"pk_object_column_white_list": "PRIMARY KEY (object_name, column_name)"},
    "object_column_white_list_sql": {"pk_object_column_white_list_sql": "PRIMARY KEY (object_name)"},
}


@shapes
def test_constraints_bear_the_names_clients_know(pm_database, shape) -> None:
    conn = pm_database(shape, hosts=0).connect()
    for table, wanted in CONSTRAINTS.items():
        rows = conn.execute(
            "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = %s::regclass AND contype <> 'n'",
            [table],
        )
        assert dict(rows.fetchall()) == wanted, table
    # keys and unique constraints apart, vds_static has no index, no trigger of a user's and no rule
    assert conn.execute("SELECT count(*) FROM pg_index WHERE indrelid = 'vds_static'::regclass").fetchone() == (3,)
    assert conn.execute("SELECT relhasrules FROM pg_class WHERE oid = 'vds_static'::regclass").fetchone() == (False,)
    options = conn.execute("SELECT indisunique FROM pg_index WHERE indexrelid = 'ix_vdc_options'::regclass").fetchone()
    assert options == (False,)


#: database facts §3.1: the type list, what it returns, and which argument is INOUT
SIGNATURES = {
    ("3.1.0", "insertvdsstatic"): (
        (
            "varchar,varchar,varchar,integer,uuid,uuid,varchar,boolean,integer,integer,varchar,varchar,varchar,integer,varchar,"
            "boolean,integer"
        ),
        "uuid",
        6,
    ),
    ("3.1.0", "updatevdsstatic"): (
        (
            "varchar,varchar,varchar,integer,uuid,uuid,varchar,boolean,integer,integer,varchar,varchar,varchar,integer,varchar,"
            "boolean,bigint,integer"
        ),
        "void",
        None,
    ),
    ("3.2-snapshot", "insertvdsstatic"): (
        (
            "uuid,varchar,varchar,varchar,integer,uuid,varchar,boolean,integer,integer,varchar,varchar,varchar,integer,varchar,"
            "boolean,varchar,integer,varchar"
        ),
        "void",
        None,
    ),
    ("3.2-snapshot", "updatevdsstatic"): (
        (
            "varchar,varchar,varchar,integer,uuid,uuid,varchar,boolean,integer,integer,varchar,varchar,varchar,integer,varchar,"
            "boolean,varchar,bigint,integer,varchar"
        ),
        "void",
        None,
    ),
    ("3.2-snapshot", "insertvds"): (
        (
            "uuid,varchar,varchar,varchar,integer,uuid,varchar,boolean,integer,integer,varchar,varchar,varchar,integer,varchar,"
            "boolean,varchar,integer"
        ),
        "void",
        None,
    ),
}
SIGNATURES["3.1.0", "insertvds"] = SIGNATURES["3.1.0", "insertvdsstatic"]


@pytest.mark.parametrize(("shape", "name"), SIGNATURES)
def test_the_three_procedures_have_the_signatures_of_the_shape(pm_database, shape, name) -> None:
    types, returns, inout = SIGNATURES[shape, name]
    conn = pm_database(shape, hosts=0).connect()
    found = conn.execute(
        "SELECT prorettype::regtype::text, proargmodes::text[] FROM pg_proc WHERE oid = to_regprocedure(%s)",
        [f"{name}({types})"],
    ).fetchone()
    assert found is not None
    assert found[0] == returns
    assert (found[1].index("b") + 1 if found[1] else None) == inout


@shapes
def test_procedures_are_plain_plpgsql_and_one_name_alone_stands_for_two(pm_database, shape) -> None:
    conn = pm_database(shape, hosts=0).connect()
    rows = conn.execute(
        "SELECT proname, lanname, provolatile::text, proisstrict, prosecdef, proconfig FROM pg_proc"
        " JOIN pg_language l ON l.oid = prolang WHERE pronamespace = 'public'::regnamespace"
    ).fetchall()
    assert {row[1:] for row in rows} == {("plpgsql", "v", False, False, None)}
    assert sorted(row[0] for row in rows) == sorted(created(shape)["FUNCTION"])
    assert {row[0] for row in rows if [other[0] for other in rows].count(row[0]) > 1} == {"attach_user_to_su_role"}


@shapes
def test_views_and_functions_hang_together_as_in_an_engine(pm_database, shape) -> None:
    """Dropping vds takes every SETOF function and both permission views along; vds_with_tags goes alone."""
    conn = pm_database(shape, hosts=0).connect()
    with pytest.raises(errors.DependentObjectsStillExist):
        conn.execute("DROP VIEW vds")
    before = objects(conn)
    conn.execute("DROP VIEW vds CASCADE")
    gone = {name for _, name in before} - {name for _, name in objects(conn)}
    assert len(gone) == COUNTS[shape][8] + 2 + 1
    assert {"vds", "user_vds_permissions_view", "user_vds_permissions_view_base"} <= gone
    conn.execute("DROP VIEW vds_with_tags")
    readers = conn.execute(
        "SELECT DISTINCT c.relname FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class c ON c.oid = r.ev_class"
        " WHERE d.refobjid = 'vds_static'::regclass"
    ).fetchall()
    wanted = {
        "vms",
        "vds_interface_view",
        "storage_domains_with_hosts_view",
        *(["network_vds_view"] if shape != "3.1.0" else []),
    }
    assert {name for (name,) in readers} == wanted | {
        "dwh_host_configuration_history_view",
        "dwh_host_configuration_full_check_view",
    }


# --- how it loads -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", find_binaries(), ids=lambda found: f"{found.source}{found.major}")
def test_every_server_here_loads_it_by_init_and_by_psql_and_gets_the_same_rows(place, tmp_path) -> None:
    with Cluster(place) as cluster:
        for number, shape in enumerate(SHAPES):
            rows = []
            for way in ("init", "psql"):
                cluster.create_database(f"{way}{number}")
                with psycopg.connect(cluster.dsn(f"{way}{number}"), autocommit=True) as conn:
                    if way == "init":
                        init(conn, shape, 20)
                    else:
                        _psql(place, cluster.dsn(f"{way}{number}"), shape)
                    assert conn.execute(COUNT).fetchone() == COUNTS[shape]
                    rows.append(content(conn))
            assert rows[0] == rows[1]
            assert rows[0]["vds_static"] == STATIC[shape], "the same rows, every time and everywhere"


#: hash of the twenty hosts' vds_static; whoever changes the hosts on purpose changes it here
STATIC = {"3.1.0": "96890bd5149494d371099c33c5329f89", "3.2-snapshot": "f17586cc764392d70609220b665baddc"}


def _psql(place, dsn: str, shape: str) -> None:
    for file in (f"{shape}.sql", f"hosts-{shape}.sql"):
        subprocess.run(
            [place.bin / "psql", "-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-f", data("sql") / "baseline" / file, dsn],
            env={"PGOPTIONS": "-c pmcompat.hosts=20", "PATH": "/usr/bin:/bin"},
            check=True,
            timeout=60,
        )


@shapes
def test_an_owner_who_is_no_superuser_makes_and_uses_it_in_any_schema(pm_database, shape) -> None:
    database = pm_database(empty=True)
    admin = database.connect()
    role = f"owner_{database.name}"
    admin.execute(f'CREATE ROLE "{role}" LOGIN')
    admin.execute(f'ALTER DATABASE "{database.name}" OWNER TO "{role}"')
    try:
        with psycopg.connect(database.dsn, user=role, autocommit=True) as conn:
            for schema in ("public", "Engine 2"):
                init(conn, shape, 20, schema=schema)
                assert conn.execute("SHOW search_path").fetchone() == ('"$user", public',)
                conn.execute("SELECT set_config('search_path', quote_ident(%s), false)", [schema])
                assert conn.execute(COUNT).fetchone() == COUNTS[shape]
                assert len(conn.execute("SELECT * FROM GetVdsByVdsGroupId(%s, %s, true)", [CLUSTER, USER]).fetchall()) == 20
                conn.execute("RESET search_path")
                assert made_by_init(conn, schema=schema)
            owners = "SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relnamespace = 'pmcompat'::regnamespace"
            assert conn.execute(owners).fetchall() == [(role,)]
            # the cache of filtered reads names the schema, which is all the difference
            conn.execute("DELETE FROM public.object_column_white_list_sql")
            conn.execute('DELETE FROM "Engine 2".object_column_white_list_sql')
            assert content(conn) == content(conn, "Engine 2")
    finally:
        admin.execute(f'ALTER DATABASE "{database.name}" OWNER TO postgres')
        admin.execute(f'REASSIGN OWNED BY "{role}" TO postgres')
        admin.execute(f'DROP OWNED BY "{role}"')
        admin.execute(f'DROP ROLE "{role}"')


@shapes
def test_init_marks_what_it_made_and_a_copy_keeps_the_mark(pm_database, shape) -> None:
    conn = pm_database(shape, hosts=0).connect()
    assert made_by_init(conn)
    assert not made_by_init(conn, schema="elsewhere")
    conn.execute("ALTER TABLE vds_static RENAME TO was; CREATE TABLE vds_static (LIKE was)")
    assert not made_by_init(conn), "another table took its place"


def test_a_database_without_the_mark_was_not_made_by_init(pm_database) -> None:
    conn = pm_database("3.1.0", hosts=0).connect()
    conn.execute("CREATE ROLE nobody_special; SET ROLE nobody_special")
    try:
        assert not made_by_init(conn), "a role that cannot read the mark is told no, without an error"
    finally:
        conn.execute("RESET ROLE; DROP ROLE nobody_special")
    conn.execute("DROP SCHEMA pmcompat CASCADE")
    assert not made_by_init(conn)
    assert not made_by_init(pm_database(empty=True).connect())


@pytest.mark.parametrize(
    "there",
    [
        "CREATE TABLE vds_static (vds_id uuid)",
        "CREATE VIEW tags AS SELECT 1 AS one",
        "CREATE SEQUENCE audit_log_seq",
        "CREATE FUNCTION getallfromvds() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    ],
)
def test_a_database_with_anything_of_an_engine_is_refused_and_left_alone(pm_database, there) -> None:
    conn = pm_database(empty=True).connect()
    conn.execute(there)
    before = objects(conn)
    with pytest.raises(SchemaError, match="not empty") as caught:
        init(conn, "3.1.0", 20)
    assert caught.value.operands["found"]
    assert objects(conn) == before


def test_other_tables_do_not_disturb(pm_database) -> None:
    conn = pm_database(empty=True).connect()
    conn.execute("CREATE TABLE diary (entry text); CREATE SCHEMA s; CREATE TABLE s.vds_static (vds_id uuid)")
    init(conn, "3.2-snapshot")
    assert conn.execute(COUNT).fetchone() == COUNTS["3.2-snapshot"]


def test_it_is_all_or_nothing(pm_database) -> None:
    conn = pm_database(empty=True).connect()
    before = objects(conn)

    def give_up_at_the_hosts(text: str) -> None:
        if "hosts" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        init(conn, "3.1.0", 20, progress=give_up_at_the_hosts)
    assert objects(conn) == before
    assert conn.execute("SHOW search_path").fetchone() == ('"$user", public',)


def test_inside_a_transaction_the_caller_decides(pm_database) -> None:
    conn = pm_database(empty=True).connect(autocommit=False)
    before = objects(conn)
    summary = init(conn, "3.1.0", 1)
    assert (summary.shape, summary.hosts, summary.tables, summary.views) == ("3.1.0", 1, 26, 12)
    assert conn.execute("SHOW search_path").fetchone() == ('"$user", public',)
    conn.rollback()
    assert objects(conn) == before


def test_of_two_at_once_one_makes_it_and_the_other_is_told(pm_database) -> None:
    database = pm_database(empty=True)
    outcomes: list[str] = []

    def make() -> None:
        with psycopg.connect(database.dsn, autocommit=True) as conn:
            try:
                init(conn, "3.1.0", 20)
                outcomes.append("made")
            except SchemaError:
                outcomes.append("refused")

    threads = [threading.Thread(target=make) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["made", "refused"]


def test_a_role_that_may_not_create_is_refused_with_a_reason(pm_database) -> None:
    conn = pm_database(empty=True).connect()
    conn.execute("CREATE ROLE guest_of_init; REVOKE CREATE ON SCHEMA public FROM PUBLIC; SET ROLE guest_of_init")
    try:
        with pytest.raises(SchemaError, match="permission denied"):
            init(conn, "3.1.0")
    finally:
        conn.execute("RESET ROLE; DROP ROLE guest_of_init")


def test_what_cannot_be_made_is_refused_beforehand(pm_database) -> None:
    conn = pm_database(empty=True).connect()
    with pytest.raises(ConfigurationError, match="shape"):
        init(conn, "3.3")
    with pytest.raises(ModelError, match="hosts"):
        init(conn, "3.1.0", -1)
    with pytest.raises(ModelError, match="hosts"):
        init(conn, "3.1.0", 10_000_001)
