"""Upgrade, rollback and repair as pieces of work for one transaction, and the upgrade as one script.

What lives here: which text runs when. The same texts, in the same order, are executed by :class:`UpgradeWork` and printed by
:func:`as_script`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property

from yoyo.migrations import get_migration_hash

from pmcompat.db.catalog import CORE_VIEWS, Catalog
from pmcompat.db.catalog import read as catalog_read
from pmcompat.db.plan import Plan
from pmcompat.db.plan import procedures as plan_procedures
from pmcompat.db.plan.rollback import RollbackPlan
from pmcompat.db.plan.scripts import Scope, Script, Text, render
from pmcompat.db.plan.shape import Shape
from pmcompat.db.upgrade import rows as upgrade_rows
from pmcompat.db.upgrade.run import Changed, Run
from pmcompat.db.upgrade.status import drift
from pmcompat.db.upgrade.yoyo import in_order, migrations
from pmcompat.errors import LossRefused, Refused, SchemaError

#: the parts that take the locks and see that nothing changed
ENTRY = ("locks", "unchanged")


def _oids(catalog: Catalog) -> list[int]:
    return [relation.oid for relation in (catalog.table, *catalog.target_views) if relation]


class UpgradeWork:
    """Apply what is pending.

    :param rows: compare the rows of the views before and after (a rehearsal; law D2).
    """

    def __init__(self, plan: Plan, *, rows: bool = False) -> None:
        self.plan = plan
        self.values = plan.values()
        self.oids = _oids(plan.catalog)
        self._rows = rows
        self._before: upgrade_rows.Rows | None = None
        self._entry: list[Text] = []
        self._texts: dict[str, tuple[Text, ...]] = {}

    def before_locks(self, run: Run) -> None:
        """Make what is our own."""
        run.part("settings", self.values)
        run.part("bookkeeping", self.values)
        if self.plan.pending:
            run.part("record", self.values)
        if self._rows:
            self._before = upgrade_rows.read(run.conn, self.plan.catalog)
        # rendered before anything is locked: not a millisecond of it counts then
        self._texts = {script.id: tuple(_rendered(script, self.values)) for script in self.plan.pending}
        for script in self.plan.pending:
            run.text(_content(script, self._texts[script.id][0]))
        self._migrate(run, "pmcompat")
        if self.plan.touches_engine:
            self._entry = [render(f"parts/{name}.sql.j2", self.values) for name in ENTRY]

    def locks(self, run: Run) -> None:
        """Take all locks, and see that nothing changed since the plan was made."""
        for text in self._entry:
            run.text(text)

    def under_locks(self, run: Run) -> None:
        """Run the pending scripts through yoyo, which records them."""
        self._migrate(run, "engine")
        if self.plan.settings.grant_to:
            run.part("grants", self.values)
        if self._before is not None:
            upgrade_rows.compare(run.conn, self.plan.catalog, self._before, run.notify)

    def _migrate(self, run: Run, scope: Scope) -> None:
        scripts = [script for script in self.plan.pending if script.scope == scope]
        found = migrations(scripts, lambda script: self._apply(run, script), lambda _: None)
        for migration in found:
            if migration.id in self.plan.again:
                run.ledger.unmark_one(migration, log=False)
        run.ledger.apply_migrations(run.ledger.to_apply(found))

    def _apply(self, run: Run, script: Script) -> None:
        text, *checks = self._texts[script.id]
        if script.scope == "pmcompat":
            run.conn.execute(f"SET LOCAL ROLE {self.values['owner_role']}".encode())
        run.text(text)
        if script.scope == "pmcompat":
            run.conn.execute("RESET ROLE")
        for check in checks:
            run.text(check)


def _rendered(script: Script, values: Mapping[str, object]) -> Iterator[Text]:
    """Yield the script's text and, where it has one, its check."""
    yield render(script.file, values, script.home)
    if script.verify:
        yield render(script.verify, values, script.home)


def _content(script: Script, text: Text) -> Text:
    return render("parts/content.sql.j2", {"id": script.id, "sha256": script.sha256, "text": text.sql})


def as_script(plan: Plan) -> str:
    """Return the upgrade as one text, commented for a reviewer."""
    return "\n".join(_script(plan))


