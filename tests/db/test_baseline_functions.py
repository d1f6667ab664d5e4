"""The functions of the baseline do what the engine's do, and every one of them can be called."""

from __future__ import annotations

from uuid import UUID

import pytest
from psycopg import errors

from pmcompat.db.baseline import SHAPES, created

CLUSTER = "5c000000-0000-4000-8000-000000000001"
POOL = "5d000000-0000-4000-8000-000000000001"
USER = "5a000000-0000-4000-8000-000000000001"
STRANGER = "5a000000-0000-4000-8000-0000000000ff"
TAG = "57000000-0000-4000-8000-000000000004"
NEW = "11111111-1111-4111-8111-111111111111"
shapes = pytest.mark.parametrize("shape", SHAPES)


def host(number: int) -> str:
    return f"50000000-0000-4000-8000-{number:012x}"


#: the arguments of a host's procedures, by name
NEW_HOST = {
    "host_name": "'new.lab.example'",
    "ip": "'10.9.0.1'",
    "vds_unique_id": "'machine'",
    "port": "54321",
    "vds_group_id": f"'{CLUSTER}'",
    "vds_id": f"'{NEW}'",
    "vds_name": "'new'",
    "server_ssl_enabled": "true",
    "vds_type": "0",
    "vds_strength": "100",
    "pm_type": "'ipmilan'",
    "pm_user": "'admin'",
    "pm_password": "repeat('x', 344)",  # longer than the varchar(50) of the parameter's history
    "pm_port": "623",
    "pm_options": "'lanplus'",
    "pm_enabled": "true",
    "vds_spm_priority": "7",
}
ONLY_SNAPSHOT = {"pm_proxy_preferences": "'dc'"}


def call(name: str, shape: str, **changes: str) -> str:
    """The text of a call with named arguments, as far as the shape's function knows them."""
    arguments = dict(NEW_HOST)
    if shape != "3.1.0":
        arguments |= ONLY_SNAPSHOT
        if name != "InsertVds":
            arguments |= {"sshkeyfingerprint": "'aa:bb'"}
    if name == "UpdateVdsStatic":
        arguments |= {"otp_validity": "NULL"}
    arguments |= changes
    return f"SELECT {name}({', '.join(f'v_{key} => {value}' for key, value in arguments.items())})"


