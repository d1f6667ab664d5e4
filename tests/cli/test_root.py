"""The root of the command line: help, variables, configuration, exit codes, secrets in arguments."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HEAVY = ("psycopg", "lxml", "xmlschema", "pyghmi", "starlette", "yoyo", "cryptography", "jinja2")


def pmcompat(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PMCOMPAT_", "PG"))}
    return subprocess.run(
        [sys.executable, "-m", "pmcompat", *arguments],
        env={**clean, "NO_COLOR": "1", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def cpu_of(work: Callable[[], object]) -> float:
    """Return the seconds of processor that a child process takes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_costs_little_more_than_the_libraries_it_is_printed_with() -> None:
    """The best of five, beside importing typer and rich alone: this machine's speed is not the command's cost."""
    line = [sys.executable, "-c", "import typer.main, rich.table"]
    helped, libraries = [], []
    for _ in range(5):
        helped.append(cpu_of(lambda: pmcompat("--help")))
        libraries.append(cpu_of(lambda: subprocess.run(line, check=True)))
    assert min(helped) < 3 * min(libraries)


@pytest.mark.parametrize("noun", ["", "db", "xml", "host", "agent", "credentials"])
def test_help_loads_no_heavy_library(noun: str) -> None:
    script = (
        "import sys\nfrom pmcompat.cli.app import run\n"
        f"try: run({[noun, '--help'] if noun else ['--help']!r})\nexcept SystemExit: pass\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert result.stderr.strip() == "[]"


def test_a_password_in_the_dsn_argument_is_refused_and_not_repeated() -> None:
    result = pmcompat("db", "status", "--dsn", "postgresql://engine:hunter2@127.0.0.1:1/engine")
    assert result.returncode == 3
    assert "PMCOMPAT_DSN" in result.stderr
    assert "hunter2" not in result.stdout + result.stderr


def test_a_password_in_the_dsn_variable_is_fine() -> None:
    result = pmcompat("db", "status", PMCOMPAT_DSN="postgresql://engine:hunter2@127.0.0.1:1/engine")
    assert result.returncode == 4, "the port is closed: unreachable, not refused"
    assert "hunter2" not in result.stdout + result.stderr


def test_an_unreachable_database_is_exit_4_with_what_why_state_and_fix() -> None:
    result = pmcompat("db", "status", "--dsn", "postgresql://engine@127.0.0.1:1/engine")
    assert result.returncode == 4
    for word in ("why:", "state:", "fix:", "[database-unreachable]"):
        assert word in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_two_v_add_the_traceback_wherever_they_stand() -> None:
    assert "Traceback" in pmcompat("db", "status", "--dsn", "host=127.0.0.1 port=1", "-vv").stderr
    assert "Traceback" in pmcompat("-vv", "db", "status", "--dsn", "host=127.0.0.1 port=1").stderr


@pytest.mark.parametrize(
    "arguments", [("db", "fly"), ("db", "status", "--no-such-option"), ("host", "restart", "--delay", "soon", "a")]
)
def test_wrong_usage_is_exit_2(arguments: tuple[str, ...]) -> None:
    assert pmcompat(*arguments).returncode == 2


def test_an_unreadable_dsn_is_a_clear_error_that_does_not_quote_it() -> None:
    result = pmcompat("db", "status", PMCOMPAT_DSN="hunter2 is not a dsn")
    assert result.returncode == 3
    assert "hunter2" not in result.stderr


def test_the_configuration_file_gives_defaults_and_the_command_line_wins(tmp_path: Path) -> None:
    file = tmp_path / "pm.toml"
    file.write_text('[db]\ndsn = "host=127.0.0.1 port=1 dbname=fromfile"\n')
    assert "fromfile" in pmcompat("--config", str(file), "db", "status").stderr
    given = pmcompat("--config", str(file), "db", "status", "--dsn", "host=127.0.0.1 port=1 dbname=given").stderr
    assert "given" in given
    assert "fromfile" not in given


@pytest.mark.parametrize("text", ["[db]\ndns = 'x'\n", "dsn = ", "[bd]\ndsn = 'x'\n"])
def test_a_wrong_configuration_file_is_exit_3_and_says_what_is_wrong(tmp_path: Path, text: str) -> None:
    file = tmp_path / "pm.toml"
    file.write_text(text)
    result = pmcompat("--config", str(file), "db", "status")
    assert result.returncode == 3
    assert str(file) in result.stderr


def test_every_long_option_is_also_a_variable() -> None:
    text = pmcompat("host", "restart", "--help", COLUMNS="200").stdout
    for name in ("PMCOMPAT_QUIET_TIME", "PMCOMPAT_DSN", "PMCOMPAT_FIRST_WAIT", "PMCOMPAT_FIXED_POLLS"):
        assert name in text


def test_doctor_prints_one_json_object_a_line() -> None:
    result = pmcompat("doctor", "--json")
    findings = [json.loads(line) for line in result.stdout.splitlines()]
    assert {"Python", "SQL and schemas", "database"} <= {finding["name"] for finding in findings}
    assert all(finding["works"] or finding["fix"] for finding in findings)


def test_doctor_fails_when_no_database_is_named() -> None:
    assert pmcompat("doctor").returncode == 1
