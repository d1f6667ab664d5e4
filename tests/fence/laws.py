"""The properties of fencing facts §3 and DESIGN §4, one function each: they take a record of simulated plugs and assert."""

from __future__ import annotations

from collections.abc import Sequence

from plugs import OFF, ON, Record

from pmcompat.fence.commands import Conclusion
from pmcompat.fence.flow.steps import ON_TRIES
from pmcompat.fence.flow.timing import SECOND_READS, polls_within
from pmcompat.model import Action, Agent, AgentFault, Operation


def confirmed_off_before(record: Record, level: Sequence[Agent], time: int) -> bool:
    """Tell whether the log shows that *level* was read off, and every plug again after the last of them was (law F1)."""
    reads = {id(agent): [line for line in record.log if line.command.agent is agent and line.heard <= time] for agent in level}
    last_reads = []
    for agent in level:
        mine = [line for line in reads[id(agent)] if line.command.action is Action.STATUS]
        if len(mine) < 2 or mine[-1].answer is not OFF or mine[-2].answer is not OFF:
            return False
        last_reads.append((mine[-2], mine[-1]))
    last_first = max(first.heard for first, _ in last_reads)
    return all(second.sent >= last_first for _, second in last_reads)


def p1_no_on_before_a_level_is_dark(record: Record) -> None:
    """P1, F1, against the log and, where nothing flaps, against the truth."""
    if record.outcome.operation is not Operation.RESTART:
        return
    ons = [line for line in record.log if line.command.action is Action.ON]
    if not ons:
        return
    first = min(line.sent for line in ons)
    assert any(confirmed_off_before(record, level, first) for level in record.levels), "on before a level was confirmed off"
    if not record.spontaneous:
        assert any(_dark_at(record, level, first) for level in record.levels), "on while no level was dark"


def _dark_at(record: Record, level: Sequence[Agent], time: int) -> bool:
    return all(not _lit_at(record, agent, time) for agent in level)


def _lit_at(record: Record, agent: Agent, time: int) -> bool:
    return [lit for when, other, lit in record.history if other is agent and when <= time][-1]


def p2_success_means_power_was_lost(record: Record) -> None:
    """P2: at some instant a whole level was really dark."""
    if (
        record.spontaneous
        or not record.outcome.succeeded
        or record.outcome.operation not in {Operation.STOP, Operation.RESTART}
    ):
        return
    times = sorted({when for when, _, _ in record.history})
    assert any(_dark_at(record, level, time) for time in times for level in record.levels), "nothing ever was dark"


def p3_unknown_never_counts_as_off(record: Record) -> None:
    """P3, F2, F3: a successful stop rests on two off readings of every plug of one level."""
    if record.outcome.succeeded and record.outcome.operation is Operation.STOP:
        assert any(confirmed_off_before(record, level, record.last_tick) for level in record.levels), "off without proof"
        assert record.outcome.power is OFF


def p4_success_means_power_at_the_end(record: Record) -> None:
    """P4, F3: a successful restart or start leaves a plug on, and read it."""
    if record.outcome.succeeded and record.outcome.operation in {Operation.START, Operation.RESTART}:
        last_reads = [
            [line.answer for line in record.log if line.command.agent is agent and line.command.action is Action.STATUS][-1:]
            for level in record.levels
            for agent in level
        ]
        assert [ON] in last_reads, "success without a reading of on"
        if not record.spontaneous:
            assert any(record.lit_at_end(agent) for level in record.levels for agent in level), "success in the dark"


def p5_commands_are_bounded(record: Record) -> None:
    """P5: agents * 2 * tries * (1 + polls) switchings and polls; looks and second reads come on top, a fixed few each."""
    agents = sum(map(len, record.levels))
    patience = record.patience
    polls = max(polls_within(timing, fixed=patience.fixed_polls, minimum=0.0) for timing in (patience.start, patience.stop))
    looks = agents * (2 + SECOND_READS + 2 * len(record.levels))
    assert len(record.log) <= agents * 2 * ON_TRIES * (1 + polls) + looks
    for level in record.levels:
        for agent in level:
            asked = [line.command.action for line in record.log if line.command.agent is agent]
            assert asked.count(Action.OFF) <= 1, "off was sent twice"
            assert asked.count(Action.ON) <= ON_TRIES + record.outcome.operation.value.count("restart"), "too many on"


def p6_nothing_is_outstanding(record: Record) -> None:
    """P6: when the flow ends every command was answered."""
    assert record.outstanding == 0


def p7_everybody_is_asked_on(record: Record) -> None:
    """P7, F4: of a level that was switched on every agent was asked on, or read on to begin with."""
    for level in record.levels:
        asked = [any(line.command.agent is a and line.command.action is Action.ON for line in record.log) for a in level]
        if any(asked):
            already = [_first_reads_are_on(record, agent) for agent in level]
            restart = record.outcome.operation is Operation.RESTART and record.outcome.ended_by is None
            assert all(a or (b and not restart) for a, b in zip(asked, already, strict=True)), "an agent was left out"


