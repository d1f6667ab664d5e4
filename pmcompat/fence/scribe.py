"""Carries one request's events to listener and journal, so that neither can ever disturb the flow (law F7, B-11).

What lives here: the buffer between the flow and whoever listens. Events reach the listener at once and the journal in
batches, in the background; what either of them does wrong is dropped, and said at the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from pmcompat.fence.events import Event, Request
from pmcompat.fence.protocols import Journal
from pmcompat.model import Outcome

#: hears every event; may be slow or wrong, but should be neither
Listener = Callable[[Event], object]

#: seconds that events are gathered before they are written: many hosts at once would else cost a statement per event
GATHER = 0.2
#: seconds that the journal is waited for once the outcome is known
PARTING = 5.0


class Scribe:
    """The events of one request."""

    def __init__(self, listener: Listener | None, journal: Journal | None) -> None:
        self._listener, self._journal = listener, journal
        self._unwritten: list[Event] = []
        self._soon: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None
        #: what went wrong with the journal, one line; '' if nothing did
        self.trouble = ""

    def emit(self, event: Event) -> None:
        """Tell the listener now and the journal soon. Never raises, never waits."""
        if self._listener is not None:
            with suppress(Exception):
                self._listener(event)
        if self._journal is not None:
            self._unwritten.append(event)
            if self._soon is None and self._writing is None:
                self._soon = asyncio.get_running_loop().call_later(GATHER, self._begin, self._journal)

    def _begin(self, journal: Journal) -> None:
        self._soon = None
        self._writing = asyncio.get_running_loop().create_task(self._write(journal))

    async def _write(self, journal: Journal) -> None:
        while self._unwritten:
            batch, self._unwritten = self._unwritten, []
            try:
                await journal.record(batch)
            except Exception as error:  # noqa: BLE001 - law F7: no failure of the journal changes the flow
                self._note(error)
        self._writing = None

    def _note(self, error: Exception) -> None:
        # the first line of the message only: a driver's error may be long, and ours carry no secret
        self.trouble = self.trouble or (str(error).splitlines() or [type(error).__name__])[0]

    async def close(self, request: Request, outcome: Outcome, seconds: float) -> None:
        """Write what is left and close the record, within :data:`PARTING` seconds."""
        if self._journal is None:
            return
        try:
            async with asyncio.timeout(PARTING):
                if self._soon is not None:
                    self._soon.cancel()
                if self._writing is not None:
                    await self._writing
                await self._write(self._journal)
                await self._journal.finished(request, outcome, seconds)
        except Exception as error:  # noqa: BLE001 - as above
            self._note(error)
