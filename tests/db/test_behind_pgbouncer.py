"""Behind a real pgbouncer: locks refuse or hold (law F6), the rest works or says why not, nobody else's session is touched."""

from __future__ import annotations

import asyncio
import signal
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from uuid import uuid4

import psycopg
import pytest
from peers.pgbouncer import MISSING, PROGRAM, pgbouncer

from pmcompat.cli.app import run
from pmcompat.db import upgrade
from pmcompat.db.cipher import PlainCipher
from pmcompat.db.connection import connect, connect_async
from pmcompat.db.dao import VdsStaticDao
from pmcompat.db.journal import PostgresJournal
from pmcompat.db.locks import CHECK_TIME, AdvisoryLocks
from pmcompat.errors import CredentialsRefused, DatabaseUnreachable, Locked, Refused
from pmcompat.fence.events import Origin, Request
from pmcompat.model import (
    Agent,
    Host,
    Mode,
    Operation,
    Outcome,
    PowerManagement,
    PowerStatus,
    Secret,
    Stage,
)

pytestmark = [pytest.mark.needs_pgbouncer, pytest.mark.skipif(PROGRAM is None, reason=MISSING)]

ANNA = Origin(user="anna", machine="desk", pid=7)
AGENT = Agent(type="ipmilan", address="psu", username="admin", password=Secret("s3cr3t"))
HOST = Host(
    id=uuid4(), name="h", address="h.lab", cluster_id=uuid4(), power_management=PowerManagement(enabled=True, agents=(AGENT,))
)
DOCUMENT = (
    '<host><name>kv1</name><address>kv1.lab</address><power_management type="ipmilan"><enabled>true</enabled>'
    "<address>psu</address><username>admin</username><password>s3cr3t</password></power_management></host>"
)
RACK = '[[device]]\naddress = "psu"\nusers = { admin = "s3cr3t" }\n'
ONE_SESSION = "there is one session"
#: every way in which pgbouncer hands sessions on
POOLS = {
    "the session used last comes first": {},
    "sessions take turns": {"server_round_robin": 1},
    ONE_SESSION: {"default_pool_size": 1},
}


@pytest.fixture
def database(pm_database):
    return pm_database("3.1.0", hosts=2, upgraded=True)


def asked(host: Host = HOST, *, user: str = "anna") -> Request:
    return Request(operation_id=uuid4(), operation=Operation.STOP, host=host, origin=replace(ANNA, user=user))


@asynccontextmanager
async def locks(dsn):
    made = AdvisoryLocks(dsn)
    try:
        yield made
    finally:
        await made.close()


def look(database, query):
    """Ask the server itself, past every proxy."""
    with psycopg.connect(database.dsn, autocommit=True) as conn:
        return conn.execute(query).fetchall()


def locked(database):
    """Who holds advisory locks, as application names."""
    return [
        name
        for (name,) in look(
            database,
            "SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' "
            "AND a.datname = current_database()",
        )
    ]


@contextmanager
def others(dsn, count):
    """Other clients of the pool have worked at once, so that it holds so many sessions, and stay connected."""
    clients = [psycopg.connect(dsn, autocommit=True, prepare_threshold=None) for _ in range(count)]
    try:
        for client in clients:
            client.execute("BEGIN")
        for client in clients:
            client.execute("COMMIT")
        yield clients
    finally:
        for client in clients:
            client.close()


class Command:
    """The command line, in this process: what it does not catch fails the test."""

    def __init__(self, capsys, monkeypatch, place):
        self._capsys, self._patch = capsys, monkeypatch
        (place / "rack.toml").write_text(RACK)
        self.document = place / "kv1.xml"
        self.document.write_text(DOCUMENT)
        for name, value in {
            "NO_COLOR": "1",
            "PMCOMPAT_CIPHER": "plain",
            "PMCOMPAT_SIMULATE": str(place / "rack.toml"),
            "XDG_STATE_HOME": str(place),
        }.items():
            monkeypatch.setenv(name, value)

    def __call__(self, dsn, *arguments, exit_code=0):
        self._patch.setenv("PMCOMPAT_DSN", dsn)
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        try:
            with pytest.raises(SystemExit) as ended:
                run([str(argument) for argument in arguments])
        finally:  # a command handles signals until its process ends, and this process goes on
            for number, handler in handlers.items():
                signal.signal(number, handler)
        done = self._capsys.readouterr()
        assert (ended.value.code or 0) == exit_code, done.out + done.err
        assert "s3cr3t" not in done.out + done.err
        return done.out + done.err


