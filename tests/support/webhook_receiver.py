"""A receiver of webhooks that speaks TLS, and behaves as badly as a test wants."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

NAME = "receiver.test"


@dataclass
class Received:
    """A request, as it came."""

    request_line: str
    headers: dict[str, str]
    body: bytes

    def is_signed_with(self, secret: str) -> bool:
        """Verify as the Standard Webhooks specification says, from what a receiver has."""
        key = base64.b64decode(secret.split("_", 1)[1])
        content = b".".join(
            [
                self.headers["webhook-id"].encode(),
                self.headers["webhook-timestamp"].encode(),
                self.body,
            ]
        )
        expected = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
        recent = abs(time.time() - int(self.headers["webhook-timestamp"])) < 300
        return recent and f"v1,{expected}" in self.headers["webhook-signature"].split(" ")


Answer = Callable[[ssl.SSLSocket], None]


def answer_with(head: str, body: bytes = b"") -> Answer:
    """Answer with this status line and these headers."""

    def answer(connection: ssl.SSLSocket) -> None:
        connection.sendall(f"HTTP/1.1 {head}\r\n".encode() + b"\r\n" + body)

    return answer


@dataclass
class Receiver:
    """`answers` are given one after the other, the last one again and again."""

    port: int
    trusted_by: ssl.SSLContext
    answers: list[Answer]
    received: list[Received] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        return f"https://{NAME}:{self.port}/hook?tenant=a"


def make_certificate(folder: Path) -> Path:
    """A file with a key and a certificate of its own for NAME."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName(NAME), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "receiver.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return file


@contextmanager
def run_receiver(folder: Path, *answers: Answer) -> Iterator[Receiver]:
    """A receiver on a loopback port, and what verifies it."""
    file = make_certificate(folder)
    server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_tls.load_cert_chain(file)
    trusted_by = ssl.create_default_context(cafile=str(file))
    stopped = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        receiver = Receiver(server.getsockname()[1], trusted_by, list(answers))

        def serve() -> None:
            while not stopped.is_set():
                with suppress(TimeoutError):
                    connection, _ = server.accept()
                    receiver.connections += 1
                    threading.Thread(target=handle, args=(connection,), daemon=True).start()

        def handle(connection: socket.socket) -> None:
            with (
                suppress(OSError, ValueError),
                connection,
                server_tls.wrap_socket(connection, server_side=True) as secured,
            ):
                receiver.received.append(_read_request(secured))
                answer = receiver.answers[0]
                if len(receiver.answers) > 1:
                    receiver.answers.pop(0)
                answer(secured)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            stopped.set()
            thread.join()


def _read_request(connection: ssl.SSLSocket) -> Received:
    with connection.makefile("rb") as stream:
        request_line = stream.readline().decode().strip()
        headers = {}
        while line := stream.readline().strip():
            name, _, value = line.decode().partition(": ")
            headers[name.lower()] = value
        return Received(request_line, headers, stream.read(int(headers["content-length"])))
