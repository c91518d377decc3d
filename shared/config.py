"""Settings, from environment variables `PALIMPSEST_*` only.

Three of them (database, broker, artifacts) are all that scale-out takes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.errors import InvalidRequest

PREFIX = "PALIMPSEST_"
# Variables that are no settings of a service; each is known to all processes.
OTHERS = frozenset({
    "PALIMPSEST_URL",  # where the client and the command line find the gateway
    "PALIMPSEST_WORKER_WHY_NOT",  # from a worker to its pool child
    "PALIMPSEST_FAILPOINT", "PALIMPSEST_STORM_REDIS",  # of tests
})  # fmt: skip


class Settings(BaseSettings):
    """One sentence a setting; times in seconds."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    database_url: str = Field(
        "sqlite:///.palimpsest/palimpsest.db",
        description="SQLAlchemy URL: SQLite on one machine, postgresql+psycopg:// for more",
    )
    broker_url: SecretStr = Field(SecretStr("redis://127.0.0.1:6379/0"), description="Redis that carries the bells")
    artifacts_url: str = Field(
        "file://.palimpsest/artifacts", description="where artifacts live: file://FOLDER or s3://BUCKET"
    )
    token: SecretStr | None = Field(
        None, description="the bearer token that the gateway accepts; it does not start without one"
    )
    tenant: str = Field("local", description="the tenant that the token belongs to")
    data_root: Path = Field(Path("data"), description="folder in which data sets are looked for")

    threads: int | None = Field(None, ge=1, description="threads of one worker; all cores when not set")
    memory_limit_bytes: int | None = Field(
        None,
        ge=1,
        description="memory that a worker's job may take, with what the worker itself takes; when not set, 90 % of the "
        "machine's or the container's, divided by host_workers",
    )
    host_workers: int | None = Field(
        None,
        ge=1,
        description="workers that share the memory of this machine or container; those of this host that are live when "
        "it starts, when not set",
    )
    stages: str = Field("", description="stages that a worker serves, separated by commas; all when empty")
    worker: str | None = Field(None, description="a worker's name; host and process number when not set")

    lease: float = Field(45.0, gt=0, description="how long a claim or a renewal holds a job")
    renew_every: float = Field(3.0, gt=0, description="how often the lease process talks to SQL")
    silence: float | None = Field(
        None,
        gt=0,
        description="overrides how long any stage may compute without progress before it is stopped: CPU seconds of "
        "its busiest thread; ten times as long by the clock",
    )
    checkpoint_every: float = Field(10.0, gt=0, description="how often a stage that can checkpoint does so")
    obey_within: float = Field(
        4.0,
        gt=0,
        description="how long an attempt may take to obey a cancel or a time limit before it is killed",
    )
    patience_s: float = Field(
        120.0,
        gt=0,
        description="how long an attempt waits for a store that is away before its job goes back to the queue, free "
        "of charge; ten times as long with results in its hands",
    )
    reconcile_every: float = Field(5.0, gt=0, description="how often the reconciler looks")
    retry_backoff_s: float = Field(
        10.0, ge=0, description="pause before a lost attempt is claimed again; doubled each time, up to five minutes"
    )
    max_lost: int = Field(3, ge=1, description="attempts that may be lost before a job fails as lost_worker")
    max_events: int = Field(512, ge=1, description="event streams that one gateway process holds open at once")
    max_connections: int = Field(
        4096, ge=16, description="connections that one gateway process holds open at once; others wait to be accepted"
    )
    head_timeout_s: float = Field(
        15.0,
        gt=0,
        description="how long the gateway waits for the head of a request, and so for the next one on a connection",
    )
    body_timeout_s: float = Field(30.0, gt=0, description="how long the gateway waits for the whole body of a request")


def known_variables() -> frozenset[str]:
    """Names of all environment variables that Palimpsest reads."""
    return OTHERS | {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}


def load_settings() -> Settings:
    """The settings of a process that starts.

    Raises:
        InvalidRequest: a variable `PALIMPSEST_*` is unknown, or its value is wrong; names each of them.
    """
    if wrong := list(_unknown(os.environ)):
        raise InvalidRequest("; ".join(wrong))
    try:
        return Settings()
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        wrong = [f"{PREFIX}{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in found]
        raise InvalidRequest("; ".join(wrong)) from None  # the input may be a secret


def _unknown(environ: Iterable[str]) -> Iterable[str]:
    known = known_variables()
    for name in sorted(environ):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            nearest = get_close_matches(name.upper(), sorted(known), n=1, cutoff=0)[0]
            yield f"unknown environment variable {name}: did you mean {nearest}? Rename it, or unset it"
