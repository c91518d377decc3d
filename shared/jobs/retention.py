"""How long everything is kept: one row for each kind of thing that the service stores.

The reconcilers apply it (`shared.jobs.collector`), and docs/retention.md shows it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from shared.config import FOREVER, Settings
from shared.jobs.spec import PlannedRetention
from shared.roles import Role

DAY_S = 86_400.0
HOUR_S = 3600.0

# What shows samples of people, or says of samples whether they were forgotten.
PERSONAL_ROLES = (
    Role.RECONSTRUCTION,
    Role.PICTURES,
    Role.CANDIDATES,
    Role.ANSWERS,
    Role.SCORES,
)
# They hold copies of these pictures.
PICTURE_ROLES = (Role.PICTURES,)
PAGE_ROLES = (Role.REPORT_HTML, Role.REPORT_PICTURES)


@dataclass(frozen=True)
class Kind:
    """A kind of thing that is kept for a while.

    setting: the field of `shared.config.Settings`, in days; None: it is not the operator's choice.
    since: what the time counts from.
    lost: what nobody can do any more once it is gone.
    """

    name: str
    setting: str | None
    since: str
    lost: str


KINDS = (
    Kind(
        "responses to POSTs with an Idempotency-Key",
        "keep_idempotency_days",
        "the POST",
        "a POST repeated with the same key counts as a new one; identical jobs still run once",
    ),
    Kind(
        "checkpoints",
        "keep_checkpoints_days",
        "the end of the job",
        "a retry of a failed or cancelled job starts from the beginning",
    ),
    Kind(
        "events",
        "keep_events_days",
        "the end of the job",
        "the history of the job; its last event stays",
    ),
    Kind(
        "previews of attacks",
        "keep_previews_days",
        "the end of the job",
        "the picture of the attack while it ran; the reconstruction itself stays",
    ),
    Kind(
        "reconstructions, pictures, candidates, guesses, and HTML reports with pictures",
        "keep_reconstructions_days",
        "the end of the job",
        "the pictures and guesses themselves; all scores and `report.json` stay",
    ),
    Kind(
        "uploads",
        "keep_uploads_days",
        "the upload, or the deletion of the last declaration that names it",
        "audits of it cannot be repeated until it is uploaded again",
    ),
    Kind(
        "jobs that belong to no audit, with their artifacts",
        "keep_jobs_days",
        "the end of the job",
        "the job and its results",
    ),
    Kind(
        "audits, with the jobs and artifacts that nothing else needs",
        "keep_audits_days",
        "the end of its last job",
        "the audit, its report and its models",
    ),
    Kind(
        "entries of the access log",
        "keep_log_days",
        "the change",
        "who made the change",
    ),
    Kind(
        "catalogs and plugin sets that nothing refers to",
        "keep_catalogs_days",
        "the publication of the catalog",
        "nothing",
    ),
    Kind("webhook deliveries", None, "a week after the delivery has ended", "the outcome"),
    Kind("records of workers", None, "an hour after the last heartbeat", "nothing"),
    Kind("records of bytes to be removed", None, "the removal of the bytes", "nothing"),
    Kind("records of deletions", None, "the removal of the last trace", "nothing"),
)


@dataclass(frozen=True)
class Retention:
    """For how many seconds each kind is kept; infinite: for ever."""

    uploads_s: float = math.inf
    idempotency_s: float = math.inf
    checkpoints_s: float = math.inf
    events_s: float = math.inf
    previews_s: float = math.inf
    reconstructions_s: float = math.inf
    jobs_s: float = math.inf
    audits_s: float = math.inf
    log_s: float = math.inf
    catalogs_s: float = math.inf

    @classmethod
    def from_settings(cls, settings: Settings) -> Retention:
        """As the operator wants it. An answer names jobs and an audit, and must not outlive them;
        nor may a preview outlive the reconstruction that it shows."""
        return cls(
            uploads_s=settings.keep_uploads_days * DAY_S,
            idempotency_s=DAY_S
            * min(
                settings.keep_idempotency_days, settings.keep_jobs_days, settings.keep_audits_days
            ),
            checkpoints_s=settings.keep_checkpoints_days * DAY_S,
            events_s=settings.keep_events_days * DAY_S,
            previews_s=DAY_S * min(settings.keep_previews_days, settings.keep_reconstructions_days),
            reconstructions_s=settings.keep_reconstructions_days * DAY_S,
            jobs_s=settings.keep_jobs_days * DAY_S,
            audits_s=settings.keep_audits_days * DAY_S,
            log_s=settings.keep_log_days * DAY_S,
            catalogs_s=settings.keep_catalogs_days * DAY_S,
        )


def plan_retention(settings: Settings) -> PlannedRetention:
    """What a report says of it."""

    def bound(days: float) -> float | None:
        return None if math.isinf(days) else days

    return PlannedRetention(
        # what an audit has made goes with it
        reconstructions_days=bound(
            min(settings.keep_reconstructions_days, settings.keep_audits_days)
        ),
        audits_days=bound(settings.keep_audits_days),
        uploads_days=bound(settings.keep_uploads_days),
    )


def format_days(days: float) -> str:
    """`30 days`, `12 hours`, or `forever`."""
    if math.isinf(days):
        return FOREVER
    if days < 1:
        return f"{days * 24:g} hours"
    return f"{days:g} day{'' if days == 1 else 's'}"


def list_defaults() -> Mapping[str, str]:
    """By setting of the table, its default in words."""
    fields = Settings.model_fields
    return {
        kind.setting: format_days(float(fields[kind.setting].default))
        for kind in KINDS
        if kind.setting
    }
