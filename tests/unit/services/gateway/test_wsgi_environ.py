"""services.gateway.wsgi_environ."""

from __future__ import annotations

from typing import Any

from services.gateway.wsgi_environ import make_environ, set_body


def scope(**changes: Any) -> dict[str, Any]:
    plain = {
        "method": "GET", "raw_path": b"/v1/jobs", "path": "/v1/jobs", "query_string": b"", "http_version": "1.1",
        "scheme": "http", "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 5000), "headers": [],
    }  # fmt: skip
    return {**plain, **changes}


def test_the_path_is_its_bytes() -> None:
    environ = make_environ(
        scope(raw_path=b"/a%2Fb%ff/%C3%A9?x=%41", path="/", query_string=b"x=%41\xff")
    )
    assert environ["PATH_INFO"].encode("latin-1") == b"/a/b\xff/\xc3\xa9"
    assert environ["QUERY_STRING"] == "x=%41\xff"
    assert (
        make_environ(scope(raw_path=None, path="/é"))["PATH_INFO"].encode("latin-1")
        == "/é".encode()
    )


def test_headers_that_come_twice_are_one() -> None:
    headers = [
        (b"accept", b"a"),
        (b"cookie", b"x=1"),
        (b"accept", b"b"),
        (b"cookie", b"y=2"),
        (b"x_y", b"no"),
    ]
    environ = make_environ(scope(headers=[*headers, (b"content-type", b"text/plain")]))
    assert environ["HTTP_ACCEPT"] == "a,b"
    assert environ["HTTP_COOKIE"] == "x=1; y=2"
    assert environ["CONTENT_TYPE"] == "text/plain"
    assert "HTTP_X_Y" not in environ


def test_a_body_is_whole_however_it_came() -> None:
    environ = make_environ(scope(method="POST", headers=[(b"transfer-encoding", b"chunked")]))
    set_body(environ, b"{}")
    assert (environ["CONTENT_LENGTH"], environ["wsgi.input"].read()) == ("2", b"{}")
    assert "HTTP_TRANSFER_ENCODING" not in environ
