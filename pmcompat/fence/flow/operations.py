"""The fencing flow: who is asked what next, so that "off" means off and a restart never lights a host that is not dark.

What lives here: one generator per operation. Each yields the commands it wants done, is sent one reply at a time, and ends
in an ``Outcome`` (:data:`pmcompat.fence.commands.Flow`). It has no clock, thread, socket or log, and may not import them.
Executor, ``--explain`` and the simulator of the tests drive the same generators.

An operation, in the words of the laws (DESIGN §4):

* **Look first.** The status of every agent is asked side by side. A level whose agents do not answer is put behind those
  that do. An agent that is where it should be is sent nothing, but read again.
* **Stop** a level: an agent that cannot be read could never be confirmed, so if one is there *no* ``off`` is sent and the
  level fails with nothing changed. Else ``off`` goes to every agent that is not off, each is polled until it reads off, and
  when the last one does, *every* plug of the level is read again (F1). A plug that is not off in that second read is
  waited for again, at most :data:`~pmcompat.fence.flow.timing.SECOND_READS` times. ``off`` is never sent twice to one agent.
* **Start** a level: every agent is asked ``on`` (F4), an unconfirmed ``on`` is sent once more, one agent that reads on is a
  success and the others are reported as degraded.
* **Any failure** of a level leads to the next with the original action (F5).
* **Restart** is a whole stop, then ``on``. Who gets it:

  1. every agent of the level that is dark, and every agent of a level that was sent ``off`` on the way there without
     success: its ``off`` may have worked, or may work late, and nothing else would ever give that supply back;
  2. only where that leaves the dark level unlit, the other levels in their order, "beginning with the first agent again"
     (facts §2.5). Levels are ways to one machine. If such a way reads *on* while the dark level's agents still read off,
     one of them is wrong, and the host is not taken for started. It is believed only if the dark level cannot be read any
     more and this way itself was seen off after the level went dark, and then on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from pmcompat.fence.commands import Conclusion, Flow
from pmcompat.fence.events import agent_name
from pmcompat.fence.flow.notebook import Notebook, Track, Tracks
from pmcompat.fence.flow.steps import ask, confirm, read, switch_off, switch_on, together, watching
from pmcompat.fence.flow.timing import FIRST_PAUSE, SECOND_READS, UNCLEAR_PAUSE, Patience, final
from pmcompat.model import Action, Operation, Outcome, PowerStatus, Stage

ON, OFF = PowerStatus.ON, PowerStatus.OFF


def run(book: Notebook, patience: Patience) -> Flow[Outcome]:
    """Return the flow of the notebook's operation."""
    flows = {Operation.STATUS: status, Operation.STOP: stop, Operation.START: start, Operation.RESTART: restart}
    return flows[book.operation](book, patience)


def status(book: Notebook, patience: Patience) -> Flow[Outcome]:
    """Read every agent once, side by side, and join what they say (facts §2.7)."""
    yield from read(book, book.tracks, within=lambda track: patience.command(track.agent))
    book.succeeded = book.power() is not PowerStatus.UNKNOWN
    book.stage = Stage.DONE
    if not any(all(track.clear for track in level) for level in book.levels):
        book.note("it could not be stopped now: no level has all its agents answering")
    if not any(track.clear for track in book.tracks):
        book.note("it could not be started now: no agent answers")
    return book.outcome()


def stop(book: Notebook, patience: Patience) -> Flow[Outcome]:
    """Cut the power: levels in turn, until every agent of one level is confirmed off."""
    if (yield from _go_dark(book, patience)):
        book.succeeded, book.stage = True, Stage.DONE
    return book.outcome()


def start(book: Notebook, patience: Patience) -> Flow[Outcome]:
    """Give power: levels in turn, until an agent of one reads on."""
    levels = yield from _look(book, patience, needs=any)
    yield from _sit_out(book, patience)
    return (yield from _start(book, levels, patience))


def restart(book: Notebook, patience: Patience) -> Flow[Outcome]:
    """Cut the power, and only when a whole level is confirmed off give it again (law F1)."""
    if (yield from _go_dark(book, patience)):
        yield from _relight(book, owed_levels(book), patience)
    return book.outcome()


def owed_levels(book: Notebook) -> list[Tracks]:
    """Return the levels a restart owes an ``on``: the dark one, and every one that was sent ``off`` on the way there."""
    return [level for level in book.levels if level is book.dark or any(track.darkened for track in level)]


