"""The laws X1 to X7 and X9 of the translator, over documents of every profile."""

from __future__ import annotations

import os
import re

import engine_oracle
import host_documents as build
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from lxml import etree

import pmcompat
from pmcompat.documents import schema
from pmcompat.documents.patterns import Quick
from pmcompat.documents.scanning import Scanner
from pmcompat.documents.translation import Translator
from pmcompat.documents.validation import _second
from pmcompat.errors import LossRefused

#: examples for each law; `make soak` asks for many
COUNT = int(os.environ.get("PMCOMPAT_TEST_EXAMPLES", "40"))
profiles = st.sampled_from(build.AGENT_PROFILES)
forms = st.sampled_from(["agents", "flat", "dual"])
precedences = st.sampled_from(["agents", "flat"])
lawful = settings(deadline=None, max_examples=COUNT)


@st.composite
def cases(draw, *, encodings=build.ENCODINGS, **what):
    profile = draw(profiles)
    return profile, draw(build.documents(build.power_management(profile, **what), encodings=encodings))


def powers_of(document: build.Document, raw: bytes) -> list[bytes]:
    """The translated fragments as UTF-8, and the proof that everything outside them is what it was (X3)."""
    outside = [document.encode(text) for text in document.outside]
    outside[0] = document.mark + outside[0]
    found, rest = [], raw
    for before in outside[:-1]:
        assert rest.startswith(before)
        rest = rest[len(before) :]
        after = _skip_power(document, rest)
        found.append(rest[: len(rest) - len(after)].decode(document.codec).encode())
        rest = after
    assert rest == outside[-1]
    return found


def _skip_power(document: build.Document, rest: bytes) -> bytes:
    """Cut one power_management off the beginning, by a plain count of its tags."""
    text = rest.decode(document.codec)
    depth, at = 0, 0
    for match in _markup(text):
        token = match[0]
        if token.startswith(("<!", "<?")):
            continue
        depth += -1 if token.startswith("</") else 0 if token.endswith("/>") else 1
        at = match.end()
        if depth == 0:
            break
    return document.encode(text[at:])


def _markup(text: str):
    pattern = r"<!--.*?-->|<!\[CDATA\[.*?\]\]>|<\?.*?\?>|<(?:[^>\"']|\"[^\"]*\"|'[^']*')*>"
    return re.finditer(pattern, text, re.DOTALL)


@lawful
@given(cases(listed=False, emptied=True))
def test_flat_to_agents_and_back_gives_the_same_bytes(case):
    """X1, for every schema-valid flat document, an empty agents element beside the fields included."""
    profile, document = case
    there = pmcompat.translate(document.raw, to="agents", profile=profile).document
    assert pmcompat.translate(there, to="flat", profile=profile).document == document.raw


@lawful
@given(cases(listed=False, emptied=True))
def test_flat_to_dual_and_back_gives_the_same_bytes(case):
    profile, document = case
    there = pmcompat.translate(document.raw, to="dual", profile=profile).document
    assert pmcompat.translate(there, to="flat", profile=profile).document == document.raw


@lawful
@given(cases(listed=False))
def test_the_form_that_up_writes_survives_the_way_to_flat_and_back(case):
    """X1, the other way round, for documents in the form up writes."""
    profile, document = case
    agents = pmcompat.translate(document.raw, to="agents", profile=profile).document
    flat = pmcompat.translate(agents, to="flat", profile=profile).document
    assert pmcompat.translate(flat, to="agents", profile=profile).document == agents


@lawful
@given(cases())
def test_agents_to_flat_and_back_means_the_same_unless_it_is_refused(case):
    """X1: what would lose meaning is an error."""
    profile, document = case
    assume(profile != "3.6")
    try:
        flat = pmcompat.translate(document.raw, to="flat", profile=profile).document
    except LossRefused:
        return
    back = pmcompat.translate(flat, to="agents", profile=profile).document
    for before, after in zip(document.power, powers_of(document, back), strict=True):
        one, other = engine_oracle.engine_3_2(before.encode()), engine_oracle.engine_3_2(after)
        assert {**one, "concurrent": None} == {**other, "concurrent": None}


@lawful
@given(cases(), forms, precedences)
def test_translating_twice_is_translating_once(case, form, precedence):
    """X2."""
    profile, document = case
    how = {"to": form, "profile": profile, "precedence": precedence, "lossy": True}
    once = pmcompat.translate(document.raw, **how).document
    assert pmcompat.translate(once, **how).document == once


@lawful
@given(cases(), forms, precedences)
def test_what_comes_out_is_valid_and_everything_outside_is_untouched(case, form, precedence):
    """X3 and X4: valid in, valid out, by lxml and by xmlschema."""
    profile, document = case
    out = pmcompat.translate(document.raw, to=form, profile=profile, precedence=precedence, lossy=True).document
    for power in powers_of(document, out):
        element = etree.fromstring(power)
        assert schema.problems(element, profile) == []
        bare = etree.XMLParser(remove_comments=True, remove_pis=True)
        assert _second(profile).is_valid(etree.fromstring(power, bare))


