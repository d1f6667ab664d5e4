"""Whole documents into the database and out of it: ``host import`` and ``host export``.

What lives here: reading, laying over, deciding what is new, writing in one transaction, and the report. What a field means is
:mod:`pmcompat.mapping`; how rows are written is :mod:`pmcompat.db.dao`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import BinaryIO, Literal, NamedTuple
from uuid import UUID, uuid4

from pmcompat.db.dao import VdsStaticDao, collector_paused
from pmcompat.db.dao_batches import Progress, Saving
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


class _Planned(NamedTuple):
    """One host of the document, decided; what it was read from is gone by then, or a large document would stay in memory."""

    line: int
    #: the id as the document has it
    given: str | None
    stored: Host | None
    host: Host
    notes: tuple[str, ...]
    cleared: tuple[str, ...]


#: hosts read, decided and written at once
_BATCH = 500

#: called with the reports of the hosts that lose an agent, before any stored host is changed
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

    :param progress: called with (done, total) written hosts; the total grows while the document is read.
    :param clearing: hears what will be removed before any stored host is changed.
    :raises DocumentError: the document is malformed or invalid (line, path).
    :raises ModelError: a value that no host may have; the host and its line are named.
    :raises ConfigurationError: a password and no cipher; no such profile or semantics.
    :raises SchemaError: a secondary agent, and the database was not upgraded; or there is no such cluster.
    """
    with collector_paused(), dao.conn.transaction(force_rollback=dry_run):
        return _Import(dao, profile, cluster, semantics, dry_run=dry_run, progress=progress, clearing=clearing).run(source)


class _Import:
    """One import. The document is read, laid over what is stored and written in batches, hand over hand.

    While the server stores new hosts, the next ones are decided and those after them read. Stored hosts are changed last, when
    all that they lose has been told.
    """

    def __init__(
        self,
        dao: VdsStaticDao,
        profile: str,
        cluster: str | None,
        semantics: str,
        *,
        dry_run: bool,
        progress: Progress | None,
        clearing: Clearing | None,
    ) -> None:
        self._dao, self._profile, self._semantics, self._dry_run = dao, profile, semantics, dry_run
        self._progress, self._clearing = None if dry_run else progress, clearing
        self._where = _Clusters(dao, cluster)
        self._planned: list[_Planned] = []
        #: hosts of the document so far: id and name → line
        self._ids: dict[UUID, int] = {}
        self._names: dict[str, int] = {}

    def run(self, source: BinaryIO | bytes) -> ImportReport:
        """Do it, inside the caller's transaction."""
        try:
            with self._dao.saving(self._progress) as saving:
                self._take(read_hosts(source, profile=self._profile), saving)
            losing = [_report(plan) for plan in self._planned if plan.cleared]
            if self._clearing and losing:
                self._clearing(losing)
            self._change(len(saving.saved))
        except ModelError as error:
            if line := self._names.get(str(error.operands.get("host"))):
                error.what = f"line {line}: {error.what}"
            raise
        return ImportReport(hosts=tuple(self._reports(saving.saved)), dry_run=self._dry_run)

    def _take(self, elements: Iterator[HostElement], saving: Saving) -> None:
        fresh: list[Host] = []
        while batch := list(islice(elements, _BATCH)):
            saving.settle()
            known = self._stored(batch)
            saving.add(fresh)
            plans = self._plan(batch, known)
            fresh = [plan.host for plan in plans if plan.stored is None]
            saving.total += len(fresh)
            self._planned += plans
        saving.add(fresh)

    def _stored(self, batch: Sequence[HostElement]) -> list[Host]:
        ids = [given for element in batch if (given := _given_id(element))]
        return self._dao.get_many(ids=ids, names=[element.name for element in batch if element.name], lock=True)

    def _plan(self, batch: Sequence[HostElement], known: Sequence[Host]) -> list[_Planned]:
        by_id, by_name = {host.id: host for host in known}, {host.name: host for host in known}
        plans = []
        for element in batch:
            given = _given_id(element)
            stored = (by_id.get(given) if given else None) or (by_name.get(element.name) if element.name else None)
            try:
                plans.append(self._plan_one(element, stored, given or uuid4()))
            except ModelError as error:
                error.what = f"line {element.line}: host {element.name or element.id or '?'}: {error.what}"
                error.state = error.state or "nothing was stored"
                raise
        return plans

    def _plan_one(self, element: HostElement, stored: Host | None, new_id: UUID) -> _Planned:
        cluster_id, notes = self._where.of(element, stored)
        laid = lay(element, stored, profile=self._profile, cluster_id=cluster_id, new_id=new_id, semantics=self._semantics)
        self._check_once(laid.host, element.line)
        laid, more = _storable(self._dao, laid)
        return _Planned(
            line=element.line,
            given=element.id,
            stored=stored,
            host=laid.host,
            notes=(*notes, *more, *laid.notes),
            cleared=laid.cleared,
        )

    def _check_once(self, host: Host, line: int) -> None:
        first = self._ids.get(host.id) or self._names.get(host.name)
        if first is not None:
            raise ModelError("the document holds this host twice", field="name", why=f"it stands on line {first} too")
        self._ids[host.id] = self._names[host.name] = line

    def _change(self, created: int) -> None:
        """Write the stored hosts that differ from what the document makes of them."""
        changed = [plan.host for plan in self._planned if plan.stored is not None and plan.host != plan.stored]
        tell = self._progress
        self._dao.update_many(changed, progress=tell and (lambda done, total: tell(created + done, created + total)))

    def _reports(self, saved: Sequence[Host]) -> Iterator[HostReport]:
        fresh = iter(saved)
        for plan in self._planned:
            new_id = next(fresh).id if plan.stored is None else None
            yield _report(plan, None if self._dry_run else new_id)


