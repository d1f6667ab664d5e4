"""What a live engine database is, as one value.

What lives here: the frozen values that :mod:`pmcompat.db.catalog.read` fills and :mod:`pmcompat.db.plan` decides from,
and the table of what the change is about (database facts §8). No SQL, no connection, no decision.

Names are compared exactly and within one schema, never by pattern (field failure L-04).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from types import MappingProxyType

#: the schema of everything that is pmcompat's own (law D8)
OWN_SCHEMA = "pmcompat"


@dataclass(frozen=True, kw_only=True, slots=True)
class SecondaryColumn:
    """One of the seven columns, and the parameter of the same name that carries it."""

    name: str
    #: as ``format_type`` prints it
    type: str
    default: str | None = None
    #: the parameter's type: lengths do not exist there
    parameter_type: str
    #: SQL literal that stands for "left at its default" in UpdateVdsStatic; no such value can be meant
    unset: str

    @property
    def parameter(self) -> str:
        """Return the name of the procedures' parameter."""
        return f"v_{self.name}"


#: law D4: text no address, type or user name can be, and documented as reserved for passwords and options
NOT_GIVEN = "(not given)"
_TEXT = f"'{NOT_GIVEN}'"

#: database facts §8.1, in this order
SECONDARY = (
    SecondaryColumn(name="pm_secondary_ip", type="character varying(255)", parameter_type="character varying", unset=_TEXT),
    SecondaryColumn(name="pm_secondary_type", type="character varying(20)", parameter_type="character varying", unset=_TEXT),
    SecondaryColumn(name="pm_secondary_user", type="character varying(50)", parameter_type="character varying", unset=_TEXT),
    SecondaryColumn(name="pm_secondary_password", type="text", parameter_type="text", unset=_TEXT),
    SecondaryColumn(name="pm_secondary_port", type="integer", parameter_type="integer", unset="'-2147483648'"),
    SecondaryColumn(
        name="pm_secondary_options", type="character varying(4000)", parameter_type="character varying", unset=_TEXT
    ),
    SecondaryColumn(name="pm_secondary_concurrent", type="boolean", default="false", parameter_type="boolean", unset="NULL"),
)
SECONDARY_NAMES = tuple(column.name for column in SECONDARY)
ADDRESS = SECONDARY_NAMES[0]

TABLE = "vds_static"
#: view → the columns it gains (database facts §8.2)
VIEWS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "dwh_host_configuration_full_check_view": (ADDRESS,),
        "dwh_host_configuration_history_view": (ADDRESS,),
        "vds": SECONDARY_NAMES,
        "vds_with_tags": SECONDARY_NAMES,
    }
)
#: the two that make an engine database; the reporting views may be missing where reports were never installed
CORE_VIEWS = ("vds", "vds_with_tags")
#: catalog name → the name as upstream writes it
PROCEDURES: Mapping[str, str] = MappingProxyType(
    {"insertvds": "InsertVds", "insertvdsstatic": "InsertVdsStatic", "updatevdsstatic": "UpdateVdsStatic"}
)
WHITE_LIST_TABLES = ("object_column_white_list", "object_column_white_list_sql")
OPTIONS_TABLE = "vdc_options"
#: no password of either agent is ever listed (field failure B-112)
PASSWORDS = ("pm_password", "pm_secondary_password")
LISTED = tuple(name for name in SECONDARY_NAMES if name not in PASSWORDS)


@dataclass(frozen=True, kw_only=True, slots=True)
class FenceDefault:
    """One option of a pair that multiplies to a waiting time (database facts §6.1)."""

    name: str
    old: str
    new: str


