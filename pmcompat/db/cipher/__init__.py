"""How agents' passwords lie in the database: the ciphers, and the value a stored password is read as.

What lives here: telling the formats apart by shape, encrypting, decrypting, choosing a cipher. Loading key files is
:mod:`pmcompat.db.cipher.keys`. No SQL.

Upstream's format (database facts §13) is RSA with PKCS#1 v1.5 padding and the engine certificate's key, as base64 on one
line; an empty password is stored as it is. Passwords are never trimmed here (field failure L-17) and what cannot be decrypted
is never handed out instead (L-16): a plain value among encrypted ones is recognised and stays usable (B-109), anything that
*looks* encrypted and cannot be decrypted is a CredentialError for that one agent.

Ciphers and stored secrets hold nothing that changes: they may be shared between threads.
"""

from __future__ import annotations

import base64
import binascii
import enum
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NoReturn, Protocol

import psycopg
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from pmcompat.db.baseline import made_by_init
from pmcompat.db.cipher import keys as cipher_keys
from pmcompat.errors import ConfigurationError, CredentialError, ModelError
from pmcompat.model import Secret

NAMES = ("engine", "fernet", "plain")

#: characters; what the engine's own form and entity accept (field failure B-115)
LONGEST_PASSWORD = 50

#: decoded lengths of RSA results: keys of 1024 to 8192 bits
_RSA_BYTES = frozenset(range(128, 1025, 8))
_FERNET_PREFIX = "gAAAA"
_SHORTEST_FERNET = 100


class Shape(enum.StrEnum):
    """What a stored text looks like; a password's limit of 50 characters lies well below every encrypted form."""

    EMPTY = "empty"
    PLAIN = "plain"
    #: base64 of exactly as many bytes as an RSA key has
    RSA = "rsa"
    #: a Fernet token
    FERNET = "fernet"
    #: too long for a password and no form we know: cut off or damaged, never a password
    DAMAGED = "damaged"


def shape_of(stored: str) -> Shape:
    """Return what *stored* looks like, by form and not by length alone (database facts §13)."""
    if not stored:
        return Shape.EMPTY
    if len(stored) <= LONGEST_PASSWORD:
        return Shape.PLAIN
    if stored.startswith(_FERNET_PREFIX) and len(stored) >= _SHORTEST_FERNET and len(stored) % 4 == 0:
        return Shape.FERNET
    return Shape.RSA if _decoded_length(stored) in _RSA_BYTES else Shape.DAMAGED


def _decoded_length(text: str) -> int:
    try:
        return len(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        return 0


class Cipher(Protocol):
    """Turns a password into the text that is stored, and back."""

    #: ``engine``, ``fernet`` or ``plain``
    name: ClassVar[str]
    #: the shape :meth:`encrypt` gives
    shape: ClassVar[Shape]

    def encrypt(self, password: str) -> str:
        """Return the text to store; the empty password stays as it is.

        :raises ModelError: the password is too long, or holds what could not be decrypted again.
        """

    def decrypt(self, stored: str) -> str:
        """Return the password that *stored* stands for; plain leftovers are returned as they are.

        :raises CredentialError: *stored* looks encrypted and cannot be decrypted by this cipher.
        """


class StoredSecret(Secret):
    """A password as its row holds it; decrypted only when it is revealed, written back unchanged otherwise.

    ``reveal()`` raises CredentialError where the stored text cannot be decrypted: an error for that agent, never a device's
    business. Two stored secrets are equal if their texts are, or what they stand for is.
    """

    __slots__ = ("_cipher", "_stored")

    def __init__(self, stored: str, cipher: Cipher | None) -> None:
        self._stored = stored
        self._cipher = cipher

    @property
    def stored(self) -> str:
        """The text in the row; for the room that writes rows only."""
        return self._stored

    @property
    def shape(self) -> Shape:
        """What the stored text looks like."""
        return shape_of(self._stored)

    def reveal(self) -> str:
        """Return the password itself.

        :raises CredentialError: it cannot be decrypted; nothing may be sent to the device.
        """
        return (self._cipher or NO_CIPHER).decrypt(self._stored)

    def __bool__(self) -> bool:
        return bool(self._stored)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, StoredSecret) and other._stored == self._stored:
            return True
        if not isinstance(other, Secret):
            return NotImplemented
        try:
            return Secret(self.reveal()) == Secret(other.reveal())
        except CredentialError:
            return False

    def __hash__(self) -> int:
        return hash(Secret)


