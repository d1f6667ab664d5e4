"""Wrong splicers that must die: each mistake somebody made or could make is caught by a small table of laws.

A law that kills no mutant is decoration; a mutant that survives is a hole in the laws.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import engine_oracle
import pytest

import pmcompat
from pmcompat.documents import pieces, splicing
from pmcompat.documents.patterns import Quick
from pmcompat.documents.scanning import Scanner
from pmcompat.documents.schema import parse, problems
from pmcompat.documents.splicing import Fragment
from pmcompat.documents.translation import Translator
from pmcompat.errors import PmcompatError

GOLDEN = Path(__file__).parent / "golden"


def host(inside: str, head: str = " type='apc'") -> bytes:
    return (
        f"<hosts><host><power_management{head}>{inside}</power_management></host><host><name>z</name></host></hosts>".encode()
    )


FLAT = [
    host("<address>a</address>"),
    host("<username>u</username>"),
    host("\n <enabled>true</enabled>\n <!-- c --> <address>a</address>\n <password/>\n"),
    host("<options><option name='x' value='a > b'/></options><automatic_pm_enabled>true</automatic_pm_enabled>"),
    host("<address>10.0.<!--x-->0.7</address><agents/>", head=" type='a&gt;/'"),
    host("<address>a</address><pm_proxies/><status><state>on</state></status>".replace("<pm_proxies/>", "") + "<pm_proxies/>"),
]
FLAT.append(b"<hosts><host><power_management type='a>b'/></host>" + FLAT[0].removeprefix(b"<hosts>"))
BOTH = [
    host("<address>f</address><username/><agents><agent type='x'><address>a</address><order>1</order></agent></agents>"),
    host("<options><option name='a' value='1'/></options><agents><agent><options/><order>1</order></agent></agents>"),
    host("<address>f</address><agents><agent><address>b</address><order>2</order></agent></agents>"),
    host("<address>f</address><agents><agent><order>2</order></agent><agent><order> 01 </order></agent></agents>"),
    host("<address>f</address><agents><agent type='x'/></agents>"),
]


def translate(document: bytes, to: str) -> bytes:
    """Translate the long way: the mutants live there."""
    translator = Translator(to=to, profile="3.4")
    translator._quick = _Off(translator._form, "3.4")
    translator._scanner = Scanner()
    return translator.feed(document) + translator.finish()


class _Off(Quick):
    def translate(self, match):
        return None


def power(document: bytes) -> bytes:
    start = document.rindex(b"<power_management")
    return document[start : document.index(b"</host>", start)]


def laws() -> None:
    """Hold the laws against a handful of documents; raises AssertionError or one of our errors."""
    for source in GOLDEN.glob("design.*.flat.xml"):
        wanted = source.with_name(source.name.replace(".flat", ".to-agents")).read_bytes()
        assert translate(source.read_bytes(), "agents") == wanted
    for document in FLAT + BOTH:
        up = translate(document, "agents")
        dual = translate(document, "dual")
        assert translate(up, "agents") == up
        for out in (up, dual):
            assert not problems(parse(power(out)), "3.4")
            assert out.endswith(b"</power_management></host><host><name>z</name></host></hosts>")
            assert engine_oracle.engine_3_2(power(out)) == engine_oracle.engine_3_2(power(document))
        assert engine_oracle.flat_wins(power(dual)) == engine_oracle.engine_3_2(power(document))
        assert b"<password>" not in up
    assert translate(host("<address>f</address><agents><agent/></agents>"), "agents") == host(
        "<agents><agent type='apc'><address>f</address></agent></agents>"
    )
    for document in FLAT:
        assert translate(translate(document, "agents"), "flat") == document


def test_the_laws_hold_for_the_splicer_itself():
    laws()


def _at_the_end(self, name):
    return self.power.last


def _keyed_on_the_address(self):
    device = real_device(self)
    return splicing.Device({}, device.agent, device.flat_type, device.agent_type) if "address" not in device.flat else device


real_device = Fragment._device
real_take_apart = splicing.take_apart


def _flat_wins(self, raw, profile, precedence):
    real_init(self, raw, profile, "flat")


real_init = Fragment.__init__


def _naive_start_tags(raw):
    import re

    plain = pieces._MARKUP
    pieces._MARKUP = re.compile(
        rb"<!--.*?-->|<!\[CDATA\[.*?\]\]>|<\?.*?\?>|</(?P<end>[^\s>]+)\s*>|<(?P<start>[^\s/>!?]+)(?P<attributes>[^>]*)>",
        re.DOTALL,
    )
    try:
        return real_take_apart(raw)
    finally:
        pieces._MARKUP = plain


def _left_behind(self, pieces_):
    for piece in pieces_:
        self._edits.replace(piece.start, piece.end)


def _not_cut(self, pieces_):
    return None


def _without_text_after_comments(raw):
    return raw.partition(b"<!--")[0].decode()


def _empty_tag_is_no_end(self, offset, name):
    return self.base + self.data.index(b">", self.data.index(f"</{name}".encode(), offset - self.base)) + 1


MUTANTS = {
    "agents at the end, after automatic_pm_enabled": (Fragment, "_place", _at_the_end),
    "no address, no device": (Fragment, "_device", _keyed_on_the_address),
    "flat wins over agents": (Fragment, "__init__", _flat_wins),
    "a > in an attribute ends the tag": (splicing, "take_apart", _naive_start_tags),
    "white space and comments stay behind": (Fragment, "_cut", _left_behind),
    "the flat fields stay": (Fragment, "_cut", _not_cut),
    "the copy has no white space": (splicing.Piece, "moving", property(lambda self: self.raw)),
    "missing fields are not filled in": (Fragment, "_give", lambda *_: None),
    "an empty agent is not opened": (Fragment, "_hand_over", lambda _: None),
    "the type stays behind": (Fragment, "_type_of_agent", lambda _: None),
    "the flat type is not made equal": (Fragment, "_type_of_power", lambda _: None),
    "the first agent is the primary": (
        splicing,
        "roles",
        lambda orders, _: [splicing.Role.PRIMARY, *[splicing.Role.UNREAD] * 9][: len(orders)],
    ),
    "an empty list is forgotten": (Fragment, "_restored", lambda *_: b""),
    "values are compared by their first piece": (pieces, "text_of", lambda raw: raw[:1].decode()),
    "the end of an element is the next end tag of its name": (Scanner, "_end_of_element", _empty_tag_is_no_end),
}


@contextlib.contextmanager
def mutated(owner: object, name: str, wrong: object) -> Iterator[None]:
    right = vars(owner)[name]
    setattr(owner, name, wrong)
    try:
        yield
    finally:
        setattr(owner, name, right)


@pytest.mark.parametrize("name", MUTANTS)
def test_every_mutant_of_the_splicer_dies(name):
    with mutated(*MUTANTS[name]), pytest.raises((AssertionError, PmcompatError, ValueError)):
        laws()
    laws()


def test_the_two_traps_of_expat_are_walked_around():
    """Self-closing tags, whose end event points behind them, and > in the attributes of start tags."""
    for document in (
        FLAT[-1],
        b"<power_management/>",
        b"<host><power_management type='/>'></power_management ></host>",
    ):
        out = pmcompat.translate(document, to="agents").document
        assert pmcompat.translate(out, to="flat").document == document
        wide = b"\xff\xfe" + document.decode().encode("utf-16-le")
        assert pmcompat.translate(wide, to="agents").document == b"\xff\xfe" + out.decode().encode("utf-16-le")
