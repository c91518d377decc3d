"""Attempts to send a message to real receivers, good and bad ones."""

from __future__ import annotations

import base64
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import pytest

from services.webhooks.address import parse_networks
from services.webhooks.request import NO_ADDRESS, DeliveryError, MessageSender
from services.webhooks.signature import sign_message
from shared.jobs.webhooks import DueDelivery
from tests.support.webhook_receiver import NAME, Receiver, answer_with, run_receiver

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
LOOPBACK = parse_networks("127.0.0.0/8")
OK = answer_with("200 OK\r\ncontent-length: 0")


def _make_due(url: str) -> DueDelivery:
    return DueDelivery("msg_1", "whk_1", "a", url, SECRET, '{"type":"webhook.test"}', 1)


def _make_sender(receiver: Receiver, timeout_s: float = 5.0, **options: Any) -> MessageSender:
    options = {"look_up": lambda *_: ["127.0.0.1"], "allowed": LOOPBACK, **options}
    return MessageSender(tls=receiver.trusted_by, total_timeout_s=timeout_s, **options)


def test_a_message_arrives_signed(tmp_path: Path) -> None:
    with run_receiver(tmp_path, OK) as receiver:
        assert _make_sender(receiver).send(_make_due(receiver.url)) == 200
        (received,) = receiver.received
    assert received.request_line == "POST /hook?tenant=a HTTP/1.1"
    assert received.headers["host"] == f"{NAME}:{receiver.port}"
    assert received.headers["content-type"] == "application/json"
    assert received.body == b'{"type":"webhook.test"}'
    assert received.is_signed_with(SECRET)
    assert not received.is_signed_with("whsec_" + base64.b64encode(b"x" * 32).decode())


def test_the_signature_is_that_of_the_specification() -> None:
    """The example of the Standard Webhooks specification's libraries."""
    signature = sign_message(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        '{"test": 2432232314}',
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (answer_with("500 Oops\r\ncontent-length: 0"), "HTTP 500"),
        (answer_with("410 Gone\r\ncontent-length: 0"), "HTTP 410"),
        (lambda connection: connection.sendall(b"SSH-2.0-x\r\n\r\n"), "does not speak HTTP"),
        (lambda connection: None, "does not speak HTTP|connection failed"),
    ],
)
def test_what_is_no_success_is_a_failure(tmp_path: Path, answer: Any, outcome: str) -> None:
    with (
        run_receiver(tmp_path, answer) as receiver,
        pytest.raises(DeliveryError, match=outcome),
    ):
        _make_sender(receiver).send(_make_due(receiver.url))


def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    with run_receiver(tmp_path, OK) as receiver:
        receiver.answers[:] = [
            answer_with(f"307 Over there\r\nlocation: https://127.0.0.1:{receiver.port}/secret")
        ]
        with pytest.raises(DeliveryError, match="HTTP 307: redirects are not followed"):
            _make_sender(receiver).send(_make_due(receiver.url))
        time.sleep(0.2)
        assert receiver.connections == 1


def _never_answer(connection: ssl.SSLSocket) -> None:
    time.sleep(3)


def _answer_slowly(connection: ssl.SSLSocket) -> None:
    """A byte at a time, so that no single wait is long."""
    for byte in b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 1000:
        connection.sendall(bytes([byte]))
        time.sleep(0.05)


def _answer_informally(connection: ssl.SSLSocket) -> None:
    """Never with the real answer."""
    while True:
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        time.sleep(0.01)


@pytest.mark.parametrize("answer", [_never_answer, _answer_slowly, _answer_informally])
def test_an_attempt_has_one_deadline(tmp_path: Path, answer: Any) -> None:
    with run_receiver(tmp_path, answer) as receiver:
        started_at = time.monotonic()
        with pytest.raises(DeliveryError, match="no answer within"):
            _make_sender(receiver, timeout_s=0.6).send(_make_due(receiver.url))
        assert time.monotonic() - started_at < 2


def test_a_receiver_that_does_not_even_greet_has_the_same_deadline(tmp_path: Path) -> None:
    with run_receiver(tmp_path, OK) as receiver, socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://{NAME}:{silent.getsockname()[1]}/"
        started_at = time.monotonic()
        with pytest.raises(DeliveryError, match="no answer within"):
            _make_sender(receiver, timeout_s=0.4).send(_make_due(url))
        assert time.monotonic() - started_at < 2


def test_a_name_server_that_does_not_answer_has_the_same_deadline(tmp_path: Path) -> None:
    def look_up(*_: Any) -> list[str]:
        time.sleep(2)
        return ["127.0.0.1"]

    with run_receiver(tmp_path, OK) as receiver:
        started_at = time.monotonic()
        with pytest.raises(DeliveryError, match="name was not found within"):
            _make_sender(receiver, 0.3, look_up=look_up).send(_make_due(receiver.url))
        assert time.monotonic() - started_at < 1.5


