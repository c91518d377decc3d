"""Artifacts: bytes that a job made, addressed by their sha256."""

from shared.artifacts.store import CHUNK_BYTES, ArtifactStore, StoredArtifact, compute_sha256

__all__ = ["CHUNK_BYTES", "ArtifactStore", "StoredArtifact", "compute_sha256"]
