"""Recognise what a database is, from its catalog alone.

What lives here: which shape it has, which parts of the change are there, and what oVirt's own upgrade left out. Never from
``schema_version``: the pre-3.2 snapshot already says 0302 (database facts §1.9). Pure.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

from pmcompat.db.catalog import CORE_VIEWS, LISTED, PASSWORDS, PROCEDURES, SECONDARY, SECONDARY_NAMES, VIEWS, Catalog, Column
from pmcompat.db.plan import procedures as plan_procedures


class Shape(enum.StrEnum):
    """What was found."""

    RELEASE_3_1_0 = "3.1.0"
    SNAPSHOT_3_2 = "3.2-snapshot"
    #: an engine database like neither, with none of the change in it
    OTHER = "other"
    #: everything is there, made by pmcompat
    UPGRADED = "upgraded"
    #: table, views and procedures have the seven the way oVirt 3.2 made them (law D6)
    BY_OVIRT = "upgraded-by-ovirt"
    #: some of it is there
    PARTLY = "partly-upgraded"
    NOT_ENGINE = "not-an-engine-database"


def recognised(catalog: Catalog) -> Shape:
    """Return the shape of the database."""
    if catalog.table is None or any(name not in catalog.views for name in CORE_VIEWS) or not catalog.procedures:
        return Shape.NOT_ENGINE
    there = [columns_there(catalog), views_there(catalog), procedures_there(catalog)]
    if all(there):
        return Shape.UPGRADED
    if there[0] and _made_by_ovirt(catalog):
        return Shape.BY_OVIRT
    if _anything_there(catalog):
        return Shape.PARTLY
    return _release(catalog)


def _release(catalog: Catalog) -> Shape:
    table = catalog.table
    proxies = table is not None and table.column("pm_proxy_preferences") is not None
    arguments = [len(r.argument_names) for r in catalog.procedures.get("insertvdsstatic", ())]
    if not proxies and arguments == [17]:
        return Shape.RELEASE_3_1_0
    return Shape.SNAPSHOT_3_2 if proxies and arguments == [19] else Shape.OTHER


def columns_there(catalog: Catalog) -> bool:
    """Tell whether vds_static has all seven."""
    return catalog.table is not None and all(catalog.table.column(name) for name in SECONDARY_NAMES)


def views_there(catalog: Catalog) -> bool:
    """Tell whether every view of the change that exists shows its columns."""
    return all(view.column(name) for view in catalog.target_views for name in VIEWS[view.name])


def procedures_there(catalog: Catalog) -> bool:
    """Tell whether each of the procedures that exist takes the seven the way pmcompat gives them."""
    return all(
        len(routines) == 1 and plan_procedures.is_ours(routines[0]) and plan_procedures.has_seven(routines[0])
        for routines in catalog.procedures.values()
    )


def white_list_there(catalog: Catalog) -> bool:
    """Tell whether the white list is as it should be; true where there is none or this role cannot read it."""
    if catalog.white_list is None:
        return True
    listed = {entry.column for entry in catalog.white_list if entry.object == "vds"}
    return set(LISTED) <= listed and not any(entry.column.lower() in PASSWORDS for entry in catalog.white_list)


def _made_by_ovirt(catalog: Catalog) -> bool:
    core = all(catalog.views[name].column(column) for name in CORE_VIEWS for column in SECONDARY_NAMES)
    writers = [r for name in ("insertvdsstatic", "updatevdsstatic") for r in catalog.procedures.get(name, ())]
    return (
        core
        and bool(writers)
        and all(plan_procedures.has_seven(routine) and not plan_procedures.is_ours(routine) for routine in writers)
    )


def _anything_there(catalog: Catalog) -> bool:
    relations = [relation for relation in (catalog.table, *catalog.target_views) if relation]
    columns = any(relation.column(name) for relation in relations for name in SECONDARY_NAMES)
    return columns or any(plan_procedures.has_seven(r) for routines in catalog.procedures.values() for r in routines)


def wrong_columns(catalog: Catalog) -> Iterator[str]:
    """Yield, as sentences, each of the seven that is there with another type or nullability."""
    for relation in (catalog.table, *catalog.target_views):
        for column in SECONDARY:
            found: Column | None = relation.column(column.name) if relation else None
            if relation and found and (found.type != column.type or found.not_null):
                yield f"{relation.schema}.{relation.name}.{column.name} is {found.type}, not {column.type}"


def never_done_by_ovirt(catalog: Catalog) -> Iterator[str]:
    """Yield, as sentences, what oVirt's own upgrade leaves undone (database facts §15)."""
    for name, columns in VIEWS.items():
        view = catalog.views.get(name)
        if view and name not in CORE_VIEWS and not all(view.column(column) for column in columns):
            yield f"the reporting view {name} lacks {', '.join(columns)}"
    for routine in catalog.procedures.get("insertvds", ()):
        if plan_procedures.mended_insert(routine):
            yield f"{PROCEDURES['insertvds']} names columns where it means its parameters: every call fails"


def vendor_ran_since(catalog: Catalog) -> str:
    """Return the evidence that oVirt's own upgrade ran after ours, '' where there is none."""
    if catalog.before is None:
        return ""
    release = catalog.before.get("release")
    if isinstance(release, dict) and catalog.release and catalog.release.id > int(release.get("id", 0)):
        return f"schema_version got {catalog.release.script} since"
    if not columns_there(catalog):
        return ""
    foreign = [r.signature for routines in catalog.procedures.values() for r in routines if not plan_procedures.is_ours(r)]
    if foreign:
        return f"{foreign[0]} is not the one pmcompat made"
    if missing := [name for name in CORE_VIEWS if name not in catalog.views]:
        return f"view {missing[0]} is gone"
    return ""
