"""What a restart still owes when a deadline or a signal ends it: the point of no return (law F8).

What lives here: one short flow over the notebook of the flow that was ended. Pure, like :mod:`pmcompat.fence.flow.operations`.

Once an ``off`` was sent, ending the waiting does not end the duty. If a whole level is confirmed off, ``on`` goes to every
agent that is owed one, each within :data:`SHORT` seconds. An ``off`` that left a moment ago may still be taking effect: going
away now would leave the host dark behind us, so the level is watched until :data:`SHORT` seconds after its last ``off``, and
read once if that has passed. If it is not dark by then, nothing more is sent.
"""

from __future__ import annotations

from pmcompat.fence.commands import Flow
from pmcompat.fence.flow.notebook import Notebook, Track
from pmcompat.fence.flow.operations import lit, owed_levels
from pmcompat.fence.flow.steps import ask, confirm, read, together
from pmcompat.fence.flow.timing import FIRST_PAUSE, Timing, Watch
from pmcompat.model import Action, AgentFault, Operation, Outcome, PowerStatus, Stage

#: seconds that one ``on`` of the duty may take, and that a fresh ``off`` is given to show
SHORT = 5.0
#: seconds that one status read of the duty may take
GLANCE = 2.0
#: polls after the duty's ``on``: two seconds
AFTERWARDS = Timing(delay=0.5, retries=5)


def owes(book: Notebook) -> bool:
    """Tell whether ending the operation now would leave a duty undone."""
    return book.operation is Operation.RESTART and book.off_was_asked and book.stage is not Stage.DONE


def finish(book: Notebook, *, ended_by: str) -> Flow[Outcome]:
    """Do what is owed, and return the outcome of the operation that *ended_by* ended."""
    if owes(book) and (book.dark or (yield from _is_dark(book))):
        book.stage = Stage.GOING_ON
        tracks = [track for level in owed_levels(book) for track in level]
        yield from together([_give_back(book, track) for track in tracks])
        if any(track.reads(PowerStatus.ON) for track in book.dark):
            lit(book, tracks)
            book.note(f"the {ended_by} came after the power was cut: on was still sent")
    return book.outcome(ended_by=ended_by)


def _glance(_track: Track) -> float:
    return GLANCE


def _is_dark(book: Notebook) -> Flow[bool]:
    """Watch the level that was being cut until it is confirmed off or cannot be expected to be."""
    level = book.working
    since, waited, pause = max(track.switched_at for track in level), 0.0, FIRST_PAUSE
    while True:
        yield from read(book, level, within=_glance)
        if all(track.reads(PowerStatus.OFF) for track in level):
            yield from read(book, level, within=_glance)
            if all(track.reads(PowerStatus.OFF) for track in level):
                book.dark, book.stage = level, Stage.OFF
                return True
        if max(book.now - since, waited) >= SHORT:
            return False
        yield from together([_wait(book, track, pause) for track in level if not track.reads(PowerStatus.OFF)][:1])
        waited, pause = waited + pause, min(2 * pause, 0.5)


def _wait(book: Notebook, track: Track, pause: float) -> Flow[bool]:
    """Let *pause* seconds pass: waiting is the pause before a read."""
    return (yield from ask(book, track, Action.STATUS, after=pause, within=GLANCE)) is PowerStatus.OFF


def _give_back(book: Notebook, track: Track) -> Flow[bool]:
    """Send ``on`` unless the device has taken one already, and see whether it helps."""
    if not (track.asked is Action.ON and track.accepted):
        answer = yield from ask(book, track, Action.ON, within=SHORT)
        if isinstance(answer, AgentFault) and not answer.sent:
            return False
    track.watch = Watch(timing=AFTERWARDS, minimum=0.0, fixed=False, began=book.now)
    return (yield from confirm(book, track, PowerStatus.ON, within=GLANCE))