@pytest.fixture
def pmcompat(capsys, monkeypatch, tmp_path):
    return Command(capsys, monkeypatch, tmp_path)


# ---------------------------------------------------------------------- the lock of a host


@pytest.mark.parametrize(
    ("pool", "clients"), [(pool, clients) for pool in POOLS for clients in ((0,) if pool == ONE_SESSION else (0, 1, 3))]
)
def test_a_lock_through_a_pool_of_transactions_would_protect_nobody(database, pool, clients):
    async def work(through):
        async with locks(through) as one:
            with pytest.raises(Refused, match="pools by transaction") as caught:
                await one.acquire(asked())
            assert caught.value.state == "nothing was sent"
            assert not isinstance(caught.value, Locked)

    with pgbouncer(database.dsn, "transaction", **POOLS[pool]) as proxy:
        through = proxy.dsn(database.dsn)
        with others(through, clients):
            asyncio.run(work(through))
            assert locked(database) == []


def test_a_lock_through_a_pool_of_statements_would_protect_nobody(database):
    async def work(through):
        async with locks(through) as one:
            with pytest.raises(Refused, match="pools by statement"):
                await one.acquire(asked())

    with pgbouncer(database.dsn, "statement") as proxy:
        asyncio.run(work(proxy.dsn(database.dsn)))
    assert locked(database) == []


def test_a_pool_of_sessions_is_no_reason_to_refuse(database):
    """Held once, the second is told who, given back when released and when the connection ends."""

    async def work(through):
        async with locks(through) as one, locks(through) as two, locks(database.dsn) as past_it:
            held = await one.acquire(asked())
            assert await held.check()
            for other in (two, past_it):
                with pytest.raises(Locked) as caught:
                    await other.acquire(asked(user="bert"))
                assert "pmcompat fence anna@desk 7" in caught.value.holder
            await held.release()
            assert not await held.check()
            again = await two.acquire(asked())
            assert await again.check()
            with pytest.raises(Locked):
                await past_it.acquire(asked())
            await two.close()
            assert not await again.check()
            for _ in range(200):
                if not locked(database):
                    return await (await past_it.acquire(asked())).check()
                await asyncio.sleep(0.02)
        return False

    with pgbouncer(database.dsn, "session") as proxy:
        assert asyncio.run(work(proxy.dsn(database.dsn)))
        assert locked(database) == []


@pytest.mark.parametrize("cut", ["the server ends the session", "the proxy dies", "the proxy falls silent"])
def test_a_cut_behind_the_proxy_is_known_at_the_next_check(database, cut):
    async def work(proxy):
        async with locks(proxy.dsn(database.dsn)) as one:
            held = await one.acquire(asked())
            assert await held.check()
            if cut == "the server ends the session":
                look(database, "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory'")
            else:
                proxy.stop() if cut == "the proxy dies" else proxy.freeze()
            started = asyncio.get_running_loop().time()
            assert not await held.check()
            assert not await held.check()
            await held.release()
            assert asyncio.get_running_loop().time() - started < CHECK_TIME + 1

    with pgbouncer(database.dsn, "session") as proxy:
        asyncio.run(work(proxy))


# ---------------------------------------------------------------------- commands


def test_no_power_command_goes_through_a_pool_that_cannot_lock(database, pmcompat):
    with pgbouncer(database.dsn, "transaction") as proxy:
        through = proxy.dsn(database.dsn)
        pmcompat(through, "host", "import", pmcompat.document)
        for arguments in (
            ("stop", "kv1", "--yes"),
            ("start", "kv1", "--yes"),
            ("restart", "kv1", "--yes", "--no-journal"),
        ):
            said = pmcompat(through, "host", *arguments, exit_code=9)
            assert "pools by transaction" in said
            assert "nothing was sent" in said
    assert look(database, "SELECT * FROM pmcompat.operations") == []
    assert look(database, "SELECT * FROM pmcompat.operation_events") == []


def test_power_commands_work_through_a_pool_of_sessions(database, pmcompat):
    with pgbouncer(database.dsn, "session") as proxy:
        through = proxy.dsn(database.dsn)
        pmcompat(through, "host", "import", pmcompat.document)
        assert "power on" in pmcompat(through, "host", "status", "kv1")
        assert "power off" in pmcompat(through, "host", "stop", "kv1", "--yes")
        assert "stop" in pmcompat(through, "host", "history", "kv1")
    assert look(database, "SELECT operation, outcome FROM pmcompat.operations") == [("stop", "succeeded")]
    assert locked(database) == []