def calls(shape: str) -> dict[str, str]:
    """One call of every function of the shape, in an order in which all succeed, on a database with twenty hosts."""
    arguments_of = {
        "GetAllFromVds": f"'{USER}', false",
        "GetVdsByStoragePoolId": f"'{POOL}', '{USER}', false",
        "GetVdsByVdsId": f"'{host(1)}', '{USER}', true",
        "GetVdsByVdsGroupId": f"'{CLUSTER}', '{USER}', true",
        "GetVdsByName": "'host-0001'",
        "GetVdsByHostName": "'host-0001.lab.example'",
        "GetVdsByIp": "'10.0.0.3'",
        "GetVdsByUniqueID": "'38608993-5A16-D127-55CB-538DEFC2541E_00:1A:4A:00:00:01'",
        "GetVdsByType": "2",
        "GetVdsForVdsGroupWithStatus": f"'{CLUSTER}', 3",
        "GetFailingVdss": "",
        "GetUpAndPrioritizedVds": f"'{POOL}'",
        "GetVdsWithoutMigratingVmsByVdsGroupId": f"'{CLUSTER}'",
        "GetAllFromVdsStatic": "",
        "GetVdsStaticByVdsId": f"'{host(1)}'",
        "GetVdsStaticByVdsName": "'host-0001'",
        "GetVdsStaticByHostName": "'host-0001.lab.example'",
        "GetVdsStaticByIp": "'10.0.0.3'",
        "GetVdsStaticByVdsGroupId": f"'{CLUSTER}'",
        "GetVdcOptionByName": "'FenceStopStatusRetries', 'general'",
        "GetVdcOptionById": "1",
        "GetAllFromVdcOption": "",
        "DeleteAuditLogAlertsByVdsID": f"'{host(1)}'",
        "UpdateVdsDynamicStatus": f"'{host(1)}', 2",
        "DeleteVdsDynamic": f"'{host(2)}'",
        "DeleteVdsStatistics": f"'{host(2)}'",
        "InsertVdsStatistics": f"1, 1, 1, 1, 1, 1, 1, '{host(2)}', 1, 1, 1, 1, 1, 1, true",
        "DeleteVds_spm_id_map": f"'{host(3)}'",
        "InsertVds_spm_id_map": f"'{POOL}', '{host(3)}', 240",
        "InsertTags_vds_map": f"'{TAG}', '{host(1)}'",
        "DeleteTags_vds_map": f"'{TAG}', '{host(1)}'",
        "InsertTags": f"'text', '{NEW}', 'new', NULL, false, 0",
        "InsertVdcOption": "'Own', 'value', 'general', 0",
        "UpdateVdcOption": "'Own', 'other', 1, 'general'",
        "DeleteVdcOption": "1",
        "uuid_generate_v1": "",
        "fn_db_add_column": "'tags', 'extra', 'integer'",
        "fn_db_rename_column": "'tags', 'extra', 'more'",
        "fn_db_change_column_type": "'tags', 'more', 'int4', 'bigint'",
        "fn_db_drop_column": "'tags', 'more'",
        "fn_db_add_config_value": "'Extra', 'a', 'general'",
        "fn_db_update_config_value": "'Extra', 'b', 'general'",
        "fn_db_update_default_config_value": "'Extra', 'B', 'c', 'general', true",
        "fn_db_split_config_value": "'Extra', 'old', 'new'" + ("" if shape == "3.1.0" else ", '3.1'"),
        "fn_db_delete_config_value": "'Extra', '3.0'",
        "fn_db_add_column_to_object_white_list": "'vds', 'ip'",
        "DeleteVds": f"'{host(4)}'",
        "attach_user_to_su_role": f"'{STRANGER}'",
    }
    if shape != "3.1.0":
        arguments_of |= {
            "GetVdsByStoragePoolIdWithStatus": f"'{POOL}', 3",
            "GetVdsByNetworkId": f"'{NEW}'",
            "GetVdsWithoutNetwork": f"'{NEW}'",
            "GetVdsInterfacesByNetworkId": f"'{NEW}'",
            "fn_db_delete_config_for_version": "'3.0'",
        }
    texts = {name: f"SELECT * FROM {name}({arguments})" for name, arguments in arguments_of.items()}
    texts["fn_db_mask_object"] = "SELECT (rec).* FROM fn_db_mask_object('vds') AS masked (rec vds)"
    texts["InsertVdsStatic"] = call("InsertVdsStatic", shape)
    texts["UpdateVdsStatic"] = call("UpdateVdsStatic", shape)
    texts["DeleteVdsStatic"] = f"SELECT DeleteVdsStatic('{NEW}')"
    texts["InsertVds"] = call("InsertVds", shape, host_name="'x'", vds_name="'x'")
    return texts


@shapes
def test_every_function_can_be_called(pm_database, shape) -> None:
    """Creation proves nothing: plpgsql looks at names only when it runs (field failure B-113)."""
    conn = pm_database(shape).connect()
    called = set()
    for name, text in calls(shape).items():
        conn.execute(text)
        called.add(name.lower())
    for name in ("insertvdsdynamic", "updatevdsdynamic"):
        known = conn.execute("SELECT proargnames FROM pg_proc WHERE oid = %s::regproc", [name]).fetchone()[0]
        needed = {"v_vds_id": f"'{host(2)}'", "v_status": "3"}
        numbers = dict.fromkeys(
            (
                "v_vm_count",
                "v_transparent_hugepages_state",
                "v_anonymous_hugepages",
                "v_pending_vmem_size",
                "v_non_operational_reason",
            ),
            "1",
        )
        values = {**numbers, **needed}
        arguments = ", ".join(f"{key} => {values.get(key, 'NULL')}" for key in known)
        conn.execute(f"SELECT {name}({arguments})")
        called.add(name)
    assert called == set(created(shape)["FUNCTION"])


@shapes
def test_the_getters_return_what_their_names_say(pm_database, shape) -> None:
    conn = pm_database(shape).connect()

    def found(text: str) -> list[str]:
        return sorted(name for (name,) in conn.execute(f"SELECT vds_name FROM {text}"))

    assert len(found(f"GetAllFromVds('{USER}', false)")) == 20
    assert found("GetVdsByIp('10.0.0.3')") == ["host-0003", "host-0004"]
    assert found("GetVdsStaticByIp('10.0.0.3')") == ["host-0003", "host-0004"]
    assert found("GetVdsByName('host-0007')") == ["host-0007"]
    assert found(f"GetVdsForVdsGroupWithStatus('{CLUSTER}', 4)") == ["host-0008", "host-0009"]
    assert found("GetFailingVdss()") == ["host-0019"]
    ranked = [name for (name,) in conn.execute(f"SELECT vds_name FROM GetUpAndPrioritizedVds('{POOL}')")]
    assert ranked[0] == "host-0016"
    assert ranked[-1] == "host-0017"
    assert "host-0010" not in ranked
    conn.execute(
        f"INSERT INTO vm_static VALUES ('{NEW}', 'vm', '{CLUSTER}', NULL, 0);"
        f"INSERT INTO vm_dynamic VALUES ('{NEW}', 5, '{host(1)}', '{host(2)}')"
    )
    still = found(f"GetVdsWithoutMigratingVmsByVdsGroupId('{CLUSTER}')")
    assert "host-0003" in still
    assert not {"host-0001", "host-0002"} & set(still)


