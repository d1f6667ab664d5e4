"""Documents to values and back: what is not mentioned stays None, what is written is valid and holds no password."""

from __future__ import annotations

import io

import host_documents as build
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import pmcompat
from pmcompat.documents.diff import differences
from pmcompat.documents.reading import read_hosts
from pmcompat.documents.validation import validate
from pmcompat.documents.values import PROFILES, AgentElement, Form, HostElement, PowerManagementElement
from pmcompat.documents.writing import write_hosts
from pmcompat.errors import ConfigurationError, DocumentError, LossRefused, ModelError
from pmcompat.model import Secret

TWO = b"""<?xml version='1.0' encoding='UTF-8'?>
<hosts><host id="5c1d"><name>kv-12</name><address>kv-12.lab</address><cluster id="c1"/><port> 54321 </port>
 <storage_manager priority="3">true</storage_manager>
 <power_management type="ipmilan"><enabled>true</enabled>
 <pm_proxies><pm_proxy><type>dc</type></pm_proxy></pm_proxies>
 <agents><agent type="ipmilan"><address>bmc-<!-- 1 -->12</address><username>adm</username><password/><order> 01 </order></agent>
  <agent type="apc"><address>pdu</address><options><option value="4" name="slot"/><option name="lanplus"/></options>
   <concurrent>1</concurrent><order>2</order></agent></agents></power_management></host>
<host id="2"><power_management/></host><host id="3"/></hosts>"""


def test_a_document_is_read_as_it_is_written():
    first, second, third = read_hosts(TWO, profile="3.2")
    assert (first.id, first.name, first.address, first.port) == ("5c1d", "kv-12", "kv-12.lab", 54321)
    assert (first.cluster_id, first.spm_priority, first.path, first.line) == ("c1", 3, "/hosts/host[1]", 2)
    power = first.power_management
    assert power.enabled is True
    assert power.pm_proxies == ("dc",)
    assert power.flat == AgentElement(type="ipmilan")
    primary, secondary = power.agents
    assert (primary.address, primary.password, primary.options, primary.order) == ("bmc-12", Secret(""), None, 1)
    assert (secondary.password, secondary.concurrent) == (None, True)
    assert secondary.options == (("slot", "4"), ("lanplus", None))
    assert second.power_management.agents is None
    assert third.power_management is None


def test_a_stream_reads_like_bytes_in_every_encoding():
    text = TWO.decode()
    for declared, codec, mark in (("UTF-16", "utf-16-be", b"\xfe\xff"), ("ISO-8859-1", "latin-1", b"")):
        raw = mark + text.replace("UTF-8", declared).encode(codec)
        assert list(read_hosts(io.BytesIO(raw), profile="3.2")) == list(read_hosts(TWO, profile="3.2"))


@pytest.mark.parametrize(
    ("document", "path"),
    [
        (b"<hosts><host><port>70000</port></host></hosts>", "/hosts/host[1]/port"),
        (b"<host><power_management><ip/></power_management></host>", "/host/power_management/ip"),
        (b"<power_management/>", ""),
        (b"<vms/>", ""),
    ],
)
def test_what_cannot_be_believed_is_refused(document, path):
    with pytest.raises(DocumentError) as refused:
        list(read_hosts(document, profile="3.2"))
    assert refused.value.path == path


def test_prefixes_declared_on_the_root_are_known_inside():
    document = b"<hosts xmlns:x='urn:x&amp;y'><host><statistics><x:y/></statistics></host></hosts>"
    assert len(list(read_hosts(document, profile="3.2"))) == 1
    assert validate(document, "3.2") == []


# ---------------------------------------------------------------------- writing

names = st.one_of(
    st.none(), st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=8), st.just(" <&>\"'\t\n")
)
pairs = st.tuples(names, names)
devices = st.builds(
    AgentElement,
    type=names,
    address=names,
    username=names,
    password=st.sampled_from([None, Secret("s3cret-pw")]),
    options=st.one_of(st.none(), st.lists(pairs, max_size=2).map(tuple)),
    concurrent=st.sampled_from([None, True, False]),
    order=st.none(),
    port=st.none(),
    encrypt_options=st.none(),
)


@st.composite
def stored_hosts(draw):
    """Hosts as they come out of the database: an agent for each order."""
    agents = tuple(draw(devices)._replace(order=order) for order in draw(st.sampled_from([(), (1,), (1, 2), (2,)])))
    power = PowerManagementElement(enabled=draw(st.sampled_from([None, True, False])), agents=agents)
    return HostElement(id=draw(names), name=draw(names), port=draw(st.sampled_from([None, 54321])), power_management=power)