def test_a_body_of_a_gigabyte_is_not_read(tmp_path: Path) -> None:
    sent = []

    def answer_much(connection: ssl.SSLSocket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
        for _ in range(1000):
            connection.sendall(b"x" * 1_000_000)
            sent.append(1)

    with run_receiver(tmp_path, answer_much) as receiver:
        started_at = time.monotonic()
        assert _make_sender(receiver).send(_make_due(receiver.url)) == 200
        assert time.monotonic() - started_at < 2
        assert len(sent) < 20  # what the kernel's buffers took


def test_headers_without_end_are_not_read(tmp_path: Path) -> None:
    def answer_much(connection: ssl.SSLSocket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 10_000_000)

    with (
        run_receiver(tmp_path, answer_much) as receiver,
        pytest.raises(DeliveryError, match="does not speak HTTP"),
    ):
        _make_sender(receiver).send(_make_due(receiver.url))


def test_a_receiver_with_another_certificate_gets_nothing(tmp_path: Path) -> None:
    with run_receiver(tmp_path, OK) as receiver:
        strict = MessageSender(
            LOOPBACK, ssl.create_default_context(), 5, look_up=lambda *_: ["127.0.0.1"]
        )
        with pytest.raises(DeliveryError, match="TLS failed"):
            strict.send(_make_due(receiver.url))
        other_name = f"https://other.test:{receiver.port}/"
        with pytest.raises(DeliveryError, match="TLS failed"):
            _make_sender(receiver).send(_make_due(other_name))
        assert receiver.received == []


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["::1"], ["::ffff:169.254.169.254"], ["fe80::1%1"]],
)
def test_a_name_that_leads_inside_is_not_connected_to(tmp_path: Path, addresses: list[str]) -> None:
    with run_receiver(tmp_path, OK) as receiver:
        sender = _make_sender(receiver, allowed=(), look_up=lambda *_: addresses)
        due = _make_due("https://receiver.test/")
        with pytest.raises(DeliveryError, match="address that is not public"):
            sender.send(due)
        assert receiver.connections == 0


def test_a_name_that_leads_inside_looks_like_one_that_is_not_there(tmp_path: Path) -> None:
    def find_nothing(*_: Any) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    outcomes = set()
    with run_receiver(tmp_path, OK) as receiver:
        for look_up in (find_nothing, lambda *_: [], lambda *_: ["10.0.0.1"]):
            sender = _make_sender(receiver, allowed=(), look_up=look_up)
            with pytest.raises(DeliveryError) as caught:
                sender.send(_make_due("https://db.internal/"))
            outcomes.add(str(caught.value))
    assert outcomes == {NO_ADDRESS}


def test_the_address_that_was_checked_is_connected_to_whatever_the_name_says_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name leads to an allowed address once, and elsewhere ever after."""
    answers = iter([["127.0.0.1"], ["127.0.0.2"]])
    asked = []
    real = socket.getaddrinfo

    def rebind(host: Any, *arguments: Any, **options: Any) -> Any:
        if host == NAME:
            asked.append(host)
            (host,) = next(answers)
        return real(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", rebind)
    only_first = parse_networks("127.0.0.1/32")
    with run_receiver(tmp_path, OK) as receiver:
        sender = MessageSender(only_first, receiver.trusted_by, 5)
        assert sender.send(_make_due(receiver.url)) == 200
        assert asked == [NAME]  # looked up once, so there is no second answer to go to
        with pytest.raises(DeliveryError, match="not public"):
            sender.send(_make_due(receiver.url))
        assert receiver.connections == 1


def test_the_next_address_is_tried_where_the_first_does_not_answer(tmp_path: Path) -> None:
    with run_receiver(tmp_path, OK) as receiver:
        sender = _make_sender(receiver, look_up=lambda *_: ["127.9.9.9", "127.0.0.1"])
        assert sender.send(_make_due(receiver.url)) == 200


def test_a_proxy_of_the_environment_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with run_receiver(tmp_path, OK) as receiver:
        assert _make_sender(receiver).send(_make_due(receiver.url)) == 200


def test_a_url_that_the_setting_no_longer_allows_is_not_sent_to(tmp_path: Path) -> None:
    with run_receiver(tmp_path, OK) as receiver:
        with pytest.raises(DeliveryError, match="port 443"):
            _make_sender(receiver, allowed=()).send(_make_due(receiver.url))
        assert receiver.connections == 0