def test_the_network_getters_look_at_the_hosts_interfaces(pm_database) -> None:
    conn = pm_database("3.2-snapshot").connect()
    conn.execute(
        f"INSERT INTO network VALUES ('{NEW}', 'storage', '{POOL}'); INSERT INTO network_cluster VALUES ('{NEW}', '{CLUSTER}');"
        f"INSERT INTO vds_interface VALUES (gen_random_uuid(), 'eth1', 'storage', '{host(5)}', '00:11')"
    )
    assert conn.execute(f"SELECT vds_name FROM GetVdsByNetworkId('{NEW}')").fetchall() == [("host-0005",)]
    assert conn.execute(f"SELECT count(*) FROM GetVdsWithoutNetwork('{NEW}')").fetchone() == (19,)
    assert conn.execute(f"SELECT vds_name, name FROM GetVdsInterfacesByNetworkId('{NEW}')").fetchall() == [
        ("host-0005", "eth1")
    ]
    assert conn.execute("SELECT vds_name, network_name FROM network_vds_view").fetchall() == [("host-0005", "storage")]


# --- writing ----------------------------------------------------------------------------------------------------------


def test_the_engine_of_3_1_makes_the_id_and_hands_it_back(pm_database) -> None:
    conn = pm_database("3.1.0", hosts=0).connect()
    (made,) = conn.execute(call("InsertVdsStatic", "3.1.0")).fetchone()
    assert made not in {None, UUID(NEW)}
    assert conn.execute("SELECT vds_id, length(pm_password) FROM vds_static").fetchone() == (made, 344)
    # the same machine again: nothing happens, and what was passed in comes back
    (again,) = conn.execute(call("InsertVdsStatic", "3.1.0", vds_name="'b'", host_name="'b'")).fetchone()
    assert again == UUID(NEW)
    assert conn.execute("SELECT count(*) FROM vds_static").fetchone() == (1,)
    (other,) = conn.execute(call("InsertVds", "3.1.0", vds_name="'b'", host_name="'b'")).fetchone()
    assert conn.execute("SELECT vds_id, status FROM vds").fetchall() == [(other, 0)]


def test_the_engine_of_the_snapshot_gives_the_id(pm_database) -> None:
    conn = pm_database("3.2-snapshot", hosts=0).connect()
    conn.execute(call("InsertVdsStatic", "3.2-snapshot"))
    row = "SELECT vds_id, pm_proxy_preferences, sshkeyfingerprint, otp_validity, recoverable, _update_date FROM vds_static"
    assert conn.execute(row).fetchall() == [(UUID(NEW), "dc", "aa:bb", None, True, None)]
    conn.execute(call("InsertVdsStatic", "3.2-snapshot", vds_id="gen_random_uuid()", vds_name="'b'", host_name="'b'"))
    assert len(conn.execute(row).fetchall()) == 1, "the unique id is there already: nothing, silently"


@shapes
def test_an_update_sets_all_and_stamps_the_row(pm_database, shape) -> None:
    conn = pm_database(shape).connect()
    change = call("UpdateVdsStatic", shape, vds_id=f"'{host(1)}'", pm_type="NULL", otp_validity="12345678901")
    conn.execute("UPDATE dwh_history_timekeeping SET var_datetime = now() WHERE var_name = 'lastSync'")
    assert conn.execute("SELECT count(*) FROM dwh_host_configuration_history_view").fetchone() == (0,)
    conn.execute(change)
    row = "SELECT vds_name, pm_type, otp_validity, vds_spm_priority, _update_date IS NOT NULL FROM vds_static WHERE vds_id = %s"
    assert conn.execute(row, [host(1)]).fetchone() == ("new", None, 12345678901, 7, True)
    assert conn.execute("SELECT host_name FROM dwh_host_configuration_history_view").fetchall() == [("new",)]
    conn.execute(call("UpdateVdsStatic", shape, vds_id="gen_random_uuid()"))  # no such host: no error
    with pytest.raises(errors.NotNullViolation):
        conn.execute(call("UpdateVdsStatic", shape, vds_id=f"'{host(1)}'", pm_options="NULL"))
    with pytest.raises(errors.StringDataRightTruncation):
        conn.execute(call("UpdateVdsStatic", shape, vds_id=f"'{host(1)}'", pm_type="repeat('x', 21)"))
    with pytest.raises(errors.CheckViolation):
        conn.execute(call("UpdateVdsStatic", shape, vds_id=f"'{host(1)}'", vds_spm_priority="11"))


