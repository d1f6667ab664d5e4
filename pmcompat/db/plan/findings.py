"""What a DBA should know before the upgrade, and what forbids it.

What lives here: sentences from a catalog. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pmcompat.db.catalog import (
    OPTIONS_TABLE,
    PROCEDURES,
    SECONDARY_NAMES,
    TABLE,
    VIEWS,
    WHITE_LIST_TABLES,
    Catalog,
    Column,
    Routine,
)
from pmcompat.db.plan import objects as plan_objects
from pmcompat.db.plan.config import PairDecision
from pmcompat.db.plan.quote import qualified
from pmcompat.db.plan.shape import Shape, never_done_by_ovirt, wrong_columns
from pmcompat.db.plan.tokens import Token, Unreadable, tokens

#: constant column defaults cost a rewrite of the table before this version
OLDEST_SERVER = 110000


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing worth knowing; *kind* is a stable word for programs."""

    kind: str
    text: str
    #: what to do about it, where something must be done
    fix: str = ""

    def as_json(self) -> dict[str, str]:
        """Return plain values; an empty fix is left out."""
        return {"kind": self.kind, "text": self.text, **({"fix": self.fix} if self.fix else {})}


def refusals(catalog: Catalog, shape: Shape, *, engine: bool) -> Iterator[Finding]:
    """Yield everything that must be settled before anything is touched.

    :param engine: the upgrade will change the engine's schema, not only make schema pmcompat.
    """
    if shape is Shape.NOT_ENGINE:
        return
    yield from _not_ours(catalog)
    if not engine:
        return
    yield from _overloads(catalog)
    if catalog.server.server_version < OLDEST_SERVER:
        yield Finding(
            kind="server",
            text=f"the server is PostgreSQL {catalog.server.server}: a default would rewrite vds_static",
            fix="upgrade the server to 11 or later",
        )
    for name, shown in PROCEDURES.items():
        if name not in catalog.procedures:
            yield Finding(kind="procedure", text=f"there is no function {shown}", fix="restore it from the engine's scripts")
    yield from (Finding(kind="column", text=text, fix="rename or drop it") for text in wrong_columns(catalog))
    for user in catalog.composite_users:
        yield Finding(
            kind="composite",
            text=f"{user} holds rows of vds_static as values: PostgreSQL refuses to add a column with a default",
            fix="change that column's type first",
        )
    for name in catalog.unreadable:
        if name in {*WHITE_LIST_TABLES, OPTIONS_TABLE}:
            yield Finding(kind="unreadable", text=f"{catalog.server.user} may not read {name}", fix="use a role that may")
    if catalog.table and catalog.table.kind == "p":
        yield Finding(kind="table", text="vds_static is partitioned", fix="this is not supported")


def _overloads(catalog: Catalog) -> Iterator[Finding]:
    for name, routines in catalog.procedures.items():
        if len(routines) > 1:
            signatures = " and ".join(routine.signature for routine in routines)
            yield Finding(
                kind="overload",
                text=f"there are {len(routines)} functions {PROCEDURES[name]}: {signatures}",
                fix="keep one: with two of a name the engine's driver cannot tell which to call",
            )


def _not_ours(catalog: Catalog) -> Iterator[Finding]:
    """Yield what the session's role may not do, before the server says so half-way."""
    server = catalog.server
    if server.superuser:
        return
    owners = dict.fromkeys(catalog.owners())
    foreign = [owner for owner in owners if not catalog.roles.get(owner, False)]
    for owner in foreign:
        yield Finding(
            kind="privilege",
            text=f"{server.user} cannot act as {owner}, who owns {describe_owned(catalog, owner)}",
            fix=f"run this as {owner}, as a member of {owner}, or as a superuser",
        )
    for owner in owners:
        if owner not in foreign and owner not in catalog.creators:
            yield Finding(
                kind="privilege",
                text=f"{owner} may not create anything in schema {catalog.schema}, so no procedure can be made anew",
                fix=f"GRANT CREATE ON SCHEMA {catalog.schema} TO {owner}",
            )
    if server.own_schema_owner is None and not server.may_create_schema:
        yield Finding(
            kind="privilege",
            text=f"{server.user} may not create schema pmcompat in database {server.database}",
            fix=f"GRANT CREATE ON DATABASE {server.database} TO {server.user}, or make the schema for vds_static's owner",
        )


