"""Read key material for the ciphers: certificates, private keys, PKCS#12 keystores, files of Fernet keys.

What lives here: files and formats. Messages name the file, never what is in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key, pkcs12

from pmcompat.db.cipher import Cipher, CipherSettings, EngineCipher, FernetCipher, PlainCipher
from pmcompat.errors import ConfigurationError
from pmcompat.model import Secret

NAMES = ("engine", "fernet", "plain")
#: more than any key file has; a wrong path must not fill the memory
_LARGEST_FILE = 1 << 20


def load(settings: CipherSettings) -> Cipher | None:
    """Return the cipher that *settings* name or imply; None where they say nothing.

    :raises ConfigurationError: an unknown name, or key material that is missing, unreadable or contradictory.
    """
    name = settings.cipher or _implied(settings)
    if name not in {None, *NAMES}:
        raise ConfigurationError(
            f"there is no cipher {name!r}", state="nothing was done", fix=f"choose one of {', '.join(NAMES)}"
        )
    if name == "engine":
        return engine_cipher(cert=settings.cert, key=settings.key, passphrase=settings.passphrase)
    if name == "fernet":
        if settings.key is None:
            raise ConfigurationError(
                "the fernet cipher needs a file of keys", state="nothing was done", fix="give --key FILE, one key per line"
            )
        return FernetCipher(*fernet_keys(settings.key))
    return PlainCipher() if name == "plain" else None


def _implied(settings: CipherSettings) -> str | None:
    if settings.cert is not None:
        return "engine"
    if settings.key is None:
        return None
    return "fernet" if _looks_like_fernet(_read(settings.key)) else "engine"


def _looks_like_fernet(data: bytes) -> bool:
    lines = _lines(data)
    return bool(lines) and all(len(line) == 44 for line in lines)


def _lines(data: bytes) -> list[str]:
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        return []
    stripped = (line.strip() for line in text.splitlines())
    return [line for line in stripped if line and not line.startswith("#")]


def fernet_keys(path: Path) -> list[str]:
    """Return the keys in *path*, newest first; blank lines and ``#`` comments do not count.

    :raises ConfigurationError: the file cannot be read or holds no key.
    """
    keys = _lines(_read(path))
    if not keys:
        _unusable(path, "it holds no Fernet key", "write one key per line, the newest first")
    return keys


def engine_cipher(*, cert: Path | None = None, key: Path | None = None, passphrase: Secret | None = None) -> EngineCipher:
    """Return the engine's cipher from its certificate (PEM or DER), its key (PEM or DER) or its keystore (PKCS#12).

    :raises ConfigurationError: neither is given, one cannot be read, or the two do not belong together.
    """
    if cert is None and key is None:
        raise ConfigurationError(
            "the engine cipher needs the engine's certificate or its key",
            state="nothing was done",
            fix="give --cert FILE (enough to store passwords) or --key FILE (needed to use them)",
        )
    private, public_of_store = _private_key(key, passphrase) if key else (None, None)
    if private is not None and public_of_store is not None:
        EngineCipher(public_of_store, private)  # a keystore whose certificate is not its key's is refused
    return EngineCipher(_public_key(cert) if cert else None, private)


def _public_key(path: Path) -> rsa.RSAPublicKey:
    data = _read(path)
    try:
        certificate = x509.load_pem_x509_certificate(data) if b"-----BEGIN" in data else x509.load_der_x509_certificate(data)
        public = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        _unusable(path, "it is not an X.509 certificate")
    if not isinstance(public, rsa.RSAPublicKey):
        _unusable(path, "its key is not an RSA key")
    return public


def _private_key(path: Path, passphrase: Secret | None) -> tuple[rsa.RSAPrivateKey, rsa.RSAPublicKey | None]:
    data = _read(path)
    phrase = passphrase.reveal().encode() if passphrase else None
    certificate = None
    try:
        if b"-----BEGIN" in data:
            key = load_pem_private_key(data, phrase)
        else:
            try:
                key, certificate, _ = pkcs12.load_key_and_certificates(data, phrase)  # type: ignore[assignment] # checked below
            except ValueError:
                key = load_der_private_key(data, phrase)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        _unusable(
            path,
            "it is not a private key or keystore, or its passphrase is missing or wrong",
            "put the passphrase into the variable PMCOMPAT_KEY_PASSPHRASE",
        )
    if not isinstance(key, rsa.RSAPrivateKey):
        _unusable(path, "it holds no RSA key")
    public = certificate.public_key() if certificate else None
    return key, public if isinstance(public, rsa.RSAPublicKey) else None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        _unusable(path, error.strerror or type(error).__name__, "check the path and who may read it")
    if len(data) > _LARGEST_FILE:
        _unusable(path, "it is too large to be a key")
    return data


def _unusable(path: Path, why: str, fix: str = "check the path") -> NoReturn:
    raise ConfigurationError(f"the key file {path} cannot be used", why=why, state="nothing was done", fix=fix) from None
