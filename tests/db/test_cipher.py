"""Passwords at rest: the three ciphers, wrong and mixed keys, and values that must never pass for a password."""

from __future__ import annotations

import base64
import copy
import json
import os
import pickle
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from hypothesis import given
from hypothesis import strategies as st

from pmcompat.db.cipher import (
    NO_CIPHER,
    Cipher,
    CipherSettings,
    EngineCipher,
    FernetCipher,
    PlainCipher,
    StoredSecret,
    choose,
    load,
    shape_of,
)
from pmcompat.errors import ConfigurationError, CredentialError, ModelError
from pmcompat.model import Agent, Secret

KEY = rsa.generate_private_key(65537, 2048)
OTHER = rsa.generate_private_key(65537, 2048)
SMALL = rsa.generate_private_key(65537, 1024)  # what engines of 2011 had
FERNET = Fernet.generate_key()
PASSWORDS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=50)


def certificate(key=KEY):
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "engine")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(1))
    return made.sign(key, hashes.SHA256())


def pem(key=KEY, phrase: bytes | None = None) -> bytes:
    how = serialization.BestAvailableEncryption(phrase) if phrase else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)


CIPHERS: list[Cipher] = [EngineCipher(private=KEY), EngineCipher(private=SMALL), FernetCipher(FERNET), PlainCipher()]


@pytest.mark.parametrize("cipher", CIPHERS, ids=["engine-2048", "engine-1024", "fernet", "plain"])
@given(PASSWORDS)
def test_every_password_comes_back_byte_for_byte(cipher, password):
    """L-17: upstream trimmed passwords, and blanks became empty."""
    if len(password.encode()) > 117:
        return
    assert cipher.decrypt(cipher.encrypt(password)) == password


@pytest.mark.parametrize("cipher", CIPHERS, ids=["engine-2048", "engine-1024", "fernet", "plain"])
def test_shapes_empty_and_too_long(cipher):
    assert cipher.encrypt("") == ""
    assert cipher.decrypt("") == ""
    assert shape_of(cipher.encrypt("x")) is cipher.shape
    with pytest.raises(ModelError) as caught:
        cipher.encrypt("p" * 51)
    assert caught.value.field == "password"
    with pytest.raises(ModelError):
        cipher.encrypt("a\0b")


@pytest.mark.parametrize("cipher", CIPHERS[:3], ids=["engine-2048", "engine-1024", "fernet"])
@pytest.mark.parametrize("password", ["a\tb", "pasted\n", "\x7f", "\x85x"])
def test_what_could_not_be_decrypted_again_is_not_stored(cipher, password):
    """It was stored, and lost: a control character in what is decrypted means a wrong key."""
    with pytest.raises(ModelError) as caught:
        cipher.encrypt(password)
    assert caught.value.field == "password"
    assert password not in str(caught.value)


def test_the_engines_form_is_base64_on_one_line():
    stored = EngineCipher(KEY.public_key()).encrypt("secret")
    assert len(stored) == 344
    assert stored == base64.b64encode(base64.b64decode(stored)).decode()


def test_encrypting_needs_the_certificate_only():
    blind = EngineCipher(KEY.public_key())
    stored = blind.encrypt("secret")
    assert not blind.can_decrypt
    with pytest.raises(CredentialError, match="private key was not given"):
        blind.decrypt(stored)
    assert EngineCipher(private=KEY).decrypt(stored) == "secret"


def test_a_key_that_is_not_the_certificates_is_refused():
    with pytest.raises(ConfigurationError, match="does not belong"):
        EngineCipher(KEY.public_key(), OTHER)


def test_a_wrong_key_never_gives_a_password():
    """OpenSSL answers a wrong key with random bytes and no error."""
    wrong, right = EngineCipher(private=OTHER), EngineCipher(private=KEY)
    for i in range(25):
        with pytest.raises(CredentialError, match="another key"):
            wrong.decrypt(right.encrypt(f"p{i}"))
    with pytest.raises(CredentialError, match="1024 bits"):
        right.decrypt(EngineCipher(private=SMALL).encrypt("x"))


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_wrong_key_never_gives_a_password_in_many_tries():
    wrong, right = EngineCipher(private=OTHER), EngineCipher(private=KEY)
    for _ in range(20_000):
        with pytest.raises(CredentialError):
            wrong.decrypt(right.encrypt("p"))


