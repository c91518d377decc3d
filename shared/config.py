"""Settings, from environment variables `PALIMPSEST_*` only.

Three of them (database, broker, artifacts) are all that scale-out takes.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.errors import InvalidRequest

PREFIX = "PALIMPSEST_"
# names the file in which a pool child says why it cannot start
START_ERROR_VARIABLE = "PALIMPSEST_WORKER_START_ERROR_FILE"
# Variables that are no settings of a service; each is known to all processes.
OTHERS = frozenset({
    "PALIMPSEST_URL",  # where the client and the command line find the gateway
    START_ERROR_VARIABLE,  # from a worker to its pool child
    "PALIMPSEST_FAILPOINT", "PALIMPSEST_STORM_REDIS", "PALIMPSEST_TEST_DEVICE",  # of tests
})  # fmt: skip


FOREVER = "forever"


def _parse_days(value: Any) -> Any:
    return math.inf if isinstance(value, str) and value.strip().lower() == FOREVER else value


# How long something is kept. `forever` is a value of its own, so that nobody writes a large number.
Days = Annotated[float, BeforeValidator(_parse_days), Field(gt=0, description="days, or forever")]


def _parse_origin(value: Any) -> Any:
    """`https://host` or `http://host:port` as browsers write it; None for nothing."""
    if not isinstance(value, str):
        return value
    match = _ORIGIN.fullmatch(value.strip().lower())
    if match is None:
        if not value.strip():
            return None
        raise ValueError("write it as https://HOST or https://HOST:PORT, without a path")
    scheme, host, port = match.groups()
    is_default = port is None or int(port) == {"http": 80, "https": 443}[scheme]
    return f"{scheme}://{host}" + ("" if is_default else f":{int(port)}")


# of names, IPv4 addresses, and IPv6 addresses in brackets
_ORIGIN = re.compile(r"(https?)://([a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::([0-9]{1,5}))?/?")
Origin = Annotated[str | None, BeforeValidator(_parse_origin)]


class Settings(BaseSettings):
    """One sentence per setting; units stand in the names."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    database_url: str = Field(
        "sqlite:///.palimpsest/palimpsest.db",
        description="SQLAlchemy URL: SQLite on one machine, postgresql+psycopg:// for more, with "
        "?pooler=transaction behind a pooler",
    )
    broker_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379/0"), description="Redis that carries the wake-ups"
    )
    artifacts_url: str = Field(
        "file://.palimpsest/artifacts",
        description="where artifacts are stored: file://FOLDER or s3://BUCKET",
    )
    token: SecretStr | None = Field(
        None,
        description="a token that may do everything, as `tenant`; without it the gateway needs keys in "
        "the job store",
    )
    tenant: str = Field("local", description="the tenant that the token belongs to")
    public_url: Origin = Field(
        None,
        description="the URL at which browsers open the gateway, such as https://audits.example, if "
        "there is a proxy in front of it",
    )
    data_root: Path = Field(Path("data"), description="folder that data sets are read from")
    signing_key: Path | None = Field(
        None,
        description="private key that the gateway signs manifests of reports with; not signed when "
        "not set",
    )

    threads: int | None = Field(
        None, ge=1, description="threads of one worker; all cores when not set"
    )
    memory_limit_bytes: int | None = Field(
        None,
        ge=1,
        description="memory limit of a worker, including its job; when not set, 90 % of the "
        "memory of the "
        "machine or container, divided by host_workers",
    )
    host_workers: int | None = Field(
        None,
        ge=1,
        description="workers that share the memory of this machine or container; when not set, "
        "the live workers of this "
        "host, counted at start",
    )
    stages: str = Field(
        "", description="stages that a worker serves, comma-separated; all when empty"
    )
    worker: str | None = Field(
        None, description="a worker's name; host and process number when not set"
    )

    lease_s: float = Field(
        45.0, gt=0, description="how long a lease is valid after a claim or a renewal"
    )
    lease_renew_s: float = Field(3.0, gt=0, description="interval between two lease renewals")
    stall_timeout_s: float | None = Field(
        None,
        gt=0,
        description="CPU seconds of the busiest thread without progress after which an attempt is "
        "killed; ten times as many seconds of wall time without progress also end it; overrides "
        "the stage's own limit",
    )
    checkpoint_interval_s: float = Field(
        10.0, gt=0, description="interval between two checkpoints of a stage that writes them"
    )
    stop_grace_s: float = Field(
        4.0,
        gt=0,
        description="how long an attempt may take to stop after a cancel, drain or timeout before "
        "it is killed",
    )
    store_wait_s: float = Field(
        120.0,
        gt=0,
        description="how long an attempt waits for an unavailable store before its job is queued "
        "again without counting as "
        "lost; ten times as long once it has results to store",
    )
    reconcile_interval_s: float = Field(
        5.0, gt=0, description="interval between two rounds of the reconciler"
    )
    retry_backoff_s: float = Field(
        10.0,
        ge=0,
        description="delay before a job with a lost attempt can be claimed again; doubles each "
        "time, up to five minutes",
    )
    max_lost_attempts: int = Field(
        3, ge=1, description="lost attempts after which a job fails as lost_worker"
    )
    max_event_streams: int = Field(
        512, ge=1, description="event streams that one gateway process keeps open at a time"
    )
    max_failed_keys_per_minute: int = Field(
        60,
        ge=1,
        description="wrong keys that one address may send to a gateway process per minute before it "
        "is answered with 429; behind a proxy all clients have the proxy's address",
    )
    max_connections: int = Field(
        4096,
        ge=16,
        description="connections that one gateway process keeps open at a time; further ones wait "
        "to be accepted",
    )
    head_timeout_s: float = Field(
        15.0,
        gt=0,
        description="how long the gateway waits for the headers of a request; also the keep-alive "
        "timeout",
    )
    body_timeout_s: float = Field(
        30.0,
        gt=0,
        description="how long the gateway waits for the whole body of a request, or for the next "
        "MiB of an upload",
    )
    max_upload_bytes: int = Field(8 << 30, ge=1, description="size limit of one upload")
    upload_quota_bytes: int = Field(
        64 << 30, ge=0, description="bytes that all uploads of a tenant may hold"
    )
    webhook_allow: str = Field(
        "",
        description="networks that webhooks may be sent to although they are not public, "
        "comma-separated, such as 10.0.0.0/8; with any of them, also to other ports than 443",
    )
    metrics_token: SecretStr | None = Field(
        None, description="a bearer token that opens /metrics and nothing else"
    )
    metrics_interval_s: float = Field(
        10.0, gt=0, description="how old the figures of /metrics may be before they are made again"
    )
    max_uploads: int = Field(
        16, ge=1, description="uploads that one gateway process receives at a time"
    )

    keep_uploads_days: Days = Field(
        30.0, description="how long an upload is kept that no model or data set refers to"
    )
    keep_idempotency_days: Days = Field(
        1.0, description="how long the answer to a POST with an Idempotency-Key is kept"
    )
    keep_checkpoints_days: Days = Field(
        7.0, description="how long the checkpoints of a job are kept after it has ended"
    )
    keep_events_days: Days = Field(
        30.0, description="how long the events of a job are kept after it has ended"
    )
    keep_previews_days: Days = Field(
        1.0,
        description="how long the last preview of an attack is kept after its job has ended; not "
        "longer than reconstructions",
    )
    keep_reconstructions_days: Days = Field(
        30.0,
        description="how long an audit keeps what shows samples or says who was forgotten: "
        "reconstructions, pictures, candidates, guesses, and the HTML report with the pictures",
    )
    keep_jobs_days: Days = Field(
        90.0, description="how long jobs that belong to no audit are kept after they have ended"
    )
    keep_audits_days: Days = Field(
        math.inf, description="how long an audit is kept after its last job has ended"
    )
    keep_log_days: Days = Field(
        365.0, description="how long entries of the log of who changed what are kept"
    )
    keep_catalogs_days: Days = Field(
        30.0, description="how long catalogs and sets of plugins are kept that nothing refers to"
    )


def known_variables() -> frozenset[str]:
    """Names of all environment variables that Palimpsest reads."""
    return OTHERS | {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}


def load_settings() -> Settings:
    """The settings of a process that starts.

    Raises:
        InvalidRequest: a variable `PALIMPSEST_*` is unknown, or its value is wrong; names each of
            them.
    """
    if wrong := list(_unknown(os.environ)):
        raise InvalidRequest("; ".join(wrong))
    try:
        return Settings()
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False, include_context=False)
        wrong = [f"{PREFIX}{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in details]
        raise InvalidRequest("; ".join(wrong)) from None  # the input may be a secret


def _unknown(environ: Iterable[str]) -> Iterable[str]:
    known = known_variables()
    for name in sorted(environ):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            nearest = get_close_matches(name.upper(), sorted(known), n=1, cutoff=0)[0]
            yield f"unknown environment variable {name}: did you mean {nearest}? Rename it, or unset it"
