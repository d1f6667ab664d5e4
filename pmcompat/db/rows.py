"""Rows of ``vds_static`` and ``vds`` as values, and back: which column is which field, in one table.

What lives here: column names, the shape of the live table (which of them it has, how wide they are), and the two functions
between a row and a :class:`~pmcompat.model.Host`. No statement is executed here but the one that reads the shape.

**What survives.** A row read and written back is the same row, column by column, NULL and '' told apart (field failure L-15):

* the primary agent is there as soon as one of ``ip``, ``pm_type``, ``pm_user``, ``pm_password``, ``pm_port`` is not NULL, or
  ``pm_options`` is not ''; that column cannot be NULL, so the primary's options read as a (perhaps empty) text, never None;
* the secondary agent is there as soon as one of its six columns is not NULL; ``pm_secondary_concurrent`` belongs to the pair:
  NULL reads as false, the one difference that may be gone after writing (pmcompat's own UpdateVdsStatic stores false, law D4);
* passwords stay the stored texts (:class:`~pmcompat.db.cipher.StoredSecret`).

An agent of which nothing is set is no agent: it is written as NULLs and read back as absent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import zip_longest
from typing import Any, Final

import psycopg
from psycopg import sql

from pmcompat.db.cipher import NO_CIPHER, Cipher, StoredSecret
from pmcompat.errors import ModelError, SchemaError
from pmcompat.model import PRIMARY, SECONDARY, Agent, Host, HostStatus, Options, PowerManagement, Secret

#: column → type, in the order :func:`host_of` takes and :func:`values_of` gives
COLUMNS: Final[Mapping[str, str]] = {
    "vds_id": "uuid",
    "vds_name": "text",
    "ip": "text",
    "vds_unique_id": "text",
    "host_name": "text",
    "port": "integer",
    "vds_group_id": "uuid",
    "server_ssl_enabled": "boolean",
    "vds_type": "integer",
    "vds_strength": "integer",
    "pm_type": "text",
    "pm_user": "text",
    "pm_password": "text",
    "pm_port": "integer",
    "pm_options": "text",
    "pm_enabled": "boolean",
    "otp_validity": "bigint",
    "vds_spm_priority": "integer",
    "recoverable": "boolean",
    "sshkeyfingerprint": "text",
    "pm_proxy_preferences": "text",
    "pm_secondary_ip": "text",
    "pm_secondary_type": "text",
    "pm_secondary_user": "text",
    "pm_secondary_password": "text",
    "pm_secondary_port": "integer",
    "pm_secondary_options": "text",
    "pm_secondary_concurrent": "boolean",
}
#: what the upgrade adds
SEVEN: Final = tuple(name for name in COLUMNS if name.startswith("pm_secondary_"))
PASSWORDS: Final = ("pm_password", "pm_secondary_password")
#: what the view adds to the table
VIEW_COLUMNS: Final = ("status", "vds_group_name")

#: column → the field a message names
FIELDS: Final[Mapping[str, str]] = {
    "vds_id": "id",
    "vds_name": "name",
    "ip": "primary.address",
    "vds_unique_id": "unique_id",
    "host_name": "address",
    "port": "port",
    "vds_group_id": "cluster_id",
    "server_ssl_enabled": "ssl_enabled",
    "vds_type": "type",
    "vds_strength": "strength",
    "pm_type": "primary.type",
    "pm_user": "primary.username",
    "pm_password": "primary.password",
    "pm_port": "primary.ip_port",
    "pm_options": "primary.options",
    "pm_enabled": "power_management.enabled",
    "otp_validity": "otp_validity",
    "vds_spm_priority": "spm_priority",
    "recoverable": "recoverable",
    "sshkeyfingerprint": "ssh_key_fingerprint",
    "pm_proxy_preferences": "power_management.proxy_preferences",
    "pm_secondary_ip": "secondary.address",
    "pm_secondary_type": "secondary.type",
    "pm_secondary_user": "secondary.username",
    "pm_secondary_password": "secondary.password",
    "pm_secondary_port": "secondary.ip_port",
    "pm_secondary_options": "secondary.options",
    "pm_secondary_concurrent": "power_management.concurrent",
}
NAMES: Final = tuple(COLUMNS)
INDEX: Final[Mapping[str, int]] = {name: i for i, name in enumerate(NAMES)}

Row = tuple[Any, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Procedure:
    """A stored procedure as the catalog knows it."""

    #: names of the parameters a caller gives
    parameters: frozenset[str]
    #: False for ``void``; the 3.1.0 inserting procedures make the id and return it
    returns_id: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """What the live database has of what we use; read once per connection, from the catalog and never from versions."""

    schema: str
    columns: frozenset[str]
    view_columns: frozenset[str]
    #: characters a varchar column of the table holds
    widths: Mapping[str, int]
    procedures: Mapping[str, Procedure]
    #: whether a table that is named without a schema is the one of ours
    on_path: bool = True

    @property
    def has_secondary(self) -> bool:
        """Whether the table has all seven columns of the secondary agent."""
        return self.columns.issuperset(SEVEN)

    @property
    def has_proxies(self) -> bool:
        """Whether the proxy preferences can be stored; the 3.1.0 shape has no column for them."""
        return "pm_proxy_preferences" in self.columns

    def selection(self, *, view: bool = False, passwords: bool = True) -> sql.Composed:
        """Return the select list in the order of :func:`host_of`; a column that is not there reads as NULL."""
        present = self.view_columns if view else self.columns
        names = [name for name in NAMES if name in present and (passwords or name not in PASSWORDS)]
        shown = set(names) if set(SEVEN) <= present else set(names) - set(SEVEN)
        parts = [
            sql.Identifier(name) if name in shown else sql.SQL("NULL::{} AS {}").format(sql.SQL(type_), sql.Identifier(name))
            for name, type_ in COLUMNS.items()
        ]
        if view:
            parts += [sql.Identifier(name) for name in VIEW_COLUMNS]
        return sql.SQL(", ").join(parts)


_COLUMNS_QUERY = """
SELECT c.relname, a.attname, CASE WHEN t.typname = 'varchar' AND a.atttypmod > 4 THEN a.atttypmod - 4 END
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE n.nspname = %s AND c.relname IN ('vds_static', 'vds')
"""

_PROCEDURES_QUERY = """
SELECT p.proname, coalesce(p.proargnames, '{}'), coalesce(p.proargmodes::text[], '{}'), p.prorettype = 'uuid'::regtype
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = %s AND p.proname ~ '^(insert|update|delete|get|getallfrom|fn_)[a-z_]*vds'
ORDER BY p.proname, p.pronargs
"""


# to_regclass of an empty search path's name is NULL
_ON_PATH_QUERY = "SELECT coalesce(to_regclass('vds_static') = to_regclass(quote_ident(%s) || '.vds_static'), false)"


def read_shape(conn: psycopg.Connection[Any], *, schema: str = "public") -> Shape:
    """Return what the database has of what we use: three queries of the catalog.

    :raises SchemaError: there is no ``vds_static``: not an engine's database.
    """
    columns: dict[str, set[str]] = {"vds_static": set(), "vds": set()}
    widths: dict[str, int] = {}
    for relation, column, width in conn.execute(_COLUMNS_QUERY, [schema]):
        columns[relation].add(column)
        if relation == "vds_static" and width is not None:
            widths[column] = width
    if not columns["vds_static"]:
        raise SchemaError(
            f"this is not an engine's database: schema {schema} has no table vds_static",
            state="nothing was done",
            fix="check --dsn and --schema",
        )
    optional = {"sshkeyfingerprint", "pm_proxy_preferences", *SEVEN}
    missing = sorted(set(NAMES) - optional - columns["vds_static"])
    if missing:
        raise SchemaError(f"vds_static lacks columns that every engine has: {', '.join(missing)}", state="nothing was done")
    found = conn.execute(_ON_PATH_QUERY, [schema]).fetchone()
    return Shape(
        schema=schema,
        columns=frozenset(columns["vds_static"]),
        view_columns=frozenset(columns["vds"]),
        widths=widths,
        procedures=_read_procedures(conn, schema),
        on_path=bool(found and found[0]),
    )


def _read_procedures(conn: psycopg.Connection[Any], schema: str) -> dict[str, Procedure]:
    found: dict[str, Procedure] = {}
    for name, names, modes, returns_id in conn.execute(_PROCEDURES_QUERY, [schema]):
        given = [n for n, mode in zip_longest(names, modes, fillvalue="i") if mode in "ib"]
        # of several overloads the widest counts: we call by name and give what it asks for
        found[name] = Procedure(parameters=frozenset(given), returns_id=returns_id)
    return found


def _setters(cls: type[Any], *names: str) -> Iterator[Callable[[object, object], None]]:
    """Yield what sets each field of a frozen value that is being made; *names* are all of its fields."""
    assert {field.name for field in fields(cls)} == set(names), cls  # noqa: S101 - a new field must be thought of here
    return (getattr(cls, name).__set__ for name in names)


# The constructor of a frozen value looks every field up by name; reading thousands of hosts spends most of its time there.
# Filling the slots directly makes the same values in less than half the time.
_new = object.__new__
(_options_text,) = _setters(Options, "text")
_secret_stored, _secret_cipher = (getattr(StoredSecret, name).__set__ for name in ("_stored", "_cipher"))
_agent_type, _agent_address, _agent_username, _agent_password, _agent_ip_port, _agent_options, _agent_order = _setters(
    Agent, "type", "address", "username", "password", "ip_port", "options", "order"
)
_pm_enabled, _pm_agents, _pm_concurrent, _pm_proxies = _setters(
    PowerManagement, "enabled", "agents", "concurrent", "proxy_preferences"
)
(
    _host_id, _host_name, _host_address, _host_cluster_id, _host_pm, _host_unique_id, _host_port, _host_ssl, _host_type,
    _host_strength, _host_otp, _host_spm, _host_recoverable, _host_fingerprint, _host_status, _host_cluster_name,
) = _setters(
    Host, "id", "name", "address", "cluster_id", "power_management", "unique_id", "port", "ssl_enabled", "type",
    "strength", "otp_validity", "spm_priority", "recoverable", "ssh_key_fingerprint", "status", "cluster_name",
)  # fmt: skip


def _agent(
    type_: Any, address: Any, username: Any, password: Any, ip_port: Any, options: Any, order: int, cipher: Any
) -> Agent:
    agent: Agent = _new(Agent)
    _agent_type(agent, type_)
    _agent_address(agent, address)
    _agent_username(agent, username)
    if password is None:
        _agent_password(agent, None)
    else:
        secret: StoredSecret = _new(StoredSecret)
        _secret_stored(secret, password)
        _secret_cipher(secret, cipher)
        _agent_password(agent, secret)
    _agent_ip_port(agent, ip_port)
    if options is None:
        _agent_options(agent, None)
    else:
        kept: Options = _new(Options)
        _options_text(kept, options)
        _agent_options(agent, kept)
    _agent_order(agent, order)
    return agent


def host_of(row: Sequence[Any], cipher: Cipher | None) -> Host:
    """Return the host of a row selected by :meth:`Shape.selection`; passwords are decrypted when they are revealed."""
    (
        vds_id, name, ip, unique_id, address, port, cluster_id, ssl_enabled, type_, strength,
        pm_type, pm_user, pm_password, pm_port, pm_options, pm_enabled,
        otp_validity, spm_priority, recoverable, fingerprint, proxies,
        ip2, type2, user2, password2, port2, options2, concurrent, *seen,
    ) = row  # fmt: skip
    agents: tuple[Agent, ...] = ()
    if not (ip is None and pm_type is None and pm_user is None and pm_password is None and pm_port is None and not pm_options):
        agents = (_agent(pm_type, ip, pm_user, pm_password, pm_port, pm_options, PRIMARY, cipher),)
    if not (ip2 is None and type2 is None and user2 is None and password2 is None and port2 is None and options2 is None):
        agents += (_agent(type2, ip2, user2, password2, port2, options2, SECONDARY, cipher),)
    pm: PowerManagement = _new(PowerManagement)
    _pm_enabled(pm, pm_enabled)
    _pm_agents(pm, agents)
    _pm_concurrent(pm, bool(concurrent))
    _pm_proxies(pm, proxies)
    status, cluster_name = seen or (None, None)
    host: Host = _new(Host)
    _host_id(host, vds_id)
    _host_name(host, name)
    _host_address(host, address)
    _host_cluster_id(host, cluster_id)
    _host_pm(host, pm)
    _host_unique_id(host, unique_id)
    _host_port(host, port)
    _host_ssl(host, ssl_enabled)
    _host_type(host, type_)
    _host_strength(host, strength)
    _host_otp(host, otp_validity)
    _host_spm(host, spm_priority)
    _host_recoverable(host, recoverable)
    _host_fingerprint(host, fingerprint)
    _host_status(host, status if status is None else _STATUSES.get(status, status))
    _host_cluster_name(host, cluster_name)
    return host


_STATUSES: Final[Mapping[int, HostStatus]] = {status.value: status for status in HostStatus}
_NOBODY: Final = Agent()


def two_agents(pm: PowerManagement) -> tuple[Agent | None, Agent | None]:
    """Return the primary and the secondary agent.

    :raises ModelError: the agents are not at most one of order 1 and one of order 2: the columns hold no others.
    """
    primary = secondary = None
    for agent in pm.agents:
        if agent.order == PRIMARY and primary is None:
            primary = agent
        elif agent.order == SECONDARY and secondary is None:
            secondary = agent
        elif len(pm.agents) > 2:
            raise ModelError(
                f"a host has {len(pm.agents)} agents, and the database can hold two",
                field="power_management.agents",
                why="the columns of vds_static have room for one agent of order 1 and one of order 2",
                state="nothing was stored",
            )
        else:
            raise ModelError(
                f"an agent of order {agent.order} cannot be stored beside the other",
                field="power_management.agents.order",
                why="vds_static holds one agent of order 1 and one of order 2; acting together is the flag concurrent",
                state="nothing was stored",
                fix="give the two agents the orders 1 and 2",
            )
    return primary, secondary


def values_of(host: Host, cipher: Cipher | None) -> Row:
    """Return the values of the columns for *host*; passwords as they are stored, encrypted where they are new.

    :raises ModelError: a third agent, orders the columns cannot hold, or a password that cannot be stored.
    :raises ConfigurationError: a password is to be stored and there is no cipher.
    """
    pm = host.power_management
    primary, secondary = two_agents(pm)
    one, two = primary or _NOBODY, secondary or _NOBODY
    return (
        host.id, host.name, one.address, host.unique_id, host.address, host.port, host.cluster_id,
        host.ssl_enabled, host.type, host.strength,
        one.type, one.username, stored_text(one.password, cipher, "primary.password"), one.ip_port,
        one.options.text if one.options else "", pm.enabled,
        host.otp_validity, host.spm_priority, host.recoverable, host.ssh_key_fingerprint, pm.proxy_preferences,
        two.address, two.type, two.username, stored_text(two.password, cipher, "secondary.password"), two.ip_port,
        None if two.options is None else two.options.text, pm.concurrent,
    )  # fmt: skip


def stored_text(password: Secret | None, cipher: Cipher | None, field: str) -> str | None:
    """Return the text to store for *password*: the one it was read as, or a fresh one.

    :raises ModelError: the password cannot be stored.
    :raises ConfigurationError: there is no cipher.
    """
    if password is None:
        return None
    if isinstance(password, StoredSecret):
        return password.stored
    try:
        return (cipher or NO_CIPHER).encrypt(password.reveal())
    except ModelError as error:
        raise ModelError(error.what, field=field, why=error.why, state=error.state, fix=error.fix) from None
    except UnicodeEncodeError:
        raise ModelError("a password holds characters that are no text", field=field, state="nothing was stored") from None


def differing(one: Row, other: Row) -> tuple[str, ...]:
    """Return the fields in which two rows differ; ``concurrent`` NULL and false are the same."""
    pairs = zip(NAMES, one, other, strict=False)
    return tuple(FIELDS[name] for name, a, b in pairs if (bool(a) != bool(b) if name == "pm_secondary_concurrent" else a != b))


_HEX = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")


def is_uuid(text: str) -> bool:
    """Tell whether *text* is a UUID as the API writes it."""
    return bool(_HEX.match(text))