def test_a_changed_text_never_gives_a_password():
    cipher = EngineCipher(private=KEY)
    for i in range(10):
        data = bytearray(base64.b64decode(cipher.encrypt("secret")))
        data[i * 20] ^= 1
        with pytest.raises(CredentialError):
            cipher.decrypt(base64.b64encode(data).decode())


def test_what_decrypts_to_no_password_is_refused():
    """Valid padding alone proves no password: other programs encrypt to the same certificate."""
    from cryptography.hazmat.primitives.asymmetric import padding

    cipher = EngineCipher(private=KEY)
    for data in (b"", b"\xff\xfe", b"a\nb", b"x" * 51):
        stored = base64.b64encode(KEY.public_key().encrypt(data, padding.PKCS1v15())).decode()
        with pytest.raises(CredentialError):
            cipher.decrypt(stored)


ENCRYPTED = [
    EngineCipher(private=KEY).encrypt("a"),
    EngineCipher(private=SMALL).encrypt("a"),
    FernetCipher(FERNET).encrypt("a"),
]
DAMAGED = [ENCRYPTED[0][:-7], ENCRYPTED[0].replace(ENCRYPTED[0][5], "!"), ENCRYPTED[2][1:], "x" * 101]


@pytest.mark.parametrize(
    "stored", [*ENCRYPTED, *DAMAGED], ids=["rsa", "short rsa", "fernet", "cut", "not base64", "headless", "long"]
)
@pytest.mark.parametrize(
    "cipher",
    [PlainCipher(), NO_CIPHER, EngineCipher(private=OTHER), FernetCipher(Fernet.generate_key())],
    ids=["plain", "none", "engine", "fernet"],
)
def test_what_looks_encrypted_is_never_handed_out(cipher, stored):
    """L-16: upstream used the cipher text as password."""
    with pytest.raises(CredentialError) as caught:
        cipher.decrypt(stored)
    assert stored not in str(caught.value)


@pytest.mark.parametrize("cipher", CIPHERS, ids=["engine-2048", "engine-1024", "fernet", "plain"])
@pytest.mark.parametrize("stored", ["secret", " ", "x" * 50, "gAAAAshort", "QUJD"])
def test_plain_rows_among_encrypted_ones_stay_usable(cipher, stored):
    """B-109."""
    assert cipher.decrypt(stored) == stored


def test_fernet_keys_rotate():
    old, new = Fernet.generate_key(), Fernet.generate_key()
    stored = FernetCipher(old).encrypt("secret")
    both = FernetCipher(new, old)
    assert both.decrypt(stored) == "secret"
    assert not both.is_current(stored)
    assert both.is_current(both.encrypt("secret"))
    with pytest.raises(CredentialError, match="none of the Fernet keys"):
        FernetCipher(new).decrypt(stored)


# ---------------------------------------------------------------------- stored secrets


def test_a_stored_secret_shows_nothing():
    secret = StoredSecret(PlainCipher().encrypt("hush"), PlainCipher())
    shown = [repr(secret), str(secret), f"{secret}", f"{secret!r:>20}", repr(Agent(password=secret)), repr(vars(type(secret)))]
    assert not any("hush" in text for text in shown)
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        json.dumps(secret)
    with pytest.raises(TypeError):
        copy.deepcopy(secret)


def test_stored_secrets_compare_by_what_they_stand_for():
    cipher = EngineCipher(private=KEY)
    one, two = (StoredSecret(cipher.encrypt("same"), cipher) for _ in range(2))
    assert one == two
    assert one == Secret("same")
    assert Secret("same") == one
    assert one != Secret("else")
    assert hash(one) == hash(two) == hash(Secret("same"))
    sealed = StoredSecret(one.stored, None)
    assert sealed == one
    assert sealed != Secret("same")
    assert not StoredSecret("", None)


def test_revealing_without_a_cipher_gives_plain_rows_only():
    assert StoredSecret("plain", None).reveal() == "plain"
    with pytest.raises(CredentialError):
        StoredSecret(ENCRYPTED[0], None).reveal()


