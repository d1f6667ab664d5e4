"""Hosts in and out of the engine's tables, through the engine's stored procedures.

What lives here: the two DAOs. Columns are named, never ``*``, so a site's own columns do no harm; what the live database has is
read from its catalog once per connection, so the 3.1.0 and 3.2-snapshot shapes, databases upgraded by pmcompat and those
upgraded by oVirt itself are all served. One query per call, however many hosts.

A DAO is as good as its connection: use both from one thread at a time. Hosts that were read may be shared freely.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from pmcompat.db import dao_write
from pmcompat.db.cipher import Cipher
from pmcompat.db.dao_batches import Missing, Progress, Saving, Updating
from pmcompat.db.dao_checks import Limits, check
from pmcompat.db.dao_errors import reporting
from pmcompat.db.rows import Row, Shape, differing, host_of, read_shape, values_of
from pmcompat.errors import ModelError, Overtaken, PmcompatError, SchemaError
from pmcompat.model import Host
from pmcompat.options import is_secret_option, parse, remove

#: hosts per statement: some 4 MB with long passwords
BATCH = 2000

_BY_NAME = attrgetter("name")
#: rows made into hosts at once
_AT_ONCE = 1000

_shapes: WeakKeyDictionary[psycopg.Connection[Any], dict[str, Shape]] = WeakKeyDictionary()


def shape_of_connection(conn: psycopg.Connection[Any], schema: str = "public") -> Shape:
    """Return what *conn*'s database has of what we use; read from the catalog once per connection.

    :raises SchemaError: it is not an engine's database.
    """
    known = _shapes.setdefault(conn, {})
    if schema not in known:
        with reporting():
            known[schema] = read_shape(conn, schema=schema)
    return known[schema]


def forget_shape(conn: psycopg.Connection[Any]) -> None:
    """Read the catalog again at the next use: for whoever upgrades a database on a connection that goes on being used."""
    _shapes.pop(conn, None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cluster:
    """A cluster (``vds_groups``) that hosts belong to."""

    id: UUID
    name: str


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keep the garbage collector from looking at new hosts again and again: it took 40 % of the time of large reads.

    They hold no cycle, and count as old when this ends, or the next look at what is young would find them all. Whoever switched
    the collector off keeps it off.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            if not gc.get_freeze_count():  # whoever froze something keeps it frozen
                gc.freeze()
                gc.unfreeze()
            gc.enable()


class _Reads:
    """What both DAOs share: a connection, a cipher, and rows that become hosts."""

    _view = False

    def __init__(self, conn: psycopg.Connection[Any], cipher: Cipher | None = None, *, schema: str = "public") -> None:
        self.conn = conn
        self.cipher = cipher
        self.schema = schema
        self._known_limits: Limits | None = None
        self._known_types: frozenset[str] | None = None

    @property
    def shape(self) -> Shape:
        """What the database has of what we use."""
        return shape_of_connection(self.conn, self.schema)

    def _named(self, name: str) -> sql.Identifier:
        return sql.Identifier(self.schema, name)

    @contextmanager
    def _searching(self) -> Iterator[None]:
        """Let the engine's functions find their tables in our schema: they name none, and another may have the same tables."""
        if self.shape.on_path:
            yield
            return
        with self.conn.transaction():
            before = self.conn.execute(
                "SELECT current_setting('search_path'), set_config('search_path', concat_ws(', ', quote_ident(%s), "
                "nullif(current_setting('search_path'), '')), true)",
                [self.schema],
            ).fetchone()
            yield
            self.conn.execute("SELECT set_config('search_path', %s, true)", before[:1] if before else [self.schema])

    def _read(self, source: sql.Composable, parameters: Sequence[object] = (), *, passwords: bool = True) -> list[Host]:
        """Return the hosts of *source*, by name: ten thousand names are sorted sooner here than as wide rows by the server."""
        query = sql.SQL("SELECT {} FROM {}").format(self.shape.selection(view=self._view, passwords=passwords), source)
        hosts, cipher = list[Host](), self.cipher
        with reporting(), self._searching(), self.conn.cursor(row_factory=tuple_row, binary=True) as cursor:
            cursor.execute(query, parameters)
            with collector_paused() if cursor.rowcount > BATCH else nullcontext():
                while rows := cursor.fetchmany(_AT_ONCE):  # a thousand rows stay in the processor's cache, all of them do not
                    hosts += [host_of(row, cipher) for row in rows]
                hosts.sort(key=_BY_NAME)
        return hosts

    def _got(self, getter: str, arguments: Mapping[str, object], *, passwords: bool = True) -> list[Host]:
        """Read through a getter of the engine, with its arguments by name."""
        given = sql.SQL(", ").join(sql.SQL("{} => %s").format(sql.Identifier(name)) for name in arguments)
        source = sql.SQL("{}({})").format(self._named(getter), given)
        return self._read(source, list(arguments.values()), passwords=passwords)


