"""services.gateway.problems."""

from __future__ import annotations

import json

import pytest
from flask import Flask

from services.gateway import problems
from services.gateway.problems import FieldError, Problem, make_problem
from shared.errors import Conflict, InvalidRequest, NotFound, TransientError


@pytest.fixture
def app() -> Flask:
    made = Flask(__name__)
    problems.install(made)
    return made


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (InvalidRequest("no", "a.b"), 422, {}),
        (NotFound("no"), 404, {}),
        (Conflict("no"), 409, {}),
        (TransientError("no"), 503, {"Retry-After": "2"}),
        (RuntimeError("a secret"), 500, {}),
        (RecursionError("a secret"), 500, {}),
    ],
)
def test_our_errors(app, error, status, headers):
    def fail() -> None:
        raise error

    app.add_url_rule("/", view_func=fail)
    answer = app.test_client().get("/")
    body = Problem.model_validate(answer.get_json())
    assert (answer.status_code, body.status, answer.content_type) == (
        status,
        status,
        problems.MEDIA_TYPE,
    )
    assert body.field == ("a.b" if status == 422 else None)
    assert "secret" not in answer.get_data(as_text=True)
    assert {k: answer.headers[k] for k in headers} == headers


def test_what_came_in_is_not_sent_back_as_a_whole(app):
    with app.test_request_context("/" + "p" * 5000):
        many = [FieldError(field="f" * 5000, message="m" * 5000)] * 500
        answer = make_problem(422, "d" * 100_000, errors=many)
    body = json.loads(answer.get_data())
    assert len(body["errors"]) == problems.MAX_ERRORS
    assert max(len(body[k]) for k in ("detail", "instance", "field")) == problems.MAX_TEXT_CHARS


def test_documented_responses_name_the_media_type():
    found = problems.document_errors(404)
    assert sorted(found) == ["401", "403", "404", "429", "503"]
    assert list(found["404"]["content"]) == [problems.MEDIA_TYPE]
