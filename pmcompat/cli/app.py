"""The root of the command tree: wiring, ``--config``, variables for every option, and the exit codes of DESIGN §5."""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup, TyperOption

from pmcompat import __version__
from pmcompat.cli import db, host, top, xml
from pmcompat.cli.output import say, silence_stdout, verbosity
from pmcompat.errors import (
    ConfigurationError,
    CredentialsRefused,
    DeadlinePassed,
    InvalidInput,
    PmcompatError,
    Refused,
    Uncertain,
    Unreachable,
)

#: the table of DESIGN §5; the first class that matches decides, everything else is 1
EXIT_CODES: tuple[tuple[type[PmcompatError], int], ...] = (
    (InvalidInput, 3),
    (Unreachable, 4),
    (DeadlinePassed, 5),
    (CredentialsRefused, 6),
    (Uncertain, 7),
    (Refused, 9),
)
#: what a shell reports for a process ended by SIGINT
INTERRUPTED = 130

_VERBOSE = {"-v": 1, "--verbose": 1, "-vv": 2}
_NOT_VARIABLES = {"--help", "--version", "--install-completion", "--show-completion"}


def exit_code(error: PmcompatError) -> int:
    """Return the exit code of *error* (DESIGN §5)."""
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), 1)


class _Root(TyperGroup):
    """The root command: turns our errors into messages and exit codes."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except PmcompatError as error:
            _report(error)
            raise typer.Exit(exit_code(error)) from None
        except KeyboardInterrupt:
            say("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # the reader of our stdout went away: nothing is wrong and nobody is left to tell
            silence_stdout()
            raise typer.Exit(0) from None
        except OSError as error:
            if error.filename is not None or error.errno not in {errno.ENOSPC, errno.EIO, errno.EDQUOT}:
                raise
            silence_stdout()
            say(f"pmcompat: the output cannot be written: {error.strerror}")
            raise typer.Exit(1) from None


app = typer.Typer(
    name="pmcompat",
    cls=_Root,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Two power management agents per host for an existing oVirt installation.",
)
app.add_typer(db.app, name="db")
app.add_typer(xml.app, name="xml")
host.register(app)
top.register(app)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"pmcompat {__version__}")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    config: Annotated[
        str | None, typer.Option("--config", metavar="FILE", help="TOML file: option names as keys, tables per noun and verb.")
    ] = None,
    _show: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Two power management agents per host for an existing oVirt installation.

    Every long option is also a variable: --quiet-time is PMCOMPAT_QUIET_TIME. Data goes to stdout, everything else to stderr.
    -v says more, -vv adds a traceback to errors.

    Exit codes: 0 done, 1 failed (state known), 2 usage, 3 invalid input, 4 unreachable, 5 deadline passed, 6 credentials
    refused, 7 UNCERTAIN (may have acted), 8 something pending (--exit-code), 9 refused by policy.
    """
    if config:
        from pmcompat.cli.configuration import defaults

        ctx.default_map = defaults(config, ctx.command)


def _report(error: PmcompatError) -> None:
    if verbosity() > 1:
        traceback.print_exception(error)
    say("pmcompat: " + "\n".join(error.lines()))
    say(f"  [{error.code}]")


def _take_verbosity(arguments: list[str]) -> list[str]:
    """Take ``-v`` and ``-vv`` from anywhere in *arguments* and note them in ``PMCOMPAT_VERBOSE``."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    level = sum(_VERBOSE.get(argument, 0) for argument in arguments[:end])
    if level:
        os.environ["PMCOMPAT_VERBOSE"] = str(level)
    return [argument for i, argument in enumerate(arguments) if i >= end or argument not in _VERBOSE]


def _refuse_password(ctx: Any, param: Any, value: str | None) -> str | None:
    """Refuse a password in ``--dsn``: everybody on the machine can read a command line (law F10)."""
    if value and ctx.get_parameter_source(param.name).name == "COMMANDLINE":
        from pmcompat.db.connection import has_password

        if has_password(value):
            raise ConfigurationError(
                "--dsn holds a password",
                why="everybody on this machine can read a command line",
                state="nothing was done",
                fix="leave it out and use PGPASSWORD, a passfile (~/.pgpass) or the variable PMCOMPAT_DSN",
            )
    return value


def _finish(command: Any) -> None:
    """Give every long option of the tree its variable, and ``--dsn`` its check."""
    for param in command.params:
        names = [name for name in getattr(param, "opts", ()) if name.startswith("--")]
        if isinstance(param, TyperOption) and names and not _NOT_VARIABLES.intersection(names):
            param.envvar = param.envvar or "PMCOMPAT_" + names[0][2:].upper().replace("-", "_")
            param.show_envvar = True
            if "--dsn" in names:
                param.callback = _refuse_password
    for child in getattr(command, "commands", {}).values():
        _finish(child)


def _prepare_streams() -> None:
    """Let what was closed for us lead nowhere: printing must not fail, and no connection may get the number of stdout."""
    nowhere = Path(os.devnull)
    sys.stdin = sys.stdin or nowhere.open(encoding="utf-8")
    sys.stdout = sys.stdout or nowhere.open("w", encoding="utf-8")
    sys.stderr = sys.stderr or nowhere.open("w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that a terminal cannot show must not end what is under way
            stream.reconfigure(errors="backslashreplace")


def run(arguments: list[str] | None = None) -> None:
    """Run the command line and end the process with the exit code of DESIGN §5."""
    _prepare_streams()
    logging.getLogger("psycopg").addHandler(logging.NullHandler())  # our errors say what its warnings would
    given = _take_verbosity(list(sys.argv[1:] if arguments is None else arguments))
    command = typer.main.get_command(app)
    _finish(command)
    command(given, prog_name="pmcompat")
