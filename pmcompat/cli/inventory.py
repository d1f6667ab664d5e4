"""Verbs of ``host`` that read and write the inventory, and the noun ``credentials``. Parsing and printing only."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pmcompat.cli.files import located, sink_to, source_of
from pmcompat.cli.output import err, interactive, out, plain, print_json, say
from pmcompat.cli.parameters import Cert, Cipher, Dsn, Json, Key, Profile, Schema
from pmcompat.errors import ModelError

if TYPE_CHECKING:
    from rich.table import Table

    from pmcompat.db.cipher import Cipher as StoredAs
    from pmcompat.db.cipher import CipherSettings
    from pmcompat.db.connection import Connection
    from pmcompat.db.dao_batches import Progress
    from pmcompat.hosts import HostReport, ImportReport
    from pmcompat.model import Agent, Host

#: the variable that holds the passphrase of a key file or keystore; a passphrase is never an argument
PASSPHRASE = "PMCOMPAT_KEY_PASSPHRASE"  # noqa: S105 - the variable's name
#: notes of one import that are shown; the rest is counted
_SHOWN_NOTES = 20


class ExportForm(StrEnum):
    """In which form agents are written."""

    AGENTS = "agents"
    FLAT = "flat"
    DUAL = "dual"


class Semantics(StrEnum):
    """What becomes of agents that a document does not mention."""

    KEEP = "keep"
    PROFILE = "profile"


Name = Annotated[str, typer.Argument(metavar="NAME", help="The host's name.")]


def list_(dsn: Dsn = None, schema: Schema = "public", json: Json = False) -> None:
    """List the hosts with their status and power management."""
    from rich.table import Table

    from pmcompat.db.dao import VdsDao

    with connected(dsn, read_only=True) as conn:
        hosts = VdsDao(conn, schema=schema).get_all()
    if json:
        for host in hosts:
            print_json(as_json(host))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("name", "address", "cluster", "status", "power management", "agents"):
        table.add_column(heading, overflow="fold")
    for host in hosts:
        pm = host.power_management
        agents = ", ".join(f"{agent.type or '-'} at {agent.address or '-'}" for agent in pm.agents)
        state = ("enabled" if pm.enabled else "off") + (f", {pm.mode.value}" if pm.agents else "")
        table.add_row(*map(plain, (host.name, host.address, host.cluster_name or "-", _status(host), state, agents or "-")))
    out().print(table)


def show(name: Name, dsn: Dsn = None, schema: Schema = "public", json: Json = False) -> None:
    """Show one host and its agents; of passwords only whether one is set."""
    from pmcompat.db.dao import VdsDao, VdsStaticDao

    with connected(dsn, read_only=True) as conn:
        host = VdsDao(conn, schema=schema).get_by_name(name) or VdsStaticDao(conn, schema=schema).get_by_name(name)
    if host is None:
        raise _no_host(name)
    if json:
        print_json(as_json(host))
        return
    out().print(_facts(host))
    if host.power_management.agents:
        out().print()
        out().print(_agents(host.power_management.agents))


def _facts(host: Host) -> Table:
    from rich.table import Table

    pm = host.power_management
    table = Table(box=None, pad_edge=False, show_header=False)
    for label, value in (
        ("name", host.name),
        ("id", str(host.id)),
        ("address", host.address),
        ("cluster", host.cluster_name or str(host.cluster_id)),
        ("status", _status(host)),
        ("power management", ("enabled, " if pm.enabled else "off, ") + (pm.mode.value if pm.agents else "no agent")),
        ("proxies", pm.proxy_preferences or "cluster,dc (the engine's default)"),
    ):
        table.add_row(label, plain(value))
    return table


def _agents(agents: Sequence[Agent]) -> Table:
    from rich.table import Table

    from pmcompat.options import masked

    table = Table(box=None, pad_edge=False)
    for heading in ("agent", "type", "address", "user", "password", "network port", "options"):
        table.add_column(heading, overflow="fold")
    for agent in agents:
        table.add_row(
            {1: "primary", 2: "secondary"}.get(agent.order, f"agent {agent.order}"),
            plain(agent.type or "-"),
            plain(agent.address or "-"),
            plain(agent.username or "-"),
            "set" if agent.password else "not set",
            "-" if agent.ip_port is None else str(agent.ip_port),
            plain(masked(agent.options) or "-"),
        )
    return table


def import_(
    file: Annotated[
        str, typer.Argument(metavar="[FILE|-]", help="A <host> or <hosts> document in any form; - is stdin.")
    ] = "-",
    *,
    cluster: Annotated[
        str | None, typer.Option("--cluster", metavar="C", help="Name or id of the cluster for new hosts; default: the first.")
    ] = None,
    profile: Profile = "3.2",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, field by field; change nothing.")] = False,
    semantics: Annotated[
        Semantics,
        typer.Option("--semantics", help="keep: what is not mentioned stays; profile: cleared as that release cleared it."),
    ] = Semantics.KEEP,
    dsn: Dsn = None,
    schema: Schema = "public",
    cipher: Cipher = None,
    cert: Cert = None,
    key: Key = None,
    json: Json = False,
) -> None:
    """Store the hosts of a document, all or none; a host is found by id, else by name.

    What the document does not mention stays, what it mentions empty is emptied. New hosts begin in Maintenance.
    """
    from pmcompat.db.dao import VdsStaticDao
    from pmcompat.hosts import import_hosts

    with located("<stdin>" if file == "-" else file), connected(dsn) as conn, source_of(file) as source:
        dao = VdsStaticDao(conn, chosen_cipher(conn, schema, cipher=cipher, cert=cert, key=key), schema=schema)
        with _progress("importing") as progress:
            report = import_hosts(
                dao,
                source,
                profile=profile,
                cluster=cluster,
                dry_run=dry_run,
                semantics=semantics.value,
                progress=progress,
                clearing=_say_clearing,
            )
    if json:
        for host in report.hosts:
            print_json(host.as_json())
    else:
        _print_report(report)


def export(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME…", help="The hosts' names.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every host.")] = False,
    form: Annotated[ExportForm, typer.Option("--form", help="The form of power management.")] = ExportForm.AGENTS,
    profile: Profile = "3.2",
    output: Annotated[str, typer.Option("--output", "-o", metavar="OUT", help="File to write; - is stdout.")] = "-",
    dsn: Dsn = None,
    schema: Schema = "public",
) -> None:
    """Write hosts as a document: <hosts>, or <host> for one NAME. Never a password."""
    from pmcompat.db.dao import VdsStaticDao
    from pmcompat.hosts import export_hosts

    if bool(names) == every:
        raise typer.BadParameter("give one or more NAMEs, or --all")
    unsaid = _Unsaid()
    with connected(dsn, read_only=True) as conn, sink_to(output) as write:
        dao = VdsStaticDao(conn, schema=schema)
        if names:
            there = {host.name for host in dao.get_many(names=names)}
            for name in names:
                if name not in there:
                    raise _no_host(name)
        single = names is not None and len(set(names)) == 1
        with closing(dao.each(names=names or None)) as hosts:
            for chunk in export_hosts(hosts, form=form.value, profile=profile, single=single, left_out=unsaid):
                write(chunk)
    unsaid.report()


def check(
    dsn: Dsn = None,
    schema: Schema = "public",
    cipher: Cipher = None,
    cert: Cert = None,
    key: Key = None,
    json: Json = False,
) -> None:
    """Try every stored password: readable, not encrypted, or not to be decrypted. Shows none. Exit 3 if one cannot be read."""
    from pmcompat.db.credentials import check_credentials

    with connected(dsn, read_only=True) as conn, _progress("checking") as progress:
        found = check_credentials(
            conn, chosen_cipher(conn, schema, cipher=cipher, cert=cert, key=key), schema=schema, progress=progress
        )
    if json:
        print_json(found.as_json())
    else:
        for line in found.lines():
            typer.echo(line)
    found.raise_for_unreadable()


def rekey(
    dsn: Dsn = None,
    schema: Schema = "public",
    cipher: Cipher = None,
    cert: Cert = None,
    key: Key = None,
    *,
    from_cipher: Annotated[
        str | None,
        typer.Option("--from-cipher", metavar="engine|fernet|plain", help="How they are stored now; default: the same."),
    ] = None,
    from_key: Annotated[
        str | None, typer.Option("--from-key", metavar="FILE", help="The key they are stored with now; default: --key.")
    ] = None,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Leave passwords that cannot be decrypted as they are.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be encrypted anew; change nothing.")] = False,
    json: Json = False,
) -> None:
    """Encrypt the stored passwords anew with --cipher, --cert and --key: after a key change, or where some are not encrypted.

    All or none, in one transaction. With a file of Fernet keys the first line is the new key, the others still decrypt.
    """
    from pmcompat.db.credentials import rekey_credentials

    with connected(dsn) as conn, _progress("encrypting") as progress:
        new = chosen_cipher(conn, schema, cipher=cipher, cert=cert, key=key)
        theirs = from_key or key
        old = chosen_cipher(conn, schema, cipher=from_cipher, cert=None, key=theirs) if from_cipher or from_key else new
        found = rekey_credentials(
            conn, new, old=old, schema=schema, skip_unreadable=skip_unreadable, dry_run=dry_run, progress=progress
        )
    if json:
        print_json(found.as_json())
    else:
        for line in found.lines():
            typer.echo(line)


def register(host_app: typer.Typer, credentials_app: typer.Typer) -> None:
    """Hang the verbs under ``host`` and ``credentials``."""
    host_app.command("list")(list_)
    host_app.command("show")(show)
    host_app.command("import")(import_)
    host_app.command("export")(export)
    credentials_app.command("check")(check)
    credentials_app.command("rekey")(rekey)


# ---------------------------------------------------------------------- what the verbs share


@contextmanager
def connected(dsn: str | None, *, read_only: bool = False) -> Iterator[Connection]:
    """Connect to the database for as long as the block lasts; that the connection is lost in it is told as such."""
    from pmcompat.db.connection import connect, reporting_loss

    with reporting_loss(), connect(dsn, read_only=read_only) as conn:
        yield conn


def _settings(cipher: str | None, cert: str | None, key: str | None) -> CipherSettings:
    from pmcompat.db.cipher import CipherSettings
    from pmcompat.model import Secret

    phrase = os.environ.get(PASSPHRASE)
    return CipherSettings(
        cipher=cipher,
        cert=Path(cert) if cert else None,
        key=Path(key) if key else None,
        passphrase=Secret(phrase) if phrase else None,
    )


def chosen_cipher(conn: Connection, schema: str, *, cipher: str | None, cert: str | None, key: str | None) -> StoredAs | None:
    """Return the cipher that the options of a command name or imply (DESIGN §5); None: nothing can be stored."""
    from pmcompat.db.cipher import choose

    return choose(_settings(cipher, cert, key), conn, schema=schema)


def _no_host(name: str) -> ModelError:
    return ModelError(f"there is no host {name!r}", field="name", state="nothing was done", fix="see `pmcompat host list`")


def _status(host: Host) -> str:
    from pmcompat.model import HostStatus

    if host.status is None:
        return "-"
    return host.status.name.lower() if isinstance(host.status, HostStatus) else f"status {host.status}"


def as_json(host: Host) -> dict[str, object]:
    """Return a host as plain values; of passwords only whether one is set, options with their secrets masked."""
    pm = host.power_management
    return {
        "host": host.name,
        "id": str(host.id),
        "address": host.address,
        "port": host.port,
        "cluster": host.cluster_name,
        "cluster_id": str(host.cluster_id),
        "status": None if host.status is None else _status(host),
        "spm_priority": host.spm_priority,
        "power_management": {
            "enabled": pm.enabled,
            "mode": pm.mode.value,
            "concurrent": pm.concurrent,
            "proxies": [item for item in (pm.proxy_preferences or "").split(",") if item],
            "agents": [_agent_json(agent) for agent in pm.agents],
        },
    }


def _agent_json(agent: Agent) -> dict[str, object]:
    from pmcompat.options import masked

    return {
        "order": agent.order,
        "type": agent.type,
        "address": agent.address,
        "username": agent.username,
        "password_set": bool(agent.password),
        "ip_port": agent.ip_port,
        "options": None if agent.options is None else masked(agent.options),
    }


@contextmanager
def _progress(label: str) -> Iterator[Progress | None]:
    """Yield a callback that draws a bar where somebody is watching, else None."""
    if not interactive():
        yield None
        return
    from rich.progress import Progress as Bar

    with Bar(console=err(), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _say_clearing(reports: Sequence[HostReport]) -> None:
    for report in reports:
        say(f"{report.name}: removes the {' and the '.join(report.cleared)} agent, as the document is read")


def _print_report(report: ImportReport) -> None:
    notes = [(host.name, note) for host in report.hosts for note in host.notes]
    for name, note in notes[:_SHOWN_NOTES]:
        say(f"{name}: {note}")
    if len(notes) > _SHOWN_NOTES:
        say(f"… and {len(notes) - _SHOWN_NOTES} notes more; --json lists all")
    lines = []
    for host in report.hosts:
        if host.action != "unchanged":
            lines.append(f"{'would be ' if report.dry_run else ''}{host.action} {host.name}")
            if report.dry_run or host.action == "updated":
                lines += [f"  {change}" for change in host.changes]
    for line in lines:
        typer.echo(line)
    counts = ", ".join(f"{report.count(action)} {action}" for action in ("created", "updated", "unchanged"))
    say(
        f"{len(report.hosts)} host{'' if len(report.hosts) == 1 else 's'}: {counts}"
        + (" (dry run: nothing was changed)" if report.dry_run else "")
    )


class _Unsaid:
    """Collects what an export had no place for, and says it once."""

    def __init__(self) -> None:
        self._found: list[str] = []

    def __call__(self, host: Host, missing: tuple[str, ...]) -> None:
        self._found += [f"{host.name}: not in the document: {what}" for what in missing]

    def report(self) -> None:
        for line in self._found[:_SHOWN_NOTES]:
            say(line)
        if len(self._found) > _SHOWN_NOTES:
            say(f"… and {len(self._found) - _SHOWN_NOTES} more")
