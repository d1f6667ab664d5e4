"""The flow's properties over every order of replies and every lost, late, ignored and wrong one, and the mutants they kill."""

from __future__ import annotations

import random
from typing import Any

import laws
import plugs as world
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmcompat.model import Operation

HOUSE = world.load()


def played(house: Any, case: dict[str, Any], **more: Any) -> world.Record:
    return world.play(house, case["operation"], case["shape"], case["plugs"], case["patience"], stamped=case["stamped"], **more)


@settings(deadline=None, max_examples=400)
@given(st.data())
def test_every_property_holds_whatever_becomes_of_the_commands(data: st.DataObject) -> None:
    case = world.draw_case(lambda options: data.draw(st.sampled_from(options)), HOUSE)
    laws.check(played(HOUSE, case))


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_a_restart_that_is_interrupted_at_any_moment_lights_only_what_is_dark(data: st.DataObject) -> None:
    """P1 holds for the duty too, and what may have acted is said."""
    case = world.draw_case(lambda options: data.draw(st.sampled_from(options)), HOUSE)
    case["operation"] = Operation.RESTART
    record = played(HOUSE, case, until=data.draw(st.sampled_from([0.0, 0.005, 0.02, 0.1, 0.31, 0.5, 1.0, 1.6, 2.5, 4.0, 9.0])))
    laws.p1_no_on_before_a_level_is_dark(record)
    laws.p2_success_means_power_was_lost(record)
    laws.p4_success_means_power_at_the_end(record)
    laws.p6_nothing_is_outstanding(record)


@pytest.mark.soak
def test_every_property_holds_in_a_hundred_thousand_worlds() -> None:
    rng = random.Random(1)
    for _ in range(100_000):
        laws.check(played(HOUSE, world.draw_case(rng.choice, HOUSE)))


def test_both_ends_occur_often_enough_to_mean_something() -> None:
    """Properties over failures alone, or over successes alone, would prove little."""
    rng = random.Random(7)
    outcomes = [played(HOUSE, world.draw_case(rng.choice, HOUSE)).outcome for _ in range(600)]
    succeeded = sum(outcome.succeeded for outcome in outcomes)
    assert 150 <= succeeded <= 520
    assert sum(outcome.degraded for outcome in outcomes) >= 10
    assert sum(outcome.uncertain for outcome in outcomes) >= 10


