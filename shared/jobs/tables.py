"""The schema. Alembic's migrations make it; a test holds the two equal."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    literal_column,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _index_where(state: str, *more: str) -> dict[str, Any]:
    """Options of an index over the jobs in one state of which more holds."""
    where = text(" AND ".join([f"state = '{state}'", *more]))
    return {"postgresql_where": where, "sqlite_where": where}


# the origin of what a tenant brings, rather than a job
UPLOAD_ORIGIN = "upload"
NEVER = 253_402_300_799.0  # the end of the year 9999
_UPLOADS: dict[str, Any] = {
    "postgresql_where": text(f"origin = '{UPLOAD_ORIGIN}'"),
    "sqlite_where": text(f"origin = '{UPLOAD_ORIGIN}'"),
}

_ENDED: dict[str, Any] = {
    "postgresql_where": text("finished_at IS NOT NULL"),
    "sqlite_where": text("finished_at IS NOT NULL"),
}

_MEASURED: dict[str, Any] = {
    "postgresql_where": text("run_s IS NOT NULL"),
    "sqlite_where": text("run_s IS NOT NULL"),
}

plugin_sets = Table(
    "plugin_sets",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("stage", String(40), nullable=False),
    Column("plugins", Text, nullable=False),  # a JSON array of `kind:name`, sorted
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("stage", String(40), nullable=False),
    Column("method", String(64)),
    Column("params", Text, nullable=False),
    Column("seed", Integer, nullable=False),
    Column("produces", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("request_key", String(64), nullable=False),
    # request_key while an equal submission may share this job, NULL otherwise: the unique
    # constraint lets only one live.
    Column("dedup_key", String(64)),
    Column("cache_key", String(64)),
    # JSON: by path, sha256 of the files of the data root that it and what it is made from read.
    Column("data", Text, nullable=False, server_default=text("'{}'")),
    Column("code", String(64), nullable=False),
    Column("no_cache", Boolean, nullable=False),
    # Posted by hand: cancelling an audit that shares it leaves it alone.
    Column("pinned", Boolean, nullable=False),
    # A `shared.wiring.RunWhen`.
    Column("run_when", String(16), nullable=False, server_default="all_succeeded"),
    # Which plugins its worker must have. Many jobs share few sets: a worker that lacks one
    # skips all its jobs at once.
    Column("plugin_set", String(64), nullable=False, server_default=text("''")),
    Column("fence", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("lost_count", Integer, nullable=False),
    Column("lease_until", Double),
    Column("worker", String(128)),
    # Drawn for each claim, so that a claim whose response was lost on the way is found again.
    Column("claim_token", String(32)),
    Column("stop", String(16)),
    Column("checkpoint", String(64)),
    # the cache key that the checkpoint belongs to: other code or other threads do not go on from it
    Column("checkpoint_key", String(64)),
    Column("progress", Text, nullable=False),
    Column("failure", String(32)),
    Column("message", Text),
    Column("reused_from", String(40)),
    # What it has found, in brief: see `shared.jobs.summaries`. NULL unless it has succeeded.
    Column("summary", Text),
    Column("time_limit", Double),
    Column("created_at", Double, nullable=False),
    Column("queued_at", Double),
    # Its place among the queued jobs of its tenant: see `shared.jobs.ranking`.
    Column("rank", Double),
    # Not to be claimed before: the pause after a lost attempt.
    Column("not_before", Double),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("version", Integer, nullable=False),
    Column("event_seq", Integer, nullable=False),
    # `shared.jobs.cost_keys.CostKeys`: by these, past jobs say what it will cost.
    Column("equal_cost_key", String(32)),
    Column("similar_cost_key", String(32)),
    # A `shared.jobs.records.JobCost`, of an attempt that ran from beginning to end.
    Column("ran_on", String(120)),
    Column("run_s", Double),
    Column("cpu_s", Double),
    Column("memory_bytes", BigInteger),
    Column("device_memory_bytes", BigInteger),
    UniqueConstraint("tenant", "dedup_key"),
    # How many jobs of a stage are in a state, and since when the oldest of them is queued.
    Index(None, "stage", "state", "queued_at"),
    Index(None, "tenant", "stage", "state", "queued_at"),
    # What lists walk along, newest first: all jobs of a tenant, those of a stage, those in a state.
    Index(None, "tenant", "created_at", "id"),
    Index(None, "tenant", "stage", "created_at", "id"),
    Index(None, "tenant", "state", "created_at", "id"),
    Index(None, "tenant", "finished_at", "created_at", "id"),
    Index(None, "tenant", "cache_key"),
    # What a claim walks along: sets, the tenants of each, the best job of each tenant.
    Index("ix_jobs_queue", "plugin_set", "tenant", "rank", "id", **_index_where("queued")),
    Index("ix_jobs_pausing", "id", **_index_where("queued", "not_before IS NOT NULL")),
    # Who still needs bytes that are no artifact.
    Index(
        "ix_jobs_checkpoint",
        "checkpoint",
        postgresql_where=text("checkpoint IS NOT NULL"),
        sqlite_where=text("checkpoint IS NOT NULL"),
    ),
    # A renewal changes no indexed column.
    Index("ix_jobs_running", "tenant", "worker", **_index_where("running")),
    Index("ix_jobs_equal_costs", "tenant", "equal_cost_key", "ran_on", "finished_at", **_MEASURED),
    Index(
        "ix_jobs_similar_costs", "tenant", "similar_cost_key", "ran_on", "finished_at", **_MEASURED
    ),
    Index(
        "ix_jobs_method_costs", "tenant", "stage", "method", "ran_on", "finished_at", **_MEASURED
    ),
    # What the collector walks along, oldest end first; a claim and a renewal have no entry in it.
    Index("ix_jobs_ended", "finished_at", "id", **_ENDED),
    # Whose result others have taken over.
    Index(
        "ix_jobs_reused_from",
        "reused_from",
        postgresql_where=text("reused_from IS NOT NULL"),
        sqlite_where=text("reused_from IS NOT NULL"),
    ),
)

job_inputs = Table(
    "job_inputs",
    metadata,
    Column("job", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("role", String(40), primary_key=True),
    Column("parent", ForeignKey("jobs.id")),
    Column("parent_role", String(40)),
    Column("sha256", String(64)),
    Index(None, "parent"),
    Index(None, "sha256"),
)

# Bytes that a tenant has: what may be an input or fetched, whether a job made them or not.
artifacts = Table(
    "artifacts",
    metadata,
    Column("tenant", String(64), primary_key=True),
    Column("sha256", String(64), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("media_type", String(80), nullable=False),
    # The job that first made them, or UPLOAD.
    Column("origin", String(40), nullable=False),
    Column("created_at", Double, nullable=False),
    # When an upload ends, unless a job has made the same bytes; NULL: it stays, as what a declaration
    # refers to does. Of what a job has made: until when it stays as an upload if that job goes, NEVER
    # for as long as it wants; NULL: nobody has brought it.
    Column("expires_at", Double),
    # Since when the store has the bytes no more, though the job that made them is still there.
    Column("expired_at", Double),
    Index(None, "sha256"),
    Index(None, "origin"),
    Index(
        "ix_artifacts_expires_at",
        "expires_at",
        postgresql_where=text("expires_at IS NOT NULL"),
        sqlite_where=text("expires_at IS NOT NULL"),
    ),
    Index("ix_artifacts_uploads", "tenant", "created_at", "sha256", **_UPLOADS),
)

# Bytes without a row that are to be removed from the store.
deleted_artifacts = Table(
    "deleted_artifacts", metadata, Column("sha256", String(64), primary_key=True)
)

# Deletions of uploads with all that was made of them, whose traces are still to be removed from the
# store and from the database's own files. They name nothing of what was deleted.
erasures = Table(
    "erasures",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("created_at", Double, nullable=False),
)

job_artifacts = Table(
    "job_artifacts",
    metadata,
    Column("job", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("role", String(40), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("sha256", String(64), nullable=False),
    ForeignKeyConstraint(["tenant", "sha256"], ["artifacts.tenant", "artifacts.sha256"]),
    Index(None, "tenant", "sha256"),
)

# Models and data sets that a tenant has declared, to name them. Whether one is ready, the job that
# checks it says.
declarations = Table(
    "declarations",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("kind", String(16), nullable=False),  # a `shared.jobs.declarations.Kind`
    Column("name", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("spec", Text, nullable=False),
    Column("job", ForeignKey("jobs.id"), nullable=False),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("tenant", "kind", "name", "version"),
    Index(None, "tenant", "kind", "created_at", "id"),
    Index(None, "job"),
)

declaration_labels = Table(
    "declaration_labels",
    metadata,
    Column("declaration", ForeignKey("declarations.id", ondelete="CASCADE"), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("value", String(256), nullable=False),
)

# Which uploads a declaration refers to: they stay as long as it does.
declared_uploads = Table(
    "declared_uploads",
    metadata,
    Column("declaration", ForeignKey("declarations.id", ondelete="CASCADE"), primary_key=True),
    Column("sha256", String(64), primary_key=True),
    Index(None, "sha256"),
)

audits = Table(
    "audits",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("name", String(200), nullable=False),
    Column("spec", Text, nullable=False),
    # A JSON object of the user's own, which nothing here reads.
    Column("metadata", Text, nullable=False, server_default=text("'{}'")),
    Column("created_at", Double, nullable=False),
    Column("cancelled_at", Double),
    # Cancelled, but not yet all of its jobs: that is done in batches, and the process that began
    # may have died.
    Column("cancelling", Boolean, nullable=False, server_default=false()),
    # Nobody sees it any more. Its jobs go in batches, as with cancelling.
    Column("deleting", Boolean, nullable=False, server_default=false()),
    Index(None, "tenant", "created_at", "id"),
    Index(None, "created_at", "id"),
    Index(
        "ix_audits_deleting",
        "id",
        postgresql_where=text("deleting"),
        sqlite_where=text("deleting"),
    ),
    Index(
        "ix_audits_cancelling",
        "id",
        postgresql_where=text("cancelling"),
        sqlite_where=text("cancelling"),
    ),
)

# The words of the partial indexes: where SQLAlchemy writes `deleting = 1`, SQLite reads all audits.
IS_DELETING: Any = literal_column("audits.deleting")
IS_CANCELLING: Any = literal_column("audits.cancelling")

audit_labels = Table(
    "audit_labels",
    metadata,
    Column("audit", ForeignKey("audits.id", ondelete="CASCADE"), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("value", String(256), nullable=False),
    Index(None, "key", "value"),
)

audit_jobs = Table(
    "audit_jobs",
    metadata,
    Column("audit", ForeignKey("audits.id", ondelete="CASCADE"), primary_key=True),
    Column("job", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("detached", Boolean, nullable=False),
    Index(None, "job"),
)

events = Table(
    "events",
    metadata,
    Column("job", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("at", Double, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("data", Text, nullable=False),
)

# What an attacker sees of its reconstruction while a job runs: the latest picture of each job.
previews = Table(
    "previews",
    metadata,
    Column("job", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("step", Integer, nullable=False),
    Column("total", Integer, nullable=False),
    Column("media_type", String(80), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("made_at", Double, nullable=False),
)

workers = Table(
    "workers",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("host", String(200), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("stages", Text, nullable=False),
    Column("device", String(80), nullable=False),
    Column("threads", Integer, nullable=False),
    Column("versions", Text, nullable=False),
    Column("catalog", String(64), nullable=False),
    Column("started_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
    # It takes no job: because it shuts down, or because an operator has drained it.
    Column("drain", Boolean, nullable=False),
    # It shuts down, whatever an operator wants of it.
    Column("leaving", Boolean, nullable=False, server_default=false()),
    # What its pool child has of the host's memory and of the accelerator's, as of the last heartbeat.
    Column("memory_bytes", BigInteger),
    Column("device_memory_bytes", BigInteger),
)

# Which accelerator a worker computes on, or will with its next job: see `shared.jobs.device_leases`.
device_leases = Table(
    "device_leases",
    metadata,
    Column("worker", String(128), primary_key=True),
    Column("host", String(200), nullable=False),
    # Its UUID, that of a MIG slice, or host and number.
    Column("device", String(300), nullable=False),
    Column("kind", String(80), nullable=False),
    Column("memory_bytes", BigInteger, nullable=False),
    # The worker has a job.
    Column("in_use", Boolean, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("lease_until", Double, nullable=False),
)

# Names of workers that an operator has drained: a worker that is started again under one of them
# takes no job either.
drained_workers = Table(
    "drained_workers",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("drained_at", Double, nullable=False),
)

# Stages of which no job is claimed, until an operator resumes them.
paused_stages = Table(
    "paused_stages",
    metadata,
    Column("stage", String(40), primary_key=True),
    Column("paused_at", Double, nullable=False),
)

catalogs = Table(
    "catalogs",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("body", Text, nullable=False),
    Column("published_at", Double, nullable=False),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("tenant", String(64), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("body", String(64), nullable=False),
    Column("answer", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Index(None, "created_at"),
)

# Who may own things, and how much: NULL is no limit.
tenants = Table(
    "tenants",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("created_at", Double, nullable=False),
    Column("disabled_at", Double),
    Column("max_queued_jobs", Integer),
    Column("max_running_jobs", Integer),
    Column("max_artifact_bytes", BigInteger),
    Column("max_event_streams", Integer),
    Column("max_requests_per_minute", Integer),
)

# Keys to the gateway. A secret itself is stored nowhere: see `shared.jobs.keys`.
keys = Table(
    "keys",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", ForeignKey("tenants.name"), nullable=False),
    Column("label", String(100), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("scopes", Text, nullable=False),  # a JSON array, sorted
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
    # Within a minute.
    Column("last_used_at", Double),
    UniqueConstraint("digest"),
    Index(None, "created_at", "id"),
    Index(None, "tenant"),
)

# Secrets that all processes of a gateway share, made by the first that needs them.
server_secrets = Table(
    "server_secrets",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("value", String(64), nullable=False),
)

# Who has changed what, or tried to. A row is written before the request is handled and completed
# afterwards: where `status` is NULL, the process ended in between.
access_log = Table(
    "access_log",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("at", Double, nullable=False),
    Column("tenant", String(64)),
    Column("actor", String(40), nullable=False),  # a key's id, `token` or `command line`
    Column("action", String(100), nullable=False),
    Column("subject", String(128), nullable=False),
    Column("status", Integer),
    Index(None, "at", "id"),
    Index(None, "tenant", "at"),
)

# What has happened and is still to be counted (`metric_totals`) and told (`webhook_deliveries`):
# written in the transaction in which it happens, taken out by the reconciler in the one that counts
# it. Rows are only added and removed, so that those who end jobs never wait for each other.
outbox = Table(
    "outbox",
    metadata,
    Column(
        "id",
        BigInteger().with_variant(Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    Column("kind", String(16), nullable=False),  # a `shared.jobs.outbox.Kind`
    Column("subject", String(40)),  # of a job or an audit, its id, unless that was deleted
    Column("seq", Integer),  # of the job's event
    Column("tenant", String(64), nullable=False),
    Column("stage", String(40)),
    Column("state", String(16)),
    Column("failure", String(32)),
    Column("wait_s", Double),
    Column("run_s", Double),
    Column("at", Double, nullable=False),
)

# Counters of monitoring, over all processes and since the schema was made: what they count may be
# deleted meanwhile.
metric_totals = Table(
    "metric_totals",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("labels", String(512), primary_key=True),  # a JSON array of values
    Column("value", Double, nullable=False),
)

service_heartbeats = Table(
    "service_heartbeats",
    metadata,
    Column("service", String(64), primary_key=True),
    Column("seen_at", Double, nullable=False),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("url", String(2000), nullable=False),
    Column("events", Text, nullable=False),  # a JSON array, sorted
    # What deliveries are signed with: HMAC needs it as it is.
    Column("secret", String(80), nullable=False),
    Column("created_at", Double, nullable=False),
    Index(None, "tenant", "created_at", "id"),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("webhook", ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
    Column("event", String(40), nullable=False),
    Column("body", Text, nullable=False),
    Column("state", String(16), nullable=False),  # a `shared.jobs.webhooks.DeliveryState`
    Column("attempts", Integer, nullable=False),
    Column("next_at", Double),  # not to be sent before; NULL once it has ended
    Column("outcome", String(200)),  # of the last attempt
    Column("created_at", Double, nullable=False),
    Column("ended_at", Double),
    Index(None, "webhook", "created_at", "id"),
    Index(None, "ended_at"),
    Index("ix_webhook_deliveries_due", "webhook", "next_at", **_index_where("pending")),
)
