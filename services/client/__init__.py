"""The client of a Palimpsest gateway, typed: `Client(url, token)`, or `AsyncClient` for asyncio.

with Client() as client:
    job = client.submit_job("train", inputs={"BASE": "job_..."}, params={"size": 32})
    for update in client.watch(job.id):
        print(update.state, update.done, update.total)
    weights = client.fetch(job.id, "ORIGINAL")
    rows = client.get_report("aud_...").rows
"""

from .async_client import AsyncClient
from .errors import (
    AnswerTooLarge,
    ApiError,
    ClientError,
    Conflict,
    DigestMismatch,
    Forbidden,
    Gone,
    Invalid,
    NoReport,
    NotConfigured,
    NotFound,
    QuotaExceeded,
    ReadError,
    TooMany,
    Unauthorized,
    Unavailable,
    Unreachable,
    WriteError,
)
from .pair import Pair
from .records import (
    TERMINAL_STATES,
    Artifact,
    Audit,
    BulkCancel,
    Declaration,
    Derived,
    DryRun,
    Erasure,
    Event,
    Job,
    Key,
    Me,
    Page,
    Quote,
    StageQuote,
    Tenant,
    Upload,
    UploadSpace,
)
from .reports import Report
from .sync_client import Client
from .watcher import Update

__all__ = [
    "TERMINAL_STATES",
    "AnswerTooLarge",
    "ApiError",
    "Artifact",
    "AsyncClient",
    "Audit",
    "BulkCancel",
    "Client",
    "ClientError",
    "Conflict",
    "Declaration",
    "Derived",
    "DigestMismatch",
    "DryRun",
    "Erasure",
    "Event",
    "Forbidden",
    "Gone",
    "Invalid",
    "Job",
    "Key",
    "Me",
    "NoReport",
    "NotConfigured",
    "NotFound",
    "Page",
    "Pair",
    "QuotaExceeded",
    "Quote",
    "ReadError",
    "Report",
    "StageQuote",
    "Tenant",
    "TooMany",
    "Unauthorized",
    "Unavailable",
    "Unreachable",
    "Update",
    "Upload",
    "UploadSpace",
    "WriteError",
]
