"""Errors of the API."""

from __future__ import annotations

from deploy.docs.markdown import end_sentence, write_code, write_table
from deploy.docs.reference.json_schema import name_type
from deploy.docs.reference.openapi import iter_operations, load_openapi
from services.gateway.problems import MEDIA_TYPE, get_problem_type

# status: what happened, what to do
_MEANINGS = {
    400: ("The body is not JSON, or not a JSON object.", "Correct the body."),
    401: ("The request has no key, or one that is not valid.", "Send a valid key or the token."),
    403: (
        "The key lacks the scope that the route needs.",
        "Use another key; `detail` names the scope.",
    ),
    404: (
        "There is no such thing, or it belongs to another tenant.",
        "Check the id, and the tenant of the key.",
    ),
    405: ("The route does not take this method.", "See the header `Allow`."),
    408: ("The body did not arrive in time.", "Send it faster, or in smaller parts."),
    409: (
        "The request is right, but does not fit the present state.",
        "Look at the state, then decide.",
    ),
    410: ("It was there, and has expired.", "Run the job again if you still need it."),
    412: ("A condition of the request does not hold.", "Read again, then repeat."),
    413: ("The body is larger than is allowed.", "Send less."),
    415: ("The body has another media type than the route takes.", "Set `Content-Type`."),
    416: ("The requested range is outside of the artifact.", "Ask for a range inside."),
    422: (
        "A field is invalid: `field` is the first, `errors` lists all.",
        "Correct these fields; nothing has been stored.",
    ),
    429: (
        "A quota is used up, or too many wrong keys came from this address.",
        "Wait as long as `Retry-After` says.",
    ),
    500: ("A bug.", "Report it with the `request_id`."),
    503: ("A store does not answer.", "Repeat the request after `Retry-After`."),
    507: ("The tenant's storage is used up, or the disk is full.", "Delete what is not needed."),
}
_WITHOUT_BODY = {414, 431}


def write_pages() -> dict[str, str]:
    """Path below the reference -> text."""
    statuses = {
        int(status) for _, _, operation in iter_operations() for status in operation["responses"]
        if int(status) >= 400
    }  # fmt: skip
    rows = [_write_row(status) for status in sorted((statuses | {405, 500}) - _WITHOUT_BODY)]
    schemas = load_openapi()["components"]["schemas"]
    schema = schemas["Problem"]
    fields = [
        (
            write_code(name),
            name_type(field, {"$defs": schemas}),
            end_sentence(field.get("description", "")),
        )
        for name, field in schema["properties"].items()
    ]
    text = f"""# Errors of the API

Every error is a JSON object of the media type `{MEDIA_TYPE}` (RFC 9457), whatever went wrong. Decide
by `type` or by the status; `detail` is for people, and its words may change.

{write_table(("field", "type", "what it is"), fields)}
## Types of problems

{write_table(("type", "status", "what happened", "what to do"), rows)}
Two errors are sent by the server before there is a request, without a body: 414, the URL is too long,
and 431, the headers are too large.
"""
    return {"problems.md": text}


def _write_row(status: int) -> tuple[str, ...]:
    happened, remedy = _MEANINGS[status]
    return (write_code(get_problem_type(status)), str(status), happened, remedy)
