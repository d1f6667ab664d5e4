"""Every error a caller can meet, split by who must act.

What lives here: the tree below and nothing else. Exit codes and HTTP statuses belong to the interfaces that map it.

::

    PmcompatError
    ├── InvalidInput            the giver of the input must mend it
    │   ├── DocumentError       an XML document: malformed, invalid, hostile (line, path)
    │   ├── ModelError          a value no host, agent or option may have (field)
    │   ├── ConfigurationError  an option, a variable, a configuration file
    │   ├── SchemaError         a database that is not what the command needs
    │   └── CredentialError     key material or a stored password that cannot be used
    ├── Unreachable             the other side must come back
    │   ├── DatabaseUnreachable
    │   └── AgentUnreachable
    ├── CredentialsRefused      the device or the database said no to user or password
    ├── DeadlinePassed          time ran out and the state is known
    ├── OperationFailed         done what could be done; the state is known
    ├── Uncertain               something may have acted; the state is not known
    └── Refused                 policy: the operator or an administrator must decide
        ├── LossRefused         going on would lose data (losses)
        ├── Overtaken           what was read has changed meanwhile (fields)
        ├── Locked              somebody else is at it (holder)
        └── NeedsConfirmation   needs --yes, --force or a terminal

Each error answers four questions: *what* happened, *why*, what *state* things are in, how to *fix* it. ``code`` is stable
and machine-readable. No error carries a secret: a value that could be one is named, never quoted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class PmcompatError(Exception):
    """Root of the tree.

    :param what: one sentence: what happened.
    :param why: the cause, where it is known.
    :param state: what state things are in now ("nothing was changed").
    :param fix: what the reader can do about it.
    :param operands: the values the sentence is about, for programs; no secrets.
    """

    code: ClassVar[str] = "error"

    def __init__(self, what: str, *, why: str = "", state: str = "", fix: str = "", **operands: object) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.state = state
        self.fix = fix
        self.operands = operands

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """Return the error as lines of text: what first, then why, state and fix where they are known."""
        named = (("why", self.why), ("state", self.state), ("fix", self.fix))
        return [self.what, *(f"  {name}: {text}" for name, text in named if text)]

    def as_json(self) -> dict[str, object]:
        """Return the error as plain values for ``--json``."""
        answers = {"code": self.code, "what": self.what, "why": self.why, "state": self.state, "fix": self.fix}
        return {**{name: text for name, text in answers.items() if text}, **self.operands}


class InvalidInput(PmcompatError):
    """What was given is malformed, invalid or hostile."""

    code = "invalid-input"


class DocumentError(InvalidInput):
    """An XML document was refused.

    :param line: line in the document, counted from 1; 0 where no line is known.
    :param path: slash path of the element (``/hosts/host[3]/power_management/agents``).
    :param offset: byte offset in the document, where known.
    """

    code = "document"

    def __init__(
        self,
        what: str,
        *,
        line: int = 0,
        path: str = "",
        offset: int | None = None,
        why: str = "",
        state: str = "",
        fix: str = "",
        **operands: object,
    ) -> None:
        super().__init__(what, why=why, state=state, fix=fix, line=line, path=path, **operands)
        self.line = line
        self.path = path
        self.offset = offset

    def located(self, name: str) -> str:
        """Return ``name:line: path: message``, the form editors and CI understand."""
        where = f"{name}:{self.line}: " if self.line else f"{name}: "
        return where + (f"{self.path}: " if self.path else "") + self.what


class ModelError(InvalidInput):
    """A value that no host, agent or option may have; ``field`` names it (``secondary.ip_port``)."""

    code = "value"

    def __init__(self, what: str, *, field: str, why: str = "", state: str = "", fix: str = "") -> None:
        super().__init__(what, why=why, state=state, fix=fix, field=field)
        self.field = field


class ConfigurationError(InvalidInput):
    """An option, an environment variable or the configuration file is wrong."""

    code = "configuration"


class SchemaError(InvalidInput):
    """The database is not what the command needs: not an engine's, partly upgraded, drifted, not extendable."""

    code = "schema"


class CredentialError(InvalidInput):
    """Key material is wrong or a stored password cannot be decrypted. Never sent to a device instead."""

    code = "credential"


class Unreachable(PmcompatError):
    """The other side does not answer."""

    code = "unreachable"


class DatabaseUnreachable(Unreachable):
    """The database cannot be connected to, or the connection was lost."""

    code = "database-unreachable"


class AgentUnreachable(Unreachable):
    """A power management agent does not answer."""

    code = "agent-unreachable"


class CredentialsRefused(PmcompatError):
    """The device or the database refused user, password or privilege."""

    code = "credentials-refused"


class DeadlinePassed(PmcompatError):
    """The time allowed ran out; the state is known."""

    code = "deadline"


class OperationFailed(PmcompatError):
    """The operation failed and the state is known."""

    code = "failed"


class Uncertain(PmcompatError):
    """A command may have acted and no later status read settled what it did."""

    code = "uncertain"


class Refused(PmcompatError):
    """Policy refuses to go on."""

    code = "refused"


class LossRefused(Refused):
    """Going on would lose data; ``losses`` names each thing that would be lost, with its path."""

    code = "loss"

    def __init__(
        self, what: str, *, losses: Sequence[str], line: int = 0, why: str = "", state: str = "", fix: str = ""
    ) -> None:
        super().__init__(what, why=why, state=state, fix=fix, losses=list(losses))
        self.losses = tuple(losses)
        self.line = line

    def lines(self) -> list[str]:
        """Return the error as lines, each loss on a line of its own."""
        first, *rest = super().lines()
        return [first, *(f"  lost: {loss}" for loss in self.losses), *rest]


class Overtaken(Refused):
    """A row changed since it was read; it is not overwritten. ``fields`` names what changed."""

    code = "overtaken"

    def __init__(self, what: str, *, fields: Sequence[str], why: str = "", state: str = "", fix: str = "") -> None:
        super().__init__(what, why=why, state=state, fix=fix, fields=list(fields))
        self.fields = tuple(fields)


class Locked(Refused):
    """Somebody else holds the lock; ``holder`` says who, from where and since when."""

    code = "locked"

    def __init__(self, what: str, *, holder: str, why: str = "", state: str = "", fix: str = "") -> None:
        super().__init__(what, why=why or f"held by {holder}", state=state, fix=fix, holder=holder)
        self.holder = holder


class NeedsConfirmation(Refused):
    """A person must agree first: ``--yes``, ``--force`` or a terminal."""

    code = "needs-confirmation"
