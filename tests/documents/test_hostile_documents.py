"""Law X8: hostile input is refused quickly, with one class of error that has a place, in bounded memory (api facts §10)."""

from __future__ import annotations

import contextlib
import gzip
import io
import subprocess
import sys
import time

import host_documents as build
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pmcompat
from pmcompat.documents.diff import differences
from pmcompat.documents.limits import Limits
from pmcompat.documents.reading import read_hosts
from pmcompat.documents.validation import validate
from pmcompat.errors import DocumentError, PmcompatError

PM = "<power_management><address>a</address></power_management>"


def declared(encoding: str, codec: str | None = None) -> bytes:
    return f"<?xml version='1.0' encoding='{encoding}'?><host>{PM}</host>".encode(codec or encoding)


HOSTILE = {
    "doctype": b"<!DOCTYPE host><host/>",
    "doctype after a comment": b"<!-- x --><!DOCTYPE host SYSTEM 'http://127.0.0.1/x.dtd'><host/>",
    "external entity": b"<!DOCTYPE host [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><host>&x;</host>",
    "entity bomb": b"<!DOCTYPE h [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;&a;'><!ENTITY c '&b;&b;&b;'>]><h>&c;</h>",
    "attribute default": b"<!DOCTYPE host [<!ATTLIST power_management type CDATA 'x'>]><host/>",
    "undefined entity": b"<host><power_management><address>&x;</address></power_management></host>",
    "truncated": b"<host><power_management>",
    "truncated in a tag": b"<host><power_manage",
    "two documents": b"<host/><host/>",
    "empty": b"",
    "blank": b"  \n",
    "text": b"hello",
    "json": b'{"power_management": {}}',
    "nul": b"<host>\0</host>",
    "control reference": b"<host>&#1;</host>",
    "surrogate reference": b"<host>&#xD800;</host>",
    "overlong utf-8": b"<host>\xc0\xaf</host>",
    "invalid utf-8": b"<host><name>\xff</name></host>",
    "less-than in an attribute": b"<host><power_management type='<'/></host>",
    "attribute twice": b"<host><power_management type='a' type='b'/></host>",
    "gzip": gzip.compress(b"<host/>"),
    "utf-7": b"<?xml version='1.0' encoding='UTF-7'?><host/>",
    "utf-32": declared("utf-32"),
    "utf-32 without a mark": declared("utf-32", "utf-32-be"),
    "utf-16 without a mark": declared("utf-16", "utf-16-le"),
    "shift-jis": declared("shift_jis"),
    "ebcdic": declared("cp037"),
    "windows-1252": declared("windows-1252"),
    "unknown encoding": b"<?xml version='1.0' encoding='no-such'?><host/>",
    "encoding lie": declared("utf-16", "utf-8"),
    "utf-16 that says utf-8": b"\xff\xfe" + declared("utf-8", "utf-16-le"),
    "utf-8 mark that says latin": b"\xef\xbb\xbf" + declared("iso-8859-1", "utf-8"),
    "ascii that is not": b"<?xml version='1.0' encoding='us-ascii'?><host>\xe9</host>",
    "xml 1.1": b"<?xml version='1.1'?><host/>",
    "undeclared prefix in a fragment": b"<host><power_management><x:y/></power_management></host>",
    "depth 300": b"<a>" * 300 + b"</a>" * 300,
    "depth 100000": b"<a>" * 100_000 + b"</a>" * 100_000,
    "50000 attributes": b"<host " + b" ".join(b"a%d=''" % i for i in range(50_000)) + b"/>",
    "20000 namespaces": b"<host " + b" ".join(b"xmlns:a%d='u'" % i for i in range(20_000)) + b"/>",
    "11 MB attribute": b"<host a='" + b"x" * 11_000_000 + b"'/>",
    "11 MB value": b"<host><power_management><address>" + b"x" * 11_000_000 + b"</address></power_management></host>",
    "200000 options": b"<host><power_management><options>" + b"<option/>" * 200_000 + b"</options></power_management></host>",
    "many elements": b"<host><power_management>" + b"<a/>" * 30_000 + b"</power_management></host>",
    "40000 invalid hosts": b"<hosts>" + b"<host><power_management><ip>x</ip></power_management></host>" * 40_000 + b"</hosts>",
    "11 MB comment": b"<host><!--" + b"x" * 11_000_000 + b"--></host>",
}
READERS = {
    "translate": lambda raw: pmcompat.translate(raw, to="agents"),
    "read": lambda raw: list(read_hosts(raw, profile="3.2")),
    "validate": lambda raw: _raise(validate(raw, "3.2")),
    "diff": lambda raw: list(differences(raw, raw)),
}


def _raise(found):
    if found:
        raise DocumentError(found[0].message, line=found[0].line, path=found[0].path)


#: valid, and no larger than a host may be: not hostile to those who read it whole
_HARMLESS = {("200000 options", "validate")}


@pytest.mark.parametrize(
    ("name", "reader"), [(name, reader) for name in HOSTILE for reader in READERS if (name, reader) not in _HARMLESS]
)
def test_hostile_input_is_refused_with_a_place_in_bounded_time(name, reader):
    begun = time.process_time()
    with pytest.raises(DocumentError) as refused:
        READERS[reader](HOSTILE[name])
    assert time.process_time() - begun < 2
    assert refused.value.line >= 1
    assert len(str(refused.value)) < 2000


