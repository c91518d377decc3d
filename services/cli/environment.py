"""The environment variables of Palimpsest, so that a misspelt one is an error, not ignored."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from services.cli.output.console import UsageError

PREFIX = "PALIMPSEST_"
# All of them, as a shell may have those of the services set too. The command line cannot import the
# services' settings; a test checks that the two agree.
KNOWN_VARIABLES = frozenset({
    "PALIMPSEST_ARTIFACTS_URL", "PALIMPSEST_BODY_TIMEOUT_S", "PALIMPSEST_BROKER_URL",
    "PALIMPSEST_CHECKPOINT_INTERVAL_S", "PALIMPSEST_DATABASE_URL", "PALIMPSEST_DATA_ROOT",
    "PALIMPSEST_FAILPOINT", "PALIMPSEST_HEAD_TIMEOUT_S", "PALIMPSEST_HOST_WORKERS",
    "PALIMPSEST_TEST_DEVICE",
    "PALIMPSEST_LEASE_S", "PALIMPSEST_MAX_CONNECTIONS", "PALIMPSEST_MAX_EVENT_STREAMS",
    "PALIMPSEST_MAX_FAILED_KEYS_PER_MINUTE",
    "PALIMPSEST_MAX_UPLOADS", "PALIMPSEST_MAX_UPLOAD_BYTES",
    "PALIMPSEST_KEEP_AUDITS_DAYS", "PALIMPSEST_KEEP_CATALOGS_DAYS", "PALIMPSEST_KEEP_CHECKPOINTS_DAYS",
    "PALIMPSEST_KEEP_EVENTS_DAYS", "PALIMPSEST_KEEP_IDEMPOTENCY_DAYS", "PALIMPSEST_KEEP_JOBS_DAYS",
    "PALIMPSEST_KEEP_LOG_DAYS", "PALIMPSEST_KEEP_PREVIEWS_DAYS",
    "PALIMPSEST_KEEP_RECONSTRUCTIONS_DAYS", "PALIMPSEST_KEEP_UPLOADS_DAYS",
    "PALIMPSEST_UPLOAD_QUOTA_BYTES",
    "PALIMPSEST_MAX_LOST_ATTEMPTS", "PALIMPSEST_MEMORY_LIMIT_BYTES", "PALIMPSEST_STOP_GRACE_S",
    "PALIMPSEST_STORE_WAIT_S", "PALIMPSEST_RECONCILE_INTERVAL_S", "PALIMPSEST_LEASE_RENEW_S",
    "PALIMPSEST_RETRY_BACKOFF_S", "PALIMPSEST_SIGNING_KEY", "PALIMPSEST_STALL_TIMEOUT_S",
    "PALIMPSEST_STAGES",
    "PALIMPSEST_STORM_REDIS", "PALIMPSEST_TENANT", "PALIMPSEST_THREADS", "PALIMPSEST_TOKEN",
    "PALIMPSEST_METRICS_INTERVAL_S", "PALIMPSEST_METRICS_TOKEN",
    "PALIMPSEST_PUBLIC_URL", "PALIMPSEST_URL", "PALIMPSEST_WEBHOOK_ALLOW", "PALIMPSEST_WORKER",
    "PALIMPSEST_WORKER_START_ERROR_FILE",
})  # fmt: skip


def check_environment(environ: Iterable[str]) -> None:
    """Refuse unknown variables.

    Raises:
        UsageError: names each, with the most similar known one.
    """
    unknown = [
        name
        for name in sorted(environ)
        if name.upper().startswith(PREFIX) and name.upper() not in KNOWN_VARIABLES
    ]
    nearest = {
        name: get_close_matches(name.upper(), sorted(KNOWN_VARIABLES), n=1, cutoff=0)[0]
        for name in unknown
    }
    if nearest:
        raise UsageError("; ".join(
            f"unknown environment variable {name}: did you mean {close}? Rename it, or unset it"
            for name, close in nearest.items()
        ))  # fmt: skip
