"""From what a database is to the SQL that upgrades it. Pure: a catalog in, texts and sentences out.

What lives here: the decision what is pending, what stands in the way, what a DBA should know, and the values the scripts of
``sql/`` are rendered with. No connection, no clock. Views and procedures are made from their live definitions (DESIGN §3).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pmcompat.db.catalog import (
    FENCE_PAIRS,
    LISTED,
    OPTIONS_TABLE,
    PASSWORDS,
    PROCEDURES,
    SECONDARY,
    SECONDARY_NAMES,
    TABLE,
    VIEWS,
    WHITE_LIST_TABLES,
    Catalog,
    Relation,
    Routine,
)
from pmcompat.db.plan import config as plan_config
from pmcompat.db.plan import findings as plan_findings
from pmcompat.db.plan import objects as plan_objects
from pmcompat.db.plan import procedures as plan_procedures
from pmcompat.db.plan import scripts as plan_scripts
from pmcompat.db.plan import shape as plan_shape
from pmcompat.db.plan import views as plan_views
from pmcompat.db.plan.findings import Finding
from pmcompat.db.plan.quote import ident, qualified, role
from pmcompat.db.plan.scripts import Script
from pmcompat.db.plan.shape import Shape

#: "pmcompat" as eight bytes: the advisory lock of everything that changes the schema
LOCK_KEY = int.from_bytes(b"pmcompat", "big")


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanSettings:
    """What the operator chose."""

    #: seconds; the most that all lock waits of one attempt take together (law D2)
    lock_timeout: float = 2.0
    #: seconds for any one statement
    statement_timeout: float = 60.0
    #: change values of the fence pairs an admin chose as well
    force_defaults: bool = False
    #: roles that may use what is pmcompat's own
    grant_to: tuple[str, ...] = ()
    #: call each procedure before the commit, undone at once
    call: bool = True
    #: another ``sql/`` than the shipped one
    sql: Path | None = None
    #: pmcompat's version, for the record
    version: str = ""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be done to one database, and everything a person should know before."""

    catalog: Catalog
    settings: PlanSettings
    scripts: tuple[Script, ...]

    @cached_property
    def shape(self) -> Shape:
        """What was found."""
        return plan_shape.recognised(self.catalog)

    @cached_property
    def pending(self) -> tuple[Script, ...]:
        """The scripts to run: not recorded, or recorded and undone since by somebody else."""
        if self.shape is Shape.NOT_ENGINE:
            return ()
        return tuple(script for script in self.scripts if self._is_pending(script))

    def _is_pending(self, script: Script) -> bool:
        if script.scope == "engine" and self.shape is Shape.BY_OVIRT:
            return False  # law D6: nothing in the engine's schema is touched
        if self.catalog.applied is None:  # who may not read the record goes by the catalog alone
            return not self._still_there(script)
        return script.id not in self.catalog.applied_ids or not self._still_there(script)

    def _still_there(self, script: Script) -> bool:
        """Tell whether an applied script's effect is still there: oVirt's own upgrades make views and functions anew."""
        there = {
            "0001-secondary-columns": plan_shape.columns_there,
            "0002-views-and-procedures": lambda c: plan_shape.views_there(c) and plan_shape.procedures_there(c),
            "0003-white-list": plan_shape.white_list_there,
        }.get(script.id)
        return there is None or there(self.catalog)

    @cached_property
    def again(self) -> frozenset[str]:
        """Ids of pending scripts that our bookkeeping calls applied."""
        return frozenset(script.id for script in self.pending) & self.catalog.applied_ids

    @cached_property
    def state(self) -> str:
        """The state ``db status`` prints: pending, current, upgraded-by-ovirt or unknown."""
        if self.shape is Shape.NOT_ENGINE:
            return "unknown"
        if self.shape is Shape.BY_OVIRT:
            return "upgraded-by-ovirt"
        return "pending" if self.pending else "current"

    @cached_property
    def pairs(self) -> tuple[plan_config.PairDecision, ...]:
        """What happens to the fence defaults."""
        return plan_config.decide(self.catalog, force=self.settings.force_defaults)

    @cached_property
    def refusals(self) -> tuple[Finding, ...]:
        """What must be settled before anything is touched."""
        found = list(plan_findings.refusals(self.catalog, self.shape, engine=self.touches_engine))
        if self.touches_engine and all(finding.kind == "privilege" for finding in found):
            found += self._unextendable()
        return tuple(found)

    @cached_property
    def touches_engine(self) -> bool:
        """Whether anything pending changes the engine's schema."""
        return any(script.scope == "engine" for script in self.pending)

    @cached_property
    def surprises(self) -> tuple[Finding, ...]:
        """What a DBA should know."""
        return tuple(plan_findings.surprises(self.catalog, self.shape, self.pairs))

    def _unextendable(self) -> Iterator[Finding]:
        for view in self.catalog.target_views:
            try:
                self.view_values(view)
            except plan_views.Unextendable as error:
                yield Finding(
                    kind="view",
                    text=f"view {qualified(view.schema, view.name)} cannot be extended: {error}",
                    fix=f"append {', '.join(VIEWS[view.name])} to it by hand (CREATE OR REPLACE VIEW), then run this again",
                )
        for routine in self._plain_procedures():
            try:
                plan_procedures.extended(routine)
            except plan_procedures.Uneditable as error:
                yield Finding(
                    kind="procedure",
                    text=f"{plan_objects.describe(routine)} cannot be edited: {error}",
                    fix="bring the statement that writes vds_static back into the form the engine ships, then run this again",
                )
        for problem in self._procedures_detour.problems:
            yield Finding(kind="dependant", text=f"needs a procedure that is replaced: {problem}", fix="drop it first")

    def _plain_procedures(self) -> Iterator[Routine]:
        for routines in self.catalog.procedures.values():
            yield from (routine for routine in routines if not plan_procedures.is_ours(routine))

    @cached_property
    def _procedures_detour(self) -> plan_objects.Detour:
        return plan_objects.detour(self.catalog, [routine.oid for routine in self._plain_procedures()], {})

    # ------------------------------------------------------------------ values of the scripts

    def values(self) -> dict[str, Any]:
        """Return what the scripts of an upgrade are rendered with."""
        return {**self.common_values(), **self._engine_values()} if self.catalog.table else self.common_values()

    def common_values(self) -> dict[str, Any]:
        """Return the values every text may use."""
        settings = self.settings
        return {
            "schema": self.catalog.schema,
            "owner": self.catalog.table.owner if self.catalog.table else "",
            "owner_role": role(self.catalog.table.owner) if self.catalog.table else "",
            "table": qualified(self.catalog.schema, TABLE),
            "own_schema": self.catalog.server.own_schema_owner is not None,
            "lock_key": LOCK_KEY,
            "lock_timeout_ms": int(settings.lock_timeout * 1000),
            "statement_timeout": f"{int(settings.statement_timeout * 1000)}ms",
            "idle_timeout": "60s",
            "grantees": settings.grant_to,
            "fingerprinted": [TABLE, *VIEWS],
            "procedure_names": list(PROCEDURES),
            "kept_only": False,
            "option_sequence": self.catalog.option_sequence,
            "option_names": [default.name for pair in FENCE_PAIRS.values() for default in pair],
            "seven": SECONDARY_NAMES,
            "all_seven": SECONDARY,
            "passwords": PASSWORDS,
            "listed": LISTED,
        }

    def _engine_values(self) -> dict[str, Any]:
        catalog, table = self.catalog, self.catalog.table
        replaced = self.touches_engine
        views = catalog.target_views if replaced else ()
        procedures = self._plain_procedures() if replaced else ()
        detoured = self._detoured if replaced else ()
        return {
            "columns": [column for column in SECONDARY if table and not table.column(column.name)],
            "views": [shown for view in views if (shown := self.view_values(view))],
            "procedures": [self._procedure(routine) for routine in procedures],
            "down": tuple(plan_objects.dropped(thing) for thing in detoured),
            "up": tuple(s for thing in reversed(detoured) for s in plan_objects.remade(thing, catalog.server)),
            "calls": self.calls() if self.settings.call else [],
            "locks": self.locks(),
            "fingerprint": self.catalog.fingerprint,
            "options": _options_hash(catalog),
            "white_list": _white_list_hash(catalog),
            "white_list_present": WHITE_LIST_TABLES[0] not in catalog.missing,
            "cache_present": WHITE_LIST_TABLES[1] not in catalog.missing,
            "options_present": OPTIONS_TABLE not in catalog.missing,
            "option_changes": [change for pair in self.pairs for change in pair.changes],
            "operation": "upgrade",
            "version": self.settings.version,
            "before": self.before(),
        }

    @property
    def _detoured(self) -> tuple[Relation | Routine, ...]:
        """Return what depends on a procedure that is replaced, outermost first."""
        detour = self._procedures_detour
        roots = {routine.oid for routine in self._plain_procedures()}
        return tuple(thing for thing in detour.things if thing.oid not in roots)

    def view_values(self, view: Relation) -> dict[str, Any] | None:
        """Return what the scripts say about *view*; None where it has its columns already."""
        gained = [name for name in VIEWS[view.name] if not view.column(name)]
        if not gained:
            return None
        definition = plan_views.extend(view.definition, gained, (self.catalog.schema, TABLE))
        types = {column.name: column.type for column in SECONDARY}
        columns = [(c.name, c.type, c.collation) for c in view.columns] + [(name, types[name], "") for name in gained]
        return {
            "name": view.name,
            "target": qualified(view.schema, view.name),
            "options": plan_objects.options(view),
            "definition": definition.strip().rstrip(";"),
            "columns": ", ".join(" ".join(part for part in column if part) for column in columns),
            "targets": plan_views.targets(definition, gained),
            "gained": gained,
            "old_md5": hashlib.md5(view.definition.encode(), usedforsecurity=False).hexdigest(),
        }

    def _procedure(self, routine: Routine) -> dict[str, Any]:
        edited = plan_procedures.extended(routine)
        made = plan_objects.remade_routine(routine, edited.definition, edited.signature, self.catalog.server)
        return {"old": routine.signature, "made": list(made)}

    def calls(self) -> list[dict[str, str]]:
        """Return one call of each procedure, for a host that does not exist; ``nobody`` is its id."""
        return [
            {"name": PROCEDURES[routine.name], "text": _call(routine)}
            for routines in self.catalog.procedures.values()
            for routine in routines
            if len(routines) == 1
        ]

    def locks(self) -> list[str]:
        """Return the statements that take every lock, in their order (see ``sql/parts/locks.sql.j2``)."""
        catalog = self.catalog
        first = sorted(catalog.target_views, key=lambda view: (view.name not in {"vds", "vds_with_tags"}, view.name))
        locks = [lock_view(view) for view in first]
        locks.append(f"LOCK TABLE {qualified(catalog.schema, TABLE)} IN ACCESS EXCLUSIVE MODE")
        locks += [
            f"LOCK TABLE {qualified(catalog.schema, name)} IN {mode} MODE"
            for name, mode in zip(
                (*WHITE_LIST_TABLES, OPTIONS_TABLE),
                ("SHARE ROW EXCLUSIVE", "ACCESS EXCLUSIVE", "SHARE ROW EXCLUSIVE"),
                strict=True,
            )
            if name not in catalog.missing
        ]
        return locks

    def before(self) -> str:
        """Return the record of what was found, as JSON, for the way back and for ``db verify``."""
        catalog = self.catalog
        routines = [routine for found in catalog.procedures.values() for routine in found]
        record = {
            "schema": catalog.schema,
            "shape": self.shape,
            "release": dataclasses.asdict(catalog.release) if catalog.release else None,
            "fingerprint": {name: list(hashes) for name, hashes in sorted(catalog.fingerprint.items())},
            "views": {
                view.name: {"definition": view.definition, "columns": [c.name for c in view.columns]}
                for view in catalog.target_views
            },
            "procedures": {routine.signature: routine.definition for routine in routines},
            "white_list": [[entry.object, entry.column] for entry in catalog.white_list]
            if catalog.white_list is not None
            else None,
            "defaults": [dataclasses.asdict(option) for option in catalog.options or ()],
        }
        return json.dumps(record, sort_keys=True, ensure_ascii=False)


