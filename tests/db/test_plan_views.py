"""Extending a view on its live definition: what may be appended, under which name, and what is refused."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmcompat.db.plan.tokens import Unreadable, tokens
from pmcompat.db.plan.views import Unextendable, extend, targets, without

TABLE = ("public", "vds_static")
PLAIN = " SELECT g.name,\n    s.ip\n   FROM (public.vds_groups g\n     JOIN public.vds_static s ON ((s.g = g.g)));"

EXTENDABLE = {
    "an alias": (PLAIN, "s"),
    "no alias": (" SELECT vds_static.ip\n   FROM public.vds_static;", "vds_static"),
    "a quoted alias": (' SELECT "S s".ip\n   FROM public.vds_static "S s";', '"S s"'),
    "renamed columns": (" SELECT s.a\n   FROM public.vds_static s(a, b)\n  WHERE s.b;", "s"),
    "a window": (" SELECT row_number() OVER (PARTITION BY s.a ORDER BY s.b) AS n\n   FROM public.vds_static s;", "s"),
    "order and limit": (" SELECT s.a\n   FROM public.vds_static s\n  ORDER BY s.a\n LIMIT 5;", "s"),
    "from in a function": (" SELECT EXTRACT(year FROM s.a) AS y\n   FROM public.vds_static s;", "s"),
    "is distinct from": (
        " SELECT (s.a IS DISTINCT FROM s.b) AS d,\n    s.c IS DISTINCT FROM s.d AS e\n   FROM public.vds_static s;",
        "s",
    ),
    "words in strings": (" SELECT 'GROUP BY '' UNION FROM'::text AS \"from\"\n   FROM public.vds_static s;", "s"),
    "escapes": (" SELECT E'\\' FROM public.vds_static x' AS t\n   FROM public.vds_static s;", "s"),
    "another sub-select": (
        " SELECT ( SELECT max(t.a)\n           FROM public.t\n          GROUP BY t.b) AS m\n   FROM public.vds_static s;",
        "s",
    ),
    "a same-named table elsewhere": (
        " SELECT s.a\n   FROM (public.vds_static s\n     JOIN bak.vds_static b ON ((b.a = s.a)));",
        "s",
    ),
    "an outer join": (" SELECT s.a\n   FROM (public.t\n     LEFT JOIN public.vds_static s USING (a));", "s"),
    "a lateral": (" SELECT s.a\n   FROM (public.vds_static s\n     CROSS JOIN LATERAL ( SELECT DISTINCT s.a AS x) l);", "s"),
}


@pytest.mark.parametrize("name", EXTENDABLE)
def test_columns_are_appended_under_the_alias_and_taken_out_again(name):
    definition, alias = EXTENDABLE[name]
    extended = extend(definition, ["p", "q"], TABLE)
    assert targets(extended, ["p", "q"]) == [f"{alias}.p", f"{alias}.q"]
    assert extended.index(f",\n    {alias}.p,\n    {alias}.q\n   FROM ") > 0
    assert without(extended, ["p", "q"]) == definition


REFUSED = {
    "DISTINCT": " SELECT DISTINCT s.a\n   FROM public.vds_static s;",
    "GROUP BY": " SELECT s.a\n   FROM public.vds_static s\n  GROUP BY s.a;",
    "HAVING": " SELECT 1\n   FROM public.vds_static s\n HAVING true;",
    "UNION": " SELECT s.a\n   FROM public.vds_static s\nUNION ALL\n SELECT t.a\n   FROM public.t;",
    "EXCEPT": " SELECT s.a\n   FROM public.vds_static s\nEXCEPT\n SELECT t.a\n   FROM public.t;",
    "WITH": " WITH x AS (\n         SELECT 1\n        )\n SELECT s.a\n   FROM public.vds_static s, x;",
    "not at all": " SELECT v.a\n   FROM public.vds_old v;",
    "2 times": " SELECT s.a\n   FROM (public.vds_static s\n     JOIN public.vds_static t ON ((s.a = t.a)));",
    "sub-select of FROM": " SELECT x.a\n   FROM ( SELECT s.a\n           FROM public.vds_static s) x;",
    "sub-select only": " SELECT ( SELECT s.a FROM public.vds_static s) AS a\n   FROM public.t;",
    "alias of the whole join": " SELECT j.a\n   FROM (public.t\n     JOIN public.vds_static s USING (a)) j;",
    "no plain SELECT": " VALUES (1);",
    "no table": " SELECT 1 AS one;",
    "cannot be read": " SELECT 'open\n   FROM public.vds_static;",
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_could_change_its_meaning_is_refused_with_the_reason(reason):
    with pytest.raises(Unextendable, match=reason):
        extend(REFUSED[reason], ["p"], TABLE)


def test_only_plain_columns_of_that_name_are_taken_out():
    definition = " SELECT s.a,\n    s.p,\n    upper(s.p) AS p2,\n    t.q AS p\n   FROM public.vds_static s, public.t;"
    assert without(definition, ["p"]) == definition.replace(",\n    s.p", "", 1)


@given(st.text(alphabet="ab'\"$-/*();., \nE\\1é", max_size=60))
def test_tokens_cover_the_text_or_it_is_unreadable(text):
    """The scanner loses nothing: what stands between tokens is white space and comments."""
    try:
        found = tokens(text)
    except Unreadable:
        return
    for token in found:
        assert text[token.start : token.end] == token.text
    for before, after in pairwise(found):
        between = text[before.end : after.start].strip()
        assert between == "" or between.startswith(("--", "/*"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a /* x /* y */ z */ b", ["a", "b"]),
        ("a -- x\n b", ["a", "b"]),
        ("$$ ; $$ a", ["$$ ; $$", "a"]),
        ("$x$ $$ $x$ b", ["$x$ $$ $x$", "b"]),
        ("'it''s' E'\\'' U&\"q\" x", ["'it''s'", "E'\\''", 'U&"q"', "x"]),
        ("a::b := 1", ["a", "::", "b", ":=", "1"]),
    ],
)
def test_quotes_and_comments_are_known(text, words):
    assert [token.text for token in tokens(text)] == words


@pytest.mark.parametrize("text", ["'", '"', "/* /* */", "$a$ $b$", "(", ")"])
def test_what_is_not_closed_is_unreadable(text):
    with pytest.raises(Unreadable):
        tokens(text)
