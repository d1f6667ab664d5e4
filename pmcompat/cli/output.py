"""What the command line prints: data on stdout, everything else on stderr."""

from __future__ import annotations

import functools
import json
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


def print_json(value: object) -> None:
    """Print *value* as JSON on one line of stdout; UUIDs, paths and times become text. UTF-8, or ASCII with escapes."""
    unicode = (sys.stdout.encoding or "").lower().replace("_", "-") in {"utf-8", "utf8"}
    sys.stdout.write(json.dumps(value, default=str, ensure_ascii=not unicode) + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """Print one message on stderr. Never raises: a terminal that is gone may not end what is under way."""
    with suppress(OSError, ValueError):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def silence_stdout() -> None:
    """Let stdout lead nowhere: it cannot be written any more, and what is still buffered must not fail a second time."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def interactive() -> bool:
    """Tell whether a person sits at the terminal: both stdin and stderr are one."""
    return sys.stdin.isatty() and sys.stderr.isatty()


@functools.cache
def _console(stream: TextIO) -> Console:
    from rich.console import Console

    terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
    return Console(
        file=stream,
        highlight=False,
        soft_wrap=not terminal,
        no_color=not terminal or "NO_COLOR" in os.environ,
        width=None if terminal else 160,
    )


def out() -> Console:
    """Return the rich console on stdout; no colour unless it is a terminal."""
    return _console(sys.stdout)


def err() -> Console:
    """Return the rich console on stderr; no colour unless it is a terminal."""
    return _console(sys.stderr)


def plain(value: object) -> Text:
    """Return *value* as text for a table, brackets and all: what comes from outside is no markup."""
    from rich.text import Text

    return Text(str(value))


def confirm(question: str, *, yes: bool) -> None:
    """Ask *question* on the terminal, or accept ``--yes``.

    :raises NeedsConfirmation: the answer was no, or nobody is there to answer.
    """
    from pmcompat.errors import NeedsConfirmation

    if yes:
        return
    if not interactive():
        raise NeedsConfirmation(
            "this needs a confirmation and there is no terminal to ask at",
            why=question,
            state="nothing was done",
            fix="add --yes if you mean it",
        )
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise NeedsConfirmation("not confirmed", state="nothing was done")


def verbosity() -> int:
    """Return how much is to be told: 0, 1 (``-v``), 2 (``-vv``); ``PMCOMPAT_VERBOSE`` is a number or a word for yes."""
    said = os.environ.get("PMCOMPAT_VERBOSE", "").strip().lower()
    return int(said) if said.isdecimal() else int(said in {"true", "yes", "on"})
