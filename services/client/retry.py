"""When a call is retried: only if that is harmless, for a limited time, with growing pauses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpx
from tenacity import RetryCallState, retry_if_exception, wait_exponential

from .calls import Call
from .errors import ApiError, Unreachable

MAX_RETRY_AFTER_S = 5.0  # a longer pause that a busy gateway asks for is cut to this
# Requests beyond a quota are refused until the sliding minute is over: sooner is in vain.
MAX_QUOTA_PAUSE_S = 60.0
_backoff = wait_exponential(multiplier=0.2, max=2.0)  # seconds: 0.2, 0.4, 0.8, 1.6, 2, 2, ...


class RetryPolicy:
    """For how many seconds a call is retried; with 0, every call is sent once. Where the gateway
    says when there is room again (429), a call waits for that, up to `MAX_QUOTA_PAUSE_S`, even if
    the policy is shorter."""

    def __init__(self, retry_for_s: float) -> None:
        self.retry_for_s = retry_for_s

    def build_options(self, call: Call[Any]) -> dict[str, Any]:
        """Arguments of tenacity's `Retrying` and `AsyncRetrying`; the last error is raised
        unchanged."""
        return {
            "retry": retry_if_exception(partial(may_send_again, call)),
            "stop": self._is_over,
            "wait": compute_pause_s,
            "reraise": True,
        }

    def _is_over(self, state: RetryCallState) -> bool:
        limit_s = self.retry_for_s
        if limit_s > 0 and _is_over_quota(state):
            limit_s = max(limit_s, MAX_QUOTA_PAUSE_S)
        return (state.seconds_since_start or 0.0) >= limit_s


def may_send_again(call: Call[Any], error: BaseException) -> bool:
    """Whether the failure may be temporary, and a second request cannot act twice."""
    if isinstance(error, ApiError):
        # 503 comes from the gateway, which did nothing. 502 and 504 come from a proxy: the gateway
        # may have acted.
        # 429 says when to send again, unless what is full does not empty by itself.
        if error.status == 429:
            return 0 < error.retry_after_s <= MAX_QUOTA_PAUSE_S
        return error.status == 503 or (call.repeatable and error.status in (502, 504))
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
        return True  # it was never sent
    return call.repeatable and isinstance(error, httpx.TransportError)


def compute_pause_s(state: RetryCallState) -> float:
    """Seconds before the next attempt: growing, and at least those that the gateway asked for."""
    error = state.outcome.exception() if state.outcome else None
    asked_s = error.retry_after_s if isinstance(error, ApiError) else 0.0
    longest_s = MAX_QUOTA_PAUSE_S if _is_over_quota(state) else MAX_RETRY_AFTER_S
    return max(_backoff(state), min(asked_s, longest_s))


def _is_over_quota(state: RetryCallState) -> bool:
    error = state.outcome.exception() if state.outcome else None
    return isinstance(error, ApiError) and error.status == 429


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
