"""Artifacts that are lost or damaged in the store are not served: their jobs rebuild them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import structlog

from services.gateway.deps import GatewayDeps
from shared.artifacts import CHUNK_BYTES
from shared.errors import Conflict, DamagedArtifact, NotFound, TransientError
from shared.jobs.records import Artifact
from shared.jobs.repair import ProducedArtifact, Producer
from shared.jobs.tenant_store import TenantStore

log = structlog.get_logger()

MAX_CONCURRENT_CHECKS = 32  # of artifacts in the store: one takes about 20 ms on S3
# for the reused artifacts of one submission; those not checked in time are checked when they are
# read
CHECK_BUDGET_S = 2.0


def stream_verified(deps: GatewayDeps, store: TenantStore, artifact: Artifact) -> Iterator[bytes]:
    """The artifact's bytes as they are read from the store; the stream breaks off if they do not
    match the digest.

    Raises:
        NotFound: it is lost, and no job produces it.
        TransientError: the store did not answer, or the artifact is being rebuilt.
        Conflict: it was rebuilt too often.
    """
    for _ in range(2):
        try:
            # a smaller one is verified before its first byte is sent
            if artifact.size > CHUNK_BYTES:
                _refuse_during_rebuild(deps, store, artifact)
            return _report_damage(
                deps, store, artifact, deps.artifacts.stream(artifact.sha256, artifact.size)
            )
        except (NotFound, DamagedArtifact) as error:
            producer = _request_rebuild(deps, store, artifact)
            if producer is not None:
                raise TransientError(
                    f"artifact {artifact.sha256} is damaged in the store: "
                    f"job {producer.job} is rebuilding it"
                ) from error
    if store.find_producer(artifact.sha256) is None:
        raise NotFound(f"artifact {artifact.sha256} is lost, and no job can rebuild it")
    raise TransientError(f"artifact {artifact.sha256} is being rebuilt")


def _refuse_during_rebuild(deps: GatewayDeps, store: TenantStore, artifact: Artifact) -> None:
    producer = store.find_producer(artifact.sha256)
    if (
        producer is not None
        and producer.rebuilding
        and not deps.artifacts.is_intact(artifact.sha256, artifact.size)
    ):
        raise DamagedArtifact(f"job {producer.job} is rebuilding artifact {artifact.sha256}")


def _report_damage(
    deps: GatewayDeps, store: TenantStore, artifact: Artifact, chunks: Iterator[bytes]
) -> Iterator[bytes]:
    try:
        yield from chunks
    except DamagedArtifact:
        _request_rebuild(deps, store, artifact)
        raise


def _request_rebuild(deps: GatewayDeps, store: TenantStore, artifact: Artifact) -> Producer | None:
    """Have the artifact rebuilt if a second check finds it damaged too; returns its producer."""
    producer = store.find_producer(artifact.sha256)
    if producer is None or deps.artifacts.is_intact(artifact.sha256, artifact.size):
        return None
    log.warning(
        "an artifact is damaged; its job is rebuilding it",
        artifact=artifact.sha256,
        job=producer.job,
    )
    deps.wakeup_sender.notify(store.rebuild_artifact(artifact.sha256, producer))
    return producer


def rebuild_missing_artifacts(deps: GatewayDeps, store: TenantStore, jobs: Iterable[str]) -> None:
    """Check that the artifacts of reused jobs exist with their sizes, before a response names those
    jobs. Missing ones are rebuilt, so that the response names a running job. Does nothing if the
    store does not answer."""
    deadline = time.monotonic() + CHECK_BUDGET_S

    def return_if_missing(produced: ProducedArtifact) -> ProducedArtifact | None:
        return None if deps.artifacts.has(produced.sha256, produced.size) else produced

    artifacts = store.list_produced_artifacts(jobs)
    with ThreadPoolExecutor(min(MAX_CONCURRENT_CHECKS, len(artifacts) or 1)) as pool:
        for start in range(0, len(artifacts), 8 * MAX_CONCURRENT_CHECKS):
            if time.monotonic() > deadline:
                log.info("not all reused artifacts were checked", of=len(artifacts))
                return
            try:
                for missing in filter(
                    None,
                    pool.map(
                        return_if_missing, artifacts[start : start + 8 * MAX_CONCURRENT_CHECKS]
                    ),
                ):
                    log.warning(
                        "an artifact is damaged; its job is rebuilding it",
                        artifact=missing.sha256,
                        job=missing.producer.job,
                    )
                    deps.wakeup_sender.notify(
                        store.rebuild_artifact(missing.sha256, missing.producer)
                    )
            except (TransientError, Conflict) as error:
                log.warning("reused artifacts were not checked", error=str(error))
                return