def _has_controls(text: str) -> bool:
    return any(ord(c) < 32 or 127 <= ord(c) < 160 for c in text)


def _check_length(password: str) -> None:
    if len(password) > LONGEST_PASSWORD:
        raise ModelError(
            f"a password has more than {LONGEST_PASSWORD} characters",
            field="password",
            why="the engine refuses longer ones",
            state="nothing was stored",
        )
    if "\0" in password:
        raise ModelError("a password holds a NUL character", field="password", state="nothing was stored")


def _check_comes_back(password: str) -> None:
    """Refuse to encrypt what :func:`_plausible` would refuse to hand out again."""
    _check_length(password)
    if _has_controls(password):
        raise ModelError(
            "a password holds a control character",
            field="password",
            why="when it is decrypted it could not be told from what a wrong key gives",
            state="nothing was stored",
            fix="look for a tab or a line break around it",
        )


def _cannot_decrypt(why: str, fix: str = "give the key it was encrypted with, or set the password again") -> NoReturn:
    raise CredentialError(
        "a stored password cannot be decrypted", why=why, state="it was not used and not sent to any device", fix=fix
    )


def _damaged() -> NoReturn:
    _cannot_decrypt("it is too long for a password and no known encrypted form: cut off or damaged", "set the password again")


class PlainCipher:
    """Stores passwords as they are: stand-alone trials and demos only."""

    name: ClassVar[str] = "plain"
    shape: ClassVar[Shape] = Shape.PLAIN

    def encrypt(self, password: str) -> str:
        """Return *password* itself.

        :raises ModelError: it is too long.
        """
        _check_length(password)
        return password

    def decrypt(self, stored: str) -> str:
        """Return *stored* itself.

        :raises CredentialError: it looks encrypted (field failure L-16).
        """
        match shape_of(stored):
            case Shape.RSA | Shape.FERNET as shape:
                _cannot_decrypt(f"it looks encrypted ({shape.value}) and no key was given", "give --cipher and --key")
            case Shape.DAMAGED:
                _damaged()
            case _:
                return stored


class NoCipher(PlainCipher):
    """No cipher was chosen: plain rows can be read, nothing can be stored."""

    name: ClassVar[str] = "none"

    def encrypt(self, password: str) -> str:
        """Refuse to store a password, whatever it is; the empty one needs no cipher.

        :raises ConfigurationError: always, but for the empty password.
        """
        if not password:
            return password
        raise ConfigurationError(
            "storing a password needs a cipher",
            why="no certificate, key or --cipher was given, and this database was not made by `pmcompat db init`",
            state="nothing was stored",
            fix="give --cipher engine --cert FILE (the engine's certificate), or --cipher fernet --key FILE",
        )


NO_CIPHER = NoCipher()


