"""The ciphers that encrypt: Fernet, and the engine's own RSA."""

from __future__ import annotations

import base64
import binascii
from typing import ClassVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from pmcompat.db.cipher.stored import LONGEST_PASSWORD, Shape, cannot_decrypt, check_comes_back, damaged, has_controls, shape_of
from pmcompat.errors import ConfigurationError, ModelError


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
        check_comes_back(password)
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
                    cannot_decrypt("none of the Fernet keys fits")
            case Shape.RSA:
                cannot_decrypt("it was encrypted with an engine's certificate, not with Fernet")
            case Shape.DAMAGED:
                damaged()
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
        check_comes_back(password)
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
                cannot_decrypt("it was encrypted with Fernet, not with the engine's certificate")
            case Shape.DAMAGED:
                damaged()
        return stored

    def _opened(self, data: bytes) -> str:
        if self._private is None:
            cannot_decrypt("the engine's private key was not given", "give --key FILE (the engine's key or keystore)")
        if len(data) != self._size:
            cannot_decrypt(f"it was encrypted with a key of {len(data) * 8} bits, the one given has {self._size * 8}")
        if not _is_padded(self._private, data):
            cannot_decrypt("it was encrypted with another key, or it was changed since")
        try:
            return _plausible(self._private.decrypt(data, padding.PKCS1v15()))
        except (ValueError, UnsupportedAlgorithm):
            cannot_decrypt("it was encrypted with another key, or it was changed since")


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
    if not 1 <= len(text) <= LONGEST_PASSWORD or has_controls(text):
        cannot_decrypt("what it decrypts to cannot be a password: wrong key, or it was changed since")
    return text