class VdsStaticDao(_Reads):
    """Hosts as ``vds_static`` holds them, read and written through the engine's procedures.

    :param conn: in autocommit or inside the caller's transaction: every method that writes is atomic either way.
    :param cipher: how new passwords are stored and stored ones are read; None: nothing can be stored.

    Passwords that are read stay as stored until ``reveal()`` and are written back unchanged.
    """

    def get(self, host_id: UUID) -> Host | None:
        """Return the host of this id, or None."""
        return next(iter(self._got("getvdsstaticbyvdsid", {"v_vds_id": host_id})), None)

    def get_by_name(self, name: str) -> Host | None:
        """Return the host of this name (``vds_name``), or None."""
        return next(iter(self._got("getvdsstaticbyvdsname", {"v_vds_name": name})), None)

    def get_by_ip(self, ip: str) -> list[Host]:
        """Return the hosts whose *primary agent* has this address: the column ``ip``, which is not unique."""
        return self._got("getvdsstaticbyip", {"v_ip": ip})

    def get_all(self) -> list[Host]:
        """Return every host, by name."""
        return self._got("getallfromvdsstatic", {})

    def get_all_for_cluster(self, cluster_id: UUID) -> list[Host]:
        """Return the hosts of a cluster, by name."""
        return self._got("getvdsstaticbyvdsgroupid", {"v_vds_group_id": cluster_id})

    def get_many(self, *, ids: Iterable[UUID] = (), names: Iterable[str] = (), lock: bool = False) -> list[Host]:
        """Return the hosts that have one of *ids* or one of *names*, by name.

        :param lock: nobody else can change them until the transaction ends.
        """
        source = sql.SQL("{} WHERE vds_id = ANY(%s) OR vds_name = ANY(%s)").format(self._named("vds_static"))
        if lock:
            source += sql.SQL(" ORDER BY vds_id FOR UPDATE")
        return self._read(source, [list(ids), list(names)])

    def each(self, *, names: Sequence[str] | None = None, batch: int = BATCH) -> Generator[Host, None, None]:
        """Yield every host, or those of *names*, by name; holds *batch* hosts in memory and a transaction open.

        Close it (``contextlib.closing``) where it is not read to the end.
        """
        source = sql.SQL("{} ORDER BY vds_name, vds_id").format(
            self._named("vds_static")
            if names is None
            else sql.SQL("{} WHERE vds_name = ANY(%s)").format(self._named("vds_static"))
        )
        query = sql.SQL("SELECT {} FROM {}").format(self.shape.selection(), source)
        with reporting(), self.conn.transaction(), self.conn.cursor("pmcompat_hosts", row_factory=tuple_row) as cursor:
            cursor.itersize = batch
            cursor.execute(query, [] if names is None else [list(names)])
            for row in cursor:
                yield host_of(row, self.cipher)

    def clusters(self) -> list[Cluster]:
        """Return the clusters, the oldest first."""
        query = sql.SQL("SELECT vds_group_id, name FROM {} ORDER BY _create_date, name, vds_group_id").format(
            self._named("vds_groups")
        )
        with reporting():
            return [Cluster(id=id_, name=name) for id_, name in self.conn.execute(query)]

    def save(self, host: Host) -> Host:
        """Store a new host and return it as stored; see :meth:`save_many`."""
        return self.save_many([host])[0]

    def save_many(self, hosts: Iterable[Host], *, progress: Progress | None = None) -> list[Host]:
        """Store new hosts in one transaction and return them with the ids they got.

        The 3.1.0 procedures make the id themselves and *host.id* is not used. A host without a status begins in Maintenance.

        :raises ModelError: a value no host may have, a name, address or unique id that is taken, a cluster that is not there.
        :raises ConfigurationError: there is a password and no cipher.
        :raises SchemaError: a secondary agent, and the database was not upgraded.
        """
        todo = list(hosts)
        with self.saving(progress) as saving:
            saving.total = len(todo)
            for batch in _batches(todo):
                saving.add(batch)
        return saving.saved

    @contextmanager
    def saving(self, progress: Progress | None = None) -> Iterator[Saving]:
        """Store new hosts batch by batch in one transaction, for whoever makes them meanwhile; errors as :meth:`save_many`."""
        with reporting(), self.conn.transaction(), self._searching():
            saving = Saving(self.conn, self.shape, self._checked, progress)
            try:
                yield saving
                saving.settle()
            except BaseException:
                saving.abandon()
                raise

    def update(self, host: Host, *, was: Host | None = None) -> None:
        """Write every column of *host*; see :meth:`update_many`."""
        self.update_many([host], was=None if was is None else [was])

    def update_many(
        self,
        hosts: Iterable[Host],
        *,
        was: Iterable[Host] | None = None,
        progress: Progress | None = None,
        directly: bool = False,
    ) -> None:
        """Write every column of *hosts* in one transaction, through UpdateVdsStatic.

        A host without a secondary agent has all seven of its columns cleared. ``status`` is never written (law F9).

        :param was: the same hosts as they were read: a row that changed since is reported and nothing is written.
        :param directly: one UPDATE per batch instead of the procedure, stamped like it: faster, and blind to what a site may
            have added to its procedure.
        :raises Overtaken: a row changed since *was* was read.
        :raises ModelError: a host that is not there, or a value no host may have.
        :raises ConfigurationError: there is a new password and no cipher.
        :raises SchemaError: a secondary agent, and the database was not upgraded.
        """
        todo = list(hosts)
        read = {host.id: host for host in was} if was is not None else None
        with reporting(), self.conn.transaction(), self._searching():
            updating = Updating(len(todo), progress)
            try:
                for batch in _batches(todo):
                    current: dict[UUID, Row] = {}
                    if read is not None:
                        updating.settle()
                        current = self._locked(batch)
                        self._check_unchanged(batch, read, current)
                    rows = self._checked(batch, current, updating.settle)
                    updating.settle()
                    updating.begin(batch, dao_write.update(self.conn, self.shape, rows, directly=directly))
                updating.settle()
            except Missing as missing:
                self._locked(missing.batch)  # names the one that is not there, or was given twice
                raise ModelError("a host was given twice", field="id", state="nothing was stored") from None
            finally:
                updating.abandon()

    def remove(self, host_id: UUID) -> bool:
        """Remove a host through the engine's procedures; return whether it was there.

        :raises Refused: other rows (virtual machines) still refer to it.
        """
        with reporting(), self.conn.transaction(), self._searching():
            return dao_write.delete(self.conn, self.shape, host_id)

    def _locked(self, batch: Sequence[Host]) -> dict[UUID, Row]:
        """Lock the rows of *batch* in order of id and return them.

        :raises ModelError: one is not there: UpdateVdsStatic would say nothing.
        """
        found = self._present(batch)
        for host in batch:
            if host.id not in found:
                raise _absent(host)
        return found

    def _present(self, batch: Sequence[Host]) -> dict[UUID, Row]:
        query = sql.SQL("SELECT {} FROM {} WHERE vds_id = ANY(%s) ORDER BY vds_id FOR UPDATE").format(
            self.shape.selection(), self._named("vds_static")
        )
        with self.conn.cursor(row_factory=tuple_row) as cursor:
            return {row[0]: row for row in cursor.execute(query, [[host.id for host in batch]])}

    def _check_unchanged(self, batch: Sequence[Host], read: Mapping[UUID, Host], current: Mapping[UUID, Row]) -> None:
        for host in batch:
            if host.id not in read:
                raise ModelError(f"host {host.name} is not among those that were read", field="id", state="nothing was stored")
            fields = differing(current[host.id], values_of(read[host.id], self.cipher))
            if fields:
                raise Overtaken(
                    f"host {host.name} changed since it was read: {', '.join(fields)}",
                    fields=fields,
                    state="nothing was stored",
                    fix="read it again and repeat the change",
                )

    def _checked(
        self, batch: Sequence[Host], current: dict[UUID, Row] | None, before_asking: Callable[[], None] | None = None
    ) -> list[Row]:
        """Return the rows of *batch*; only what differs from the stored rows has to be a value that a host may have.

        :param current: stored rows that were read already, or room for them; None: the hosts are new.
        :param before_asking: called before the database is asked about a host that is not plainly in order.
        :raises ModelError: the field is named, and the host.
        """
        limits, cipher, rows = self._limits, self.cipher, []
        self._known_types = None
        for host in batch:
            try:
                row = values_of(host, cipher)
                if not limits.allow(row):
                    if before_asking:
                        before_asking()
                    self._check_closely(host, row, current, batch)
            except PmcompatError as error:
                error.what = f"host {host.name}: {error.what}"
                error.operands["host"] = host.name
                raise
            rows.append(row)
        return rows

    def _check_closely(self, host: Host, row: Row, current: dict[UUID, Row] | None, batch: Sequence[Host]) -> None:
        try:
            check(row, self.shape, own_type=self._own_type)
        except (ModelError, SchemaError):
            if current is None:
                raise
            if not current:
                current.update(self._present(batch))
            if host.id not in current:
                raise _absent(host) from None
            check(row, self.shape, was=current[host.id], own_type=self._own_type)

    @property
    def _limits(self) -> Limits:
        shape = self.shape
        if self._known_limits is None or self._known_limits.shape is not shape:
            self._known_limits = Limits(shape)
        return self._known_limits

    def _own_type(self, name: str) -> bool:
        """Tell whether a type is in the engine's own lists, a site's custom ones included (field failure B-77)."""
        if self._known_types is None:
            query = sql.SQL(
                "SELECT option_value FROM {} WHERE option_name IN ('VdsFenceType', 'CustomVdsFenceType', 'FenceAgentMapping', "
                "'CustomFenceAgentMapping')"
            ).format(self._named("vdc_options"))
            texts = (text for (text,) in self.conn.execute(query))
            self._known_types = frozenset(word.split("=")[0].strip() for text in texts for word in text.split(","))
        return name in self._known_types