# ---------------------------------------------------------------------- key files


@pytest.fixture
def files(tmp_path):
    def write(name: str, data: bytes):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def test_every_kind_of_key_file_is_read(files):
    der = KEY.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    store = pkcs12.serialize_key_and_certificates(
        b"e", KEY, certificate(), None, serialization.BestAvailableEncryption(b"open")
    )
    bare = pkcs12.serialize_key_and_certificates(b"e", KEY, certificate(), None, serialization.NoEncryption())
    stored = EngineCipher(KEY.public_key()).encrypt("secret")
    phrase = Secret("open")
    for path, passphrase in (
        (files("k.pem", pem()), None),
        (files("k.der", der), None),
        (files("k.p12", store), phrase),
        (files("bare.p12", bare), None),
        # of two files of a key change only one may have a passphrase
        (files("k.pem", pem()), phrase),
        (files("k.der", der), phrase),
        (files("bare.p12", bare), phrase),
        (files("locked.pem", pem(phrase=b"open")), phrase),
    ):
        assert load(CipherSettings(key=path, passphrase=passphrase)).decrypt(stored) == "secret"


@pytest.mark.parametrize("encoding", [serialization.Encoding.PEM, serialization.Encoding.DER])
def test_certificates_are_read(files, encoding):
    path = files("c", certificate().public_bytes(encoding))
    stored = load(CipherSettings(cert=path)).encrypt("secret")
    assert EngineCipher(private=KEY).decrypt(stored) == "secret"


def test_fernet_files_are_read_and_told_from_engine_keys(files):
    path = files("keys", b"# newest first\n" + Fernet.generate_key() + b"\n\n" + FERNET + b"\n")
    cipher = load(CipherSettings(key=path))
    assert isinstance(cipher, FernetCipher)
    assert cipher.decrypt(FernetCipher(FERNET).encrypt("x")) == "x"


def test_unusable_key_material_is_named_and_never_quoted(files, tmp_path):
    """B-110: check key material at start with a clear error."""
    ecdsa = ec.generate_private_key(ec.SECP256R1())
    store = pkcs12.serialize_key_and_certificates(
        b"e", KEY, certificate(), None, serialization.BestAvailableEncryption(b"open")
    )
    bad = [
        CipherSettings(cipher="engine"),
        CipherSettings(cipher="fernet"),
        CipherSettings(cipher="rot13"),
        CipherSettings(key=tmp_path / "missing"),
        CipherSettings(key=tmp_path),
        CipherSettings(key=files("junk", b"hush hush")),
        CipherSettings(cert=files("cert", b"hush hush")),
        CipherSettings(cert=files("key", pem())),
        CipherSettings(key=files("ec", pem(ecdsa))),
        CipherSettings(key=files("store", store)),
        CipherSettings(key=files("store2", store), passphrase=Secret("hush")),
        CipherSettings(cipher="fernet", key=files("short", b"hush")),
        CipherSettings(cipher="fernet", key=files("none", b"# nothing\n")),
        CipherSettings(key=files("huge", os.urandom((1 << 20) + 1))),
        CipherSettings(cert=files("c", certificate().public_bytes(serialization.Encoding.PEM)), key=files("k", pem(OTHER))),
    ]
    for settings in bad:
        with pytest.raises(ConfigurationError) as caught:
            load(settings)
        assert "hush" not in str(caught.value)


# ---------------------------------------------------------------------- which one


def test_nothing_given_means_plain_in_a_database_of_ours_and_nothing_elsewhere(pm_database, files):
    ours, foreign = pm_database("3.1.0", hosts=0).connect(), pm_database("3.1.0", hosts=0).connect()
    foreign.execute("DROP TABLE pmcompat.origin")
    assert isinstance(choose(CipherSettings(), ours), PlainCipher)
    assert choose(CipherSettings(), foreign) is None
    assert isinstance(choose(CipherSettings(cipher="plain"), foreign), PlainCipher)
    assert isinstance(choose(CipherSettings(key=files("k", pem())), ours), EngineCipher)
    with pytest.raises(ConfigurationError):
        NO_CIPHER.encrypt("x")
    assert NO_CIPHER.encrypt("") == ""