def lock_view(view: Relation) -> str:
    """Return the statement that locks a view alone, or a materialised view or table."""
    kind = {"v": "VIEW", "m": "MATERIALIZED VIEW"}.get(view.kind, "TABLE")
    return f"ALTER {kind} {qualified(view.schema, view.name)} OWNER TO {role(view.owner)}"


def _hash(parts: Iterable[str]) -> str:
    return hashlib.md5(", ".join(parts).encode(), usedforsecurity=False).hexdigest()


def _options_hash(catalog: Catalog) -> str | None:
    """Return what ``sql/parts/unchanged.sql.j2`` computes of the options; None where there are none to watch."""
    if catalog.options is None:
        return None
    rows = sorted(catalog.options, key=lambda option: option.id)
    return _hash(" ".join(map(str, (row.id, row.name, row.value, row.version))) for row in rows)


def _white_list_hash(catalog: Catalog) -> str | None:
    """Return the same of the white list."""
    if catalog.white_list is None:
        return None
    return _hash(sorted(f"{entry.object}.{entry.column}" for entry in catalog.white_list))


def _call(routine: Routine) -> str:
    """Return a call by position with NULLs and the id of nobody; what has a default is left out."""
    arguments = plan_procedures.call_arguments(routine)
    return f"{ident(routine.schema)}.{ident(routine.name)}({', '.join(arguments)})"


def make(catalog: Catalog, settings: PlanSettings | None = None, scripts: tuple[Script, ...] | None = None) -> Plan:
    """Return the plan for *catalog*."""
    chosen = settings or PlanSettings()
    return Plan(
        catalog=catalog,
        settings=chosen,
        scripts=scripts or plan_scripts.load(chosen.sql),
    )
