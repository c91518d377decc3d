"""Errors, sorted by what the caller should do about them.

PalimpsestError
├── InvalidRequest    the request is wrong: change it               (HTTP 422; a job fails as `invalid`)
├── NotFound          no such thing for this tenant                 (HTTP 404)
│   └── Gone          it was there, and has expired                 (HTTP 410)
├── Conflict          right request, wrong moment: look, try again  (HTTP 409)
├── QuotaReached      the tenant has as much as it may: wait, or free some  (HTTP 429; 507 for bytes)
├── TransientError    nothing wrong with the request: try again     (HTTP 503; a job goes back to its queue)
│   └── DamagedArtifact an artifact does not match its digest: it is rebuilt, then try again
├── PluginImportError a plugin file is broken: fix it, the worker does not start
└── AttemptEnded      an attempt must stop now; nothing is broken
    ├── JobCancelled  a user cancelled the job
    ├── WorkerDraining the worker shuts down; the job is queued again, not counted as lost
    └── FencedOut     another attempt has the job now; publish nothing
JobFailed (a PalimpsestError) carries one of the failure words of `shared.jobs.states`.
"""

from __future__ import annotations


class PalimpsestError(Exception):
    """Base of everything raised on purpose."""


class InvalidRequest(PalimpsestError):
    """The request cannot be served as it is. `field` is a dotted path into it, '' for the whole."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class NotFound(PalimpsestError):
    """There is no such thing, or it is not the tenant's."""


class Gone(NotFound):
    """It was the tenant's, and has been kept as long as it should be."""


class Conflict(PalimpsestError):
    """The request is well formed but does not fit the present state."""


class QuotaReached(PalimpsestError):
    """The tenant has as much of something as its quota allows."""


class TransientError(PalimpsestError):
    """A service did not answer; the same call may work later."""


class DamagedArtifact(TransientError):
    """The store holds other bytes under an artifact's address than those that were put there."""


class PluginImportError(PalimpsestError):
    """A plugin file could not be imported, or breaks the rules of its folder. Names the file."""


class AttemptEnded(PalimpsestError):
    """The running attempt must stop, through no fault of the job."""


class JobCancelled(AttemptEnded):
    """Cancel was asked for."""


class WorkerDraining(AttemptEnded):
    """The worker leaves; the checkpoint stays and the job is queued again."""


class FencedOut(AttemptEnded):
    """The lease was lost and the job given to another attempt."""


class JobFailed(PalimpsestError):
    """The job cannot succeed. `kind` is a failure word of `shared.jobs.states.Failure`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
