"""The DAO beside plain psycopg and SQLAlchemy, in one run on one server: 10,000 dual-agent hosts in and out.

Each figure is the median of several rounds, the contestants taking turns, after one round that is not counted. What is asked of
all of them is the same: the same 28 columns, every text decoded, the same values in the rows afterwards.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import make_dataclass, replace
from typing import Any
from uuid import uuid4

import psycopg
import sqlalchemy as sa
from psycopg.rows import class_row
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column

from pmcompat.db.baseline import init
from pmcompat.db.cipher import PlainCipher
from pmcompat.db.cluster import Cluster
from pmcompat.db.connection import Connection, connect
from pmcompat.db.dao import VdsStaticDao
from pmcompat.db.rows import COLUMNS, NAMES, values_of
from pmcompat.db.upgrade import UpgradeSettings, upgrade
from pmcompat.documents.reading import read_hosts
from pmcompat.hosts import export_hosts, import_hosts

HOSTS = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
ROUNDS = 5

TYPES = {"uuid": sa.Uuid, "text": sa.Text, "integer": sa.Integer, "bigint": sa.BigInteger, "boolean": sa.Boolean}


class Model(DeclarativeBase):
    """SQLAlchemy's own root."""


def mapped(dao: VdsStaticDao) -> type[Any]:
    """Return an ORM class over the columns that are there."""
    columns = {
        name: mapped_column(TYPES[type_], primary_key=name == "vds_id")
        for name, type_ in COLUMNS.items()
        if name in dao.shape.columns
    }
    return type("HostRow", (Model,), {"__tablename__": "vds_static", **columns})


def document(count: int) -> bytes:
    agent = (
        '<agent type="ipmilan"><address>127.0.0.{order}</address><username>admin</username><password>secret{n}</password>'
        '<options><option name="ipport" value="{n}"/><option name="cipher" value="3"/><option name="lanplus" value="1"/>'
        "</options><concurrent>true</concurrent><order>{order}</order></agent>"
    )
    host = (
        "<host><name>n{n}</name><address>n{n}.lab</address>"
        '<power_management type="ipmilan"><enabled>true</enabled><agents>{agents}</agents></power_management></host>'
    )
    each = (host.format(n=n, agents="".join(agent.format(n=n, order=order) for order in (1, 2))) for n in range(count))
    return f"<hosts>{''.join(each)}</hosts>".encode()


def measured(contestants: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Return the median seconds of each, taking turns."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, work in contestants.items():
            began = time.perf_counter()
            work()
            if turn:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(times) for name, times in seconds.items()}


def show(title: str, found: dict[str, float], ours: str, goals: dict[str, float]) -> None:
    print(f"\n{title}, {HOSTS:,} hosts")
    for name, seconds in found.items():
        print(f"  {name:<48}{seconds * 1000:9.1f} ms{HOSTS / seconds:12,.0f} hosts/s")
    for peer, goal in goals.items():
        ratio = found[peer] / found[ours]
        print(f"  {ours} is {ratio:.2f} x {peer} (goal {goal}): {'reached' if ratio >= goal else 'MISSED'}")


def reads(conn: Connection, engine: sa.Engine, dao: VdsStaticDao, orm: type[Any]) -> None:
    flat = make_dataclass("Flat", NAMES, frozen=True, slots=True)
    select = psycopg.sql.SQL("SELECT {} FROM getallfromvdsstatic()").format(dao.shape.selection())

    def plain() -> list[Any]:
        cursor: psycopg.Cursor[Any]
        with conn.cursor(row_factory=class_row(flat)) as cursor:
            return cursor.execute(select).fetchall()

    def core() -> list[Any]:
        with engine.connect() as connection:
            return list(connection.execute(sa.select(orm.__table__)).all())

    def objects() -> list[Any]:
        with Session(engine) as session:
            return list(session.scalars(sa.select(orm)).all())

    found = measured(
        {"pmcompat get_all": dao.get_all, "psycopg class_row": plain, "SQLAlchemy core": core, "SQLAlchemy ORM": objects}
    )
    show("Read into objects", found, "pmcompat get_all", {"psycopg class_row": 0.8, "SQLAlchemy ORM": 2.0})


