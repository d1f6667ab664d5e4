"""The verbs without a noun: ``demo`` and ``doctor``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from pmcompat.cli.output import out, plain, print_json
from pmcompat.cli.parameters import Dsn, Json


class DeadAgent(StrEnum):
    """Which agent the demo's second host has lost."""

    PRIMARY = "primary"
    SECONDARY = "secondary"


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave database and BMCs running until Ctrl-C.")] = False,
    fail_agent: Annotated[
        DeadAgent, typer.Option("--fail-agent", help="Which agent of the second host is dead.")
    ] = DeadAgent.PRIMARY,
) -> None:
    """Show everything, on an embedded Postgres and two simulated BMCs.

    Upgrades a 3.1 database, translates documents, imports two dual-agent hosts, restarts one through both of its agents and
    one whose agent is dead. Needs no server and leaves nothing behind.
    """
    from pmcompat.demo import run

    run(keep=keep, fail_agent=fail_agent.value)


def doctor(dsn: Dsn = None, json: Json = False) -> None:
    """Say what works here, what is missing, and how to fix it.

    Exit 0 if everything that is needed for work on a database works; 1 otherwise.
    """
    from rich.table import Table

    from pmcompat.doctor import examine

    findings = examine(dsn)
    if json:
        for finding in findings:
            print_json(finding.as_json())
    else:
        table = Table(box=None, pad_edge=False)
        for heading in ("", "what", "found", "needed for", "fix"):
            table.add_column(heading, overflow="fold")
        for finding in findings:
            mark = "[green]ok[/]" if finding.works else "[red]missing[/]"
            fix = "" if finding.works else finding.fix
            table.add_row(mark, finding.name, plain(finding.detail), finding.needed_for, plain(fix))
        out().print(table)
    if not all(finding.works for finding in findings if "only" not in finding.needed_for):
        raise typer.Exit(1)


def register(root: typer.Typer) -> None:
    """Hang the verbs under *root*."""
    root.command()(demo)
    root.command()(doctor)
