"""What ``db status`` and ``db plan`` say. Values only; nothing is read or written here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pmcompat.db.catalog import VIEWS
from pmcompat.db.plan import Plan
from pmcompat.db.plan import findings as plan_findings
from pmcompat.db.plan.findings import Finding
from pmcompat.db.plan.objects import describe
from pmcompat.db.plan.shape import Shape

#: what a person reads for each shape
SHOWN = {
    Shape.RELEASE_3_1_0: "an engine database as released with 3.1.0",
    Shape.SNAPSHOT_3_2: "an engine database of the pre-3.2 snapshot",
    Shape.OTHER: "an engine database of another release, without secondary agents",
    Shape.UPGRADED: "upgraded by pmcompat",
    Shape.BY_OVIRT: "already upgraded by oVirt itself",
    Shape.PARTLY: "partly upgraded: some of the columns, views or procedures are there",
    Shape.NOT_ENGINE: "not an engine database",
}


def drift(plan: Plan) -> tuple[str, ...]:
    """Return, as sentences, the applied scripts whose files are not what was applied."""
    return tuple(_drift(plan))


def _drift(plan: Plan) -> Iterator[str]:
    files = {script.id: script for script in plan.scripts}
    for applied in plan.catalog.applied or ():
        script = files.get(applied.id)
        if script is None:
            yield f"{applied.id} is applied and its file is gone"
        elif applied.sha256 != script.sha256:
            yield f"{script.file} was edited after it was applied"


def out_of_order(plan: Plan) -> tuple[str, ...]:
    """Return the ids of pending scripts that sort before an applied one."""
    newest = max(plan.catalog.applied_ids, default="")
    return tuple(script.id for script in plan.pending if script.id < newest and script.id not in plan.again)


@dataclass(frozen=True, kw_only=True)
class Status:
    """What the database is and what is pending."""

    database: str
    schema: str
    #: pending, current, upgraded-by-ovirt or unknown
    state: str
    shape: Shape
    applied: tuple[str, ...]
    pending: tuple[str, ...]
    drift: tuple[str, ...]
    out_of_order: tuple[str, ...]
    #: bookkeeping that cannot be read is no bookkeeping that is not there
    bookkeeping: str
    hosts: int
    archived: tuple[str, ...]
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, plan: Plan) -> Status:
        """Return the status a plan shows."""
        catalog = plan.catalog
        return cls(
            database=catalog.server.database,
            schema=catalog.schema,
            state=plan.state,
            shape=plan.shape,
            applied=tuple(script.id for script in catalog.applied or ()),
            pending=tuple(script.id for script in plan.pending),
            drift=drift(plan),
            out_of_order=out_of_order(plan),
            bookkeeping="not readable by this role"
            if catalog.applied is None
            else "present"
            if catalog.bookkeeping
            else "absent",
            hosts=catalog.hosts,
            archived=tuple(agent.vds_name for agent in catalog.archived),
            findings=plan.surprises + plan.refusals,
        )

    def as_json(self) -> dict[str, object]:
        """Return plain values, in the shape DESIGN §5 gives and more."""
        return {
            "database": self.database,
            "state": self.state,
            "applied": list(self.applied),
            "pending": list(self.pending),
            "drift": list(self.drift),
            "shape": self.shape.value,
            "schema": self.schema,
            "out_of_order": list(self.out_of_order),
            "bookkeeping": self.bookkeeping,
            "hosts": self.hosts,
            "archived": list(self.archived),
            "findings": [finding.as_json() for finding in self.findings],
        }


@dataclass(frozen=True, kw_only=True)
class PlanReport:
    """What an upgrade would do to the database."""

    status: Status
    #: lock statements, in order
    locks: tuple[str, ...]
    #: seconds the exclusive locks will be held, as a rough estimate; it does not grow with the number of hosts
    estimate: float
    #: what depends on the views and procedures
    dependants: tuple[str, ...]
    refusals: tuple[Finding, ...]
    #: what a running engine notices
    remarks: tuple[str, ...]

    @classmethod
    def of(cls, plan: Plan) -> PlanReport:
        """Return the report of a plan."""
        catalog = plan.catalog
        things = [catalog.relations.get(e.oid) or catalog.routines.get(e.oid) for e in catalog.dependants if e.within is None]
        own = {relation.oid for relation in catalog.target_views}
        named = dict.fromkeys(describe(thing) for thing in things if thing and thing.oid not in own)
        return cls(
            status=Status.of(plan),
            locks=tuple(plan.locks()) if plan.touches_engine and catalog.table else (),
            # measured (tests/bench/bench_upgrade.py): seven columns, four views and three procedures, and a little per column
            estimate=round(0.015 + 0.00006 * sum(len(view.columns) for view in catalog.target_views), 3),
            dependants=tuple(named),
            refusals=plan.refusals,
            remarks=tuple(_remarks(plan)),
        )

    def as_json(self) -> dict[str, object]:
        """Return plain values."""
        return {
            **self.status.as_json(),
            "locks": list(self.locks),
            "estimated_seconds_locked": self.estimate,
            "dependants": list(self.dependants),
            "refusals": [finding.as_json() for finding in self.refusals],
            "remarks": list(self.remarks),
        }


def _remarks(plan: Plan) -> Iterator[str]:
    if not plan.touches_engine:
        return
    yield (
        "An engine that binds procedures from the driver's metadata (oVirt before 3.2) cannot add or edit hosts afterwards, "
        "whatever the defaults: stop it before, and start one that knows the seven parameters. SQL callers work on."
    )
    yield "Statements prepared over vds or vds_with_tags fail until prepared again: restart what keeps connections open."
    if any(name in plan.catalog.views for name in VIEWS):
        yield "Columns are appended at the end of the views, after columns of the site."
    yield from (finding.text for finding in plan_findings.unmasked_getters(plan.catalog))
