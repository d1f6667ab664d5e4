"""Statements that the server works on while this process does something else.

What lives here: sending without waiting, on psycopg's own generators (it waits for a connection only where it is told to). The
server works in a process of its own, so what is done meanwhile costs no time of its work.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import generators, sql
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus

#: a row of the last statement's answer, as text
TextRow = tuple[str | None, ...]


class UnderWay:
    """Statements on their way; nobody else may use the connection before :meth:`answer` or :meth:`abandon` has returned."""

    def __init__(
        self, conn: psycopg.Connection[Any], statements: Sequence[sql.Composed], parameters: Sequence[object] = ()
    ) -> None:
        """Send *statements* as one message; if each of them takes *parameters*, have them done at once, one by one.

        :param statements: the last one answers with columns of type text.
        """
        self._conn = conn
        self._sent = not parameters
        self._rows: list[TextRow] = []
        if self._sent:
            conn.pgconn.send_query(sql.SQL(";\n").join(statements).as_bytes(conn))
            conn.pgconn.flush()  # the rest, if any is left, follows in answer()
        else:
            for statement in statements:
                cursor = conn.execute(statement, parameters)
            self._rows = cursor.fetchall()

    def answer(self) -> list[TextRow]:
        """Wait for all statements and return the rows of the last one.

        :raises psycopg.Error: what the first statement that failed was refused for.
        """
        if not self._sent:
            return self._rows
        self._sent = False
        results, encoding = self._conn.wait(generators.execute(self._conn.pgconn)), self._conn.info.encoding
        for result in results:
            if result.status == ExecStatus.FATAL_ERROR:
                raise error_from_result(result, encoding=encoding)
        last = results[-1]
        rows = ((last.get_value(row, column) for column in range(last.nfields)) for row in range(last.ntuples))
        self._rows = [tuple(None if value is None else str(value, encoding) for value in row) for row in rows]
        return self._rows

    def abandon(self) -> None:
        """Wait for the server, whatever it says: the transaction is about to be rolled back. Idempotent."""
        with suppress(psycopg.Error):
            self.answer()
