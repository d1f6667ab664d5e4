"""Golden pairs, the mixed and odd documents of api facts §4 to §9, and the design page's own artefacts."""

from __future__ import annotations

from pathlib import Path

import pytest

import pmcompat
from pmcompat.errors import ConfigurationError, DocumentError, LossRefused

GOLDEN = Path(__file__).parent / "golden"
SOURCES = sorted(path for path in GOLDEN.glob("*.xml") if ".to-" not in path.name)


def power(inside: str, *, head: str = ' type="apc"') -> bytes:
    return f"<host><power_management{head}>{inside}</power_management></host>".encode()


def up(document: bytes, **how):
    return pmcompat.translate(document, to="agents", **how)


def down(document: bytes, **how):
    return pmcompat.translate(document, to="flat", **how)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_golden_pairs_are_exact(source):
    name, major, minor, form, _ = source.name.split(".")
    raw = source.read_bytes()
    targets = sorted(GOLDEN.glob(f"{name}.{major}.{minor}.to-*.xml"))
    assert targets
    for target in targets:
        to = target.name.split(".to-")[1].removesuffix(".xml")
        out = pmcompat.translate(raw, to=to, profile=f"{major}.{minor}").document
        assert out == target.read_bytes()
        if form == "flat":
            assert down(out, profile=f"{major}.{minor}").document == raw


AGENT = "<agents><agent type='apc'><address>a</address><order>1</order></agent></agents>"


@pytest.mark.parametrize(
    "document",
    [
        b"<action><power_management><address>a</address></power_management><status><state>on</state></status></action>",
        b"<action><host><power_management><address>a</address></power_management></host></action>",
        b"<c><power_managers><power_management type='apc'><options/></power_management></power_managers></c>",
        b"<host><power_management_states/></host>",
        b"<hosts><host><hook><host><power_management><address>a</address></power_management></host></hook></host></hosts>",
        b"<host><!-- <power_management><address>a</address></power_management> --></host>",
        b"<host><name a='&lt;power_management>'>x</name><![CDATA[<power_management><address/></power_management>]]></host>",
        b"<host><a><![CDATA[ ]]></a><![CDATA[<power_management><address/></power_management>]]></host>",
        b"<project xmlns='http://maven.apache.org/POM/4.0.0'><host><x/></host></project>",
        b"<s:Envelope xmlns:s='urn:s'><s:Body/></s:Envelope>",
        b"<host><power_management/></host>",
        b"<host><power_management type='apc'><enabled>false</enabled></power_management></host>",
        b"<hosts/>",
    ],
)
def test_what_is_not_a_host_s_power_management_with_a_device_stays_as_it_is(document):
    """Api facts §4; and a type or enabled alone never makes an agent (§5)."""
    for form in ("agents", "dual", "flat"):
        assert pmcompat.translate(document, to=form).document == document


@pytest.mark.parametrize(
    "document",
    [
        b"<host xmlns='urn:x'><power_management/></host>",
        b"<hosts xmlns='urn:x'><host><power_management/></host></hosts>",
        b"<x:host xmlns:x='urn:x'><x:power_management/></x:host>",
        b"<host><power_management xmlns='urn:x'/></host>",
        b"<host><x:power_management xmlns:x='urn:x'/></host>",
    ],
)
def test_a_power_management_in_a_namespace_is_refused(document):
    with pytest.raises(DocumentError, match="namespace not expected"):
        up(document)


def test_a_default_namespace_taken_back_is_none():
    assert b"<agents>" in up(b"<host xmlns=''><power_management><address>a</address></power_management></host>").document


def test_a_nested_host_of_3_6_is_not_translated():
    inside = "<host><power_management><address>n</address></power_management></host>"
    document = power(f"<agents><agent><address>a</address><order>1</order>{inside}</agent></agents>")
    assert up(document, profile="3.6").document == document


@pytest.mark.parametrize("value", ["<address/>", "<address></address>", "<username>u</username>", "<password/>", "<options/>"])
def test_any_field_alone_makes_an_agent(value):
    """Keying on the address would lose the others; empty stays empty, in its own spelling."""
    out = up(power(value)).document
    assert f'<agents><agent type="apc">{value}<order>1</order></agent></agents>'.encode() in out


@pytest.mark.parametrize(
    "empty", ["<agents/>", "<agents />", "<agents></agents>", "<agents>\n </agents >", "<agents><!-- none --></agents>"]
)
def test_an_agent_goes_into_the_empty_list_that_is_there_and_comes_out_again(empty):
    document = power(f"<address>a</address> {empty}")
    out = up(document).document
    assert out.count(b"<agents") == 1
    assert down(out).document == document