@pytest.mark.parametrize("pool", POOLS)
def test_commands_that_need_no_lock_work_again_and_again_through_a_pool_of_transactions(database, pmcompat, pool):
    with pgbouncer(database.dsn, "transaction", **POOLS[pool]) as proxy:
        through = proxy.dsn(database.dsn)
        for expected in ("created kv1", "unchanged"):
            assert "current" in pmcompat(through, "db", "status")
            assert "current" in pmcompat(through, "db", "plan")
            assert "host-0002" in pmcompat(through, "host", "list")
            assert expected in pmcompat(through, "host", "import", pmcompat.document)
            assert "<name>kv1</name>" in pmcompat(through, "host", "export", "kv1")
            assert "psu" in pmcompat(through, "host", "show", "kv1")
            assert "1 passwords not encrypted" in pmcompat(through, "credentials", "check", exit_code=3)
            assert "power on" in pmcompat(through, "host", "status", "kv1")
            assert "as it should be" in pmcompat(through, "db", "verify")
            assert "kv1" in pmcompat(through, "host", "list")
            assert "when" in pmcompat(through, "host", "history", "kv1")


def test_a_pool_of_statements_is_named_by_every_command_and_none_stores_half(database, pmcompat):
    with pgbouncer(database.dsn, "statement") as proxy:
        through = proxy.dsn(database.dsn)
        for arguments in (
            ("db", "status"),
            ("db", "plan"),
            ("db", "verify"),
            ("db", "upgrade", "--yes"),
            ("host", "list"),
            ("host", "import", pmcompat.document),
            ("host", "status", "host-0001"),
            ("host", "history", "host-0001"),
        ):
            said = pmcompat(through, *arguments, exit_code=9)
            assert "pools by statement" in said
            assert "session mode" in said
    assert look(database, "SELECT count(*) FROM vds_static") == [(2,)]


# ---------------------------------------------------------------------- what a session keeps


def test_looking_leaves_no_session_read_only_for_the_engine(database, pmcompat):
    """A setting of the session stays in the pool: the next to get it is the engine."""
    with pgbouncer(database.dsn, "transaction", default_pool_size=1) as proxy:
        through = proxy.dsn(database.dsn)
        pmcompat(through, "db", "status")
        pmcompat(through, "host", "list")
        with psycopg.connect(through, autocommit=True) as engine:
            assert engine.execute("SHOW default_transaction_read_only").fetchone() == ("off",)
            engine.execute("UPDATE vds_static SET vds_name = vds_name")


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_a_look_through_a_proxy_cannot_write_either(database, mode):
    with pgbouncer(database.dsn, mode) as proxy, connect(proxy.dsn(database.dsn), read_only=True) as conn:
        for _ in range(3):
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                conn.execute("UPDATE vds_static SET vds_name = vds_name")
            conn.rollback()


def test_a_look_past_every_proxy_keeps_its_single_statements_and_cannot_write(database):
    with connect(database.dsn, read_only=True) as conn:
        assert conn.autocommit
        assert conn.prepare_threshold is not None
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            conn.execute("UPDATE vds_static SET vds_name = vds_name")


def test_no_statement_of_another_client_answers_ours(database):
    """Names of prepared statements are counted per client, and meet in the sessions of the pool."""
    with pgbouncer(database.dsn, "transaction", server_round_robin=1) as proxy:
        through = proxy.dsn(database.dsn)
        with others(through, 3), connect(through) as one, connect(through) as two:
            for number in range(30):
                assert one.execute("SELECT 'one', %s::integer", [number]).fetchone() == ("one", number)
                assert two.execute("SELECT 'two', %s::integer", [number]).fetchone() == ("two", number)

        async def work():
            three, four = [await connect_async(through) for _ in range(2)]
            async with three, four:
                for number in range(30):
                    for conn, name in ((three, "three"), (four, "four")):
                        cursor = await conn.execute(f"SELECT '{name}', %s::integer", [number])
                        assert await cursor.fetchone() == (name, number)

        asyncio.run(work())


