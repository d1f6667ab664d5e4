"""The import layers of the house (DESIGN §3), and who may import what from outside."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "pmcompat"

#: from the bottom up; a module belongs to the longest prefix that fits; a layer imports itself and those below
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "resources"),
    ("model",),
    ("options",),
    ("fence.commands", "fence.events", "fence.protocols", "fence.remembered"),
    ("db", "documents", "fence.flow", "fence.explain", "fence.timing"),
    ("fence.drivers",),
    ("fence", "mapping", "db.upgrade"),
    ("hosts",),
    ("cli", "demo", "doctor", "testing", "__main__", ""),
)
#: rooms of one layer that are blind to each other
BLIND = (("db", "documents"), ("documents", "fence"), ("db", "fence"))

#: outside package → the only places that may import it
HOMES: dict[str, tuple[str, ...]] = {
    "psycopg": ("db",),
    "yoyo": ("db.upgrade",),
    "lxml": ("documents",),
    "pyexpat": ("documents",),
    "xml.parsers": ("documents",),
    "xmlschema": ("documents",),
    "xml.etree": ("fence.drivers",),
    "pyghmi": ("fence.drivers.ipmi_worker_link", "testing.bmc_device"),
    "cryptography": ("db.cipher",),
    "prometheus_client": ("fence.metrics",),
    "typer": ("cli",),
    "testing": ("testing",),
}
FORBIDDEN_IN_FLOW = {"time", "threading", "asyncio", "socket", "subprocess", "random", "logging", "datetime", "os"}


def modules() -> dict[str, str]:
    found = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = path.read_text(encoding="utf-8")
    return found


def imports(text: str, known: frozenset[str]) -> Iterator[str]:
    """Yield what *text* imports anywhere, in functions too; own modules without the package's name.

    Imports under ``if TYPE_CHECKING`` count as well: a type is knowledge of the other room.
    """
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute: a reader sees where a name lives"
            base = node.module or ""
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner.removeprefix(PACKAGE + ".") in known else base


def layer(name: str) -> int:
    fits = [(len(prefix), i) for i, prefixes in enumerate(LAYERS) for prefix in prefixes if _within(name, prefix)]
    assert fits, f"{name} has no layer: give it one"
    return max(fits)[1]


def _within(name: str, prefix: str) -> bool:
    return name == prefix or (bool(prefix) and name.startswith(prefix + "."))


def wrong_arrows(sources: Mapping[str, str]) -> list[str]:
    """Return every import that runs against the layers, as sentences."""
    known = frozenset(sources)
    wrong = []
    for name, text in sources.items():
        for target in imports(text, known):
            if not target.startswith(PACKAGE):
                continue
            other = target.removeprefix(PACKAGE).removeprefix(".")
            if name == "" or other == "":
                continue
            if layer(other) > layer(name):
                wrong.append(f"{name} imports {other}, which lies above it")
            a, b = name.split(".")[0], other.split(".")[0]
            if layer(other) == layer(name) and ((a, b) in BLIND or (b, a) in BLIND):
                wrong.append(f"{name} imports {other}, a sibling it should be blind to")
    return wrong


def cycles(sources: Mapping[str, str]) -> list[str]:
    """Return the modules that can reach themselves through top-level imports."""
    known = frozenset(sources)
    edges = {
        name: {t.removeprefix(PACKAGE + ".") for t in imports(text, known)} & known - {name} for name, text in sources.items()
    }

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [start]
        while todo:
            for other in edges[todo.pop()] - seen:
                seen.add(other)
                todo.append(other)
        return seen

    return sorted(name for name in edges if name in reach(name))


def strays(sources: Mapping[str, str]) -> list[str]:
    """Return every import of an outside package from a room that is not its home, as sentences."""
    known = frozenset(sources)
    wrong = []
    for name, text in sources.items():
        for target in imports(text, known):
            for package, homes in HOMES.items():
                if _within(target, package) and not any(name == home or name.startswith(home + ".") for home in homes):
                    wrong.append(f"{name} imports {target}, whose home is {homes}")
    return wrong


def test_imports_run_one_way() -> None:
    assert wrong_arrows(modules()) == []


def test_no_module_reaches_itself() -> None:
    assert cycles({name: text for name, text in modules().items() if name}) == []


def test_each_outside_library_is_imported_in_its_own_room() -> None:
    assert strays(modules()) == []


def test_the_flow_has_no_clock_no_thread_and_no_socket() -> None:
    for name, text in modules().items():
        if layer(name) == layer("fence.flow") and name.startswith("fence."):
            assert FORBIDDEN_IN_FLOW.isdisjoint(target.split(".")[0] for target in imports(text, frozenset())), name


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("model", "from pmcompat.options import parse"),
        ("documents.values", "from pmcompat.db import dao"),
        ("fence.flow", "from pmcompat.fence.drivers import Driver"),
        ("errors", "import pmcompat.model"),
        ("db.connection", "def f():\n    from pmcompat.cli import app"),
    ],
)
def test_a_reversed_arrow_is_seen(room: str, line: str) -> None:
    """The test of the test: put one arrow back to front and it must be named."""
    sources = modules()
    assert wrong_arrows({**sources, room: sources[room] + "\n" + line + "\n"}) != []


def test_a_cycle_is_seen() -> None:
    sources = {name: text for name, text in modules().items() if name}
    sources["errors"] += "\nimport pmcompat.model\n"
    assert "errors" in cycles(sources)


@pytest.mark.parametrize(
    ("room", "line"), [("model", "import psycopg"), ("cli.output", "from lxml import etree"), ("hosts", "import pyghmi.ipmi")]
)
def test_a_stray_library_is_seen(room: str, line: str) -> None:
    sources = {"model": "", "cli.output": "", "hosts": ""}
    assert strays({**sources, room: line}) != []