def test_flat_beside_a_secondary_becomes_a_new_primary():
    document = power("<address>a</address><agents> <agent><address>b</address><order>2</order></agent></agents>")
    out = up(document).document
    assert out == power(
        '<agents><agent type="apc"><address>a</address><order>1</order></agent>'
        " <agent><address>b</address><order>2</order></agent></agents>"
    )


def test_in_3_6_the_smallest_order_is_the_primary():
    document = power("<username>u</username><agents><agent type='x'><address>b</address><order>2</order></agent></agents>")
    out = up(document, profile="3.6").document
    assert out == power("<agents><agent type='x'><address>b</address><username>u</username><order>2</order></agent></agents>")


def test_options_win_as_a_whole_even_when_empty():
    flat = "<options><option name='slot' value='1'/></options>"
    out = up(power(f"{flat}<agents><agent><options/><order>1</order></agent></agents>"))
    assert b"slot" not in out.document
    assert any("options" in warning for warning in out.warnings)


def test_a_primary_that_is_an_empty_tag_is_opened_for_the_flat_fields():
    out = up(power("<address>a</address><username>u</username><agents><agent type='x'/></agents>")).document
    assert out == power("<agents><agent type='x'><address>a</address><username>u</username></agent></agents>")


def test_the_agent_s_type_becomes_the_flat_type():
    agents = "<agents><agent type='x&gt;y'><address>a</address></agent></agents>"
    assert down(power(agents, head="")).document == power("<address>a</address>", head=" type='x&gt;y'")
    assert down(power(agents)).document == power("<address>a</address>", head=" type='x&gt;y'")


def test_flat_precedence_turns_the_rule_round():
    mixed = power("<address>f</address><agents><agent type='x'><address>a</address><order>1</order></agent></agents>")
    out = up(mixed, precedence="flat").document
    assert out == power('<agents><agent type="apc"><address>f</address><order>1</order></agent></agents>')


SECOND = "<agent><address>b</address><order>2</order></agent>"
LOSSES = {
    "second agent": (f"<agents><agent><address>a</address><order>1</order></agent>{SECOND}</agents>", ["agent[2]"]),
    "only a secondary": (f"<agents>{SECOND}</agents>", ["agent[1]"]),
    "order zero": ("<agents><agent><order>0</order></agent></agents>", ["agent[1]"]),
    "order three": ("<agents><agent><order>3</order></agent></agents>", ["agent[1]"]),
    "concurrent": ("<agents><agent><concurrent>1</concurrent><order>1</order></agent></agents>", ["agent[1]/concurrent"]),
    "order twice": ("<agents><agent><order>1</order></agent><agent><order> 01 </order></agent></agents>", ["agent[2]"]),
    "three agents": (f"<agents><agent/>{SECOND}<agent/></agents>", ["agent[2]", "agent[3]"]),
}


@pytest.mark.parametrize("name", LOSSES)
def test_what_flat_cannot_hold_is_refused_by_path_and_reported_when_lossy(name):
    inside, paths = LOSSES[name]
    with pytest.raises(LossRefused) as refused:
        down(power(inside))
    for path, loss in zip(paths, refused.value.losses, strict=True):
        assert loss.startswith(f"/host/power_management/agents/{path}: ")
    done = down(power(inside), lossy=True)
    assert done.losses == refused.value.losses
    assert b"agents" not in done.document


def test_everything_an_agent_of_3_6_has_beyond_flat_is_named():
    agent = (
        "<agent id='1' href='/x' type='apc'><name>n</name><link/><address>a</address><encrypt_options>false</encrypt_options>"
        "<order>4</order><port>623</port><host/></agent>"
    )
    with pytest.raises(LossRefused) as refused:
        down(power(f"<agents><total>1</total>{agent}</agents>"), profile="3.6")
    named = {loss.partition(":")[0].rpartition("/")[2] for loss in refused.value.losses}
    assert named == {"total", "@id", "@href", "name", "link", "encrypt_options", "order", "port", "host"}


def test_every_lossy_host_of_a_document_is_named():
    two = f"<agents><agent><order>1</order></agent>{SECOND}</agents>"
    document = b"<hosts>" + power(two) * 3 + b"</hosts>"
    with pytest.raises(LossRefused) as refused:
        down(document)
    assert [loss.split("/")[2] for loss in refused.value.losses] == ["host[1]", "host[2]", "host[3]"]