def test_a_refusal_relays_nothing():
    """The document type of a bomb is seen before anything of it is expanded or sent on."""
    from pmcompat.documents.translation import Translator

    translator = Translator(to="agents", grain=4)
    with pytest.raises(DocumentError):
        translator.feed(HOSTILE["entity bomb"])


def test_an_invalid_list_is_given_up_after_the_limit():
    with pytest.raises(DocumentError) as refused:
        pmcompat.translate(HOSTILE["40000 invalid hosts"], to="agents", limits=Limits(problems=7))
    assert len(refused.value.operands["problems"]) == 7
    assert "called address" in refused.value.what


def test_the_first_valid_hosts_of_an_invalid_document_do_not_hide_the_later_fault():
    good, bad = b"<host><power_management/></host>\n", b"<host><power_management><ip/></power_management></host>"
    with pytest.raises(DocumentError) as refused:
        pmcompat.translate(b"<hosts>\n" + good * 3 + bad + b"</hosts>", to="agents")
    assert (refused.value.line, refused.value.path) == (5, "/hosts/host[4]/power_management/ip")


@pytest.mark.parametrize(
    "limits",
    [Limits(document=20), Limits(fragment=20), Limits(depth=2), Limits(attributes=0), Limits(token=1000), Limits(elements=100)],
)
def test_every_limit_holds(limits):
    options = "<options>" + "<option name='a' value='b'/>" * 200 + "</options>"
    document = f"<host><power_management type='apc'>{options}</power_management><!--{'x' * 500_000}--></host>"
    with pytest.raises(DocumentError, match="limit"):
        pmcompat.translate(document.encode(), to="agents", limits=limits)


def test_what_a_stylesheet_or_xinclude_says_is_never_followed():
    include = b"<x:include xmlns:x='http://www.w3.org/2001/XInclude' href='/etc/passwd'/>"
    document = b"<?xml-stylesheet href='http://127.0.0.1:9/x'?><host>" + include + b"</host>"
    assert pmcompat.translate(document, to="agents").document == document


def test_a_comment_full_of_power_managements_costs_linear_time():
    """A byte search that asked the parser at every hit would let it begin the comment anew every time."""
    document = b"<host><!--" + b"<power_management " * 100_000 + b"--></host>"
    begun = time.process_time()
    assert pmcompat.translate(document, to="agents").document == document
    assert time.process_time() - begun < 1


SEEDS = st.sampled_from(build.AGENT_PROFILES).flatmap(lambda profile: build.documents(build.power_management(profile)))
NOISE = st.sampled_from(
    [
        b"<",
        b">",
        b"&",
        b"]]>",
        b"<!--",
        b"-->",
        b"<![CDATA[",
        b"<?",
        b"\0",
        b"\xff",
        b'"',
        b"'",
        b"/",
        b"<!DOCTYPE x>",
        b"</agents>",
        b"<power_management>",
    ]
)


@settings(deadline=None, max_examples=150)
@given(SEEDS, st.data())
def test_broken_documents_raise_nothing_outside_our_tree(document, data):
    raw = bytearray(document.raw)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw)))
        match data.draw(st.sampled_from(["cut", "insert", "delete", "flip"])):
            case "cut":
                del raw[at:]
            case "insert":
                raw[at:at] = data.draw(NOISE)
            case "delete":
                del raw[at : at + data.draw(st.integers(1, 9))]
            case "flip" if at < len(raw):
                raw[at] ^= data.draw(st.integers(1, 255))
    for reader in READERS.values():
        with contextlib.suppress(PmcompatError):
            reader(bytes(raw))


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=200))
def test_any_bytes_raise_nothing_outside_our_tree(raw):
    for reader in READERS.values():
        with contextlib.suppress(PmcompatError):
            reader(raw)


def test_memory_does_not_grow_with_the_document():
    """A child process translates 40 MB in chunks; its peak stays under the 48 MB of the issue."""
    program = (
        "import re; from pmcompat.documents.translation import Translator\n"
        "t = Translator(to='agents'); n = 0\n"
        "host = b\"<host id='x'><name>n</name><!-- \" + b'x' * 2000 + b\" --><power_management type='apc'>\"\\\n"
        "       b'<address>a</address></power_management></host>\\n'\n"
        "n += len(t.feed(b'<hosts>'))\n"
        "for _ in range(20): n += sum(len(t.feed(host * 100)) for _ in range(10))\n"
        "n += len(t.feed(b'</hosts>')) + len(t.finish())\n"
        "print(n, re.search('VmHWM:\\\\s*(\\\\d+)', open('/proc/self/status').read())[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    size, peak = map(int, done.stdout.split())
    assert size > 40_000_000
    assert peak < 48 * 1024


def test_a_stream_that_gives_little_at_a_time_is_read_to_its_end():
    class Slow(io.RawIOBase):
        def __init__(self, raw):
            self.raw, self.at = raw, 0

        def readable(self):
            return True

        def read(self, _size=-1):
            self.at += 1
            return self.raw[self.at - 1 : self.at]

    hosts = list(read_hosts(Slow(b"\xff\xfe" + declared("utf-16", "utf-16-le")), profile="3.2"))
    assert hosts[0].power_management.flat.address == "a"
