"""Whole documents into the database and out of it: ``host import`` and ``host export``.

What lives here: reading, laying over, deciding what is new, writing in one transaction, and the report. What a field means is
:mod:`pmcompat.mapping`; how rows are written is :mod:`pmcompat.db.dao`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Literal
from uuid import UUID, uuid4

from pmcompat.db.dao import Progress, VdsStaticDao, collector_paused
from pmcompat.db.rows import is_uuid
from pmcompat.documents.reading import read_hosts
from pmcompat.documents.values import Form, HostElement
from pmcompat.documents.writing import write_hosts
from pmcompat.errors import ModelError, SchemaError
from pmcompat.mapping import Change, Laid, changes, lay, to_element, unsaid
from pmcompat.model import Host


@dataclass(frozen=True, kw_only=True, slots=True)
class HostReport:
    """What became of one host of the document."""

    name: str
    action: Literal["created", "updated", "unchanged"]
    #: the host's id; of a host that is to be created on a dry run, None
    id: UUID | None
    notes: tuple[str, ...] = ()
    #: agents that the document, or with ``--semantics profile`` its release, removes
    cleared: tuple[str, ...] = ()
    line: int = 0
    _before: Host | None = field(default=None, repr=False, compare=False)
    _after: Host | None = field(default=None, repr=False, compare=False)

    @property
    def changes(self) -> tuple[Change, ...]:
        """Return the fields that differ; made when it is asked for, since thousands of new hosts are mostly counted."""
        return () if self.action == "unchanged" or self._after is None else changes(self._before, self._after)

    def as_json(self) -> dict[str, object]:
        """Return plain values; nothing secret in them."""
        return {
            "host": self.name,
            "id": None if self.id is None else str(self.id),
            "action": self.action,
            "changes": [{"field": c.field, "before": c.before, "after": c.after} for c in self.changes],
            "cleared": list(self.cleared),
            "notes": list(self.notes),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportReport:
    """What became of a document, host by host in its order."""

    hosts: tuple[HostReport, ...]
    dry_run: bool = False

    def count(self, action: str) -> int:
        """Return how many hosts were ``created``, ``updated`` or ``unchanged``."""
        return sum(host.action == action for host in self.hosts)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Planned:
    """One host of the document, decided."""

    element: HostElement
    stored: Host | None
    laid: Laid
    notes: tuple[str, ...]


#: called with the reports of the hosts that lose an agent, before anything is written
Clearing = Callable[[Sequence[HostReport]], None]


def import_hosts(
    dao: VdsStaticDao,
    source: BinaryIO | bytes,
    *,
    profile: str = "3.2",
    cluster: str | None = None,
    dry_run: bool = False,
    semantics: str = "keep",
    progress: Progress | None = None,
    clearing: Clearing | None = None,
) -> ImportReport:
    """Store the hosts of a ``<host>`` or ``<hosts>`` document, all or none of them, and report each.

    A host is found by id, else by name; one that is not there is created in *cluster* (id or name), else in the cluster the
    document names if it is there, else in the oldest one, in Maintenance.

    :param progress: called with (done, total) written hosts.
    :param clearing: hears what will be removed before anything is written.
    :raises DocumentError: the document is malformed or invalid (line, path).
    :raises ModelError: a value that no host may have; the host and its line are named.
    :raises ConfigurationError: a password and no cipher; no such profile or semantics.
    :raises SchemaError: a secondary agent, and the database was not upgraded; or there is no such cluster.
    """
    with collector_paused(), dao.conn.transaction(force_rollback=dry_run):
        elements = list(read_hosts(source, profile=profile))
        planned = _planned(dao, elements, profile=profile, cluster=cluster, semantics=semantics)
        if clearing and (losing := [report for report in map(_report, planned) if report.cleared]):
            clearing(losing)
        ids = _write(dao, planned, progress=None if dry_run else progress)
    return ImportReport(
        hosts=tuple(
            _report(plan, None if dry_run and plan.stored is None else stored_id)
            for plan, stored_id in zip(planned, ids, strict=True)
        ),
        dry_run=dry_run,
    )


def _planned(
    dao: VdsStaticDao, elements: Sequence[HostElement], *, profile: str, cluster: str | None, semantics: str
) -> list[_Planned]:
    ids = [UUID(element.id) for element in elements if element.id and is_uuid(element.id)]
    known = dao.get_many(ids=ids, names=[element.name for element in elements if element.name], lock=True)
    by_id, by_name = {host.id: host for host in known}, {host.name: host for host in known}
    where = _Clusters(dao, cluster)
    seen: dict[UUID, int] = {}
    names: dict[str, int] = {}
    planned = []
    for element in elements:
        given = UUID(element.id) if element.id and is_uuid(element.id) else None
        stored = (by_id.get(given) if given else None) or (by_name.get(element.name) if element.name else None)
        with _naming(element):
            cluster_id, notes = where.of(element, stored)
            laid = lay(element, stored, profile=profile, cluster_id=cluster_id, new_id=given or uuid4(), semantics=semantics)
            _check_once(laid.host, element.line, seen, names)
            laid, more = _storable(dao, laid)
        planned.append(_Planned(element=element, stored=stored, laid=laid, notes=(*notes, *more, *laid.notes)))
    return planned


class _naming:  # noqa: N801 - a context manager, used like a function
    """Put the host and its line before the message of an error about a value."""

    def __init__(self, element: HostElement) -> None:
        self._element = element

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, ModelError):
            element = self._element
            error.what = f"line {element.line}: host {element.name or element.id or '?'}: {error.what}"
            error.state = error.state or "nothing was stored"


def _check_once(host: Host, line: int, seen: dict[UUID, int], names: dict[str, int]) -> None:
    first = seen.setdefault(host.id, line) if host.id in seen else names.get(host.name)
    if first is not None:
        raise ModelError("the document holds this host twice", field="name", why=f"it stands on line {first} too")
    seen[host.id] = names[host.name] = line


class _Clusters:
    """Where hosts go: the cluster that was asked for, else the document's, else the oldest."""

    def __init__(self, dao: VdsStaticDao, wanted: str | None) -> None:
        self._clusters = dao.clusters()
        if not self._clusters:
            raise SchemaError("the database has no cluster", state="nothing was stored", fix="create one in the engine")
        self._wanted = self._find(wanted, wanted) if wanted else None
        if wanted and self._wanted is None:
            raise SchemaError(
                f"there is no cluster {wanted!r}",
                state="nothing was stored",
                fix=f"give one of {', '.join(cluster.name for cluster in self._clusters[:10])}",
            )

    def _find(self, id_: str | None, name: str | None) -> UUID | None:
        return next((c.id for c in self._clusters if str(c.id) == (id_ or "").lower() or c.name == name), None)

    def of(self, element: HostElement, stored: Host | None) -> tuple[UUID, tuple[str, ...]]:
        """Return the cluster of a host, and what is to be noted about it."""
        named = self._find(element.cluster_id, element.cluster_name)
        speaks = element.cluster_id is not None or element.cluster_name is not None
        if stored is not None:
            moved = named is not None and named != stored.cluster_id
            return stored.cluster_id, ("it stays in its cluster: an import moves no host",) if moved else ()
        if self._wanted is not None:
            return self._wanted, ()
        if named is not None:
            return named, ()
        first = self._clusters[0]
        return first.id, (f"the document's cluster is not here: created in {first.name}",) if speaks else ()


