"""What the power verbs do: read hosts, ask for a yes, hand them to the executor, end it on a signal, add up the exit code.

What lives here: the wiring of one command. Heavy rooms are imported where they are used.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import typer

from pmcompat.cli import output
from pmcompat.cli.inventory import connected
from pmcompat.cli.power_metrics import MetricsFile, each_of
from pmcompat.errors import ModelError, SchemaError
from pmcompat.fence.allowances import patience as patience_of_drivers
from pmcompat.fence.drivers import Driver
from pmcompat.fence.events import Request, agent_name
from pmcompat.fence.executor import FenceExecutor, Report, here
from pmcompat.fence.exits import code_of, code_of_health, code_of_several
from pmcompat.fence.flow import Patience, Timing, longest
from pmcompat.fence.flow.explain import explain
from pmcompat.fence.policy import Policy
from pmcompat.fence.protocols import Entry, HostLock, Journal
from pmcompat.model import PRIMARY, SECONDARY, Host, HostStatus, Operation, PowerManagement, Secret

if TYPE_CHECKING:
    from pmcompat.db.dao import VdsDao

#: what ends the waiting of a command, not its duty (law F8); a terminal that closes must not leave a host dark either
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, kw_only=True, slots=True)
class Access:
    """How to reach the database and its passwords."""

    dsn: str | None
    schema: str = "public"
    cipher: str | None = None
    cert: str | None = None
    key: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """Which hosts."""

    names: tuple[str, ...]
    cluster: str | None
    every: bool

    @property
    def many(self) -> bool:
        """Tell whether hosts were chosen by what they belong to and not by name."""
        return self.every or self.cluster is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What is wanted of the hosts, as the command line says it."""

    verb: str
    operation: Operation
    resuming: bool
    explain: bool
    json: bool
    yes: bool
    deadline: float | None
    delay: float | None
    retries: int | None
    first_wait: float
    fixed_polls: bool
    keep_order: bool
    quiet_time: float | None
    force: bool
    journal: bool
    hosts_at_once: int
    per_device: int | None
    storm_percent: float | None
    metrics: str | None
    simulate: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Read:
    """What the database says."""

    hosts: list[Host]
    sizes: Mapping[UUID, int]
    patience: Patience
    quiet_time: float


def run(wish: Wish, choice: Choice, access: Access) -> int:
    """Do what is wished, and return the exit code."""
    if bool(choice.names) + (choice.cluster is not None) + choice.every != 1:
        raise typer.BadParameter("name hosts, or give --cluster, or give --all")
    for name in ("deadline", "delay", "first_wait", "quiet_time", "storm_percent"):
        value = getattr(wish, name)
        if value is not None and not math.isfinite(value):
            raise typer.BadParameter(f"--{name.replace('_', '-')} must be a number, not {value}")
    return _explain(wish, _read(wish, choice, access)) if wish.explain else asyncio.run(_run(wish, choice, access))


async def _run(wish: Wish, choice: Choice, access: Access) -> int:
    # until the executor works, Ctrl-C ends the command as it ends any other: at the question too
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
    metrics = MetricsFile(Path(wish.metrics)) if wish.metrics else None
    drivers = _drivers(wish.simulate)
    try:
        read = _read(wish, choice, access)
        if not read.hosts:
            output.say("no host to do anything with")
            return 0
        if wish.operation is not Operation.STATUS:
            output.confirm(_question(wish, read.hosts), yes=wish.yes)
        code = await _execute(wish, choice, access, read, drivers, metrics)
        return code if metrics is None or metrics.write() else code or 1
    finally:
        await asyncio.gather(*(driver.close() for driver in drivers.values()))


