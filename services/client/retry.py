"""When a call is retried: only if that is harmless, for a limited time, with growing pauses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpx
from tenacity import RetryCallState, retry_if_exception, stop_after_delay, wait_exponential

from .calls import Call
from .errors import ApiError, Unreachable

MAX_RETRY_AFTER_S = 5.0  # a longer pause that the gateway asks for is cut to this
_backoff = wait_exponential(multiplier=0.2, max=2.0)  # seconds: 0.2, 0.4, 0.8, 1.6, 2, 2, ...


class RetryPolicy:
    """For how many seconds a call is retried; with 0, every call is sent once."""

    def __init__(self, retry_for_s: float) -> None:
        self.retry_for_s = retry_for_s

    def build_options(self, call: Call[Any]) -> dict[str, Any]:
        """Arguments of tenacity's `Retrying` and `AsyncRetrying`; the last error is raised
        unchanged."""
        return {
            "retry": retry_if_exception(partial(may_send_again, call)),
            "stop": stop_after_delay(self.retry_for_s),
            "wait": compute_pause_s,
            "reraise": True,
        }


def may_send_again(call: Call[Any], error: BaseException) -> bool:
    """Whether the failure may be temporary, and a second request cannot act twice."""
    if isinstance(error, ApiError):
        # 503 comes from the gateway, which did nothing. 502 and 504 come from a proxy: the gateway
        # may have acted.
        # 429 says when to send again, unless what is full does not empty by itself.
        is_full = error.status == 429 and not error.retry_after_s
        return (error.status in (429, 503) and not is_full) or (
            call.repeatable and error.status in (502, 504)
        )
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
        return True  # it was never sent
    return call.repeatable and isinstance(error, httpx.TransportError)


def compute_pause_s(state: RetryCallState) -> float:
    """Seconds before the next attempt: growing, and at least those that the gateway asked for."""
    error = state.outcome.exception() if state.outcome else None
    asked_s = error.retry_after_s if isinstance(error, ApiError) else 0.0
    return max(_backoff(state), min(asked_s, MAX_RETRY_AFTER_S))


@contextmanager
def network_errors(url: str) -> Iterator[None]:
    """Turn an error of the network into one that names the gateway's address.

    Raises:
        Unreachable: instead of an httpx.TransportError.
    """
    try:
        yield
    except httpx.TransportError as error:
        raise Unreachable(f"the gateway at {url} does not answer: {_explain(error)}") from error


def _explain(error: httpx.TransportError) -> str:
    if isinstance(error, httpx.ConnectError):
        return "is it running? (`make serve` starts one on this machine)"
    return str(error) or type(error).__name__