def writes(conn: Connection, engine: sa.Engine, dao: VdsStaticDao, orm: type[Any]) -> None:
    hosts = dao.get_all()
    # what is written differs from round to round; making it is nobody's time
    variants = itertools.cycle([[replace(host, strength=strength) for host in hosts] for strength in (1, 2, 3)])
    there = [name for name in NAMES if f"v_{name}" in dao.shape.procedures["updatevdsstatic"].parameters]
    call = f"SELECT updatevdsstatic({', '.join(f'v_{name} => %({name})s::{COLUMNS[name]}' for name in there)})"
    every = [name for name in NAMES[1:] if name in dao.shape.columns]
    statement = (
        sa.update(orm.__table__)
        .where(orm.__table__.c.vds_id == sa.bindparam("b_vds_id"))
        .values({name: sa.bindparam(f"b_{name}") for name in every})
    )

    def rows() -> list[dict[str, Any]]:
        return [dict(zip(NAMES, values_of(host, None), strict=True)) for host in next(variants)]

    def plain() -> None:
        with conn.transaction(), conn.cursor() as cursor:
            cursor.executemany(call, rows())

    def core() -> None:
        with engine.begin() as connection:
            connection.execute(statement, [{f"b_{name}": row[name] for name in ("vds_id", *every)} for row in rows()])

    def objects() -> None:
        with Session(engine) as session:
            strength = next(variants)[0].strength
            for row in session.scalars(sa.select(orm)):
                row.vds_strength = strength
            session.commit()

    found = measured(
        {
            "pmcompat update_many (procedure)": lambda: dao.update_many(next(variants)),
            "pmcompat update_many (directly)": lambda: dao.update_many(next(variants), directly=True),
            "psycopg executemany of the procedure": plain,
            "SQLAlchemy core executemany": core,
            "SQLAlchemy ORM, read and flush": objects,
        }
    )
    show("Write every column", found, "pmcompat update_many (procedure)", {"psycopg executemany of the procedure": 0.9})
    show("Bulk write", found, "pmcompat update_many (directly)", {"psycopg executemany of the procedure": 2.0})


def imports(conn: Connection, dao: VdsStaticDao) -> None:
    text = document(HOSTS)

    def empty() -> None:
        conn.execute("DELETE FROM vds_dynamic; DELETE FROM vds_statistics; DELETE FROM vds_static")

    there = [name for name in NAMES if f"v_{name}" in dao.shape.procedures["insertvdsstatic"].parameters]
    call = f"SELECT insertvdsstatic({', '.join(f'v_{name} => %({name})s::{COLUMNS[name]}' for name in there)})"

    def plain(rows: list[dict[str, Any]]) -> None:
        with conn.transaction(), conn.cursor() as cursor:
            cursor.executemany(call, rows)
            cursor.executemany("INSERT INTO vds_dynamic (vds_id, status) VALUES (%(vds_id)s, 2)", rows)
            cursor.executemany("INSERT INTO vds_statistics (vds_id) VALUES (%(vds_id)s)", rows)

    def timed(work: Callable[[], object]) -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    seconds: list[tuple[float, ...]] = []
    for turn in range(ROUNDS + 1):
        empty()
        took = timed(lambda: import_hosts(dao, text))
        hosts = [replace(host, id=uuid4()) for host in dao.get_all()]
        rows = [dict(zip(NAMES, values_of(host, None), strict=True)) for host in hosts]
        empty()
        saved = timed(lambda: dao.save_many(hosts))  # noqa: B023 - called at once
        empty()
        peer = timed(lambda: plain(rows))  # noqa: B023 - called at once
        parsed = timed(lambda: sum(1 for _ in read_hosts(text, profile="3.2")))
        if turn:
            seconds.append((took, peer, saved, parsed))
    took, peer, saved, parsed = (statistics.median(times) for times in zip(*seconds, strict=True))
    print(f"\nImport of one document, {HOSTS:,} hosts, {len(text) / 1e6:.1f} MB; medians of {ROUNDS} rounds")
    print(f"  {'from bytes to committed rows':<48}{took * 1000:9.1f} ms{HOSTS / took:12,.0f} hosts/s")
    print(f"  {'psycopg executemany of the same statements':<48}{peer * 1000:9.1f} ms (database time)")
    print(f"  {'save_many of the same hosts':<48}{saved * 1000:9.1f} ms")
    print(f"  {'reading and validating the document alone':<48}{parsed * 1000:9.1f} ms")
    verdict = "reached" if took <= peer * 1.3 else "MISSED"
    print(f"  import is database time {(took / peer - 1) * 100:+.0f} % (goal + 30 %): {verdict}")
    print(f"  beside our own save_many, which is under way while it makes rows: {(took / saved - 1) * 100:+.0f} %")
    empty()
    import_hosts(dao, text)
    found = measured(
        {
            "pmcompat export (agents)": lambda: sum(map(len, export_hosts(dao.each()))),
            "pmcompat import, nothing changed": lambda: import_hosts(dao, text),
        },
        3,
    )
    show("Export, and an import that changes nothing", found, "pmcompat export (agents)", {})


def main() -> None:
    with Cluster() as cluster:
        cluster.create_database("bench")
        with connect(cluster.dsn("bench")) as conn:
            init(conn, "3.2-snapshot", 0)
            upgrade(conn, UpgradeSettings())
            dao = VdsStaticDao(conn, PlainCipher())
            import_hosts(dao, document(HOSTS))
            conn.execute("ANALYZE")
            engine = sa.create_engine("postgresql+psycopg://", creator=lambda: connect(cluster.dsn("bench"), autocommit=False))
            orm = mapped(dao)
            print(f"PostgreSQL {conn.info.server_version // 10000}, psycopg {psycopg.__version__}, SQLAlchemy {sa.__version__}")
            reads(conn, engine, dao, orm)
            writes(conn, engine, dao, orm)
            imports(conn, dao)
            engine.dispose()


if __name__ == "__main__":
    main()