def _read(wish: Wish, choice: Choice, access: Access) -> _Read:
    from pmcompat.db.config import fence_timings, quiet_time

    with connected(access.dsn, read_only=True) as conn:
        dao = _dao(conn, access)
        hosts = _hosts(dao, choice)
        if choice.many and wish.operation is Operation.STATUS:
            without = sum(not host.power_management.enabled for host in hosts)
            hosts = [host for host in hosts if host.power_management.enabled]
            if without:
                output.say(f"{without} hosts without power management are left out")
        sizes = Counter(host.cluster_id for host in dao.get_all()) if wish.storm_percent is not None else {}
        engine = fence_timings(conn, schema=access.schema)
        quiet = quiet_time(conn, schema=access.schema) if wish.quiet_time is None else wish.quiet_time
    return _Read(
        hosts=hosts,
        sizes=sizes,
        patience=patience_of_drivers(
            start=_timing(wish, engine.start_delay, engine.start_retries),
            stop=_timing(wish, engine.stop_delay, engine.stop_retries),
            fixed_polls=wish.fixed_polls,
            keep_order=wish.keep_order,
        ),
        quiet_time=quiet,
    )


def _timing(wish: Wish, delay: float, retries: int) -> Timing:
    return Timing(
        delay=delay if wish.delay is None else wish.delay,
        retries=retries if wish.retries is None else wish.retries,
        first_wait=wish.first_wait,
    )


def _dao(conn: Any, access: Access) -> VdsDao:
    from pmcompat.db.cipher import CipherSettings, choose
    from pmcompat.db.dao import VdsDao

    phrase = os.environ.get("PMCOMPAT_KEY_PASSPHRASE")
    settings = CipherSettings(
        cipher=access.cipher,
        cert=Path(access.cert) if access.cert else None,
        key=Path(access.key) if access.key else None,
        passphrase=Secret(phrase) if phrase else None,
    )
    return VdsDao(conn, choose(settings, conn), schema=access.schema)


def _hosts(dao: VdsDao, choice: Choice) -> list[Host]:
    if choice.every:
        return dao.get_all()
    if choice.cluster is not None:
        hosts = [host for host in dao.get_all() if choice.cluster in {host.cluster_name, str(host.cluster_id)}]
        if not hosts:
            raise ModelError(f"there is no host in a cluster {choice.cluster!r}", field="cluster", state="nothing was done")
        return hosts
    found = {host.name: host for host in dao.get_many(choice.names)}
    for name in choice.names:
        if name not in found:
            raise ModelError(
                f"there is no host {name!r}", field="name", state="nothing was done", fix="see `pmcompat host list`"
            )
    return [found[name] for name in dict.fromkeys(choice.names)]


def _question(wish: Wish, hosts: list[Host]) -> str:
    shown = ", ".join(f"{host.name} ({_status(host)})" for host in hosts[:5])
    more = f" and {len(hosts) - 5} more" if len(hosts) > 5 else ""
    return f"{wish.verb.capitalize()} {shown}{more}?"


def _status(host: Host) -> str:
    return host.status.name if isinstance(host.status, HostStatus) else str(host.status)


def _explain(wish: Wish, read: _Read) -> int:
    from pmcompat.cli.power_view import show_timetable

    for host in read.hosts:
        rows, _ = explain(wish.operation, host.power_management, read.patience, resuming=wish.resuming)
        latest = longest(wish.operation, host.power_management.levels, read.patience)
        latest = latest if wish.deadline is None else min(latest, wish.deadline)
        if wish.json:
            timetable = [{"at": row.at, "agent": agent_name(row.agent), "action": row.action.value} for row in rows]
            output.print_json({"host": host.name, "operation": wish.operation.value, "timetable": timetable, "latest": latest})
        else:
            show_timetable(host, rows, latest=latest)
    return 0


