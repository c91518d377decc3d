"""Whatever comes in, what goes out is an answer or a problem, never a 500 and never a page of the
framework."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.errors import TransientError
from shared.jobs import queries
from shared.jobs.tenant_store import TenantStore
from tests.support.gateway import AUDIT, TENANT, TOKEN, GatewayInProcess

JSON = "application/json"


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayInProcess]:
    made = GatewayInProcess(tmp_path)
    yield made
    made.close()


def is_problem(answer: Any, status: int) -> dict[str, Any]:
    body = json.loads(answer.get_data())
    assert answer.status_code == status, body
    assert answer.content_type == "application/problem+json"
    assert {"type", "title", "status", "detail", "instance"} <= body.keys()
    assert body["status"] == status
    assert body["type"].startswith("urn:palimpsest:problem:")
    if status == 422:
        assert body["errors"]
        assert body["field"] == body["errors"][0]["field"]
    return dict(body)


DEEP = "[" * 40 + "]" * 40
HOSTILE: dict[str, tuple[bytes, int, str]] = {
    "empty": (b"", 400, "empty"),
    "not json": (b"{", 400, "line 1, column 2"),
    "two values": (b"{} {}", 400, "Extra data"),
    "comment": (b'{"stage":"sleep"} // x', 400, "Extra data"),
    "not utf-8": (b'{"stage":"\xff"}', 400, "UTF-8"),
    "utf-16": ('{"stage":"sleep"}'.encode("utf-16"), 400, "UTF-8"),
    "byte order mark": (b"\xef\xbb\xbf{}", 400, ""),
    "an array": (b"[]", 422, "an array"),
    "a string": (b'"{\\"stage\\":\\"sleep\\"}"', 422, "a string"),
    "a number": (b"1", 422, "a number"),
    "null": (b"null", 422, "null"),
    "true": (b"true", 422, "a boolean"),
    "nan": (b'{"stage":"sleep","params":{"seconds":NaN}}', 422, "NaN"),
    "infinity": (b'{"stage":"sleep","params":{"seconds":-Infinity}}', 422, "Infinity"),
    "too large a float": (b'{"stage":"sleep","params":{"seconds":1e999}}', 422, "finite"),
    "seed beyond int64": (b'{"stage":"sleep","seed":9223372036854775808}', 422, "64 bits"),
    "param beyond int64": (b'{"stage":"sleep","params":{"seconds":-9223372036854775809}}', 422, "64 bits"),
    "5000 digits": (b'{"stage":"sleep","seed":' + b"9" * 5000 + b"}", 422, "too long"),
    "nested deeply": (b'{"stage":"sleep","params":{"note":' + DEEP.encode() + b"}}", 422, "deeper"),
    "nested absurdly": (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 422, "deeper"),
    "a name twice": (b'{"stage":"sleep","stage":"train"}', 422, "duplicate key 'stage'"),
    "a role twice": (b'{"stage":"sleep","inputs":{"BASE":"x","BASE":"y"}}', 422, "duplicate key 'BASE'"),
    "nul": (b'{"stage":"sl\\u0000eep"}', 422, "NUL"),
    "nul in a name": (b'{"stage":"sleep","params":{"a\\u0000b":1}}', 422, "NUL"),
    "half a pair": (b'{"stage":"sleep","params":{"note":"\\ud800"}}', 422, "surrogate"),
    "half a pair in a name": (b'{"stage":"sleep","params":{"\\udfff":1}}', 422, "surrogate"),
    "a long name": (b'{"stage":"sleep","params":{"' + b"n" * 300 + b'":1}}', 422, "longer than"),
    "a long stage": (b'{"stage":"' + b"s" * 100_000 + b'"}', 422, "at most 64"),
    "a long value": (b'{"stage":"sleep","params":{"seconds":"' + b"1" * 500_000 + b'"}}', 422, ""),
    "many inputs": (
        json.dumps({"stage": "sleep", "inputs": {f"R{n}": "0" * 64 for n in range(33)}}).encode(), 422, "at most 32",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/audits", "/v1/audits?dry_run=1"])
def test_a_hostile_body_is_refused(gateway, path, name):
    data, status, words = HOSTILE[name]
    answer = gateway.http.post(path, data=data, content_type=JSON)
    problem = is_problem(answer, status)
    if path == "/v1/jobs":
        assert words in problem["detail"]
    assert len(answer.get_data()) < 10_000  # what was sent does not come back as a whole
    assert queries.list_jobs(gateway.db, TENANT).items == []


def test_too_much_is_413_and_something_else_415(gateway):
    is_problem(
        gateway.http.post("/v1/jobs", data=b"{" + b" " * (1 << 20) + b"}", content_type=JSON), 413
    )
    for content_type in (
        None,
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "json",
    ):
        is_problem(
            gateway.http.post("/v1/jobs", data=b'{"stage":"sleep"}', content_type=content_type), 415
        )
    packed = gateway.http.post(
        "/v1/jobs", data=b"x", content_type=JSON, headers={"Content-Encoding": "gzip"}
    )
    is_problem(packed, 415)


def test_the_frameworks_own_errors_are_problems(gateway):
    assert "/openapi" in is_problem(gateway.http.get("/nothing"), 404)["detail"]
    for path in (
        "/v1/%00/%ff",
        "/v1//jobs",
        "/v1/jobs/",
        "/v1/../v1/jobs",
    ):
        is_problem(gateway.http.get(path), 404)
    is_problem(gateway.http._send("TRACE", "/v1/jobs?limit=1"), 405)
    answer = gateway.http._send("DELETE", "/v1/jobs")
    is_problem(answer, 405)
    assert "POST" in answer.headers["Allow"]


def test_a_store_that_does_not_answer_is_503(gateway, monkeypatch):
    def away(*_: object, **__: object) -> None:
        raise TransientError("the job store did not answer: connection refused")

    monkeypatch.setattr(TenantStore, "list_jobs", away)
    answer = gateway.http.get("/v1/jobs")
    is_problem(answer, 503)
    assert answer.headers["Retry-After"] == "2"


def test_a_defect_is_500_and_tells_nothing(gateway, monkeypatch, capsys):
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the secret is 42")

    monkeypatch.setattr(TenantStore, "list_jobs", broken)
    assert "42" not in json.dumps(is_problem(gateway.http.get("/v1/jobs"), 500))
    logged = capsys.readouterr()
    assert "the secret is 42" in logged.out + logged.err
    assert TOKEN not in logged.out + logged.err


def test_every_answer_carries_the_security_headers(gateway):
    job = gateway.post()["id"]
    for path in (
        "/v1/jobs",
        f"/v1/jobs/{job}",
        "/nothing",
        "/livez",
        "/openapi/openapi.json",
        f"/v1/jobs/{job}/events",
    ):
        headers = gateway.http.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["Cache-Control"] in ("no-store", "private, no-cache")


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from(["sleep", "train", "job_" + "0" * 20, "0" * 64, "", "\0", "1e999"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
FIELDS = [
    "stage",
    "method",
    "params",
    "inputs",
    "seed",
    "no_cache",
    "priority",
    "time_limit",
    *AUDIT,
    "forget",
    "x",
]


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    changes=st.dictionaries(st.sampled_from(FIELDS), JUNK, max_size=4),
    path=st.sampled_from(["/v1/jobs", "/v1/audits?dry_run=true", "/v1/audits"]),
)
def test_no_body_makes_a_500(gateway, changes, path):
    base: dict[str, Any] = {"stage": "sleep"} if path == "/v1/jobs" else AUDIT
    answer = gateway.http.post(path, data=json.dumps({**base, **changes}), content_type=JSON)
    assert answer.status_code in (200, 202, 422), answer.get_data(as_text=True)
    if answer.status_code == 422:
        is_problem(answer, 422)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.binary(max_size=200), seed=st.integers(0, 2**32))
def test_no_bytes_make_a_500(gateway, data, seed):
    body = bytearray(json.dumps({**AUDIT, "seeds": [0]}).encode())
    chance = random.Random(seed)
    for byte in data[:5]:
        body[chance.randrange(len(body))] = byte
    for posted in (data, bytes(body)):
        answer = gateway.http.post("/v1/audits?dry_run=true", data=posted, content_type=JSON)
        assert answer.status_code in (200, 400, 422), answer.get_data(as_text=True)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    path=st.sampled_from(
        ["/v1/jobs", "/v1/audits", "/v1/catalog", "/v1/jobs/{}/events", "/v1/jobs/{}", "/v1/artifacts/{}"]
    ),
    item=st.text(min_size=1, max_size=30),
    query=st.dictionaries(
        st.sampled_from(["limit", "page", "stage", "state", "audit", "after", "kind", "method", "token", "x"]),
        st.text(max_size=30), max_size=3,
    ),
    headers=st.dictionaries(
        st.sampled_from(["If-None-Match", "Last-Event-ID", "Accept", "Idempotency-Key", "Cookie", "Range"]),
        st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=30), max_size=3,
    ),
)  # fmt: skip
def test_no_query_path_or_header_makes_a_500(gateway, path, item, query, headers):
    answer = gateway.http.get(
        path.format(quote(item, safe="")), query_string=query, headers=headers
    )
    assert answer.status_code < 500, answer.get_data(as_text=True)
    if answer.status_code >= 400:
        assert answer.content_type == "application/problem+json"


LINES = ("\n", "\r", "\r\nX-Injected: 1", "a\x0bb\x1c\x85", "\0", '"\xff\u2028\u4e2d')
REQUEST_HEADERS = (
    "If-None-Match",
    "Last-Event-ID",
    "Idempotency-Key",
    "Origin",
    "Accept",
    "X-Forwarded-Host",
)


def _ways_in(gateway: GatewayInProcess, text: str) -> list[tuple[str, str, dict[str, str]]]:
    """Method, address and headers of requests with this text wherever a route reads one."""
    spec = gateway.http.get("/openapi/openapi.json").get_json()
    ids = {
        "job_id": "job_" + "0" * 20, "audit_id": "aud_" + "0" * 20, "sha256": "0" * 64,
        "name": "before", "version": "1", "key_id": "key_" + "0" * 20,
        "stage": "sleep", "worker_id": "hand",
        "webhook_id": "whk_" + "0" * 20,
    }  # fmt: skip
    there = {"job_id": gateway.post()["id"]}
    there["audit_id"] = gateway.http.post("/v1/audits", json=AUDIT).get_json()["id"]
    in_headers = "".join(c for c in text if 32 <= ord(c) < 256)  # what a server lets through
    found = []
    for path, methods in spec["paths"].items():
        for method, operation in methods.items():
            valid = path.format(**{**ids, **there})
            for parameter in operation.get("parameters", ()):
                name = parameter["name"]
                if parameter["in"] == "path":
                    found.append((method, path.format(**{**ids, name: quote(text, safe="")}), {}))
                elif parameter["in"] == "query":
                    found.append((method, f"{valid}?{name}={quote(text)}", {}))
            found.append((method, f"{valid}?{quote(text)}=1", {}))
            found += [(method, valid, {name: in_headers}) for name in REQUEST_HEADERS]
    signed_in = [f"/{quote(text, safe='')}?token={TOKEN}", f"/openapi/{quote(text, safe='')}"]
    return [*found, *(("get", path, {}) for path in signed_in)]


@pytest.mark.slow
@pytest.mark.parametrize("text", LINES, ids=ascii)
def test_no_text_of_a_request_gets_into_a_header(gateway, text):
    asked = _ways_in(gateway, text)
    assert len(asked) > 100
    for method, path, headers in asked:
        body = {"json": {"stage": "sleep"}} if method == "post" else {}
        # signing in is for requests without the header
        client = gateway.http.client if "token=" in path else gateway.http
        answer = (
            client.open(path, method=method)
            if client is gateway.http.client
            else client._send(method.upper(), path, headers=headers, **body)
        )
        assert answer.status_code < 500, (method, path, headers, answer.get_data(as_text=True))
        assert "X-Injected" not in answer.headers
        for name, value in answer.headers:
            assert value.isascii(), (method, path, headers, name, value)
            assert value.isprintable(), (method, path, headers, name, value)
