"""A saved report: what was signed verifies, and every change of it is noticed."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.client import ClientError
from services.client.verification import (
    MAX_ENVELOPE_BYTES,
    PAYLOAD_TYPE,
    PREDICATE_TYPE,
    STATEMENT_TYPE,
    NotVerified,
    PublicKey,
    load_public_key,
    verify_report,
)
from services.signing import SigningKey, create_key, make_envelope

FILES = {"report.json": b'{"rows": []}', "report.html": b"<!doctype html><p>No leak seen"}


def make_statement(**changes: Any) -> dict[str, Any]:
    return {
        "_type": STATEMENT_TYPE,
        "subject": [
            {"name": name, "digest": {"sha256": hashlib.sha256(data).hexdigest()}}
            for name, data in FILES.items()
        ],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "audit": {"id": "aud_1", "name": "an audit", "submitted_at": "2026-01-02T03:04:05Z"},
            "report": {"job": "job_1", "finished_at": "2026-01-02T03:14:05Z"},
        },
        **changes,
    }


class Saved:
    """A report's folder, its signer's key, and the public key in another folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, keys = folder / "report", folder / "keys"
        self.folder.mkdir()
        keys.mkdir()
        self.signer = create_key(keys / "key")
        self.public = load_public_key(keys / "key.pub")
        self.other = create_key(keys / "other")
        self.other_public = load_public_key(keys / "other.pub")
        for name, data in FILES.items():
            (self.folder / name).write_bytes(data)
        self.sign(make_statement())

    @property
    def manifest(self) -> Path:
        return self.folder / "manifest.json"

    @property
    def envelope(self) -> dict[str, Any]:
        return dict(json.loads(self.manifest.read_bytes()))

    def sign(self, statement: Any, key: SigningKey | None = None) -> None:
        payload = statement if isinstance(statement, bytes) else json.dumps(statement).encode()
        self.write(make_envelope(key or self.signer, PAYLOAD_TYPE, payload))

    def write(self, envelope: Any) -> None:
        self.manifest.write_text(json.dumps(envelope))

    def refuse(self, said: str, key: PublicKey | None = None, path: Path | None = None) -> None:
        with pytest.raises(NotVerified, match=said):
            verify_report(path or self.folder, key or self.public)


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    return Saved(tmp_path)


def test_a_report_as_it_was_signed(saved: Saved) -> None:
    for path in (saved.folder, saved.manifest):
        found = verify_report(path, saved.public)
        assert found.files == {n: hashlib.sha256(d).hexdigest() for n, d in FILES.items()}
        assert found.key_id == saved.signer.key_id
        assert (found.audit["id"], found.finished_at) == ("aud_1", "2026-01-02T03:14:05Z")
    found = verify_report(saved.folder / "report.html", saved.public)
    assert list(found.files) == ["report.html"]


@pytest.mark.parametrize("name", sorted(FILES))
def test_any_changed_byte_of_a_file(saved: Saved, name: str) -> None:
    path, data = saved.folder / name, FILES[name]
    for changed in (
        bytes([data[0] ^ 1]) + data[1:],
        data[:-1] + bytes([data[-1] ^ 128]),
        data + b"\n",
        data[:-1],
        b"",
    ):
        path.write_bytes(changed)
        saved.refuse(f"{name} was changed after it was signed")
        saved.refuse(f"{name} was changed after it was signed", path=path)
    path.unlink()
    saved.refuse(f"there is no {name} in report")
    (other,) = FILES.keys() - {name}
    assert verify_report(saved.folder / other, saved.public).files.keys() == {other}


def test_what_is_not_part_of_the_report(saved: Saved) -> None:
    """A copy under another name is not verified by what lies beside it."""
    copy = saved.folder / "report-copy.html"
    copy.write_bytes(b"<p>Signed by the king")
    saved.refuse("report-copy.html is not part of the signed manifest", path=copy)
    saved.refuse("there is no nothing", path=saved.folder / "nothing")