class VdsDao(_Reads):
    """Hosts as the view ``vds`` shows them: with status and the cluster's name. Reads only.

    With *user_id* the engine's own filter applies, no password column is even selected (two of the engine's getters would show
    them, database facts §15.4), and options whose values are secrets are left out.
    """

    _view = True

    def get(self, host_id: UUID, *, user_id: UUID | None = None) -> Host | None:
        """Return the host of this id, or None where there is none or the user may not see it."""
        return next(iter(self._seen("getvdsbyvdsid", {"v_vds_id": host_id}, user_id)), None)

    def get_by_name(self, name: str) -> Host | None:
        """Return the host of this name, or None."""
        return next(iter(self._got("getvdsbyname", {"v_vds_name": name})), None)

    def get_all(self, *, user_id: UUID | None = None) -> list[Host]:
        """Return every host, or those that the user may see, by name."""
        return self._seen("getallfromvds", {}, user_id)

    def get_all_for_cluster(self, cluster_id: UUID, *, user_id: UUID | None = None) -> list[Host]:
        """Return the hosts of a cluster, or those of them that the user may see, by name."""
        return self._seen("getvdsbyvdsgroupid", {"v_vds_group_id": cluster_id}, user_id)

    def get_all_with_power_management(self) -> list[Host]:
        """Return the hosts whose power management is enabled, by name."""
        source = sql.SQL("{} WHERE pm_enabled").format(self._named("vds"))
        return _once(self._read(source))

    def get_many(self, names: Iterable[str]) -> list[Host]:
        """Return the hosts of *names*, by name; a name that is not there is left out."""
        source = sql.SQL("{} WHERE vds_name = ANY(%s)").format(self._named("vds"))
        return _once(self._read(source, [list(names)]))

    def _seen(self, getter: str, arguments: Mapping[str, object], user_id: UUID | None) -> list[Host]:
        given = {**arguments, "v_user_id": user_id, "v_is_filtered": user_id is not None}
        hosts = _once(self._got(getter, given, passwords=user_id is None))
        return hosts if user_id is None else [_without_secrets(host) for host in hosts]


def _without_secrets(host: Host) -> Host:
    """Return *host* without the options whose values are secrets; its passwords were never read."""
    pm = host.power_management
    agents = tuple(
        replace(agent, options=agent.options and remove(agent.options, *_secret_names(agent.options.text)))
        for agent in pm.agents
    )
    return replace(host, power_management=replace(pm, agents=agents))


def _secret_names(text: str) -> list[str]:
    return [name for name, _ in parse(text) if is_secret_option(name)]


def _absent(host: Host) -> ModelError:
    return ModelError(f"there is no host {host.name} with the id {host.id}", field="id", state="nothing was stored")


def _once(hosts: Iterable[Host]) -> list[Host]:
    """Return each host once: the view shows a host twice that is mapped in two pools (database facts §1.6)."""
    return list({host.id: host for host in hosts}.values())


def _batches(hosts: Sequence[Host]) -> Iterator[Sequence[Host]]:
    for start in range(0, len(hosts), BATCH):
        yield hosts[start : start + BATCH]
