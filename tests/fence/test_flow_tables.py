"""The flow by tables: given these replies, expect these commands; driven by ``.send()``, no threads, no time."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from pmcompat.errors import ModelError
from pmcompat.fence.commands import ACCEPTED, Answer, Command, Reply
from pmcompat.fence.exits import code_of
from pmcompat.fence.flow import Notebook, Patience, Timing, longest, operations
from pmcompat.fence.flow.explain import Devices, explain
from pmcompat.fence.flow.timing import Watch, polls_within
from pmcompat.model import (
    Action,
    Agent,
    AgentFault,
    FaultKind,
    Operation,
    Outcome,
    PowerManagement,
    PowerStatus,
    Stage,
)

ON, OFF, UNKNOWN = PowerStatus.ON, PowerStatus.OFF, PowerStatus.UNKNOWN
GONE = AgentFault(kind=FaultKind.UNREACHABLE, message="no route")
KILLED = AgentFault(kind=FaultKind.TIMEOUT, message="no reply", sent=True)
REFUSED = AgentFault(kind=FaultKind.REFUSED, message="wrong password")
PATIENCE = Patience(start=Timing(delay=10, retries=3), stop=Timing(delay=10, retries=3))


def settings(*orders: int) -> PowerManagement:
    agents = tuple(Agent(type="ipmilan", address=chr(ord("a") + i), order=order) for i, order in enumerate(orders))
    return PowerManagement(enabled=True, agents=agents)


def play(
    operation: str, orders: tuple[int, ...], answers: dict[str, list[Answer]], patience: Patience = PATIENCE
) -> tuple[list[str], Outcome]:
    """Answer every agent from its list, the last one for ever; return what was asked, as ``a off`` or ``a status +0.03``."""
    book = Notebook.of(Operation(operation), settings(*orders))
    flow = operations.run(book, patience)
    asked: list[str] = []
    waiting: list[Command] = []
    left = {name: list(given) for name, given in answers.items()}
    try:
        waiting += next(flow)
        while True:
            command = waiting.pop(0)
            name = command.agent.address or ""
            asked.append(f"{name} {command.action}" + (f" +{command.after:g}" if command.after else ""))
            assert len(asked) < 500
            answer = left[name].pop(0) if len(left[name]) > 1 else left[name][0]
            waiting += flow.send(Reply(command, answer))
    except StopIteration as end:
        assert not waiting
        outcome: Outcome = end.value
        return asked, outcome


SINGLE, SEQUENTIAL, CONCURRENT = (1,), (1, 2), (1, 1)


@pytest.mark.parametrize(
    ("operation", "orders", "answers", "asked", "power"),
    [
        # already there: nothing is sent, but it is confirmed
        ("stop", SINGLE, {"a": [OFF]}, ["a status", "a status"], OFF),
        ("start", SINGLE, {"a": [ON]}, ["a status", "a status"], ON),
        # done at once
        ("stop", SINGLE, {"a": [ON, ACCEPTED, OFF]}, ["a status", "a off", "a status", "a status"], OFF),
        ("start", SINGLE, {"a": [OFF, ACCEPTED, ON]}, ["a status", "a on", "a status"], ON),
        (
            "restart",
            SINGLE,
            {"a": [ON, ACCEPTED, OFF, OFF, ACCEPTED, ON]},
            ["a status", "a off", "a status", "a status", "a on", "a status"],
            ON,
        ),
        # the second read covers the whole level, and comes after the last first read
        (
            "stop",
            CONCURRENT,
            {"a": [ON, ACCEPTED, OFF], "b": [ON, ACCEPTED, ON, OFF]},
            ["a status", "b status", "a off", "b off", "a status", "b status", "b status +0.03", "a status", "b status"],
            OFF,
        ),
        # only what is not off is sent off
        (
            "stop",
            CONCURRENT,
            {"a": [OFF], "b": [ON, ACCEPTED, OFF]},
            ["a status", "b status", "b off", "b status", "a status", "b status"],
            OFF,
        ),
        # a dead first level is put behind
        (
            "stop",
            SEQUENTIAL,
            {"a": [GONE], "b": [ON, ACCEPTED, OFF]},
            ["a status", "b status", "b off", "b status", "b status"],
            OFF,
        ),
        # refused credentials are not tried again
        ("stop", SINGLE, {"a": [REFUSED]}, ["a status"], UNKNOWN),
        # nothing is sent to a level that cannot be read whole
        ("stop", CONCURRENT, {"a": [ON], "b": [GONE]}, ["a status", "b status", "b status +1"], ON),
        # an off that was killed is looked after, not repeated
        ("stop", SINGLE, {"a": [ON, KILLED, OFF]}, ["a status", "a off", "a status +1", "a status"], OFF),
        # an off that never left fails at once, and the next level gets it
        (
            "stop",
            SEQUENTIAL,
            {"a": [ON, GONE], "b": [ON, ON, ACCEPTED, OFF]},
            ["a status", "b status", "a off", "b status", "b off", "b status", "b status"],
            OFF,
        ),
        # status asks everybody once and nobody twice (B-54)
        ("status", (1, 1, 2), {"a": [OFF], "b": [OFF], "c": [OFF]}, ["a status", "b status", "c status"], OFF),
        ("status", CONCURRENT, {"a": [OFF], "b": [GONE]}, ["a status", "b status"], UNKNOWN),
        ("status", CONCURRENT, {"a": [OFF], "b": [UNKNOWN]}, ["a status", "b status"], UNKNOWN),
        ("status", CONCURRENT, {"a": [ON], "b": [GONE]}, ["a status", "b status"], ON),
    ],
)
def test_these_replies_lead_to_these_commands(
    operation: str, orders: tuple[int, ...], answers: dict[str, list[Answer]], asked: list[str], power: PowerStatus
) -> None:
    said, outcome = play(operation, orders, answers)
    assert said == asked
    assert outcome.power is power


def test_an_unconfirmed_on_is_sent_once_more_in_every_mode() -> None:
    """B-25, L-22."""
    for orders in (SINGLE, CONCURRENT, SEQUENTIAL):
        names = "ab"[: len(orders)]
        said, outcome = play("start", orders, {name: [OFF, ACCEPTED, *[OFF] * 11, ACCEPTED, ON] for name in names})
        sent = Counter(line for line in said if line.endswith(" on"))
        assert outcome.succeeded
        assert sent["a on"] == 2


def test_an_unconfirmed_off_is_never_sent_again() -> None:
    said, outcome = play("stop", SINGLE, {"a": [ON, ACCEPTED, ON]})
    assert said.count("a off") == 1
    assert not outcome.succeeded
    assert outcome.power is ON
    assert not outcome.uncertain
    assert outcome.agents[0].fault is not None


@pytest.mark.parametrize("unclear", [UNKNOWN, GONE])
def test_three_unclear_answers_are_borne_and_the_fourth_ends_it(unclear: Answer) -> None:
    """B-45, B-10, L-33: through fault answers too; the pauses grow from one second."""
    patience = Patience(stop=Timing(delay=10, retries=18))
    said, outcome = play("stop", SINGLE, {"a": [ON, ACCEPTED, *[unclear] * 3, OFF]}, patience)
    assert outcome.succeeded
    assert said == ["a status", "a off", "a status", "a status +1", "a status +2", "a status +4", "a status"]
    said, outcome = play("stop", SINGLE, {"a": [ON, ACCEPTED, unclear]}, patience)
    assert not outcome.succeeded
    assert outcome.uncertain
    assert len(said) == 2 + 4


def test_a_level_is_not_given_up_sooner_than_three_delays_or_five_seconds() -> None:
    watch = Watch(timing=Timing(delay=10, retries=18), minimum=0, fixed=False, began=0)
    for at in (0.0, 1.0, 2.0, 4.9):
        watch.heard(UNKNOWN, pause=0, at=at)
    assert not watch.hopeless
    watch.heard(UNKNOWN, pause=0, at=5.0)
    assert watch.hopeless


def test_the_first_poll_waits_for_the_agents_own_minimum_and_the_others_grow() -> None:
    patience = Patience(
        stop=Timing(delay=1, retries=4, first_wait=0.5), minimum=lambda agent: 4.0 if agent.address == "a" else 0.0
    )
    slow, _ = play("stop", SINGLE, {"a": [ON, ACCEPTED, ON]}, patience)
    assert slow[2] == "a status +4"
    quick, _ = play("stop", (2,), {"a": [ON, ACCEPTED, ON]}, Patience(stop=Timing(delay=1, retries=4, first_wait=0.5)))
    pauses = [line.split("+")[1] for line in quick[2:]]
    assert pauses[:7] == ["0.5", "0.03", "0.06", "0.12", "0.24", "0.48", "0.96"]
    assert sum(map(float, pauses)) == pytest.approx(3.5)


def test_fixed_polls_is_ovirts_timetable() -> None:
    """L-34: retries = n means exactly n queries and n - 1 pauses."""
    patience = Patience(stop=Timing(delay=10, retries=18, first_wait=5), fixed_polls=True)
    said, _ = play("stop", SINGLE, {"a": [ON, ACCEPTED, ON]}, patience)
    assert said[2:] == ["a status +5", *["a status +10"] * 17]
    assert polls_within(patience.stop, fixed=True) == 18


def test_adaptive_polls_stay_within_the_same_budget() -> None:
    said, _ = play("stop", SINGLE, {"a": [ON, ACCEPTED, ON]}, Patience(stop=Timing(delay=10, retries=18)))
    pauses = [float(line.split("+")[1]) for line in said[3:]]
    assert sum(pauses) == pytest.approx(170.0)
    assert max(pauses) == 10
    assert len(pauses) + 1 == polls_within(Timing(delay=10, retries=18))


def test_a_plug_that_comes_back_by_itself_is_not_off() -> None:
    """B-46: the second read finds it on; it is waited for again, and the level fails at the fourth time."""
    said, outcome = play("stop", SINGLE, {"a": [ON, ACCEPTED, *[OFF, ON] * 20]})
    assert not outcome.succeeded
    assert said.count("a off") == 1
    said, outcome = play("stop", SINGLE, {"a": [ON, ACCEPTED, OFF, ON, OFF, OFF]})
    assert outcome.succeeded


def test_a_plug_that_was_found_off_and_then_is_not_gets_an_off_that_the_stage_knows_of() -> None:
    """What a journal says of the stage decides whether a restart that died is offered for completion."""
    said, outcome = play("restart", SINGLE, {"a": [OFF, ON, ACCEPTED, ON]})
    assert said.count("a off") == 1
    assert outcome.stage is Stage.GOING_OFF
    said, outcome = play("stop", SINGLE, {"a": [OFF, *[ON, ACCEPTED, OFF], *[ON, OFF] * 20]})
    assert not outcome.succeeded
    assert outcome.notes[-1] == "half done: off: primary ipmilan at a"


def test_only_who_was_silent_is_said_to_be() -> None:
    _, outcome = play("stop", (1, 1, 2), {"a": [GONE], "b": [ON], "c": [ON, ACCEPTED, OFF]})
    assert outcome.notes[0] == "primary ipmilan at a did not answer and was put behind"


def test_a_restart_through_the_second_way_gives_back_what_the_first_may_have_taken() -> None:
    """The primary's off was killed: it may act late, so it is asked on as well as the secondary."""
    answers: dict[str, list[Answer]] = {
        "a": [ON, KILLED, GONE, GONE, GONE, GONE, ON, ACCEPTED, ON],
        "b": [ON, ON, ACCEPTED, OFF, OFF, ACCEPTED, ON],
    }
    said, outcome = play("restart", SEQUENTIAL, answers, Patience(stop=Timing(delay=10, retries=18), start=PATIENCE.start))
    assert outcome.succeeded
    assert said.index("b off") < said.index("a on")
    assert {"a on", "b on"} <= set(said)


