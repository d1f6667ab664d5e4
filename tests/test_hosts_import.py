"""Whole documents in and out of a database: all or nothing, absent keeps, no password ever comes out."""

from __future__ import annotations

import io
import json
from uuid import uuid4

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from pmcompat.db.cipher import PlainCipher
from pmcompat.db.dao import VdsDao, VdsStaticDao
from pmcompat.documents.values import Form
from pmcompat.errors import ConfigurationError, DocumentError, LossRefused, ModelError, SchemaError
from pmcompat.hosts import export_hosts, import_hosts
from pmcompat.model import HostStatus, Options

SHAPES = ("3.1.0", "3.2-snapshot")


def host(name: str = "kv1", *agents: str, pm: str = "", extra: str = "", id_: str = "") -> str:
    block = f"<agents>{''.join(agents)}</agents>" if agents else ""
    identity = f' id="{id_}"' if id_ else ""
    return (
        f"<host{identity}><name>{name}</name><address>{name}.lab</address>{extra}"
        f'<power_management type="ipmilan"><enabled>true</enabled>{pm}{block}</power_management></host>'
    )


def agent(order: int, *, address: str = "bmc", password: str = "<password>hush-hush</password>", concurrent: str = "") -> str:
    return (
        f'<agent type="ipmilan"><address>{address}{order}</address><username>adm</username>{password}'
        f'<options><option name="ipport" value="62{order}"/><option name="lanplus"/></options>'
        f"{concurrent}<order>{order}</order></agent>"
    )


DUAL = host("kv1", agent(1), agent(2, concurrent="<concurrent>true</concurrent>"))
FLAT = host("kv2", pm="<address>bmc</address><username>adm</username><password>hush-hush</password>")


@pytest.fixture(params=SHAPES)
def dao(request, pm_database) -> VdsStaticDao:
    return VdsStaticDao(pm_database(request.param, hosts=5, upgraded=True).connect(), PlainCipher())


def put(dao, text: str, **settings_):
    return import_hosts(dao, text.encode(), **settings_)


def hosts(*each: str) -> str:
    return f"<hosts>{''.join(each)}</hosts>"


def test_flat_and_agents_documents_create_hosts_in_maintenance(dao):
    report = put(dao, hosts(DUAL, FLAT))
    assert [(h.name, h.action) for h in report.hosts] == [("kv1", "created"), ("kv2", "created")]
    dual, flat = (VdsDao(dao.conn, PlainCipher()).get_by_name(name) for name in ("kv1", "kv2"))
    assert dual.status is HostStatus.MAINTENANCE
    assert dual.power_management.concurrent
    assert dual.power_management.secondary.options == Options("ipport=622,lanplus")
    assert dual.power_management.secondary.password.reveal() == "hush-hush"
    assert [a.address for a in flat.power_management.agents] == ["bmc"]
    assert dual.id == report.hosts[0].id


def test_a_second_import_changes_nothing(dao):
    put(dao, hosts(DUAL, FLAT))
    before = dao.conn.execute("SELECT s.* FROM vds_static s ORDER BY vds_id").fetchall()
    report = put(dao, hosts(DUAL, FLAT))
    assert report.count("unchanged") == 2
    assert dao.conn.execute("SELECT s.* FROM vds_static s ORDER BY vds_id").fetchall() == before


def test_one_host_is_a_document_and_is_found_by_id_or_name(dao):
    put(dao, DUAL)
    stored = dao.get_by_name("kv1")
    renamed = f'<host id="{stored.id}"><name>renamed</name></host>'
    assert put(dao, renamed).hosts[0].action == "updated"
    assert dao.get(stored.id).name == "renamed"
    foreign = f'<host id="{uuid4()}"><name>renamed</name><port>5555</port></host>'
    put(dao, foreign)
    assert dao.get(stored.id).port == 5555
    short = '<host id="5c1d"><name>renamed</name><port>6666</port></host>'
    put(dao, short)
    assert dao.get(stored.id).port == 6666


def test_a_new_hosts_id_is_the_documents_where_the_database_takes_it(dao):
    wanted = str(uuid4())
    (report,) = put(dao, host(id_=wanted)[:].replace("<enabled>true</enabled>", "")).hosts
    if dao.shape.procedures["insertvdsstatic"].returns_id:
        assert str(report.id) != wanted
        assert any("makes the ids itself" in note for note in report.notes)
    else:
        assert str(report.id) == wanted


