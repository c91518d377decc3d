"""The part of the Kubernetes API that lists and patches pods, over real TLS."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.webhook_receiver import make_certificate

TOKEN = "a-token"
NAMESPACE = "palimpsest"
LABELS = {"app.kubernetes.io/name": "palimpsest", "app.kubernetes.io/component": "worker"}


@dataclass
class KubernetesApi:
    """What the server has, and what it is asked.

    pods: metadata by name.
    failures: (verb, status): the next calls with this verb are answered with these.
    max_page: pods per page, however many are asked for.
    """

    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: list[tuple[str, int]] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)
    token: str = TOKEN
    max_page: int = 500
    list_body: bytes | None = None  # in place of any list
    port: int = 0

    def add(self, name: str, cost: str | None = None, **metadata: Any) -> None:
        annotations = {} if cost is None else {"annotations": {COST: cost}}
        self.pods[name] = {"name": name, "labels": dict(LABELS), **annotations, **metadata}

    def get_cost(self, name: str) -> str | None:
        cost: str | None = self.pods[name].get("annotations", {}).get(COST)
        return cost

    def list_patched(self) -> list[str]:
        return [name for verb, name in self.calls if verb == "patch"]

    def answer_list(self, query: dict[str, str]) -> tuple[int, Any]:
        wanted = dict(pair.split("=") for pair in query["labelSelector"].split(","))
        names = sorted(
            name for name, pod in self.pods.items() if wanted.items() <= pod["labels"].items()
        )
        start = int(query.get("continue", "0"))
        end = start + min(int(query["limit"]), self.max_page)
        metadata = {"resourceVersion": "7"} | ({"continue": str(end)} if end < len(names) else {})
        items = [{"metadata": self.pods[name]} for name in names[start:end]]
        return 200, {"kind": "PartialObjectMetadataList", "metadata": metadata, "items": items}

    def answer_patch(self, name: str, patch: dict[str, Any]) -> tuple[int, Any]:
        if name not in self.pods:
            return 404, {"reason": "NotFound"}
        assert set(patch) == {"metadata"}
        assert set(patch["metadata"]) == {"annotations"}  # nothing else is changed
        self.pods[name].setdefault("annotations", {}).update(patch["metadata"]["annotations"])
        return 200, {"metadata": self.pods[name]}


COST = "controller.kubernetes.io/pod-deletion-cost"


@contextmanager
def serve_kubernetes(folder: Path) -> Iterator[KubernetesApi]:
    """A server on a free loopback port, and in `folder` the files of an account that it knows."""
    api = KubernetesApi()
    certificate = make_certificate(folder)
    for name, text in (("token", TOKEN), ("namespace", NAMESPACE)):
        (folder / name).write_text(f"{text}\n")
    (folder / "ca.crt").write_bytes(certificate.read_bytes())

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self.answer("list", "")

        def do_PATCH(self) -> None:
            self.answer("patch", urlsplit(self.path).path.rpartition("/")[2])

        def answer(self, verb: str, name: str) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            api.calls.append((verb, name))
            status, value = self.decide(verb, name, body)
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def decide(self, verb: str, name: str, body: bytes) -> tuple[int, Any]:
            if self.headers["Authorization"] != f"Bearer {api.token}":
                return 401, {"reason": "Unauthorized"}
            path = urlsplit(self.path)
            if not path.path.startswith(f"/api/v1/namespaces/{NAMESPACE}/pods"):
                return 403, {"reason": "Forbidden"}
            for n, (failing, status) in enumerate(api.failures):
                if failing == verb:
                    del api.failures[n]
                    return status, {"kind": "Status", "code": status}
            if verb == "list":
                assert "PartialObjectMetadataList" in self.headers["Accept"]
                if api.list_body is not None:
                    return 200, api.list_body
                return api.answer_list({k: v[0] for k, v in parse_qs(path.query).items()})
            assert self.headers["Content-Type"] == "application/merge-patch+json"
            return api.answer_patch(name, json.loads(body))

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    api.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
