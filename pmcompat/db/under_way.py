"""Statements that the server works on while this process does something else.

What lives here: sending without waiting, on psycopg's own generators (it waits for a connection only where it is told to). The
server works in a process of its own, so what is done meanwhile costs no time of its work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import generators, sql
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus

#: a row of the last statement's answer, as the server writes it
TextRow = tuple[bytes | None, ...]


class UnderWay:
    """Statements on their way; nobody else may use the connection before :meth:`answer` has returned."""

    def __init__(self, conn: psycopg.Connection[Any], statements: Sequence[sql.Composable]) -> None:
        """Send *statements* as one message; they take no parameters."""
        self._conn = conn
        conn.pgconn.send_query(sql.SQL(";\n").join(statements).as_bytes(conn))
        conn.pgconn.flush()  # the rest, if any is left, follows in answer()

    def answer(self) -> list[TextRow]:
        """Wait for all statements and return the rows of the last one.

        :raises psycopg.Error: what the first statement that failed was refused for.
        """
        results = self._conn.wait(generators.execute(self._conn.pgconn))
        for result in results:
            if result.status == ExecStatus.FATAL_ERROR:
                raise error_from_result(result, encoding=self._conn.info.encoding)
        last = results[-1]
        return [tuple(last.get_value(row, column) for column in range(last.nfields)) for row in range(last.ntuples)]