@shapes
def test_the_deletes_clear_what_refers_to_the_host(pm_database, shape) -> None:
    conn = pm_database(shape).connect()
    for name, number in (("vm", 1), ("w", 2)):
        conn.execute(f"INSERT INTO vm_static VALUES (gen_random_uuid(), '{name}', '{CLUSTER}', '{host(number)}', 2)")
        conn.execute(
            "INSERT INTO permissions SELECT gen_random_uuid(), role_id, ad_element_id, %s, 3 FROM permissions LIMIT 1",
            [host(number)],
        )
    for severity in (0, 10):
        conn.execute(
            "INSERT INTO audit_log (vds_id, log_time, log_type, log_type_name, severity, message)"
            " VALUES (%s, now(), 9000, 'VDS_ALERT_FENCE_IS_NOT_CONFIGURED', %s, 'text')",
            [host(1), severity],
        )
    with pytest.raises(errors.ForeignKeyViolation):
        conn.execute(f"SELECT DeleteVdsStatic('{host(1)}')")
    conn.execute(f"SELECT DeleteVdsDynamic('{host(1)}'), DeleteVdsStatistics('{host(1)}'), DeleteVdsStatic('{host(1)}')")
    conn.execute(f"SELECT DeleteVds('{host(2)}')")
    assert conn.execute("SELECT count(*) FROM vds_static").fetchone() == (18,)
    pinned = "SELECT vm_name, dedicated_vm_for_vds, migration_support FROM vm_static ORDER BY 1"
    assert conn.execute(pinned).fetchall() == [("vm", None, 0), ("w", None, 2)]
    assert conn.execute("SELECT severity FROM audit_log").fetchall() == [(0,)]
    assert conn.execute("SELECT count(*) FROM permissions WHERE object_type_id = 3").fetchone() == (0,)


def test_the_full_check_names_old_daemons_as_they_were_sold(pm_database) -> None:
    conn = pm_database("3.1.0").connect()
    found = conn.execute("SELECT DISTINCT vdsm_version FROM dwh_host_configuration_full_check_view ORDER BY 1").fetchall()
    assert found == [("2.1.0",), ("2.2.1",), ("2.3.6",), ("4.10.0",)]


# --- filtered reads ---------------------------------------------------------------------------------------------------


@shapes
def test_a_filtered_read_masks_and_caches(pm_database, shape) -> None:
    conn = pm_database(shape).connect()
    assert conn.execute("SELECT count(*) FROM object_column_white_list_sql").fetchone() == (0,)
    hidden = "pm_password" + ("" if shape == "3.1.0" else ", rpm_version, sshkeyfingerprint")
    row = conn.execute(f"SELECT {hidden} FROM GetVdsByVdsId('{host(1)}', '{USER}', true)").fetchone()
    assert len(row[0]) == 344, "neither shape hides the password"
    assert set(row[1:]) <= {None}
    assert conn.execute("SELECT object_name FROM object_column_white_list_sql").fetchall() == [("vds",)]
    conn.execute("DELETE FROM object_column_white_list WHERE column_name = 'pm_password'")
    masked = f"SELECT pm_password IS NULL FROM GetVdsByVdsId('{host(1)}', '{USER}', true)"
    assert conn.execute(masked).fetchone() == (False,), "the stored text is used without looking again"
    conn.execute("TRUNCATE object_column_white_list_sql")
    assert conn.execute(masked).fetchone() == (True,)
    assert conn.execute(
        f"SELECT count(*) FROM GetVdsByVdsGroupId('{CLUSTER}', '{USER}', true) WHERE pm_password IS NULL"
    ).fetchone() == (20,)
    for unmasked in (f"GetAllFromVds('{USER}', true)", f"GetVdsByStoragePoolId('{POOL}', '{USER}', true)"):
        assert conn.execute(f"SELECT count(pm_password) FROM {unmasked}").fetchone()[0] > 0


