"""Option strings survive every path; per-type tables are data; the port trap stays shut."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmcompat import options
from pmcompat.errors import ConfigurationError, ModelError
from pmcompat.model import Agent, Options, Secret
from pmcompat.options import Form, minimum_wait, parameters, tables_of


def agent(type_: str | None, text: str = "", **fields: object) -> Agent:
    return Agent(type=type_, address="pdu1.lab", options=Options(text), **fields)  # type: ignore[arg-type]


keys = st.text(st.characters(exclude_characters=",=\0", exclude_categories=("Cs",)), min_size=1, max_size=12)
values = st.none() | st.text(st.characters(exclude_characters=",\0", exclude_categories=("Cs",)), max_size=12)
pairs = st.lists(st.tuples(keys, values), max_size=8).map(tuple)


class TestText:
    @settings(deadline=None, max_examples=200)
    @given(pairs)
    def test_joined_pairs_are_parsed_back(self, given_pairs):
        assert options.parse(options.join(given_pairs).text) == given_pairs

    @settings(deadline=None, max_examples=200)
    @given(st.text(st.sampled_from("ab=, -_7é\n"), max_size=30))
    def test_a_text_without_empty_items_comes_back_byte_for_byte(self, text):
        again = options.join(options.parse(text)).text
        assert again == ",".join(item for item in text.split(",") if item)

    def test_flags_empty_values_and_values_with_equal_signs_are_told_apart(self):
        assert options.parse("lanplus,auth=,kg=a=b==,slot=7,slot=8") == (
            ("lanplus", None),
            ("auth", ""),
            ("kg", "a=b=="),
            ("slot", "7"),
            ("slot", "8"),
        )

    def test_blanks_are_kept_in_the_text_and_do_not_count_when_a_key_is_looked_up(self):
        text = "slot=7, lanplus , cipher=3 "
        assert options.join(options.parse(text)).text == text
        assert options.get(Options(text), "lanplus") == (" lanplus ", None)
        assert options.get(Options(text), "cipher") == (" cipher", "3 ")

    @pytest.mark.parametrize(
        ("pair", "field"),
        [
            (("snmp_priv_passwd", "tops,ecret"), "options.snmp_priv_passwd"),
            (("a,b", "x"), "options[1]"),
            (("a=b", "x"), "options[1]"),
            (("", None), "options[1]"),
            (("kg", "tops\0ecret"), "options.kg"),
        ],
    )
    def test_what_the_text_cannot_carry_is_refused_without_being_shown(self, pair, field):
        with pytest.raises(ModelError) as caught:
            options.join([pair])
        assert caught.value.field == field
        assert "ecret" not in str(caught.value)

    def test_edits_are_by_exact_key_and_never_touch_a_longer_one(self):
        """L-35: replacing text turned ``my_port=1`` into something else when ``port`` was edited."""
        before = Options("my_port=1,port=2,port_as_ip,port=3")
        assert options.set_option(before, "port", "9").text == "my_port=1,port=9,port_as_ip"
        assert options.remove(before, "port").text == "my_port=1,port_as_ip"
        assert options.remove(before, "por") is before
        assert options.with_default(before, "as_ip", "1").text == before.text + ",as_ip=1"

    @pytest.mark.parametrize("set_by_operator", ["power_wait=", "power_wait", "power-wait=0", " power_wait=9"])
    def test_a_default_never_replaces_what_the_operator_wrote(self, set_by_operator):
        assert options.with_default(Options(set_by_operator), "power_wait", "4").text == set_by_operator

    @settings(deadline=None, max_examples=100)
    @given(pairs, keys.filter(lambda key: key.strip()), values)
    def test_setting_then_getting_gives_the_value_and_leaves_the_others(self, given_pairs, key, value):
        edited = options.set_option(options.join(given_pairs), key, value)
        assert options.get(edited, key) == (key, value)
        same = options.canonical(key)
        others = [pair for pair in given_pairs if options.canonical(pair[0]) != same]
        assert [pair for pair in options.parse(edited.text) if options.canonical(pair[0]) != same] == others

    @pytest.mark.parametrize(
        "name",
        ["passwd", "password", "snmp_priv_passwd", "community", "hexadecimal_kg", "snmp-priv-passwd", "secret_key", "api_key"],
    )
    def test_secret_options_are_known(self, name):
        assert options.is_secret_option(name)

    @pytest.mark.parametrize("name", ["password_script", "slot", "identity_file", "keyboard", "privlvl", "command_prompt"])
    def test_what_only_sounds_secret_is_not(self, name):
        assert not options.is_secret_option(name)

    def test_a_masked_text_shows_neither_secrets_nor_keys_that_may_be_half_of_one(self):
        shown = options.masked(Options("slot=7,lanplus,community=hush,passwd=top,s3cret!,=x"))
        assert shown == "slot=7,lanplus,community=***,passwd=***,***,***=***"


class TestTables:
    @pytest.mark.parametrize(
        ("profile", "types"),
        [
            ("3.1", "alom,apc,bladecenter,drac5,eps,ilo,ilo3,ipmilan,rsa,rsb,wti,cisco_ucs"),
            ("3.2", "alom,apc,bladecenter,cisco_ucs,drac5,eps,ilo,ilo2,ilo3,ilo4,ipmilan,rsa,rsb,wti"),
            ("3.3", "alom,apc,bladecenter,cisco_ucs,drac5,eps,ilo,ilo2,ilo3,ilo4,ipmilan,rsa,rsb,wti"),
            ("3.4", "apc,apc_snmp,bladecenter,cisco_ucs,drac5,drac7,eps,hpblade,ilo,ilo2,ilo3,ilo4,ipmilan,rsa,rsb,wti"),
            ("3.6", "apc,apc_snmp,bladecenter,cisco_ucs,drac5,drac7,eps,hpblade,ilo,ilo2,ilo3,ilo4,ipmilan,rsa,rsb,wti"),
            (
                "newest",
                (
                    "amt_ws,apc,apc_snmp,bladecenter,cisco_ucs,drac5,drac7,eps,hpblade,"
                    "ilo,ilo2,ilo3,ilo4,ilo_ssh,ipmilan,redfish,rsa,rsb,wti"
                ),
            ),
        ],
    )
    def test_types_of_a_profile_stand_in_the_engines_order(self, profile, types):
        assert options.types(profile) == tuple(types.split(","))

    @pytest.mark.parametrize("level", options.LEVELS)
    def test_every_type_has_a_mapping_and_every_shown_option_a_type(self, level):
        """B-71, B-85, B-88: a type without mapping, an option without type."""
        tables = tables_of(level)
        assert set(tables.types) <= set(tables.mapping)
        assert {shown for mapping in tables.mapping.values() for shown in mapping} <= set(tables.option_types)

    @pytest.mark.parametrize("older", range(len(options.LEVELS) - 1))
    def test_a_type_of_one_level_is_in_every_later_one_but_alom(self, older):
        """B-86: a new type was added to the newest level only."""
        here, later = options.LEVELS[older], options.LEVELS[older + 1]
        assert set(options.types(here)) - {"alom"} <= set(options.types(later))

    def test_a_type_is_a_whole_word(self):
        assert options.is_type("ilo")
        assert options.is_type("alom")
        assert not options.is_type("alom", "3.6")
        assert [name for name in ("il", "ilo,", "ipmilan,rsa", "ILO", "", None) if options.is_type(name)] == []

    def test_an_engines_own_settings_stand_in_for_ours_and_custom_ones_are_added(self):
        tables = tables_of(
            "3.5",
            {
                "FenceAgentDefaultParams": "ilo4:power_wait=9",
                "CustomVdsFenceType": "mypdu, other",
                "CustomVdsFenceOptionMapping": "mypdu:port=ipport,slot=port;other:",
                "CustomFenceAgentMapping": "mypdu=apc",
                "CustomFenceAgentDefaultParams": "mypdu:power_wait=7,ssh;",
                "CustomFencePowerWaitParam": "other=delay",
                "FenceQuietTimeBetweenOperationsInSec": "180",
            },
        )
        mine = parameters(agent("mypdu", "port=2300,slot=4"), tables=tables)
        assert (mine.program, mine.ip_port, mine.plug, mine.driver) == ("apc", 2300, "4", "fence_agents")
        assert dict(mine.settings) == {"power_wait": "7", "ssh": None}
        assert options.is_type("mypdu", "3.5", custom=tables)
        assert [minimum_wait(agent(name), tables=tables) for name in ("mypdu", "ilo4", "ilo3")] == [7, 9, 0]
        assert minimum_wait(agent("other", "delay=3"), tables=tables) == 3
        assert tables.mapping["apc"] == tables_of("3.5").mapping["apc"]

    @pytest.mark.parametrize(
        "setting", [{"FenceAgentMapping": "ilo2"}, {"VdsFenceOptionMapping": "apc"}, {"CustomVdsFenceOptionTypes": "=bool"}]
    )
    def test_a_setting_that_cannot_be_read_is_named(self, setting):
        with pytest.raises(ConfigurationError, match=re.escape(next(iter(setting)))):
            tables_of("3.5", setting)

    def test_an_unknown_profile_is_refused(self):
        with pytest.raises(ConfigurationError):
            options.types("9.9")

    def test_hosts_of_power_architecture_have_defaults_of_their_own(self):
        """B-82, B-83."""
        assert parameters(agent("ipmilan"), ppc=True).settings["retry_on"] == "2"
        assert "retry_on" not in parameters(agent("ipmilan")).settings


class TestParameters:
    @pytest.mark.parametrize(
        ("type_", "text", "ip_port", "plug"),
        [
            ("apc", "port=2300,slot=7", 2300, "7"),
            ("apc_snmp", "port=7", None, "7"),
            ("hpblade", "port=3", None, "3"),
            ("ilo_ssh", "port=1", None, "1"),
            ("ilo", "port=4443", 4443, None),
            ("ipmilan", "port=6230", 6230, None),
            ("eps", "slot=2", None, "2"),
            ("cisco_ucs", "slot=org-root/ls-web 1", None, "org-root/ls-web 1"),
            ("apc", "port=2300,ipport=23,slot=7,plug=8", 23, "8"),
            ("apc_snmp", "port=7,ipport=161", 161, "7"),
            ("my_own", "port=7", None, "7"),
            ("apc", "slot=", None, None),
        ],
    )
    def test_port_and_slot_mean_what_the_types_table_says(self, type_, text, ip_port, plug):
        found = parameters(agent(type_, text))
        assert (found.ip_port, found.plug) == (ip_port, plug)
        assert not {"port", "slot", "plug", "ipport"} & set(found.settings), "each is sent once (L-31)"

    @pytest.mark.parametrize(
        ("type_", "text"), [("ilo4", "port=7"), ("ilo3", "slot=1"), ("rsb", "port=3172"), ("eps", "port=80")]
    )
    def test_a_port_that_means_nothing_for_the_type_is_refused_not_dropped(self, type_, text):
        with pytest.raises(ModelError) as caught:
            parameters(agent(type_, text))
        assert caught.value.field == "options." + text.partition("=")[0]

    def test_the_column_is_the_network_port_unless_an_option_says_otherwise(self):
        assert parameters(agent("apc", "slot=7", ip_port=2300)).ip_port == 2300
        assert parameters(agent("apc", "slot=7,port=24", ip_port=2300)).ip_port == 24
        assert parameters(agent("apc_snmp", "port=7", ip_port=1161)).ip_port == 1161

    @pytest.mark.parametrize("text", ["ipport=0", "ipport=65536", "ipport=x", "ipport=-1", "ipport=٣", "port=1e3"])
    def test_an_impossible_network_port_is_refused_and_not_shown(self, text):
        with pytest.raises(ModelError) as caught:
            parameters(agent("apc", text))
        assert caught.value.field == "options." + text.partition("=")[0]

    @pytest.mark.parametrize(
        ("type_", "driver", "program"),
        [
            ("ipmilan", "ipmi", "ipmilan"),
            ("ilo3", "ipmi", "ilo3"),
            ("ilo4", "ipmi", "ilo4"),
            ("drac7", "ipmi", "ipmilan"),
            ("ilo2", "fence_agents", "ilo"),
            ("apc", "fence_agents", "apc"),
            ("dummy", "fence_agents", "dummy"),
        ],
    )
    def test_ipmi_types_go_to_the_native_driver_and_the_rest_to_their_program(self, type_, driver, program):
        found = parameters(agent(type_))
        assert (found.driver, found.program) == (driver, program)

    def test_the_option_driver_chooses_and_is_not_sent(self):
        found = parameters(agent("ipmilan", "driver=fence_agents,cipher=3"))
        assert (found.driver, dict(found.settings)) == ("fence_agents", {"cipher": "3"})
        with pytest.raises(ModelError):
            parameters(agent("ipmilan", "driver=telepathy"))

    def test_defaults_are_of_the_displayed_type_and_added_by_exact_key(self):
        """3.2 looked them up by the name behind the alias; B-84."""
        assert dict(parameters(agent("drac7", "delay=3")).settings) == {"delay": "3", "privlvl": "OPERATOR", "lanplus": "1"}
        assert dict(parameters(agent("ilo4", "power_wait=1")).settings) == {"power_wait": "1"}
        assert dict(parameters(agent("ilo3"), level="3.2").settings) == {"lanplus": None, "power_wait": "4"}

    @pytest.mark.parametrize("text", ["action=reboot", "option=status", "slot=7, action = off"])
    def test_the_action_is_never_an_option(self, text):
        with pytest.raises(ModelError):
            parameters(agent("apc", text))

    def test_identity_in_options_fills_blank_fields_and_may_not_contradict(self):
        filled = parameters(agent("apc", "login=root,passwd=top", username=""))
        assert (filled.username, filled.password and filled.password.reveal(), dict(filled.settings)) == ("root", "top", {})
        assert parameters(agent("apc", "ipaddr=pdu1.lab")).address == "pdu1.lab"
        with pytest.raises(ModelError) as caught:
            parameters(agent("apc", "passwd=hush-hush", password=Secret("other")))
        assert "hush" not in str(caught.value)

    @pytest.mark.parametrize(
        ("type_", "text", "secure", "name"),
        [
            ("apc", "secure=TRUE", True, "ssh"),
            ("ilo", "secure", True, "ssl"),
            ("cisco_ucs", "secure=false", False, "ssl"),
            ("ilo_ssh", "", True, "ssh"),
            ("apc", "secure=1,ssh=0", None, "ssh"),
            ("apc", "", None, "ssh"),
        ],
    )
    def test_secure_is_sent_under_the_name_of_the_type(self, type_, text, secure, name):
        found = parameters(agent(type_, text))
        assert (found.secure, found.secure_name) == (secure, name)

    @pytest.mark.parametrize("type_", [None, "", "Apc", "../apc", "apc;reboot", "apc\n", "apc snmp"])
    def test_a_type_that_is_no_program_name_is_refused(self, type_):
        with pytest.raises(ModelError) as caught:
            parameters(agent(type_))
        assert caught.value.field == "type"

    def test_no_option_value_is_shown_by_repr(self):
        shown = repr(parameters(agent("apc", "snmp_priv_passwd=hush,kg=hush", password=Secret("hush"))))
        assert "hush" not in shown


class TestMinimumWait:
    @pytest.mark.parametrize(
        ("type_", "text", "seconds"),
        [
            ("ilo3", "", 4),
            ("ilo4", "", 4),
            ("drac7", "", 10),
            ("drac7", "power_wait=2", 2),
            ("ilo4", "power_wait=0", 0),
            ("ilo4", "power-wait=2.5", 2.5),
            ("eps", "delay=3", 3),
            ("eps", "power_wait=3", 0),
            ("apc", "delay=3", 0),
            ("ipmilan", "", 0),
            ("bladecenter", "", 0),
            (None, "", 0),
        ],
    )
    def test_the_option_wins_then_the_types_default_then_nothing(self, type_, text, seconds):
        """B-46, L-32; the defaults of a program's metadata (ipmilan 2, bladecenter 10) are not used."""
        assert minimum_wait(agent(type_, text)) == seconds

    @pytest.mark.parametrize("value", ["x", "", "-1", "nan", "inf", "1e9", "4s"])
    def test_what_is_no_number_of_seconds_is_refused(self, value):
        with pytest.raises(ModelError) as caught:
            minimum_wait(agent("apc", f"power_wait={value}"))
        assert caught.value.field == "options.power_wait"

    def test_the_names_the_flow_waits_for_are_told_to_the_driver(self):
        assert parameters(agent("apc", "delay=3")).awaited == {"power_wait"}
        assert parameters(agent("eps", "delay=3")).awaited == {"power_wait", "delay"}
        assert parameters(agent("drac7")).awaited == {"power_wait", "delay"}
        assert parameters(agent("drac7", "delay=3")).awaited == {"power_wait"}


