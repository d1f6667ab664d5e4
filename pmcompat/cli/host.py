"""The nouns ``host``, ``agent`` and ``credentials``: who registers which verb."""

from __future__ import annotations

import typer

from pmcompat.cli import inventory, power


def register(root: typer.Typer) -> None:
    """Hang the three nouns under *root*."""
    host = typer.Typer(no_args_is_help=True, help="Hosts: list, show, import, export; status, stop, start, restart.")
    agent = typer.Typer(no_args_is_help=True, help="One power management agent: test it, list the types.")
    credentials = typer.Typer(no_args_is_help=True, help="Stored passwords: check them, encrypt them anew.")
    inventory.register(host, credentials)
    power.register(host, agent)
    root.add_typer(host, name="host")
    root.add_typer(agent, name="agent")
    root.add_typer(credentials, name="credentials")