def resume(book: Notebook, patience: Patience) -> Flow[Outcome]:
    """Complete a restart that ended between off and on: no ``off`` is sent, and ``on`` as a restart would.

    Who was asked what before is not known here, so every level with a plug that reads off is owed its ``on``. A host that is
    not dark is started: what is on stays on, and a supply that is off beside it comes back.
    """
    levels = yield from _look(book, patience, needs=any)
    yield from _sit_out(book, patience)
    for level in levels:
        if all(track.reads(OFF) for track in level):
            yield from read(book, level, within=lambda track: patience.command(track.agent))
        if all(track.reads(OFF) for track in level):
            book.dark, book.stage = level, Stage.OFF
            owed = [other for other in book.levels if any(track.reads(OFF) for track in other)]
            yield from _relight(book, owed, patience)
            return book.outcome()
    return (yield from _start(book, levels, patience))


def _look(book: Notebook, patience: Patience, *, needs: Callable[[Iterable[bool]], bool]) -> Flow[tuple[Tracks, ...]]:
    """Read everybody once and return the levels in the order in which they will be tried."""
    yield from read(book, book.tracks, within=lambda track: min(patience.look(track.agent), patience.command(track.agent)))
    if patience.keep_order:
        return book.levels
    levels = tuple(sorted(book.levels, key=lambda level: not needs(track.readable for track in level)))
    for i, level in enumerate(book.levels):
        if levels.index(level) > i:
            book.remark(Conclusion.PUT_BEHIND, level, PowerStatus.UNKNOWN)
            silent = [track for track in level if not track.readable]
            book.note(f"{names(silent or level)} did not answer and was put behind")
    return levels


def _sit_out(book: Notebook, patience: Patience) -> Flow[None]:
    """Watch plugs that read on while an off of an operation that died may still darken them: until a level is dark, or time.

    They are unsettled meanwhile: whoever ends the watch learns that the power is unknown.
    """
    began, waited, pause = book.now, 0.0, FIRST_PAUSE
    while (left := book.late_off - max(book.now - began, waited)) > 0:
        lighted = [track for track in book.tracks if track.reads(ON)]
        if not lighted or any(all(track.reads(OFF) for track in level) for level in book.levels):
            return
        book.stage = Stage.GOING_OFF
        for track in lighted:
            track.unsettled = True
        pause = min(pause, left)
        yield from together(
            [ask(book, track, Action.STATUS, after=pause, within=patience.command(track.agent)) for track in lighted]
        )
        waited, pause = waited + pause, min(2 * pause, UNCLEAR_PAUSE)


def _look_again(book: Notebook, level: Tracks, patience: Patience, *, first: bool) -> Flow[None]:
    """Read a level anew when its turn comes: the first one only where it did not answer, the others because time passed."""
    stale = [track for track in level if not first or not (track.readable or final(track.answer))]
    after = min(UNCLEAR_PAUSE, patience.stop.delay) if first else 0.0
    yield from together([ask(book, track, Action.STATUS, after=after, within=patience.command(track.agent)) for track in stale])


def _go_dark(book: Notebook, patience: Patience) -> Flow[bool]:
    """Take one whole level down, whichever obeys."""
    levels = yield from _look(book, patience, needs=all)
    for i, level in enumerate(levels):
        book.working = level
        yield from _look_again(book, level, patience, first=i == 0)
        skipped = all(track.reads(OFF) for track in level)
        if (yield from _darken(book, level, patience)):
            book.dark, book.stage = level, Stage.OFF
            book.remark(Conclusion.CONFIRMED, level, OFF)
            _tell_success(book, level, OFF, skipped=skipped and not any(track.darkened for track in level))
            return True
        book.remark(Conclusion.LEVEL_FAILED, level, OFF)
    _tell_half_done(book)
    return False


def _darken(book: Notebook, level: Tracks, patience: Patience) -> Flow[bool]:
    """Take one level down; true only when every plug was read off, and read again after the last of them was (law F1)."""
    if not all(track.readable for track in level):
        return False
    lighted = [track for track in level if not track.reads(OFF)]
    if lighted:
        book.stage = Stage.GOING_OFF
        yield from together([switch_off(book, track, patience) for track in lighted])
    for _ in range(SECOND_READS):
        if not all(track.reads(OFF) for track in level):
            return False
        yield from read(book, level, within=lambda track: patience.command(track.agent))
        lighted = [track for track in level if not track.reads(OFF)]
        if not lighted:
            return True
        yield from together([_off_again(book, track, patience) for track in lighted])
    return False


def _off_again(book: Notebook, track: Track, patience: Patience) -> Flow[bool]:
    """Go on with a plug that read off and then, in the second read, did not."""
    if track.watch is not None and track.darkened:
        track.watch.doubt(track.answer or PowerStatus.UNKNOWN)
        return not track.watch.hopeless and (yield from confirm(book, track, OFF))
    if not track.reads(ON):
        # found off and now unclear: nothing was sent, so nothing is waited for but a clear answer
        track.watch = watching(book, track, patience.stop, patience, PowerStatus.UNKNOWN, limit=patience.stop.hold)
        track.watch.doubt(PowerStatus.UNKNOWN)
        if (yield from confirm(book, track, OFF)):
            return True
    if not track.reads(ON):
        return False
    book.stage = Stage.GOING_OFF
    return (yield from switch_off(book, track, patience))


