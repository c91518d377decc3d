"""The client's errors, by what the caller can do about them.

ClientError
├── NotConfigured     no address or token: configure the gateway
├── Unreachable       the gateway does not answer: is it running?
├── DigestMismatch    the fetched bytes do not match their digest: fetch again
├── ReadError         a file cannot be read: check its name and its permissions
├── WriteError        a file cannot be written: choose another place, or free some space
├── NoReport          there is no report, or not yet
├── AnswerTooLarge    an answer is too large: is this the right address?
└── ApiError          the gateway refused; `status`, `detail`, `field` and `errors` say why
    ├── Invalid       400, 413, 415, 422: change the request
    ├── Unauthorized  401: the token is wrong
    ├── Forbidden     403
    ├── NotFound      404: you have no such item
    ├── Conflict      409: not possible in the current state
    ├── QuotaExceeded 507: delete uploads that are no longer needed
    ├── TooMany       429: wait, or cancel some
    └── Unavailable   503: retry later
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ClientError(Exception):
    """Base class; the text is a sentence for the user."""


class NotConfigured(ClientError):
    """No gateway is configured."""


class Unreachable(ClientError):
    """The gateway does not answer."""


class DigestMismatch(ClientError):
    """The bytes do not match the requested digest."""


class WriteError(ClientError):
    """A file cannot be written."""


class ReadError(ClientError):
    """A file cannot be read."""


class NoReport(ClientError):
    """There is no report, or not yet."""


class AnswerTooLarge(ClientError):
    """The answer is larger than any of a gateway."""


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
    """The request is invalid."""


class Unauthorized(ApiError):
    """The token is wrong."""


class Forbidden(ApiError):
    """This token does not permit the request."""


class NotFound(ApiError):
    """No such item."""


class Gone(NotFound):
    """It was there, and has expired."""


class Conflict(ApiError):
    """Not possible in the current state."""


class QuotaExceeded(ApiError):
    """The uploads hold as many bytes as they may."""


class TooMany(ApiError):
    """As many requests, waiting jobs or event streams as the tenant may have; or too many wrong keys
    from this address."""


class Unavailable(ApiError):
    """Temporarily unavailable."""


BY_STATUS: dict[int, type[ApiError]] = {
    400: Invalid,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    410: Gone,
    409: Conflict,
    413: Invalid,
    415: Invalid,
    422: Invalid,
    429: TooMany,
    503: Unavailable,
    507: QuotaExceeded,
}
