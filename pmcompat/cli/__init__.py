"""The command line: parsing and printing only, one function per sub-command.

Heavy rooms (psycopg, lxml, xmlschema, pyghmi) are imported inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import signal


def main() -> None:
    """Run the ``pmcompat`` command; the process ends with it."""
    from pmcompat.cli.app import run

    try:
        run()
    finally:
        # The interpreter gives its handlers back before the process ends: a signal then would take the code of what is done.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