def test_what_many_write_at_once_through_a_pool_of_transactions_is_what_is_stored(database):
    hosts = [
        Host(id=uuid4(), name=f"many-{n:03}", address=f"m{n}", cluster_id=uuid4(), power_management=HOST.power_management)
        for n in range(60)
    ]

    async def work(journal):
        async def one(host):
            request = asked(host)
            assert (await journal.past(host.id)).unfinished is None
            await journal.started(request, None)
            outcome = Outcome(
                operation=Operation.STOP, succeeded=True, power=PowerStatus.OFF, mode=Mode.SINGLE, agents=(), stage=Stage.DONE
            )
            await journal.finished(request, outcome, 0.1)
            assert Operation.STOP in (await journal.past(host.id)).since

        for batch in (hosts[:6], hosts[6:]):
            await asyncio.gather(*(one(host) for host in batch))
        for host in hosts[:12]:
            await journal.started(asked(host), None)
            with pytest.raises(Locked):
                await journal.started(asked(host), None)
            left = (await journal.past(host.id)).unfinished
            await journal.started(asked(host), left)
            assert len(await journal.history(host.id)) >= 3
        await journal.close()

    with pgbouncer(database.dsn, "transaction", default_pool_size=3, server_round_robin=1) as proxy:
        asyncio.run(work(PostgresJournal(proxy.dsn(database.dsn))))
        with connect(proxy.dsn(database.dsn)) as conn:
            dao = VdsStaticDao(conn, PlainCipher())
            for host in dao.get_all() * 5:
                dao.update(replace(host, power_management=HOST.power_management))
                assert dao.get(host.id).power_management.primary.address == "psu"
    assert look(database, "SELECT count(*), count(DISTINCT host_id) FROM pmcompat.operations") == [(60 + 24, 60)]


# ---------------------------------------------------------------------- the upgrade's lock


@pytest.mark.parametrize("pool", POOLS)
def test_an_upgrade_leaves_no_lock_in_a_session_of_others(pm_database, pmcompat, pool):
    """It would stay there after the upgrade, and protect nobody meanwhile."""
    database = pm_database("3.1.0", hosts=2)
    with pgbouncer(database.dsn, "transaction", **POOLS[pool]) as proxy:
        through = proxy.dsn(database.dsn)
        every = (("upgrade", "--yes"), ("upgrade", "--rehearse"), ("rollback", "--yes"), ("repair", "--yes"))
        for arguments in every[:1] if pool == ONE_SESSION else every:  # it waits two seconds there
            said = pmcompat(through, "db", *arguments, exit_code=9)
            assert "pools by transaction" in said
            assert "nothing was changed" in said
        assert locked(database) == []
    assert upgrade.status(database.connect()).applied == ()


def test_an_upgrade_of_a_callers_own_connection_is_refused_too(pm_database):
    database = pm_database("3.1.0", hosts=2)
    with (
        pgbouncer(database.dsn, "transaction") as proxy,
        psycopg.connect(proxy.dsn(database.dsn), prepare_threshold=None) as conn,
    ):
        with pytest.raises(Refused, match="pools by transaction"):
            upgrade.upgrade(conn)
        assert not conn.autocommit


def test_an_upgrade_works_through_a_pool_of_sessions_one_at_a_time(pm_database, pmcompat):
    database = pm_database("3.1.0", hosts=2)
    with pgbouncer(database.dsn, "session") as proxy:
        through = proxy.dsn(database.dsn)
        with psycopg.connect(through, autocommit=True, application_name="first") as first:
            first.execute("SELECT pg_advisory_lock(%s)", [int.from_bytes(b"pmcompat")])
            assert "(first)" in pmcompat(through, "db", "upgrade", "--yes", exit_code=9)
        assert "upgraded" in pmcompat(through, "db", "upgrade", "--yes")
        assert locked(database) == []
    assert upgrade.status(database.connect()).pending == ()


# ---------------------------------------------------------------------- what the proxy itself refuses


def test_what_the_proxy_refuses_is_said_in_its_words(database, pmcompat, monkeypatch):
    with pgbouncer(database.dsn, "transaction") as proxy:
        through = proxy.dsn(database.dsn)
        with pytest.raises(CredentialsRefused, match="refused the login"):
            connect(psycopg.conninfo.make_conninfo(through, user="nobody"))
        with pytest.raises(DatabaseUnreachable) as caught:
            connect(psycopg.conninfo.make_conninfo(through, dbname="nowhere"))
        assert "nowhere" in caught.value.why
        monkeypatch.setenv("PGOPTIONS", "-c search_path=elsewhere")
        assert "unsupported startup parameter" in pmcompat(through, "db", "status", exit_code=4)
