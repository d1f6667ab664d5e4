"""Exit codes of power operations (DESIGN §5): pure tables over outcomes and errors.

What lives here: the code of one host, and the code of several. The interfaces that exit import it.
"""

from __future__ import annotations

from collections.abc import Iterable

from pmcompat.errors import (
    CredentialsRefused,
    DeadlinePassed,
    InvalidInput,
    PmcompatError,
    Refused,
    Uncertain,
    Unreachable,
)
from pmcompat.model import FaultKind, Operation, Outcome

DONE, FAILED, INVALID, UNREACHABLE, DEADLINE, CREDENTIALS, UNCERTAIN, REFUSED = 0, 1, 3, 4, 5, 6, 7, 9

#: what ended an operation (``Outcome.ended_by``); a signal is named by its own name
ENDED_BY_DEADLINE = "deadline"
ENDED_BY_LOST_LOCK = "lost lock"

#: of several hosts the first of these that occurred
ORDER = (UNCERTAIN, FAILED, DEADLINE, CREDENTIALS, UNREACHABLE, REFUSED, INVALID)

_ERRORS: tuple[tuple[type[PmcompatError], int], ...] = (
    (InvalidInput, INVALID),
    (Unreachable, UNREACHABLE),
    (DeadlinePassed, DEADLINE),
    (CredentialsRefused, CREDENTIALS),
    (Uncertain, UNCERTAIN),
    (Refused, REFUSED),
)


def code_of(outcome: Outcome) -> int:
    """Return the exit code of one host's outcome."""
    if outcome.succeeded:
        return DONE
    if outcome.uncertain or outcome.ended_by == ENDED_BY_LOST_LOCK:
        return UNCERTAIN
    if outcome.ended_by == ENDED_BY_DEADLINE:
        return DEADLINE
    return code_of_agents(outcome)


def code_of_agents(outcome: Outcome) -> int:
    """Return what the failing agents have in common: credentials, unreachable with nothing sent, or neither.

    An agent that was silent for all the time it was given, or whose turn never came, counts as unreachable as long as nothing
    was sent to anybody.
    """
    kinds = {result.fault.kind for result in outcome.agents if result.fault is not None and not result.reached}
    if kinds == {FaultKind.REFUSED}:
        return CREDENTIALS
    if (
        kinds
        and kinds <= {FaultKind.UNREACHABLE, FaultKind.TIMEOUT, FaultKind.BUSY}
        and not any(result.sent for result in outcome.agents)
    ):
        return UNREACHABLE
    return FAILED


def code_of_health(outcome: Outcome) -> int:
    """Return the exit code of a status as a monitor wants it: not 0 while an agent is dead."""
    if outcome.operation is Operation.STATUS and outcome.succeeded and any(result.fault for result in outcome.agents):
        return code_of_agents(outcome)
    return code_of(outcome)


def code_of_error(error: PmcompatError) -> int:
    """Return the exit code of an error that came instead of an outcome."""
    return next((code for kind, code in _ERRORS if isinstance(error, kind)), FAILED)


def code_of_several(codes: Iterable[int]) -> int:
    """Return the exit code of several hosts: the first of 7, 1, 5, 6, 4, 9 that occurred, else 0."""
    occurred = set(codes)
    return next((code for code in ORDER if code in occurred), max(occurred, default=DONE))
