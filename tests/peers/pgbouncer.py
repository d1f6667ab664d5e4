"""Debian's ``pgbouncer`` as a peer: the proxy that stands before many engines' databases, in the mode a test asks for.

One process per proxy on 127.0.0.1, its configuration and log in a directory of its own. It refuses to run as root, so root
starts it as ``nobody``. It gives way to no test: whatever happens, it is stopped by its own process id.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from psycopg.conninfo import conninfo_to_dict, make_conninfo

#: Debian installs it where only root's PATH looks
PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
MISSING = "needs Debian's pgbouncer: apt-get install pgbouncer"

Mode = Literal["session", "transaction", "statement"]

_CONFIGURATION = """\
[databases]
* = host={host} port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = {mode}
{settings}
"""


@dataclass(frozen=True)
class PgBouncer:
    """One running proxy."""

    port: int
    process: subprocess.Popen[bytes]
    #: what it says of itself and its clients
    log: Path

    def dsn(self, direct: str) -> str:
        """Return *direct*, the address of a database, by way of the proxy."""
        return make_conninfo(direct, host="127.0.0.1", port=self.port)

    def stop(self) -> None:
        """End it at once, as a crash does: every client and every session it held is cut."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(10)

    def freeze(self) -> None:
        """Let it go silent: its port stays bound, nothing is forwarded."""
        self.process.send_signal(signal.SIGSTOP)


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.2):
        return True
    return False


@contextlib.contextmanager
def pgbouncer(direct: str, mode: Mode, **settings: object) -> Iterator[PgBouncer]:
    """Run a proxy before the server of the database *direct*; *settings* are lines of its configuration."""
    assert PROGRAM, MISSING
    server = conninfo_to_dict(direct)
    where = Path(tempfile.mkdtemp(prefix="pmcompat-pgbouncer-"))
    try:
        port = _free_port()
        users = where / "users"
        users.write_text(f'"{server["user"]}" ""\n')
        configuration = where / "pgbouncer.ini"
        configuration.write_text(
            _CONFIGURATION.format(
                host=server["host"],
                port=server["port"],
                listen=port,
                users=users,
                mode=mode,
                settings="\n".join(f"{name} = {value}" for name, value in settings.items()),
            )
        )
        log = where / "log"
        account = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        if account:
            for path in (where, users, configuration):
                os.chown(path, account.pw_uid, account.pw_gid)
        with log.open("wb") as said:
            process = subprocess.Popen(
                [PROGRAM, configuration],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                user=account.pw_uid if account else None,
                group=account.pw_gid if account else None,
                extra_groups=[] if account else None,
            )
        proxy = PgBouncer(port, process, log)
        try:
            give_up = time.monotonic() + 10
            while not _answers(port):
                assert process.poll() is None, f"pgbouncer ended by itself: {log.read_text()}"
                assert time.monotonic() < give_up, "pgbouncer does not answer"
                time.sleep(0.01)
            yield proxy
        finally:
            proxy.stop()
    finally:
        shutil.rmtree(where, ignore_errors=True)
