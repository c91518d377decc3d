"""A worker is named after its container, which a resolver like Docker's knows."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from workers.service_name import find_service_name

ADDRESS = "172.18.0.7"
QUESTION = b"\x017\x010\x0218\x03172\x07in-addr\x04arpa\x00\x00\x0c\x00\x01"
Answer = Callable[[bytes], bytes]


@pytest.fixture
def serve_names() -> Iterator[Callable[[Answer], tuple[str, int]]]:
    """Start a resolver on a free port that answers each query with what the function returns."""
    sockets: list[socket.socket] = []

    def start(answer: Answer) -> tuple[str, int]:
        listening = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listening.bind(("127.0.0.1", 0))
        sockets.append(listening)

        def serve() -> None:
            query, sender = listening.recvfrom(4096)
            listening.sendto(answer(query), sender)

        threading.Thread(target=serve, daemon=True).start()
        host, port = listening.getsockname()
        return host, port

    yield start
    for one in sockets:
        one.close()


def answer_with(name: str) -> Answer:
    """One PTR record, as Docker's resolver writes it: its owner is a pointer to the question."""

    def answer(query: bytes) -> bytes:
        assert query[12:] == QUESTION
        encoded = b"".join(bytes([len(p)]) + p.encode() for p in name.split(".")) + b"\0"
        record = b"\xc0\x0c" + struct.pack(">HHIH", 12, 1, 600, len(encoded)) + encoded
        return query[:2] + b"\x81\x80" + struct.pack(">HHHH", 1, 1, 0, 0) + query[12:] + record

    return answer


@pytest.mark.parametrize(
    "container",
    ["palimpsest-worker-attack-2", "my_project_worker-attack_2", "worker-attack-2"],
)
def test_the_name_is_service_and_number(
    container: str, serve_names: Callable[[Answer], tuple[str, int]]
) -> None:
    resolver = serve_names(answer_with(f"{container}.palimpsest_inside"))
    assert find_service_name("worker-attack", [ADDRESS], resolver) == "worker-attack-2"


def refuse(query: bytes) -> bytes:
    return query[:2] + b"\x81\x83" + struct.pack(">HHHH", 1, 0, 0, 0) + query[12:]


def point_in_a_circle(query: bytes) -> bytes:
    record = b"\xc0\x0c" + struct.pack(">HHIH", 12, 1, 600, 2)
    start = len(query) + len(record)
    pointer = struct.pack(">H", 0xC000 | start)
    return (
        query[:2] + b"\x81\x80" + struct.pack(">HHHH", 1, 1, 0, 0) + query[12:] + record + pointer
    )


@pytest.mark.parametrize(
    "answer",
    [
        refuse,
        answer_with("palimpsest-worker-attack-run-1f2e.palimpsest_inside"),
        answer_with("palimpsest-worker-train-2.palimpsest_inside"),
        lambda query: query[:14],
        point_in_a_circle,
    ],
)
def test_another_container_or_no_answer_is_no_name(
    answer: Answer, serve_names: Callable[[Answer], tuple[str, int]]
) -> None:
    assert find_service_name("worker-attack", [ADDRESS], serve_names(answer)) is None


def test_where_there_is_no_such_resolver_there_is_no_name() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.1", 0))
        resolver = closed.getsockname()
    assert find_service_name("worker-attack", [ADDRESS], resolver) is None
    assert find_service_name("worker-attack", [], resolver) is None
