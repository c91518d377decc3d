"""Artifacts: bytes that a job made, addressed by their sha256."""

from shared.artifacts.store import CHUNK, ArtifactStore, Stored, digest

__all__ = ["CHUNK", "ArtifactStore", "Stored", "digest"]
