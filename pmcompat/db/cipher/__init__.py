"""How agents' passwords lie in the database: the ciphers, and the value a stored password is read as.

What lives here: choosing a cipher. Shapes and stored values are :mod:`pmcompat.db.cipher.stored`'s, the ciphers
:mod:`pmcompat.db.cipher.encrypting`'s, key files :mod:`pmcompat.db.cipher.keys`'. No SQL.

Upstream's format (database facts §13) is RSA with PKCS#1 v1.5 padding and the engine certificate's key, as base64 on one
line; an empty password is stored as it is. Passwords are never trimmed here (field failure L-17) and what cannot be decrypted
is never handed out instead (L-16): a plain value among encrypted ones is recognised and stays usable (B-109), anything that
*looks* encrypted and cannot be decrypted is a CredentialError for that one agent.

Ciphers and stored secrets hold nothing that changes: they may be shared between threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from pmcompat.db.baseline import made_by_init
from pmcompat.db.cipher.stored import (
    LONGEST_PASSWORD,
    NO_CIPHER,
    Cipher,
    NoCipher,
    PlainCipher,
    Shape,
    StoredSecret,
    shape_of,
)
from pmcompat.errors import ConfigurationError
from pmcompat.model import Secret

if TYPE_CHECKING:
    from pmcompat.db.cipher.encrypting import EngineCipher, FernetCipher

__all__ = [
    "LONGEST_PASSWORD",
    "NAMES",
    "NO_CIPHER",
    "Cipher",
    "CipherSettings",
    "EngineCipher",
    "FernetCipher",
    "NoCipher",
    "PlainCipher",
    "Shape",
    "StoredSecret",
    "choose",
    "load",
    "shape_of",
]

NAMES = ("engine", "fernet", "plain")


def __getattr__(name: str) -> Any:
    """Load the ciphers that encrypt when they are asked for: their library costs every command 40 ms."""
    if name not in {"EngineCipher", "FernetCipher"}:
        raise AttributeError(name)
    from pmcompat.db.cipher import encrypting

    return getattr(encrypting, name)


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
            from pmcompat.db.cipher import encrypting, keys

            return encrypting.FernetCipher(*keys.fernet_keys(settings.key))
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
    from pmcompat.db.cipher.keys import is_fernet_file

    return "fernet" if is_fernet_file(settings.key) else "engine"


def _engine_cipher(settings: CipherSettings) -> EngineCipher:
    from pmcompat.db.cipher.encrypting import EngineCipher
    from pmcompat.db.cipher.keys import private_key, public_key

    if settings.cert is None and settings.key is None:
        raise ConfigurationError(
            "the engine cipher needs the engine's certificate or its key",
            state="nothing was done",
            fix="give --cert FILE (enough to store passwords) or --key FILE (needed to use them)",
        )
    public = public_key(settings.cert) if settings.cert else None
    if settings.key is None:
        return EngineCipher(public)
    private, public_of_store = private_key(settings.key, settings.passphrase)
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