def _given_id(element: HostElement) -> UUID | None:
    """Return the id that the document gives, None where it gives none or one that the database cannot hold."""
    return UUID(element.id) if element.id and is_uuid(element.id) else None


class _Clusters:
    """Where hosts go: the cluster that was asked for, else the document's, else the oldest."""

    def __init__(self, dao: VdsStaticDao, wanted: str | None) -> None:
        self._clusters = dao.clusters()
        if not self._clusters:
            raise SchemaError("the database has no cluster", state="nothing was stored", fix="create one in the engine")
        self._by_id = {str(cluster.id): cluster.id for cluster in self._clusters}
        self._by_name = {cluster.name: cluster.id for cluster in reversed(self._clusters)}
        self._wanted = self._find(wanted, wanted) if wanted else None
        if wanted and self._wanted is None:
            raise SchemaError(
                f"there is no cluster {wanted!r}",
                state="nothing was stored",
                fix=f"give one of {', '.join(cluster.name for cluster in self._clusters[:10])}",
            )

    def _find(self, id_: str | None, name: str | None) -> UUID | None:
        return self._by_id.get((id_ or "").lower()) or self._by_name.get(name or "")

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
    return laid._replace(host=host), () if default else ("pm_proxies are not stored: this database has no column for them",)


def _report(plan: _Planned, host_id: UUID | None = None) -> HostReport:
    host, stored = plan.host, plan.stored
    action: Literal["created", "updated", "unchanged"] = (
        "created" if stored is None else "unchanged" if host == stored else "updated"
    )
    notes = plan.notes
    if stored is None and host_id is not None and plan.given and plan.given.lower() != str(host_id):
        why = "this database makes the ids itself" if is_uuid(plan.given) else "the document's is no UUID"
        notes = (*notes, f"it got the id {host_id}: {why}")
    return HostReport(
        name=host.name,
        action=action,
        id=host_id or (stored.id if stored else None),
        notes=notes,
        cleared=plan.cleared,
        line=plan.line,
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
