"""The noun ``db``: look at a database, upgrade it, prove it, go back. Parsing and calling only; printing is in ``db_view``."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from pmcompat.cli.output import confirm, out, print_json, say
from pmcompat.cli.parameters import DATABASE, Dsn, Json, Schema, Yes

if TYPE_CHECKING:
    from pmcompat.db.upgrade import UpgradeSettings

app = typer.Typer(no_args_is_help=True, help="The engine database: status, plan, upgrade, verify, repair, rollback; init.")

#: exit code where something is pending and --exit-code asked for it (DESIGN §5)
PENDING = 8
FAILED = 1

LOCKS = "Locks"
LockTimeout = Annotated[
    float,
    typer.Option(
        "--lock-timeout", metavar="S", min=0.01, help="Seconds in the lock queue, all locks of one try.", rich_help_panel=LOCKS
    ),
]
Patience = Annotated[
    float,
    typer.Option(
        "--patience", metavar="S", min=0, help="Seconds to go on trying while somebody is in the way.", rich_help_panel=LOCKS
    ),
]
StatementTimeout = Annotated[
    float,
    typer.Option("--statement-timeout", metavar="S", min=0.01, help="Seconds for any one statement.", rich_help_panel=LOCKS),
]
GrantTo = Annotated[
    list[str] | None,
    typer.Option("--grant-to", metavar="ROLE", help="May use schema pmcompat; repeatable.", rich_help_panel=DATABASE),
]
NoCall = Annotated[bool, typer.Option("--no-call", help="Do not call the procedures (a site's triggers could fire, undone).")]
ForceDefaults = Annotated[
    bool, typer.Option("--force-defaults", help="Set 10 s x 18 also where an admin chose other fence values.")
]
ExitCode = Annotated[bool, typer.Option("--exit-code", help="Exit 8 where something is pending.")]


class Shape(StrEnum):
    """The baselines ``init`` can make."""

    RELEASE = "3.1.0"
    SNAPSHOT = "3.2-snapshot"


def _settings(**chosen: object) -> UpgradeSettings:
    from pmcompat.db.upgrade import UpgradeSettings

    return UpgradeSettings(**chosen)  # type: ignore[arg-type]  # each command passes fields of its own


@app.command()
def status(dsn: Dsn = None, schema: Schema = "public", json: Json = False, exit_code: ExitCode = False) -> None:
    """Say what the database is and what is pending. Reads only; a read-only role is enough."""
    from pmcompat.cli import db_view
    from pmcompat.db import upgrade as upgrades
    from pmcompat.db.connection import connect

    with connect(dsn, read_only=True) as conn:
        found = upgrades.status(conn, _settings(schema=schema))
    if json:
        print_json(found.as_json())
    else:
        db_view.status(out(), found)
    if exit_code and found.pending:
        raise typer.Exit(PENDING)


@app.command()
def plan(  # noqa: PLR0917 - typer fills options by name
    dsn: Dsn = None,
    schema: Schema = "public",
    sql: Annotated[
        bool, typer.Option("--sql", help="Print the upgrade as one script for psql -v ON_ERROR_STOP=1 -1 -f.")
    ] = False,
    force_defaults: ForceDefaults = False,
    grant_to: GrantTo = None,
    lock_timeout: LockTimeout = 2.0,
    no_call: NoCall = False,
    json: Json = False,
    exit_code: ExitCode = False,
) -> None:
    """Say what an upgrade would do, lock and meet; or print it as a script. Reads only; a read-only role is enough."""
    from pmcompat.cli import db_view
    from pmcompat.db import upgrade as upgrades
    from pmcompat.db.connection import connect

    chosen = _settings(
        schema=schema,
        force_defaults=force_defaults,
        grant_to=tuple(grant_to or ()),
        lock_timeout=lock_timeout,
        call=not no_call,
    )
    with connect(dsn, read_only=True) as conn:
        found = upgrades.plan(conn, chosen)
        text = upgrades.script(conn, chosen) if sql else ""
    if json:
        print_json({**found.as_json(), **({"sql": text} if sql else {})})
    elif sql:
        typer.echo(text)
    else:
        db_view.plan(out(), found)
    if exit_code and found.status.pending:
        raise typer.Exit(PENDING)


@app.command()
def upgrade(  # noqa: PLR0917 - typer fills options by name
    dsn: Dsn = None,
    schema: Schema = "public",
    rehearse: Annotated[bool, typer.Option("--rehearse", help="Do everything, report locks and times, roll it back.")] = False,
    force_defaults: ForceDefaults = False,
    grant_to: GrantTo = None,
    lock_timeout: LockTimeout = 2.0,
    patience: Patience = 60.0,
    statement_timeout: StatementTimeout = 60.0,
    no_call: NoCall = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Upgrade the database in one transaction: complete, or untouched whatever happens."""
    from pmcompat.cli import db_view
    from pmcompat.cli.output import err
    from pmcompat.db import upgrade as upgrades
    from pmcompat.db.connection import connect

    chosen = _settings(
        schema=schema,
        force_defaults=force_defaults,
        grant_to=tuple(grant_to or ()),
        lock_timeout=lock_timeout,
        patience=patience,
        statement_timeout=statement_timeout,
        call=not no_call,
    )
    with connect(dsn) as conn:
        before = upgrades.plan(conn, chosen)
        if before.status.pending and not rehearse:
            if not yes:
                db_view.plan(err(), before)
            confirm(f"Upgrade database {before.status.database}?", yes=yes)
        done = (upgrades.rehearse if rehearse else upgrades.upgrade)(conn, chosen, notify=say)
    if json:
        print_json(done.as_json())
    else:
        db_view.upgraded(out(), done)