async def _execute(
    wish: Wish, choice: Choice, access: Access, read: _Read, drivers: dict[str, Driver], metrics: MetricsFile | None
) -> int:
    from pmcompat.cli.power_view import Reports, listener

    reports = Reports(json=wish.json)
    on_event, view, drawing = listener(read.hosts, json=wish.json, verbose=output.verbosity() > 0)
    policy = Policy(
        quiet_time=read.quiet_time,
        hosts_at_once=wish.hosts_at_once,
        per_device=wish.per_device,
        storm_percent=wish.storm_percent,
        force=wish.force,
    )
    executor = FenceExecutor(
        drivers,
        journal=_journal(access, in_database=wish.journal),
        lock=_lock(access),
        on_event=each_of(on_event, metrics.hear if metrics else None),
        policy=policy,
        patience=read.patience,
    )
    codes, unshown = [], []
    async with executor:
        _end_on_signals(executor)
        with view:
            async for report in executor.amany(
                wish.operation,
                read.hosts,
                force=wish.force,
                deadline=wish.deadline,
                resuming=wish.resuming,
                sizes=read.sizes,
            ):
                codes.append(_code(report, monitor=choice.many))
                if drawing:
                    unshown.append(report)
                else:
                    reports.show(report)
    for report in unshown:
        reports.show(report)
    code = codes[0] if len(read.hosts) == 1 else code_of_several(codes)
    return code or int(reports.lost)


def _code(report: Report, *, monitor: bool) -> int:
    if monitor and report.outcome is not None and report.operation is Operation.STATUS:
        return code_of_health(report.outcome)
    return report.code


def _end_on_signals(executor: FenceExecutor) -> None:
    """Have signals end the executor, and change nothing any more once it has ended.

    The loop's own handlers go with the loop: a signal after that would take the exit code of what is done already.
    """
    loop = asyncio.get_running_loop()
    signals = _Signals(executor)

    def heard(number: int, _frame: object) -> None:
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(signals.heard, signal.Signals(number))

    for number in ENDING_SIGNALS:
        if signal.getsignal(number) is signal.SIG_IGN and number is not signal.SIGINT:
            continue  # nohup: whoever started us wants it ignored
        with suppress(ValueError):  # not in the main thread
            signal.signal(number, heard)


class _Signals:
    """Tells a person who insists from one event that comes as several signals.

    A terminal that closes may send SIGHUP twice, a service manager SIGTERM and SIGHUP, ``timeout`` and a terminal one Ctrl-C
    each: none of that takes a duty from us (law F8). The same signal again, a moment later, does; SIGHUP never.
    """

    #: seconds within which a signal that comes again is the same event: nobody presses twice so fast
    ONE_EVENT = 0.04

    def __init__(self, executor: FenceExecutor) -> None:
        self._executor = executor
        self._first: dict[signal.Signals, float] = {}

    def heard(self, number: signal.Signals) -> None:
        """End the waiting at the first signal, the duty at one that insists; others change nothing."""
        now = time.monotonic()
        insists = number is not signal.SIGHUP and now - self._first.get(number, now) >= self.ONE_EVENT
        if not self._first or insists:
            more = "" if insists else "; a restart that has cut the power gives it back first. Once more ends at once."
            output.say(f"{number.name}: ending{more}")
            self._executor.end(number.name)
        self._first.setdefault(number, now)


def _drivers(simulate: str | None) -> dict[str, Driver]:
    """Return the drivers. The IPMI driver's processes begin to start: they are up by the time the hosts have been read."""
    from pmcompat.fence.drivers.registry import default_drivers

    if simulate is not None:
        from pmcompat.fence.drivers.simulated import Rack

        return default_drivers(simulate=Rack.from_file(Path(simulate)))
    from pmcompat.fence.drivers.ipmi import IpmiDriver

    ipmi = IpmiDriver()
    ipmi.start()
    return {**default_drivers(), "ipmi": ipmi}


def _journal(access: Access, *, in_database: bool) -> Journal:
    if not in_database:
        from pmcompat.fence.file_journal import FileJournal

        return FileJournal()
    from pmcompat.db.journal import PostgresJournal

    return PostgresJournal(access.dsn, schema=access.schema)


def _lock(access: Access) -> HostLock:
    from pmcompat.db.locks import AdvisoryLocks

    return AdvisoryLocks(access.dsn)


