"""Translate a large file with two processes: one takes the first half, a forked child the second.

The result is that of one process. The cut is a guess, a ``<host`` near the middle; the first half's parser confirms it by
standing exactly there between two members, and the child proves the document's head with the second half well-formed, so
that both together are. Where the guess was wrong, or the child found anything to tell that needs a place, its work is
thrown away and the first process goes on alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, NoReturn, Self

from pmcompat.documents.scanning import Scanner
from pmcompat.documents.translation import GRAIN, Translator
from pmcompat.errors import PmcompatError

#: below this a second process costs more than it brings
LEAST = 16 << 20
_HEAD = 1 << 16
_WINDOW = 1 << 20
_MEMBER = re.compile(rb"<host[ \t\r\n>]")
_TAG = re.compile(rb"<[^>\"']*(?:\"[^\"]*\"[^>\"']*|'[^']*'[^>\"']*)*>")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """Where a document is cut: its *head*, up to and with the root's start tag, and the offset of a member."""

    head: bytes
    at: int


def find_cut(source: BinaryIO, *, least: int = LEAST) -> Cut | None:
    """Return a place to cut a regular file of ``<hosts>``, None where it is small, wide, or has no likely place.

    Reads at offsets: the position of *source* stays.
    """
    descriptor = source.fileno()
    size = os.fstat(descriptor).st_size
    if size < least or not hasattr(os, "fork") or len(os.sched_getaffinity(0)) < 2:
        return None
    start = os.pread(descriptor, _HEAD, 0)
    scanner = Scanner()
    try:
        scanner.feed(start)
    except PmcompatError:
        return None  # the translation will say why
    root = _TAG.match(start, scanner.root_at) if scanner.root == "hosts" and scanner.narrow else None
    middle = size // 2
    member = _MEMBER.search(os.pread(descriptor, _WINDOW, middle))
    if root is None or member is None or root.end() > middle:
        return None
    return Cut(head=start[: root.end()], at=middle + member.start())


def translate_halves(
    source: BinaryIO, cut: Cut, make: Callable[[], Translator], write: Callable[[bytes], object], spool: BinaryIO
) -> Translator | None:
    """Translate the file *source* into *write*; return the translator that knows what there is to tell.

    :param make: makes the translator, once in each process.
    :param spool: an empty file of the caller's where the child's half waits; the caller closes it.
    :raises DocumentError, LossRefused: as :meth:`Translator.finish`.
    """
    descriptor = source.fileno()
    with _Child(descriptor, cut, make, spool) as child:
        translator = make()
        for at in range(0, cut.at, GRAIN):
            write(translator.feed(os.pread(descriptor, min(GRAIN, cut.at - at), at)))
        ready, confirmed = translator.pause()
        write(ready)
        if confirmed and child.done(translator):
            spool.seek(0)
            while chunk := spool.read(GRAIN):
                write(chunk)
            return translator
    at = cut.at
    while chunk := os.pread(descriptor, GRAIN, at):
        at += len(chunk)
        write(translator.feed(chunk))
    write(translator.finish())
    return translator


class _Child:
    """The process that translates the second half into the spool; killed if it is not waited for."""

    def __init__(self, descriptor: int, cut: Cut, make: Callable[[], Translator], spool: BinaryIO) -> None:
        self._work = (descriptor, cut, make, spool)
        self._pid = 0
        self._answer = -1

    def __enter__(self) -> Self:
        self._answer, says = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            _second_half(*self._work, says)
        os.close(says)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._answer)
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)

    def done(self, translator: Translator) -> bool:
        """Wait for the child; tell whether its half is good, and let *translator* count what it found."""
        with open(os.dup(self._answer), "rb") as stream:  # noqa: PTH123  # a descriptor, not a path
            said = stream.read()
        os.waitpid(self._pid, 0)
        self._pid = 0
        if not said:
            return False
        found, changed, remarks = json.loads(said)
        return translator.adopt(found, changed, Counter(remarks))


def _second_half(descriptor: int, cut: Cut, make: Callable[[], Translator], spool: BinaryIO, says: int) -> NoReturn:
    """Translate from the cut on, and say what was found; say nothing if anything is not plain. Never returns."""
    try:
        translator = make()
        skip = len(cut.head)
        translator.feed(cut.head)
        ready, _ = translator.pause()
        skip -= len(ready)  # the head comes out as it went in
        at = cut.at
        while chunk := os.pread(descriptor, GRAIN, at):
            at += len(chunk)
            ready = translator.feed(chunk)
            spool.write(ready[skip:] if skip else ready)
            skip = max(skip - len(ready), 0)
        spool.write(translator.finish()[skip:])
        spool.flush()
        if not translator.losses:
            os.write(says, json.dumps([translator.found, translator.changed, translator.remarks()]).encode())
    except (PmcompatError, OSError, KeyboardInterrupt):
        pass  # nothing said: the first process goes on alone and meets the same
    finally:
        os._exit(0)
