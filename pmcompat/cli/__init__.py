"""The command line: parsing and printing only, one function per sub-command.

Heavy rooms (psycopg, lxml, xmlschema, pyghmi) are imported inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import gc
import signal

#: objects made before the garbage collector looks for circles: a command is short, and its imports make no garbage
COLLECT_AFTER = 50_000


def main() -> None:
    """Run the ``pmcompat`` command; the process ends with it."""
    gc.set_threshold(COLLECT_AFTER)
    from pmcompat.cli.app import run

    try:
        run()
    finally:
        gc.freeze()  # the process ends: the interpreter would look through everything once more, for a tenth of a second
        # The interpreter gives its handlers back before the process ends: a signal then would take the code of what is done.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
