"""The operator's Ed25519 key, and signatures in DSSE envelopes (secure-systems-lab/dsse, v1).

Only the gateway holds the key: workers run plugins, which may be anyone's code.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from shared.config import Settings
from shared.errors import Conflict, InvalidRequest

MAX_KEY_BYTES = 16 << 10
PUBLIC_SUFFIX = ".pub"


@dataclass(frozen=True)
class SigningKey:
    """A private key. Its id is the sha256 of the public key in DER (SubjectPublicKeyInfo)."""

    private: Ed25519PrivateKey

    def __repr__(self) -> str:
        return f"SigningKey({self.key_id})"

    @property
    def key_id(self) -> str:
        return compute_key_id(self.private.public_key())

    @property
    def public_pem(self) -> str:
        """The public key as PEM, to hand out."""
        encoded = self.private.public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )
        return encoded.decode()

    def sign(self, payload_type: str, payload: bytes) -> dict[str, str]:
        """One signature of an envelope. Equal payloads give equal signatures."""
        signature = self.private.sign(encode_pre_authentication(payload_type, payload))
        return {"keyid": self.key_id, "sig": base64.b64encode(signature).decode()}


def compute_key_id(key: Ed25519PublicKey) -> str:
    """The id of a public key: 64 hexadecimal digits."""
    return hashlib.sha256(
        key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ).hexdigest()


def encode_pre_authentication(payload_type: str, payload: bytes) -> bytes:
    """The bytes that DSSE signs (PAE): type and payload, each with its length before it."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def make_envelope(key: SigningKey | None, payload_type: str, payload: bytes) -> dict[str, Any]:
    """A DSSE envelope, with no signature if there is no key."""
    return {
        "payloadType": payload_type,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [key.sign(payload_type, payload)] if key else [],
    }


def create_key(path: Path) -> SigningKey:
    """Make a key: the private one in `path`, readable by its owner only, the public one beside it.

    Raises:
        Conflict: one of the two files exists.
        OSError: a file cannot be written; none is left behind.
    """
    public_path = path.with_name(path.name + PUBLIC_SUFFIX)
    if os.path.lexists(public_path):
        raise Conflict(f"{public_path.name} exists: keys are never overwritten; name another file")
    key = SigningKey(Ed25519PrivateKey.generate())
    pem = key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        _write_new(path, pem, 0o600)
    except FileExistsError as error:
        raise Conflict(
            f"{path.name} exists: keys are never overwritten; name another file"
        ) from error
    try:
        _write_new(public_path, key.public_pem.encode(), 0o644)
    except BaseException:
        path.unlink()
        raise
    return key


def _write_new(path: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with contextlib.suppress(OSError):
            path.unlink()
        raise


def load_key(path: Path) -> SigningKey:
    """Read a private key.

    Raises:
        InvalidRequest: the file cannot be read, or does not hold an Ed25519 key without a
            passphrase.
    """
    pem = _read_key_file(path)
    try:
        private = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InvalidRequest(
            f"{path.name} is not a PEM private key that works without a passphrase: make one with "
            "`python -m services.admin signing-key create FILE`"
        ) from None
    if not isinstance(private, Ed25519PrivateKey):
        raise InvalidRequest(
            f"{path.name} is not an Ed25519 key: make one with "
            "`python -m services.admin signing-key create FILE`"
        )
    return SigningKey(private)


def load_configured_key(settings: Settings) -> SigningKey | None:
    """The key that the settings name; None if they name none.

    Raises:
        InvalidRequest: as `load_key`; names the setting.
    """
    if settings.signing_key is None:
        return None
    try:
        return load_key(settings.signing_key)
    except InvalidRequest as error:
        raise InvalidRequest(f"PALIMPSEST_SIGNING_KEY: {error}") from None


def is_private_to_owner(path: Path) -> bool:
    """Whether nobody but the owner may read or change the file."""
    return not path.stat().st_mode & 0o077


def _read_key_file(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InvalidRequest(f"{path.name} is not a regular file")
            pem = file.read(MAX_KEY_BYTES + 1)
    except OSError as error:
        raise InvalidRequest(f"{path.name} cannot be read: {error.strerror}") from None
    if len(pem) > MAX_KEY_BYTES:
        raise InvalidRequest(f"{path.name} is too large for a key")
    return pem
