"""Advisory locks: one operation per host across connections and processes, and a lock that is gone is known to be gone."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from pmcompat.db.connection import connect
from pmcompat.db.journal import PostgresJournal
from pmcompat.db.locks import AdvisoryLocks, key_of
from pmcompat.errors import DatabaseUnreachable, Locked, Refused
from pmcompat.fence.events import Origin, Request
from pmcompat.fence.protocols import HostLock
from pmcompat.model import Agent, Host, Operation, PowerManagement

ANNA = Origin(user="anna", machine="desk", pid=7)
HOST = Host(
    id=uuid4(), name="h", address="h.lab", cluster_id=uuid4(), power_management=PowerManagement(agents=(Agent(address="b"),))
)


@pytest.fixture
def dsn(pm_database):
    return pm_database("3.1.0", hosts=0, upgraded=True).dsn


def asked(host: Host = HOST, *, user: str = "anna") -> Request:
    return Request(operation_id=uuid4(), operation=Operation.STOP, host=host, origin=replace(ANNA, user=user))


@asynccontextmanager
async def locks(dsn):
    made: HostLock = AdvisoryLocks(dsn)
    try:
        yield made
    finally:
        await made.close()


def cut(dsn):
    """End every session that carries locks, as a failing network or an administrator does."""
    with connect(dsn) as conn:
        conn.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name LIKE 'pmcompat fence%' "
            "AND datname = current_database()"
        )


def test_a_host_is_locked_once_and_free_after_its_release(dsn):
    async def work():
        async with locks(dsn) as one, locks(dsn) as two:
            held = await one.acquire(asked())
            with pytest.raises(Locked):
                await two.acquire(asked())
            other = await two.acquire(asked(replace(HOST, id=uuid4())))
            await held.release()
            await held.release()
            again = await two.acquire(asked())
            assert await again.check()
            assert await other.check()
            assert not await held.check()

    asyncio.run(work())


def test_the_same_process_is_refused_too_and_told_by_whom(dsn):
    async def work():
        async with locks(dsn) as one:
            held = await one.acquire(asked())
            with pytest.raises(Locked) as caught:
                await one.acquire(asked(user="bert"))
            await held.release()
            await (await one.acquire(asked())).release()
            return caught.value.holder

    assert asyncio.run(work()) == "anna on desk (process 7) for stop"


def test_the_holder_is_named_by_session_and_by_person_once_the_journal_knows(dsn):
    async def work():
        journal = PostgresJournal(dsn)
        async with locks(dsn) as one, locks(dsn) as two:
            request = asked()
            await one.acquire(request)
            with pytest.raises(Locked) as early:
                await two.acquire(asked(user="bert"))
            await journal.started(request, None)
            with pytest.raises(Locked) as late:
                await two.acquire(asked(user="bert"))
        await journal.close()
        return early.value.holder, late.value.holder

    early, late = asyncio.run(work())
    assert "session" in early
    assert "anna@desk 7" in early
    assert "127.0.0.1" in early
    assert late.startswith("anna on desk (process 7) for stop since ")


def test_a_cut_connection_is_known_at_the_next_check_and_never_comes_back(dsn):
    async def work():
        async with locks(dsn) as one:
            held = await one.acquire(asked())
            assert await held.check()
            cut(dsn)
            assert not await held.check()
            assert not await held.check()
            await held.release()
            again = await one.acquire(asked())
            assert await again.check()
            assert not await held.check()

    asyncio.run(work())


def test_checks_that_wait_together_share_a_round_trip(dsn):
    async def work():
        async with locks(dsn) as one:
            held = [await one.acquire(asked(replace(HOST, id=uuid4()))) for _ in range(50)]
            assert all(await asyncio.gather(*(lock.check() for lock in held)))
            cut(dsn)
            assert not any(await asyncio.gather(*(lock.check() for lock in held)))

    asyncio.run(work())


def test_a_lock_of_a_killed_process_is_free_again(dsn):
    program = (
        "import asyncio, sys, uuid\n"
        "from pmcompat.db.locks import AdvisoryLocks\n"
        "from pmcompat.fence.events import Origin, Request\n"
        "from pmcompat.model import Host, Operation\n"
        f"host = Host(id=uuid.UUID('{HOST.id}'), name='h', address='a', cluster_id=uuid.uuid4())\n"
        "async def work():\n"
        "    origin = Origin(user='other', machine='there', pid=1)\n"
        "    request = Request(operation_id=uuid.uuid4(), operation=Operation.STOP, host=host, origin=origin)\n"
        "    held = await AdvisoryLocks(sys.argv[1]).acquire(request)\n"
        "    print('held', flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(work())\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, dsn], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout.readline() == "held\n"

            async def refused():
                async with locks(dsn) as one:
                    with pytest.raises(Locked, match="other@there 1"):
                        await one.acquire(asked())

            asyncio.run(refused())
        finally:
            other.kill()

    async def taken():
        async with locks(dsn) as one:
            for _ in range(50):
                try:
                    return await (await one.acquire(asked())).check()
                except Locked:
                    await asyncio.sleep(0.1)
        return False

    assert asyncio.run(taken())


def test_only_one_of_many_gets_the_host(dsn):
    async def attempt():
        async with locks(dsn) as one:
            try:
                await one.acquire(asked())
            except Locked:
                return False
            await asyncio.sleep(0.5)
            return True

    async def work():
        return await asyncio.gather(*(attempt() for _ in range(8)))

    assert sum(asyncio.run(work())) == 1


def test_an_unreachable_database_locks_nothing():
    async def work():
        async with locks("postgresql://postgres@127.0.0.1:1/none") as one:
            for _ in range(2):
                with pytest.raises(DatabaseUnreachable):
                    await one.acquire(asked())

    asyncio.run(work())


def test_a_locks_key_never_changes():
    """Every release must lock the same host by the same key."""
    assert key_of(UUID(int=0)) == -7151550122871986880
    assert len({key_of(uuid4()) for _ in range(1000)}) == 1000


class Pooler:
    """A proxy that pools by transaction, as small as it gets: each simple statement goes to the next of two sessions.

    It speaks just enough of the protocol: it lets the client log in, and then forwards each message round (up to
    ReadyForQuery) to a server session of its choice, round robin, unless a transaction is open on one.
    """

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)

    async def serve(self, reader, writer):
        size = int.from_bytes(await reader.readexactly(4))
        start = await reader.readexactly(size - 4)
        sessions = [await self._login(size, start) for _ in range(2)]
        writer.write(sessions[0][2].replace(sessions[0][3], b"K\0\0\0\x0c\0\0\x7f\x7f\0\0\0\1"))
        turn, status = 0, b"I"
        try:
            while True:
                if status == b"I":
                    turn = 1 - turn
                source, sink = sessions[turn][:2]
                while True:
                    kind = await reader.readexactly(1)
                    length = await reader.readexactly(4)
                    sink.write(kind + length + await reader.readexactly(int.from_bytes(length) - 4))
                    if kind in b"QSX":
                        break
                while True:
                    head = await source.readexactly(5)
                    body = await source.readexactly(int.from_bytes(head[1:]) - 4)
                    writer.write(head + body)
                    if head[:1] == b"Z":
                        status = body
                        break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            for session in sessions:
                session[1].close()
            writer.close()

    async def _login(self, size, start):
        reader, writer = await asyncio.open_connection(*self.target)
        writer.write(size.to_bytes(4) + start)
        said, key = b"", b""
        while True:
            head = await reader.readexactly(5)
            body = await reader.readexactly(int.from_bytes(head[1:]) - 4)
            said += head + body
            if head[:1] == b"K":
                key = head + body
            if head[:1] == b"Z":
                return reader, writer, said, key


def test_behind_a_proxy_that_pools_by_transaction_it_refuses_to_work(dsn):
    """Law F6: such a lock would protect nobody."""
    with connect(dsn) as conn:
        host, port = conn.info.host, conn.info.port

    async def work():
        server = await asyncio.start_server(Pooler(host, port).serve, "127.0.0.1", 0)
        front = server.sockets[0].getsockname()[1]
        through = dsn.replace(f":{port}/", f":{front}/") + "?sslmode=disable&gssencmode=disable"
        async with server, locks(through) as one:
            with pytest.raises(Refused, match="pools by transaction"):
                await one.acquire(asked())

    asyncio.run(work())