class TestForm:
    @pytest.mark.parametrize(
        ("type_", "fields"),
        [
            ("apc", {"port": "ipport", "slot": "plug", "secure": "ssh"}),
            ("apc_snmp", {"port": "plug"}),
            ("ilo", {"port": "ipport", "secure": "ssl"}),
            ("ipmilan", {"port": "ipport"}),
            ("ilo4", {}),
        ],
    )
    def test_each_type_shows_its_own_fields(self, type_, fields):
        assert dict(options.shown_fields(type_)) == fields

    @pytest.mark.parametrize("type_", options.types())
    def test_keys_go_to_the_agents_names_and_back(self, type_):
        shown = (*tuple((name, "1") for name in options.shown_fields(type_)), ("lanplus", None), ("x", ""))
        assert options.to_shown_keys(options.to_agent_keys(shown, type_), type_) == shown

    def test_fields_are_taken_out_of_the_stored_options_and_written_back(self):
        form = options.read_form(Options("lanplus,slot=7,secure=TRUE,port=23,cmd=a=b"), "apc")
        assert form == Form(port="23", slot="7", secure=True, options=Options("lanplus,cmd=a=b"))
        assert options.write_form(form, "apc").text == "port=23,slot=7,secure=true,lanplus,cmd=a=b"

    def test_secure_is_written_wherever_it_is_shown_and_nowhere_else(self):
        assert options.write_form(options.read_form(None, "apc"), "apc").text == "secure=false"
        assert options.write_form(options.read_form(Options("x"), "ilo4"), "ilo4").text == "x"

    def test_what_a_type_does_not_show_stays_among_the_free_options(self):
        assert options.read_form(Options("slot=7"), "ilo").options.text == "slot=7"
        with pytest.raises(ModelError):
            options.write_form(Form(slot="7"), "ilo")