@app.command()
def verify(dsn: Dsn = None, schema: Schema = "public", no_call: NoCall = False, json: Json = False) -> None:
    """Prove the result of an upgrade on the live database; nothing stays changed. Exit 1 where a check fails."""
    from pmcompat.cli import db_view
    from pmcompat.db import upgrade as upgrades
    from pmcompat.db.connection import connect

    with connect(dsn) as conn:
        found = upgrades.verify(conn, _settings(schema=schema, call=not no_call), notify=say)
    if json:
        print_json(found.as_json())
    else:
        db_view.verified(out(), found)
    if not found.ok:
        raise typer.Exit(FAILED)


@app.command()
def repair(
    dsn: Dsn = None,
    schema: Schema = "public",
    complete: Annotated[
        bool, typer.Option("--complete", help="In a database oVirt upgraded: add what oVirt never did.")
    ] = False,
    force_defaults: ForceDefaults = False,
    lock_timeout: LockTimeout = 2.0,
    patience: Patience = 60.0,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Accept applied scripts whose files were edited since; with --complete, finish oVirt's own upgrade."""
    from pmcompat.cli import db_view
    from pmcompat.db import upgrade as upgrades
    from pmcompat.db.connection import connect

    chosen = _settings(schema=schema, force_defaults=force_defaults, lock_timeout=lock_timeout, patience=patience)
    with connect(dsn) as conn:
        before = upgrades.status(conn, chosen)
        wanted = [*before.drift, *(f.text for f in before.findings if f.kind == "ovirt" and complete)]
        if wanted:
            confirm(f"Repair database {before.database}: {'; '.join(wanted)}?", yes=yes)
        done = upgrades.repair(conn, chosen, complete=complete, notify=say)
    if json:
        print_json(done.as_json())
    else:
        db_view.repaired(out(), done)


@app.command()
def rollback(  # noqa: PLR0917 - typer fills options by name
    dsn: Dsn = None,
    schema: Schema = "public",
    purge: Annotated[
        bool, typer.Option("--purge", help="Also delete the archive, the journal and all else in schema pmcompat.")
    ] = False,
    drop_dependants: Annotated[
        bool, typer.Option("--drop-dependants", help="Drop views that use the new columns; their text is kept.")
    ] = False,
    lock_timeout: LockTimeout = 2.0,
    patience: Patience = 60.0,
    statement_timeout: StatementTimeout = 60.0,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Take the change out again, in one transaction. Secondary agents are archived first, never destroyed."""
    from pmcompat.cli import db_view
    from pmcompat.db import upgrade as upgrades
    from pmcompat.db.connection import connect

    chosen = _settings(
        schema=schema,
        purge=purge,
        drop_dependants=drop_dependants,
        lock_timeout=lock_timeout,
        patience=patience,
        statement_timeout=statement_timeout,
    )
    with connect(dsn) as conn:
        question = f"Roll the upgrade of database {conn.info.dbname} back" + (" and delete schema pmcompat?" if purge else "?")
        confirm(question, yes=yes)
        done = upgrades.rollback(conn, chosen, notify=say)
    if json:
        print_json(done.as_json())
    else:
        db_view.rolled_back(out(), done)


@app.command()
def init(
    shape: Annotated[Shape, typer.Option("--shape", help="Which release's schema.")],
    hosts: Annotated[int, typer.Option("--hosts", metavar="N", min=0, help="Hosts to make.")] = 0,
    dsn: Dsn = None,
    schema: Schema = "public",
    json: Json = False,
) -> None:
    """Make a baseline in an empty database: one data centre and one cluster, "Default", and N hosts."""
    from pmcompat.db.baseline import init as make
    from pmcompat.db.connection import connect

    with connect(dsn) as conn:
        made = make(conn, shape.value, hosts, schema=schema, progress=say)
    if json:
        print_json(made.as_json())
    else:
        say(f"made {made.shape} with {made.hosts} hosts in {made.seconds:.1f} s")