def test_a_restart_whose_first_way_was_never_touched_lights_only_the_dark_one() -> None:
    said, outcome = play("restart", SEQUENTIAL, {"a": [GONE], "b": [ON, ACCEPTED, OFF, OFF, ACCEPTED, ON]})
    assert outcome.succeeded
    assert not outcome.degraded
    assert "a on" not in said
    assert any("was used because" in note for note in outcome.notes)


def test_a_failed_restart_says_where_it_stands() -> None:
    _, outcome = play("restart", SINGLE, {"a": [ON, ACCEPTED, OFF, OFF, ACCEPTED, OFF]})
    assert not outcome.succeeded
    assert outcome.stage is Stage.GOING_ON
    assert outcome.power is OFF
    _, outcome = play("restart", CONCURRENT, {"a": [ON, ACCEPTED, OFF], "b": [ON, ACCEPTED, ON]})
    assert outcome.stage is Stage.GOING_OFF
    assert outcome.power is ON
    _, outcome = play("restart", SINGLE, {"a": [REFUSED]})
    assert outcome.stage is Stage.NOT_TOUCHED


def test_a_failed_restart_blames_the_agent_that_stayed_on() -> None:
    """What was sent off is judged by off, though the restart wanted on in the end: the alert names the device to look at."""
    _, outcome = play("restart", CONCURRENT, {"a": [ON, ACCEPTED, OFF], "b": [ON, ACCEPTED, ON]})
    dark, stuck = outcome.agents
    assert (dark.asked, dark.reached, dark.fault) == (Action.OFF, True, None)
    assert (stuck.asked, stuck.reached) == (Action.OFF, False)
    assert stuck.fault is not None
    assert stuck.fault.message == "not confirmed off: it reads on"


