"""Verifies a saved report: the signature of its manifest by a key from elsewhere, and the digests
of its files by the manifest. Works offline.

The manifest is an in-toto statement in a DSSE envelope. Everything in the report's folder is
untrusted until the signature has been verified; the payload is not parsed before.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from .errors import ClientError
from .reports import MANIFEST_FILE

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:palimpsest:manifest:1"
REPORT_FILES = ("report.json", "report.html")
MAX_ENVELOPE_BYTES = 128 << 20
MAX_REPORT_BYTES = 1 << 30
MAX_KEY_BYTES = 16 << 10
MAX_SIGNATURES = 16
_CHUNK_BYTES = 1 << 20


class NotVerified(ClientError):
    """The report is not what the holder of the key signed, or nothing was signed."""


@dataclass(frozen=True)
class PublicKey:
    """An Ed25519 key; its id is the sha256 of the key in DER (SubjectPublicKeyInfo)."""

    key: Ed25519PublicKey
    path: Path

    @property
    def key_id(self) -> str:
        encoded = self.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(encoded).hexdigest()


@dataclass(frozen=True)
class VerifiedReport:
    """A report that is as it was signed. `predicate` is the signed manifest; `files` are the
    verified files and their sha256."""

    folder: Path
    key_id: str
    files: Mapping[str, str]
    predicate: Mapping[str, Any]

    @property
    def audit(self) -> Mapping[str, Any]:
        """Id, name and time of submission of the audit."""
        audit: Mapping[str, Any] = self.predicate["audit"]
        return audit

    @property
    def finished_at(self) -> str:
        """When the report was made, by the clock of the signer's database; RFC 3339."""
        return str(self.predicate["report"]["finished_at"])


def load_public_key(path: Path) -> PublicKey:
    """Read a public key in PEM.

    Raises:
        ClientError: the file cannot be read, or holds no Ed25519 public key.
    """
    with _open_regular(path, MAX_KEY_BYTES, ClientError) as file:
        pem = file.read(MAX_KEY_BYTES + 1)
    if b"PRIVATE KEY" in pem:
        raise ClientError(
            f"{path.name} is a private key: give the public one, which ends in .pub, and keep the "
            "private one where the gateway runs"
        )
    try:
        key = load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ClientError(f"{path.name} is not a public key in PEM") from None
    if not isinstance(key, Ed25519PublicKey):
        raise ClientError(f"{path.name} is not an Ed25519 key")
    return PublicKey(key, path)


def verify_report(path: Path, key: PublicKey) -> VerifiedReport:
    """Verify a report as `Report.save` wrote it.

    Args:
        path: its folder, or one of the files in it. Of report.json and report.html, the given one
            must be as signed; of a folder, both.
        key: the signer's, obtained otherwise than with the report.

    Raises:
        NotVerified: the message says what is wrong.
    """
    if not path.exists():
        raise NotVerified(f"there is no {path.name}")
    folder = path if path.is_dir() else path.parent
    if key.path.resolve().is_relative_to(folder.resolve()):
        raise NotVerified(
            f"{key.path.name} is in the report's folder: whoever changed the report could "
            "have put it there; get the key from the operator and keep it elsewhere"
        )
    predicate, digests = _verify_statement(folder, key)
    is_whole = path.is_dir() or path.name == MANIFEST_FILE
    selected = tuple(digests) if is_whole else (path.name,)
    for name in selected:
        if name not in digests:
            raise NotVerified(f"{name} is not part of the signed manifest")
        if _digest_file(folder / name) != digests[name]:
            raise NotVerified(
                f"{name} was changed after it was signed: its sha256 is not the one in the manifest"
            )
    return VerifiedReport(folder, key.key_id, {name: digests[name] for name in selected}, predicate)


def read_unverified(path: Path) -> Mapping[str, Any]:
    """The predicate of a saved report's manifest, whoever wrote it. Only that report.json belongs
    to it is checked.

    Raises:
        NotVerified: there is no such manifest, or report.json does not belong to it.
    """
    folder = path if path.is_dir() else path.parent
    predicate, digests = _parse_statement(
        _decode_base64(_read_envelope(folder).get("payload"), "payload")
    )
    if _digest_file(folder / "report.json") != digests["report.json"]:
        raise NotVerified(f"report.json does not belong to {MANIFEST_FILE}")
    return predicate


