"""Verbs of ``host`` that ask for power or switch it, and the noun ``agent``. Parsing only; what they do is in power_run."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated

import typer

from pmcompat.cli.parameters import Cert, Cipher, Dsn, Json, Key, Profile, Schema, Yes

WAITING = "Waiting"
POLICY = "Policy"
#: verb → what its help says
VERBS = {
    "status": """Ask every agent of the hosts for the power.

    Any on is on, all off is off, anything else is unknown. With --all or --cluster the exit code is a monitor's: not 0 while
    an agent of a host is dead.
    """,
    "stop": """Cut the power, and confirm that it is off.

    Needs --force unless the database says Maintenance or Down.
    """,
    "start": """Give power through every agent of a level.

    Needs --force unless the database says Down, NonResponsive, Reboot or Maintenance.
    """,
    "restart": "Cut the power, confirm that it is off, and only then give it back.",
    "resume": "Complete a restart that ended between off and on.",
}


class Rank(StrEnum):
    """Which agent of a host."""

    PRIMARY = "primary"
    SECONDARY = "secondary"


Names = Annotated[list[str] | None, typer.Argument(metavar="NAME…", help="The hosts' names.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The host's name.")]
ClusterName = Annotated[str | None, typer.Option("--cluster", metavar="C", help="Every host of this cluster (name or id).")]
All = Annotated[bool, typer.Option("--all", help="Every host.")]
Explain = Annotated[bool, typer.Option("--explain", help="Print the timetable and touch nothing.")]
Deadline = Annotated[
    float | None,
    typer.Option(
        "--deadline", metavar="S", min=0, help="Seconds for a host; default: the sum of its budgets.", rich_help_panel=WAITING
    ),
]
Delay = Annotated[
    float | None,
    typer.Option(
        "--delay", metavar="S", min=0, help="Longest pause between polls; default: vdc_options.", rich_help_panel=WAITING
    ),
]
Retries = Annotated[
    int | None,
    typer.Option("--retries", metavar="N", min=1, help="Delays that fit one confirmation, plus one.", rich_help_panel=WAITING),
]
FirstWait = Annotated[
    float,
    typer.Option("--first-wait", metavar="S", min=0, help="No poll sooner than this after on or off.", rich_help_panel=WAITING),
]
FixedPolls = Annotated[
    bool, typer.Option("--fixed-polls", help="oVirt's own timetable: N polls, --delay apart.", rich_help_panel=WAITING)
]
KeepOrder = Annotated[
    bool,
    typer.Option(
        "--keep-order", help="Do not put an agent that does not answer behind one that does.", rich_help_panel=WAITING
    ),
]
QuietTime = Annotated[
    float | None,
    typer.Option(
        "--quiet-time",
        metavar="S",
        min=0,
        help="Between a stop and a start of one host; default: vdc_options.",
        rich_help_panel=POLICY,
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Whatever status, quiet time and storm brake say.", rich_help_panel=POLICY)
]
NoJournal = Annotated[
    bool, typer.Option("--no-journal", help="Write to a file of yours instead of the database.", rich_help_panel=POLICY)
]
HostsAtOnce = Annotated[int, typer.Option("--hosts-at-once", metavar="N", min=1, rich_help_panel=POLICY)]
PerDevice = Annotated[
    int | None,
    typer.Option(
        "--per-device", metavar="N", min=1, help="Commands at once to one device (a shared PDU).", rich_help_panel=POLICY
    ),
]
StormPercent = Annotated[
    float | None,
    typer.Option(
        "--storm-percent",
        metavar="P",
        min=0,
        max=100,
        help="Refuse to cut more of a cluster in one go.",
        rich_help_panel=POLICY,
    ),
]
Metrics = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        metavar="FILE",
        help="Write Prometheus metrics of this run there when it ends (for node_exporter's textfile collector).",
    ),
]
Simulate = Annotated[
    str | None, typer.Option("--simulate", metavar="FILE", help="Reach the devices of this rack file and no others.")
]


def _verb(verb: str) -> Callable[..., None]:
    def command(
        names: Names = None,
        *,
        cluster: ClusterName = None,
        every: All = False,
        explain: Explain = False,
        json: Json = False,
        yes: Yes = False,
        deadline: Deadline = None,
        delay: Delay = None,
        retries: Retries = None,
        first_wait: FirstWait = 0.0,
        fixed_polls: FixedPolls = False,
        keep_order: KeepOrder = False,
        quiet_time: QuietTime = None,
        force: Force = False,
        no_journal: NoJournal = False,
        hosts_at_once: HostsAtOnce = 256,
        per_device: PerDevice = None,
        storm_percent: StormPercent = None,
        metrics: Metrics = None,
        simulate: Simulate = None,
        dsn: Dsn = None,
        schema: Schema = "public",
        cipher: Cipher = None,
        cert: Cert = None,
        key: Key = None,
    ) -> None:
        from pmcompat.cli.power_run import Access, Choice, Wish, run
        from pmcompat.model import Operation

        resuming = verb == "resume"
        wish = Wish(
            verb=verb,
            operation=Operation.RESTART if resuming else Operation(verb),
            resuming=resuming,
            explain=explain,
            json=json,
            yes=yes,
            deadline=deadline,
            delay=delay,
            retries=retries,
            first_wait=first_wait,
            fixed_polls=fixed_polls,
            keep_order=keep_order,
            quiet_time=quiet_time,
            force=force,
            journal=not no_journal,
            hosts_at_once=hosts_at_once,
            per_device=per_device,
            storm_percent=storm_percent,
            metrics=metrics,
            simulate=simulate,
        )
        choice = Choice(names=tuple(names or ()), cluster=cluster, every=every)
        raise typer.Exit(run(wish, choice, Access(dsn=dsn, schema=schema, cipher=cipher, cert=cert, key=key)))

    command.__name__ = verb
    command.__doc__ = VERBS[verb]
    return command


def history(
    name: Name,
    *,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="The newest N operations.")] = 20,
    no_journal: NoJournal = False,
    json: Json = False,
    dsn: Dsn = None,
    schema: Schema = "public",
) -> None:
    """Show who asked what of a host, what each agent did, how long it took and how it ended."""
    from pmcompat.cli.power_run import Access, show_history

    show_history(name, Access(dsn=dsn, schema=schema), limit=limit, journal=not no_journal, json=json)


def confirm(name: Name, *, no_journal: NoJournal = False, yes: Yes = False, dsn: Dsn = None, schema: Schema = "public") -> None:
    """Say that you have seen the host off: settles what the journal holds for uncertain, under your name.

    Nothing is sent, and no later operation takes it for a reading of off.
    """
    from pmcompat.cli.power_run import Access, confirm_off

    confirm_off(name, Access(dsn=dsn, schema=schema), journal=not no_journal, yes=yes)


def ask_one(
    name: Name,
    *,
    agent: Annotated[Rank, typer.Option("--agent", help="Which agent.")],
    json: Json = False,
    simulate: Simulate = None,
    dsn: Dsn = None,
    schema: Schema = "public",
    cipher: Cipher = None,
    cert: Cert = None,
    key: Key = None,
) -> None:
    """Ask one agent for its status, with exactly its own settings. Never changes power."""
    from pmcompat.cli.power_run import Access, ask_agent

    access = Access(dsn=dsn, schema=schema, cipher=cipher, cert=cert, key=key)
    raise typer.Exit(ask_agent(name, agent.value, access, simulate=simulate, json=json))


def types(profile: Profile = "3.6", json: Json = False) -> None:
    """List the agent types of a profile: the program or driver of each, and whether its form shows port and slot."""
    from pmcompat.cli.power_run import list_types

    list_types(profile, json=json)


def register(host_app: typer.Typer, agent_app: typer.Typer) -> None:
    """Hang the verbs under ``host`` and ``agent``."""
    for verb in VERBS:
        host_app.command(verb)(_verb(verb))
    host_app.command("history")(history)
    host_app.command("confirm")(confirm)
    agent_app.command("test")(ask_one)
    agent_app.command("types")(types)
