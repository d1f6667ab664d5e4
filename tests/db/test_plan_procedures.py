"""Editing the procedures' live bodies: which statement is extended, what is refused, and that the way back is exact."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pmcompat.db.catalog import Routine
from pmcompat.db.plan.procedures import OPENING, Uneditable, call_arguments, extended, mended_insert, reduced

ARGUMENTS = "v_vds_id uuid, INOUT v_name character varying, v_pm_type character varying"
UPDATE = "\nBEGIN\n    UPDATE vds_static SET pm_type = v_pm_type WHERE vds_id = v_vds_id;\nEND;\n"
INSERT = "\nBEGIN\n    INSERT INTO vds_static (vds_id, pm_type) VALUES (v_vds_id, v_pm_type);\nEND;\n"


def routine(name, body, arguments=ARGUMENTS, **other):
    definition = (
        f"CREATE OR REPLACE FUNCTION public.{name}({arguments})\n RETURNS void\n LANGUAGE plpgsql\n SECURITY DEFINER\n"
        f"AS $function${body}$function$\n"
    )
    return Routine(
        oid=1,
        schema="public",
        name=name,
        kind="f",
        language="plpgsql",
        signature=f"public.{name}(uuid,character varying,character varying)",
        arguments=arguments,
        argument_names=("v_vds_id", "v_name", "v_pm_type"),
        returns="void",
        definition=definition,
        body=body,
        owner="engine",
        **other,
    )


def there_and_back(before):
    """Extend *before*, pretend the server stored it, and reduce that."""
    made = extended(before)
    head, _, body = made.definition.partition("\nAS $procedure$")
    body = body.removesuffix("$procedure$")
    arguments = head.partition("(")[2].rpartition(")\n RETURNS")[0]
    names = (
        *before.argument_names,
        *(f"v_pm_secondary_{n}" for n in ("ip", "type", "user", "password", "port", "options", "concurrent")),
    )
    stored = replace(
        before,
        body=body,
        arguments=arguments,
        argument_names=names,
        signature=made.signature,
        definition=f"{head.replace('CREATE FUNCTION', 'CREATE OR REPLACE FUNCTION')}\nAS $function${body}$function$\n",
    )
    return made, reduced(stored)


BODIES = {
    "plain": ("updatevdsstatic", UPDATE),
    "qualified, with an alias": ("updatevdsstatic", UPDATE.replace("vds_static SET", "public.vds_static AS s SET")),
    "a case and a sub-select": (
        "updatevdsstatic",
        UPDATE.replace("= v_pm_type", "= CASE WHEN a IS DISTINCT FROM b THEN (SELECT x FROM y WHERE z) END"),
    ),
    "from": ("updatevdsstatic", UPDATE.replace(" WHERE", " FROM other WHERE")),
    "comments and strings": (
        "updatevdsstatic",
        UPDATE.replace("WHERE", "-- WHERE\n /* UPDATE vds_static SET pm_type = 1 */ WHERE"),
    ),
    "a site's own update": ("updatevdsstatic", UPDATE.replace("END;", "UPDATE vds_static SET note = 'x' WHERE true;\nEND;")),
    "a label and declarations": ("updatevdsstatic", "<<b>>\nDECLARE x text := 'BEGIN'; -- BEGIN" + UPDATE),
    "insert": ("insertvds", INSERT),
    "insert, quoted and qualified": ("insertvdsstatic", INSERT.replace("vds_static (", 'public."vds_static" AS s (')),
    "insert with a comment behind the last column": ("insertvds", INSERT.replace("pm_type)", "pm_type -- last\n)", 1)),
    "insert on conflict": ("insertvds", INSERT.replace(";\nEND", " ON CONFLICT DO NOTHING;\nEND")),
    "a site's own insert": ("insertvds", INSERT.replace("END;", "INSERT INTO vds_static (vds_id) VALUES (1);\nEND;")),
    "a body that holds our tag": ("insertvds", INSERT.replace("END;", "x := '$procedure$';\nEND;")),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_is_extended_once_and_comes_back_exactly(name):
    before = routine(*BODIES[name])
    if "$procedure$" in before.body:
        assert "$procedure_$" in extended(before).definition
        return
    made, back = there_and_back(before)
    assert "SECURITY DEFINER" in made.definition
    assert made.definition.count("pm_secondary_user") >= 2
    assert made.signature.endswith(
        ",character varying,character varying,character varying,text,integer,character varying,boolean)"
    )
    assert back.definition == before.definition.strip().replace("CREATE OR REPLACE", "CREATE").replace(
        "$function$", "$procedure$"
    )
    assert back.signature == before.signature


REFUSED = {
    "0 statements UPDATE": ("updatevdsstatic", "BEGIN EXECUTE 'UPDATE vds_static SET pm_type = 1 WHERE true'; END"),
    "2 statements UPDATE": ("updatevdsstatic", UPDATE + UPDATE),
    "0 statements UPDATE ": ("updatevdsstatic", UPDATE.replace("vds_static", "vds_dynamic")),
    "0 statements INSERT": ("insertvds", INSERT.replace("VALUES (v_vds_id, v_pm_type)", "SELECT 1, 2")),
    "0 statements INSERT ": ("insertvds", INSERT.replace(");", "), (1, 2);")),
    "0 statements INSERT  ": ("insertvds", INSERT.replace("(vds_id, pm_type) ", "")),
    "not as many values": ("insertvds", INSERT.replace("VALUES (", "VALUES (1, ")),
    "cannot be read": ("insertvds", INSERT + "'"),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_body_whose_statement_is_not_certain_is_refused(reason):
    with pytest.raises(Uneditable, match=reason.strip()):
        extended(routine(*REFUSED[reason]))


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"language": "sql"}, "written in sql"),
        ({"parsed_body": True}, "BEGIN ATOMIC"),
        ({"kind": "p"}, "no function"),
        ({"arguments": "VARIADIC v_x text[]"}, "variable number"),
        ({"arguments": ""}, "no arguments"),
        ({"argument_names": ("v_pm_secondary_ip",)}, "already has"),
    ],
)
def test_a_routine_of_another_kind_is_refused(other, reason):
    with pytest.raises(Uneditable, match=reason):
        extended(replace(routine("insertvds", INSERT), **other))


def test_a_foreign_procedure_is_not_reduced():
    with pytest.raises(Uneditable, match="not the ones pmcompat gave it"):
        reduced(routine("insertvds", INSERT))


def test_ovirts_insert_is_mended_by_naming_its_parameters():
    body = INSERT.replace("pm_type)", "pm_type, pm_secondary_ip)", 1).replace("v_pm_type)", "v_pm_type, pm_secondary_ip)")
    mended = mended_insert(routine("insertvds", body))
    assert mended is not None
    assert "VALUES (v_vds_id, v_pm_type, v_pm_secondary_ip)" in mended.definition
    assert "(vds_id, pm_type, pm_secondary_ip)" in mended.definition
    assert mended.definition.startswith("CREATE OR REPLACE")
    assert mended_insert(routine("insertvds", INSERT)) is None


def test_a_call_about_nobody_gives_what_has_no_default():
    arguments = f"{ARGUMENTS}, v_port integer DEFAULT 5"
    assert call_arguments(routine("insertvds", INSERT, arguments)) == [
        "nobody",
        "NULL::character varying",
        "NULL::character varying",
    ]


def test_what_is_inserted_is_marked():
    made = extended(routine("updatevdsstatic", UPDATE)).definition
    assert made.count(OPENING) == 2
