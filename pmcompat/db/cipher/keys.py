"""Read key material for the ciphers: certificates, private keys, PKCS#12 keystores, files of Fernet keys.

What lives here: files and formats. Messages name the file, never what is in it.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key, pkcs12

from pmcompat.errors import ConfigurationError
from pmcompat.model import Secret

#: more than any key file has; a wrong path must not fill the memory
_LARGEST_FILE = 1 << 20


def is_fernet_file(path: Path) -> bool:
    """Tell whether *path* is a file of Fernet keys rather than an engine's key.

    :raises ConfigurationError: the file cannot be read.
    """
    lines = _lines(_read(path))
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


def public_key(path: Path) -> rsa.RSAPublicKey:
    """Return the key of a certificate, PEM or DER.

    :raises ConfigurationError: it is no certificate, or its key is no RSA key.
    """
    data = _read(path)
    try:
        certificate = x509.load_pem_x509_certificate(data) if b"-----BEGIN" in data else x509.load_der_x509_certificate(data)
        public = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        _unusable(path, "it is not an X.509 certificate")
    if not isinstance(public, rsa.RSAPublicKey):
        _unusable(path, "its key is not an RSA key")
    return public


def private_key(path: Path, passphrase: Secret | None) -> tuple[rsa.RSAPrivateKey, rsa.RSAPublicKey | None]:
    """Return the private key in a key file (PEM, DER) or keystore (PKCS#12), and the key of the keystore's certificate.

    :raises ConfigurationError: the file cannot be read or holds no RSA key, or its passphrase is missing or wrong.
    """
    data = _read(path)
    phrase = passphrase.reveal().encode() if passphrase else None
    # a key change names two files with one passphrase, and only one of them may have one
    for attempt in (phrase, None):
        with suppress(ValueError, TypeError, UnsupportedAlgorithm):
            key, certificate = _loaded(data, attempt)
            break
    else:
        _unusable(
            path,
            "it is not a private key or keystore, or its passphrase is missing or wrong",
            "put the passphrase into the variable PMCOMPAT_KEY_PASSPHRASE",
        )
    if not isinstance(key, rsa.RSAPrivateKey):
        _unusable(path, "it holds no RSA key")
    public = certificate.public_key() if certificate else None
    return key, public if isinstance(public, rsa.RSAPublicKey) else None


def _loaded(data: bytes, phrase: bytes | None) -> tuple[PrivateKeyTypes | None, x509.Certificate | None]:
    if b"-----BEGIN" in data:
        return load_pem_private_key(data, phrase), None
    try:
        key, certificate, _ = pkcs12.load_key_and_certificates(data, phrase)
    except ValueError:
        return load_der_private_key(data, phrase), None
    return key, certificate


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