def _script(plan: Plan) -> Iterator[str]:
    values = plan.values()
    catalog = plan.catalog
    yield f"-- Upgrade of database {catalog.server.database}, schema {catalog.schema}: {plan.shape.value}".replace("\n", " ")
    yield "-- Made from its live catalog; it refuses any other, and this one if anything it touches has changed since."
    yield "-- Run it with: psql -v ON_ERROR_STOP=1 -1 -f FILE"
    yield f"-- Scripts: {', '.join(script.id for script in plan.pending) or 'none pending'}"
    yield from (f"-- Note: {finding.text}".replace("\n", " ") for finding in plan.surprises)
    if not plan.pending and not plan.settings.grant_to:
        return
    yield from _parts(values, "settings", "guard", "bookkeeping")
    if plan.pending:
        yield from _parts(values, "record")
    texts = {script.id: tuple(_rendered(script, values)) for script in plan.pending}
    for script in plan.pending:
        yield f"\n-- ==== content of {script.id}\n{_content(script, texts[script.id][0]).sql.strip()}"
    for scope in ("pmcompat", "engine"):
        if scope == "engine" and plan.touches_engine:
            yield from _parts(values, *ENTRY)
        for script in in_order(script for script in plan.pending if script.scope == scope):
            yield from _script_of(plan, script, texts[script.id], values)
    if plan.settings.grant_to:
        yield from _parts(values, "grants")


def _parts(values: Mapping[str, object], *names: str) -> Iterator[str]:
    for name in names:
        yield f"\n-- ==== {name}\n{render(f'parts/{name}.sql.j2', values).sql.strip()}"


def _script_of(plan: Plan, script: Script, texts: tuple[Text, ...], values: Mapping[str, object]) -> Iterator[str]:
    text, *checks = texts
    as_owner = script.scope == "pmcompat"
    yield f"\n-- ==== {script.id}"
    yield from [f"SET LOCAL ROLE {values['owner_role']};"] if as_owner else []
    yield text.sql.strip()
    yield from ["RESET ROLE;"] if as_owner else []
    yield from (f"\n-- ---- verify {script.id}\n{check.sql.strip()}" for check in checks)
    mark = {"id": script.id, "hash": get_migration_hash(script.id), "again": script.id in plan.again}
    yield f"\n-- ---- record {script.id}\n{render('parts/mark.sql.j2', mark).sql.strip()}"


def require_rollback(plan: RollbackPlan) -> None:
    """Raise unless the rollback may be carried out.

    :raises SchemaError: there is nothing of ours here.
    :raises Refused: oVirt's own upgrade ran since, or something cannot be put back.
    :raises LossRefused: dependants use the new columns.
    """
    catalog = plan.catalog
    if catalog.applied is None:
        raise Refused(f"{catalog.server.user} may not read schema pmcompat", state="nothing was changed", fix="use its owner")
    if not plan.scripts and not (plan.purge and catalog.server.own_schema_owner):
        raise SchemaError(
            f"there is no upgrade of ours in {catalog.server.database}",
            why="our bookkeeping has no applied script of the engine's schema",
            state="nothing was changed",
            fix="see pmcompat db status",
        )
    if not plan.scripts:
        return
    users = [finding for finding in plan.refusals if finding.kind == "user"]
    if users and len(users) == len(plan.refusals):
        raise LossRefused(
            "dependants made since the upgrade use the new columns",
            losses=[finding.text for finding in users],
            state="nothing was changed",
            fix="; ".join(dict.fromkeys(finding.fix for finding in users)),
        )
    if plan.refusals:
        raise Refused(
            "; ".join(finding.text for finding in plan.refusals),
            state="nothing was changed",
            fix="; ".join(dict.fromkeys(finding.fix for finding in plan.refusals if finding.fix)),
            findings=[finding.as_json() for finding in plan.refusals],
        )


#: what would go with schema pmcompat and lies elsewhere
_OUTSIDE = """
    SELECT DISTINCT pg_describe_object('pg_class'::regclass, c.oid, 0)
    FROM pg_class AS own JOIN pg_depend AS d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = own.oid
    JOIN pg_rewrite AS w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid JOIN pg_class AS c ON c.oid = w.ev_class
    WHERE own.relnamespace = 'pmcompat'::regnamespace AND c.relnamespace <> own.relnamespace
    UNION
    SELECT pg_describe_object('pg_constraint'::regclass, k.oid, 0)
    FROM pg_constraint AS k JOIN pg_class AS own ON own.oid = k.confrelid JOIN pg_class AS c ON c.oid = k.conrelid
    WHERE own.relnamespace = 'pmcompat'::regnamespace AND c.relnamespace <> own.relnamespace
"""