def describe_owned(catalog: Catalog, owner: str) -> str:
    """Return the names of the objects of the change that *owner* owns."""
    return ", ".join(thing.name for thing in catalog.targets() if thing.owner == owner)


def surprises(catalog: Catalog, shape: Shape, pairs: Iterable[PairDecision]) -> Iterator[Finding]:
    """Yield what differs here from what one would expect, and matters."""
    if shape is Shape.NOT_ENGINE:
        return
    if shape is Shape.BY_OVIRT:
        yield from (Finding(kind="ovirt", text=text, fix="db repair --complete") for text in never_done_by_ovirt(catalog))
    yield from _local_columns(catalog)
    yield from _frozen_lists(catalog)
    yield from _triggers(catalog)
    for pair in pairs:
        yield Finding(kind="option", text=f"fence {pair.operation}: {pair.reason}")
        yield from (Finding(kind="duplicate", text=remark) for remark in pair.remarks)
    for entry in catalog.white_list_cache or ():
        yield Finding(
            kind="cache", text=f"the cached SQL of filtered reads of {entry.object} is thrown away; the next read makes it anew"
        )
    yield from (Finding(kind="missing", text=f"there is no table {name}: nothing to do there") for name in catalog.missing)
    for name in VIEWS:
        if name not in catalog.views:
            yield Finding(kind="missing", text=f"there is no view {name}: nothing to do there")
    yield from (Finding(kind="unreadable", text=f"this role may not read {name}") for name in catalog.unreadable)
    if catalog.archived:
        hosts = ", ".join(agent.vds_name for agent in catalog.archived)
        yield Finding(
            kind="archive", text=f"archived secondary agents in pmcompat.archived_agents ({len(catalog.archived)}): {hosts}"
        )
    if catalog.server.sessions:
        yield Finding(
            kind="sessions",
            text=f"{len(catalog.server.sessions)} other sessions must reconnect: what they prepared over vds goes stale",
        )


def _local_columns(catalog: Catalog) -> Iterator[Finding]:
    """Yield the columns a site put into the views: a column whose definition no engine ships cannot be told by name alone."""
    known = _ENGINE_VIEW_COLUMNS
    for view in catalog.target_views:
        if view.name in known and (local := [c.name for c in view.columns if c.name not in known[view.name]]):
            yield Finding(kind="column", text=f"view {view.name} has columns of the site, which stay: {', '.join(local)}")


def _frozen_lists(catalog: Catalog) -> Iterator[Finding]:
    """Yield local objects that keep an old idea of the views."""
    wide = {relation.oid for relation in (*catalog.target_views, catalog.table) if relation}
    for oid, relation in catalog.row_type_routines.items():
        routine = catalog.routines.get(oid)
        if routine and relation in wide and lists_columns(routine):
            yield Finding(
                kind="column-list",
                text=f"{plan_objects.describe(routine)} returns whole rows from a list of columns: calls will fail",
                fix="select the whole row (v.*), or append the new columns to its list",
            )
    shown = [edge.oid for edge in catalog.dependants if edge.catalog == "pg_class" and edge.within is None]
    sources = [relation for relation in (*catalog.target_views, catalog.table) if relation]
    for oid in dict.fromkeys([*shown, *catalog.reading_views]):
        view = catalog.relations.get(oid)
        if view and view not in sources and any(_shows_all(view.columns, source.columns) for source in sources):
            yield Finding(
                kind="select-all",
                text=f"view {qualified(view.schema, view.name)} took all columns (SELECT *) when made: it keeps that list",
            )