def test_an_id_that_is_none_is_not_taken_and_the_report_says_why(dao):
    (report,) = put(dao, '<host id="5c1d"><name>kv1</name><address>kv1.lab</address></host>').hosts
    assert report.action == "created"
    assert report.notes == (f"it got the id {report.id}: the document's is no UUID",)


def test_what_another_host_has_already_is_named(dao):
    taken = dao.get_all()[0].address
    with pytest.raises(ModelError, match=f"another host has this address: {taken}") as caught:
        put(dao, hosts(FLAT, f"<host><name>kv7</name><address>{taken}</address></host>"))
    assert caught.value.field == "address"
    assert "hush" not in str(caught.value)


def test_a_host_that_no_document_can_hold_is_named(dao):
    dao.conn.execute("UPDATE vds_static SET pm_user = E'\\x01' WHERE vds_name = 'host-0003'")
    with pytest.raises(ModelError, match=r"host-0003.*XML cannot hold"):
        b"".join(export_hosts(dao.each()))


def test_a_dry_run_shows_every_field_with_secrets_masked_and_changes_nothing(dao):
    put(dao, DUAL)
    before = dao.conn.execute("SELECT s.* FROM vds_static s ORDER BY vds_id").fetchall()
    changed = DUAL.replace("hush-hush", "other-hush", 1).replace("adm", "root", 1)
    report = put(dao, hosts(changed, host("fresh", agent(1))), dry_run=True)
    assert [str(change) for change in report.hosts[0].changes] == [
        "primary.username: adm -> root",
        "primary.password: *** -> ***",
    ]
    assert report.hosts[1].id is None
    assert report.dry_run
    assert "hush" not in json.dumps([h.as_json() for h in report.hosts])
    assert dao.conn.execute("SELECT s.* FROM vds_static s ORDER BY vds_id").fetchall() == before


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (host("late", agent(1), agent(1)), "order 1"),
        (host("late", agent(1), agent(2), agent(3)), "two"),
        (host("late", agent(1).replace("ipmilan", "telepathy")), "telepathy"),
        (host("kv1", agent(1)), "twice"),
        (host("late").replace("<address>late.lab</address>", ""), "address"),
        (host("late"), "no agent has an address"),
        (host("late", agent(1, address="x" * 256)), "256 characters|257 characters"),
        (host("late", agent(1, password="<password>" + "hush" * 13 + "</password>")), "more than 50"),
        (host("late", agent(1).replace("62", "6,2")), "comma"),
    ],
)
def test_one_bad_host_stores_nothing_and_is_named_with_its_line(dao, bad, said):
    before = dao.conn.execute("SELECT count(*) FROM vds_static").fetchone()
    with pytest.raises(ModelError, match=said) as caught:
        put(dao, "<hosts>\n" + DUAL + "\n" + bad + "\n</hosts>")
    assert "line 3" in caught.value.what
    assert "hush" not in str(caught.value)
    assert dao.conn.execute("SELECT count(*) FROM vds_static").fetchone() == before


def test_a_malformed_end_stores_nothing(dao):
    before = dao.conn.execute("SELECT count(*) FROM vds_static").fetchone()
    for text in ("<hosts>" + DUAL, hosts(DUAL, "<host><power_management><nonsense/></power_management></host>"), "", "<vms/>"):
        with pytest.raises(DocumentError):
            put(dao, text)
    assert dao.conn.execute("SELECT count(*) FROM vds_static").fetchone() == before


def test_without_a_cipher_a_password_is_refused_and_a_document_without_one_is_not(dao):
    blind = VdsStaticDao(dao.conn)
    with pytest.raises(ConfigurationError):
        put(blind, DUAL)
    assert put(blind, host("kv1", agent(1, password=""))).count("created") == 1


def test_new_hosts_go_where_they_are_told(dao):
    dao.conn.execute("INSERT INTO vds_groups (vds_group_id, name) VALUES (gen_random_uuid(), 'Second')")
    second = next(cluster for cluster in dao.clusters() if cluster.name == "Second")
    put(dao, hosts(host("a", agent(1)), host("b", agent(1), extra="<cluster><name>Second</name></cluster>")))
    assert dao.get_by_name("a").cluster_id == dao.clusters()[0].id
    assert dao.get_by_name("b").cluster_id == second.id
    for number, wanted in enumerate(("Second", str(second.id))):
        put(dao, host(f"c{number}", agent(1)), cluster=wanted)
        assert dao.get_by_name(f"c{number}").cluster_id == second.id
    with pytest.raises(SchemaError, match="no cluster"):
        put(dao, host("d", agent(1)), cluster="Third")
    (report,) = put(dao, host("e", agent(1), extra='<cluster id="99"/>')).hosts
    assert "cluster is not here" in report.notes[0]
    (report,) = put(dao, host("a", agent(1), extra="<cluster><name>Second</name></cluster>")).hosts
    assert "moves no host" in report.notes[0]


