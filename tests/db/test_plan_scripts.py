"""The scripts in sql/: headers, rules, rendering with line numbers, quoting, and the rule about pairs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmcompat.db.catalog import Catalog, Option, Server
from pmcompat.db.plan import quote as plan_quote
from pmcompat.db.plan.config import decide
from pmcompat.db.plan.scripts import load, render
from pmcompat.errors import ConfigurationError


def scripts(tmp_path, **files):
    for name, text in files.items():
        (tmp_path / f"{name.replace('_', '-')[1:]}.sql").write_text(text)
    return load(tmp_path)


def test_the_shipped_scripts_have_rollbacks_checks_and_order():
    shipped = load()
    assert [script.id for script in shipped] == sorted(script.id for script in shipped)
    assert all(script.verify for script in shipped)
    assert all(script.rollback for script in shipped if script.scope == "engine")


def test_headers_survive_a_licence(tmp_path):
    (script, _) = scripts(
        tmp_path,
        _0001_a="/*\n * A licence\n */\n-- more\n\n-- depends: 0002-b\n-- Scope: pmcompat\nSELECT 1;\n-- scope: engine\n",
        _0002_b="SELECT 1;",
    )
    assert script.scope == "pmcompat"
    assert script.depends == ("0002-b",)


@pytest.mark.parametrize(
    ("text", "match"),
    [("-- scope: other\n", "scope"), ("-- depends: 0009-x\n", "0009-x"), ("COMMIT;", "COMMIT"), ("SELECT '", "quote")],
)
def test_a_script_that_breaks_a_rule_is_refused(tmp_path, text, match):
    with pytest.raises(ConfigurationError, match=match):
        scripts(tmp_path, _0001_a=text)


def test_transaction_words_elsewhere_are_no_transaction(tmp_path):
    assert scripts(tmp_path, _0001_a="DO $$ BEGIN COMMIT; END $$; SELECT 'BEGIN;' AS \"end\"; -- COMMIT;\n/* ROLLBACK; */")


def test_every_rendered_line_knows_the_line_it_was_written_on(tmp_path):
    (tmp_path / "0001-a.sql.j2").write_text(
        "-- one\n{% for n in names %}\nSELECT {{ n|literal }},\n    2;\n{% endfor %}\n\nlast {# comment #}\n"
    )
    text = render("0001-a.sql.j2", {"names": ["a", "b\nc"]}, tmp_path)
    lines = text.sql.split("\n")
    assert lines == ["-- one", "SELECT 'a',", "    2;", "SELECT 'b", "c',", "    2;", "", "last "]
    assert [text.place(sum(map(len, lines[:i])) + i + 1) for i in (0, 1, 2, 4, 5, 7)] == [
        f"sql/0001-a.sql.j2:{n}" for n in (1, 3, 4, 3, 4, 7)
    ]


def test_a_value_the_plan_does_not_have_is_an_error_with_the_file(tmp_path):
    (tmp_path / "0001-a.sql.j2").write_text("SELECT {{ nothing }};\n")
    with pytest.raises(ConfigurationError, match=r"0001-a\.sql\.j2"):
        render("0001-a.sql.j2", {}, tmp_path)


@pytest.mark.parametrize(
    ("name", "written"),
    [("vds", "vds"), ("Vds", '"Vds"'), ("select", '"select"'), ('a"b', '"a""b"'), ("a b", '"a b"'), ("_x1", "_x1"), ("", '""')],
)
def test_names_are_quoted_where_they_must_be(name, written):
    assert plan_quote.ident(name) == written


def test_public_as_a_role_is_told_from_a_role_called_public():
    assert plan_quote.role("") == "PUBLIC"
    assert plan_quote.role("public") == '"public"'


@given(st.text(alphabet="ab$'\\\n", max_size=30))
def test_quoted_texts_hold_what_was_quoted(text):
    quoted = plan_quote.dollar(text, "a")
    tag = quoted[: quoted.index("$", 1) + 1]
    assert quoted == f"{tag}{text}{tag}"
    assert tag not in text
    assert plan_quote.literal(text)[1:-1].replace("''", "'") == text


# ---------------------------------------------------------------------- the rule about pairs (law D3)

SERVER = Server(
    database="d",
    user="u",
    superuser=True,
    server_version=150000,
    server="15",
    deadlock_timeout=1000,
    may_create_schema=True,
    read_only=False,
    own_schema_owner=None,
    own_schema_readable=None,
)
DELAY, RETRIES = "FenceStartStatusDelayBetweenRetriesInSec", "FenceStartStatusRetries"


def start(*rows, force=False):
    options = tuple(Option(id=i, name=name, value=value, version=version) for i, (name, value, version) in enumerate(rows))
    return decide(Catalog(schema="public", server=SERVER, options=options), force=force)[0]


PAIRS = [
    ("both at the old default", [("60", "3")], {"10", "18"}),
    ("both absent", [], {"10", "18"}),
    ("one absent, one at the default", [("60", None)], {"10", "18"}),
    ("retries chosen", [("60", "5")], set()),
    ("delay chosen", [("30", "3")], set()),
    ("one absent, the other chosen", [("30", None)], set()),
    ("already new", [("10", "18")], set()),
    ("half new", [("60", "18")], set()),
    ("not a number", [("60", "three")], set()),
    ("white space is a choice", [("60", "3 ")], set()),
    ("two rows at the default", [("60", "3"), ("60", "3")], {"10", "18"}),
    ("two rows that differ", [("60", "3"), ("60", "4")], set()),
]


@pytest.mark.parametrize(("name", "rows", "new"), PAIRS, ids=[name for name, _, _ in PAIRS])
def test_a_pair_changes_only_where_both_are_at_the_old_default_or_absent(name, rows, new):
    given = [(DELAY, delay, "general") for delay, _ in rows] + [(RETRIES, tries, "general") for _, tries in rows if tries]
    decision = start(*given)
    assert {change.new for change in decision.changes} == new
    assert ("180 s" in decision.reason) == (name != "")


def test_both_products_are_told():
    assert "60 s x 7 = 420 s" in start((DELAY, "60", "general"), (RETRIES, "7", "general")).reason


def test_other_spellings_count_and_other_versions_do_not():
    decision = start((DELAY, "60", "general"), (RETRIES.upper(), "5", "general"), (DELAY, "99", "3.0"))
    assert decision.changes == ()
    assert any("version 3.0" in remark for remark in decision.remarks)


def test_forcing_changes_what_is_not_new_yet():
    decision = start((DELAY, "10", "general"), (RETRIES, "7", "general"), force=True)
    assert [(change.name, change.old, change.new) for change in decision.changes] == [(RETRIES, "7", "18")]
