"""Documents in and out of the command line: stdin or a file, stdout or an atomic file, faults with file and line."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import typer

from pmcompat.cli.output import say
from pmcompat.errors import ConfigurationError, DocumentError, LossRefused, PmcompatError

#: output to a pipe is held back up to here, so that most errors come before any output; bytes
HELD_BACK = 8 << 20
_CHUNK = 1 << 18
#: documents from this size on show their progress on a terminal; bytes
LARGE = 16 << 20


def shown_name(file: str) -> str:
    """Return how messages name the document *file*."""
    return "<stdin>" if file == "-" else file


@contextlib.contextmanager
def source_of(file: str) -> Iterator[BinaryIO]:
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


def chunks_of(source: BinaryIO) -> Iterator[bytes]:
    """Yield the document's bytes; a large one shows its progress where somebody is watching."""
    size = os.fstat(source.fileno()).st_size
    if size < LARGE or not sys.stderr.isatty():
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
def sink_to(output: str) -> Iterator[Callable[[bytes], Any]]:
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


@contextlib.contextmanager
def located(file: str) -> Iterator[None]:
    """Print a document's faults as ``file:line: path: message`` and end with exit 3; losses likewise, exit 9."""
    try:
        yield
    except DocumentError as error:
        end_with(file, error)
    except LossRefused as error:
        error.what = f"{shown_name(file)}:{error.line}: {error.what}"
        raise


def problems_in(error: DocumentError) -> list[dict[str, Any]]:
    """Return the problems that *error* carries, each with line, path and message."""
    carried = error.operands.get("problems")
    return carried if isinstance(carried, list) else [{"line": error.line, "path": error.path, "message": error.what}]


def end_with(file: str, error: DocumentError) -> NoReturn:
    """Print each problem of *error* on a line of its own and end with exit 3."""
    name = shown_name(file)
    for problem in problems_in(error):
        where = f"{name}:{problem['line']}: " if problem["line"] else f"{name}: "
        say(where + (f"{problem['path']}: " if problem["path"] else "") + str(problem["message"]))
    for label, text in (("why", error.why), ("fix", error.fix)):
        if text:
            say(f"  {label}: {text}")
    raise typer.Exit(3) from None