def _one(name: str, access: Access) -> Host:
    with connected(access.dsn, read_only=True) as conn:
        return _hosts(_dao(conn, access), Choice(names=(name,), cluster=None, every=False))[0]


def show_history(name: str, access: Access, *, limit: int, journal: bool, json: bool) -> None:
    """Print the journal of one host."""
    from rich.table import Table
    from rich.text import Text

    host = _one(name, access)

    async def read() -> list[Entry]:
        records = _journal(access, in_database=journal)
        try:
            return list(await records.history(host.id, limit=limit))
        finally:
            await records.close()

    entries = asyncio.run(read())
    if json:
        for entry in entries:
            output.print_json({field: getattr(entry, field) for field in Entry.__dataclass_fields__})
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("when", "who", "operation", "agent", "what", "s"):
        table.add_column(heading, overflow="fold")
    for entry in entries:
        when = entry.at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        seconds = "" if entry.seconds is None else f"{entry.seconds:.2f}"
        row = (when, f"{entry.user} on {entry.machine}", entry.operation, entry.agent, entry.what, seconds)
        table.add_row(*map(Text, row))
    output.out().print(table)


def confirm_off(name: str, access: Access, *, journal: bool, yes: bool) -> None:
    """Settle the journal of a host that a person has seen off (law F9)."""
    host = _one(name, access)
    output.confirm(f"Have you seen that {host.name} is off?", yes=yes)

    async def settle() -> int:
        records, locks = _journal(access, in_database=journal), _lock(access)
        request = Request(operation_id=uuid4(), operation=Operation.STOP, host=host, origin=here())
        try:
            held = await locks.acquire(request)
            try:
                return await records.confirm(host.id, request.origin)
            finally:
                await held.release()
        finally:
            await records.close()
            await locks.close()

    output.say(f"{asyncio.run(settle())} records of {host.name} are settled under your name; nothing was sent")


def ask_agent(name: str, rank: str, access: Access, *, simulate: str | None, json: bool) -> int:
    """Ask one agent for its status, also where power management is disabled."""
    from pmcompat.cli.power_view import show_report

    host = _one(name, access)
    agent = host.power_management.of_order({"primary": PRIMARY, "secondary": SECONDARY}[rank])
    if agent is None or agent.is_blank:
        raise ModelError(f"host {name!r} has no {rank} agent", field=rank, state="nothing was sent")
    alone = replace(host, power_management=PowerManagement(enabled=True, agents=(agent,)))

    async def ask() -> Report:
        async with FenceExecutor(_drivers(simulate)) as executor:
            return await anext(executor.amany(Operation.STATUS, [alone]))

    report = asyncio.run(ask())
    if report.outcome is None:
        raise report.error or SchemaError(f"the agent of {name} was not asked")
    result = report.outcome.agents[0]
    if json:
        found = {"host": name, "agent": rank, **result.as_json(), "seconds": round(report.seconds, 4)}
        found["fault"] = result.fault.kind.value if result.fault else None
        output.print_json(found)
    else:
        show_report(report, json=False)
    return code_of(report.outcome)


def list_types(profile: str, *, json: bool) -> None:
    """Print the agent types of a profile."""
    from rich.table import Table

    from pmcompat.options import IPMI_TYPES, tables_of

    known = tables_of(profile)  # also of 3.3, which has the tables of 3.2
    rows = [
        {
            "type": type_,
            "driver": "ipmi" if type_ in IPMI_TYPES else "fence_agents",
            "program": "fence_" + known.aliases.get(type_, type_),
            "shows": sorted(known.mapping.get(type_, {})),
        }
        for type_ in known.types
    ]
    if json:
        for row in rows:
            output.print_json(row)
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("type", "driver", "program", "form shows"):
        table.add_column(heading)
    for row in rows:
        table.add_row(str(row["type"]), str(row["driver"]), str(row["program"]), ", ".join(row["shows"]) or "-")
    output.out().print(table)
