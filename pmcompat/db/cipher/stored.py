"""What a stored password looks like, and the value it is read as; storing plainly, or not at all.

What lives here: telling the formats apart by shape. Encrypting and decrypting is :mod:`pmcompat.db.cipher.encrypting`, which
loads a library that a database of plain passwords does not need.
"""

from __future__ import annotations

import base64
import binascii
import enum
from typing import ClassVar, NoReturn, Protocol

from pmcompat.errors import ConfigurationError, CredentialError, ModelError
from pmcompat.model import Secret

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


def has_controls(text: str) -> bool:
    """Tell whether *text* holds a control character; what an engine decrypts to never does."""
    return any(ord(c) < 32 or 127 <= ord(c) < 160 for c in text)


def check_length(password: str) -> None:
    """Refuse what the engine refuses.

    :raises ModelError: more than 50 characters, or a NUL.
    """
    if len(password) > LONGEST_PASSWORD:
        raise ModelError(
            f"a password has more than {LONGEST_PASSWORD} characters",
            field="password",
            why="the engine refuses longer ones",
            state="nothing was stored",
        )
    if "\0" in password:
        raise ModelError("a password holds a NUL character", field="password", state="nothing was stored")


def check_comes_back(password: str) -> None:
    """Refuse to encrypt what :func:`_plausible` would refuse to hand out again."""
    check_length(password)
    if has_controls(password):
        raise ModelError(
            "a password holds a control character",
            field="password",
            why="when it is decrypted it could not be told from what a wrong key gives",
            state="nothing was stored",
            fix="look for a tab or a line break around it",
        )


def cannot_decrypt(why: str, fix: str = "give the key it was encrypted with, or set the password again") -> NoReturn:
    """Raise the error for a stored text that stays closed."""
    raise CredentialError(
        "a stored password cannot be decrypted", why=why, state="it was not used and not sent to any device", fix=fix
    )


def damaged() -> NoReturn:
    """Raise the error for a stored text of no known form."""
    cannot_decrypt("it is too long for a password and no known encrypted form: cut off or damaged", "set the password again")


class PlainCipher:
    """Stores passwords as they are: stand-alone trials and demos only."""

    name: ClassVar[str] = "plain"
    shape: ClassVar[Shape] = Shape.PLAIN

    def encrypt(self, password: str) -> str:
        """Return *password* itself.

        :raises ModelError: it is too long.
        """
        check_length(password)
        return password

    def decrypt(self, stored: str) -> str:
        """Return *stored* itself.

        :raises CredentialError: it looks encrypted (field failure L-16).
        """
        match shape_of(stored):
            case Shape.RSA | Shape.FERNET as shape:
                cannot_decrypt(f"it looks encrypted ({shape.value}) and no key was given", "give --cipher and --key")
            case Shape.DAMAGED:
                damaged()
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