def _first_reads_are_on(record: Record, agent: Agent) -> bool:
    return any(line.command.agent is agent and line.answer is ON for line in record.log)


def p7_what_was_cut_is_given_back(record: Record) -> None:
    """P7: once a restart lights anything, every agent of the dark level and every one that was sent off is asked on."""
    ons = {id(line.command.agent) for line in record.log if line.command.action is Action.ON}
    if record.outcome.operation is Operation.RESTART and ons:
        cut = [line.command.agent for line in record.log if line.command.action is Action.OFF]
        assert all(id(agent) in ons for agent in (*cut, *dark_level(record))), "a supply that was cut is not given back"


def dark_level(record: Record) -> tuple[Agent, ...]:
    """Return the agents of the level that the flow says was confirmed off."""
    return next((r.agents for r in record.remarks if r.conclusion is Conclusion.CONFIRMED and r.power is OFF), ())


def f3_success_does_not_contradict_the_dark_level(record: Record) -> None:
    """F3: lit is read at the level that was dark; another level counts only if that one is mute and it was seen to change."""
    if record.outcome.operation is not Operation.RESTART or not record.outcome.succeeded:
        return
    dark = dark_level(record)
    reads = {
        id(a): [ln for ln in record.log if ln.command.agent is a and ln.command.action is Action.STATUS]
        for level in record.levels
        for a in level
    }
    if any(reads[id(agent)][-1].answer is ON for agent in dark):
        return
    assert not all(reads[id(agent)][-1].answer is OFF for agent in dark), "lit, although the dark level still reads off"
    when = max(reads[id(agent)][1].heard for agent in dark)
    others = [agent for level in record.levels for agent in level if all(agent is not a for a in dark)]
    assert any(
        reads[id(agent)][-1].answer is ON and any(line.answer is OFF and line.sent > when for line in reads[id(agent)])
        for agent in others
    ), "lit, although nothing was seen to change"


def f4_degraded_is_said(record: Record) -> None:
    """F4: a supply beside the ones that came on, or one that was asked off, makes the start degraded if it is not on."""
    if not record.outcome.succeeded or record.outcome.operation not in {Operation.START, Operation.RESTART}:
        return
    silent = [r for r in record.outcome.agents if r.asked is Action.ON and not r.reached]
    beside = [
        r
        for r in silent
        if any(other.reached and _one_level(record, r.agent, other.agent) for other in record.outcome.agents)
        or any(line.command.agent is r.agent and line.command.action is Action.OFF for line in record.log)
    ]
    assert record.outcome.degraded or not beside, "a dark supply is not mentioned"
    assert silent or not record.outcome.degraded, "degraded, but every supply is on"


def _one_level(record: Record, one: Agent, other: Agent) -> bool:
    return any(any(a is one for a in level) and any(a is other for a in level) for level in record.levels)


def f5_every_level_is_tried(record: Record) -> None:
    """F5: an operation fails only after every level failed."""
    outcome = record.outcome
    if outcome.succeeded or outcome.ended_by or outcome.operation is Operation.STATUS:
        return
    failed = {id(a) for r in record.remarks if r.conclusion is Conclusion.LEVEL_FAILED for a in r.agents}
    assert all(id(agent) in failed for level in record.levels for agent in level), "a level was not tried"


def unsettled_is_said(record: Record) -> None:
    """An on or off that may have acted is reported (exit 7) unless a read shows that it has, or the last read was clear."""
    for result in record.outcome.agents:
        mine = [line for line in record.log if line.command.agent is result.agent]
        open_, shown, wanted = False, True, ""
        for line in mine:
            if line.command.action is Action.STATUS and line.answer in {ON, OFF}:
                open_, shown = False, shown or line.answer == wanted
            elif line.command.action is Action.STATUS:
                open_ = open_ or not shown
            elif not (isinstance(line.answer, AgentFault) and not line.answer.sent):
                open_, shown, wanted = True, False, line.command.action.value
        assert result.unsettled == open_, f"{result.agent}: unsettled {result.unsettled}, the log says {open_}"


def check(record: Record) -> None:
    """Assert every property."""
    p1_no_on_before_a_level_is_dark(record)
    p2_success_means_power_was_lost(record)
    p3_unknown_never_counts_as_off(record)
    p4_success_means_power_at_the_end(record)
    p5_commands_are_bounded(record)
    p6_nothing_is_outstanding(record)
    p7_everybody_is_asked_on(record)
    p7_what_was_cut_is_given_back(record)
    f3_success_does_not_contradict_the_dark_level(record)
    f4_degraded_is_said(record)
    f5_every_level_is_tried(record)
    unsettled_is_said(record)
