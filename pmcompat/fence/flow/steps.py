"""The steps a flow is made of: run side by side, ask once, wait for a confirmation, switch one agent.

What lives here: small flows over one agent's track. They decide nothing about levels or hosts. Pure, like
:mod:`pmcompat.fence.flow.operations`: no clock, thread, socket or log.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pmcompat.fence.commands import Answer, Command, Conclusion, Flow, Reply, T
from pmcompat.fence.flow.notebook import Notebook, Track
from pmcompat.fence.flow.timing import UNCLEAR_PAUSE, Patience, Timing, Watch, final
from pmcompat.model import Action, AgentFault, FaultKind, PowerStatus

#: ``on`` is sent at most this often in one operation (field failure B-25); ``off`` once
ON_TRIES = 2


def together(flows: Sequence[Flow[T]]) -> Flow[list[T]]:
    """Run flows side by side, each reply to the flow that asked; results in the order of *flows*."""
    asked_by: dict[Command, int] = {}
    results: dict[int, T] = {}

    def advance(i: int, reply: Reply | None = None) -> tuple[Command, ...]:
        try:
            commands = next(flows[i]) if reply is None else flows[i].send(reply)
        except StopIteration as end:
            results[i] = end.value
            return ()
        asked_by.update(dict.fromkeys(commands, i))
        return commands

    try:
        commands = tuple(command for i in range(len(flows)) for command in advance(i))
        while asked_by:
            reply = yield commands  # () is legal: one flow ended, the others still wait
            commands = advance(asked_by.pop(reply.command), reply)
        return [results[i] for i in range(len(flows))]
    finally:
        for flow in flows:
            flow.close()


def ask(book: Notebook, track: Track, action: Action, *, after: float = 0.0, within: float | None = None) -> Flow[Answer]:
    """Ask one agent once and note the answer."""
    command = Command(track.agent, action, after, within)
    book.ask(track, command)
    reply = yield (command,)
    book.hear(command, reply.answer, at=reply.at)
    return reply.answer


def read(book: Notebook, tracks: Sequence[Track], *, within: Callable[[Track], float] | None = None) -> Flow[list[Answer]]:
    """Read the power of several agents side by side."""
    return (
        yield from together([ask(book, track, Action.STATUS, within=within(track) if within else None) for track in tracks])
    )


def _never() -> bool:
    return False


def confirm(
    book: Notebook, track: Track, goal: PowerStatus, *, enough: Callable[[], bool] = _never, within: float | None = None
) -> Flow[bool]:
    """Poll one agent until it reads *goal*, its watch is spent, or it was unclear too often.

    *enough* tells that the level no longer depends on this agent: a fault then ends its wait at once.
    """
    watch = track.watch
    if watch is None:
        return False
    while (pause := watch.pause()) is not None:
        answer = yield from ask(book, track, Action.STATUS, after=pause, within=within)
        watch.heard(answer, pause=pause, at=book.now)
        if answer is goal:
            return True
        if watch.hopeless or (isinstance(answer, AgentFault) and (final(answer) or enough())):
            return False
    return False


def watching(book: Notebook, track: Track, timing: Timing, patience: Patience, answer: Answer, *, limit: float | None) -> Watch:
    """Begin the watch that follows an action whose answer was *answer*."""
    return Watch(
        timing=timing,
        minimum=patience.minimum(track.agent),
        fixed=patience.fixed_polls,
        began=book.now,
        doubtful=isinstance(answer, AgentFault),
        limit=limit,
    )


def _allowance(answer: Answer, timing: Timing) -> float | None:
    """Return the budget that is left after an action's own answer; None: all of it.

    A device that refused gets one status read, one that reported an error as long as unclear answers are borne: it may have
    acted all the same. A command that was killed may act late: it gets everything.
    """
    if not isinstance(answer, AgentFault) or answer.kind in {FaultKind.TIMEOUT, FaultKind.UNREACHABLE}:
        return None
    return 0.0 if final(answer) else timing.hold


def switch_off(book: Notebook, track: Track, patience: Patience) -> Flow[bool]:
    """Send ``off`` to one agent, once, and wait until it reads off. The second read is the level's business (law F1)."""
    answer = yield from ask(book, track, Action.OFF)
    if isinstance(answer, AgentFault) and not answer.sent:
        return False
    track.watch = watching(book, track, patience.stop, patience, answer, limit=_allowance(answer, patience.stop))
    return (yield from confirm(book, track, PowerStatus.OFF))


def switch_on(book: Notebook, track: Track, patience: Patience, *, enough: Callable[[], bool] = _never) -> Flow[bool]:
    """Send ``on`` to one agent and wait until it reads on; send it once more if that is not confirmed.

    An agent that does not answer is asked all the same (law F4). Once *enough* says that the host is on, a fault ends the
    wait, and the second ``on`` is given one more delay instead of a whole budget.
    """
    pause = 0.0
    for turn in range(1, ON_TRIES + 1):
        answer = yield from ask(book, track, Action.ON, after=pause)
        reached_device = not isinstance(answer, AgentFault) or answer.sent
        if reached_device:
            limit = patience.start.delay if turn > 1 and enough() else _allowance(answer, patience.start)
            track.watch = watching(book, track, patience.start, patience, answer, limit=limit)
            if (yield from confirm(book, track, PowerStatus.ON, enough=enough)):
                return True
        # whoever says that it may not or cannot will say so again; one that is silent while the host is on only degrades it
        if final(track.answer) or (isinstance(track.answer, AgentFault) and enough()):
            return False
        if turn < ON_TRIES:
            pause = 0.0 if reached_device else min(UNCLEAR_PAUSE, patience.start.delay)
            book.remark(Conclusion.RESENT, (track,), PowerStatus.ON)
    return False
