"""Fixtures for tests of pmcompat and of programs that use it: a pytest plugin, loaded by itself where pmcompat is installed.

What lives here: the fixtures and what their users need to know. Everything heavy is imported when a fixture is first asked
for, since pytest loads this module in every run on the machine.

``pm_database``
    A factory of databases, each a fresh copy of a template, dropped after the test. See
    :class:`pmcompat.testing.databases.Databases`::

        def test_hosts_are_read(pm_database):
            database = pm_database("3.2-snapshot", hosts=20, upgraded=True)
            with database.connect() as conn:
                ...

    One server serves the whole session: the system's PostgreSQL if there is one, else the wheel's. The variable
    ``PMCOMPAT_TEST_POSTGRES`` chooses: ``system``, ``wheel``, ``wheel18``, or a directory with ``initdb`` and ``postgres``.
``pm_server``
    That server, for tests that need databases of their own making: ``pm_server.cluster``.
``simulated_rack``
    An empty rack of simulated devices (:class:`pmcompat.fence.drivers.simulated.Rack`).
``ipmi_bmc``
    A function that starts BMCs that really speak IPMI (:meth:`pmcompat.testing.bmc.Bmc.start`), stopped after the test.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pmcompat.fence.drivers.simulated import Rack
    from pmcompat.testing.bmc import Bmc
    from pmcompat.testing.databases import Databases, Templates
    from pmcompat.testing.server import Server


@pytest.fixture(scope="session")
def pm_server() -> Iterator[Server]:
    """Give the session's Postgres server; gone with the session, however that ends."""
    pytest.importorskip("testing.postgresql", reason="needs testing.postgresql: pip install 'pmcompat[test]'")
    from pmcompat.testing.server import Server

    with Server() as server:
        yield server


@pytest.fixture(scope="session")
def pm_templates(pm_server: Server) -> Templates:
    """Give the session's template databases; a conftest registers its own with ``add(name, build)``."""
    from pmcompat.testing.databases import Templates

    return Templates(pm_server.cluster)


@pytest.fixture
def pm_database(pm_templates: Templates) -> Iterator[Databases]:
    """Give a factory of databases; each is dropped after the test, whoever is still connected."""
    from pmcompat.testing.databases import Databases

    with Databases(pm_templates) as databases:
        yield databases


@pytest.fixture
def simulated_rack() -> Rack:
    """Give an empty rack of simulated devices."""
    from pmcompat.fence.drivers.simulated import Rack

    return Rack()


@pytest.fixture
def ipmi_bmc() -> Iterator[Callable[..., Bmc]]:
    """Give a function that starts a BMC on 127.0.0.1 with the arguments of ``Bmc.start``; all are stopped after the test."""
    from pmcompat.testing.bmc import Bmc

    with contextlib.ExitStack() as stack:

        def start(**settings: Any) -> Bmc:
            return stack.enter_context(Bmc.start(**settings))

        yield start
