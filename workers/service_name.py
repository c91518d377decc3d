"""A worker's name in a composition: its service and its number there, as in `worker-attack-2`.

A container's host name is a random number. Docker's own resolver knows the container's real name,
`palimpsest-worker-attack-2`, as the reverse name of its address, also after `--scale`.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
import socket
import struct
from collections.abc import Iterable

RESOLVER = ("127.0.0.11", 53)  # in every container on a network that compose has made
TIMEOUT_S = 2.0
TRIES = 3
MAX_ANSWER_BYTES = 4096
_PTR, _INTERNET = 12, 1
_QUERY_FLAGS = 0x0100  # recursion desired


def find_service_name(
    service: str, addresses: Iterable[str], resolver: tuple[str, int] = RESOLVER
) -> str | None:
    """SERVICE-NUMBER of the container with one of these addresses; None if the resolver does not
    answer, or names no container of that service.

    Args:
        service: as in docker-compose.yml.
        addresses: IPv4 addresses of this container.
    """
    numbered = re.compile(rf"(?:^|[-_.]){re.escape(service)}[-_]([0-9]{{1,9}})(?:\.|$)")
    for address in addresses:
        name = _resolve_reverse(address, resolver)
        if name is not None and (match := numbered.search(name)):
            return f"{service}-{match[1]}"
    return None


def list_own_addresses() -> list[str]:
    """The IPv4 addresses of this machine's host name; in a container those of all its networks."""
    try:
        return socket.gethostbyname_ex(socket.gethostname())[2]
    except OSError:
        return []


def _resolve_reverse(address: str, resolver: tuple[str, int]) -> str | None:
    question = _encode_name(ipaddress.ip_address(address).reverse_pointer)
    question += struct.pack(">HH", _PTR, _INTERNET)
    for _ in range(TRIES):
        query_id = secrets.randbelow(1 << 16)
        header = struct.pack(">HHHHHH", query_id, _QUERY_FLAGS, 1, 0, 0, 0)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(TIMEOUT_S)
            try:
                asking.connect(resolver)
                asking.send(header + question)
                answer = asking.recv(MAX_ANSWER_BYTES)
            except TimeoutError:
                continue
            except OSError:  # nobody listens there: this is no container of Docker's
                return None
        if answer[:2] == header[:2]:
            return _read_name(answer, len(header) + len(question))
    return None


def _encode_name(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def _read_name(answer: bytes, start: int) -> str | None:
    """The name in the first record, which begins at `start`; None if there is none."""
    try:
        (count,) = struct.unpack_from(">H", answer, 6)
        if not count:
            return None
        record = _skip_name(answer, start)
        kind, _, _, _ = struct.unpack_from(">HHIH", answer, record)
        return _decode_name(answer, record + 10) if kind == _PTR else None
    except (struct.error, IndexError, UnicodeDecodeError):
        return None


def _skip_name(answer: bytes, at: int) -> int:
    while answer[at]:
        if answer[at] >= 0xC0:  # a pointer to a name elsewhere ends this one
            return at + 2
        at += 1 + answer[at]
    return at + 1


def _decode_name(answer: bytes, at: int) -> str:
    labels: list[str] = []
    for _ in range(128):  # labels and pointers: a circle of pointers ends
        length = answer[at]
        if not length:
            break
        if length >= 0xC0:
            at = (length & 0x3F) << 8 | answer[at + 1]
            continue
        labels.append(answer[at + 1 : at + 1 + length].decode("ascii"))
        at += 1 + length
    return ".".join(labels)
