"""An event loop in a thread of its own, for callers that have none.

What lives here: the bridge from plain calls to coroutines, and what Ctrl-C does to it: the first one ends the waiting and
the duty is still done (law F8), the second one ends that too, and then the interrupt goes on its way.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")
End = Callable[[str], None]
INTERRUPT = "SIGINT"


class LoopThread:
    """One event loop, running until closed. Safe to call from several threads."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="pmcompat-executor", daemon=True)
        self._thread.start()

    def run(self, make: Callable[[], Coroutine[Any, Any, T]], end: End) -> T:
        """Run the coroutine that *make* makes, and return what it returns.

        :raises RuntimeError: the calling thread runs an event loop itself: it would stand still.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise RuntimeError("an event loop runs in this thread: await the a… form of this method instead")
        return self._wait(asyncio.run_coroutine_threadsafe(make(), self._loop), end)

    def _wait(self, future: Future[T], end: End) -> T:
        interrupted = False
        while True:
            try:
                result = future.result()
            except KeyboardInterrupt:
                interrupted = True
                self._loop.call_soon_threadsafe(end, INTERRUPT)
                continue
            if interrupted:
                raise KeyboardInterrupt
            return result

    def iterate(self, make: Callable[[], AsyncIterator[T]], end: End) -> Iterator[T]:
        """Yield what the asynchronous iterator yields; leaving early calls *end* and waits for it to finish."""
        found: queue.SimpleQueue[tuple[bool, T | None]] = queue.SimpleQueue()

        async def feed() -> None:
            try:
                async for item in make():
                    found.put((True, item))
            finally:
                found.put((False, None))

        feeding = asyncio.run_coroutine_threadsafe(feed(), self._loop)
        try:
            while (item := found.get())[0]:
                yield item[1]  # type: ignore[misc]  # True comes with an item
        except (KeyboardInterrupt, GeneratorExit):
            self._loop.call_soon_threadsafe(end, INTERRUPT)
            self._wait(feeding, end)
            raise
        self._wait(feeding, end)

    def close(self) -> None:
        """Stop the loop and its thread. Idempotent."""
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