def _shows_all(columns: Iterable[Column], target: Iterable[Column]) -> bool:
    return {column.name for column in target} - set(SECONDARY_NAMES) <= {column.name for column in columns}


def lists_columns(routine: Routine) -> bool:
    """Guess whether a function that returns rows of a view names the columns one by one.

    Its last SELECT, or one that follows RETURN QUERY, has neither a ``*`` nor a bare row in its target list.
    """
    try:
        found = tokens(routine.body)
    except Unreadable:
        return False
    starts = [i for i, token in enumerate(found) if token.says("SELECT") and token.depth == 0]
    if routine.language == "plpgsql":
        starts = [i for i in starts if found[i - 1].says("QUERY", "IN")]
    elif routine.language == "sql":
        starts = starts[-1:]
    return any(_explicit(found, i) for i in starts)


def _explicit(found: Sequence[Token], start: int) -> bool:
    outer = [token for token in found[start + 1 :] if token.depth == 0]
    end = next((i for i, token in enumerate(outer) if token.says("FROM", ";")), len(outer))
    return any(token.says(",") for token in outer[:end]) and not any(token.says("*") for token in outer[:end])


def _triggers(catalog: Catalog) -> Iterator[Finding]:
    for trigger in catalog.table.triggers if catalog.table else ():
        if trigger.enabled != "D":
            yield Finding(kind="trigger", text=f"trigger {trigger.name} of the site on {TABLE} stays; verification may fire it")


def unmasked_getters(catalog: Catalog) -> Iterator[Finding]:
    """Yield the engine's functions that hand password columns to filtered users (field failure L-05)."""
    for oid, relation in catalog.row_type_routines.items():
        routine = catalog.routines.get(oid)
        filtered = routine and relation == catalog.views["vds"].oid and "v_is_filtered" in routine.argument_names
        if routine and filtered and "fn_db_mask_object" not in routine.body:
            yield Finding(
                kind="unmasked",
                text=f"{routine.signature} tests permission and masks nothing: filtered users get every column, passwords too",
            )


_DYNAMIC = """
status cpu_cores cpu_model cpu_speed_mh if_total_speed kvm_enabled physical_mem_mb pending_vcpus_count pending_vmem_size
mem_commited vm_active vm_count vm_migrating vms_cores_count cpu_over_commit_time_stamp hypervisor_type net_config_dirty
high_utilization low_utilization max_vds_memory_over_commit cpu_over_commit_duration_minutes count_threads_as_cores
storage_pool_id storage_pool_name reserved_mem guest_overhead rpm_version software_version version_name build_name
previous_status cpu_idle cpu_load cpu_sys cpu_user usage_mem_percent usage_cpu_percent usage_network_percent mem_available
mem_shared swap_free swap_total ksm_cpu_percent ksm_pages ksm_state cpu_flags vds_group_cpu_name cpu_sockets vds_spm_id
otp_validity spm_status supported_cluster_levels supported_engines vds_group_compatibility_version host_os kvm_version
libvirt_version spice_version kernel_version iscsi_initiator_name transparent_hugepages_state anonymous_hugepages
non_operational_reason hw_manufacturer hw_product_name hw_version hw_serial_number hw_uuid hw_family cpu_threads hooks"""
_STATIC = """vds_group_id vds_group_name vds_group_description selection_algorithm vds_id vds_name ip vds_unique_id host_name
port vds_strength server_ssl_enabled vds_type pm_type pm_user pm_password pm_port pm_options pm_enabled pm_proxy_preferences
pm_secondary_ip pm_secondary_type pm_secondary_user pm_secondary_password pm_secondary_port pm_secondary_options
pm_secondary_concurrent"""
#: columns of the two views in any release we know (database facts §2.1, §2.2)
_ENGINE_VIEW_COLUMNS = {
    "vds": frozenset(f"{_STATIC} {_DYNAMIC} vds_spm_priority recoverable sshkeyfingerprint".split()),
    "vds_with_tags": frozenset(f"{_STATIC} {_DYNAMIC} tag_name tag_id storage_id".split()),
}
