"""Artifacts: bytes addressed by their sha256."""

from shared.artifacts.store import (
    CHUNK_BYTES,
    ArtifactDraft,
    ArtifactStore,
    StoredArtifact,
    compute_sha256,
)

__all__ = ["CHUNK_BYTES", "ArtifactDraft", "ArtifactStore", "StoredArtifact", "compute_sha256"]
