"""Prove the result of an upgrade on the live database.

What lives here: the checks of ``db verify``. They read; each procedure is really called in a savepoint that is rolled back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from pmcompat.db import plan as plans
from pmcompat.db.catalog import SECONDARY, VIEWS, Catalog, Relation
from pmcompat.db.plan import Plan
from pmcompat.db.plan import findings as plan_findings
from pmcompat.db.plan import procedures as plan_procedures
from pmcompat.db.plan import scripts as plan_scripts
from pmcompat.db.plan import shape as plan_shape
from pmcompat.db.plan import views as plan_views
from pmcompat.db.plan.findings import Finding
from pmcompat.db.plan.quote import ident
from pmcompat.db.plan.shape import Shape
from pmcompat.db.upgrade.run import UpgradeSettings, read
from pmcompat.db.upgrade.status import drift


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    #: what was seen, or what is wrong
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What ``db verify`` found."""

    database: str
    state: str
    checks: tuple[Check, ...]
    #: worth knowing, no failure: getters that do not mask, options an admin chose …
    findings: tuple[Finding, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(check.ok for check in self.checks)

    def as_json(self) -> dict[str, object]:
        """Return plain values."""
        return {
            "database": self.database,
            "state": self.state,
            "ok": self.ok,
            "checks": [{"check": check.name, "ok": check.ok, "text": check.text} for check in self.checks],
            "findings": [finding.as_json() for finding in self.findings],
        }


def verify(
    conn: psycopg.Connection[Any], settings: UpgradeSettings | None = None, *, notify: Callable[[str], None] | None = None
) -> Verification:
    """Check the whole result on the database behind *conn*; nothing stays changed.

    :param notify: told the site's triggers a real call may fire, before it is made. ``settings.call`` off: no call.
    """
    settings = settings or UpgradeSettings()
    plan = plans.make(read(conn, settings), settings)
    checks = tuple(_checks(conn, plan, notify or (lambda _: None)))
    findings = [*plan.surprises]
    if plan.shape is not Shape.NOT_ENGINE:
        findings += plan_findings.unmasked_getters(plan.catalog)
    return Verification(database=plan.catalog.server.database, state=plan.state, checks=checks, findings=tuple(findings))


def _checks(conn: psycopg.Connection[Any], plan: Plan, notify: Callable[[str], None]) -> Iterator[Check]:
    catalog = plan.catalog
    if plan.shape is Shape.NOT_ENGINE:
        yield Check(name="engine", ok=False, text=f"schema {catalog.schema} holds no engine")
        return
    yield _columns(catalog)
    yield from (_view(view) for view in catalog.target_views)
    yield _in_step(catalog)
    yield from _procedures(catalog, by_ovirt=plan.shape is Shape.BY_OVIRT)
    yield Check(name="white list", ok=plan_shape.white_list_there(catalog), text=_white_list(catalog))
    yield Check(
        name="scripts", ok=not drift(plan) and not plan.pending, text="; ".join([*drift(plan), *(s.id for s in plan.pending)])
    )
    yield from _options(catalog)
    yield from _kept(catalog)
    yield from _old_rows(conn, catalog)
    if plan.settings.call:
        yield from _calls(conn, plan, notify)


def _columns(catalog: Catalog) -> Check:
    table = catalog.table
    names = [column.name for column in table.columns if column.name.startswith("pm_secondary_")] if table else []
    wrong = list(plan_shape.wrong_columns(catalog))
    missing = [column.name for column in SECONDARY if column.name not in names]
    order = names == [column.name for column in SECONDARY]
    text = "; ".join([*wrong, *(f"{name} is missing" for name in missing)]) or (
        "" if order else f"other order: {', '.join(names)}"
    )
    return Check(name="columns of vds_static", ok=not wrong and not missing, text=text or "seven, in order")


def _view(view: Relation) -> Check:
    missing = [name for name in VIEWS[view.name] if not view.column(name)]
    text = f"lacks {', '.join(missing)}" if missing else f"{len(view.columns)} columns"
    return Check(name=f"view {view.name}", ok=not missing, text=text)


def _in_step(catalog: Catalog) -> Check:
    shown = [
        [c.name for c in view.columns if c.name.startswith("pm_secondary_")]
        for name in ("vds", "vds_with_tags")
        if (view := catalog.views.get(name))
    ]
    ok = len(shown) == 2 and set(shown[0]) == set(shown[1])
    return Check(name="vds and vds_with_tags in step", ok=ok, text="" if ok else f"{shown}")


def _procedures(catalog: Catalog, *, by_ovirt: bool) -> Iterator[Check]:
    for name, routines in catalog.procedures.items():
        signatures = "; ".join(routine.signature for routine in routines)
        if len(routines) != 1:
            yield Check(name=f"function {name}", ok=False, text=f"{len(routines)} of that name: {signatures}")
            continue
        ok = plan_procedures.has_seven(routines[0]) and (by_ovirt or plan_procedures.is_ours(routines[0]))
        yield Check(
            name=f"function {name}", ok=ok, text="one, with the seven" if ok else f"not the one of the upgrade: {signatures}"
        )


def _white_list(catalog: Catalog) -> str:
    if catalog.white_list is None:
        return "not there, or not readable by this role"
    return f"{sum(entry.object == 'vds' for entry in catalog.white_list)} columns of vds, no password"


def _options(catalog: Catalog) -> Iterator[Check]:
    now = {option.id: option.value for option in catalog.options or ()}
    for changed in catalog.changed_options:
        value = now.get(changed.id)
        text = f"{value}" if value == changed.new_value else f"set to {changed.new_value} by the upgrade, {value or 'gone'} now"
        yield Check(name=f"option {changed.name}", ok=True, text=text)


def _kept(catalog: Catalog) -> Iterator[Check]:
    """Compare owner, grants, comments and settings with what was recorded before the upgrade."""
    recorded = (catalog.before or {}).get("fingerprint")
    if not isinstance(recorded, dict):
        return
    different = [name for name, (_, kept) in catalog.fingerprint.items() if name in recorded and recorded[name][1] != kept]
    text = f"other than before the upgrade: {', '.join(different)}" if different else "as recorded before the upgrade"
    yield Check(name="owners, grants, comments, options", ok=not different, text=text)


def _old_rows(conn: psycopg.Connection[Any], catalog: Catalog) -> Iterator[Check]:
    """Compare the views' old columns with what their recorded old definitions show now."""
    recorded = (catalog.before or {}).get("views")
    if not isinstance(recorded, dict):
        return
    for view in catalog.target_views:
        old = recorded.get(view.name)
        if not old or any(not view.column(name) for name in old["columns"]):
            continue
        try:
            plan_views.without(view.definition, VIEWS[view.name])
            count, other = _differences(conn, view, old["columns"], old["definition"])
        except (plan_views.Unextendable, psycopg.Error) as error:
            yield Check(name=f"rows of {view.name}", ok=False, text=" ".join(str(error).split()))
            continue
        text = f"{count} rows, the same in every old column" if not other else f"{other} of {count} rows differ"
        yield Check(name=f"rows of {view.name}", ok=not other, text=text)


def _differences(conn: psycopg.Connection[Any], view: Relation, columns: list[str], definition: str) -> tuple[int, int]:
    line = sql.SQL("ROW({})::text").format(sql.SQL(", ").join(sql.Identifier("v", name) for name in columns))
    query = sql.SQL(
        "WITH now AS (SELECT {line} AS r FROM {view} AS v), before AS (SELECT {line} AS r FROM ({old}) AS v) "
        "SELECT (SELECT count(*) FROM now), (SELECT count(*) FROM (SELECT r FROM now EXCEPT ALL SELECT r FROM before) AS a) "
        "+ (SELECT count(*) FROM (SELECT r FROM before EXCEPT ALL SELECT r FROM now) AS b)"
    ).format(
        line=line,
        view=sql.Identifier(view.schema, view.name),
        old=sql.SQL(definition.strip().rstrip(";")),
    )
    with conn.transaction():
        row = conn.execute(query).fetchone()
    return (row[0], row[1]) if row else (0, 0)


def _calls(conn: psycopg.Connection[Any], plan: Plan, notify: Callable[[str], None]) -> Iterator[Check]:
    triggers = [
        trigger.name for trigger in (plan.catalog.table.triggers if plan.catalog.table else ()) if trigger.enabled != "D"
    ]
    if triggers:
        notify(f"calling each procedure for no existing host, undone at once; triggers that may fire: {', '.join(triggers)}")
    for call in plan.calls():
        text = plan_scripts.render("verify/calls.sql.j2", {"calls": [call]}).sql
        try:
            with conn.transaction(force_rollback=True):
                path = f"{ident(plan.catalog.schema)}, "
                conn.execute("SELECT set_config('search_path', %s || current_setting('search_path'), true)", [path])
                conn.execute(text.encode())
        except psycopg.Error as error:
            yield Check(name=f"call {call['name']}", ok=False, text=error.diag.message_primary or str(error))
        else:
            yield Check(name=f"call {call['name']}", ok=True, text="undone")