def test_a_refused_login_does_not_hide_the_agent_that_stayed_on() -> None:
    """Exit 6 only if *every* failing agent refused the credentials (DESIGN §5)."""
    _, outcome = play("restart", SEQUENTIAL, {"a": [REFUSED], "b": [ON, ON, ACCEPTED, ON]})
    assert code_of(outcome) == 1


def test_the_same_replies_lead_to_the_same_commands() -> None:
    answers: dict[str, list[Answer]] = {
        "a": [ON, KILLED, UNKNOWN, OFF, OFF, ACCEPTED, ON],
        "b": [ON, ACCEPTED, ON, OFF, OFF, ACCEPTED, ON],
    }
    assert play("restart", CONCURRENT, answers) == play("restart", CONCURRENT, answers)


def test_the_order_of_the_levels_decides_not_that_of_the_agents() -> None:
    said, _ = play("stop", (2, 1), {"a": [ON, ACCEPTED, OFF], "b": [ON, ACCEPTED, OFF]})
    assert [line for line in said if line.endswith(" off")] == ["b off"]


# Explain.


def test_the_timetable_of_a_dual_restart() -> None:
    rows, outcome = explain(Operation.RESTART, settings(1, 1), PATIENCE)
    assert [(row.at, row.agent.address, row.action.value) for row in rows if row.action is not Action.STATUS] == [
        (0.0, "a", "off"),
        (0.0, "b", "off"),
        (0.0, "a", "on"),
        (0.0, "b", "on"),
    ]
    assert outcome.succeeded


