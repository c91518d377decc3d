"""What lets requests in: the token of the settings, or keys in the job store. The gateway does not
start without either."""

from __future__ import annotations

from shared.config import Settings
from shared.errors import InvalidRequest
from shared.jobs import keys
from shared.jobs.database import Database

NO_ACCESS = (
    "the gateway does not start without a token or a valid key: set PALIMPSEST_TOKEN to a long "
    "random string, such as the output of "
    "`python -c 'import secrets; print(secrets.token_urlsafe(32))'`, or create a key with "
    "`python -m services.admin tenants create NAME` and "
    "`python -m services.admin keys create --tenant NAME --scope read --scope submit --scope admin`"
)


def get_token(settings: Settings) -> str:
    """The token of the settings; "" if there is none."""
    return settings.token.get_secret_value().strip() if settings.token else ""


def require_credentials(db: Database, settings: Settings) -> None:
    """Refuse to serve what nobody could use.

    Raises:
        InvalidRequest: there is no token, and no valid key.
        TransientError: the job store does not answer.
    """
    if not get_token(settings) and not keys.has_valid(db):
        raise InvalidRequest(NO_ACCESS, "PALIMPSEST_TOKEN")
