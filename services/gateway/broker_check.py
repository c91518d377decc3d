"""Whether Redis answers."""

from __future__ import annotations

import redis

from shared.config import Settings

TIMEOUT_S = 0.5


def is_broker_away(settings: Settings) -> bool:
    """Whether Redis does not answer within `TIMEOUT_S`."""
    try:
        with redis.from_url(
            settings.broker_url.get_secret_value(),
            socket_connect_timeout=TIMEOUT_S,
            socket_timeout=TIMEOUT_S,
        ) as connection:
            connection.ping()
    except (redis.RedisError, OSError, ValueError):
        return True
    return False
