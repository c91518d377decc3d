"""Artifacts: bytes that a job made, addressed by their sha256."""

from shared.artifacts.store import CHUNK, ArtifactStore, digest

__all__ = ["CHUNK", "ArtifactStore", "digest"]
