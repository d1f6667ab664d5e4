"""The translator: documents in one form → the same documents in another, every other byte as it came (laws X1-X8).

One pass: :mod:`~pmcompat.documents.scanning` finds the places that are translated, each fragment is validated and spliced,
everything between goes out untouched. Memory does not grow with the document.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cache

from pmcompat.documents.limits import DEFAULT, Limits
from pmcompat.documents.patterns import Cuts, Quick, holds_password
from pmcompat.documents.scanning import Plain, Scanner, Span
from pmcompat.documents.values import PROFILES, Form
from pmcompat.errors import ConfigurationError, DocumentError, LossRefused

#: bytes parsed at once: small enough for the processor's cache, large enough for the loop not to count
GRAIN = 1 << 18
#: losses named one by one; of more, the number is told
_NAMED_LOSSES = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Translation:
    """A translated document and what is to be said about it."""

    document: bytes
    #: what an engine would read differently from what is written
    warnings: tuple[str, ...] = ()
    #: what was lost, each with its path; never anything unless the caller said *lossy*
    losses: tuple[str, ...] = ()


def translate(
    document: bytes,
    *,
    to: Form | str,
    profile: str = "3.2",
    precedence: str = "agents",
    lossy: bool = False,
    limits: Limits = DEFAULT,
) -> Translation:
    """Return *document* with every power management in the form *to*. Safe to call from any thread.

    Touched are ``/host/power_management``, ``/hosts/host/power_management`` and a ``power_management`` that is the document;
    a document without one comes back byte for byte.

    :param document: one XML document, as bytes: UTF-8, UTF-16 with a byte order mark, ISO-8859-1 or US-ASCII.
    :param to: ``agents``, ``flat`` or ``dual`` (both, meaning the same under either precedence).
    :param profile: the API version whose element order and rules hold, before and after.
    :param precedence: which form counts where both speak of one field: ``agents`` (the design's rule) or ``flat``.
    :param lossy: drop what the form cannot hold, and report it in ``losses``.
    :raises DocumentError: malformed, hostile, or a power management that is invalid in *profile* (line, path).
    :raises LossRefused: the form cannot hold everything and *lossy* was not said.
    :raises ConfigurationError: no such form, profile or precedence, or the profile lacks the form.
    """
    translator = Translator(to=to, profile=profile, precedence=precedence, lossy=lossy, limits=limits)
    parts = [translator.feed(document), translator.finish()]
    return Translation(document=b"".join(parts), warnings=translator.warnings, losses=translator.losses)


@dataclass(slots=True)
class _Remarks:
    """Remarks by kind: the first few with their places, the rest counted."""

    named: int
    seen: Counter[str] = field(default_factory=Counter)
    texts: list[str] = field(default_factory=list)

    def add(self, message: str, span: Span, path: str = "") -> None:
        count = self.seen[message] = self.seen[message] + 1
        if count <= self.named:
            self.texts.append(f"line {span.line}: {span.path}{path}: {message}")

    def all(self) -> tuple[str, ...]:
        rest = (f"{message}: {count - self.named:,} more" for message, count in self.seen.items() if count > self.named)
        return (*self.texts, *rest)


class Translator:
    """Translate a stream: bytes in, bytes out, the same bytes however the input is cut (law X6).

    After an error it is used up. What :meth:`feed` returned before an error is the beginning of no valid document: the
    caller says so, or holds it back. Not to be shared between threads.
    """

    def __init__(
        self,
        *,
        to: Form | str,
        profile: str = "3.2",
        precedence: str = "agents",
        lossy: bool = False,
        limits: Limits = DEFAULT,
        grain: int = GRAIN,
    ) -> None:
        """Prepare a translation; the parameters are those of :func:`translate`.

        :param grain: bytes parsed at once, however the input is cut: what is refused does not depend on the cuts either.
        """
        self._grain = grain
        self._form = _checked(to, profile, precedence)
        self._profile = profile
        self._precedence = precedence
        self._lossy = lossy
        self._limits = limits
        self._quick = _quick(self._form, profile)
        self._scanner = Scanner(limits=limits, plain=Plain(self._quick.pattern))
        self._sent = 0
        self._waiting: list[bytes] = []
        self._waiting_size = 0
        self._warnings = _Remarks(limits.problems)
        self._losses: list[str] = []
        self._lost = 0
        self._lost_line = 0
        self._problems: list[dict[str, object]] = []
        #: power managements seen
        self.found = 0
        #: power managements that were changed
        self.changed = 0

    @property
    def narrow(self) -> bool:
        """Whether a byte below 128 always is the ASCII character it looks like."""
        return self._scanner.narrow

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an engine would read differently from what is written: the first of each kind, and how many more."""
        return self._warnings.all()

    @property
    def losses(self) -> tuple[str, ...]:
        """What was lost, each with its path."""
        more = self._lost - len(self._losses)
        return (*self._losses, *([f"and {more:,} more"] if more else []))

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes of the document; return what is ready to go out, maybe nothing yet.

        :raises DocumentError: malformed, hostile, or too much of it invalid.
        """
        self._waiting.append(chunk)
        self._waiting_size += len(chunk)
        if self._waiting_size < self._grain:
            return b""
        data = b"".join(self._waiting) if len(self._waiting) > 1 else chunk
        whole = len(data) - len(data) % self._grain
        self._waiting, self._waiting_size = [data[whole:]], len(data) - whole
        return self._take(data if whole == len(data) else data[:whole])

    def pause(self) -> tuple[bytes, bool]:
        """Parse all that was fed; return what is ready, and whether the document may be taken up elsewhere from here.

        It may where it stands between two members of ``<hosts>`` and nothing was found that must be refused.
        """
        return self._take(self._collected()), self._scanner.between_members and not self._refused

    def _collected(self) -> bytes:
        """Return what waits to be parsed; it waits no longer."""
        data, self._waiting, self._waiting_size = b"".join(self._waiting), [], 0
        return data

    def remarks(self) -> Counter[str]:
        """Return how often each warning was found; what is lost or refused is not in it."""
        return Counter(self._warnings.seen)

    def adopt(self, found: int, changed: int, remarks: Counter[str]) -> bool:
        """Count what another translator found in the rest of the document; False if that needs places it does not know."""
        if any(self._warnings.seen[message] < self._limits.problems for message in remarks):
            return False
        self.found += found
        self.changed += changed
        self._warnings.seen.update(remarks)
        return True

    def finish(self) -> bytes:
        """Say that the document is complete; return the rest of the output.

        :raises DocumentError: malformed, hostile or invalid; every problem found is in ``problems``.
        :raises LossRefused: the form cannot hold everything and *lossy* was not said.
        """
        rest = b"".join(self._step(self._collected(), last=True))
        try:
            self._scanner.close()
        except DocumentError as error:
            self._raise_problems(error)
        self._raise_problems()
        if self._losses and not self._lossy:
            raise LossRefused(
                f"the {self._form} form cannot hold everything this document says",
                losses=self.losses,
                line=self._lost_line,
                state="nothing was changed",
                fix="--lossy keeps the primary agent and reports the rest; the agents form holds it all",
            )
        if self._refused:
            return b""
        scanner = self._scanner
        return rest + scanner.data[self._sent - scanner.base :]

    @property
    def _refused(self) -> bool:
        """Whether nothing more is to be sent: the end will be an error."""
        return bool(self._problems) or bool(self._losses and not self._lossy)

    def _take(self, data: bytes) -> bytes:
        grain = self._grain
        if len(data) <= grain:
            return b"".join(self._step(data))
        return b"".join(part for at in range(0, len(data), grain) for part in self._step(data[at : at + grain]))

    def _step(self, chunk: bytes, *, last: bool = False) -> list[bytes]:
        """Parse some bytes and return the parts of the output that are settled by them."""
        scanner = self._scanner
        try:
            spans = scanner.feed(chunk, last=last)
        except DocumentError as error:
            self._raise_problems(error)
            raise
        parts: list[bytes] = []
        data, base, sent = scanner.data, scanner.base, self._sent - scanner.base
        cuts: Cuts | None
        for span in spans:
            self.found += 1
            start, end = span.start - base, span.end - base
            match = None
            if scanner.narrow and end - start < 4 * self._limits.elements:  # of a larger one the elements are counted first
                match = span.plain or self._quick.pattern.fullmatch(data, start, end)
            cuts = None if match is None else self._quick.translate(match)
            if match is None or cuts is None:
                cuts = ((start, end, self._thorough(data[start:end], span)),)
            elif span.answer and holds_password(match):
                self._warnings.add(PASSWORD_IN_ANSWER, span)
            self.changed += bool(cuts)
            for cut, to, raw in cuts:
                parts += (data[sent:cut], raw)
                sent = to
        settled = scanner.settled
        parts.append(data[sent : settled - base])
        self._sent = settled
        return [] if self._refused else parts

    # ------------------------------------------------------------------ one fragment

    def _thorough(self, raw: bytes, span: Span) -> bytes:
        """Translate a fragment the long way: validated by its schema, taken apart, spliced."""
        from pmcompat.documents.remarks import losses, warnings
        from pmcompat.documents.splicing import Fragment

        codec = self._scanner.codec
        plain = raw if codec == "utf-8" else raw.decode(codec).encode()
        if not self._valid(plain, span):
            return b""
        fragment = Fragment(plain, self._profile, self._precedence)
        for path, message in warnings(fragment, self._form, answer=span.answer):
            self._warnings.add(message, span, path)
        if self._form is Form.FLAT:
            for path, message in losses(fragment):
                self._lose(f"{span.path}{path}: {message}", span)
        done = fragment.translated(self._form)
        self.changed -= done == plain
        return done if codec == "utf-8" else done.decode().encode(codec)

    def _valid(self, plain: bytes, span: Span) -> bool:
        """Validate a fragment; note its problems, and give up when there are enough of them."""
        from pmcompat.documents.schema import parse, problems

        most = self._limits.elements
        if plain.count(b"<") - plain.count(b"</") > most:
            raise DocumentError(f"more than the limit of {most:,} elements", line=span.line, path=span.path)
        left = self._limits.problems - len(self._problems)
        try:
            element = parse(plain, span.namespaces)
            found = problems(element, self._profile, line=span.line, path=span.path, limit=left)
        except DocumentError as error:
            raise DocumentError(error.what, line=span.line + error.line - 1, path=span.path) from None
        self._problems += (problem.as_json() for problem in found)
        if len(self._problems) >= self._limits.problems:
            self._raise_problems()
        return not found

    def _lose(self, what: str, span: Span) -> None:
        self._lost += 1
        self._lost_line = self._lost_line or span.line
        if len(self._losses) < _NAMED_LOSSES:
            self._losses.append(what)

    def _raise_problems(self, last: DocumentError | None = None) -> None:
        """Raise the problems collected so far, and *last* after them; return if there is nothing to raise."""
        if not self._problems:
            if last:
                raise last
            return
        if last:
            self._problems.append({"line": last.line, "path": last.path, "message": last.what, "expected": ()})
        first = self._problems[0]
        count = len(self._problems)
        more = " or more" if count >= self._limits.problems else ""
        raise DocumentError(
            str(first["message"]),
            line=first["line"] if isinstance(first["line"], int) else 0,
            path=str(first["path"]),
            why=f"{count}{more} problems" if count > 1 else "",
            state="nothing was changed",
            problems=self._problems,
        )


_quick = cache(Quick)
PASSWORD_IN_ANSWER = "an answer of an engine holds a password; it stays as it is"  # noqa: S105  # a sentence, not a password


@cache
def _checked(to: Form | str, profile: str, precedence: str) -> Form:
    """Return the wanted form; refuse names that do not exist and a form the profile lacks."""
    if to not in set(Form):
        raise ConfigurationError(f"there is no form {to!r}", fix=f"one of {', '.join(Form)}")
    if profile not in PROFILES:
        raise ConfigurationError(f"there is no profile {profile!r}", fix=f"one of {', '.join(PROFILES)}")
    if precedence not in {Form.AGENTS, Form.FLAT}:
        raise ConfigurationError(f"there is no precedence {precedence!r}", fix="agents or flat")
    form = Form(to)
    if profile == "3.1" and form is not Form.FLAT:
        raise ConfigurationError(
            f"profile 3.1 has no {form} form", why="agents came with 3.2", fix="use --profile 3.2 or later"
        )
    return form
