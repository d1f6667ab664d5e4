"""What an agent's settings mean to IPMI."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmcompat.fence.drivers.ipmi_door import SUITES, Door, door_of
from pmcompat.fence.drivers.ipmi_wire import decode_order, encode, from_the_wire, on_the_wire
from pmcompat.model import Agent, AgentFault, FaultKind, Options, Secret

AGENT = Agent(type="ipmilan", address="bmc.lab", username="admin", password=Secret("pw"))


def door(options: str = "", **changes: object) -> Door | AgentFault:
    return door_of(replace(AGENT, options=Options(options), **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "changes", "expected"),
    [
        ("", {}, Door(host="bmc.lab", username="admin", password=Secret("pw"))),
        ("", {"ip_port": 6230}, Door(host="bmc.lab", port=6230, username="admin", password=Secret("pw"))),
        ("ipport=6231", {"ip_port": 6230}, Door(host="bmc.lab", port=6231, username="admin", password=Secret("pw"))),
        ("lanplus,cipher=3", {}, Door(host="bmc.lab", username="admin", password=Secret("pw"), suite=3)),
        ("lanplus=1,cipher=03", {}, Door(host="bmc.lab", username="admin", password=Secret("pw"), suite=3)),
        ("lanplus=1,cipher=17", {}, Door(host="bmc.lab", username="admin", password=Secret("pw"), suite=17)),
        ("privlvl=OPERATOR", {}, Door(host="bmc.lab", username="admin", password=Secret("pw"), privilege=3)),
        ("privlvl=administrator", {}, Door(host="bmc.lab", username="admin", password=Secret("pw"), privilege=4)),
        ("hexadecimal_kg=0xAB01", {}, Door(host="bmc.lab", username="admin", password=Secret("pw"), kg=Secret("ab01"))),
        ("login_timeout=2.5", {}, Door(host="bmc.lab", username="admin", password=Secret("pw"), connect_timeout=2.5)),
        ("", {"username": None, "password": None}, Door(host="bmc.lab")),
        ("", {"address": "[fe80::1]"}, Door(host="fe80::1", username="admin", password=Secret("pw"))),
        ("", {"type": "ilo4"}, Door(host="bmc.lab", username="admin", password=Secret("pw"))),
        ("", {"type": "drac7"}, Door(host="bmc.lab", username="admin", password=Secret("pw"), privilege=3)),
    ],
)
def test_options_of_the_agent_are_what_fence_agents_means_by_them(
    options: str, changes: dict[str, object], expected: Door
) -> None:
    assert door(options, **changes) == expected


@pytest.mark.parametrize(
    ("options", "changes", "kind", "word"),
    [
        ("cipher=1", {}, FaultKind.UNSUPPORTED, "suite 1"),
        ("cipher=three", {}, FaultKind.UNSUPPORTED, "suite"),
        ("privlvl=god", {}, FaultKind.UNSUPPORTED, "privlvl"),
        ("hexadecimal_kg=0xZZ", {}, FaultKind.UNSUPPORTED, "hexadecimal_kg"),
        ("login_timeout=-1", {}, FaultKind.UNSUPPORTED, "login_timeout"),
        ("login_timeout=nan", {}, FaultKind.UNSUPPORTED, "login_timeout"),
        ("ipport=70000", {}, FaultKind.UNSUPPORTED, "ipport"),
        ("target=0x72", {}, FaultKind.UNSUPPORTED, "target"),
        ("", {"address": "bmc\nlab"}, FaultKind.UNSUPPORTED, "address"),
        ("", {"username": "\ud800"}, FaultKind.REFUSED, "username"),
        ("", {"address": None}, FaultKind.UNSUPPORTED, "address"),
        ("", {"username": "seventeen-letters"}, FaultKind.REFUSED, "username"),
        ("", {"password": Secret("twenty-one-characters")}, FaultKind.REFUSED, "password"),
    ],
)
def test_what_cannot_be_is_a_fault_that_names_it(options: str, changes: dict[str, object], kind: FaultKind, word: str) -> None:
    answer = door(options, **changes)
    assert isinstance(answer, AgentFault)
    assert (answer.kind, answer.sent) == (kind, False)
    assert word in answer.message
    assert "twenty-one" not in answer.message


@settings(deadline=None, max_examples=100)
@given(
    host=st.text(min_size=1, max_size=40),
    port=st.integers(1, 65535),
    username=st.text(max_size=16),
    password=st.text(max_size=20),
    kg=st.none() | st.binary(min_size=1, max_size=20).map(bytes.hex).map(Secret),
    suite=st.sampled_from([None, *SUITES]),
    privilege=st.sampled_from([None, 1, 2, 3, 4]),
)
def test_a_door_comes_out_of_the_wire_as_it_went_in(
    host: str, port: int, username: str, password: str, kg: Secret | None, suite: int | None, privilege: int | None
) -> None:
    there = Door(host=host, port=port, username=username, password=Secret(password), kg=kg, suite=suite, privilege=privilege)
    order = decode_order(encode({"do": "status", "door": on_the_wire(there, host)}))
    assert from_the_wire(order["door"]) == there


def test_a_door_shows_no_secret() -> None:
    there = Door(host="::1", port=6230, password=Secret("s3cr3t"), kg=Secret("beef"))
    assert repr(there) == "Door([::1]:6230)"
    assert "s3cr3t" not in f"{there!r} {there!s} {there.name}"
