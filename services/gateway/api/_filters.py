"""Filters of lists and of what is done to many jobs at once, as queries and bodies have them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, StringConstraints, WithJsonSchema

from services.gateway.deps import current_store
from services.gateway.submission import AUDIT_ID, require_id_format
from shared.errors import InvalidRequest
from shared.jobs.filters import AuditFilter, JobFilter, Label
from shared.jobs.states import LIVE, State

FilterValue = Annotated[str, StringConstraints(pattern=r"^[\w.-]{1,64}$")]
# as labels and names are stored: without control characters
LabelFilter = Annotated[
    str,
    StringConstraints(
        pattern=r"^[^\u0000-\u001f\u007f-\u009f=][^\u0000-\u001f\u007f-\u009f]{0,320}$"
    ),
]
NameFilter = Annotated[str, StringConstraints(pattern=r"^[^\u0000-\u001f\u007f-\u009f]{1,200}$")]
MAX_TIME_CHARS = 40
END_OF_TIME = 253_402_300_800.0  # the year 10000, which responses have no way to write


def _parse_time(value: Any) -> float:
    """Seconds since 1970 of an RFC 3339 time."""
    if not isinstance(value, str) or len(value) > MAX_TIME_CHARS:
        raise ValueError("give a time as text, such as 2026-01-31T12:00:00Z")
    try:
        time = datetime.fromisoformat(value.upper())
    except ValueError:
        raise ValueError(
            "this is not a valid time: give date, time and offset, such as 2026-01-31T12:00:00Z"
        ) from None
    if time.tzinfo is None:
        raise ValueError("the time has no offset from UTC: end it in Z, or in +02:00")
    seconds = time.timestamp()
    if not 0 <= seconds < END_OF_TIME:
        raise ValueError("the time must be between the years 1970 and 9999 (UTC)")
    return seconds


Time = Annotated[
    float,
    BeforeValidator(_parse_time),
    WithJsonSchema({"type": "string", "format": "date-time", "maxLength": MAX_TIME_CHARS}),
]


class TimeFields(BaseModel):
    """Filters by time."""

    created_after: Time | None = Field(None, description="created at or after this time")
    created_before: Time | None = Field(None, description="created before this time")
    finished_after: Time | None = Field(None, description="ended at or after this time")

    def require_consistent(self, state: str | None, live: frozenset[str]) -> None:
        """Refuse filters that nothing can meet.

        Raises:
            InvalidRequest: names one of two that contradict each other.
        """
        after, before = self.created_after, self.created_before
        if after is not None and before is not None and before <= after:
            raise InvalidRequest(
                "created_before must be later than created_after",
                "created_before",
            )
        if self.finished_after is not None and state in live:
            raise InvalidRequest(
                f"nothing in state {state} has ended: remove finished_after, or ask for another state",
                "finished_after",
            )


class JobFields(TimeFields):
    """Filters of jobs."""

    stage: FilterValue | None = None
    method: FilterValue | None = None
    state: State | None = None
    audit: str | None = Field(None, max_length=64, description="only this audit's jobs")
    label: LabelFilter | None = Field(
        None, description="only jobs of audits with this label: KEY, or KEY=VALUE"
    )

    def to_job_filter(self) -> JobFilter:
        """The filter of the job store.

        Raises:
            NotFound: there is no such audit.
            InvalidRequest: see `require_consistent`.
        """
        if self.audit is not None:
            current_store().get_audit(require_id_format(self.audit, AUDIT_ID, "audit"))
        self.require_consistent(self.state, frozenset(LIVE))
        return JobFilter(
            self.stage, self.method, self.state, self.audit, parse_label(self.label),
            self.created_after, self.created_before, self.finished_after,
        )  # fmt: skip


class AuditFields(TimeFields):
    """Filters of audits."""

    name: NameFilter | None = Field(
        None, description="only those whose name contains this (case-insensitive)"
    )
    state: Literal["queued", "running", "succeeded", "failed", "cancelled"] | None = None
    label: LabelFilter | None = Field(
        None, description="only those with this label: KEY, or KEY=VALUE"
    )

    def to_audit_filter(self) -> AuditFilter:
        """The filter of the job store.

        Raises:
            InvalidRequest: see `require_consistent`.
        """
        self.require_consistent(self.state, frozenset({"queued", "running"}))
        return AuditFilter(
            self.name, self.state, parse_label(self.label),
            self.created_after, self.created_before, self.finished_after,
        )  # fmt: skip


def parse_label(text: str | None) -> Label | None:
    """`KEY` or `KEY=VALUE` as key and value."""
    if text is None:
        return None
    key, sign, value = text.partition("=")
    return key, value if sign else None
