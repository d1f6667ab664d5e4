"""A private Postgres is found, started as whoever runs us, and gone whatever happens to us."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psycopg
import pytest

from pmcompat.db.cluster import PREFIX, Cluster, find_binaries, installation, reap
from pmcompat.errors import ConfigurationError, OperationFailed

#: seconds for things that take a fraction of one on a quiet machine
PATIENCE = 20.0
PLACES = find_binaries()
pytestmark = pytest.mark.skipif(not PLACES, reason="needs a Postgres server: pip install 'pmcompat[demo]'")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="is about being root")

#: starts a cluster, says where, and waits; with "fork" a child of it keeps every pipe open
OWNER = """
import sys
sys.path[:0] = {path!r}
import os, time
from pmcompat.db.cluster import Cluster
cluster = Cluster(tcp="tcp" in sys.argv)
cluster.start()
if "fork" in sys.argv and os.fork() == 0:
    time.sleep(30)
    os._exit(0)
print(cluster._warden.pid, cluster.directory, flush=True)
if "leave" not in sys.argv:
    time.sleep(60)
"""


def owner(*arguments: str, interpreter: tuple[str, ...] = (sys.executable,)) -> tuple[subprocess.Popen[str], int, int, Path]:
    """Start a process that owns a cluster; return it, its warden, its postmaster and the directory."""
    text = OWNER.format(path=[path for path in sys.path if path])
    process = subprocess.Popen(
        [*interpreter, "-c", text, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd="/",
        env={"PATH": os.environ["PATH"], "TMPDIR": tempfile.gettempdir(), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert process.stdout is not None
    warden, directory = process.stdout.readline().split()
    return process, int(warden), int((Path(directory) / "data/postmaster.pid").read_text().split()[0]), Path(directory)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(condition) -> bool:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


@contextlib.contextmanager
def ended(process: subprocess.Popen[str]):
    """Whatever the test does, nothing of its own stays."""
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


# --- finding ----------------------------------------------------------------------------------------------------------


def test_a_preference_orders_the_sources_and_leaves_none_out() -> None:
    for prefer in ("system", "wheel"):
        found = find_binaries(prefer)
        assert sorted(map(str, found)) == sorted(map(str, PLACES))
        assert [one.source for one in found] == sorted((one.source for one in found), key=lambda source: source != prefer)


def test_a_choice_names_a_source_a_version_or_a_directory() -> None:
    for place in PLACES:
        assert installation(f"{place.source}{place.major}") == place
        assert installation(str(place.bin)).version == place.version
    assert installation() == installation("") == PLACES[0]
    with pytest.raises(ConfigurationError, match="no PostgreSQL"):
        installation("wheel9")
    with pytest.raises(ConfigurationError, match="no PostgreSQL"):
        installation("/no/such/place")


def test_a_program_that_does_not_run_is_no_installation(tmp_path) -> None:
    for name in ("initdb", "postgres"):
        (tmp_path / name).write_text("#!/no/such/interpreter\n")
        (tmp_path / name).chmod(0o755)
    with pytest.raises(ConfigurationError):
        installation(str(tmp_path))


# --- starting and stopping --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "tcp"),
    [*((place, False) for place in PLACES), *((place, True) for place in PLACES[:1])],
    ids=lambda value: ("tcp" if value else "socket") if isinstance(value, bool) else f"{value.source}{value.major}",
)
def test_it_starts_serves_and_leaves_nothing(place, tcp) -> None:
    with Cluster(place, tcp=tcp) as cluster:
        directory, postmaster = cluster.directory, int((cluster.directory / "data/postmaster.pid").read_text().split()[0])
        cluster.create_database("first")
        with psycopg.connect(cluster.dsn("first")) as conn:
            conn.execute("CREATE TABLE t AS SELECT 1 AS one")
            version, where, encoding = conn.execute(
                "SELECT current_setting('server_version'), current_setting('listen_addresses'),"
                " current_setting('server_encoding')"
            ).fetchone()
        assert version.split()[0] == place.version
        assert (where, encoding) == ("127.0.0.1" if tcp else "", "UTF8")
        cluster.create_database("second copy/ü", template="first")
        with contextlib.closing(psycopg.connect(cluster.dsn("second copy/ü"))) as conn:
            assert conn.execute("SELECT one FROM t").fetchone() == (1,)
            cluster.drop_database("second copy/ü")  # whoever is connected
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(cluster.dsn("second copy/ü"))
    assert not directory.exists()
    assert not alive(postmaster)
    cluster.stop()  # again: nothing happens


def test_two_run_side_by_side() -> None:
    with Cluster(tcp=True) as one, Cluster(tcp=True) as other:
        assert one.port != other.port
        assert one.directory != other.directory
        assert not {one.directory, other.directory} & set(reap()), "what is in use is not left over"
        for cluster in (one, other):
            psycopg.connect(cluster.dsn()).close()


def test_variables_of_another_server_do_not_reach_it() -> None:
    misleading = {"PGDATA": "/no/such/place", "PGPORT": "1", "PGHOST": "nowhere.example", "PGOPTIONS": "-c no_such=1"}
    process = subprocess.run(
        [sys.executable, "-c", "from pmcompat.db.cluster import Cluster\nwith Cluster() as c: print(c.directory)"],
        env={**os.environ, **misleading},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        cwd="/",
    )
    assert not Path(process.stdout.strip()).exists()


def test_a_server_that_will_not_start_says_why_and_leaves_nothing() -> None:
    cluster = Cluster(settings={"shared_buffers": "plenty"})
    with pytest.raises(OperationFailed, match="shared_buffers") as caught:
        cluster.start()
    assert "removed" in caught.value.state
    assert not cluster.running
    assert cluster.directory is not None
    assert not cluster.directory.exists()


def test_started_at_once_each_gets_a_port_of_its_own() -> None:
    ports: list[int] = []

    def run() -> None:
        with Cluster(tcp=True) as cluster, psycopg.connect(cluster.dsn()):
            ports.append(cluster.port)
            barrier.wait(60)

    barrier = threading.Barrier(3)
    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ports)) == 3


#: whatever it is about to do to its directory while it starts, another run clears leftovers first
WATCHED = """
import os, sys, threading
sys.path[:0] = {path!r}
from pmcompat.db.cluster import PREFIX, Cluster, reap
busy, looks = threading.local(), []
def another(event, arguments):
    mine = any(PREFIX in os.fsdecode(one) for one in arguments if isinstance(one, (str, bytes, os.PathLike)))
    if (mine or event == "fcntl.flock") and not getattr(busy, "now", False):
        busy.now = True
        looks.append(event)
        reap()
        busy.now = False
