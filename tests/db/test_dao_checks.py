"""What is refused before the database sees it, with the field named and no secret quoted."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmcompat.db.dao_checks import Limits, check
from pmcompat.db.rows import NAMES, SEVEN, Shape, values_of
from pmcompat.errors import ModelError, SchemaError
from pmcompat.model import Agent, Host, Options, PowerManagement
from pmcompat.options import types

WIDTHS = {
    "vds_name": 255,
    "ip": 255,
    "pm_type": 20,
    "pm_user": 50,
    "pm_options": 4000,
    "pm_secondary_user": 50,
    "pm_secondary_options": 4000,
}
UPGRADED = Shape(schema="public", columns=frozenset(NAMES), view_columns=frozenset(NAMES), widths=WIDTHS, procedures={})
BEFORE = replace(UPGRADED, columns=frozenset(NAMES) - set(SEVEN))
ONE = Agent(type="ipmilan", address="bmc", username="admin")
TWO = Agent(type="apc", address="pdu", username="admin", order=2)


def row(*agents: Agent, **settings: object):
    pm = PowerManagement(agents=agents, **settings)
    return values_of(Host(id=uuid4(), name="h", address="h.lab", cluster_id=uuid4(), power_management=pm), None)


def refused(values, shape=UPGRADED) -> str:
    with pytest.raises(ModelError) as caught:
        check(values, shape)
    assert "hush" not in str(caught.value)
    return caught.value.field


def test_a_usual_pair_passes():
    check(row(ONE, TWO, enabled=True, concurrent=True, proxy_preferences="cluster,other_dc"), UPGRADED)


@pytest.mark.parametrize("type_", types())
def test_every_type_of_every_release_passes(type_):
    check(row(replace(ONE, type=type_)), UPGRADED)


@pytest.mark.parametrize(
    ("agent", "field"),
    [
        (replace(ONE, ip_port=0), "primary.ip_port"),
        (replace(ONE, ip_port=65536), "primary.ip_port"),
        (replace(ONE, ip_port=2**40), "primary.ip_port"),
        (replace(ONE, ip_port=True), "primary.ip_port"),
        (replace(ONE, type="telepathy"), "primary.type"),
        (replace(ONE, address="a" * 256), "primary.address"),
        (replace(ONE, username="u" * 51), "primary.username"),
        (replace(ONE, options=Options("hush" * 1001)), "primary.options"),
        (replace(ONE, address="a\0b"), "primary.address"),
        (replace(ONE, address="\ud800"), "primary.address"),
        (replace(TWO, ip_port=-1), "secondary.ip_port"),
        (replace(TWO, type="telepathy"), "secondary.type"),
        (replace(TWO, type=None), "secondary.type"),
        (replace(TWO, type=""), "secondary.type"),
        (replace(TWO, address=None), "secondary.address"),
        (replace(TWO, address=""), "secondary.address"),
        (Agent(options=Options("slot=1"), order=2), "secondary.address"),
        (Agent(ip_port=1, order=2), "secondary.address"),
    ],
)
def test_an_agent_that_cannot_be_names_its_field(agent, field):
    assert refused(row(agent)) == field


def test_a_secondary_agent_of_which_nothing_is_set_passes():
    check(row(ONE, Agent(type="", address="", username="", order=2)), UPGRADED)


def test_enabled_without_any_address_is_refused():
    assert refused(row(enabled=True)) == "primary.address"
    assert refused(row(replace(ONE, address=""), enabled=True)) == "primary.address"
    check(row(TWO, enabled=True), UPGRADED)


def test_an_unknown_proxy_preference_is_refused():
    """B-132: only cluster, dc and other_dc."""
    assert refused(row(proxy_preferences="cluster,moon")) == "power_management.proxy_preferences"


def test_a_secondary_agent_before_the_upgrade_says_what_to_do():
    check(row(ONE), BEFORE)
    with pytest.raises(SchemaError, match="db upgrade"):
        check(row(ONE, TWO), BEFORE)
    with pytest.raises(SchemaError, match="db upgrade"):
        check(row(ONE, concurrent=True), BEFORE)


def test_what_was_stored_already_is_not_looked_at_again():
    odd = row(replace(ONE, ip_port=0, type="relic"), replace(TWO, address=""))
    check(odd, UPGRADED, was=odd)
    with pytest.raises(ModelError):
        check(row(replace(ONE, ip_port=-5, type="relic"), replace(TWO, address="")), UPGRADED, was=odd)


@pytest.mark.parametrize("count", [3, 4])
def test_a_third_agent_is_an_error_that_says_so(count):
    several = [replace(ONE, order=n, address=f"a{n}") for n in range(1, count + 1)]
    with pytest.raises(ModelError, match=f"{count} agents, and the database can hold two") as caught:
        row(*several)
    assert caught.value.field == "power_management.agents"


def test_orders_that_the_columns_cannot_hold_are_refused():
    for orders in ((1, 1), (2, 2), (0,), (3,)):
        with pytest.raises(ModelError) as caught:
            row(*(replace(ONE, order=order) for order in orders))
        assert caught.value.field == "power_management.agents.order"


CELLS = {
    "vds_name": st.sampled_from(["n", "", None, "x" * 256, "é", "\0"]),
    "host_name": st.sampled_from(["h", "", None]),
    "port": st.sampled_from([54321, 0, None, True, 65536]),
    "vds_strength": st.sampled_from([100, None, 2**31]),
    "vds_spm_priority": st.sampled_from([None, 5, -1, 11]),
    "ip": st.sampled_from([None, "", "bmc", "a" * 256]),
    "pm_type": st.sampled_from([None, "", "apc", "nonsense"]),
    "pm_port": st.sampled_from([None, 23, 0, 2**40]),
    "pm_enabled": st.booleans(),
    "pm_proxy_preferences": st.sampled_from([None, "", "dc", "moon", "other_dc,dc"]),
    "pm_secondary_ip": st.sampled_from([None, "", "pdu"]),
    "pm_secondary_type": st.sampled_from([None, "", "apc", "nonsense"]),
    "pm_secondary_port": st.sampled_from([None, 23, -1]),
    "pm_secondary_options": st.sampled_from([None, "", "slot=1"]),
    "pm_secondary_concurrent": st.sampled_from([None, False, True]),
}


@pytest.mark.parametrize("shape", [UPGRADED, BEFORE, replace(BEFORE, columns=BEFORE.columns - {"pm_proxy_preferences"})])
@settings(max_examples=400)
@given(cells=st.fixed_dictionaries(CELLS))
def test_what_the_quick_look_allows_the_full_check_accepts(shape, cells):
    values = tuple(cells.get(name, value) for name, value in zip(NAMES, row(ONE), strict=True))
    if Limits(shape).allow(values):
        check(values, shape)


def test_the_quick_look_allows_what_is_usual():
    assert Limits(UPGRADED).allow(row(ONE, TWO, enabled=True, proxy_preferences="cluster,dc"))
    assert Limits(BEFORE).allow(row(ONE))