@shapes
def test_a_filtered_read_shows_only_what_the_user_may_see(pm_database, shape) -> None:
    conn = pm_database(shape).connect()
    for read in (
        f"GetAllFromVds('{STRANGER}', true)",
        f"GetVdsByStoragePoolId('{POOL}', '{STRANGER}', true)",
        f"GetVdsByVdsId('{host(1)}', '{STRANGER}', true)",
        f"GetVdsByVdsGroupId('{CLUSTER}', '{STRANGER}', true)",
    ):
        assert conn.execute(f"SELECT count(*) FROM {read}").fetchone() == (0,)
    role = "00000000-0000-0000-0001-000000000001"
    conn.execute(f"INSERT INTO permissions VALUES (gen_random_uuid(), '{role}', '{STRANGER}', '{host(3)}', 3)")
    assert conn.execute(f"SELECT vds_name FROM GetAllFromVds('{STRANGER}', true)").fetchall() == [("host-0003",)]
    conn.execute(f"INSERT INTO permissions VALUES (gen_random_uuid(), '{role}', '{STRANGER}', '{NEW}', 1)")
    assert conn.execute(f"SELECT count(*) FROM GetAllFromVds('{STRANGER}', true)").fetchone() == (20,)


@shapes
def test_a_stale_cache_breaks_filtered_reads_until_it_is_emptied(pm_database, shape) -> None:
    """The trap an upgrade must not step into (database facts §9.3)."""
    conn = pm_database(shape).connect()
    read = f"SELECT * FROM GetVdsByVdsId('{host(1)}', '{USER}', true)"
    width = len(conn.execute(read).description)
    (text,) = conn.execute("SELECT pg_get_viewdef('vds'::regclass)").fetchone()
    place = text.rindex("   FROM (((((") if "   FROM (((((" in text else text.rindex("\n   FROM ")
    conn.execute("CREATE OR REPLACE VIEW vds AS " + text[:place] + ", vds_static.pm_type AS site_extra\n" + text[place:])
    with pytest.raises(errors.CannotCoerce):
        conn.execute(read)
    conn.execute("TRUNCATE object_column_white_list_sql")
    cursor = conn.execute(read)
    assert len(cursor.description) == width + 1
    assert cursor.fetchone()[-1] is None, "not listed yet"


# --- the engine's own upgrade functions -------------------------------------------------------------------------------


def test_the_upgrade_functions_compare_names_as_patterns_and_in_every_schema(pm_database) -> None:
    conn = pm_database("3.2-snapshot", hosts=0).connect()
    conn.execute("CREATE SCHEMA bak; CREATE TABLE bak.vds_static (pm_secondary_ip text)")
    conn.execute("SELECT fn_db_add_column('vds_static', 'pm_secondary_ip', 'varchar(255)')")
    column = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'public.vds_static'::regclass AND attname = %s"
    assert conn.execute(column, ["pm_secondary_ip"]).fetchone() == (0,), "the other table satisfied it"
    conn.execute("SELECT fn_db_add_column('vds_static', 'host_nam_', 'integer')")
    assert conn.execute(column, ["host_nam_"]).fetchone() == (0,), "_ is a wildcard"


def test_the_option_functions_overwrite_add_and_keep_as_the_engines_do(pm_database) -> None:
    conn = pm_database("3.1.0", hosts=0).connect()
    value = "SELECT option_value FROM vdc_options WHERE option_name = 'FenceStopStatusRetries'"
    conn.execute("SELECT fn_db_add_config_value('fencestopstatusretries', '99', 'general')")
    assert conn.execute(value).fetchall() == [("3",)]
    conn.execute("SELECT fn_db_update_default_config_value('FenceStopStatusRetries', '4', '18', 'general', false)")
    assert conn.execute(value).fetchall() == [("3",)]
    conn.execute("SELECT fn_db_update_default_config_value('FenceStopStatusRetries', '3', '18', 'general', false)")
    assert conn.execute(value).fetchall() == [("18",)]
    conn.execute("SELECT fn_db_update_config_value('FenceStopStatusRetries', '7', 'general')")
    assert conn.execute(value).fetchall() == [("7",)]
    conn.execute("SELECT fn_db_split_config_value('FenceStopStatusRetries', '7', '8')")
    split = conn.execute(
        "SELECT version, option_value FROM vdc_options WHERE option_name = 'FenceStopStatusRetries' ORDER BY 1"
    )
    assert split.fetchall() == [("2.2", "7"), ("3.0", "7"), ("3.1", "8")]


def test_the_white_list_takes_only_columns_there_are(pm_database) -> None:
    conn = pm_database("3.2-snapshot", hosts=0).connect()
    listed = "SELECT count(*) FROM object_column_white_list"
    for name in ("rpm_version", "rpm_version", "sshKeyFingerprint", "no_such_column"):
        conn.execute("SELECT fn_db_add_column_to_object_white_list('vds', %s)", [name])
    assert conn.execute(listed).fetchone() == (92,)
