"""What a measurement was made from: the digests of a job's inputs, for the report."""

from __future__ import annotations

import hashlib

from workers.context import JobContext


def digest_inputs(ctx: JobContext) -> dict[str, str]:
    """The sha256 of each input of the job, by role."""
    return {
        str(role): hashlib.sha256(data).hexdigest() for role, data in sorted(ctx.inputs.items())
    }
