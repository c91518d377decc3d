"""The operator's key: made once, readable by its owner only, never overwritten."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_public_key,
)

from services import admin
from services.admin import doctor
from services.signing import (
    MAX_KEY_BYTES,
    SigningKey,
    create_key,
    encode_pre_authentication,
    load_key,
    make_envelope,
)
from shared.config import Settings
from shared.errors import Conflict, InvalidRequest


def test_the_encoding_is_the_one_of_the_dsse_specification() -> None:
    # the example of the specification (protocol.md, "Test Vectors")
    assert (
        encode_pre_authentication("http://example.com/HelloWorld", b"hello world")
        == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    # lengths are of bytes, so that no two pairs of type and payload have one encoding
    assert encode_pre_authentication("é", b"1 x") == "DSSEv1 2 é 3 1 x".encode()


def test_a_key_is_made_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, public = tmp_path / "key", tmp_path / "key.pub"
    old = os.umask(0)
    try:
        assert admin.main(["signing-key", "create", str(path)]) == 0
    finally:
        os.umask(old)
    said = capsys.readouterr()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert said.out == public.read_text() == load_key(path).public_pem
    assert load_key(path).key_id in said.err
    assert "PRIVATE" not in said.out + said.err
    before = path.read_bytes(), public.read_bytes()
    assert admin.main(["signing-key", "create", str(path)]) == 1
    assert "never overwritten" in capsys.readouterr().err
    public.unlink()
    assert admin.main(["signing-key", "create", str(path)]) == 1
    assert (path.read_bytes(), public.exists()) == (before[0], False)
    assert admin.main(["signing-key", "show", str(path)]) == 0
    assert capsys.readouterr().out.encode() == before[1]


def test_a_key_is_not_written_over_a_public_one_or_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "a.pub").write_text("theirs")
    with pytest.raises(Conflict, match=r"a\.pub exists"):
        create_key(tmp_path / "a")
    assert [one.name for one in tmp_path.iterdir()] == ["a.pub"]
    (tmp_path / "b").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Conflict, match="b exists"):
        create_key(tmp_path / "b")
    assert not (tmp_path / "elsewhere").exists()
    assert not (tmp_path / "b.pub").exists()


def test_in_a_folder_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert admin.main(["signing-key", "create", str(tmp_path / "none" / "key")]) == 1
    assert capsys.readouterr().err == "signing-key create: No such file or directory\n"


def test_what_is_signed_can_be_verified_without_our_code(tmp_path: Path) -> None:
    key = create_key(tmp_path / "key")
    envelope = make_envelope(key, "text/plain", b"payload")
    assert base64.b64decode(envelope["payload"]) == b"payload"
    (signature,) = envelope["signatures"]
    public = load_pem_public_key((tmp_path / "key.pub").read_bytes())
    public.verify(base64.b64decode(signature["sig"]), b"DSSEv1 10 text/plain 7 payload")
    assert signature["keyid"] == load_key(tmp_path / "key").key_id
    assert make_envelope(key, "text/plain", b"payload") == envelope
    assert make_envelope(None, "text/plain", b"payload")["signatures"] == []


def test_the_key_is_not_printed(tmp_path: Path) -> None:
    key = create_key(tmp_path / "key")
    assert repr(key) == f"SigningKey({key.key_id})"


def _write_ed25519(path: Path, passphrase: bytes) -> None:
    key = SigningKey(create_key(path.with_name("plain")).private).private
    encryption = BestAvailableEncryption(passphrase)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))


def _write_ec(path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda path: None, "key cannot be read: No such file"),
        (lambda path: path.mkdir(), "key cannot be read|key is not a regular file"),
        (os.mkfifo, "key is not a regular file"),
        (
            lambda path: path.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n"),
            "is not a PEM private",
        ),
        (lambda path: path.write_bytes(b"\xff" * (MAX_KEY_BYTES + 1)), "too large for a key"),
        (lambda path: _write_ed25519(path, b"hush"), "without a passphrase"),
        (_write_ec, "not an Ed25519 key"),
    ],
)
def test_what_is_no_key(tmp_path: Path, write, said: str) -> None:
    write(tmp_path / "key")
    with pytest.raises(InvalidRequest, match=said) as refused:
        load_key(tmp_path / "key")
    assert str(tmp_path) not in str(refused.value)


def test_the_doctor_looks_at_the_key(tmp_path: Path) -> None:
    def check(**settings: object) -> doctor.CheckResult:
        (result,) = (
            one for one in doctor.run_checks(Settings(**settings)) if one.name == "signing"
        )
        return result

    assert "not signed" in check().detail
    assert not check(signing_key=tmp_path / "key").ok
    key = create_key(tmp_path / "key")
    assert check(signing_key=tmp_path / "key") == doctor.CheckResult(
        "signing", True, f"key {key.key_id}"
    )
    (tmp_path / "key").chmod(0o640)
    assert "chmod 600" in check(signing_key=tmp_path / "key").remedy