sys.addaudithook(another)
with Cluster() as cluster:
    print(cluster.directory.is_dir(), "fcntl.flock" in looks, "os.mkdir" in looks)
"""


def test_a_run_that_clears_leftovers_takes_no_cluster_that_is_just_being_made() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WATCHED.format(path=[path for path in sys.path if path])],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd="/",
    )
    assert done.stdout.split() == ["True", "True", "True"], done.stderr


# --- nothing is left behind -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signal_number", "arguments"),
    [(signal.SIGKILL, ()), (signal.SIGTERM, ("tcp",)), (signal.SIGINT, ()), (signal.SIGKILL, ("fork",)), (None, ("leave",))],
    ids=["kill -9", "SIGTERM", "Ctrl-C", "kill -9 with a forked child", "end without stop()"],
)
def test_the_server_goes_with_its_owner(signal_number, arguments) -> None:
    process, warden, postmaster, directory = owner(*arguments)
    with ended(process):
        if signal_number is not None:
            os.kill(process.pid, signal_number)
        assert until(lambda: not (alive(postmaster) or alive(warden) or directory.exists()))


def test_ctrl_c_in_a_terminal_reaches_the_owner_alone() -> None:
    """The whole foreground group gets SIGINT; the server must live until its owner has finished with it."""
    process, warden, postmaster, directory = owner()
    with ended(process):
        assert os.getpgid(warden) != process.pid
        assert os.getpgid(postmaster) not in {process.pid, warden}
        os.killpg(process.pid, signal.SIGINT)
        assert until(lambda: not (alive(postmaster) or directory.exists()))


def test_killed_with_its_warden_the_server_goes_too_and_the_next_start_clears_the_rest() -> None:
    process, warden, postmaster, directory = owner()
    with ended(process):
        os.kill(warden, signal.SIGKILL)
        os.kill(process.pid, signal.SIGKILL)
        assert until(lambda: not alive(postmaster))
        assert until(lambda: directory not in reap() and not directory.exists())


def left_over(directory: Path, pid: int) -> None:
    (directory / "data").mkdir()
    (directory / "lock").touch()
    (directory / "data/postmaster.pid").write_text(f"{pid}\n{directory}/data\n")


def test_a_left_over_server_is_ended_only_if_it_runs_on_that_directory() -> None:
    """A process id may have been given to somebody else since."""
    own = Path(tempfile.mkdtemp(prefix=PREFIX))
    foreign = Path(tempfile.mkdtemp(prefix=PREFIX))
    text = "import signal, sys, time; signal.signal(signal.SIGQUIT, lambda *_: sys.exit(9)); print(flush=True); time.sleep(60)"
    server = subprocess.Popen([sys.executable, "-c", text, str(own / "data")], stdout=subprocess.PIPE)
    stranger = subprocess.Popen(["/bin/sleep", "60"])
    try:
        assert server.stdout is not None
        server.stdout.readline()
        left_over(own, server.pid)
        left_over(foreign, stranger.pid)
        reap()
        assert not own.exists()
        assert not foreign.exists()
        assert server.wait(5) == 9
        assert stranger.poll() is None
    finally:
        for process in (server, stranger):
            process.kill()
            process.communicate()
        shutil.rmtree(own, ignore_errors=True)
        shutil.rmtree(foreign, ignore_errors=True)


def test_what_may_be_in_use_is_not_cleared() -> None:
    locked, young, old, link = (Path(tempfile.mkdtemp(prefix=PREFIX)) for _ in range(4))
    target = Path(tempfile.mkdtemp())
    try:
        (locked / "lock").touch()
        holder = os.open(locked / "lock", os.O_RDWR)
        fcntl.flock(holder, fcntl.LOCK_EX)
        os.utime(old, (1, 1))
        link.rmdir()
        link.symlink_to(target)
        (target / "lock").touch()
        reap()
        assert locked.exists(), "its warden holds the lock"
        assert young.exists(), "it may be the beginning of a cluster"
        assert not old.exists()
        assert target.exists(), "a link is nobody's cluster"
        os.close(holder)
        reap()
        assert not locked.exists()
    finally:
        link.unlink(missing_ok=True)
        for path in (locked, young, old, target):
            shutil.rmtree(path, ignore_errors=True)


# --- root and others --------------------------------------------------------------------------------------------------


@as_root
def test_root_hands_the_server_to_an_ordinary_user_and_makes_none() -> None:
    users = Path("/etc/passwd").read_bytes()
    with Cluster() as cluster:
        assert cluster.directory is not None
        pid = int((cluster.directory / "data/postmaster.pid").read_text().split()[0])
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
        assert pwd.getpwuid(int(status["Uid"].split()[0])).pw_name in {"postgres", "nobody"}
        assert status["Groups"].strip() == ""
        assert cluster.directory.stat().st_uid == 0
    assert Path("/etc/passwd").read_bytes() == users


@as_root
def test_programs_the_user_cannot_read_are_copied(tmp_path) -> None:
    """A virtual environment in root's home is closed to everybody else."""
    place = next((place for place in PLACES if place.source == "wheel"), None)
    if place is None:
        pytest.skip("needs the wheel: pip install 'pmcompat[demo]'")
    package = place.bin.parent.parent
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    shutil.copytree(place.bin.parent, closed / package.name / place.bin.parent.name, ignore=shutil.ignore_patterns("include"))
    shutil.copytree(package.parent / f"{package.name}.libs", closed / f"{package.name}.libs")
    moved = closed / package.name / place.bin.parent.name / "bin"
    with Cluster(installation(str(moved))) as cluster:
        assert cluster.directory is not None
        assert (cluster.directory / "programs").is_dir()
        psycopg.connect(cluster.dsn()).close()


