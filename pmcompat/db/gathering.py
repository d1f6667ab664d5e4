"""Calls that come while the database is busy with the last ones are answered together, by one statement.

What lives here: the gathering alone. Hundreds of hosts that begin at once ask the same few things; a round trip for each of
them would cost more than their devices do. A call that comes alone goes at once; one that follows another closely waits for
company, :data:`PAUSE` seconds at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import psycopg

A = TypeVar("A")
R = TypeVar("R")
#: calls answered by one statement: the first hosts of many should not wait for the last
MOST = 64
#: seconds between the end of one statement and the next of its kind
PAUSE = 0.02


class Gathered(Generic[A, R]):
    """A question to the database that many ask at once. For one event loop.

    :param answer: arguments → as many results, in order; a result that is an exception is raised to its caller alone.
    """

    def __init__(self, answer: Callable[[Sequence[A]], Awaitable[Sequence[R | Exception]]]) -> None:
        self._answer = answer
        self._waiting: list[tuple[A, asyncio.Future[R]]] = []
        self._running: asyncio.Task[None] | None = None

    async def __call__(self, argument: A) -> R:
        """Return the result for *argument*; what goes wrong with the statement is raised to all it was for."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((argument, future))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(0)  # whoever is about to ask in this turn of the loop comes along
                calls = [call for call in self._waiting[:MOST] if not call[1].done()]
                del self._waiting[:MOST]
                if calls:
                    await self._serve(calls)
                await asyncio.sleep(PAUSE)
        finally:
            self._running = None

    async def close(self) -> None:
        """End what is under way; who still waits is told so. Idempotent."""
        running, waiting = self._running, self._waiting
        self._waiting = []
        if running is not None:
            running.cancel()
            await asyncio.wait([running])
        for _, future in waiting:
            future.cancel()

    async def _serve(self, calls: list[tuple[A, asyncio.Future[R]]]) -> None:
        results: Sequence[R | Exception]
        try:
            results = await self._answer([argument for argument, _ in calls])
        except Exception as error:  # noqa: BLE001 - raised to those who asked
            if len(calls) > 1 and _of_values(error):
                for call in calls:  # what one of them says cannot be stored: the others' still is
                    await self._serve([call])
                return
            results = [error] * len(calls)
        except BaseException:  # closed: nobody will answer any more
            for _, future in calls:
                future.cancel()
            raise
        for (_, future), result in zip(calls, results, strict=True):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)


def _of_values(error: Exception) -> bool:
    """Tell whether the database objected to a value and not to the statement (a NUL in a text, say)."""
    return isinstance(error, UnicodeError) or isinstance(error.__context__, psycopg.DataError)