WARNINGS = {
    "an order outside": ("<agents><agent><order>3</order></agent></agents>", "3.2", "neither 1 nor 2"),
    "an order twice": ("<agents><agent><order>2</order></agent><agent><order>2</order></agent></agents>", "3.2", "2 times"),
    "an order missing": (f"<agents><agent/>{SECOND}</agents>", "3.2", "beside agents that have one"),
    "three without order": ("<agents><agent/><agent/><agent/></agents>", "3.2", "3 agents have no order"),
    "no order in 3.4": ("<agents><agent><address>a</address></agent></agents>", "3.4", "500"),
    "no address in 3.4": ("<username>u</username>", "3.4", "without an address"),
    "concurrent differs": (
        (
            "<agents><agent><concurrent>true</concurrent><order>1</order></agent>"
            "<agent><concurrent>false</concurrent><order>2</order></agent></agents>"
        ),
        "3.2",
        "the secondary's counts",
    ),
    "fields differ": (f"<address>f</address>{AGENT}", "3.2", "address: the flat form and the primary agent differ"),
    "types differ": ("<agents><agent type='x'><order>1</order></agent></agents>", "3.2", "type of the flat form"),
    "an option without a value": ("<options><option name='lanplus'/></options>", "3.2", "the engine skips it"),
}


@pytest.mark.parametrize("name", WARNINGS)
def test_what_an_engine_reads_differently_is_a_warning(name):
    inside, profile, message = WARNINGS[name]
    assert any(message in warning for warning in up(power(inside), profile=profile).warnings)


def test_a_password_in_an_answer_stays_and_is_a_warning():
    document = b"<host href='/h/1'><power_management><password>s3cret</password></power_management></host>"
    out = up(document)
    assert b"s3cret" in out.document
    assert len(out.warnings) == 1
    assert "s3cret" not in out.warnings[0]
    assert not up(document.replace(b" href='/h/1'", b"")).warnings


INVALID = {
    "order as stray text": (
        '<agents><agent><username>u</username>order="primary"<order>1</order></agent></agents>',
        "<order>1</order>",
    ),
    "order as an attribute": ('<agents><agent><username order="primary">u</username></agent></agents>', "<order>1</order>"),
    "user_name": ("<agents><agent><user_name>u</user_name></agent></agents>", "called username"),
    "user": ("<user>u</user>", "called username"),
    "ip": ("<ip>10.0.0.1</ip>", "called address"),
    "port": ("<agents><agent><port>623</port></agent></agents>", "option"),
    "agents at the end": ("<automatic_pm_enabled>true</automatic_pm_enabled><agents/>", "not expected"),
    "address twice": ("<address>a</address><address>b</address>", "not expected"),
    "stray text": ("<address>a</address>b", "text is not allowed"),
    "order in words": ("<agents><agent><order>primary</order></agent></agents>", "whole number"),
    "enabled in capitals": ("<enabled>TRUE</enabled>", "true, false, 1 or 0"),
    "an empty status": ("<status/>", "<state>"),
}


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_fragment_is_refused_with_help(name):
    inside, message = INVALID[name]
    with pytest.raises(DocumentError, match=message) as refused:
        up(b"<hosts>\n" + power(inside) + b"</hosts>", profile="3.4")
    assert refused.value.line == 2
    assert refused.value.path.startswith("/hosts/host[1]/power_management")


def test_no_refusal_quotes_a_value():
    secret = "hunter2"
    for inside in (
        f"<agents><agent><order>{secret}</order></agent></agents>",
        f"<options>{secret}</options>",
        f"<password>x</password>{secret}",
        f"<enabled>{secret}</enabled>",
        f"<options><option name='a' value='b' x='{secret}'/></options>",
    ):
        with pytest.raises(DocumentError) as refused:
            up(power(inside))
        assert secret not in "\n".join([*refused.value.lines(), str(refused.value.as_json())])


def test_the_design_page_s_ipmi_is_a_warning_because_it_is_schema_valid():
    assert any("ipmilan" in warning for warning in up(power("<address>a</address>", head=' type="ipmi"')).warnings)


def test_two_power_managements_in_one_host_are_refused():
    with pytest.raises(DocumentError, match="twice"):
        up(b"<host><power_management/><power_management/></host>")
    document = b"<hosts><host><power_management><address>a</address></power_management><power_management/></host></hosts>"
    with pytest.raises(DocumentError, match="twice"):
        up(document)


@pytest.mark.parametrize("how", [{"to": "tree"}, {"to": "agents", "profile": "4.0"}, {"to": "agents", "precedence": "both"}])
def test_unknown_names_are_refused(how):
    with pytest.raises(ConfigurationError):
        pmcompat.translate(b"<host/>", **how)