#: operation → (delay in seconds, retries); both or neither change (law D3)
FENCE_PAIRS: Mapping[str, tuple[FenceDefault, FenceDefault]] = MappingProxyType(
    {
        "start": (
            FenceDefault(name="FenceStartStatusDelayBetweenRetriesInSec", old="60", new="10"),
            FenceDefault(name="FenceStartStatusRetries", old="3", new="18"),
        ),
        "stop": (
            FenceDefault(name="FenceStopStatusDelayBetweenRetriesInSec", old="60", new="10"),
            FenceDefault(name="FenceStopStatusRetries", old="3", new="18"),
        ),
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """One privilege somebody was given; *grantee* is empty for PUBLIC."""

    grantor: str
    grantee: str
    privilege: str
    grantable: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column of a table or view; *number* is its place in the catalog, gaps included."""

    name: str
    number: int
    type: str
    collation: str = ""
    not_null: bool = False
    default: str | None = None
    comment: str | None = None
    grants: tuple[Grant, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A trigger, rule or index that lives and dies with a relation; *enabled* is the server's letter (``O`` = normal)."""

    name: str
    definition: str
    enabled: str = "O"
    comment: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Relation:
    """A table (kind ``r``, ``p``), view (``v``) or materialised view (``m``)."""

    oid: int
    schema: str
    name: str
    kind: str
    owner: str
    definition: str = ""
    options: tuple[str, ...] = ()
    comment: str | None = None
    populated: bool = True
    grants: tuple[Grant, ...] = ()
    #: nobody ever granted or revoked anything
    default_grants: bool = True
    columns: tuple[Column, ...] = ()
    triggers: tuple[Part, ...] = ()
    rules: tuple[Part, ...] = ()
    indexes: tuple[Part, ...] = ()
    #: what makes it impossible to put back exactly
    peculiar: tuple[str, ...] = ()

    def column(self, name: str) -> Column | None:
        """Return the column of this name, or None."""
        return next((column for column in self.columns if column.name == name), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Routine:
    """A function or procedure."""

    oid: int
    schema: str
    name: str
    kind: str
    language: str
    #: ``schema.name(types)``, quoted: what DROP FUNCTION wants
    signature: str
    #: the argument list with names, modes and defaults
    arguments: str
    argument_names: tuple[str, ...] = ()
    defaults: int = 0
    returns: str = ""
    #: the whole CREATE OR REPLACE statement
    definition: str = ""
    body: str = ""
    #: its body is SQL-standard (``BEGIN ATOMIC``): parsed when it was created
    parsed_body: bool = False
    owner: str
    comment: str | None = None
    grants: tuple[Grant, ...] = ()
    default_grants: bool = True
    peculiar: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Dependant:
    """One step of the dependency graph: object *oid* of *catalog* needs object *on*."""

    oid: int
    catalog: str
    on: int
    #: the relation it is a part of (a trigger, rule, index or default), else None
    within: int | None
    description: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnUser:
    """Something that uses one of the new columns of *relation*."""

    oid: int
    description: str
    relation: str
    column: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """One row of ``vdc_options``."""

    id: int
    name: str
    value: str
    version: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangedOption:
    """One row of ``vdc_options`` an earlier upgrade changed or, where *inserted*, made."""

    id: int
    name: str
    value: str
    version: str
    inserted: bool
    new_value: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """One entry of ``object_column_white_list``."""

    object: str
    column: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CachedSql:
    """One row of ``object_column_white_list_sql``: SQL text made from a view's columns, stale once they change."""

    object: str
    sql: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """Another session on the database: what it prepared over ``vds`` goes stale (database facts §9.4)."""

    pid: int
    user: str | None
    application: str
    address: str
    since: datetime | str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class AppliedScript:
    """One line of our bookkeeping; *sha256* is of the file's content when it was applied."""

    id: str
    applied_at: str
    sha256: str | None
    by: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ArchivedAgent:
    """A secondary agent a rollback took out of ``vds_static`` and kept; without its secrets."""

    vds_id: str
    vds_name: str
    address: str | None
    archived_at: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """The newest row of the engine's own ``schema_version``. It cannot tell a shape (database facts §1.9)."""

    id: int
    version: str
    script: str
    rows: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """The session and the server behind it."""

    database: str
    user: str
    superuser: bool
    #: e.g. 150018
    server_version: int
    server: str
    #: milliseconds
    deadlock_timeout: int
    may_create_schema: bool
    read_only: bool
    #: owner of schema pmcompat; None where there is none
    own_schema_owner: str | None
    own_schema_readable: bool | None
    #: roles that ALTER DEFAULT PRIVILEGES gives something on new objects; '' is PUBLIC
    default_grantees: tuple[str, ...] = ()
    has_default_grants: bool = False
    sessions: tuple[Session, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """Everything the plan decides from. Read at one moment; the upgrade checks a fingerprint once it holds the locks."""

    schema: str
    server: Server
    table: Relation | None = None
    #: by name; a view that does not exist is absent
    views: Mapping[str, Relation] = field(default_factory=dict)
    #: by catalog name; several where a site made an overload
    procedures: Mapping[str, tuple[Routine, ...]] = field(default_factory=dict)
    #: dependants of the four views, the table and the procedures, one entry per edge
    dependants: tuple[Dependant, ...] = ()
    relations: Mapping[int, Relation] = field(default_factory=dict)
    routines: Mapping[int, Routine] = field(default_factory=dict)
    #: routine oid → oid of the relation whose rows it returns
    row_type_routines: Mapping[int, int] = field(default_factory=dict)
    #: routines whose text mentions a new column
    mentioning: tuple[int, ...] = ()
    column_users: tuple[ColumnUser, ...] = ()
    composite_users: tuple[str, ...] = ()
    #: views that read vds_static directly
    reading_views: tuple[int, ...] = ()
    #: role → the session may act as it
    roles: Mapping[str, bool] = field(default_factory=dict)
    #: roles that may create objects in the engine's schema
    creators: tuple[str, ...] = ()
    #: None where the table is missing or this role may not read it
    options: tuple[Option, ...] | None = None
    #: the sequence option_id comes from, as SQL names it
    option_sequence: str = ""
    white_list: tuple[Listed, ...] | None = None
    white_list_cache: tuple[CachedSql, ...] | None = None
    #: engine tables that do not exist / that this role cannot read
    missing: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    release: Release | None = None
    #: our bookkeeping's tables exist (the schema may stand without them)
    bookkeeping: bool = False
    #: our bookkeeping; None where it cannot be read
    applied: tuple[AppliedScript, ...] | None = ()
    changed_options: tuple[ChangedOption, ...] = ()
    #: what was recorded before the last upgrade: the catalog value as JSON
    before: Mapping[str, object] | None = None
    archived: tuple[ArchivedAgent, ...] = ()
    #: object → hash of the whole of it, and of what an upgrade keeps (see ``sql/parts/fingerprint.sql.j2``)
    fingerprint: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    #: estimated hosts and bytes of vds_static
    hosts: int = 0
    bytes: int = 0

    @property
    def target_views(self) -> tuple[Relation, ...]:
        """Return the views of the change that exist, by name."""
        return tuple(self.views[name] for name in VIEWS if name in self.views)

    @cached_property
    def applied_ids(self) -> frozenset[str]:
        """Return the ids of the scripts our bookkeeping calls applied."""
        return frozenset(script.id for script in self.applied or ())

    def thing(self, oid: int) -> Relation | Routine | None:
        """Return the relation or routine of this oid that was read, or None."""
        return self.relations.get(oid) or self.routines.get(oid)

    def targets(self) -> tuple[Relation | Routine, ...]:
        """Return everything the upgrade replaces or changes: the table, the views, the procedures."""
        relations = tuple(relation for relation in (self.table, *self.target_views) if relation)
        return (*relations, *(routine for routines in self.procedures.values() for routine in routines))

    def owners(self) -> Iterable[str]:
        """Yield the owner of everything the upgrade replaces."""
        yield from (thing.owner for thing in self.targets())