def test_swapped_files(saved: Saved) -> None:
    for name, data in zip(FILES, reversed(FILES.values()), strict=True):
        (saved.folder / name).write_bytes(data)
    saved.refuse(r"report\.json was changed")


def test_every_changed_character_of_payload_and_signature(saved: Saved) -> None:
    envelope = saved.envelope
    payload = base64.b64decode(envelope["payload"])
    for i in range(len(payload)):
        changed = payload[:i] + bytes([payload[i] ^ 1]) + payload[i + 1 :]
        saved.write(envelope | {"payload": base64.b64encode(changed).decode()})
        saved.refuse("manifest.json was changed after it was signed")
    signature = base64.b64decode(envelope["signatures"][0]["sig"])
    for i in range(len(signature)):
        changed = signature[:i] + bytes([signature[i] ^ 1]) + signature[i + 1 :]
        forged = envelope["signatures"][0] | {"sig": base64.b64encode(changed).decode()}
        saved.write(envelope | {"signatures": [forged]})
        saved.refuse("manifest.json was changed after it was signed")


def test_another_key(saved: Saved) -> None:
    saved.refuse(r"signed with another key than other\.pub", key=saved.other_public)
    saved.sign(make_statement(), saved.other)
    saved.refuse(r"signed with another key than key\.pub")
    # naming the right key does not help
    envelope = saved.envelope
    envelope["signatures"][0]["keyid"] = saved.signer.key_id
    saved.write(envelope)
    saved.refuse("changed after it was signed")


def test_one_signature_of_several_is_enough(saved: Saved) -> None:
    """A report may be signed by the old and the new key of an operator."""
    ours = saved.envelope
    saved.sign(make_statement(), saved.other)
    both = ours | {"signatures": [*saved.envelope["signatures"], *ours["signatures"]]}
    saved.write(both)
    assert verify_report(saved.folder, saved.public).key_id == saved.signer.key_id
    assert verify_report(saved.folder, saved.other_public).key_id == saved.other.key_id
    saved.write(ours | {"signatures": ours["signatures"] * 17})
    saved.refuse("signatures that no gateway writes")


def test_no_signature(saved: Saved) -> None:
    saved.write(saved.envelope | {"signatures": []})
    saved.refuse("the report is not signed")
    saved.manifest.unlink()
    saved.refuse(r"there is no manifest\.json in report")


def test_a_signature_of_something_else(saved: Saved) -> None:
    """A signature by the right key counts for a manifest only, and only as what it was made."""
    envelope = make_envelope(saved.signer, "text/plain", json.dumps(make_statement()).encode())
    saved.write(envelope)
    saved.refuse("not a signed manifest")
    saved.write(envelope | {"payloadType": PAYLOAD_TYPE})
    saved.refuse("changed after it was signed")
    for changes in (
        {"_type": "https://in-toto.io/Statement/v0.1"},
        {"predicateType": "https://slsa.dev/provenance/v1"},
    ):
        saved.sign(make_statement(**changes))
        saved.refuse("not a report manifest")


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": []},
        {"subject": None},
        {"subject": [1]},
        {"subject": 7},
        {"subject": [{"name": "report.json"}]},
        {"subject": [{"name": "report.json", "digest": "00"}]},
        {"subject": make_statement()["subject"][1:]},
        {"subject": [*make_statement()["subject"], {"name": "/etc/passwd", "digest": {"sha256": ""}}]},
        {"predicate": None},
        {"predicate": []},
        {"predicate": {"audit": 1, "report": 2}},
        {"predicate": {"audit": {"id": "aud_1"}}},
    ],
)  # fmt: skip
def test_a_signed_manifest_that_describes_no_report(saved: Saved, changes: Any) -> None:
    saved.sign(make_statement(**changes))
    saved.refuse("does not describe a report")


