"""All stored passwords at once: can they be read, and encrypting them anew.

What lives here: the walk over every host and its report. How one password is stored is :mod:`pmcompat.db.cipher`. No report
holds a password or a stored text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
from psycopg import sql

from pmcompat.db.cipher import Cipher, EngineCipher, FernetCipher, Shape, StoredSecret
from pmcompat.db.dao import VdsStaticDao
from pmcompat.db.dao_batches import Progress
from pmcompat.db.dao_errors import reporting
from pmcompat.errors import ConfigurationError, CredentialError, ModelError
from pmcompat.model import Agent, Host

#: how many unreadable passwords a report names
_NAMED = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Unreadable:
    """A stored password that cannot be used."""

    host: str
    agent: str
    why: str


@dataclass(kw_only=True, slots=True)
class CredentialsReport:
    """What was found, and for a rekey what was done. Counts are of passwords."""

    #: the cipher asked for; ``none`` where there is none
    cipher: str
    hosts: int = 0
    encrypted: int = 0
    plain: int = 0
    #: encrypted anew, or to be on a dry run
    rekeyed: int = 0
    dry_run: bool = False
    #: whether there was a key to read them with; a certificate alone only stores
    tried: bool = True
    unreadable: list[Unreadable] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        """Return plain values; nothing secret in them."""
        return {
            "cipher": self.cipher,
            "hosts": self.hosts,
            "encrypted": self.encrypted,
            "plain": self.plain,
            "rekeyed": self.rekeyed,
            "dry_run": self.dry_run,
            "unreadable": [{"host": u.host, "agent": u.agent, "why": u.why} for u in self.unreadable],
        }

    def lines(self) -> Iterator[str]:
        """Yield the report as lines of text."""
        yield f"{self.hosts} hosts; cipher {self.cipher}"
        yield f"{self.encrypted} passwords encrypted" + (" and readable" if self.tried else "; no key to read them with")
        hint = "" if self.cipher == "plain" or not self.plain else ": `pmcompat credentials rekey` encrypts them"
        yield f"{self.plain} passwords not encrypted{hint}"
        if self.rekeyed or self.dry_run:
            yield f"{self.rekeyed} passwords {'would be ' if self.dry_run else ''}encrypted anew"
        yield f"{len(self.unreadable)} passwords cannot be read"
        for u in self.unreadable[:_NAMED]:
            yield f"  {u.host}, {u.agent} agent: {u.why}"
        if len(self.unreadable) > _NAMED:
            yield f"  … and {len(self.unreadable) - _NAMED} more"

    def raise_for_unreadable(self) -> None:
        """Raise where a password cannot be read.

        :raises CredentialError: some cannot.
        """
        if not self.unreadable:
            return
        first = self.unreadable[0]
        raise CredentialError(
            f"{len(self.unreadable)} stored passwords cannot be decrypted",
            why=f"{first.host}, {first.agent} agent: {first.why}",
            state="nothing was changed",
            fix="give the key they were encrypted with, or set these passwords again with `pmcompat host import`",
        )


def check_credentials(
    conn: psycopg.Connection[Any], cipher: Cipher | None, *, schema: str = "public", progress: Progress | None = None
) -> CredentialsReport:
    """Try to read every stored password with *cipher* and report; changes nothing.

    :param progress: called with (done, total) hosts.
    """
    report = CredentialsReport(cipher=cipher.name if cipher else "none")
    dao = VdsStaticDao(conn, cipher, schema=schema)
    for host in _walk(dao, progress, report):
        for agent in host.power_management.agents:
            _looked_at(host, agent, report, _read)
    return report


def rekey_credentials(
    conn: psycopg.Connection[Any],
    new: Cipher | None,
    *,
    old: Cipher | None = None,
    schema: str = "public",
    skip_unreadable: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> CredentialsReport:
    """Store every password with *new* that is not stored so yet, in one transaction and through the procedures.

    :param old: what decrypts the present ones; default *new*, which is enough for plain leftovers and for rotated Fernet keys.
    :param skip_unreadable: leave what cannot be decrypted as it is, instead of refusing.
    :raises CredentialError: some cannot be decrypted; nothing was changed.
    :raises ConfigurationError: there is no cipher to encrypt with.
    """
    if new is None:
        raise ConfigurationError(
            "encrypting anew needs a cipher", state="nothing was done", fix="give --cipher with --cert or --key"
        )
    tried = not isinstance(new, EngineCipher) or new.can_decrypt
    report = CredentialsReport(cipher=new.name, dry_run=dry_run, tried=tried)
    with reporting(), conn.transaction(force_rollback=dry_run):
        _lock(conn, schema)
        dao = VdsStaticDao(conn, old or new, schema=schema)
        # without its key the new cipher cannot tell which texts are its own: those that the old key opens are not
        opens = old if isinstance(old, EngineCipher) and old is not new else None
        changed = [host for host in (_rekeyed(host, new, opens, report) for host in _walk(dao, progress, report)) if host]
        if not skip_unreadable:
            report.raise_for_unreadable()
        VdsStaticDao(conn, new, schema=schema).update_many(changed)
    return report


def _lock(conn: psycopg.Connection[Any], schema: str) -> None:
    query = sql.SQL("SELECT 1 FROM {} ORDER BY vds_id FOR UPDATE").format(sql.Identifier(schema, "vds_static"))
    conn.execute(query)


def _walk(dao: VdsStaticDao, progress: Progress | None, report: CredentialsReport) -> Iterator[Host]:
    query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(dao.schema, "vds_static"))
    row = dao.conn.execute(query).fetchone()
    total = row[0] if row else 0
    for host in dao.each():
        report.hosts += 1
        yield host
        if progress and report.hosts % 50 == 0:
            progress(report.hosts, total)


def _rekeyed(host: Host, new: Cipher, opens: EngineCipher | None, report: CredentialsReport) -> Host | None:
    """Return *host* with passwords stored by *new*, or None where there is nothing to do."""

    def renew(secret: StoredSecret) -> StoredSecret:
        if _is_current(secret, new, opens):
            return secret
        text = new.encrypt(secret.reveal())
        report.rekeyed += 1
        return StoredSecret(text, new)

    agents = tuple(_looked_at(host, agent, report, renew) for agent in host.power_management.agents)
    if all(a is b for a, b in zip(agents, host.power_management.agents, strict=True)):
        return None
    return replace(host, power_management=replace(host.power_management, agents=agents))


def _is_current(secret: StoredSecret, new: Cipher, opens: EngineCipher | None) -> bool:
    """Tell whether *new* stored this text, as far as its keys can tell; *opens* is the engine key that is replaced, if any."""
    if secret.shape is not new.shape:
        return False
    if isinstance(new, FernetCipher):
        return new.is_current(secret.stored)
    if isinstance(new, EngineCipher):
        if not new.can_decrypt:
            return opens is None
        try:
            new.decrypt(secret.stored)
        except CredentialError:
            return False
    return True


def _read(secret: StoredSecret) -> StoredSecret:
    secret.reveal()
    return secret


def _looked_at(host: Host, agent: Agent, report: CredentialsReport, treat: Callable[[StoredSecret], StoredSecret]) -> Agent:
    """Count an agent's password and return the agent with what *treat* makes of it; unreadable ones stay."""
    secret = agent.password
    if not isinstance(secret, StoredSecret) or not secret:
        return agent
    try:
        treated = treat(secret)
    except (CredentialError, ModelError) as error:
        rank = {1: "primary", 2: "secondary"}.get(agent.order, str(agent.order))
        report.unreadable.append(Unreadable(host=host.name, agent=rank, why=error.why or error.what))
        return agent
    if treated.shape is Shape.PLAIN:
        report.plain += 1
    else:
        report.encrypted += 1
    return agent if treated is secret else replace(agent, password=treated)
