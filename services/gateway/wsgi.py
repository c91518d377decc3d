"""The gateway over the real job store, artifacts and broker, from the environment.

granian --interface wsgi --factory services.gateway.wsgi:app
"""

from __future__ import annotations

from flask_openapi.openapi import OpenAPI

from services.gateway.app import create_app
from services.gateway.auth import required_token
from services.gateway.deps import GatewayDeps
from shared import logs
from shared.artifacts import ArtifactStore
from shared.config import Settings
from shared.jobs.database import Database
from shared.jobs.migrations import require_current
from shared.jobs.queue import CeleryBell, Ringer, make_celery
from shared.processes import die_with_parent


def app() -> OpenAPI:
    """The application that a WSGI server runs.

    Raises:
        InvalidRequest: no token is set.
        Conflict: the job store has another schema than this code.
        TransientError: the job store does not answer.
    """
    logs.setup()
    die_with_parent()  # a killed server must not leave this process listening on its port
    settings = Settings()
    required_token(settings)
    db = Database(settings.database_url)
    require_current(db)
    bell = CeleryBell(make_celery(settings.broker_url.get_secret_value()))
    return create_app(GatewayDeps(db, ArtifactStore.from_url(settings.artifacts_url), Ringer(bell), settings))
