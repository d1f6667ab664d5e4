"""Databases for tests: templates made once per session, a copy of one per test.

What lives here: which templates there are and how a copy is handed out and taken back. A copy costs 30 to 60 ms; making
and upgrading a baseline each time would cost more, and a server each time a second.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from pmcompat.db.baseline import Shape, init
from pmcompat.db.cluster import Cluster
from pmcompat.db.connection import Connection, connect
from pmcompat.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True, slots=True)
class Database:
    """One database of a test."""

    #: address for ``--dsn``, ``PMCOMPAT_DSN``, psql or psycopg; the superuser ``postgres``, no password
    dsn: str
    name: str
    _open: list[Connection] = field(default_factory=list, repr=False, compare=False)

    def connect(self, **settings: Any) -> Connection:
        """Open a connection with the settings of :func:`pmcompat.db.connection.connect`; it is closed after the test."""
        conn = connect(self.dsn, **settings)
        self._open.append(conn)
        return conn

    def close(self) -> None:
        """Close every connection opened here."""
        while self._open:
            self._open.pop().close()


Build = Callable[[Database], None]


def _upgrade(database: Database) -> None:
    # the one place that knows how the upgrade is called
    from pmcompat.db import upgrade

    upgrade.upgrade(database.connect(), upgrade.UpgradeSettings())


class Templates:
    """The template databases of one server, each made when first asked for. Safe to use from several threads."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._recipes: dict[str, tuple[str | None, Build]] = {}
        self._made: set[str] = set()
        self._lock = threading.RLock()

    def add(self, name: str, build: Build, *, base: str | None = None) -> None:
        """Register template *name*: an empty database, or a copy of template *base*, on which *build* was called once.

        Registering a name again does nothing, so that a fixture of any scope may do it.
        """
        self._recipes.setdefault(name, (base, build))

    def shape(self, shape: Shape, *, hosts: int = 20, upgraded: bool = False) -> str:
        """Return the name of the template of a shape with so many hosts, before or after the upgrade."""
        name = f"{shape}, {hosts} hosts"
        self.add(name, lambda database: _init(database, shape, hosts))
        if upgraded:
            self.add(f"{name}, upgraded", _upgrade, base=name)
            name += ", upgraded"
        return name

    def made(self, name: str) -> str:
        """Return the database that is template *name*, making it first where it is not there yet.

        :raises ConfigurationError: nobody registered it.
        """
        with self._lock:
            if name not in self._recipes:
                raise ConfigurationError(f"there is no template {name!r}", fix="register it: pm_database.template(name, build)")
            if name not in self._made:
                self._make(name)
                self._made.add(name)
        return f"template: {name}"

    def _make(self, name: str) -> None:
        base, build = self._recipes[name]
        place = f"template: {name}"
        self.cluster.create_database(place, template=self.made(base) if base else None)
        database = Database(dsn=self.cluster.dsn(place), name=place)
        try:
            build(database)
        except BaseException:
            database.close()
            self.cluster.drop_database(place)
            raise
        database.close()  # a template with somebody connected cannot be copied


def _init(database: Database, shape: Shape, hosts: int) -> None:
    init(database.connect(), shape, hosts)


class Databases:
    """What the fixture ``pm_database`` gives: call it for a database, as often as the test needs one.

    ``pm_database("3.1.0")`` is the released 3.1.0 with 20 hosts, ``pm_database("3.2-snapshot", hosts=0)`` the snapshot
    without any, ``pm_database(upgraded=True)`` after ``pmcompat db upgrade``, ``pm_database(template="mine")`` a copy of a
    template registered with ``pm_database.template("mine", build)``, and ``pm_database(empty=True)`` has nothing in it.
    """

    _numbers = itertools.count(1)

    def __init__(self, templates: Templates) -> None:
        self._templates = templates
        self._given: list[Database] = []

    def __call__(
        self,
        shape: Shape = "3.1.0",
        *,
        hosts: int = 20,
        upgraded: bool = False,
        template: str | None = None,
        empty: bool = False,
    ) -> Database:
        """Return a database that nobody else uses."""
        cluster = self._templates.cluster
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        if empty:
            cluster.create_database(name)
        else:
            base = template or self._templates.shape(shape, hosts=hosts, upgraded=upgraded)
            cluster.create_database(name, template=self._templates.made(base))
        database = Database(dsn=cluster.dsn(name), name=name)
        self._given.append(database)
        return database

    def template(self, name: str, build: Build, *, base: str | None = None) -> None:
        """Register a template of one's own; see :meth:`Templates.add`.

        A shape is named as :meth:`shape` gives it: ``pm_database.template("mine", build, base=pm_database.shape("3.1.0"))``.
        """
        self._templates.add(name, build, base=base)

    def shape(self, shape: Shape, *, hosts: int = 20, upgraded: bool = False) -> str:
        """Return the name of a shape's template, to build upon."""
        return self._templates.shape(shape, hosts=hosts, upgraded=upgraded)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for database in self._given:
            database.close()
            self._templates.cluster.drop_database(database.name)
