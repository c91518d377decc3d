"""A TCP proxy in front of a real server: it can be closed for a while, or drop one answer."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

from sqlalchemy.engine import make_url


class TcpProxy:
    """Listens on a loopback port and forwards everything in both directions."""

    def __init__(self, upstream: str | tuple[str, int]) -> None:
        self._upstream = upstream
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._pattern = b""  # text of an answer
        self.answer_dropped = threading.Event()  # an answer was kept back
        self.port = 0
        self.open()

    def open(self) -> None:
        """Accept connections (again)."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        """Close all connections and accept no new ones."""
        if self._listener is not None:
            # shutdown wakes the thread that accepts; close alone leaves it, and the port, as they
            # are
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            _close_sockets(*pair)

    def drop_commit_answer(self, answered: bytes) -> None:
        """In the next transaction that is answered with `answered`, such as a value of a row that
        it takes, forward the commit, but close before its answer.

        What a transaction asks does not tell: a claim that finds no job has the same text.
        """
        self._pattern = answered

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                family = socket.AF_UNIX if isinstance(self._upstream, str) else socket.AF_INET
                server = socket.socket(family)
                server.connect(self._upstream)
                with self._lock:
                    self._pairs.add((client, server))
                # of this connection: the answer was seen, and its commit is under way
                events = threading.Event(), threading.Event()
                threading.Thread(
                    target=self._forward_requests, args=(client, server, *events), daemon=True
                ).start()
                threading.Thread(
                    target=self._forward_answers, args=(server, client, *events), daemon=True
                ).start()

    def _forward_requests(
        self,
        client: socket.socket,
        server: socket.socket,
        pattern_seen: threading.Event,
        commit_seen: threading.Event,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                if pattern_seen.is_set() and b"COMMIT" in data:
                    commit_seen.set()
                server.sendall(data)
        _close_sockets(client, server)

    def _forward_answers(
        self,
        server: socket.socket,
        client: socket.socket,
        pattern_seen: threading.Event,
        commit_seen: threading.Event,
    ) -> None:
        tail = b""  # of what was answered before: the pattern may lie across two reads
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if commit_seen.is_set():
                    self.answer_dropped.set()
                    break
                if self._pattern and self._pattern in tail + data:
                    self._pattern = b""
                    pattern_seen.set()
                tail = data[-200:]
                client.sendall(data)
        _close_sockets(client, server)


def _close_sockets(*sockets: socket.socket) -> None:
    for one in sockets:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()


def proxy_database(database_url: str) -> tuple[TcpProxy, str]:
    """A gate in front of a PostgreSQL that listens on a socket in a folder, and the URL that leads
    through it."""
    url = make_url(database_url)
    folder: Any = url.query["host"]
    gate = TcpProxy(f"{folder}/.s.PGSQL.5432")
    through = url.set(host="127.0.0.1", port=gate.port, query={})
    return gate, through.render_as_string(hide_password=False)
