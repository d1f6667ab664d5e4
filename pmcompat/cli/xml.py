"""``pmcompat xml``: translate, validate and compare documents. Filters: stdin to stdout, or FILE to ``-o OUT``."""

from __future__ import annotations

import contextlib
import gc
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, NoReturn

import typer

from pmcompat.cli.output import print_json, say
from pmcompat.cli.parameters import Json, Profile
from pmcompat.errors import ConfigurationError, DocumentError, LossRefused, PmcompatError

if TYPE_CHECKING:
    from pmcompat.documents.translation import Translator

app = typer.Typer(no_args_is_help=True, help="Translate, validate and compare host documents.")

#: output to a pipe is held back up to here, so that most errors come before any output
HELD_BACK = 8 << 20
_CHUNK = 1 << 18
#: documents from this size on show their progress on a terminal
_LARGE = 16 << 20
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
    with _located(file), _source(file) as source, _sink(output) as sink:
        translator = _halves(source, output, make, sink) if max_size is None else None
        if translator is None:
            translator = make()
            for chunk in _chunks(source):
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
        say(f"{_name(file)}: warning: {warning}")
    for loss in translator.losses:
        say(f"{_name(file)}: lost: {loss}")


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
    with _source(file) as source:
        try:
            found = problems_of(source, profile, limit=max_problems, explain=explain, limits=limits)
        except DocumentError as error:
            if json:
                print_json({"file": file, "profile": profile, "valid": False, "problems": _problems(error)})
            _end(file, error)
    if json:
        problems = [problem.as_json() for problem in found]
        print_json({"file": file, "profile": profile, "valid": not found, "problems": problems})
    for problem in found:
        say(problem.located(_name(file)))
    if found:
        raise typer.Exit(3)
    if not json:
        say(f"{_name(file)}: valid in profile {profile}")


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
    with _source(left) as one, _source(right) as other, _located(f"{_name(left)} or {_name(right)}"):
        for difference in differences(one, other, profile=profile):
            count += 1
            if json:
                print_json(difference.as_json())
            else:
                typer.echo(str(difference))
    if exit_code and count:
        raise typer.Exit(8)


# ---------------------------------------------------------------------- input


def _name(file: str) -> str:
    return "<stdin>" if file == "-" else file


@contextlib.contextmanager
def _source(file: str) -> Iterator[BinaryIO]:
    """Open a document for reading. Bytes only: nothing is ever fetched or decompressed."""
    if file == "-":
        yield sys.stdin.buffer
        return
    with contextlib.ExitStack() as stack:
        try:
            stream = stack.enter_context(Path(file).open("rb"))
        except OSError as error:
            raise ConfigurationError(f"cannot read {file}", why=error.strerror or "", state="nothing was done") from None
        yield stream


def _chunks(source: BinaryIO) -> Iterator[bytes]:
    """Yield the document's bytes; a large one shows its progress where somebody is watching."""
    size = os.fstat(source.fileno()).st_size
    if size < _LARGE or not sys.stderr.isatty():
        while chunk := source.read(_CHUNK):
            yield chunk
        return
    from rich.progress import Progress

    from pmcompat.cli.output import err

    with Progress(console=err(), transient=True) as progress:
        task = progress.add_task("translating", total=size)
        while chunk := source.read(_CHUNK):
            progress.advance(task, len(chunk))
            yield chunk


# ---------------------------------------------------------------------- output


class _Standard:
    """Standard output, held back until it is long or complete."""

    def __init__(self) -> None:
        self._held: list[bytes] | None = []
        self._size = 0
        self.sent = 0

    def __call__(self, raw: bytes) -> None:
        if self._held is None:
            self._write(raw)
            return
        self._held.append(raw)
        self._size += len(raw)
        if self._size > HELD_BACK:
            self.release()

    def release(self) -> None:
        """Let everything go that is held back."""
        held, self._held = self._held or (), None
        for raw in held:
            self._write(raw)
        sys.stdout.buffer.flush()

    def _write(self, raw: bytes) -> None:
        sys.stdout.buffer.write(raw)
        self.sent += len(raw)


@contextlib.contextmanager
def _sink(output: str) -> Iterator[Callable[[bytes], Any]]:
    """Yield where output goes: stdout, held back at first, or a file that appears complete or not at all."""
    if output == "-":
        standard = _Standard()
        try:
            yield standard
        except PmcompatError:
            if standard.sent:
                sys.stdout.buffer.flush()
                say(f"output incomplete after byte {standard.sent}")
            raise
        standard.release()
        return
    target = Path(os.path.realpath(output))
    try:
        with _atomic(target) as write:
            yield write
    except OSError as error:
        raise ConfigurationError(f"cannot write {output}", why=error.strerror or "", state="nothing was written") from None


@contextlib.contextmanager
def _atomic(target: Path) -> Iterator[Callable[[bytes], Any]]:
    """Write beside *target* and rename; a device or a pipe is written as it is."""
    if target.exists() and not stat.S_ISREG(target.stat().st_mode):
        with target.open("wb") as stream:
            yield stream.write
        return
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream.write
            os.fchmod(stream.fileno(), _mode(target))
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _mode(target: Path) -> int:
    """Return the permissions of the file that is replaced, else what the process's mask gives a new one."""
    if target.exists():
        return stat.S_IMODE(target.stat().st_mode)
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


# ---------------------------------------------------------------------- errors


@contextlib.contextmanager
def _located(file: str) -> Iterator[None]:
    """Print a document's faults as ``file:line: path: message`` and end with exit 3; losses likewise, exit 9."""
    try:
        yield
    except DocumentError as error:
        _end(file, error)
    except LossRefused as error:
        error.what = f"{_name(file)}:{error.line}: {error.what}"
        raise


def _problems(error: DocumentError) -> list[dict[str, Any]]:
    carried = error.operands.get("problems")
    return carried if isinstance(carried, list) else [{"line": error.line, "path": error.path, "message": error.what}]


def _end(file: str, error: DocumentError) -> NoReturn:
    name = _name(file)
    for problem in _problems(error):
        where = f"{name}:{problem['line']}: " if problem["line"] else f"{name}: "
        say(where + (f"{problem['path']}: " if problem["path"] else "") + str(problem["message"]))
    for label, text in (("why", error.why), ("fix", error.fix)):
        if text:
            say(f"  {label}: {text}")
    raise typer.Exit(3) from None
