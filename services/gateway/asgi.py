"""The gateway over the real job store, artifacts and broker, from the environment."""

from __future__ import annotations

from services.gateway.app import create_app
from services.gateway.bridge import AsgiBridge
from services.gateway.deps import GatewayDeps
from services.signing import load_configured_key
from shared import logs
from shared.artifacts import ArtifactStore
from shared.config import load_settings
from shared.jobs.database import Database
from shared.jobs.migrations import require_current_schema
from shared.jobs.queue import CeleryWakeup, WakeupSender, make_celery
from shared.processes import die_with_parent


def create_asgi_app(threads: int) -> AsgiBridge:
    """The application that an ASGI server runs; `threads` is how many requests it handles at once.

    Raises:
        InvalidRequest: there is neither a token nor a valid key, or a setting is wrong, or the signing
            key cannot be read.
        Conflict: the job store's schema is not the one this code needs.
        TransientError: the job store does not answer.
    """
    logs.configure_logging()
    die_with_parent()  # a killed server must not leave this process listening on its port
    settings = load_settings()
    db = Database(settings.database_url)
    require_current_schema(db)
    wakeup_sender = WakeupSender(CeleryWakeup(make_celery(settings.broker_url.get_secret_value())))
    deps = GatewayDeps(
        db,
        ArtifactStore.from_url(settings.artifacts_url),
        wakeup_sender,
        settings,
        signing_key=load_configured_key(settings),
    )
    return AsgiBridge(create_app(deps), threads)