@settings(deadline=None, max_examples=150)
@given(st.lists(stored_hosts(), max_size=2), st.sampled_from(PROFILES), st.sampled_from(Form))
def test_what_is_written_is_valid_holds_no_password_and_reads_back(hosts, profile, form):
    """X4 and X9; and a form that cannot hold a host is refused, not thinned out."""
    try:
        raw = b"".join(write_hosts(hosts, form=form, profile=profile, single=False))
    except LossRefused:
        assert form is Form.FLAT
        return
    except ConfigurationError:
        assert profile == "3.1"
        return
    assert validate(raw, profile) == []
    assert b"password" not in raw
    assert b"s3cret" not in raw
    for host, back in zip(hosts, read_hosts(raw, profile=profile), strict=True):
        assert (back.id, back.port) == (host.id, host.port)
        if form is Form.AGENTS:
            for agent, read in zip(host.power_management.agents, back.power_management.agents, strict=True):
                assert (read.type, read.address, read.username) == (agent.type, agent.address, agent.username)
                assert read.options == agent.options


PAIR = HostElement(
    id="1",
    power_management=PowerManagementElement(
        enabled=True,
        agents=(
            AgentElement(type="apc", address="l", order=1),
            AgentElement(type="apc", address="r", order=2, concurrent=True),
        ),
    ),
)


@pytest.mark.parametrize(
    ("profile", "flags", "orders"), [("3.2", 1, [1, 2]), ("3.4", 1, [1, 2]), ("3.5", 2, [1, 2]), ("3.6", 2, [1, 1])]
)
def test_concurrent_is_written_as_the_release_wrote_it(profile, flags, orders):
    """Field failure B-92."""
    raw = b"".join(write_hosts([PAIR], form="agents", profile=profile, single=True))
    assert raw.count(b"<concurrent>true</concurrent>") == flags
    (host,) = read_hosts(raw, profile=profile)
    assert [agent.order for agent in host.power_management.agents] == orders


def test_dual_is_written_with_a_flat_copy_of_the_primary():
    raw = b"".join(write_hosts([PAIR], form="dual", profile="3.2", single=True))
    (host,) = read_hosts(raw, profile="3.2")
    assert (host.power_management.flat.type, host.power_management.flat.address) == ("apc", "l")
    assert pmcompat.translate(raw, to="dual").document == raw


def test_the_type_of_what_is_switched_off_is_hidden_in_3_6():
    """Field failure B-95."""
    off = PAIR._replace(power_management=PAIR.power_management._replace(enabled=False))
    assert b"<power_management>" in b"".join(write_hosts([off], form="dual", profile="3.6", single=True))


def test_what_a_form_or_profile_cannot_hold_is_refused():
    with pytest.raises(LossRefused, match="cannot hold"):
        list(write_hosts([PAIR], form="flat", profile="3.2", single=True))
    proxied = PAIR._replace(power_management=PowerManagementElement(pm_proxies=("dc",)))
    with pytest.raises(LossRefused):
        list(write_hosts([proxied], form="flat", profile="3.1", single=True))
    with pytest.raises(ModelError):
        list(write_hosts([PAIR, PAIR], form="agents", profile="3.2", single=True))
    with pytest.raises(ModelError):
        list(write_hosts([PAIR._replace(name="\0")], form="agents", profile="3.2", single=True))


# ---------------------------------------------------------------------- diff


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(build.AGENT_PROFILES).flatmap(
        lambda p: st.tuples(st.just(p), build.documents(build.power_management(p, listed=False)))
    )
)
def test_a_document_and_its_translation_do_not_differ(case):
    profile, document = case
    assume("</host>" in document.outside[-1])
    other = pmcompat.translate(document.raw, to="agents", profile=profile).document
    assert list(differences(document.raw, other, profile=profile)) == []


def test_differences_are_named_by_host_and_fact_and_show_no_secret():
    power = b"<password>s3cret</password><options><option name='k' value='v1'/></options>"
    host = b"<host id='1'><name>a</name><power_management type='apc'>" + power + b"</power_management></host>"
    one = b"<hosts>" + host + b"<host id='2'/></hosts>"
    two = one.replace(b"s3cret", b"other").replace(b"v1", b"v2").replace(b">a<", b"> b <").replace(b"id='2'", b"id='3'")
    found = {(d.host, d.fact): (d.left, d.right) for d in differences(one, two)}
    assert set(found) == {("1", "/name"), ("1", "primary.password"), ("1", "primary.options"), ("2", "host"), ("3", "host")}
    assert not any(word in str(found) for word in ("s3cret", "other", "v1", "v2"))


def test_a_secondary_that_differs_is_found():
    other = TWO.replace(b"<address>pdu</address>", b"<address>pdu2</address>").replace(b"<concurrent>1<", b"<concurrent>0<")
    assert [d.fact for d in differences(TWO, other)] == ["secondary.address", "concurrent"]
