"""The wheel carries what the commands need, and finds it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import pmcompat

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel, unpacked."""
    where = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(where), str(ROOT)]
    subprocess.run(pip, check=True, capture_output=True, timeout=120)
    (built,) = where.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(where / "unpacked")
    return where / "unpacked"


def test_the_wheel_carries_every_script_and_schema(wheel: Path) -> None:
    for name in ("sql", "schemas"):
        ours = {str(path.relative_to(ROOT / name)) for path in (ROOT / name).rglob("*") if path.is_file()}
        theirs = {
            str(path.relative_to(wheel / "pmcompat/_data" / name))
            for path in (wheel / "pmcompat/_data" / name).rglob("*")
            if path.is_file()
        }
        assert ours == theirs
        assert ours


def test_the_wheel_finds_its_own_files_and_not_the_checkout_s(wheel: Path) -> None:
    script = "from pmcompat.resources import data; print(data('sql')); print(data('schemas'))"
    result = subprocess.run([sys.executable, "-c", script], cwd=wheel, capture_output=True, text=True, check=True, timeout=60)
    assert all(line.startswith(str(wheel)) for line in result.stdout.splitlines())


def test_the_checkout_finds_its_own_files() -> None:
    from pmcompat.resources import data

    assert data("sql") == ROOT / "sql"


def test_public_names_are_what_all_says() -> None:
    for name in pmcompat.__all__:
        assert getattr(pmcompat, name) is not None


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'fly'"):
        pmcompat.fly  # noqa: B018 - asking is the test


def test_the_package_ships_its_types(wheel: Path) -> None:
    assert (wheel / "pmcompat/py.typed").exists()


def test_the_repository_names_no_machine_path() -> None:
    """A path of the machine it was written on would be wrong everywhere else."""
    files = [
        path for top in ("pmcompat", "sql", "schemas", "tests", ".ci") for path in (ROOT / top).rglob("*") if path.is_file()
    ]
    files += [ROOT / name for name in ("README.md", "CHANGELOG.md", "Makefile", "pyproject.toml")]
    forbidden = ("/work/" + "main", "/work/" + "shared", "/ro" + "ot/")
    for path in files:
        if path.suffix in {".pyc", ".png"}:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        assert not any(word in text for word in forbidden), path
