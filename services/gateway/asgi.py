"""The gateway over the real job store, artifacts and broker, from the environment."""

from __future__ import annotations

from services.gateway.app import create_app
from services.gateway.auth import required_token
from services.gateway.bridge import Bridge
from services.gateway.deps import GatewayDeps
from shared import logs
from shared.artifacts import ArtifactStore
from shared.config import load_settings
from shared.jobs.database import Database
from shared.jobs.migrations import require_current
from shared.jobs.queue import CeleryBell, Ringer, make_celery
from shared.processes import die_with_parent


def app(threads: int) -> Bridge:
    """The application that an ASGI server runs; `threads` is how many requests it works on at once.

    Raises:
        InvalidRequest: no token is set, or a setting is wrong.
        Conflict: the job store has another schema than this code.
        TransientError: the job store does not answer.
    """
    logs.setup()
    die_with_parent()  # a killed server must not leave this process listening on its port
    settings = load_settings()
    required_token(settings)
    db = Database(settings.database_url)
    require_current(db)
    ringer = Ringer(CeleryBell(make_celery(settings.broker_url.get_secret_value())))
    deps = GatewayDeps(db, ArtifactStore.from_url(settings.artifacts_url), ringer, settings)
    return Bridge(create_app(deps), threads)
