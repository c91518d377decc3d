"""An ASGI request as a WSGI environ."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes

_UNPREFIXED_HEADERS = {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}


def make_environ(scope: Mapping[str, Any]) -> dict[str, Any]:
    """The environ of a request whose body has not been read."""
    host, port = scope.get("server") or ("localhost", 80)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": _decode_path(scope),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": host,
        "SERVER_PORT": str(port),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "REMOTE_ADDR": (scope.get("client") or ("",))[0],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for raw, value in scope["headers"]:
        name = raw.decode("latin-1").lower()
        if "_" in name:
            continue  # would be mistaken for the header with a hyphen
        key = _UNPREFIXED_HEADERS.get(name) or "HTTP_" + name.upper().replace("-", "_")
        text = value.decode("latin-1")
        separator = "; " if name == "cookie" else ","
        environ[key] = f"{environ[key]}{separator}{text}" if key in environ else text
    return environ


def set_body(environ: dict[str, Any], body: bytes) -> None:
    """Set the complete body; its transfer encoding no longer applies."""
    environ.pop("HTTP_TRANSFER_ENCODING", None)
    environ["CONTENT_LENGTH"] = str(len(body))
    environ["wsgi.input"] = BytesIO(body)


def _decode_path(scope: Mapping[str, Any]) -> str:
    """The path's bytes, one character per byte, as they need not be UTF-8."""
    raw = scope.get("raw_path")
    path = unquote_to_bytes(raw.partition(b"?")[0]) if raw else scope["path"].encode()
    return path.decode("latin-1")
