"""A form of a page needs the session's token, whatever other credentials a browser adds."""

from __future__ import annotations

from pathlib import Path

from tests.support.gateway import TOKEN, GatewayInProcess


def test_another_scheme_does_not_stand_for_the_form_token(tmp_path: Path) -> None:
    gateway = GatewayInProcess(tmp_path)
    browser = gateway.app.test_client()
    headers = {"Origin": "http://localhost", "Accept": "text/html"}
    signed_in = browser.post("/sign-in", data={"key": TOKEN}, headers=headers)
    assert signed_in.status_code == 303
    form = {"url": "https://93.184.215.14/hook", "events": "audit.failed"}
    for more in ({}, {"Authorization": "Basic eDp5"}):  # as http://x:y@host has a browser send
        answer = browser.post("/webhooks", data=form, headers={**headers, **more})
        assert answer.status_code == 403
    assert gateway.http.get("/v1/webhooks").get_json()["items"] == []
    gateway.close()
