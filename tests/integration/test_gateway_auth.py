"""Who gets in: the token on every route, the browser's way, and the tenants' walls."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from pydantic import ValidationError

from services.gateway.app import create_app
from services.gateway.auth import is_public
from services.gateway.deps import GatewayDeps
from services.gateway.sessions import SESSION_COOKIE, derive_session
from shared.config import Settings
from shared.errors import InvalidRequest
from tests.support.gateway import AUDIT, TOKEN, AuthenticatedClient, GatewayInProcess


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayInProcess]:
    made = GatewayInProcess(tmp_path)
    yield made
    made.close()


def _make_body(path: str) -> dict[str, Any]:
    """What a route that wants one takes."""
    return {"priority": 1} if path.endswith("/priority") else {"labels": {"a": "b"}}


def every_route(gateway: GatewayInProcess) -> list[tuple[str, str]]:
    """Method and path of every rule, with something in its placeholders."""
    fill = {
        "stage": "sleep",
        "worker_id": "hand",
        "job_id": "job_" + "0" * 20,
        "audit_id": "aud_" + "0" * 20,
        "sha256": "0" * 64,
        "webhook_id": "whk_" + "0" * 20,
        "filename": "x.js",
        "name": "before",
        "version": 1,
        "key_id": "key_" + "0" * 20,
    }
    found = []
    for rule in gateway.app.url_map.iter_rules():
        path = rule.build({name: fill[name] for name in rule.arguments})[1]
        found += [(method, path) for method in rule.methods - {"HEAD", "OPTIONS"}]
    return sorted(found)


def test_every_route_but_the_probes_wants_the_token(gateway):
    client = gateway.app.test_client()
    routes = every_route(gateway)
    assert len(routes) > 20
    for method, path in [
        *routes,
        ("GET", "/nothing/here"),
        ("DELETE", "/v1/jobs"),
        ("OPTIONS", "/v1/jobs"),
    ]:
        if is_public(path):
            assert client.open(path, method=method).status_code in (200, 403, 404, 413)
            continue
        answer = client.open(path, method=method)
        assert answer.status_code == 401, path
        assert answer.content_type == "application/problem+json"
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Bearer x", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN,
     "Bearer \xe9\xff", f"Bearer {TOKEN} {TOKEN}"],
)  # fmt: skip
def test_a_wrong_token_does_not_get_in(gateway, header):
    assert (
        gateway.app.test_client().get("/v1/jobs", headers={"Authorization": header}).status_code
        == 401
    )


def test_the_scheme_is_read_in_any_case(gateway):
    for scheme in ("bearer", "BEARER"):
        headers = {"Authorization": f"{scheme} {TOKEN}"}
        assert gateway.app.test_client().get("/v1/jobs", headers=headers).status_code == 200


@pytest.mark.parametrize("token", [None, "", "   "])
def test_no_token_no_gateway(gateway, token):
    with pytest.raises(InvalidRequest, match="PALIMPSEST_TOKEN"):
        create_app(
            GatewayDeps(gateway.db, gateway.artifacts, gateway.wakeup_sender, Settings(token=token))
        )


class TestBrowser:
    def test_a_page_with_the_token_signs_in_and_drops_it(self, gateway):
        client = gateway.app.test_client()
        answer = client.get(f"/openapi/?token={TOKEN}")
        assert (answer.status_code, answer.headers["Location"]) == (303, "/openapi/")
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert TOKEN not in cookie
        assert client.get("/openapi/").status_code == 200
        assert client.get("/v1/jobs").status_code == 200

    def test_the_documentation_works_offline(self, gateway):
        client = gateway.app.test_client()
        client.get(f"/openapi/?token={TOKEN}")
        for page in ("/openapi/", "/openapi/scalar", "/openapi/swagger"):
            shown = client.get(page)
            assert shown.status_code == 200
            assert "script-src 'self'" in shown.headers["Content-Security-Policy"]
            for outside in ('src="http', 'href="http', "cdn."):
                assert outside not in shown.get_data(as_text=True)
            loaded = r'<(?:script|link)[^>]* (?:src|href)="([^"#]+)"'
            for asset in re.findall(loaded, shown.get_data(as_text=True)):
                if not asset.strip().startswith("data:"):
                    assert client.get(urljoin(page, asset)).status_code == 200, asset
        spec = client.get("/openapi/openapi.json").get_json()
        assert "/v1/jobs/{job_id}/events" in spec["paths"]
        assert spec["paths"]["/v1/jobs"]["post"]["responses"]["422"]["content"].keys() == {
            "application/problem+json"
        }
        assert spec["components"]["schemas"]["Problem"]["required"]

    def test_a_wrong_token_in_the_address_is_refused(self, gateway):
        answer = gateway.app.test_client().get("/openapi/?token=x")
        assert (answer.status_code, "Set-Cookie" in answer.headers) == (401, False)

    def test_the_form_to_sign_in_does_not_lead_back_to_a_wrong_token(self, gateway):
        client = gateway.app.test_client()
        asked = client.get("/?token=wrong&page=1", headers={"Accept": "text/html"})
        assert (asked.status_code, asked.location) == (303, "/sign-in?next=%2F%3Fpage%3D1")

    @pytest.mark.parametrize(
        ("site", "status"),
        [("cross-site", 403), ("same-site", 403), ("same-origin", 303), ("none", 303)],
    )
    def test_no_other_site_can_sign_its_visitor_in(self, gateway, site, status):
        client = gateway.app.test_client()
        answer = client.get(f"/?token={TOKEN}", headers={"Sec-Fetch-Site": site})
        assert (answer.status_code, "Set-Cookie" in answer.headers) == (status, status == 303)

    def test_the_redirect_stays_here(self, gateway):
        answer = gateway.app.test_client().get(f"//evil.example/?token={TOKEN}")
        assert "evil" not in answer.headers.get("Location", "").removeprefix("/evil")
        assert not answer.headers.get("Location", "").startswith("//")

    def test_a_made_up_cookie_does_not_get_in(self, gateway):
        for value in ("", "x", TOKEN, derive_session("another token")):
            client = gateway.app.test_client()
            client.set_cookie(SESSION_COOKIE, value)
            assert client.get("/v1/jobs").status_code == 401

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({}, 403),
            ({"Origin": "http://localhost"}, 202),
            ({"Origin": "http://localhost:3000"}, 403),
            ({"Origin": "http://evil.example"}, 403),
            ({"Origin": "null"}, 403),
            ({"Sec-Fetch-Site": "same-origin"}, 202),
            ({"Sec-Fetch-Site": "same-site"}, 403),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
        ],
    )
    def test_only_our_own_pages_may_change_things(self, gateway, headers, status):
        client = gateway.app.test_client()
        client.get(f"/?token={TOKEN}")
        assert (
            client.post("/v1/jobs", json={"stage": "sleep"}, headers=headers).status_code == status
        )


class TestBehindAProxy:
    """Which speaks TLS with the browser, and plain HTTP with the gateway."""

    @pytest.fixture
    def gateway(self, tmp_path: Path) -> Iterator[GatewayInProcess]:
        made = GatewayInProcess(tmp_path, public_url="https://Audits.Example:443/")
        yield made
        made.close()

    def test_its_origin_is_the_only_one(self, gateway):
        client = gateway.app.test_client()
        browser = {
            "base_url": "https://audits.example",
            "environ_overrides": {"wsgi.url_scheme": "http"},
        }
        client.get(f"/?token={TOKEN}", **browser)
        for origin, status in (
            ("https://audits.example", 202),
            ("http://audits.example", 403),
            ("https://audits.example:8443", 403),
            ("http://localhost", 403),
        ):
            headers = {"Origin": origin}
            answer = client.post("/v1/jobs", json={"stage": "sleep"}, headers=headers, **browser)
            assert answer.status_code == status, origin

    def test_the_form_to_sign_in_works_and_its_cookie_is_secure(self, gateway):
        client = gateway.app.test_client()
        for origin, status in (("https://audits.example", 303), ("http://localhost", 403)):
            answer = client.post("/sign-in", data={"key": TOKEN}, headers={"Origin": origin})
            assert answer.status_code == status
            assert ("; Secure;" in answer.headers.get("Set-Cookie", "")) is (status == 303)


def test_without_tls_the_cookie_is_not_secure(gateway):
    answer = gateway.app.test_client().get(f"/?token={TOKEN}")
    assert "Secure" not in answer.headers["Set-Cookie"]


@pytest.mark.parametrize(
    "url", ["audits.example", "ftp://a.example", "https://a.example/path", "https://u@a.example"]
)
def test_a_public_url_that_is_no_origin_is_refused(url):
    with pytest.raises(ValidationError, match="write it as https"):
        Settings(token=TOKEN, public_url=url)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("", None),
        ("https://a.example/", "https://a.example"),
        ("http://[::1]:8350", "http://[::1]:8350"),
        ("http://A.example:80", "http://a.example"),
    ],
)
def test_a_public_url_is_read_as_browsers_write_origins(url, origin):
    assert Settings(token=TOKEN, public_url=url).public_url == origin


def test_what_is_another_tenants_is_not_there(gateway):
    """Every route with an id of tenant A, asked by tenant B: 404, and nothing changes."""
    worker = gateway.make_worker()
    done = gateway.post()
    sha256 = worker.finish(worker.claim())
    mine = [gateway.post({"stage": "sleep", "seed": n})["id"] for n in (1, 2, 3)]
    gateway.http.post(f"/v1/jobs/{mine[1]}/pause")
    gateway.http.post(f"/v1/jobs/{mine[2]}/cancel")
    audit = gateway.http.post("/v1/audits", json=AUDIT).get_json()["id"]
    settings = Settings(token=TOKEN, tenant="another")
    other = AuthenticatedClient(
        create_app(
            GatewayDeps(gateway.db, gateway.artifacts, gateway.wakeup_sender, settings)
        ).test_client()
    )
    before = gateway.http.get("/v1/jobs?limit=200").get_json()
    asked = 0
    for rule in gateway.app.url_map.iter_rules():
        if not rule.arguments & {"job_id", "audit_id", "sha256"}:
            continue
        for job_id in (done["id"], *mine):
            ids = {"job_id": job_id, "audit_id": audit, "sha256": sha256}
            path = rule.build({name: ids[name] for name in rule.arguments})[1]
            for method in rule.methods - {"HEAD", "OPTIONS"}:
                answer = other._send(method, path, json=_make_body(path))
                assert answer.status_code == 404, (method, path)
                asked += 1
    assert asked >= 36
    assert other.get(f"/v1/jobs?audit={audit}").status_code == 404
    assert other.get("/v1/jobs").get_json()["items"] == []
    assert other.get("/v1/audits").get_json()["items"] == []
    for source in (done["id"], sha256):
        answer = other.post("/v1/jobs", json={"stage": "sleep", "inputs": {"BASE": source}})
        assert (answer.status_code, answer.get_json()["field"]) == (422, "inputs.BASE")
    assert other.post("/v1/jobs", json={"stage": "sleep"}).get_json()["created"] is True
    assert gateway.http.get("/v1/jobs?limit=200").get_json() == before
