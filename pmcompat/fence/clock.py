"""What the executor takes for time: something that tells the seconds and calls back later.

What lives here: the protocol, and waiting in terms of it. An event loop is such a clock, and the one that is used unless
another is given: the seconds of ``time.monotonic()``, never those of the wall (law F8).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol


class Handle(Protocol):
    """A call that is to come."""

    def cancel(self) -> None:
        """Take it back."""


class Clock(Protocol):
    """Tells the time and calls back; an ``asyncio`` event loop is one."""

    def time(self) -> float:
        """Return seconds since whenever; they never go back."""

    def call_later(self, delay: float, callback: Callable[..., object], /, *args: Any) -> Handle:
        """Have *callback* called on the event loop's thread in *delay* seconds."""


async def sleep(clock: Clock, seconds: float) -> None:
    """Let so many seconds pass."""
    if isinstance(clock, asyncio.AbstractEventLoop):
        await asyncio.sleep(seconds)
        return
    done = asyncio.get_running_loop().create_future()
    handle = clock.call_later(seconds, _settle, done)
    try:
        await done
    finally:
        handle.cancel()


def _settle(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


def until(clock: Clock, when: float) -> AbstractAsyncContextManager[object]:
    """Bound what is awaited inside: it ends in a TimeoutError when the clock shows *when*."""
    return asyncio.timeout_at(when) if isinstance(clock, asyncio.AbstractEventLoop) else _bound(clock, when)


@asynccontextmanager
async def _bound(clock: Clock, when: float) -> AsyncIterator[None]:
    async with asyncio.timeout(None) as bound:
        handle = clock.call_later(when - clock.time(), bound.reschedule, asyncio.get_running_loop().time())
        try:
            yield
        finally:
            handle.cancel()
