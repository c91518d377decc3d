"""Buttons that change something: what came of one is said on the page that shows the thing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from urllib.parse import urlencode

from flask import Response, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from services.gateway.api.jobs import PriorityBody
from services.gateway.console.words import pluralize
from shared.errors import Conflict, InvalidRequest

MAX_DIGITS = 9  # of a number in a form or an address


def respond_done(path: str, done: str, **counts: int) -> AnyResponse:
    """Back to a page, which then says what was done (`describe_done`)."""
    query = urlencode({"done": done, **counts})
    target = f"{path}{'&' if '?' in path else '?'}{query}"
    if "HX-Request" in request.headers:
        return Response(status=HTTPStatus.NO_CONTENT, headers={"HX-Redirect": target})
    return redirect(target, HTTPStatus.SEE_OTHER)


def act(do: Callable[[], AnyResponse], show: Callable[[str, int], AnyResponse]) -> AnyResponse:
    """Do what a button says. What keeps it from being done is said on the page of the button.

    Args:
        show: that page with a message, under a status.
    """
    if "HX-Request" in request.headers:  # a script shows the message and leaves the page alone
        return do()
    try:
        return do()
    except Conflict as error:
        return show(str(error), HTTPStatus.CONFLICT)
    except InvalidRequest as error:
        return show(error.message, HTTPStatus.UNPROCESSABLE_ENTITY)


def read_priority() -> int:
    """The priority that a form has. Raises InvalidRequest."""
    try:
        return PriorityBody(priority=int(request.form.get("priority", "")[:MAX_DIGITS])).priority
    except ValueError as error:  # pydantic's too
        raise InvalidRequest(
            "A priority is a whole number from -100 to 100.", "priority"
        ) from error


def describe_done() -> str:
    """What the address of this page says that was done; "" if it says nothing. Only sentences of
    ours are shown, whatever a link has."""
    describe = DONE.get(request.args.get("done", ""))
    if describe is None:
        return ""
    counts = {
        name: int(value)
        for name, value in request.args.items()
        if name in ("n", "more")
        and value.isascii()
        and value.isdigit()
        and len(value) <= MAX_DIGITS
    }
    return describe(counts)


def _say(text: str) -> Callable[[Mapping[str, int]], str]:
    return lambda _: text


def _describe_retry(counts: Mapping[str, int]) -> str:
    text = f"{pluralize(counts.get('n', 0), 'job')} will run again."
    skipped = counts.get("more", 0)
    if not skipped:
        return text
    verb = "does not, because it needs" if skipped == 1 else "do not, because they need"
    return f"{text} {pluralize(skipped, 'failed job')} {verb} a failed job outside the audit."


def _describe_cancelled(counts: Mapping[str, int]) -> str:
    text = f"{pluralize(counts.get('n', 0), 'job')} cancelled."
    stopping = counts.get("more", 0)
    if not stopping:
        return text
    return f"{text} {pluralize(stopping, 'running job')} will stop within seconds."


DONE: Mapping[str, Callable[[Mapping[str, int]], str]] = {
    "audit_cancelled": _say("Cancelled. Jobs that are running stop within seconds."),
    "audit_retried": _describe_retry,
    "priority": lambda counts: f"Priority of {pluralize(counts.get('n', 0), 'job')} changed.",
    "labels": _say("Labels saved."),
    "audit_deleted": lambda counts: (
        f"Audit deleted, with {pluralize(counts.get('n', 0), 'job')} and "
        f"{pluralize(counts.get('more', 0), 'file')}."
    ),
    "audit_deleting": _say("Audit deleted. What it has left is removed within the next minutes."),
    "jobs_cancelled": _describe_cancelled,
    "job_cancelled": _say("Cancelled. If it is running, it stops within seconds."),
    "job_retried": _say("The job runs again."),
    "job_paused": _say("Paused. No worker takes the job until it is resumed."),
    "job_resumed": _say("Resumed."),
    "job_priority": _say("Priority changed."),
}