class FernetCipher:
    """Fernet (AES and HMAC) for stand-alone use; the first key encrypts, all of them decrypt."""

    name: ClassVar[str] = "fernet"
    shape: ClassVar[Shape] = Shape.FERNET

    def __init__(self, *keys: bytes | str) -> None:
        if not keys:
            raise ConfigurationError("a Fernet cipher needs at least one key", state="nothing was done")
        try:
            self._keys = MultiFernet([Fernet(key) for key in keys])
            self._newest = Fernet(keys[0])
        except (ValueError, TypeError, binascii.Error):
            raise ConfigurationError(
                "a Fernet key is malformed",
                why="a key is 32 bytes as 44 characters of URL-safe base64",
                state="nothing was done",
                fix="check the key file: one key per line, the newest first",
            ) from None

    def encrypt(self, password: str) -> str:
        """Return a token of the newest key; the empty password stays as it is.

        :raises ModelError: the password is too long.
        """
        _check_comes_back(password)
        return self._keys.encrypt(password.encode()).decode("ascii") if password else password

    def decrypt(self, stored: str) -> str:
        """Return the password; plain leftovers as they are.

        :raises CredentialError: no key fits, or it is of another cipher.
        """
        match shape_of(stored):
            case Shape.FERNET:
                try:
                    return _plausible(self._keys.decrypt(stored))
                except InvalidToken:
                    _cannot_decrypt("none of the Fernet keys fits")
            case Shape.RSA:
                _cannot_decrypt("it was encrypted with an engine's certificate, not with Fernet")
            case Shape.DAMAGED:
                _damaged()
            case _:
                return stored

    def is_current(self, stored: str) -> bool:
        """Tell whether *stored* was encrypted with the newest key."""
        try:
            self._newest.decrypt(stored)
        except InvalidToken:
            return False
        return True


class EngineCipher:
    """The engine's own format; encrypting needs the public key only.

    :param public: the key of the engine's certificate.
    :param private: needed to decrypt.
    :raises ConfigurationError: the two keys do not belong together.
    """

    name: ClassVar[str] = "engine"
    shape: ClassVar[Shape] = Shape.RSA

    def __init__(self, public: rsa.RSAPublicKey | None = None, private: rsa.RSAPrivateKey | None = None) -> None:
        if private is not None and public is not None and private.public_key().public_numbers() != public.public_numbers():
            raise ConfigurationError(
                "the private key does not belong to the certificate",
                why="their public keys differ",
                state="nothing was done",
                fix="give the certificate and the key of the same engine",
            )
        known = public or (private.public_key() if private else None)
        if known is None:
            raise ConfigurationError("the engine cipher needs a certificate or a key", state="nothing was done")
        self._public = known
        self._private = private
        self._size = (known.key_size + 7) // 8

    @property
    def can_decrypt(self) -> bool:
        """Whether a private key was given."""
        return self._private is not None

    def encrypt(self, password: str) -> str:
        """Return base64 on one line; the empty password stays as it is.

        :raises ModelError: the password is too long.
        """
        _check_comes_back(password)
        if not password:
            return password
        data = password.encode()
        if len(data) > self._size - 11:
            raise ModelError(
                "a password is too long for the engine's key", field="password", why=f"{self._size - 11} bytes fit into its key"
            )
        return base64.b64encode(self._public.encrypt(data, padding.PKCS1v15())).decode("ascii")

    def decrypt(self, stored: str) -> str:
        """Return the password; plain leftovers as they are.

        :raises CredentialError: no private key was given, another key was used, or it is of another cipher.
        """
        match shape_of(stored):
            case Shape.RSA:
                return self._opened(base64.b64decode(stored))
            case Shape.FERNET:
                _cannot_decrypt("it was encrypted with Fernet, not with the engine's certificate")
            case Shape.DAMAGED:
                _damaged()
            case _:
                return stored

    def _opened(self, data: bytes) -> str:
        if self._private is None:
            _cannot_decrypt("the engine's private key was not given", "give --key FILE (the engine's key or keystore)")
        if len(data) != self._size:
            _cannot_decrypt(f"it was encrypted with a key of {len(data) * 8} bits, the one given has {self._size * 8}")
        if not _is_padded(self._private, data):
            _cannot_decrypt("it was encrypted with another key, or it was changed since")
        try:
            return _plausible(self._private.decrypt(data, padding.PKCS1v15()))
        except (ValueError, UnsupportedAlgorithm):
            _cannot_decrypt("it was encrypted with another key, or it was changed since")