#: (what is wrong, the changes that make it so): the four of facts §3 first
MUTANTS: dict[str, list[tuple[str, str, str]]] = {
    "each agent restarted on its own": [
        (
            "steps",
            "return (yield from confirm(book, track, PowerStatus.OFF))",
            (
                "off = yield from confirm(book, track, PowerStatus.OFF)\n"
                "    if off and book.operation.value == 'restart':\n"
                "        yield from switch_on(book, track, patience)\n"
                "    return off"
            ),
        ),
    ],
    "off if any agent is off": [
        (
            "operations",
            ("if not all(track.reads(OFF) for track in level):\n            return False\n        yield from read"),
            ("if not any(track.reads(OFF) for track in level):\n            return False\n        yield from read"),
        ),
        (
            "operations",
            ("        if not lighted:\n            return True"),
            ("        if len(lighted) < len(level):\n            return True"),
        ),
    ],
    "trusting the command": [
        (
            "operations",
            "        if (yield from _darken(book, level, patience)):",
            (
                "        yield from _darken(book, level, patience)\n"
                "        if all(track.accepted or track.reads(OFF) for track in level):"
            ),
        ),
    ],
    "stopping at the first on": [
        (
            "steps",
            "        while asked_by:\n",
            "        while asked_by and not any(value is True for value in results.values()):\n",
        ),
    ],
    "no second read": [
        (
            "operations",
            ("        yield from read(book, level, within=lambda track: patience.command(track.agent))\n        lighted = ["),
            "        lighted = [",
        ),
    ],
    "the second read of one plug is enough": [
        (
            "operations",
            ("        yield from read(book, level, within=lambda track: patience.command(track.agent))\n        lighted = ["),
            (
                "        yield from read(book, level[:1], within=lambda track: patience.command(track.agent))\n"
                "        lighted = ["
            ),
        ),
    ],
    "unknown counts as off": [
        (
            "notebook",
            "        return self.answer is power",
            "        return self.answer is power or self.answer is PowerStatus.UNKNOWN",
        ),
    ],
    "an error counts as off": [
        (
            "notebook",
            "        return self.answer is power",
            ("        return self.answer is power or (power is PowerStatus.OFF and isinstance(self.answer, AgentFault))"),
        ),
    ],
    "on is not sent again": [
        (
            "steps",
            "ON_TRIES = 2",
            "ON_TRIES = 1",
        ),
    ],
    "off is sent again": [
        (
            "operations",
            "return not track.watch.hopeless and (yield from confirm(book, track, OFF))",
            "return (yield from switch_off(book, track, patience))",
        ),
    ],
    "a failed level ends the operation": [
        (
            "operations",
            ("        book.remark(Conclusion.LEVEL_FAILED, level, OFF)\n    _tell"),
            ("        break\n    _tell"),
        ),
    ],
    "a failed level ends the start": [
        (
            "operations",
            ("        book.remark(Conclusion.LEVEL_FAILED, level, ON)\n    return book.outcome()"),
            ("        break\n    return book.outcome()"),
        ),
    ],
    "on although the stop failed": [
        (
            "operations",
            ("    if (yield from _go_dark(book, patience)):\n        yield from _relight"),
            (
                "    yield from _go_dark(book, patience)\n"
                "    book.dark = book.dark or book.levels[0]\n"
                "    if True:\n"
                "        yield from _relight"
            ),
        ),
    ],
    "restart lights the first level whatever went dark": [
        (
            "operations",
            ("return [level for level in book.levels if level is book.dark or any(track.darkened for track in level)]"),
            "return [book.levels[0]]",
        ),
    ],
    "another way is believed without having been off": [
        (
            "operations",
            "any(track.was_dark and track.reads(ON) for track in asked",
            "any(track.reads(ON) for track in asked",
        ),
    ],
    "another way is believed against the dark level": [
        (
            "operations",
            "return revived and not all(track.reads(OFF) for track in book.dark)",
            "return revived",
        ),
    ],
    "only agents that answer are asked on": [
        (
            "operations",
            "_kindle(book, track, level, patience) for track in level]",
            "_kindle(book, track, level, patience) for track in level if track.readable]",
        ),
    ],
    "degraded is not said": [
        (
            "operations",
            "        book.degraded = True\n",
            "",
        ),
    ],
    "unclear answers are borne for ever": [
        (
            "timing",
            "return None if left < SPENT else min(wanted, left)",
            "return wanted",
        ),
        (
            "timing",
            "                return None\n",
            "                pass\n",
        ),
    ],
    "uncertainty is forgotten": [
        (
            "notebook",
            ("            case Accepted():\n                self.accepted = True"),
            ("            case Accepted():\n                self.accepted, self.unsettled, self.shown = True, False, True"),
        ),
    ],
    "unknown settles": [
        (
            "notebook",
            ("if answer is not PowerStatus.UNKNOWN:\n                    self.unsettled = False"),
            "self.unsettled = False",
        ),
    ],
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_flow_breaks_a_property(name: str) -> None:
    """A property that no wrong variant breaks is decoration; a wrong variant that breaks none is a hole."""
    house = world.load(*MUTANTS[name])
    rng = random.Random(name)
    survivals = 0
    for _ in range(4000):
        case = world.draw_case(rng.choice, house)
        try:
            record = played(house, case)
            laws.check(record)
            if record.outcome.operation is Operation.START:
                _resend_rule(record)
        except (AssertionError, KeyError, IndexError):
            return
        survivals += 1
    pytest.fail(f"{name}: survived {survivals} worlds")


def _resend_rule(record: world.Record) -> None:
    """A start that fails for want of a confirmation asked on twice (field failures B-25, L-22)."""
    for result in record.outcome.agents:
        mine = [line for line in record.log if line.command.agent is result.agent]
        if (
            not record.outcome.succeeded
            and mine
            and mine[-1].answer is world.OFF
            and result.asked is world.Action.ON
            and not any(isinstance(line.answer, world.AgentFault) for line in mine)
        ):
            assert sum(line.command.action is world.Action.ON for line in mine) == 2, "on was not sent again"
