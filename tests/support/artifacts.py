"""Artifacts put into a store the way an upload puts them."""

from __future__ import annotations

from collections.abc import Iterable

from shared.artifacts import ArtifactStore, StoredArtifact


def put_chunks(artifacts: ArtifactStore, chunks: Iterable[bytes]) -> StoredArtifact:
    """Store bytes as they come."""
    with artifacts.open_draft() as draft:
        for chunk in chunks:
            draft.write(chunk)
        stored = draft.seal()
        draft.place()
    return stored
