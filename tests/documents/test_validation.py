"""Whole documents against the schemas: lines, paths, what was expected; and a second validator that agrees."""

from __future__ import annotations

import re

import host_documents as build
import pytest
import xmlschema
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from pmcompat import resources
from pmcompat.documents.schema import source
from pmcompat.documents.validation import _second, validate
from pmcompat.documents.values import PROFILES
from pmcompat.errors import ConfigurationError

#: every child of a host, in the order of 3.2
WHOLE = b"""<host id="5c1d" href="/api/hosts/5c1d">
 <actions><link rel="fence" href="/x"/></actions><name>kv-12</name><description>d</description>
 <link rel="storage" href="/y"/><address>kv-12.lab</address>
 <certificate><organization>o</organization><subject>s</subject></certificate>
 <status><state>up</state></status><cluster id="c1" href="/c"/><port>54321</port><type>rhel</type>
 <storage_manager priority="5">true</storage_manager><version major="4" minor="9" full_version="v"/>
 <hardware_information><manufacturer>m</manufacturer></hardware_information>
 <power_management type="apc"><enabled>true</enabled><agents/></power_management>
 <ksm><enabled>false</enabled></ksm><transparent_hugepages><enabled>true</enabled></transparent_hugepages>
 <iscsi><initiator>iqn</initiator></iscsi>
 <statistics><statistic id="s"><name>n</name>
 <values type="INTEGER"><value><datum>1</datum></value></values><status>plain</status></statistic></statistics>
 <cpu id="x"><topology cores="2" sockets="1"/><name>c</name><speed>2400</speed></cpu><memory>8589934592</memory>
 <max_scheduling_memory>1</max_scheduling_memory><summary><active>1</active><migrating>0</migrating><total>3</total></summary>
 <os type="RHEL"><version full_version="6"/></os><hooks/><libvirt_version major="0"/></host>"""


def test_a_realistic_whole_host_is_valid():
    assert validate(WHOLE, "3.2") == []
    assert validate(b"<hosts><total>1</total>" + WHOLE * 3 + b"</hosts>", "3.2") == []


def test_3_3_is_3_2_that_also_allows_a_comment():
    commented = WHOLE.replace(b"</description>", b"</description><comment>c</comment>")
    assert validate(commented, "3.3") == []
    assert [problem.path for problem in validate(commented, "3.2")] == ["/host/comment"]


def test_the_order_of_the_base_children_changed_with_3_2():
    old = b"<host><name>n</name><actions/></host>"
    assert validate(old, "3.1") == []
    assert validate(old, "3.2") != []
    assert validate(b"<host><actions/><name>n</name></host>", "3.1") != []


@pytest.mark.parametrize(("profile", "place"), [("3.2", 10), ("3.4", 10), ("3.5", 11), ("3.6", 12)])
def test_power_management_stands_where_the_profile_has_it(profile, place):
    """Api facts §2.2, counted after the base children."""
    tree = etree.fromstring(source(profile).encode())
    names = tree.xpath("//*[@name='Host']//*[local-name()='element']/@name")
    assert names.index("power_management") == place - 1


@pytest.mark.parametrize("profile", PROFILES)
def test_the_second_validator_accepts_the_same_schema(profile):
    assert xmlschema.XMLSchema(source(profile)).is_valid("<hosts/>")


def test_problems_carry_line_path_and_what_was_expected():
    power = b"<power_management><agents>\n  <agent><ip>10.0.0.1</ip></agent></agents></power_management>"
    document = b"<hosts>\n<host/>\n<host>\n " + power + b"</host></hosts>"
    (problem,) = validate(document, "3.2")
    assert (problem.line, problem.path) == (5, "/hosts/host[2]/power_management/agents/agent/ip")
    assert "address" in problem.expected
    assert problem.located("f.xml").startswith(
        "f.xml:5: /hosts/host[2]/power_management/agents/agent/ip: <ip> is not expected here"
    )


def test_the_frame_of_a_list_is_validated_too():
    assert [p.path for p in validate(b"<hosts><host/><total>1</total></hosts>", "3.2")] == ["/hosts/total"]
    assert [p.line for p in validate(b"<hosts><host/>\n text <host/></hosts>", "3.2")] == [1]
    assert validate(b"<hosts id='x'/>", "3.2") != []
    assert validate(b"<hosts><!-- c --> <?p i?><host/> </hosts>", "3.2") == []


def test_explaining_adds_the_second_validator_and_quotes_no_value():
    document = b"<host><power_management><enabled>hunter2</enabled><password>a<b/></password></power_management></host>"
    found = validate(document, "3.2", explain=True)
    assert any(problem.message.startswith("(xmlschema)") for problem in found)
    assert "hunter2" not in str(found)


def test_the_number_of_problems_is_bounded():
    assert len(validate(b"<hosts>" + b"<host><x/></host>" * 1000 + b"</hosts>", "3.2", limit=5)) == 5


def test_an_unknown_profile_is_refused():
    with pytest.raises(ConfigurationError):
        validate(b"<host/>", "4.0")


def test_every_schema_is_documented_and_has_no_namespace():
    for path in sorted(resources.data("schemas").glob("*.xsd")):
        text = path.read_text()
        assert "targetNamespace" not in text
        assert re.search(r"<!-- Host documents of API profile", text)


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(build.AGENT_PROFILES).flatmap(
        lambda p: st.tuples(
            st.just(p), build.power_management(p), st.sampled_from(["", "<order>x</order>", "<address/>", "t", "<ip/>"])
        )
    )
)
def test_both_validators_agree_on_power_managements(case):
    profile, power, fault = case
    broken = re.sub(
        r"(<power_management(?:[^>\"']|\"[^\"]*\"|'[^']*')*[^/>\"']>|<power_management>)",
        lambda m: m[0] + fault,
        power,
        count=1,
    )
    bare = etree.XMLParser(remove_comments=True, remove_pis=True)
    verdict = _second(profile).is_valid(etree.fromstring(broken.encode(), bare))
    assert (validate(broken.encode(), profile) == []) is verdict
