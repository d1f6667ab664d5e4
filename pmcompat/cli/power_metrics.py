"""``--metrics FILE``: the metrics of one command, for node_exporter's textfile collector."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from pmcompat.cli import output
from pmcompat.errors import ConfigurationError
from pmcompat.fence.events import Event
from pmcompat.fence.scribe import Listener


class MetricsFile:
    """The metrics of one command, and the file they are written to when it ends.

    :raises ConfigurationError: they cannot be written there, or cannot be made; before anything is sent.
    """

    def __init__(self, path: Path) -> None:
        where = path.parent
        if path.is_dir() or not where.is_dir() or not os.access(where, os.W_OK):
            raise ConfigurationError(
                f"the metrics cannot be written to {path}",
                field="metrics",
                why="it is a directory" if path.is_dir() else f"{where} is no directory that you may write to",
                state="nothing was sent",
                fix="name a file in a directory of yours, as node_exporter's --collector.textfile.directory",
            )
        try:
            from pmcompat.fence.metrics import Metrics
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                "metrics need the Python package prometheus-client",
                field="metrics",
                why=f"there is no module {error.name}",
                state="nothing was sent",
                fix="pip install 'pmcompat[serve]'",
            ) from None
        self._path = path
        self._metrics = Metrics()
        self.hear: Listener = self._metrics

    def write(self) -> bool:
        """Write the file; tell whether it was. Never raises for what is wrong with it: the hosts are done."""
        try:
            self._metrics.write(self._path)
        except (OSError, ValueError) as error:
            output.say(f"the metrics cannot be written to {self._path}: {error}")
            return False
        return True


def each_of(*listeners: Listener | None) -> Listener | None:
    """Return a listener that tells each of them; None if there is none."""
    heard = [listener for listener in listeners if listener is not None]

    def tell(event: Event) -> None:
        for listener in heard:
            with suppress(Exception):  # one that fails takes nothing from the others
                listener(event)

    return tell if heard else None
