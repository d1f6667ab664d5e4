"""Every stored password at once: checking and encrypting anew."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.asymmetric import rsa

from pmcompat.db.cipher import EngineCipher, FernetCipher, PlainCipher
from pmcompat.db.credentials import check_credentials, rekey_credentials
from pmcompat.db.dao import VdsStaticDao
from pmcompat.errors import ConfigurationError, CredentialError
from pmcompat.model import Agent, Host, Options, PowerManagement, Secret

KEY, OTHER = (rsa.generate_private_key(65537, 2048) for _ in range(2))
ENGINE, FOREIGN = EngineCipher(private=KEY), EngineCipher(private=OTHER)


@pytest.fixture
def conn(pm_database):
    return pm_database("3.1.0", hosts=0, upgraded=True).connect()


def store(conn, name, cipher, *passwords):
    dao = VdsStaticDao(conn, cipher)
    agents = tuple(
        Agent(type="apc", address="a", password=Secret(text), options=Options(), order=order)
        for order, text in enumerate(passwords, start=1)
    )
    pm = PowerManagement(agents=agents)
    return dao.save(Host(id=uuid4(), name=name, address=name, cluster_id=dao.clusters()[0].id, power_management=pm))


def passwords(conn, cipher, name):
    return [agent.password.reveal() for agent in VdsStaticDao(conn, cipher).get_by_name(name).power_management.agents]


def test_a_check_counts_and_names_what_cannot_be_read(conn):
    store(conn, "good", ENGINE, "one", "two")
    store(conn, "left", PlainCipher(), "three", "")
    store(conn, "lost", FOREIGN, "four", "five")
    told = []
    report = check_credentials(conn, ENGINE, progress=lambda *count: told.append(count))
    assert (report.hosts, report.encrypted, report.plain) == (3, 2, 1)
    assert [(u.host, u.agent) for u in report.unreadable] == [("lost", "primary"), ("lost", "secondary")]
    assert not any(word in "\n".join(report.lines()) for word in ("one", "three", "four"))
    with pytest.raises(CredentialError, match="2 stored passwords"):
        report.raise_for_unreadable()


def test_a_rekey_encrypts_leftovers_and_leaves_the_rest_alone(conn):
    """B-109: detect plain values, keep them usable, offer to encrypt."""
    store(conn, "good", ENGINE, "one", "two")
    left = store(conn, "left", PlainCipher(), " three ", "")
    before = conn.execute("SELECT pm_password FROM vds_static WHERE vds_name = 'good'").fetchone()
    assert rekey_credentials(conn, ENGINE, dry_run=True).rekeyed == 1
    assert passwords(conn, PlainCipher(), "left") == [" three ", ""]
    assert rekey_credentials(conn, ENGINE).rekeyed == 1
    assert conn.execute("SELECT pm_password FROM vds_static WHERE vds_name = 'good'").fetchone() == before
    assert passwords(conn, ENGINE, "left") == [" three ", ""]
    assert rekey_credentials(conn, ENGINE).rekeyed == 0
    assert VdsStaticDao(conn, ENGINE).get(left.id) == replace(left, status=None)


def test_a_plain_leftover_that_cannot_be_encrypted_is_named_and_kept(conn):
    left = store(conn, "left", PlainCipher(), "three")
    conn.execute("UPDATE vds_static SET pm_password = E'tab\\there' WHERE vds_id = %s", [left.id])
    with pytest.raises(CredentialError, match="1 stored password"):
        rekey_credentials(conn, ENGINE)
    assert passwords(conn, ENGINE, "left") == ["tab\there"]


def test_a_change_of_keys_is_all_or_nothing(conn):
    store(conn, "a", FOREIGN, "one")
    store(conn, "b", EngineCipher(private=rsa.generate_private_key(65537, 2048)), "two")
    rows = conn.execute("SELECT vds_name, pm_password FROM vds_static ORDER BY 1").fetchall()
    with pytest.raises(CredentialError):
        rekey_credentials(conn, ENGINE, old=FOREIGN)
    assert conn.execute("SELECT vds_name, pm_password FROM vds_static ORDER BY 1").fetchall() == rows
    report = rekey_credentials(conn, ENGINE, old=FOREIGN, skip_unreadable=True)
    assert (report.rekeyed, len(report.unreadable)) == (1, 1)
    assert passwords(conn, ENGINE, "a") == ["one"]
    assert conn.execute("SELECT vds_name, pm_password FROM vds_static ORDER BY 1").fetchall()[1] == rows[1]


def test_fernet_keys_rotate_in_the_database(conn):
    old, new = Fernet.generate_key(), Fernet.generate_key()
    store(conn, "a", FernetCipher(old), "one", "two")
    assert rekey_credentials(conn, FernetCipher(new, old)).rekeyed == 2
    assert passwords(conn, FernetCipher(new), "a") == ["one", "two"]


def test_a_new_certificate_without_its_key_encrypts_what_the_old_key_opens(conn):
    """Taking every text for the certificate's own left all of them with the old key, and called them readable."""
    store(conn, "a", FOREIGN, "one", "two")
    store(conn, "left", PlainCipher(), "three")
    certificate = EngineCipher(public=KEY.public_key())
    report = rekey_credentials(conn, certificate, old=FOREIGN)
    assert (report.rekeyed, report.unreadable) == (3, [])
    assert "readable" not in "\n".join(report.lines())
    assert passwords(conn, ENGINE, "a") == ["one", "two"]
    assert passwords(conn, ENGINE, "left") == ["three"]
    assert rekey_credentials(conn, certificate).rekeyed == 0
    with pytest.raises(CredentialError):  # which of them are stored with the new key already, nobody can tell
        rekey_credentials(conn, certificate, old=FOREIGN)
    assert rekey_credentials(conn, certificate, old=FOREIGN, skip_unreadable=True).rekeyed == 0
    assert passwords(conn, ENGINE, "a") == ["one", "two"]


def test_from_engine_to_plain_and_back(conn):
    store(conn, "a", ENGINE, "one")
    assert rekey_credentials(conn, PlainCipher(), old=ENGINE).rekeyed == 1
    assert conn.execute("SELECT pm_password FROM vds_static").fetchone() == ("one",)


def test_without_a_cipher_nothing_is_encrypted(conn):
    with pytest.raises(ConfigurationError):
        rekey_credentials(conn, None)
