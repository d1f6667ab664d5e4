"""Any row an engine can hold is read and written back the same; any host that may be stored is read back the same."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from psycopg import sql

from pmcompat.db import rows
from pmcompat.db.cipher import PlainCipher, StoredSecret
from pmcompat.db.dao import VdsStaticDao
from pmcompat.db.rows import FIELDS, NAMES, differing, host_of, values_of
from pmcompat.model import Agent, Host, Options, PowerManagement, Secret

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
MAYBE = st.none() | TEXT
TYPES = st.sampled_from(["ipmilan", "apc", "apc_snmp", "ilo4", "drac7"])
PORTS = st.none() | st.integers(1, 65535)

#: what the columns can hold, whoever wrote it
CELLS = {
    "ip": MAYBE,
    "pm_type": MAYBE,
    "pm_user": MAYBE,
    "pm_password": MAYBE,
    "pm_port": st.none() | st.integers(-(2**31), 2**31 - 1),
    "pm_options": TEXT,
    "pm_enabled": st.booleans(),
    "vds_unique_id": st.none(),
    "server_ssl_enabled": st.none() | st.booleans(),
    "vds_strength": st.integers(-(2**31), 2**31 - 1),
    "otp_validity": st.none() | st.integers(-(2**63), 2**63 - 1),
    "vds_spm_priority": st.none() | st.integers(-1, 10),
    "recoverable": st.booleans(),
    "sshkeyfingerprint": MAYBE,
    "pm_proxy_preferences": MAYBE,
    "pm_secondary_ip": MAYBE,
    "pm_secondary_type": MAYBE,
    "pm_secondary_user": MAYBE,
    "pm_secondary_password": MAYBE,
    # the upgraded procedures take the smallest integer for "not given" (law D4)
    "pm_secondary_port": st.none() | st.integers(-(2**31) + 1, 2**31 - 1),
    "pm_secondary_options": MAYBE,
    "pm_secondary_concurrent": st.none() | st.booleans(),
}


def agents(order: int) -> st.SearchStrategy[Agent]:
    return st.builds(
        Agent,
        type=TYPES,
        address=TEXT.filter(bool),
        username=MAYBE,
        password=st.none() | TEXT.map(Secret),
        ip_port=PORTS,
        options=(st.none() if order == 2 else st.nothing()) | TEXT.map(Options),
        order=st.just(order),
    )


HOSTS = st.builds(
    PowerManagement,
    enabled=st.booleans(),
    agents=st.tuples(agents(1), agents(2)),
    concurrent=st.booleans(),
    proxy_preferences=st.none() | st.sampled_from(["", "cluster", "dc,cluster", "other_dc"]),
).map(lambda pm: Host(id=uuid4(), name="n", address="a", cluster_id=uuid4(), power_management=pm))


@given(st.fixed_dictionaries(CELLS))
def test_a_row_survives_the_model(cells):
    row = tuple(cells.get(name, uuid4() if name in {"vds_id", "vds_group_id"} else f"x-{name}") for name in NAMES)
    again = values_of(host_of(row, None), None)
    assert differing(row, again) == ()
    assert again[:-1] == row[:-1]


@given(HOSTS)
def test_a_host_survives_its_row(host):
    assert host_of(values_of(host, PlainCipher()), PlainCipher()) == host


def mutants() -> list[tuple[str, object]]:
    def forgets(field: str):
        def read(row, cipher):
            host = host_of(row, cipher)
            return replace(host, **{field: Host.__dataclass_fields__[field].default})

        return read

    def trims(row, cipher):
        host = host_of(row, cipher)
        pm = host.power_management
        shorn = tuple(replace(a, password=a.password and StoredSecret(a.password.stored.strip(), cipher)) for a in pm.agents)
        return replace(host, power_management=replace(pm, agents=shorn))

    def null_is_empty(row, cipher):
        return host_of(
            tuple(
                "" if value is None and rows.COLUMNS[name] == "text" else value for name, value in zip(NAMES, row, strict=True)
            ),
            cipher,
        )

    def swaps(row, cipher):
        host = host_of(row, cipher)
        pm = host.power_management
        if len(pm.agents) < 2:
            return host
        one, two = pm.agents
        return replace(host, power_management=replace(pm, agents=(replace(two, order=1), replace(one, order=2))))

    return [
        ("forgets spm_priority", forgets("spm_priority")),
        ("forgets recoverable", forgets("recoverable")),
        ("trims passwords", trims),
        ("takes NULL for ''", null_is_empty),
        ("swaps the agents", swaps),
    ]


@pytest.mark.parametrize(("name", "read"), mutants(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_reader_that_loses_something_is_found(name, read):
    """The mutants that upstream shipped: each must break the round trip."""
    row = tuple(
        {"vds_spm_priority": -1, "recoverable": False, "pm_password": " x ", "ip": "1", "pm_secondary_ip": "2"}.get(column)
        if column not in {"vds_id", "vds_group_id"}
        else uuid4()
        for column in NAMES
    )
    assert differing(row, values_of(host_of(row, None), None)) == ("primary.options",)
    assert set(differing(row, values_of(read(row, None), None))) - {"primary.options"}


@pytest.mark.parametrize("shape", ["3.1.0", "3.2-snapshot"])
@pytest.mark.parametrize("directly", [False, True])
def test_any_row_survives_reading_and_writing_in_the_database(pm_database, shape, directly):
    conn = pm_database(shape, hosts=1, upgraded=True).connect()
    dao = VdsStaticDao(conn, PlainCipher())
    there = [name for name in CELLS if name in dao.shape.columns]
    change = sql.SQL("UPDATE vds_static SET {}").format(
        sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in there)
    )
    everything = """
        SELECT to_jsonb(s) - '_update_date' - 'pm_secondary_concurrent', coalesce(pm_secondary_concurrent, false)
        FROM vds_static s
    """

    @settings(max_examples=40, phases=(Phase.explicit, Phase.reuse, Phase.generate))
    @given(st.fixed_dictionaries({name: CELLS[name] for name in there}))
    def survives(cells):
        cells["pm_type"] = cells["pm_type"] and cells["pm_type"][:20]
        conn.execute(change, [cells[name] for name in there])
        before = conn.execute(everything).fetchone()
        (host,) = dao.get_all()
        dao.update(host, was=host)
        assert conn.execute(everything).fetchone() == before

    survives()


@pytest.mark.parametrize("shape", ["3.1.0", "3.2-snapshot"])
def test_any_host_survives_saving_in_the_database(pm_database, shape):
    conn = pm_database(shape, hosts=0, upgraded=True).connect()
    dao = VdsStaticDao(conn, PlainCipher())
    cluster_id = dao.clusters()[0].id

    @settings(max_examples=40, phases=(Phase.explicit, Phase.reuse, Phase.generate))
    @given(HOSTS)
    def survives(host):
        pm = host.power_management
        kept = pm if dao.shape.has_proxies else replace(pm, proxy_preferences=None)
        with conn.transaction(force_rollback=True):
            stored = dao.save(replace(host, cluster_id=cluster_id, power_management=kept))
            assert dao.get(stored.id) == replace(stored, status=None)
            emptied = replace(stored, power_management=replace(kept, enabled=False, agents=()))
            dao.update(emptied)
            assert dao.get(stored.id).power_management.agents == ()

    survives()


def test_every_column_has_a_field_of_its_own():
    assert set(FIELDS) == set(NAMES)
    assert len(set(FIELDS.values())) == len(FIELDS)