def _deep(depth: int) -> bytes:
    return b'{"payload": ' + b"[" * depth + b"]" * depth + b"}"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not a JSON object"),
        (b"\xff\xfe", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (_deep(200_000), "not a JSON object"),
        (b'{"payload": NaN}', "not a JSON object"),
        (b'{"payload": ' + b"9" * 10_000 + b"}", "not a JSON object"),
        (b'{"signatures": [], "signatures": []}', "not a JSON object"),
        (b"{}", "not a signed manifest"),
        (json.dumps({"payloadType": PAYLOAD_TYPE, "signatures": {}}).encode(), "not a signed"),
        (json.dumps({"payloadType": [], "signatures": [{}]}).encode(), "not a signed"),
        (json.dumps({"payloadType": PAYLOAD_TYPE, "signatures": [1]}).encode(), "no gateway"),
        (json.dumps({"payloadType": PAYLOAD_TYPE, "signatures": [{}]}).encode(), "has no payload"),
        (
            json.dumps({"payloadType": PAYLOAD_TYPE, "signatures": [{}], "payload": "*"}).encode(),
            "payload in manifest.json is not base64",
        ),
        (
            json.dumps({"payloadType": PAYLOAD_TYPE, "signatures": [{}], "payload": ""}).encode(),
            "has no signature",
        ),
    ],
)
def test_a_hostile_manifest(saved: Saved, data: bytes, said: str) -> None:
    saved.manifest.write_bytes(data)
    saved.refuse(said)


def test_a_signed_payload_that_is_no_object(saved: Saved) -> None:
    for payload in (b"", b"[]", b'{"a": 1, "a": 2}', _deep(200_000)):
        saved.sign(payload)
        saved.refuse("the signed manifest is not a JSON object")


def test_files_that_are_none(saved: Saved) -> None:
    """Nothing waits for a writer, and nothing is read that is too large to be a manifest."""
    saved.manifest.unlink()
    os.mkfifo(saved.manifest)
    saved.refuse(r"manifest\.json is not a regular file")
    saved.manifest.unlink()
    with saved.manifest.open("wb") as file:
        file.truncate(MAX_ENVELOPE_BYTES + 1)
    saved.refuse(r"manifest\.json is larger than")
    saved.manifest.unlink()
    saved.manifest.mkdir()
    saved.refuse(r"manifest\.json")


def test_the_key_is_never_taken_from_the_report(saved: Saved) -> None:
    for place in (saved.folder, saved.folder / "keys"):
        place.mkdir(exist_ok=True)
        shipped = place / "operator.pub"
        shipped.write_bytes(saved.public.path.read_bytes())
        saved.refuse("is in the report's folder", key=load_public_key(shipped))
    linked = saved.folder.parent / "outside.pub"
    linked.symlink_to(saved.folder / "operator.pub")
    saved.refuse("is in the report's folder", key=load_public_key(linked))


def _no_key(path: Path) -> None:
    """Nothing is there."""


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (_no_key, "there is no a.pub"),
        (lambda path: path.write_bytes(b"\0" * 20_000), "larger than 16 KiB"),
        (lambda path: path.write_text("-----BEGIN PUBLIC KEY-----\nAA\n"), "not a public key"),
        (os.mkfifo, "not a regular file"),
        (
            lambda path: path.write_bytes((path.parent / "keys" / "key").read_bytes()),
            "a.pub is a private key",
        ),
        (
            lambda path: path.write_text(
                "-----BEGIN PUBLIC KEY-----\n"
                "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt\n"
                "6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==\n"
                "-----END PUBLIC KEY-----\n"
            ),
            "a.pub is not an Ed25519 key",
        ),
    ],
)
def test_what_is_no_public_key(saved: Saved, write: Callable[[Path], Any], said: str) -> None:
    path = saved.folder.parent / "a.pub"
    write(path)
    with pytest.raises(ClientError, match=said):
        load_public_key(path)
