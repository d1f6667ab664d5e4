"""Documents over hosts and hosts as documents: absent keeps, empty clears, agents win, nothing vanishes silently."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pmcompat.documents.reading import read_hosts
from pmcompat.documents.values import AgentElement, HostElement, PowerManagementElement
from pmcompat.documents.writing import write_hosts
from pmcompat.errors import ConfigurationError, ModelError
from pmcompat.mapping import Laid, changes, lay, to_element, unsaid
from pmcompat.model import Agent, Host, Options, PowerManagement, Secret

CLUSTER = uuid4()
PROFILES = ("3.2", "3.3", "3.4", "3.5", "3.6")
ONE = Agent(type="ipmilan", address="bmc", username="adm", password=Secret("p1"), options=Options("lanplus,cipher=3"))
TWO = Agent(type="apc", address="pdu", username="op", password=Secret("p2"), options=Options("slot=7"), order=2)
STORED = Host(
    id=uuid4(), name="n", address="n.lab", cluster_id=CLUSTER, spm_priority=3,
    power_management=PowerManagement(enabled=True, agents=(ONE, TWO), concurrent=True, proxy_preferences="dc,cluster"),
)  # fmt: skip


def said(*agents: AgentElement, flat: AgentElement | None = None, **settings: object) -> HostElement:
    pm = PowerManagementElement(flat=flat or AgentElement(), agents=agents or None, **settings)
    return HostElement(name="n", address=None, power_management=pm)


def laid(element: HostElement, stored: Host | None = STORED, *, profile: str = "3.2", semantics: str = "keep") -> Laid:
    return lay(element, stored, profile=profile, cluster_id=CLUSTER, new_id=uuid4(), semantics=semantics)


def document(host: Host, *, form: str = "agents", profile: str = "3.2") -> bytes:
    return b"".join(write_hosts([to_element(host, profile=profile)], form=form, profile=profile, single=True))


def test_a_document_that_mentions_nothing_changes_nothing():
    for element in (HostElement(name="n"), said(), said(enabled=True)):
        assert laid(element).host == STORED


@pytest.mark.parametrize("profile", ["3.1", *PROFILES])
def test_sending_only_enabled_false_keeps_the_agents_in_every_profile(profile):
    """L-09, law X9."""
    pm = laid(said(enabled=False), profile=profile).host.power_management
    assert pm == replace(STORED.power_management, enabled=False)


@pytest.mark.parametrize(
    ("element", "field", "value"),
    [
        (AgentElement(username="x"), "username", "x"),
        (AgentElement(username=""), "username", ""),
        (AgentElement(password=Secret("")), "password", Secret("")),
        (AgentElement(password=Secret("new")), "password", Secret("new")),
        (AgentElement(options=()), "options", Options("")),
        (AgentElement(options=(("port", "1"), ("lanplus", None), ("v", ""))), "options", Options("port=1,lanplus,v=")),
        (AgentElement(type="drac5"), "type", "drac5"),
        (AgentElement(address="else"), "address", "else"),
    ],
)
@pytest.mark.parametrize("form", ["flat", "agents"])
def test_one_field_that_is_mentioned_is_the_only_one_that_changes(element, field, value, form):
    given_ = said(flat=element) if form == "flat" else said(element._replace(order=1))
    pm = laid(given_).host.power_management
    assert pm.primary == replace(ONE, **{field: value})
    assert pm.secondary == TWO


def test_agents_win_over_flat_field_by_field_and_options_as_a_whole():
    flat = AgentElement(type="apc", address="flat", username="flat", password=Secret("flat"), options=(("a", "1"),))
    pm = laid(said(AgentElement(address="agent", options=(), order=1), flat=flat)).host.power_management
    assert pm.primary == Agent(type="apc", address="agent", username="flat", password=Secret("flat"), options=Options(""))


def test_flat_beside_a_lone_secondary_is_the_primary():
    pm = laid(said(AgentElement(username="s", order=2), flat=AgentElement(address="f"))).host.power_management
    assert (pm.primary.address, pm.secondary.username) == ("f", "s")


def test_the_password_that_is_stored_already_stays_the_stored_one():
    assert laid(said(AgentElement(password=Secret("p1"), order=1))).host.power_management.primary.password is ONE.password


def test_a_flat_value_that_was_changed_while_the_agents_win_is_reported():
    """B-90: the change was ignored silently."""
    agent = AgentElement(address="bmc", order=1)
    assert laid(said(agent, flat=AgentElement(address="bmc"))).notes == ()
    notes = laid(said(agent, flat=AgentElement(address="new", password=Secret("hush")))).notes
    assert len(notes) == 1
    assert "flat address" in notes[0]
    both = laid(said(agent._replace(password=Secret("a")), flat=AgentElement(password=Secret("hush")))).notes
    assert len(both) == 1
    assert "hush" not in both[0]


def test_an_emptied_secondary_address_removes_the_secondary():
    result = laid(said(AgentElement(address="", order=2)))
    assert result.host.power_management.agents == (ONE,)
    assert not result.host.power_management.concurrent
    assert result.cleared == ("secondary",)


def test_an_empty_agents_block_removes_all_agents_of_what_is_off_and_none_of_what_is_on():
    """B-97: the last agent cannot be removed while power management is on."""
    empty = HostElement(name="n", power_management=PowerManagementElement(agents=(), enabled=False))
    assert laid(empty).host.power_management.agents == ()
    with pytest.raises(ModelError) as caught:
        laid(HostElement(name="n", power_management=PowerManagementElement(agents=())))
    assert caught.value.field == "power_management.agents"
    beside_flat = PowerManagementElement(agents=(), flat=AgentElement(username="x"))
    assert laid(HostElement(name="n", power_management=beside_flat)).host.power_management.secondary == TWO


@pytest.mark.parametrize("orders", [(1, 1), (2, 2), (0,), (3,), (1, 3), (2, None), (None, 1), (-1, 1)])
@pytest.mark.parametrize("profile", ["3.2", "3.3", "3.4", "3.5"])
def test_orders_that_an_engine_reads_in_a_surprising_way_are_refused(orders, profile):
    """L-07: nothing vanishes: keep it or refuse with a reason."""
    with pytest.raises(ModelError) as caught:
        laid(said(*(AgentElement(address=f"a{i}", order=order) for i, order in enumerate(orders))), profile=profile)
    assert caught.value.field == "power_management.agents.order"


def test_a_third_agent_is_refused_in_every_profile():
    several = [AgentElement(address=f"a{n}", order=n) for n in (1, 2, 3)]
    for profile in PROFILES:
        with pytest.raises(ModelError, match="two"):
            laid(said(*several), profile=profile)


def test_agents_without_order_are_primary_and_secondary():
    pm = laid(said(AgentElement(address="x"), AgentElement(address="y"))).host.power_management
    assert (pm.primary.address, pm.secondary.address) == ("x", "y")
    mixed = laid(said(AgentElement(address="x", order=1), AgentElement(address="y")))
    assert (mixed.host.power_management.secondary.address, len(mixed.notes)) == ("y", 1)


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        (None, True, True),
        (True, False, False),
        (False, True, True),
        (None, None, True),
        (True, None, True),
        (None, False, False),
    ],
)
def test_the_secondarys_concurrent_counts_and_absent_keeps(one, two, expected):
    agents = (AgentElement(concurrent=one, order=1), AgentElement(concurrent=two, order=2))
    assert laid(said(*agents)).host.power_management.concurrent is expected


@pytest.mark.parametrize(("orders", "expected"), [((1, 1), True), ((1, 2), False), ((4, 9), False), ((7, 7), True)])
def test_in_3_6_equal_orders_mean_concurrent(orders, expected):
    agents = [AgentElement(address=f"a{i}", concurrent=not expected, order=order) for i, order in enumerate(orders)]
    pm = laid(said(*agents), profile="3.6").host.power_management
    assert (pm.primary.address, pm.secondary.address, pm.concurrent) == ("a0", "a1", expected)


@pytest.mark.parametrize("flat", [None, AgentElement(address="pdu-new")])
def test_in_3_6_a_lone_agent_of_order_2_is_the_second_one_that_is_stored(flat):
    """It overwrote the primary, device and all."""
    element = said(AgentElement(type="apc", address="pdu-new", order=2), flat=flat)
    pm = laid(element, profile="3.6").host.power_management
    assert pm.agents == (ONE, replace(TWO, address="pdu-new"))
    assert pm.concurrent
    fresh = laid(element._replace(address="n.lab"), None, profile="3.6").host.power_management
    assert [agent.order for agent in fresh.agents] == [1]
    released = laid(element, profile="3.6", semantics="profile").host.power_management
    assert released.primary.address == "pdu-new"


@pytest.mark.parametrize("stored", ["cluster,,dc ", ",", "dc,"])
def test_odd_stored_proxy_preferences_come_back_from_an_export_as_they_are(stored):
    host = replace(STORED, power_management=replace(STORED.power_management, proxy_preferences=stored))
    (element,) = read_hosts(document(host), profile="3.2")
    assert laid(element, host).host == host


def test_in_3_6_the_port_is_the_network_port():
    pm = laid(said(AgentElement(port=2023, order=1)), profile="3.6").host.power_management
    assert pm.primary == replace(ONE, ip_port=2023)


def test_what_has_no_column_is_noted():
    notes = laid(said(AgentElement(encrypt_options=True, order=1), kdump_detection=True), profile="3.6").notes
    assert [note.split()[0] for note in notes] == ["kdump_detection", "encrypt_options"]


@pytest.mark.parametrize(
    ("profile", "element", "left"),
    [
        ("3.5", said(enabled=False), ()),
        ("3.5", said(flat=AgentElement(address="x")), (1, 2)),
        ("3.5", said(AgentElement(username="x", order=1)), (1,)),
        ("3.5", said(AgentElement(username="x", order=2)), (1, 2)),
        ("3.6", said(enabled=False), ()),
        ("3.6", said(AgentElement(username="x", order=1)), ()),
        ("3.6", said(AgentElement(address="x", order=1)), (1, 2)),
        ("3.2", said(enabled=False), (1, 2)),
        ("3.4", said(AgentElement(username="x", order=1)), (1, 2)),
    ],
)
def test_semantics_profile_clears_what_that_release_cleared_and_lists_it(profile, element, left):
    result = laid(element, profile=profile, semantics="profile")
    assert tuple(agent.order for agent in result.host.power_management.agents) == left
    assert len(result.cleared) == 2 - len(left)
    assert len(laid(element, profile=profile).host.power_management.agents) == 2


def test_unknown_semantics_are_refused():
    with pytest.raises(ConfigurationError):
        laid(said(), semantics="guess")


def test_a_new_host_needs_name_and_address():
    for element in (HostElement(name="n"), HostElement(address="a"), HostElement(name="", address="a")):
        with pytest.raises(ModelError) as caught:
            laid(element, None)
        assert caught.value.field in {"name", "address"}


def test_a_document_holds_no_password_and_no_secret_option():
    """Law X9; B-96."""
    agent = replace(ONE, password=Secret("hush1"), options=Options("lanplus,snmp_priv_passwd=hush2"))
    host = replace(
        STORED, power_management=replace(STORED.power_management, agents=(agent, replace(TWO, password=Secret("hush3"))))
    )
    for profile in PROFILES:
        for form in ("agents", "dual"):
            text = document(host, form=form, profile=profile)
            assert b"hush" not in text
            assert b"password" not in text
            assert b"lanplus" in text
        assert any("snmp_priv_passwd" in line for line in unsaid(host, profile=profile))


@pytest.mark.parametrize(
    "options", ["snmp_priv_passwd=x,slot=7", "slot=7,snmp_priv_passwd=x", "snmp_priv_passwd=x", ",,slot=7,", ""]
)
def test_importing_an_export_keeps_secret_options_and_the_text_itself(options):
    host = replace(
        STORED, power_management=replace(STORED.power_management, agents=(replace(ONE, options=Options(options)), TWO))
    )
    (element,) = read_hosts(document(host), profile="3.2")
    assert laid(element, host).host == host


def test_a_secret_option_is_replaced_emptied_or_removed_only_when_mentioned():
    host = replace(
        STORED,
        power_management=replace(STORED.power_management, agents=(replace(ONE, options=Options("snmp_priv_passwd=x,slot=7")),)),
    )

    def after(*options):
        return laid(said(AgentElement(options=options, order=1)), host).host.power_management.primary.options.text

    assert after(("slot", "8")) == "slot=8,snmp_priv_passwd=x"
    assert after(("snmp_priv_passwd", "y"), ("slot", "8")) == "snmp_priv_passwd=y,slot=8"
    assert after(("snmp_priv_passwd", "")) == "snmp_priv_passwd="
    assert after() == ""


def test_changes_are_listed_with_secrets_masked():
    new = replace(ONE, password=Secret("hush"), options=Options("snmp_priv_passwd=hush,a=1"), address="else")
    after = replace(STORED, name="m", power_management=PowerManagement(enabled=True, agents=(new,)))
    lines = [str(change) for change in changes(STORED, after)]
    assert "name: n -> m" in lines
    assert "primary.address: bmc -> else" in lines
    assert "primary.password: *** -> ***" in lines
    assert "secondary.address: pdu -> -" in lines
    assert not any("hush" in line or "p1" in line for line in lines)
    assert changes(STORED, STORED) == ()
    assert any(line.startswith("primary.password: - -> ***") for line in map(str, changes(None, after)))


# ---------------------------------------------------------------------- any host, any profile

WORDS = st.text("abc <&>\"'é=\t", max_size=6)
OPTIONS = st.lists(
    st.tuples(st.sampled_from(["slot", "port", "lanplus", "x"]), st.none() | st.text("ab=1 ", max_size=3)), max_size=3
)


def agent(order: int) -> st.SearchStrategy[Agent]:
    text = OPTIONS.map(lambda pairs: Options(",".join(key if value is None else f"{key}={value}" for key, value in pairs)))
    return st.builds(
        Agent, type=st.none() | st.sampled_from(["apc", "ipmilan"]), address=WORDS.filter(bool), username=st.none() | WORDS,
        password=st.none() | WORDS.map(Secret), ip_port=st.none() | st.integers(1, 65535), options=text, order=st.just(order),
    )  # fmt: skip


HOSTS = st.builds(
    PowerManagement,
    enabled=st.booleans(),
    agents=st.tuples(agent(1)) | st.tuples(agent(1), agent(2)) | st.tuples(agent(2)) | st.just(()),
    concurrent=st.booleans(),
    proxy_preferences=st.none() | st.sampled_from(["", "dc", "cluster,dc", "cluster,,dc ", ","]),
).map(lambda pm: replace(STORED, power_management=replace(pm, concurrent=pm.concurrent and len(pm.agents) == 2)))


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("form", ["agents", "dual"])
@given(host=HOSTS)
def test_importing_an_export_over_the_same_host_changes_nothing(profile, form, host):
    """Rows → document → rows, law X9: what a document cannot say, passwords first of all, stays."""
    (element,) = read_hosts(document(host, form=form, profile=profile), profile=profile)
    result = laid(element, host, profile=profile)
    assert result.host == host
    assert result.notes == ()


@pytest.mark.parametrize("profile", PROFILES)
@given(host=HOSTS)
def test_a_document_laid_over_nothing_says_the_same_again(profile, host):
    """Document → rows → document; a lone agent of order 2 is the primary of a new host in 3.6 (api facts §6)."""
    assume(profile != "3.6" or host.power_management.primary or not host.power_management.agents)
    host = replace(host, power_management=replace(host.power_management, proxy_preferences="dc,cluster"))
    text = document(host, profile=profile)
    (element,) = read_hosts(text, profile=profile)
    fresh = laid(element, None, profile=profile).host
    assert document(replace(fresh, id=host.id), profile=profile) == text


@given(host=HOSTS.filter(lambda host: host.power_management.secondary is None), profile=st.sampled_from(["3.1", *PROFILES]))
def test_the_flat_form_of_one_agent_changes_nothing_either(host, profile):
    if profile == "3.6" and host.power_management.agents:
        plain = replace(host.power_management.agents[0], ip_port=None)
        host = replace(host, power_management=replace(host.power_management, agents=(plain,)))
    (element,) = read_hosts(document(host, form="flat", profile=profile), profile=profile)
    assert laid(element, host, profile=profile).host == host


@pytest.mark.parametrize("lost", ["password", "options", "secondary", "concurrent", "order"])
def test_an_export_that_loses_something_is_found(lost):
    """Mutants: each must break the round trip over the stored host or over nothing."""
    element = to_element(STORED, profile="3.2")
    one, two = element.power_management.agents
    changed = {
        "password": (one._replace(password=Secret("")), two),
        "options": (one._replace(options=()), two),
        "secondary": (one, two._replace(address="", username="", options=())),
        "concurrent": (one, two._replace(concurrent=False)),
        "order": (one._replace(order=2), two._replace(order=1)),
    }[lost]
    mutant = element._replace(power_management=element.power_management._replace(agents=changed))
    assert laid(element).host == STORED
    assert laid(mutant).host != STORED