def _is_padded(key: rsa.RSAPrivateKey, data: bytes) -> bool:
    """Tell whether *data* opens to a PKCS#1 v1.5 block.

    OpenSSL ≥ 3.2 answers a wrong key with random bytes and no error (implicit rejection, database facts §13), and short ones
    can pass for a password: one in 400. So the block itself is computed here (Chinese remainders, some 5 ms) and its padding
    looked at; with the plausibility of the text a wrong key gets through once in 10^7. The timing of this is no oracle:
    nobody outside can submit texts.
    """
    numbers = key.private_numbers()
    c, p, q = int.from_bytes(data), numbers.p, numbers.q
    if c >= p * q:
        return False
    in_q = pow(c % q, numbers.dmq1, q)
    block = in_q + q * ((numbers.iqmp * (pow(c % p, numbers.dmp1, p) - in_q)) % p)
    opened = block.to_bytes(len(data))
    return opened[:2] == b"\0\2" and opened.find(b"\0", 2) >= 10


def _plausible(data: bytes) -> str:
    """Return *data* as a password if it can be one.

    :raises CredentialError: it is empty, too long, no UTF-8 or holds control characters.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = ""
    if not 1 <= len(text) <= LONGEST_PASSWORD or _has_controls(text):
        _cannot_decrypt("what it decrypts to cannot be a password: wrong key, or it was changed since")
    return text


@dataclass(frozen=True, kw_only=True, slots=True)
class CipherSettings:
    """What the operator said about the passwords at rest (DESIGN §5)."""

    #: ``engine``, ``fernet``, ``plain`` or None: find out
    cipher: str | None = None
    cert: Path | None = None
    key: Path | None = None
    #: of an encrypted key file or keystore; from the variable PMCOMPAT_KEY_PASSPHRASE, never from argv
    passphrase: Secret | None = None


def load(settings: CipherSettings) -> Cipher | None:
    """Return the cipher that *settings* name or imply; None where they say nothing.

    :raises ConfigurationError: an unknown name, or key material that is missing, unreadable or contradictory.
    """
    match settings.cipher or _implied(settings):
        case "engine":
            return _engine_cipher(settings)
        case "fernet" if settings.key is not None:
            return FernetCipher(*cipher_keys.fernet_keys(settings.key))
        case "fernet":
            raise ConfigurationError(
                "the fernet cipher needs a file of keys", state="nothing was done", fix="give --key FILE, one key per line"
            )
        case "plain":
            return PlainCipher()
        case None:
            return None
        case unknown:
            raise ConfigurationError(
                f"there is no cipher {unknown!r}", state="nothing was done", fix=f"choose one of {', '.join(NAMES)}"
            )


def _implied(settings: CipherSettings) -> str | None:
    if settings.cert is not None:
        return "engine"
    if settings.key is None:
        return None
    return "fernet" if cipher_keys.is_fernet_file(settings.key) else "engine"


def _engine_cipher(settings: CipherSettings) -> EngineCipher:
    if settings.cert is None and settings.key is None:
        raise ConfigurationError(
            "the engine cipher needs the engine's certificate or its key",
            state="nothing was done",
            fix="give --cert FILE (enough to store passwords) or --key FILE (needed to use them)",
        )
    public = cipher_keys.public_key(settings.cert) if settings.cert else None
    if settings.key is None:
        return EngineCipher(public)
    private, public_of_store = cipher_keys.private_key(settings.key, settings.passphrase)
    if public_of_store is not None:
        EngineCipher(public_of_store, private)  # a keystore whose certificate is not its key's is refused
    return EngineCipher(public, private)


def choose(settings: CipherSettings, conn: psycopg.Connection[Any], *, schema: str = "public") -> Cipher | None:
    """Return the cipher of DESIGN §5: the one named; else that of the key given; else plain in a database `db init` made.

    None means that nothing may be stored; plain rows can be read.

    :raises ConfigurationError: an unknown name, or key material that is missing, unreadable or contradictory.
    """
    chosen = load(settings)
    if chosen is not None:
        return chosen
    return PlainCipher() if made_by_init(conn, schema=schema) else None
