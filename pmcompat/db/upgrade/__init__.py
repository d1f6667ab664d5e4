"""Upgrade a live engine database, look first, rehearse, verify, go back.

What lives here: the public functions. Each opens what it needs on the caller's connection and leaves the connection as it
was; ``status``, ``plan`` and ``script`` read only (law D7). What is decided stands in :mod:`pmcompat.db.plan`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import psycopg

from pmcompat.db import plan as plans
from pmcompat.db.plan import Plan
from pmcompat.db.plan import rollback as plan_rollback
from pmcompat.db.plan.findings import Finding
from pmcompat.db.plan.shape import Shape
from pmcompat.db.upgrade import work as upgrade_work
from pmcompat.db.upgrade.run import Measured, Notify, UpgradeSettings, read, session
from pmcompat.db.upgrade.status import PlanReport, Status, drift
from pmcompat.db.upgrade.verify import Verification, verify
from pmcompat.errors import Refused, SchemaError

__all__ = [
    "PlanReport",
    "RollbackReport",
    "Status",
    "UpgradeReport",
    "UpgradeSettings",
    "Verification",
    "plan",
    "rehearse",
    "repair",
    "rollback",
    "script",
    "status",
    "upgrade",
    "verify",
]

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, kw_only=True)
class UpgradeReport:
    """What an upgrade did, or a rehearsal would have done."""

    database: str
    shape: Shape
    #: ids of the scripts that ran
    applied: tuple[str, ...]
    rehearsed: bool
    findings: tuple[Finding, ...]
    measured: Measured = field(default_factory=Measured)
    #: sentences said on the way: archived agents restored …
    notices: tuple[str, ...] = ()

    def as_json(self) -> dict[str, object]:
        """Return plain values."""
        return {
            "database": self.database,
            "shape": self.shape.value,
            "applied": list(self.applied),
            "rehearsed": self.rehearsed,
            "findings": [finding.as_json() for finding in self.findings],
            **measured_json(self.measured),
            "notices": list(self.notices),
        }


@dataclass(frozen=True, kw_only=True)
class RollbackReport:
    """What a rollback did."""

    database: str
    #: ids of the scripts undone
    undone: tuple[str, ...]
    #: secondary agents in ``pmcompat.archived_agents`` now; 0 after a purge
    archived: int
    purged: bool
    #: objects that differ from what the upgrade found: somebody changed them since
    different: tuple[str, ...]
    findings: tuple[Finding, ...] = ()
    measured: Measured = field(default_factory=Measured)

    def as_json(self) -> dict[str, object]:
        """Return plain values."""
        return {
            "database": self.database,
            "undone": list(self.undone),
            "archived": self.archived,
            "archive": "pmcompat.archived_agents" if self.archived else None,
            "purged": self.purged,
            "different": list(self.different),
            "findings": [finding.as_json() for finding in self.findings],
            **measured_json(self.measured),
        }


def measured_json(measured: Measured) -> dict[str, object]:
    """Return the measurements as plain values; seconds."""
    return {
        "seconds_locked": round(measured.locked, 4),
        "seconds_waiting_for_locks": round(measured.waited, 4),
        "attempts": measured.attempts,
        "locks": [{"relation": name, "mode": mode} for name, mode in measured.locks],
        "steps": [{"step": step, "seconds": round(seconds, 4)} for step, seconds in measured.steps],
    }


def look(conn: Connection, settings: UpgradeSettings | None = None) -> Plan:
    """Return the plan for the database behind *conn*. Reads only."""
    settings = settings or UpgradeSettings()
    return plans.make(read(conn, settings), settings)


def status(conn: Connection, settings: UpgradeSettings | None = None) -> Status:
    """Return what the database is and what is pending. Reads only; a read-only role is enough."""
    return Status.of(look(conn, settings))


def plan(conn: Connection, settings: UpgradeSettings | None = None) -> PlanReport:
    """Return what an upgrade would do, lock and find. Reads only; a read-only role is enough."""
    return PlanReport.of(look(conn, settings))


def script(conn: Connection, settings: UpgradeSettings | None = None) -> str:
    """Return the upgrade as one text for ``psql -v ON_ERROR_STOP=1 -1 -f``. Reads only.

    :raises SchemaError: this is no engine database, or an applied script was edited.
    :raises Refused: something must be settled first.
    """
    planned = look(conn, settings)
    require(planned, running=False)
    return upgrade_work.as_script(planned)


def require(planned: Plan, *, running: bool = True) -> None:
    """Raise unless the plan may be carried out.

    :param running: by this very session; a script is run by somebody else, with privileges of their own.
    :raises SchemaError: no engine database, drift, or something that cannot be extended.
    :raises Refused: a privilege is missing, or policy forbids it.
    """
    catalog = planned.catalog
    if planned.shape is Shape.NOT_ENGINE:
        raise SchemaError(
            f"{catalog.server.database} is not an engine database",
            why=f"schema {catalog.schema} has no vds_static with its views and procedures",
            state="nothing was changed",
            fix="name the right database with --dsn, and the engine's schema with --schema",
        )
    if catalog.applied is None:
        raise Refused(
            f"{catalog.server.user} may not read schema pmcompat",
            state="nothing was changed",
            fix="use the owner of vds_static, or let the owner run db upgrade --grant-to",
        )
    if drifted := drift(planned):
        raise SchemaError(
            "applied scripts are not the files that were applied: " + "; ".join(drifted),
            state="nothing was changed",
            fix="install the version they came from, or accept them as they are with db repair",
        )
    if refusals := [finding for finding in planned.refusals if running or finding.kind != "privilege"]:
        raise Refused(
            "; ".join(finding.text for finding in refusals),
            state="nothing was changed",
            fix="; ".join(dict.fromkeys(finding.fix for finding in refusals if finding.fix)),
            findings=[finding.as_json() for finding in refusals],
        )


def upgrade(conn: Connection, settings: UpgradeSettings | None = None, *, notify: Notify | None = None) -> UpgradeReport:
    """Upgrade the database in one transaction (law D1).

    :param notify: called with one line for everything worth saying on the way.
    :raises Locked: another pmcompat is at work, or the tables stayed locked for the whole of the patience.
    :raises SchemaError: what :func:`require` raises.
    :raises Refused: as above.
    :raises OperationFailed: the server refused a statement; nothing was changed.
    :raises Uncertain: the connection was lost while committing.
    """
    return _upgrade(conn, settings or UpgradeSettings(), notify, keep=True)


def rehearse(conn: Connection, settings: UpgradeSettings | None = None, *, notify: Notify | None = None) -> UpgradeReport:
    """Do everything :func:`upgrade` does, report locks and times, and roll it back. Raises what ``upgrade`` raises."""
    return _upgrade(conn, settings or UpgradeSettings(), notify, keep=False)


def _upgrade(conn: Connection, settings: UpgradeSettings, notify: Notify | None, *, keep: bool) -> UpgradeReport:
    notices: list[str] = []
    planned: list[Plan] = []

    def say(text: str) -> None:
        notices.append(text)
        if notify:
            notify(text)

    with session(conn, settings, say) as run:

        def prepare() -> upgrade_work.UpgradeWork | None:
            current = look(conn, settings)
            planned[:] = [current]
            require(current)
            return upgrade_work.UpgradeWork(current, rows=not keep) if current.pending or settings.grant_to else None

        run.do(prepare, keep=keep)
        last = planned[0]
        return UpgradeReport(
            database=last.catalog.server.database,
            shape=last.shape,
            applied=tuple(script.id for script in last.pending),
            rehearsed=not keep,
            findings=last.surprises,
            measured=run.measured,
            notices=tuple(notices),
        )


def rollback(conn: Connection, settings: UpgradeSettings | None = None, *, notify: Notify | None = None) -> RollbackReport:
    """Take the change out of the engine's schema in one transaction (law D5); secondary agents are archived first.

    :raises Refused: oVirt's own upgrade ran since, something uses the new columns, or a dependant cannot be put back.
    :raises SchemaError: there is nothing of ours to take out.
    :raises Locked: as :func:`upgrade`.
    """
    settings = settings or UpgradeSettings()
    with session(conn, settings, notify) as run:
        last: list[plan_rollback.RollbackPlan] = []

        def prepare() -> upgrade_work.RollbackWork | None:
            current = plan_rollback.make(
                read(conn, settings),
                settings,
                purge=settings.purge,
                drop_dependants=settings.drop_dependants,
            )
            last[:] = [current]
            upgrade_work.require_rollback(current)
            return upgrade_work.RollbackWork(current)

        run.do(prepare, keep=True)
        done = last[0]
        now = read(conn, settings)
        before = done.before_fingerprint
        different = [name for name, hashes in now.fingerprint.items() if name in before and before[name] != hashes[0]]
        return RollbackReport(
            database=now.server.database,
            undone=tuple(script.id for script in done.scripts),
            archived=len(now.archived),
            purged=settings.purge,
            different=tuple(sorted(different)),
            findings=done.findings,
            measured=run.measured,
        )


def repair(
    conn: Connection, settings: UpgradeSettings | None = None, *, complete: bool = False, notify: Notify | None = None
) -> UpgradeReport:
    """Accept edited applied scripts as they are; with *complete*, add what oVirt's own upgrade never did (law D6).

    :raises SchemaError: this is no engine database.
    """
    settings = settings or UpgradeSettings()
    with session(conn, settings, notify) as run:
        last: list[Plan] = []

        def prepare() -> upgrade_work.RepairWork | None:
            current = look(conn, settings)
            last[:] = [current]
            if not drift(current) or current.shape is Shape.NOT_ENGINE:
                require(current)
            work = upgrade_work.RepairWork(current, complete=complete)
            return work if work.anything else None

        run.do(prepare, keep=True)
        return UpgradeReport(
            database=last[0].catalog.server.database,
            shape=last[0].shape,
            applied=(),
            rehearsed=False,
            findings=replace_findings(last[0], complete=complete),
            measured=run.measured,
        )


def replace_findings(planned: Plan, *, complete: bool) -> tuple[Finding, ...]:
    """Return what a repair settled."""
    accepted = tuple(Finding(kind="drift", text=f"accepted: {text}") for text in drift(planned))
    mended = tuple(replace(f, text=f"mended: {f.text}", fix="") for f in planned.surprises if f.kind == "ovirt" and complete)
    return accepted + mended
