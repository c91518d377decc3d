"""A typed client of the gateway: `Client(url, token)`, or `AsyncClient`. It knows HTTP and nothing else of ours.

with Client() as client:
    job = client.submit_job("train", inputs={"BASE": "job_..."}, params={"size": 32})
    for update in client.watch(job.id):
        print(update.state, update.done, update.total)
    weights = client.fetch(job.id, "ORIGINAL")
    rows = client.report("aud_...").rows
"""

from services.client.asynchronous import AsyncClient
from services.client.errors import (
    ApiError,
    ClientError,
    Conflict,
    Damaged,
    Forbidden,
    Invalid,
    NoReport,
    NotConfigured,
    NotFound,
    Unauthorized,
    Unavailable,
    Unreachable,
    Unwritable,
)
from services.client.records import TERMINAL, Artifact, Audit, DryRun, Event, Job, Page
from services.client.reports import Report
from services.client.sync import Client
from services.client.watching import Update

__all__ = [
    "TERMINAL",
    "ApiError",
    "Artifact",
    "AsyncClient",
    "Audit",
    "Client",
    "ClientError",
    "Conflict",
    "Damaged",
    "DryRun",
    "Event",
    "Forbidden",
    "Invalid",
    "Job",
    "NoReport",
    "NotConfigured",
    "NotFound",
    "Page",
    "Report",
    "Unauthorized",
    "Unavailable",
    "Unreachable",
    "Unwritable",
    "Update",
]