class RollbackWork:
    """Take the applied scripts of the engine's schema out, newest first."""

    def __init__(self, plan: RollbackPlan) -> None:
        self.plan = plan
        self.values = plan.values() if plan.scripts else {}
        self.oids = [*_oids(plan.catalog), *(relation.oid for relation in plan.detour.relations)] if plan.scripts else []

    def before_locks(self, run: Run) -> None:
        """Archive the secondary agents, while everybody may still read."""
        if self.plan.scripts:
            run.part("settings", self.values)
            run.conn.execute("SELECT set_config('lock_timeout', %s, true)", [f"{self.values['lock_timeout_ms']}ms"])
            run.part("archive", self.values)
            run.part("record", self.values)

    def locks(self, run: Run) -> None:
        """Take all locks and read the catalog again: dependants made since the plan would be lost."""
        if not self.plan.scripts:
            return
        run.part("locks", self.values)
        now = catalog_read.read(run.conn, self.plan.catalog.schema)
        if self._facts(now) != self._facts(self.plan.catalog):
            raise Changed("views, procedures or their dependants changed while the locks were waited for")

    @staticmethod
    def _facts(catalog: Catalog) -> Catalog:
        return replace(catalog, server=None, archived=(), before=None, hosts=0, bytes=0)  # type: ignore[arg-type]  # compared only

    def under_locks(self, run: Run) -> None:
        """Undo the scripts through yoyo, which takes them off its record."""
        found = migrations(self.plan.scripts, lambda _: None, lambda script: self._undo(run, script))
        run.ledger.rollback_migrations(run.ledger.to_rollback(found))
        if self.plan.purge:
            self._purge(run)

    @staticmethod
    def _purge(run: Run) -> None:
        outside = [row[0] for row in run.conn.execute(_OUTSIDE)]
        if outside:
            raise LossRefused(
                "objects outside schema pmcompat need it",
                losses=outside,
                state="nothing was changed",
                fix="drop them first, or roll back without --purge",
            )
        run.conn.execute("SET LOCAL client_min_messages = warning")
        run.conn.execute("DROP SCHEMA pmcompat CASCADE")

    def _undo(self, run: Run, script: Script) -> None:
        if script.rollback:
            run.text(render(script.rollback, self.values, script.home))
        run.conn.execute("DELETE FROM pmcompat.scripts WHERE id = %s", [script.id])
        for description, definition in self.values["leaving"] if script.id.startswith("0002") else ():
            run.conn.execute(
                "INSERT INTO pmcompat.dropped_objects (description, definition) VALUES (%s, %s)", [description, definition]
            )


class RepairWork:
    """Accept edited scripts; complete what oVirt's upgrade left undone."""

    def __init__(self, plan: Plan, *, complete: bool) -> None:
        self.plan = plan
        self.oids = _oids(plan.catalog)
        self._complete = complete and plan.shape is Shape.BY_OVIRT

    @cached_property
    def anything(self) -> bool:
        """Whether there is something to do."""
        return bool(drift(self.plan)) or (self._complete and any(self._completions()))

    @cached_property
    def _views(self) -> list[object]:
        reporting = [view for view in self.plan.catalog.target_views if view.name not in CORE_VIEWS]
        return [shown for view in reporting if (shown := self.plan.view_values(view))]

    def _mended(self) -> list[str]:
        routines = self.plan.catalog.procedures.get("insertvds", ())
        return [edited.definition for routine in routines if (edited := plan_procedures.mended_insert(routine))]

    def _completions(self) -> Iterator[object]:
        yield from self._views
        yield from self._mended()
        yield from (change for pair in self.plan.pairs for change in pair.changes)

    @cached_property
    def values(self) -> dict[str, object]:
        """What the texts are rendered with: the upgrade's values, cut down to what is completed."""
        return {**self.plan.values(), "views": self._views, "procedures": [], "down": (), "up": (), "operation": "repair"}

    def before_locks(self, run: Run) -> None:
        """Accept the files as they are."""
        run.part("settings", self.values)
        run.part("bookkeeping", self.values)
        files = {script.id: script for script in self.plan.scripts}
        for applied in self.plan.catalog.applied or ():
            if script := files.get(applied.id):
                run.conn.execute("UPDATE pmcompat.scripts SET sha256 = %s WHERE id = %s", [script.sha256, script.id])
            else:
                run.conn.execute("DELETE FROM pmcompat._yoyo_migration WHERE migration_id = %s", [applied.id])
                run.conn.execute("DELETE FROM pmcompat.scripts WHERE id = %s", [applied.id])
        run.part("record", self.values)

    def locks(self, run: Run) -> None:
        """Take the locks, if the engine's schema is touched at all."""
        if self._complete:
            run.part("locks", self.values)
            run.part("unchanged", self.values)

    def under_locks(self, run: Run) -> None:
        """Append to the reporting views, mend InsertVds, set the fence defaults by pairs."""
        if not self._complete:
            return
        run.text(render("0002-views-and-procedures.sql.j2", self.values))
        for definition in self._mended():
            run.conn.execute(definition.encode())
        run.text(render("0004-fence-defaults.sql.j2", self.values))
        run.text(render("verify/0002-views-and-procedures.sql.j2", self.values))
