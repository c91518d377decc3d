"""An audit as a zip archive, made while it is sent: report, manifest, and of every job its record and
its artifacts.

Its memory does not grow with the artifacts. An artifact is verified before its first byte is
written, so large ones are read twice; what cannot be had is named in the index instead. An archive
that breaks off has no end, and no program takes it for a whole one.
"""

from __future__ import annotations

import json
import re
import time
import zipfile
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from services.gateway.artifact_repair import find_damage
from services.gateway.deps import GatewayDeps
from services.gateway.manifest import FILE_NAMES, list_audit_jobs
from services.gateway.schemas import format_rfc3339, serialize_job
from shared.jobs.records import Artifact, Audit, Job
from shared.jobs.tenant_store import TenantStore
from shared.roles import ArtifactFormat, Role

# of which a network may be made again
MODEL_ROLES = frozenset(
    role
    for role in Role
    if role.artifact_format is ArtifactFormat.NETWORKS
    or role.endswith(Role.WEIGHTS)
    or role is Role.BATCH_DELTAS
)
TOP_NAMES: dict[str, str] = {role.value: name for role, name in FILE_NAMES.items()}
LEFT_OUT = "left out: models=false"
MAX_NAME_CHARS = 40  # of a stage, a method or a role in a path
# names that no file may have on Windows, whatever follows the dot
_RESERVED_NAMES = re.compile(r"con|prn|aux|nul|(com|lpt)[0-9]")
_EXTENSIONS = {
    "application/json": ".json",
    "text/html": ".html",
    "application/x-safetensors": ".safetensors",
    "application/vnd.safetensors": ".safetensors",
    "text/plain": ".txt",
    "text/csv": ".csv",
    "application/zip": ".zip",
}
_COMPRESSED_EXTENSIONS = frozenset({".json", ".html", ".txt", ".csv"})


def stream_archive(
    deps: GatewayDeps,
    store: TenantStore,
    audit: Audit,
    manifest: bytes | None,
    *,
    models: bool,
) -> Generator[bytes, None, None]:
    """The bytes of the archive, in pieces of about a MiB at most.

    Args:
        manifest: None if the audit has no report yet.
        models: whether to include the weights of models.

    Raises:
        TransientError: the artifact store or the job store did not answer.
        NotFound: the audit was deleted meanwhile, so jobs may be missing.
    """
    writer = _ArchiveWriter(deps, store, audit.id, models)
    if manifest is not None:
        yield from writer.add_file("manifest.json", manifest)
    number = sum(audit.counts.values())
    for job in list_audit_jobs(store, audit.id):  # newest first: the last has the highest number
        yield from writer.add_job(job, number)
        number -= 1
    store.get_audit(audit.id)  # or jobs of a deleted audit would be missing in what looks whole
    index = {
        "audit": audit.id,
        "name": audit.name,
        "state": audit.state,
        "created_at": format_rfc3339(audit.created_at),
        "labels": dict(audit.labels),
        "metadata": dict(audit.metadata),
        "spec": dict(audit.spec),
        "manifest": "manifest.json" if manifest is not None else None,
    }
    yield from writer.finish(index)


