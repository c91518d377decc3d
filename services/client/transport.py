"""What both clients do with answers and failures: when to send again, and which error to raise."""

from __future__ import annotations

import ipaddress
import time
from typing import Any

import httpx

from services.client.calls import Call
from services.client.errors import BY_STATUS, ApiError, Unreachable

CONNECT = 5.0  # seconds to wait for a connection at most
STREAM_TIMEOUT = httpx.Timeout(40.0, connect=CONNECT)  # a stream says something every 10 s


def options(url: str, token: str, timeout: float = 30.0) -> dict[str, Any]:
    """Arguments of httpx's clients; `timeout` in seconds. A proxy of the environment is not for this machine itself."""
    return {
        "base_url": url,
        "headers": {"Authorization": f"Bearer {token}", "User-Agent": "palimpsest-client"},
        "timeout": httpx.Timeout(timeout, connect=min(timeout, CONNECT)),
        "trust_env": not _is_loopback(httpx.URL(url).host),
    }


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def arguments(call: Call[Any]) -> dict[str, Any]:
    """Arguments of one request."""
    return {
        "method": call.method,
        "url": call.path,
        "params": dict(call.query),
        "json": call.body,
        "headers": dict(call.headers),
    }


class Patience:
    """How long to go on sending one call that fails for reasons that pass: seconds in all, with longer pauses."""

    def __init__(self, url: str, seconds: float) -> None:
        self._url = url
        self._until = time.monotonic() + seconds
        self._pause = 0.1

    def after_failure(self, call: Call[Any], error: httpx.TransportError) -> float:
        """Seconds to wait before the call is sent again.

        Raises:
            Unreachable: it is not to be sent again.
        """
        never_sent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
        if not (call.repeatable or never_sent) or time.monotonic() > self._until:
            raise Unreachable(f"the gateway at {self._url} does not answer: {_why(error)}") from error
        return self._next()

    def after_answer(self, call: Call[Any], response: httpx.Response) -> float | None:
        """Seconds to wait if the call is to be sent again; None if this is the answer."""
        if response.status_code not in (502, 503, 504) or time.monotonic() > self._until:
            return None
        if not call.repeatable and response.status_code != 503:
            return None
        asked = response.headers.get("Retry-After", "")
        return max(self._next(), min(float(asked), 5.0) if asked.isdecimal() else 0.0)

    def _next(self) -> float:
        self._pause = min(self._pause * 2, 2.0)
        return self._pause


def _why(error: httpx.TransportError) -> str:
    if isinstance(error, httpx.ConnectError):
        return "is it running? (`make serve` starts one on this machine)"
    return str(error) or type(error).__name__


def check(response: httpx.Response) -> None:
    """Raise what the gateway says is wrong. The body must have been read.

    Raises:
        ApiError: one of its kinds, by status.
    """
    if response.status_code < 400:
        return
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {"detail": f"HTTP {response.status_code} from something that is not the gateway"}
    raise BY_STATUS.get(response.status_code, ApiError)(response.status_code, problem)


def read(call: Call[Any], response: httpx.Response) -> Any:
    """What the call's answer says.

    Raises:
        ApiError: the gateway refused, or the answer is not the gateway's.
    """
    check(response)
    try:
        return call.read(response.json())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        detail = f"{response.url} did not answer as a gateway does: is this the right address?"
        raise ApiError(response.status_code, {"detail": detail}) from error
