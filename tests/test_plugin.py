"""The pytest plugin: every test gets databases of its own, and pytest starts no slower for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from pmcompat.db.baseline import SHAPES
from pmcompat.db.cluster import find_binaries
from pmcompat.errors import ConfigurationError, SchemaError


def test_the_plugin_imports_nothing_heavy() -> None:
    """Pytest loads it in every run of every project on the machine."""
    text = (
        "import pytest, sys; before = set(sys.modules); import pmcompat.testing.plugin;"
        "heavy = {'psycopg', 'lxml', 'pyghmi', 'testing.postgresql', 'pg8000', 'yoyo', 'hypothesis', 'jinja2'};"
        "sys.exit(', '.join(heavy & set(sys.modules) - before) or 0)"
    )
    assert subprocess.run([sys.executable, "-c", text], check=False).returncode == 0


def test_each_call_gives_a_database_of_its_own(pm_database) -> None:
    one, other = pm_database(), pm_database()
    assert one.name != other.name
    one.connect().execute("DELETE FROM tags_vds_map")
    assert other.connect().execute("SELECT count(*) FROM tags_vds_map").fetchone() != (0,)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("hosts", [0, 20])
def test_the_upgraded_template_has_the_seven_columns(pm_database, shape, hosts) -> None:
    conn = pm_database(shape, hosts=hosts, upgraded=True).connect()
    columns = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'vds'::regclass AND attname LIKE 'pm\\_secondary\\_%'"
    assert conn.execute(columns).fetchone() == (7,)
    assert conn.execute("SELECT count(*) FROM vds").fetchone() == (hosts,)


def test_a_template_of_ones_own_is_built_once(pm_database) -> None:
    built = []

    def build(database) -> None:
        built.append(database.name)
        database.connect().execute("CREATE TABLE own AS SELECT count(*) AS hosts FROM vds")

    base = pm_database.shape("3.1.0", hosts=20)
    for _ in range(2):
        pm_database.template("of one's own", build, base=base)
        assert pm_database(template="of one's own").connect().execute("SELECT hosts FROM own").fetchone() == (20,)
    assert len(built) == 1


def test_a_template_that_cannot_be_built_is_an_error_each_time_and_leaves_nothing(pm_database, pm_server) -> None:
    def build(_database) -> None:
        raise SchemaError("not today")

    pm_database.template("broken", build)
    for _ in range(2):
        with pytest.raises(SchemaError, match="not today"):
            pm_database(template="broken")
    with psycopg.connect(pm_server.cluster.dsn()) as conn:
        assert conn.execute("SELECT count(*) FROM pg_database WHERE datname LIKE '%broken%'").fetchone() == (0,)


def test_a_template_nobody_registered_is_named(pm_database) -> None:
    with pytest.raises(ConfigurationError, match="'no such'"):
        pm_database(template="no such")


def test_the_server_is_one_of_testing_postgresql(pm_server) -> None:
    from testing.postgresql import Postgresql

    assert isinstance(pm_server, Postgresql)
    with psycopg.connect(pm_server.url()) as conn:
        assert conn.execute("SELECT current_database()").fetchone() == ("test",)
    with psycopg.connect(host="127.0.0.1", port=pm_server.dsn()["port"], user="postgres", dbname="test"):
        assert pm_server.is_alive()


INNER = """
import psycopg

seen = []

def test_one(pm_database):
    database = pm_database(hosts=0)
    seen.append(database.dsn)
    database.connect()  # left open: the fixture closes it
    psycopg.connect(database.dsn).execute("SELECT 1")  # not closed by anybody: the database goes all the same

def test_two(pm_server, simulated_rack):
    name = seen[0].rpartition("/")[2]
    with psycopg.connect(pm_server.cluster.dsn()) as conn:
        assert conn.execute("SELECT count(*) FROM pg_database WHERE datname = %s", [name]).fetchone() == (0,)
        print("directory", conn.execute("SHOW data_directory").fetchone()[0])
"""


@pytest.mark.parametrize("choice", ["system", "wheel"])
def test_a_project_of_somebody_else_uses_it_and_the_server_goes_with_the_session(tmp_path, choice) -> None:
    if choice not in {place.source for place in find_binaries()}:
        pytest.skip(f"no {choice} Postgres here")
    (tmp_path / "test_theirs.py").write_text(INNER)
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:randomly", "-p", "no:cacheprovider", "-s", "-q", "test_theirs.py"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PMCOMPAT_TEST_POSTGRES": choice, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert "2 passed" in result.stdout, result.stdout + result.stderr
    directory = next(line.split()[-1] for line in result.stdout.splitlines() if "directory /" in line)
    assert not Path(directory).exists()
