"""services.client.transport: what is sent again, and what an answer means."""

from __future__ import annotations

import httpx
import pytest

from services.client import calls, errors, transport
from services.client.transport import Patience

ONCE = calls.act("job_1", "retry")
REPEATABLE = calls.job("job_1")


def test_what_may_be_sent_twice_is_sent_again():
    patience = Patience("http://x", 60)
    for error in (httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("cut")):
        assert 0 < patience.after_failure(REPEATABLE, error) <= 2


def test_what_may_not_is_sent_again_only_if_it_never_left():
    patience = Patience("http://x", 60)
    assert patience.after_failure(ONCE, httpx.ConnectError("refused")) > 0
    with pytest.raises(errors.Unreachable, match="does not answer"):
        patience.after_failure(ONCE, httpx.ReadError("cut"))


def test_patience_ends():
    with pytest.raises(errors.Unreachable, match="http://x"):
        Patience("http://x", -1).after_failure(REPEATABLE, httpx.ConnectError("refused"))
    assert Patience("http://x", -1).after_answer(REPEATABLE, httpx.Response(503)) is None


def test_busy_answers_are_waited_for_as_long_as_they_ask():
    patience = Patience("http://x", 60)
    assert patience.after_answer(REPEATABLE, httpx.Response(503, headers={"Retry-After": "3"})) == 3
    assert patience.after_answer(REPEATABLE, httpx.Response(503, headers={"Retry-After": "3000"})) == 5
    assert patience.after_answer(ONCE, httpx.Response(503)) is not None
    assert patience.after_answer(ONCE, httpx.Response(502)) is None  # who knows what happened behind the proxy
    assert patience.after_answer(REPEATABLE, httpx.Response(409)) is None


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.Invalid), (401, errors.Unauthorized), (403, errors.Forbidden), (404, errors.NotFound),
        (409, errors.Conflict), (413, errors.Invalid), (415, errors.Invalid), (422, errors.Invalid),
        (418, errors.ApiError), (500, errors.ApiError), (503, errors.Unavailable),
    ],
)  # fmt: skip
def test_every_status_has_its_error(status, kind):
    body = {"title": "T", "detail": "why", "field": "f", "errors": [{"field": "f", "message": "m"}]}
    with pytest.raises(kind, match="why") as caught:
        transport.check(httpx.Response(status, json=body))
    assert (caught.value.status, caught.value.field, type(caught.value)) == (status, "f", kind)


@pytest.mark.parametrize("text", ["<html>", "[]", "null", ""])
def test_an_answer_of_something_else(text):
    with pytest.raises(errors.ApiError, match="not the gateway"):
        transport.check(httpx.Response(502, text=text))
    with pytest.raises(errors.ApiError, match="right address"):
        transport.read(REPEATABLE, httpx.Response(200, text=text, request=httpx.Request("GET", "http://x")))


@pytest.mark.parametrize(
    ("url", "proxied"),
    [
        ("http://127.0.0.1:1", False),
        ("http://localhost", False),
        ("http://[::1]:1", False),
        ("https://example.org", True),
    ],
)
def test_this_machine_is_reached_without_a_proxy(url, proxied):
    assert transport.options(url, "t")["trust_env"] is proxied


def test_every_submission_has_a_key_of_its_own():
    keys = {calls.submit_job("sleep").headers["Idempotency-Key"] for _ in range(3)}
    keys |= {calls.submit_audit({}).headers["Idempotency-Key"] for _ in range(3)}
    assert len(keys) == 6
    assert calls.submit_job("sleep", idempotency_key="mine").headers["Idempotency-Key"] == "mine"


@pytest.mark.parametrize("odd", ["../x", "a/b", "a?b", "a#b", "", "%2e%2e", "ü"])
def test_an_id_stays_in_its_place(odd):
    path = calls.job(odd).path
    assert path.startswith("/v1/jobs/")
    assert path.count("/") == 3
    assert not set("?#") & set(path)