def test_the_timetable_shows_the_agents_wait_and_the_worst_case_its_budget() -> None:
    patience = Patience(stop=Timing(delay=10, retries=18), start=Timing(delay=10, retries=18), minimum=lambda _: 4.0)
    rows, _ = explain(Operation.STOP, settings(1), patience)
    assert [row.at for row in rows] == [0.0, 0.0, 4.0, 4.0]
    rows, outcome = explain(Operation.STOP, settings(1), patience, devices=Devices.IGNORE)
    assert not outcome.succeeded
    assert rows[-1].at == pytest.approx(170.0)
    assert rows[-1].at < longest(Operation.STOP, settings(1).levels, patience)


@pytest.mark.parametrize("operation", list(Operation))
@pytest.mark.parametrize("orders", [(1,), (1, 1), (1, 2), (1, 1, 2)])
def test_no_operation_outlives_the_sum_of_its_budgets(operation: Operation, orders: tuple[int, ...]) -> None:
    for fixed in (False, True):
        patience = Patience(start=Timing(delay=2, retries=5), stop=Timing(delay=3, retries=4), fixed_polls=fixed)
        rows, _ = explain(operation, settings(*orders), patience, devices=Devices.IGNORE)
        assert rows[-1].at < longest(operation, settings(*orders).levels, patience)


@pytest.mark.parametrize("wrong", [{"retries": 0}, {"delay": -1}, {"first_wait": -0.1}, {"delay": float("nan")}])
def test_a_timing_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="must be"):
        Timing(**wrong)