def _start(book: Notebook, levels: Sequence[Tracks], patience: Patience) -> Flow[Outcome]:
    for i, level in enumerate(levels):
        book.working = level
        if i or not any(track.readable for track in level):
            yield from _look_again(book, level, patience, first=i == 0)
        skipped = all(track.reads(ON) for track in level)
        if any(track.readable for track in level):
            yield from together([_kindle(book, track, level, patience) for track in level])
        if any(track.reads(ON) for track in level):
            _tell_success(book, level, ON, skipped=skipped and not any(track.asked for track in level))
            lit(book, level)
            return book.outcome()
        book.remark(Conclusion.LEVEL_FAILED, level, ON)
    return book.outcome()


def _kindle(book: Notebook, track: Track, level: Tracks, patience: Patience) -> Flow[bool]:
    """Bring one agent of a level to on; one that is on already is only read again."""
    if track.reads(ON) and (yield from ask(book, track, Action.STATUS)) is ON:
        return True
    book.stage = Stage.GOING_ON
    return (yield from switch_on(book, track, patience, enough=_lighted_beside(track, level)))


def _lighted_beside(track: Track, level: Tracks) -> Callable[[], bool]:
    return lambda: any(other.reads(ON) for other in level if other is not track)


def _relight(book: Notebook, owed: Sequence[Tracks], patience: Patience) -> Flow[None]:
    """Ask every agent of the levels that are owed their ``on``; then, if the dark level stays dark, the other ways."""
    book.stage = Stage.GOING_ON
    ways = [list(owed), *([level] for level in book.levels if level not in owed)]
    asked: list[Track] = []
    for way in ways:
        tracks = [track for level in way for track in level]
        asked += tracks
        yield from together([_switch_back(book, track, patience) for track in tracks])
        if not any(track.reads(ON) for track in book.dark) and (way is not ways[0] or not all(t.clear for t in book.dark)):
            yield from read(book, book.dark, within=lambda track: patience.command(track.agent))
        if _is_lit(book, tracks):
            lit(book, asked)
            return
        book.remark(Conclusion.LEVEL_FAILED, tracks, ON)
    book.note(f"no agent was confirmed on after the power was cut: {names(asked)}")


def _is_lit(book: Notebook, asked: Sequence[Track]) -> bool:
    """Tell whether the dark level is lit, or, where it cannot be read any more, another way that was seen to change."""
    if any(track.reads(ON) for track in book.dark):
        return True
    revived = any(track.was_dark and track.reads(ON) for track in asked if track not in book.dark)
    return revived and not all(track.reads(OFF) for track in book.dark)


def _switch_back(book: Notebook, track: Track, patience: Patience) -> Flow[bool]:
    """Ask one agent on after a level went dark; one of another level is read first, for what its *on* will be worth."""
    if track not in book.dark:
        track.was_dark = (yield from ask(book, track, Action.STATUS, within=patience.look(track.agent))) is OFF
    return (yield from switch_on(book, track, patience, enough=_lighted_beside(track, book.dark)))


def names(tracks: Iterable[Track]) -> str:
    """Return agents' names for a note."""
    return ", ".join(agent_name(track.agent) for track in tracks)


def lit(book: Notebook, asked: Sequence[Track]) -> None:
    """Note that the host is on, and which of the supplies that were *asked* are not."""
    off = [track for track in asked if not track.reads(ON)]
    book.succeeded, book.stage = True, Stage.DONE
    book.remark(Conclusion.CONFIRMED, [track for track in asked if track.reads(ON)], ON)
    if off:
        book.degraded = True
        book.remark(Conclusion.DEGRADED, off, ON)
        book.note(f"degraded: not confirmed on: {names(off)}")


def _tell_success(book: Notebook, level: Tracks, goal: PowerStatus, *, skipped: bool) -> None:
    if skipped:
        book.remark(Conclusion.SKIPPED, level, goal)
        book.note(f"already {goal}: nothing was sent to {names(level)}")
    if level is not book.levels[0]:
        book.remark(Conclusion.LATER_USED, level, goal)
        book.note(f"{Conclusion.LATER_USED}: {names(level)} was used because {names(book.levels[0])} failed")


def _tell_half_done(book: Notebook) -> None:
    """Note which supplies a failed stop left off: the host may run on the others, or not."""
    if not book.off_was_asked:
        return
    off = [track for track in book.tracks if track.reads(OFF)]
    rest = [track for track in book.tracks if track.darkened and not track.reads(OFF)]
    parts = [f"half done: off: {names(off)}"] if off else []
    parts += [f"not confirmed off: {names(rest)}"] if rest else []
    book.note("; ".join(parts))
