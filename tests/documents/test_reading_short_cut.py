"""Hosts read in one match are the hosts the long way reads, whatever stands in the document, and so are the refusals."""

from __future__ import annotations

import host_documents as build
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmcompat.documents import plain_hosts
from pmcompat.documents.limits import Limits
from pmcompat.documents.reading import host_fragments, read_host, read_hosts
from pmcompat.documents.scanning import Plain
from pmcompat.documents.values import PROFILES
from pmcompat.errors import DocumentError

lawful = settings(deadline=None, max_examples=150)
NARROW = (("utf-8", b""), ("utf-8", b"\xef\xbb\xbf"), ("iso-8859-1", b""))

ENGINE = b"""<?xml version="1.0" encoding="UTF-8"?>
<hosts>
  <host href="/api/hosts/5c1d" id="5c1d">
    <actions><link href="/api/hosts/5c1d/fence" rel="fence"/></actions>
    <name>kv-&#233;12</name>
    <link href="/api/hosts/5c1d/nics" rel="nics"/>
    <address>kv-12.lab</address>
    <status><state>up</state></status>
    <cluster href="/api/clusters/99" id="99"><name>Default</name></cluster>
    <port>54321</port>
    <storage_manager priority="3">true</storage_manager>
    <version full_version="4.9" major="4" minor="9" build="6" revision="0"/>
    <power_management type="apc">
      <enabled>true</enabled>
      <pm_proxies><pm_proxy><type>dc</type></pm_proxy><pm_proxy/></pm_proxies>
      <agents>
        <agent type="apc"><address>pdu-l</address><username>f</username><password>a&amp;b</password><options/>
          <concurrent>true</concurrent><order>1</order></agent>
        <agent type='apc'><address>pdu-r</address><options><option value="7" name="slot"/></options><order> 2 </order></agent>
      </agents>
    </power_management>
    <cpu><topology sockets="1" cores="2"/><name>x</name></cpu>
  </host>
  <host id="2"><name>bare</name></host>
</hosts>"""


def plain(profile):
    return Plain(plain_hosts.shape(profile), hosts=True, attributes=plain_hosts.ATTRIBUTES)


def said(read):
    """Return the hosts, or what the refusal says, with the hosts before it."""
    found = []
    try:
        found.extend(read)
    except DocumentError as error:
        return found, (error.what, error.line, error.why), error.path
    return found, None, ""


def long_way(raw, profile, limits=None):
    for fragment, span in host_fragments(raw, limits=limits or Limits()):
        yield read_host(fragment, span, profile=profile, limits=limits or Limits())


def test_what_an_engine_answers_is_read_in_one_match():
    spans = [span for _, span in host_fragments(ENGINE, plain=plain("3.2"))]
    assert [span.plain is not None for span in spans] == [True, True]
    assert [span.answer for span in spans] == [True, False]
    first, second = read_hosts(ENGINE, profile="3.2")
    assert [first, second] == list(long_way(ENGINE, "3.2"))
    assert (first.name, first.cluster_name, first.spm_priority) == ("kv-é12", "Default", 3)
    assert first.power_management.agents[0].password.reveal() == "a&b"
    assert first.power_management.pm_proxies == ("dc", "")
    assert second.power_management is None


@st.composite
def cases(draw):
    profile = draw(st.sampled_from(PROFILES))
    return profile, draw(build.documents(build.power_management(profile, listed=profile != "3.1"), encodings=NARROW)).raw


@lawful
@given(cases())
def test_the_short_cut_reads_what_the_long_way_reads(case):
    profile, raw = case
    assert said(read_hosts(raw, profile=profile)) == said(long_way(raw, profile))


#: what makes a plain host another one, or no host at all
WOUNDS = (
    b"<!-- -->",
    b"<![CDATA[x]]>",
    b"&amp;",
    b"&lt;",
    b"\r\n",
    b"<",
    b">",
    b"<x/>",
    b"<name>again</name>",
    b"</host>",
    b" ",
    b"\xc3",
)
WOUNDS += (
    b"<power_management/>",
    b"<agents/>",
    b"<address/>",
    b"1",
    b"<host>",
    b"<port>70000</port>",
    b" xmlns='urn:x'",
    b"\t",
)


@lawful
@given(st.data(), st.sampled_from(PROFILES), st.sampled_from(WOUNDS))
def test_a_wounded_host_is_refused_or_read_as_the_long_way_does(data, profile, wound):
    at = data.draw(st.integers(ENGINE.index(b"<hosts>"), len(ENGINE)))
    cut = data.draw(st.sampled_from([0, 0, 1, 7]))
    raw = ENGINE[:at] + wound + ENGINE[at + cut :]
    short, long = said(read_hosts(raw, profile=profile)), said(long_way(raw, profile))
    assert short[:2] == long[:2]
    # where a match is not well-formed its host is named, not the element in it that the long way may name, or had not begun
    assert long[2].startswith(short[2]) or short[2].startswith(long[2])


@pytest.mark.parametrize("white", [b"\n", b"\r\n", b"\r", b"\t", b"&#10;"])
@pytest.mark.parametrize("attribute", [b'name="slot"', b'value="7"', b"type='apc'", b'id="5c1d"', b'priority="3"'])
def test_white_space_in_an_attribute_loses_nothing(white, attribute):
    """An option whose name or value went over a line end was left out of the import without a word."""
    at = ENGINE.index(attribute) + len(attribute) - 1
    raw = ENGINE[:at] + white + ENGINE[at:]
    assert said(read_hosts(raw, profile="3.2")) == said(long_way(raw, "3.2"))


@pytest.mark.parametrize(
    "limits", [Limits(elements=8), Limits(host=300), Limits(depth=6), Limits(attributes=3), Limits(depth=4)]
)
def test_limits_hold_for_plain_hosts_too(limits):
    assert said(read_hosts(ENGINE, profile="3.2", limits=limits)) == said(long_way(ENGINE, "3.2", limits))


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_however_the_stream_is_cut_the_hosts_are_the_same(size, monkeypatch):
    monkeypatch.setattr("pmcompat.documents.reading.CHUNK", max(size, 4))
    assert list(read_hosts(ENGINE, profile="3.2")) == list(long_way(ENGINE, "3.2"))
