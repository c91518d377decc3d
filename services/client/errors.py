"""What can go wrong, sorted by what the caller should do about it.

ClientError
├── NotConfigured     no address or no token is known: say where the gateway is
├── Unreachable       the gateway does not answer: is it up?
├── DigestMismatch    fetched bytes do not have the digest they were asked by: fetch again
├── WriteError        the disk refuses a file: name another place, or make room
├── NoReport          there is no report of this, or not yet
├── AnswerTooLarge    an answer has no end: is this the right address?
└── ApiError          the gateway said no; `status`, `detail`, `field` and `errors` say why
    ├── Invalid       400, 413, 415, 422: change the request
    ├── Unauthorized  401: the token is wrong
    ├── Forbidden     403
    ├── NotFound      404: no such thing of yours
    ├── Conflict      409: right request, wrong moment
    └── Unavailable   503: the same call may work later
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ClientError(Exception):
    """Base of all of them; the text is a sentence for a person."""


class NotConfigured(ClientError):
    """No gateway is known."""


class Unreachable(ClientError):
    """The gateway does not answer."""


class DigestMismatch(ClientError):
    """The bytes are not the ones that were asked for."""


class WriteError(ClientError):
    """The disk refuses."""


class NoReport(ClientError):
    """No report of this, or not yet."""


class AnswerTooLarge(ClientError):
    """More bytes than any answer of a gateway has."""


class ApiError(ClientError):
    """The gateway answered with a problem (RFC 9457); `retry_after_s` is 0 if it named no time."""

    def __init__(self, status: int, problem: Mapping[str, Any], retry_after_s: float = 0.0) -> None:
        self.status = status
        self.retry_after_s = retry_after_s
        self.title = str(problem.get("title") or f"HTTP {status}")
        self.detail = str(problem.get("detail") or self.title)
        field = problem.get("field")
        self.field = field if isinstance(field, str) else None
        errors = problem.get("errors")
        self.errors: list[Mapping[str, str]] = (
            [e for e in errors if isinstance(e, dict)] if isinstance(errors, list) else []
        )
        super().__init__(self.detail)


class Invalid(ApiError):
    """The request is wrong."""


class Unauthorized(ApiError):
    """The token is wrong."""


class Forbidden(ApiError):
    """This token may not do that."""


class NotFound(ApiError):
    """No such thing."""


class Conflict(ApiError):
    """Not in this state."""


class Unavailable(ApiError):
    """Not now."""


BY_STATUS: dict[int, type[ApiError]] = {
    400: Invalid,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: Invalid,
    415: Invalid,
    422: Invalid,
    503: Unavailable,
}
