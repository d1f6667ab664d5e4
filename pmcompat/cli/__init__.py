"""The command line: parsing and printing only, one function per sub-command.

Heavy rooms (psycopg, lxml, xmlschema, pyghmi) are imported inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations


def main() -> None:
    """Run the ``pmcompat`` command."""
    from pmcompat.cli.app import run

    run()