@lawful
@given(cases())
def test_the_engine_stores_the_same_from_the_agents_form(case):
    """X5 and meaning, against the model of the documented 3.2 mapping."""
    profile, document = case
    assume(profile != "3.6")
    out = pmcompat.translate(document.raw, to="agents", profile=profile).document
    for before, after in zip(document.power, powers_of(document, out), strict=True):
        assert engine_oracle.engine_3_2(before.encode()) == engine_oracle.engine_3_2(after)


@lawful
@given(cases())
def test_dual_means_the_same_under_either_rule(case):
    profile, document = case
    assume(profile != "3.6")
    out = pmcompat.translate(document.raw, to="dual", profile=profile).document
    for before, after in zip(document.power, powers_of(document, out), strict=True):
        expected = engine_oracle.engine_3_2(before.encode())
        assert engine_oracle.engine_3_2(after) == expected
        assert engine_oracle.flat_wins(after) == expected


@lawful
@given(cases())
def test_with_flat_precedence_the_engine_of_that_rule_stores_the_same(case):
    profile, document = case
    assume(profile != "3.6")
    out = pmcompat.translate(document.raw, to="agents", profile=profile, precedence="flat").document
    for before, after in zip(document.power, powers_of(document, out), strict=True):
        assert engine_oracle.flat_wins(before.encode()) == engine_oracle.flat_wins(after)


@lawful
@given(cases(encodings=build.ENCODINGS), forms, st.data())
def test_any_cut_of_the_input_gives_the_same_bytes(case, form, data):
    """X6, with the parser fed as finely as the input is cut."""
    profile, document = case
    whole = pmcompat.translate(document.raw, to=form, profile=profile, lossy=True)
    grain = data.draw(st.sampled_from([4, 16, 64, 1 << 18]))
    translator = Translator(to=form, profile=profile, lossy=True, grain=grain)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(document.raw)), max_size=8)))
    parts = [translator.feed(document.raw[a:b]) for a, b in zip([0, *cuts], [*cuts, len(document.raw)], strict=True)]
    assert b"".join([*parts, translator.finish()]) == whole.document
    assert translator.warnings == whole.warnings
    assert translator.losses == whole.losses


@lawful
@given(cases(encodings=(("us-ascii", b""),)), forms, st.sampled_from(build.ENCODINGS))
def test_every_encoding_gives_the_same_text(case, form, encoding):
    """X7."""
    profile, document = case
    other = document.recoded(*encoding)
    one = pmcompat.translate(document.raw, to=form, profile=profile, lossy=True)
    two = pmcompat.translate(other.raw, to=form, profile=profile, lossy=True)
    codec, mark = encoding
    declared = "utf-16" if codec.startswith("utf-16") else codec
    assert two.document == mark + one.document.decode("ascii").replace("us-ascii", declared).encode(codec)
    assert one.warnings == two.warnings


class LongWay(Quick):
    """The short cut switched off."""

    def translate(self, match):
        return None


@lawful
@given(cases(), forms)
def test_the_short_cut_says_what_the_long_way_says(case, form):
    profile, document = case
    short = pmcompat.translate(document.raw, to=form, profile=profile, lossy=True)
    translator = Translator(to=form, profile=profile, lossy=True)
    translator._quick = LongWay(translator._form, profile)
    translator._scanner = Scanner()
    long = translator.feed(document.raw) + translator.finish()
    assert (short.document, short.warnings, short.losses) == (long, translator.warnings, translator.losses)


@lawful
@given(cases(), forms, precedences)
def test_no_password_is_invented_or_lost(case, form, precedence):
    """X9: absent stays absent, empty stays empty, and no message shows one."""
    profile, document = case
    out = pmcompat.translate(document.raw, to=form, profile=profile, precedence=precedence, lossy=True)
    for before, after in zip(document.power, powers_of(document, out.document), strict=True):
        one, other = etree.fromstring(before.encode()), etree.fromstring(after)
        spelled = {etree.tostring(p, with_tail=False) for p in one.iter("password")}
        assert {etree.tostring(p, with_tail=False) for p in other.iter("password")} <= spelled


@pytest.mark.parametrize("form", ["agents", "dual"])
def test_profile_3_1_has_no_agents(form):
    with pytest.raises(pmcompat.errors.ConfigurationError):
        pmcompat.translate(b"<host/>", to=form, profile="3.1")


@lawful
@given(build.documents(build.power_management("3.1")))
def test_a_flat_document_of_3_1_stays_as_it_is(document):
    assert pmcompat.translate(document.raw, to="flat", profile="3.1").document == document.raw
