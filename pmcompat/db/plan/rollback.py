"""From what an upgraded database is to the SQL that takes the change out again (law D5). Pure.

What lives here: the same kind of decisions as in :mod:`pmcompat.db.plan`, the other way round. Views and procedures are made
from what they are now without our columns, parameters and marks; nothing is remembered from before, so what the site changed
since stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pmcompat.db import plan as plans
from pmcompat.db.catalog import (
    LISTED,
    OPTIONS_TABLE,
    PASSWORDS,
    SECONDARY_NAMES,
    TABLE,
    VIEWS,
    WHITE_LIST_TABLES,
    Catalog,
    Relation,
)
from pmcompat.db.plan import PlanSettings
from pmcompat.db.plan import objects as plan_objects
from pmcompat.db.plan import procedures as plan_procedures
from pmcompat.db.plan import scripts as plan_scripts
from pmcompat.db.plan import shape as plan_shape
from pmcompat.db.plan import views as plan_views
from pmcompat.db.plan.findings import Finding
from pmcompat.db.plan.quote import qualified
from pmcompat.db.plan.scripts import Script


@dataclass(frozen=True, kw_only=True)
class RollbackPlan:
    """What is to be taken out, and what stands in the way."""

    catalog: Catalog
    settings: PlanSettings
    #: applied scripts that change the engine's schema, newest first
    scripts: tuple[Script, ...]
    purge: bool = False
    drop_dependants: bool = False

    @cached_property
    def shape(self) -> plan_shape.Shape:
        """What was found."""
        return plan_shape.recognised(self.catalog)

    @property
    def before_fingerprint(self) -> Mapping[str, str]:
        """Object → the hash recorded before the upgrade."""
        recorded = (self.catalog.before or {}).get("fingerprint", {})
        return {name: hashes[0] for name, hashes in recorded.items()} if isinstance(recorded, dict) else {}

    @cached_property
    def _made(self) -> dict[int, list[str]]:
        """Return the statements for the views and procedures as they were."""
        made: dict[int, list[str]] = {}
        server = self.catalog.server
        for view in self.catalog.target_views:
            definition = plan_views.without(view.definition, VIEWS[view.name])
            made[view.oid] = list(
                plan_objects.remade_relation(plan_objects.without_columns(view, VIEWS[view.name]), definition, server)
            )
        for routines in self.catalog.procedures.values():
            for routine in routines:
                edited = plan_procedures.reduced(routine)
                made[routine.oid] = list(plan_objects.remade_routine(routine, edited.definition, edited.signature, server))
        return made

    @cached_property
    def leaving(self) -> tuple[Relation, ...]:
        """Return the views that use the new columns and go for good, if the operator said so."""
        oids = dict.fromkeys(user.oid for user in self.catalog.column_users)
        found = (self.catalog.relations.get(oid) for oid in oids)
        return tuple(relation for relation in found if relation and relation.kind in {"v", "m"})

    @cached_property
    def detour(self) -> plan_objects.Detour:
        """The way around everything that must go while views and procedures are made anew."""
        leaving = [relation.oid for relation in self.leaving]
        return plan_objects.detour(self.catalog, {*self._made, *leaving}, self._made, gone=leaving)

    @cached_property
    def refusals(self) -> tuple[Finding, ...]:
        """What must be settled before anything is touched."""
        return tuple(self._refusals())

    def _refusals(self) -> Iterator[Finding]:
        if evidence := plan_shape.vendor_ran_since(self.catalog):
            yield Finding(
                kind="vendor", text=f"oVirt's own upgrade ran since: {evidence}", fix="the columns are oVirt's now; keep them"
            )
            return
        try:
            detour = self.detour
        except (plan_views.Unextendable, plan_procedures.Uneditable) as error:
            yield Finding(
                kind="foreign", text=f"a view or procedure was replaced since the upgrade: {error}", fix="see db verify"
            )
            return
        yield from (Finding(kind="dependant", text=text, fix="drop it first") for text in detour.problems)
        yield from self._users()
        things = detour.things
        if not self.catalog.server.superuser:
            for actor in sorted(plan_objects.actors(things) | set(self.catalog.owners())):
                if not self.catalog.roles.get(actor, False):
                    owned = ", ".join(plan_objects.describe(thing) for thing in things if thing.owner == actor)
                    yield Finding(
                        kind="privilege",
                        text=f"{self.catalog.server.user} cannot act as {actor}, which putting back {owned or 'grants'} needs",
                        fix=f"run this as a superuser or a member of {actor}",
                    )

    def _users(self) -> Iterator[Finding]:
        leaving = {relation.oid for relation in self.leaving} if self.drop_dependants else set()
        for user in self.catalog.column_users:
            if user.oid not in leaving:
                yield Finding(
                    kind="user",
                    text=f"{user.description} uses the new column {user.column} of {user.relation}",
                    fix="drop it first"
                    if user.oid not in {relation.oid for relation in self.leaving}
                    else "drop it first, or add --drop-dependants (its text is kept in pmcompat.dropped_objects)",
                )

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """What a DBA should know: functions whose text mentions the columns, which no dependency shows."""
        own = {routine.oid for routines in self.catalog.procedures.values() for routine in routines}
        mentioning = [self.catalog.routines[oid] for oid in self.catalog.mentioning if oid not in own]
        said = tuple(
            Finding(kind="mention", text=f"{plan_objects.describe(r)} mentions pm_secondary columns in its text")
            for r in mentioning
            if "pm_secondary_" in r.body
        )
        if not self.drop_dependants:
            return said
        gone = tuple(Finding(kind="dropped", text=f"dropped: {plan_objects.describe(view)}") for view in self.detour.gone)
        return said + gone

    def locks(self) -> list[str]:
        """Return the statements that take every lock, outermost dependants first."""
        catalog = self.catalog
        locks = [plans.lock_view(relation) for relation in self.detour.relations]
        locks.append(f"LOCK TABLE {qualified(catalog.schema, TABLE)} IN ACCESS EXCLUSIVE MODE")
        modes = {WHITE_LIST_TABLES[0]: "SHARE ROW EXCLUSIVE", WHITE_LIST_TABLES[1]: "ACCESS EXCLUSIVE"}
        modes[OPTIONS_TABLE] = "SHARE ROW EXCLUSIVE"
        locks += [
            f"LOCK TABLE {qualified(catalog.schema, name)} IN {mode} MODE"
            for name, mode in modes.items()
            if name not in catalog.missing
        ]
        return locks

    def values(self) -> dict[str, Any]:
        """Return what the scripts are rendered with."""
        catalog, table = self.catalog, self.catalog.table
        common = plans.Plan(catalog=catalog, settings=self.settings, scripts=self.scripts).common_values()
        return {
            **common,
            "present": [name for name in SECONDARY_NAMES if table and table.column(name)],
            "down": self.detour.down,
            "up": self.detour.up,
            "locks": self.locks(),
            "white_list_present": WHITE_LIST_TABLES[0] not in catalog.missing,
            "cache_present": WHITE_LIST_TABLES[1] not in catalog.missing,
            "cache_fits": self._cache_fits(),
            "options_present": OPTIONS_TABLE not in catalog.missing,
            "leaving": [
                (plan_objects.describe(thing), ";\n".join(plan_objects.remade(thing, catalog.server)))
                for thing in self.detour.gone
            ]
            if self.drop_dependants
            else [],
            "operation": "rollback",
            "version": self.settings.version,
            "before": plans.Plan(catalog=catalog, settings=self.settings, scripts=self.scripts).before(),
        }

    def _cache_fits(self) -> bool:
        """Tell whether the cached SQL of before fits: nobody else changed the white list of vds since the upgrade."""
        recorded = (self.catalog.before or {}).get("white_list")
        if self.catalog.white_list is None or not isinstance(recorded, list):
            return False
        now = {entry.column for entry in self.catalog.white_list if entry.object == "vds"}
        before = {column for object_, column in recorded if object_ == "vds"}
        return now - set(LISTED) == before - set(LISTED) - set(PASSWORDS)


def make(
    catalog: Catalog,
    settings: PlanSettings,
    scripts: tuple[Script, ...] | None = None,
    *,
    purge: bool = False,
    drop_dependants: bool = False,
) -> RollbackPlan:
    """Return the plan that takes every applied script of the engine's schema out of *catalog*."""
    known = scripts or plan_scripts.load(settings.sql)
    undone = tuple(s for s in reversed(known) if s.scope == "engine" and s.id in catalog.applied_ids)
    return RollbackPlan(catalog=catalog, settings=settings, scripts=undone, purge=purge, drop_dependants=drop_dependants)
