"""``pmcompat xml``: translate, validate and compare documents. Filters: stdin to stdout, or FILE to ``-o OUT``."""

from __future__ import annotations

import gc
import os
import stat
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from pmcompat.cli.files import chunks_of, end_with, located, problems_in, shown_name, sink_to, source_of
from pmcompat.cli.output import print_json, say
from pmcompat.cli.parameters import Json, Profile
from pmcompat.errors import DocumentError

if TYPE_CHECKING:
    from pmcompat.documents.translation import Translator

app = typer.Typer(no_args_is_help=True, help="Translate, validate and compare host documents.")

LIMITS = "Limits"

File = Annotated[str, typer.Argument(metavar="[FILE|-]", help="The document; - is stdin.")]
MaxDepth = Annotated[int, typer.Option("--max-depth", min=8, help="How deep elements may nest.", rich_help_panel=LIMITS)]
MaxToken = Annotated[
    int, typer.Option("--max-token", min=1024, help="Bytes of one tag, comment or instruction.", rich_help_panel=LIMITS)
]
MaxFragment = Annotated[
    int, typer.Option("--max-fragment", min=256, help="Bytes of one power_management.", rich_help_panel=LIMITS)
]
MaxHost = Annotated[int, typer.Option("--max-host", min=1024, help="Bytes of one host.", rich_help_panel=LIMITS)]
MaxSize = Annotated[
    int | None, typer.Option("--max-size", min=1, help="Bytes of the document; unset: any size.", rich_help_panel=LIMITS)
]
MaxProblems = Annotated[
    int, typer.Option("--max-problems", min=1, help="Problems named before giving up.", rich_help_panel=LIMITS)
]


@app.command()
def translate(
    file: File = "-",
    *,
    to: Annotated[str, typer.Option("--to", metavar="agents|flat|dual", help="The form to bring the document into.")],
    profile: Profile = "3.2",
    precedence: Annotated[
        str, typer.Option("--precedence", metavar="agents|flat", help="Which form counts where both speak.")
    ] = "agents",
    lossy: Annotated[bool, typer.Option("--lossy", help="Drop what the form cannot hold, and say what was dropped.")] = False,
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="OUT", help="Write here, all or nothing; - is stdout.")
    ] = "-",
    json: Json = False,
    max_size: MaxSize = None,
    max_depth: MaxDepth = 256,
    max_token: MaxToken = 2 << 20,
    max_fragment: MaxFragment = 1 << 20,
    max_problems: MaxProblems = 20,
) -> None:
    """Bring a <host> or <hosts> document into another form; every byte that need not change stays.

    A document without power management comes out as it went in. To stdout, output is held back up to 8 MiB and then
    streams: an error after that ends with exit 3 or 9 and says that the output is incomplete. With --json a report goes to
    stdout, or to stderr where stdout carries the document.
    """
    from pmcompat.documents.limits import Limits
    from pmcompat.documents.translation import Translator

    limits = Limits(document=max_size, depth=max_depth, token=max_token, fragment=max_fragment, problems=max_problems)

    def make() -> Translator:
        return Translator(to=to, profile=profile, precedence=precedence, lossy=lossy, limits=limits)

    gc.disable()  # nothing here is cyclic, and the process ends after this
    with located(file), source_of(file) as source, sink_to(output) as sink:
        translator = _halves(source, output, make, sink) if max_size is None else None
        if translator is None:
            translator = make()
            for chunk in chunks_of(source):
                sink(translator.feed(chunk))
            sink(translator.finish())
    _report(file, translator, to=to, profile=profile, json=json, to_stdout=output == "-")


def _halves(source: BinaryIO, output: str, make: Callable[[], Translator], sink: Callable[[bytes], Any]) -> Translator | None:
    """Translate a large file into a file with two processes; None where one is the better number, and nothing was done."""
    target = Path(os.path.realpath(output))
    if output == "-" or sys.stderr.isatty() or not stat.S_ISREG(os.fstat(source.fileno()).st_mode):
        return None
    if target.exists() and not target.is_file():
        return None
    from pmcompat.documents.halves import LEAST, find_cut, translate_halves

    if os.fstat(source.fileno()).st_size < LEAST:
        return None
    make()  # wrong names are refused before anything is read
    cut = find_cut(source)
    if cut is None:
        return None
    with tempfile.TemporaryFile(dir=target.parent) as spool:
        return translate_halves(source, cut, make, sink, spool)


def _report(file: str, translator: Translator, *, to: str, profile: str, json: bool, to_stdout: bool) -> None:
    """Say what was done: warnings and losses one a line, or one JSON object."""
    if json:
        report = {
            "file": file,
            "to": to,
            "profile": profile,
            "found": translator.found,
            "changed": translator.changed,
            "warnings": list(translator.warnings),
            "losses": list(translator.losses),
        }
        if to_stdout:
            from json import dumps

            say(dumps(report, ensure_ascii=False))
        else:
            print_json(report)
        return
    for warning in translator.warnings:
        say(f"{shown_name(file)}: warning: {warning}")
    for loss in translator.losses:
        say(f"{shown_name(file)}: lost: {loss}")


@app.command()
def validate(
    file: File = "-",
    *,
    profile: Profile = "3.2",
    explain: Annotated[
        bool, typer.Option("--explain", help="Let a second, independent validator say its reasons too.")
    ] = False,
    json: Json = False,
    max_size: MaxSize = None,
    max_depth: MaxDepth = 256,
    max_token: MaxToken = 2 << 20,
    max_host: MaxHost = 8 << 20,
    max_problems: MaxProblems = 20,
) -> None:
    """Check a whole document against a profile; exit 3 if it is invalid, each problem as file:line: path: message."""
    from pmcompat.documents.limits import Limits
    from pmcompat.documents.validation import validate as problems_of

    limits = Limits(document=max_size, depth=max_depth, token=max_token, host=max_host, problems=max_problems)
    with source_of(file) as source:
        try:
            found = problems_of(source, profile, limit=max_problems, explain=explain, limits=limits)
        except DocumentError as error:
            if json:
                print_json({"file": file, "profile": profile, "valid": False, "problems": problems_in(error)})
            end_with(file, error)
    if json:
        problems = [problem.as_json() for problem in found]
        print_json({"file": file, "profile": profile, "valid": not found, "problems": problems})
    for problem in found:
        say(problem.located(shown_name(file)))
    if found:
        raise typer.Exit(3)
    if not json:
        say(f"{shown_name(file)}: valid in profile {profile}")


@app.command()
def diff(
    left: Annotated[str, typer.Argument(metavar="A", help="A document; - is stdin.")],
    right: Annotated[str, typer.Argument(metavar="B", help="The other one.")],
    *,
    profile: Profile = "3.2",
    json: Json = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="End with 8 if they differ.")] = False,
) -> None:
    """Tell what differs in meaning between two documents, whatever form each is in; no line if nothing does."""
    from pmcompat.documents.diff import differences

    count = 0
    with source_of(left) as one, source_of(right) as other, located(f"{shown_name(left)} or {shown_name(right)}"):
        for difference in differences(one, other, profile=profile):
            count += 1
            if json:
                print_json(difference.as_json())
            else:
                typer.echo(str(difference))
    if exit_code and count:
        raise typer.Exit(8)
