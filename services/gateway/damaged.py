"""Nobody is answered with an artifact that the store has lost or damaged: its job makes it again."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import structlog

from services.gateway.deps import GatewayDeps
from shared.artifacts import CHUNK
from shared.errors import Conflict, Damaged, NotFound, TransientError
from shared.jobs.damage import Made, Maker, made_by, make_again, maker_of
from shared.jobs.records import Artifact

log = structlog.get_logger()

AT_ONCE = 32  # looks into the artifact store under way together: one of S3 takes some 20 ms
BUDGET_S = 2.0  # for looking at what an answer shares with earlier work; what is left is noticed by who reads it


def whole(deps: GatewayDeps, tenant: str, artifact: Artifact) -> Iterator[bytes]:
    """The artifact's bytes as they come from the store; they end early where they turn out to be others.

    Raises:
        NotFound: it is lost, and no job makes it.
        TransientError: the store did not answer, or has other bytes: they are made again.
        Conflict: that happens too often.
    """
    for _ in range(2):
        try:
            if artifact.size > CHUNK:  # a smaller one is looked at as a whole before its first byte goes out
                _wait_for_maker(deps, tenant, artifact)
            return _watched(deps, tenant, artifact, deps.artifacts.stream(artifact.sha256, artifact.size))
        except (NotFound, Damaged) as error:
            maker = _send_back(deps, tenant, artifact)
            if maker is not None:
                told = f"artifact {artifact.sha256} is damaged in the store: job {maker.job} makes it again"
                raise TransientError(told) from error
    if maker_of(deps.db, tenant, artifact.sha256) is None:
        raise NotFound(f"artifact {artifact.sha256} is lost, and no job makes it")
    raise TransientError(f"artifact {artifact.sha256} is being made again")


def _wait_for_maker(deps: GatewayDeps, tenant: str, artifact: Artifact) -> None:
    maker = maker_of(deps.db, tenant, artifact.sha256)
    if maker is not None and maker.at_work and not deps.artifacts.whole(artifact.sha256, artifact.size):
        raise Damaged(f"job {maker.job} makes artifact {artifact.sha256} again")


def _watched(deps: GatewayDeps, tenant: str, artifact: Artifact, chunks: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from chunks
    except Damaged:
        _send_back(deps, tenant, artifact)
        raise


def _send_back(deps: GatewayDeps, tenant: str, artifact: Artifact) -> Maker | None:
    """Have it made again if a second look finds it damaged too; by whom."""
    maker = maker_of(deps.db, tenant, artifact.sha256)
    if maker is None or deps.artifacts.whole(artifact.sha256, artifact.size):
        return None
    log.warning("an artifact is damaged; its job makes it again", artifact=artifact.sha256, job=maker.job)
    deps.ringer.ring(make_again(deps.db, artifact.sha256, maker))
    return maker


def check_shared(deps: GatewayDeps, jobs: Iterable[str]) -> None:
    """Before an answer names jobs that succeeded earlier: are their artifacts there, in their sizes? Those that are
    not are made again, so that the answer is a job that runs. Where the store does not answer, nothing is done."""
    until = time.monotonic() + BUDGET_S

    def lacks(made: Made) -> Made | None:
        return None if deps.artifacts.has(made.sha256, made.size) else made

    found = made_by(deps.db, jobs)
    with ThreadPoolExecutor(min(AT_ONCE, len(found) or 1)) as pool:
        for start in range(0, len(found), 8 * AT_ONCE):
            if time.monotonic() > until:
                log.info("not all shared artifacts were looked at", of=len(found))
                return
            try:
                for made in filter(None, pool.map(lacks, found[start : start + 8 * AT_ONCE])):
                    log.warning(
                        "an artifact is damaged; its job makes it again", artifact=made.sha256, job=made.maker.job
                    )
                    deps.ringer.ring(make_again(deps.db, made.sha256, made.maker))
            except (TransientError, Conflict) as error:
                log.warning("shared artifacts not looked at", error=str(error))
                return
