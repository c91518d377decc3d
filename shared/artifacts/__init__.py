"""Artifacts: bytes that a job made, addressed by their sha256."""

from shared.artifacts.store import ArtifactStore, digest

__all__ = ["ArtifactStore", "digest"]
