"""services.client.transport: how a request is made, and what an answer means."""

from __future__ import annotations

import httpx
import pytest

from services.client import calls, errors, transport

CALL = calls.get_job("job_1")


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
        transport.check_status(httpx.Response(status, json=body))
    assert (caught.value.status, caught.value.field, type(caught.value)) == (status, "f", kind)


@pytest.mark.parametrize(
    ("header", "retry_after_s"),
    [
        ("3", 3),
        ("", 0),
        ("-1", 0),
        ("nan", 0),
        ("9" * 400, 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
    ],
)
def test_the_time_that_a_busy_gateway_asks_for(header, retry_after_s):
    with pytest.raises(errors.Unavailable) as caught:
        transport.check_status(httpx.Response(503, headers={"Retry-After": header}))
    assert caught.value.retry_after_s == retry_after_s


def test_a_problem_of_other_types_is_an_error_all_the_same():
    body = {
        "title": 1,
        "detail": {"a": 1},
        "field": ["f"],
        "errors": [1, {"field": "f", "message": "m"}],
    }
    with pytest.raises(errors.Invalid) as caught:
        transport.check_status(httpx.Response(422, json=body))
    assert (caught.value.field, caught.value.errors) == (None, [{"field": "f", "message": "m"}])


@pytest.mark.parametrize("text", ["<html>", "[]", "null", "", "[" * 10**5])
def test_an_answer_of_something_else(text):
    with pytest.raises(errors.ApiError, match="not a gateway"):
        transport.check_status(httpx.Response(502, text=text))
    with pytest.raises(errors.ApiError, match="right address"):
        transport.read_answer(
            CALL, httpx.Response(200, text=text, request=httpx.Request("GET", "http://x"))
        )


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
    assert transport.build_client_options(url, "t")["trust_env"] is proxied


def test_every_submission_has_a_key_of_its_own():
    keys = {calls.submit_job("sleep").headers["Idempotency-Key"] for _ in range(3)}
    keys |= {calls.submit_audit({}).headers["Idempotency-Key"] for _ in range(3)}
    assert len(keys) == 6
    assert calls.submit_job("sleep", idempotency_key="mine").headers["Idempotency-Key"] == "mine"


@pytest.mark.parametrize("odd", ["../x", "a/b", "a?b", "a#b", "", "%2e%2e", "ü"])
def test_an_id_stays_in_its_place(odd):
    path = calls.get_job(odd).path
    assert path.startswith("/v1/jobs/")
    assert path.count("/") == 3
    assert not set("?#") & set(path)
