"""A gate in front of a real server: it can be shut for a while, or keep one answer to itself."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

from sqlalchemy.engine import make_url


class Gate:
    """Listens on a loopback port and passes everything on, both ways."""

    def __init__(self, upstream: str | tuple[str, int]) -> None:
        self._upstream = upstream
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._awaited = b""  # text of a request
        self.swallowed = threading.Event()  # an answer was kept back
        self.port = 0
        self.open()

    def open(self) -> None:
        """Let callers in (again)."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def shut(self) -> None:
        """Hang up on everybody, and let nobody in."""
        if self._listener is not None:
            # shutdown wakes the thread that accepts; close alone leaves it, and the port, as they are
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            _hang_up(*pair)

    def swallow(self, request: bytes) -> None:
        """Of the next transaction that says `request`, let the commit through and keep its answer: hang up."""
        self._awaited = request

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                family = socket.AF_UNIX if isinstance(self._upstream, str) else socket.AF_INET
                server = socket.socket(family)
                server.connect(self._upstream)
                with self._lock:
                    self._pairs.add((client, server))
                spoken = threading.Event()  # in this connection the commit whose answer is kept back is under way
                threading.Thread(target=self._ask, args=(client, server, spoken), daemon=True).start()
                threading.Thread(target=self._answer, args=(server, client, spoken), daemon=True).start()

    def _ask(self, client: socket.socket, server: socket.socket, spoken: threading.Event) -> None:
        asked = False
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                asked = asked or bool(self._awaited and self._awaited in data)
                if asked and b"COMMIT" in data:
                    self._awaited = b""
                    spoken.set()
                server.sendall(data)
        _hang_up(client, server)

    def _answer(self, server: socket.socket, client: socket.socket, spoken: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if spoken.is_set():
                    self.swallowed.set()
                    break
                client.sendall(data)
        _hang_up(client, server)


def _hang_up(*sockets: socket.socket) -> None:
    for one in sockets:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()


def gate_before(database_url: str) -> tuple[Gate, str]:
    """A gate in front of a PostgreSQL that listens on a socket in a folder, and the URL that leads through it."""
    url = make_url(database_url)
    folder: Any = url.query["host"]
    gate = Gate(f"{folder}/.s.PGSQL.5432")
    through = url.set(host="127.0.0.1", port=gate.port, query={})
    return gate, through.render_as_string(hide_password=False)
