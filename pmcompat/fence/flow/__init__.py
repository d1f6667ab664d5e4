"""The fencing flow: pure generators that decide who is asked what next (DESIGN §3).

What lives here:

* :mod:`~pmcompat.fence.flow.operations`: one flow per operation, and the rules of the room;
* :mod:`~pmcompat.fence.flow.duty`: what an interrupted restart still owes;
* :mod:`~pmcompat.fence.flow.steps`: what the flows are made of;
* :mod:`~pmcompat.fence.flow.notebook`: what a flow knows, and the outcome that follows;
* :mod:`~pmcompat.fence.flow.timing`: how long it waits;
* :mod:`~pmcompat.fence.flow.explain`: the timetable of a flow, without touching anything.

Nothing here has a clock, a thread, a socket or a log, or may import one.
"""

from __future__ import annotations

from pmcompat.fence.flow.duty import finish, owes
from pmcompat.fence.flow.notebook import Notebook, join
from pmcompat.fence.flow.operations import restart, resume, run, start, status, stop
from pmcompat.fence.flow.timing import Patience, Timing, longest

__all__ = [
    "Notebook",
    "Patience",
    "Timing",
    "finish",
    "join",
    "longest",
    "owes",
    "restart",
    "resume",
    "run",
    "start",
    "status",
    "stop",
]
