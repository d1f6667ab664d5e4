"""testing.postgresql's server, started by :mod:`pmcompat.db.cluster`.

What lives here: the one subclass. The library gives the shape its users know (``dsn()``, ``url()``, a context manager);
finding the programs, dropping root and leaving nothing behind are the cluster's (database facts §11).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from testing.postgresql import Postgresql

from pmcompat.db.cluster import Cluster, installation

#: ``system``, ``wheel``, ``wheel18``, or a directory with initdb and postgres
CHOICE = "PMCOMPAT_TEST_POSTGRES"
#: nobody tunes what lives for a minute, and its workers would keep templates busy
_SETTINGS = {"autovacuum": "off", "jit": "off"}


class Server(Postgresql):  # type: ignore[misc]  # the library ships no types
    """A Postgres server of its own on 127.0.0.1, safe to start as root, gone when the process is.

    ``Server(initdb="/opt/pgsql/bin/initdb")`` names the programs; otherwise the variable ``PMCOMPAT_TEST_POSTGRES`` does,
    otherwise the system's are taken, else the wheel's.
    """

    subdirectories: tuple[str, ...] = ()

    def initialize(self) -> None:
        """Choose the programs."""
        given = self.settings.pop("initdb") or self.settings.pop("postgres")
        choice = str(Path(given).parent) if given else os.environ.get(CHOICE)
        self.cluster = Cluster(installation(choice), tcp=True, settings=_SETTINGS)

    def initialize_database(self) -> None:
        """Do nothing: the cluster runs initdb when it starts."""

    def start(self) -> None:
        """Start the server and create the database ``test``, as users of the library expect."""
        self.cluster.start()
        self.settings["port"] = self.cluster.port
        self.cluster.create_database("test")

    def is_alive(self) -> bool:
        """Tell whether the server was started and not stopped."""
        return self.cluster.running

    def terminate(self, *_: Any) -> None:
        """Stop the server."""
        if hasattr(self, "cluster"):  # the library stops also what could not be initialised
            self.cluster.stop()
