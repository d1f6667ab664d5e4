"""The hosts of the demo and the tests: every kind the field failures mention, the same every time, fast."""

from __future__ import annotations

import base64
import time

import pytest

from pmcompat.db.baseline import SHAPES, init

shapes = pytest.mark.parametrize("shape", SHAPES)


@shapes
def test_without_hosts_there_is_one_data_centre_and_one_cluster(pm_database, shape) -> None:
    conn = pm_database(shape, hosts=0).connect()
    level = "3.1" if shape == "3.1.0" else "3.2"
    assert conn.execute("SELECT name, compatibility_version, status FROM storage_pool").fetchall() == [("Default", level, 0)]
    assert conn.execute("SELECT name, compatibility_version FROM vds_groups").fetchall() == [("Default", level)]
    assert conn.execute("SELECT count(*) FROM vds_static").fetchone() == (0,)
    assert conn.execute("SELECT count(*) FROM tags").fetchone() == (1,)


@shapes
def test_twenty_hosts_show_every_kind(pm_database, shape) -> None:
    conn = pm_database(shape).connect()
    assert conn.execute("SELECT count(*) FROM vds").fetchone() == (20,)
    assert conn.execute("SELECT count(*) FROM vds_with_tags").fetchone() == (28,)
    assert conn.execute("SELECT count(DISTINCT vds_group_id) FROM vds").fetchone() == (1,)
    assert conn.execute("SELECT vds_name FROM vds WHERE spm_status = 2").fetchall() == [("host-0001",)]

    def values(column: str) -> set[object]:
        return {value for (value,) in conn.execute(f"SELECT DISTINCT {column} FROM vds")}

    assert values("status") == {1, 2, 3, 4, 8, 10, 11}
    assert values("pm_enabled") == {True, False}
    old = {"alom", "apc", "bladecenter", "cisco_ucs", "drac5", "eps", "ilo", "ilo3", "ipmilan", "rsa", "rsb", "wti"}
    assert values("pm_type") == old | {"ilo2", "ilo4", "apc_snmp", "", None}
    assert {None, 23, 623} <= values("pm_port")
    assert {-1, 0, 5, 10, None} <= values("vds_spm_priority")
    assert {"", None} <= values("pm_user")
    assert {"", None, "   "} <= values("pm_password")
    if shape != "3.1.0":
        assert {"", None, "dc", "cluster", "cluster,dc"} <= values("pm_proxy_preferences")
    assert conn.execute("SELECT ip FROM vds_static GROUP BY ip HAVING count(*) > 1").fetchall() != []
    encrypted = [value for value in values("pm_password") if value and len(str(value)) == 344]
    assert len(encrypted) == 10
    assert {len(base64.b64decode(str(value), validate=True)) for value in encrypted} == {256}


@shapes
def test_a_host_is_the_same_however_many_there_are(pm_database, shape) -> None:
    """And in whatever time zone, under whatever settings of the session."""
    rows = []
    for hosts, zone in ((7, "Asia/Kolkata"), (45, "UTC")):
        conn = pm_database(empty=True).connect()
        conn.execute(f"SET TimeZone = '{zone}'; SET DateStyle = 'German'; SET standard_conforming_strings = on")
        init(conn, shape, hosts)
        conn.execute("SET TimeZone = 'UTC'; SET DateStyle = 'ISO'")
        rows.append(conn.execute("SELECT v::text FROM vds_static v ORDER BY vds_name LIMIT 7").fetchall())
    assert rows[0] == rows[1]


def test_names_addresses_and_ids_stay_apart_beyond_four_digits(pm_database) -> None:
    conn = pm_database(empty=True).connect()
    init(conn, "3.2-snapshot", 10_010)
    found = conn.execute(
        "SELECT count(*), count(DISTINCT vds_name), count(vds_unique_id), count(DISTINCT vds_unique_id) FROM vds"
    )
    assert found.fetchone() == (10_010, 10_010, 9_509, 9_509)
    assert conn.execute("SELECT vds_name, ip FROM vds_static WHERE vds_name ~ '10001$'").fetchall() == [
        ("host-10001", "10.0.39.17")
    ]


@pytest.mark.soak
@shapes
def test_a_million_hosts_take_minutes_not_hours(pm_database, shape) -> None:
    conn = pm_database(empty=True).connect()
    began = time.monotonic()
    init(conn, shape, 1_000_000)
    assert conn.execute("SELECT count(*) FROM vds").fetchone() == (1_000_000,)
    assert time.monotonic() - began < 300