def _verify_statement(folder: Path, key: PublicKey) -> tuple[Mapping[str, Any], dict[str, str]]:
    """The signed predicate, and the digests of the report's files by name."""
    return _parse_statement(_verify_envelope(_read_envelope(folder), key))


def _read_envelope(folder: Path) -> dict[str, Any]:
    with _open_regular(folder / MANIFEST_FILE, MAX_ENVELOPE_BYTES, NotVerified) as file:
        return _parse_object(file.read(MAX_ENVELOPE_BYTES + 1), MANIFEST_FILE)


def _parse_statement(payload: bytes) -> tuple[Mapping[str, Any], dict[str, str]]:
    statement = _parse_object(payload, "the signed manifest")
    if statement.get("_type") != STATEMENT_TYPE or statement.get("predicateType") != PREDICATE_TYPE:
        raise NotVerified(
            "the signed content is not a report manifest in a format that this version knows"
        )
    predicate, subjects = statement.get("predicate"), statement.get("subject")
    try:
        digests = {str(one["name"]): str(one["digest"]["sha256"]) for one in subjects or ()}
        is_complete = bool(
            isinstance(predicate, dict)
            and predicate["audit"]["id"]
            and predicate["report"]["finished_at"]
        )
    except (TypeError, KeyError, AttributeError):
        digests, is_complete = {}, False
    if not is_complete or "report.json" not in digests or not digests.keys() <= set(REPORT_FILES):
        raise NotVerified("the signed manifest does not describe a report")
    return predicate or {}, digests


def _verify_envelope(envelope: Mapping[str, Any], key: PublicKey) -> bytes:
    """The payload that the key has signed."""
    kind, signatures = envelope.get("payloadType"), envelope.get("signatures")
    if kind != PAYLOAD_TYPE or not isinstance(signatures, list):
        raise NotVerified(f"{MANIFEST_FILE} is not a signed manifest")
    if not signatures:
        raise NotVerified(
            "the report is not signed: the gateway that it was fetched from has no signing key"
        )
    if len(signatures) > MAX_SIGNATURES or not all(isinstance(one, dict) for one in signatures):
        raise NotVerified(f"{MANIFEST_FILE} has signatures that no gateway writes")
    payload = _decode_base64(envelope.get("payload"), "payload")
    signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(payload), payload)
    for one in signatures:
        try:
            key.key.verify(_decode_base64(one.get("sig"), "signature"), signed)
        except InvalidSignature:
            continue
        return payload
    if not any(one.get("keyid") == key.key_id for one in signatures):
        raise NotVerified(
            f"the report was signed with another key than {key.path.name} ({key.key_id})"
        )
    raise NotVerified(
        f"{MANIFEST_FILE} was changed after it was signed: the signature does not match"
    )


def _decode_base64(value: object, what: str) -> bytes:
    if not isinstance(value, str):
        raise NotVerified(f"{MANIFEST_FILE} has no {what}")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise NotVerified(f"the {what} in {MANIFEST_FILE} is not base64") from None


def _parse_object(data: bytes, what: str) -> dict[str, Any]:
    """A JSON object; a key that occurs twice is an error, as readers disagree on which one counts.

    Raises:
        NotVerified: the data is not a JSON object, or a key occurs twice.
    """
    try:
        value = json.loads(
            data, object_pairs_hook=_refuse_duplicates, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise NotVerified(f"{what} is not a JSON object")
    return value


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("duplicate key")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _digest_file(path: Path) -> str:
    digest = hashlib.sha256()
    with _open_regular(path, MAX_REPORT_BYTES, NotVerified) as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def _open_regular(path: Path, max_bytes: int, error_type: type[ClientError]) -> Iterator[IO[bytes]]:
    """Open a regular file of bounded size; never waits for a writer."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise error_type(
            f"there is no {path.name} in {path.parent.name or 'this folder'}"
        ) from None
    except OSError as error:
        raise error_type(f"cannot read {path.name}: {error.strerror}") from None
    opened = os.fstat(descriptor)
    is_regular = stat.S_ISREG(opened.st_mode)
    if not is_regular or opened.st_size > max_bytes:
        os.close(descriptor)
        why = f"is larger than {max_bytes >> 10:,} KiB" if is_regular else "is not a regular file"
        raise error_type(f"{path.name} {why}")
    with os.fdopen(descriptor, "rb") as file:
        yield file