def test_clearing_is_told_before_anything_is_written(dao):
    put(dao, DUAL)
    told = []

    def clearing(reports):
        told.extend((report.name, report.cleared) for report in reports)
        assert len(dao.get_by_name("kv1").power_management.agents) == 2

    only_off = "<host><name>kv1</name><power_management><enabled>false</enabled></power_management></host>"
    assert put(dao, only_off, profile="3.5", clearing=clearing).hosts[0].cleared == ()
    assert told == []
    put(dao, only_off, profile="3.5", semantics="profile", clearing=clearing)
    assert told == [("kv1", ("primary", "secondary"))]
    assert dao.get_by_name("kv1").power_management.agents == ()


def test_a_second_agent_before_the_upgrade_says_what_to_do(pm_database):
    plain = VdsStaticDao(pm_database("3.1.0", hosts=0).connect(), PlainCipher())
    with pytest.raises(SchemaError, match="db upgrade"):
        put(plain, DUAL)
    assert put(plain, FLAT).count("created") == 1


def test_proxies_are_stored_or_reported(dao):
    text = host("kv1", agent(1), pm="<pm_proxies><pm_proxy><type>dc</type></pm_proxy></pm_proxies>")
    (report,) = put(dao, text).hosts
    stored = dao.get_by_name("kv1").power_management.proxy_preferences
    assert (stored == "dc") is dao.shape.has_proxies
    assert any("pm_proxies are not stored" in note for note in report.notes) is not dao.shape.has_proxies


# ---------------------------------------------------------------------- out


@pytest.mark.parametrize("profile", ["3.2", "3.3", "3.4", "3.5", "3.6"])
@pytest.mark.parametrize("form", ["agents", "dual"])
def test_every_export_imports_back_to_the_same_rows(dao, profile, form):
    put(dao, hosts(DUAL, FLAT))
    usual = [h for h in dao.get_all() if all(a.order == 1 or h.power_management.primary for a in h.power_management.agents)]
    document = b"".join(export_hosts(usual, form=form, profile=profile))
    assert b"hush" not in document
    assert b"password" not in document
    before = dao.conn.execute("SELECT s.* FROM vds_static s ORDER BY vds_id").fetchall()
    report = import_hosts(dao, document, profile=profile)
    assert report.count("unchanged") == len(usual)
    assert dao.conn.execute("SELECT s.* FROM vds_static s ORDER BY vds_id").fetchall() == before


def test_the_hosts_of_the_baseline_are_exported_and_what_is_left_out_is_said(dao):
    left = []
    document = b"".join(export_hosts(dao.each(), form="flat", profile="3.1", left_out=lambda host, what: left.append(what)))
    assert document.count(b"<host ") == 5
    assert import_hosts(dao, document, profile="3.1").count("unchanged") == 5


def test_the_flat_form_refuses_two_agents(dao):
    put(dao, DUAL)
    with pytest.raises(LossRefused) as caught:
        b"".join(export_hosts([dao.get_by_name("kv1")], form=Form.FLAT, profile="3.1"))
    assert "agent 2" in caught.value.losses[0]


@pytest.mark.parametrize("shape", SHAPES)
def test_documents_survive_the_database(pm_database, shape):
    """Document → rows → document, for any pair of agents."""
    dao = VdsStaticDao(pm_database(shape, hosts=0, upgraded=True).connect(), PlainCipher())
    words = st.text("abc&<é ", max_size=5)

    @settings(max_examples=25, phases=(Phase.explicit, Phase.reuse, Phase.generate))
    @given(
        st.lists(st.tuples(words.filter(bool), words, st.booleans()), min_size=1, max_size=2),
        st.sampled_from(["3.2", "3.5", "3.6"]),
    )
    def survives(pair, profile):
        with dao.conn.transaction(force_rollback=True):
            text = hosts(host("h", *(agent(n, address="a") for n in range(1, len(pair) + 1)))).encode()
            import_hosts(dao, text, profile="3.2")
            first = b"".join(export_hosts(dao.each(), profile=profile))
            import_hosts(dao, first, profile=profile)
            assert b"".join(export_hosts(dao.each(), profile=profile)) == first

    survives()


def test_a_stream_is_read_as_a_document_is(dao):
    assert import_hosts(dao, io.BytesIO(hosts(DUAL).encode())).count("created") == 1
