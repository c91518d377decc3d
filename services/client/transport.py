"""Building of requests, and reading of answers: the call's result, or the error to raise."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

import httpx

from .calls import Call
from .errors import BY_STATUS, ApiError

CONNECT_TIMEOUT_S = 5.0
# a stream sends something every 10 s
STREAM_TIMEOUT = httpx.Timeout(40.0, connect=CONNECT_TIMEOUT_S)
MAX_ANSWER_BYTES = 64 * 2**20  # of any answer that is not an artifact


def build_client_options(url: str, token: str, timeout_s: float = 30.0) -> dict[str, Any]:
    """Arguments of httpx's clients. A proxy of the environment is not used for loopback addresses.

    No answer may be compressed: a small one could decompress to any size.
    """
    return {
        "base_url": url,
        "headers": {
            "Accept-Encoding": "identity",
            "Authorization": f"Bearer {token}",
            "User-Agent": "palimpsest-client",
        },
        "timeout": httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S)),
        "trust_env": not _is_loopback(httpx.URL(url).host),
    }


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def build_request_options(call: Call[Any]) -> dict[str, Any]:
    """Arguments of httpx's `build_request`."""
    return {
        "method": call.method,
        "url": call.path,
        "params": dict(call.query),
        "json": call.body,
        "headers": dict(call.headers),
    }


def check_status(response: httpx.Response) -> None:
    """Raise the error that the gateway reports. The body must have been read.

    Raises:
        ApiError: the subclass for the status.
    """
    if response.status_code < 400:
        return
    try:
        problem = response.json()
    except (ValueError, RecursionError):
        problem = None
    if not isinstance(problem, dict):
        problem = {"detail": f"HTTP {response.status_code} from a server that is not a gateway"}
    kind = BY_STATUS.get(response.status_code, ApiError)
    raise kind(response.status_code, problem, _read_retry_after_s(response.headers))


def check_encoding(response: httpx.Response) -> None:
    """Refuse a compressed answer.

    Raises:
        ApiError: a proxy compresses answers although the request forbids it.
    """
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        detail = (
            "the answer is compressed: configure the proxy in front of the gateway to respect "
            "Accept-Encoding: identity"
        )
        raise ApiError(response.status_code, {"detail": detail})


def read_answer(call: Call[Any], response: httpx.Response) -> Any:
    """The call's result.

    Raises:
        ApiError: the answer does not come from a gateway.
    """
    try:
        return call.read(response.json())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise build_foreign_error(response) from error


def build_foreign_error(response: httpx.Response) -> ApiError:
    """The error for an answer that does not come from a gateway."""
    detail = f"the answer of {response.url} is not a gateway's: is this the right address?"
    return ApiError(response.status_code, {"detail": detail})


def _read_retry_after_s(headers: Mapping[str, str]) -> float:
    """Seconds that the gateway asks for; 0 if none. Dates and non-ASCII digits are ignored."""
    text = headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0.0
