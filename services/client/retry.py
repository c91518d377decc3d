"""When a call is sent again: only if that does no harm, for a limited time, with growing pauses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpx
from tenacity import RetryCallState, retry_if_exception, stop_after_delay, wait_exponential

from .calls import Call
from .errors import ApiError, Unreachable

MAX_RETRY_AFTER_S = 5.0  # a gateway that asks for a longer pause is asked again after this one
_backoff = wait_exponential(multiplier=0.2, max=2.0)  # seconds: 0.2, 0.4, 0.8, 1.6, 2, 2, ...


class RetryPolicy:
    """For how many seconds a call is sent again; 0 sends every call once."""

    def __init__(self, retry_for_s: float) -> None:
        self.retry_for_s = retry_for_s

    def build_options(self, call: Call[Any]) -> dict[str, Any]:
        """Arguments of tenacity's `Retrying` and `AsyncRetrying`; the last failure is raised as it
        is."""
        return {
            "retry": retry_if_exception(partial(may_send_again, call)),
            "stop": stop_after_delay(self.retry_for_s),
            "wait": compute_pause_s,
            "reraise": True,
        }


def may_send_again(call: Call[Any], error: BaseException) -> bool:
    """Whether the failure may pass, and a second request cannot act twice."""
    if isinstance(error, ApiError):
        # 503 is the gateway's own: it did nothing. 502 and 504 are a proxy's, and who knows what
        # happened behind it.
        return error.status == 503 or (call.repeatable and error.status in (502, 504))
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
        return True  # it was never sent
    return call.repeatable and isinstance(error, httpx.TransportError)


def compute_pause_s(state: RetryCallState) -> float:
    """Seconds before the next attempt: growing, and at least what the gateway asked for."""
    error = state.outcome.exception() if state.outcome else None
    asked_s = error.retry_after_s if isinstance(error, ApiError) else 0.0
    return max(_backoff(state), min(asked_s, MAX_RETRY_AFTER_S))


@contextmanager
def network_errors(url: str) -> Iterator[None]:
    """Say a failure of the network as one of the gateway at `url`.

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
