"""How many requests a tenant may send in a minute.

Counted in Redis, so that all processes of all gateways count together, as a sliding window of two
counters a tenant. While Redis is away every process counts for itself: a quota is never a reason to
refuse requests that it allows.

Answers to tenants with such a quota have the headers RateLimit-Policy and RateLimit
(draft-ietf-httpapi-ratelimit-headers).
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import redis
import structlog
from flask import Flask, Response, g, request
from limits import RateLimitItemPerMinute
from limits.errors import StorageError
from limits.storage import MemoryStorage, RedisStorage, Storage
from limits.strategies import SlidingWindowCounterRateLimiter
from redis.backoff import NoBackoff
from redis.retry import Retry

from services.gateway.principal import current_principal
from services.gateway.problems import make_problem
from services.gateway.quota_cache import QuotaCache

log = structlog.get_logger()

WINDOW_S = 60
REDIS_TIMEOUT_S = 0.5
RETRY_REDIS_AFTER_S = 5.0  # requests do not wait for a Redis that has just been away
COUNTED_KEY = "palimpsest.requests"  # in the WSGI environ: the `Allowance` after this request


@dataclass(frozen=True)
class Allowance:
    """What is left of a tenant's requests.

    limit: requests a minute.
    reset_s: seconds until there is more.
    """

    limit: int
    remaining: int
    reset_s: int
    is_exceeded: bool

    def make_headers(self) -> dict[str, str]:
        """The headers that tell a client of it."""
        return {
            "RateLimit-Policy": f'"requests";q={self.limit};w={WINDOW_S}',
            "RateLimit": f'"requests";r={self.remaining};t={self.reset_s}',
        }


class RequestLimiter:
    """Counts requests. Safe for many threads."""

    def __init__(self, storage: Storage, clock: Callable[[], float] = time.monotonic) -> None:
        self._shared = SlidingWindowCounterRateLimiter(storage)
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._clock = clock
        self._shared_from = 0.0  # when Redis is to be asked again
        self._lock = threading.Lock()

    @classmethod
    def from_url(cls, broker_url: str) -> RequestLimiter:
        """A limiter that counts in this Redis. Does not connect yet."""
        pool = redis.ConnectionPool.from_url(
            broker_url,
            socket_timeout=REDIS_TIMEOUT_S,
            socket_connect_timeout=REDIS_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
        prefix = "palimpsest:requests"
        return cls(
            RedisStorage(broker_url, connection_pool=pool, key_prefix=prefix, wrap_exceptions=True)
        )

    def count(self, tenant: str, limit: int) -> Allowance:
        """Count one request of the tenant."""
        now = self._clock()
        if now >= self._shared_from:
            try:
                return _count(self._shared, tenant, limit)
            except StorageError as error:
                with self._lock:
                    self._shared_from = now + RETRY_REDIS_AFTER_S
                log.warning(
                    "requests are counted by each process alone: Redis did not answer",
                    error=str(error),
                )
        return _count(self._own, tenant, limit)


def _count(limiter: SlidingWindowCounterRateLimiter, tenant: str, limit: int) -> Allowance:
    item = RateLimitItemPerMinute(limit)
    is_exceeded = not limiter.hit(item, tenant)
    left = limiter.get_window_stats(item, tenant)
    reset_s = max(1, math.ceil(left.reset_time - time.time()))
    return Allowance(limit, max(0, left.remaining), min(reset_s, WINDOW_S), is_exceeded)


def install(app: Flask, limiter: RequestLimiter, quotas: QuotaCache) -> None:
    """Count the requests of tenants with a quota. To be installed after authentication."""

    @app.before_request
    def _count_request() -> Response | None:
        # a request with a large body is checked before it is read, and then again
        if request.url_rule is None or COUNTED_KEY in request.environ or "principal" not in g:
            return None
        principal = current_principal()
        if not principal.is_counted:
            return None
        limit = quotas.find(principal.tenant).max_requests_per_minute
        if limit is None:
            return None
        allowance = limiter.count(principal.tenant, limit)
        request.environ[COUNTED_KEY] = allowance
        if not allowance.is_exceeded:
            return None
        return make_problem(
            429,
            f"your limit is {limit:,} requests per minute: try again in {allowance.reset_s} s",
            headers={"Retry-After": str(allowance.reset_s)},
        )

    @app.after_request
    def _tell(response: Response) -> Response:
        allowance: Allowance | None = request.environ.get(COUNTED_KEY)
        if allowance is not None:
            response.headers.update(allowance.make_headers())
        return response