def nobodys_interpreter() -> tuple[str, ...]:
    """A Python the user nobody can run, with our modules; or skip."""
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv (util-linux)")
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for candidate in (sys.executable, getattr(sys, "_base_executable", ""), f"/usr/bin/{name}", f"/usr/local/bin/{name}"):
        # env stands between: setpriv itself still has root's rights when it looks for the program
        command = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", candidate)
        text = f"import sys; sys.path[:0] = {[path for path in sys.path if path]!r}; import psycopg, pmcompat.db.cluster"
        if candidate and subprocess.run([*command, "-c", text], capture_output=True, check=False, cwd="/").returncode == 0:
            return command
    pytest.skip("no Python here that the user nobody can run")


@as_root
@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "kill -9"])
def test_an_ordinary_user_needs_nothing_special(signal_number) -> None:
    process, warden, postmaster, directory = owner(interpreter=nobodys_interpreter())
    with ended(process):
        assert directory.stat().st_uid == 65534
        assert directory.stat().st_mode & 0o077 == 0
        os.kill(process.pid, signal_number)
        assert until(lambda: not (alive(postmaster) or alive(warden) or directory.exists()))


@as_root
def test_what_belongs_to_others_is_not_touched() -> None:
    theirs = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        left_over(theirs, 1)
        os.chown(theirs, 65534, 65534)
        reap()
        assert theirs.exists()
    finally:
        shutil.rmtree(theirs)


def test_a_temporary_directory_with_a_long_name_does_not_break_the_socket(tmp_path) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    text = "from pmcompat.db.cluster import Cluster\nimport psycopg\nwith Cluster() as c: psycopg.connect(c.dsn()).close()"
    subprocess.run([sys.executable, "-c", text], env={**os.environ, "TMPDIR": str(deep)}, check=True, timeout=60, cwd="/")
    assert list(deep.iterdir()) == []
