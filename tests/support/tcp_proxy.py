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
        self._pattern = b""  # text of a request
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

    def drop_commit_answer(self, request: bytes) -> None:
        """In the next transaction that contains `request`, forward the commit, but close before its
        answer."""
        self._pattern = request

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                family = socket.AF_UNIX if isinstance(self._upstream, str) else socket.AF_INET
                server = socket.socket(family)
                server.connect(self._upstream)
                with self._lock:
                    self._pairs.add((client, server))
                # in this connection the commit whose answer is kept back is under way
                commit_seen = threading.Event()
                threading.Thread(
                    target=self._forward_requests, args=(client, server, commit_seen), daemon=True
                ).start()
                threading.Thread(
                    target=self._forward_answers, args=(server, client, commit_seen), daemon=True
                ).start()

    def _forward_requests(
        self, client: socket.socket, server: socket.socket, commit_seen: threading.Event
    ) -> None:
        pattern_seen = False
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                pattern_seen = pattern_seen or bool(self._pattern and self._pattern in data)
                if pattern_seen and b"COMMIT" in data:
                    self._pattern = b""
                    commit_seen.set()
                server.sendall(data)
        _close_sockets(client, server)

    def _forward_answers(
        self, server: socket.socket, client: socket.socket, commit_seen: threading.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if commit_seen.is_set():
                    self.answer_dropped.set()
                    break
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