class _Sink:
    """Where the archive is written; what has come since is taken. It cannot be rewound."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """There is nothing behind it."""

    def close(self) -> None:
        """What was not taken is not needed."""

    def take(self) -> Iterator[bytes]:
        pieces, self._pieces = self._pieces, []
        if pieces:
            yield b"".join(pieces)


@dataclass
class _ArchiveWriter:
    """Adds files and returns the bytes that are ready. `rows` are lines of the index."""

    deps: GatewayDeps
    store: TenantStore
    folder: str
    models: bool
    rows: list[str] = field(default_factory=list)
    paths: dict[str, str] = field(default_factory=dict)  # by digest, of what is in the archive
    unavailable: dict[str, str] = field(default_factory=dict)  # by digest: why it cannot be

    def __post_init__(self) -> None:
        self.sink = _Sink()
        self.archive = zipfile.ZipFile(self.sink, "w")

    def add_job(self, job: Job, number: int) -> Iterator[bytes]:
        """Add the record of a job and its artifacts."""
        parts = [f"{number:05d}", job.stage, job.method or "", f"seed{job.seed}"]
        folder = "jobs/" + "-".join(make_safe_name(part) for part in parts if part)
        record = json.dumps(serialize_job(job), indent=1).encode()
        yield from self.add_file(f"{folder}/job.json", record, job.finished_at)
        names = {"job.json"}
        for artifact in sorted(job.artifacts, key=lambda a: a.role):
            name = make_artifact_name(artifact, names)
            names.add(name)
            top_name = TOP_NAMES.get(artifact.role)
            yield from self._add_artifact(job, artifact, top_name or f"{folder}/{name}")

    def _add_artifact(self, job: Job, artifact: Artifact, path: str) -> Iterator[bytes]:
        sha256 = artifact.sha256
        missing = self.unavailable.get(sha256)
        if sha256 not in self.paths and missing is None:
            missing = self._find_reason_to_omit(artifact)
            if missing is None:
                chunks = self.deps.artifacts.stream(sha256, artifact.size)
                yield from self._write(path, chunks, artifact.size, job.finished_at)
                self.paths[sha256] = path
        row = {
            "job": job.id,
            "stage": job.stage,
            "method": job.method,
            "seed": job.seed,
            "role": artifact.role,
            "path": self.paths.get(sha256),
            "missing": missing,
            "sha256": sha256,
            "size": artifact.size,
        }
        self.rows.append(json.dumps(row))

    def _find_reason_to_omit(self, artifact: Artifact) -> str | None:
        if not self.models and artifact.role in MODEL_ROLES:
            return LEFT_OUT  # the same bytes may have another role too
        if artifact.expired_at is not None:
            # some or all of its bytes may still be in the store, and nothing rebuilds it
            reason = time.strftime("expired on %Y-%m-%d", time.gmtime(artifact.expired_at))
        else:
            damage = find_damage(self.deps, self.store, artifact)
            if damage is None:
                return None
            reason = damage
        self.unavailable[artifact.sha256] = reason
        return reason

    def add_file(self, path: str, data: bytes, at: float | None = None) -> Iterator[bytes]:
        """Add a small file."""
        yield from self._write(path, [data], len(data), at)

    def finish(self, index: dict[str, Any]) -> Iterator[bytes]:
        """Add the index, and end the archive."""
        head = json.dumps(index, indent=1).removesuffix("\n}")
        rows = ",\n  ".join(self.rows)
        text = f'{head},\n "artifacts": [\n  {rows}\n ]\n}}\n'
        yield from self.add_file("index.json", text.encode())
        self.archive.close()
        yield from self.sink.take()

    def _write(
        self, path: str, chunks: Iterable[bytes], size: int, at: float | None
    ) -> Iterator[bytes]:
        info = zipfile.ZipInfo(f"{self.folder}/{path}", _to_dos_time(at))
        info.file_size = size  # so that the entry has room for the size of a large one
        info.external_attr = 0o644 << 16
        extension = path[path.rfind(".") :]
        is_text = extension in _COMPRESSED_EXTENSIONS
        info.compress_type = zipfile.ZIP_DEFLATED if is_text else zipfile.ZIP_STORED
        with self.archive.open(info, "w") as member:
            for chunk in chunks:
                member.write(chunk)
                yield from self.sink.take()
        yield from self.sink.take()


def _to_dos_time(at: float | None) -> tuple[int, int, int, int, int, int]:
    """A time as zip has it, which begins in 1980."""
    moment = time.gmtime(max(at or 0.0, 315_532_800.0))
    return moment[:6]


def make_safe_name(text: str) -> str:
    """A part of a path that every system takes: of `a-z0-9_-`, no reserved name, not empty."""
    name = re.sub(r"[^a-z0-9_]+", "-", text.lower()).strip("-")[:MAX_NAME_CHARS] or "x"
    return f"{name}-" if _RESERVED_NAMES.fullmatch(name) else name


def make_artifact_name(artifact: Artifact, taken: set[str]) -> str:
    """`feature_network.safetensors`; another name if that is taken."""
    media_type = artifact.media_type.partition(";")[0].strip()
    stem, extension = make_safe_name(artifact.role), _EXTENSIONS.get(media_type, ".bin")
    name, number = f"{stem}{extension}", 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}{extension}"
    return name
