"""Hosts on their way into the database, a batch at a time: while the server works on one, the caller makes the next.

What lives here: which batch is under way, and what became of the others. What is sent is :mod:`pmcompat.db.dao_write`'s.
While a batch is under way nobody else may use the connection: whoever wants to, settles first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import psycopg

from pmcompat.db import dao_write
from pmcompat.db.rows import Row, Shape
from pmcompat.db.under_way import UnderWay
from pmcompat.model import Host, HostStatus

#: called with (done, total) hosts after every batch
Progress: TypeAlias = Callable[[int, int], None]


class Saving:
    """New hosts on their way into the database: while the server stores one batch, the caller makes the next.

    Between :meth:`add` and :meth:`settle` nobody else may use the connection.
    """

    def __init__(
        self, conn: psycopg.Connection[Any], shape: Shape, checked: Callable[..., list[Row]], progress: Progress | None
    ) -> None:
        self._conn, self._shape, self._checked, self._progress = conn, shape, checked, progress
        self._under_way: tuple[Sequence[Host], dao_write.Insertion] | None = None
        #: what is stored, as stored
        self.saved: list[Host] = []
        #: how many hosts are to be told as the total
        self.total = 0

    def add(self, hosts: Sequence[Host]) -> None:
        """Have the server store *hosts*, once it has stored those before; errors as :meth:`VdsStaticDao.save_many`."""
        placed = [replace(host, status=HostStatus.MAINTENANCE) if host.status is None else host for host in hosts]
        rows = self._checked(placed, None, self.settle)
        self.settle()
        if placed:
            statuses = [int(host.status or 0) for host in placed]
            self._under_way = placed, dao_write.Insertion(self._conn, self._shape, rows, statuses)

    def settle(self) -> None:
        """Wait until all that was added is stored."""
        if self._under_way is None:
            return
        (hosts, insertion), self._under_way = self._under_way, None
        for host, new in zip(hosts, insertion.ids(), strict=True):
            self.saved.append(host if host.id == new else replace(host, id=new))
        if self._progress:
            self._progress(len(self.saved), self.total)

    def abandon(self) -> None:
        """Wait for the server, whatever it says: all of it is about to be rolled back. Idempotent."""
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way[1].under_way.abandon()


class Missing(Exception):
    """Fewer rows were changed than there are hosts in a batch."""

    def __init__(self, batch: Sequence[Host]) -> None:
        super().__init__()
        self.batch = batch


class Updating:
    """Hosts on their way into the database: while the server changes one batch, the next is checked."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total, self._progress = total, progress
        self._done = 0
        self._under_way: tuple[Sequence[Host], UnderWay] | None = None

    def begin(self, batch: Sequence[Host], under_way: UnderWay) -> None:
        """Note that *batch* is on its way."""
        self._under_way = batch, under_way

    def settle(self) -> None:
        """Wait until what is on its way is written.

        :raises Missing: a host of the batch is not there.
        """
        if self._under_way is None:
            return
        (batch, under_way), self._under_way = self._under_way, None
        ((count,),) = under_way.answer()
        if int(count or 0) != len(batch):
            raise Missing(batch)
        self._done += len(batch)
        if self._progress:
            self._progress(self._done, self._total)

    def abandon(self) -> None:
        """Wait for the server, whatever it says. Idempotent."""
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way[1].abandon()