def _storable(dao: VdsStaticDao, laid: Laid) -> tuple[Laid, tuple[str, ...]]:
    """Return *laid* without the proxy preferences where the database has no column for them (3.1.0)."""
    pm = laid.host.power_management
    if dao.shape.has_proxies or pm.proxy_preferences is None:
        return laid, ()
    host = replace(laid.host, power_management=replace(pm, proxy_preferences=None))
    # what an engine without the column does anyway
    default = pm.proxy_preferences in {"", "cluster,dc"}
    return replace(laid, host=host), () if default else ("pm_proxies are not stored: this database has no column for them",)


def _write(dao: VdsStaticDao, planned: Sequence[_Planned], *, progress: Progress | None) -> list[UUID]:
    """Write what is new or changed and return every host's id, in order."""
    new = [plan.laid.host for plan in planned if plan.stored is None]
    changed = [plan.laid.host for plan in planned if plan.stored is not None and plan.laid.host != plan.stored]
    total = len(new) + len(changed)
    lines = {plan.laid.host.name: plan.element.line for plan in planned}
    try:
        saved = dao.save_many(new, progress=progress and (lambda done, _: progress(done, total)))
        dao.update_many(changed, progress=progress and (lambda done, _: progress(len(new) + done, total)))
    except ModelError as error:
        if line := lines.get(str(error.operands.get("host"))):
            error.what = f"line {line}: {error.what}"
        raise
    fresh = iter(saved)
    return [plan.stored.id if plan.stored is not None else next(fresh).id for plan in planned]


def _report(plan: _Planned, host_id: UUID | None = None) -> HostReport:
    host, stored = plan.laid.host, plan.stored
    action: Literal["created", "updated", "unchanged"] = (
        "created" if stored is None else "unchanged" if host == stored else "updated"
    )
    notes = plan.notes
    if stored is None and host_id is not None and plan.element.id and plan.element.id.lower() != str(host_id):
        notes = (*notes, f"it got the id {host_id}: this database makes the ids itself")
    return HostReport(
        name=host.name,
        action=action,
        id=host_id or (stored.id if stored else None),
        notes=notes,
        cleared=plan.laid.cleared,
        line=plan.element.line,
        _before=stored,
        _after=host,
    )


# ---------------------------------------------------------------------- out


#: called with a host and what its document does not say
Unsaid = Callable[[Host, tuple[str, ...]], None]


def export_hosts(
    hosts: Iterable[Host],
    *,
    form: Form | str = Form.AGENTS,
    profile: str = "3.2",
    single: bool = False,
    left_out: Unsaid | None = None,
) -> Iterator[bytes]:
    """Yield a document of *hosts* (:meth:`VdsStaticDao.each`), valid in *profile* and without any password (law X9).

    Memory does not grow with the number of hosts.

    :param single: a ``<host>`` document; exactly one host.
    :param left_out: hears what a document of this profile has no place for; importing the document back keeps it.
    :raises LossRefused: the form cannot hold what a host has: two agents in the flat form.
    :raises ConfigurationError: there is no such profile, or it has no such form.
    """

    def elements() -> Iterator[HostElement]:
        for host in hosts:
            if left_out and (missing := unsaid(host, profile=profile)):
                left_out(host, missing)
            yield to_element(host, profile=profile)

    return write_hosts(elements(), form=form, profile=profile, single=single)
