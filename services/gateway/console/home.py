"""/: what waits, who works, what runs, what came out last, and what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flask import Response, current_app

from services.gateway.broker_check import is_broker_away
from services.gateway.console._pages import make_pages, render_page
from services.gateway.console.troubles import Trouble, find_troubles
from services.gateway.deps import Gateway, current_gateway, current_store
from services.gateway.principal import current_principal
from services.gateway.queue_reading import StageQueue, choose_tenant, read_queues
from services.gateway.snapshot_cache import SnapshotCache, SnapshotCaches
from shared.jobs import monitoring, worker_registry
from shared.jobs.filters import JobFilter
from shared.jobs.records import Audit, Job, Worker
from shared.jobs.revisions import Topic, read_revisions
from shared.jobs.states import State
from shared.jobs.tenant_store import TenantStore

pages = make_pages("home")

MAX_RUNNING = 12
MAX_AUDITS = 8
MAX_WORKERS = 60
RATE_WINDOW_S = 600.0  # over which the rate of a stage is taken

HOMES_KEY = "palimpsest.homes"
CHEAP_S = 0.1  # a home that takes less to read is read for every visitor
WAIT_S = 0.05  # for which a visitor waits for a new one
MAX_AGE_S = 60.0  # an older one is shown to nobody
MAX_SHARE = 0.25  # of a thread's time for reading it


@dataclass(frozen=True)
class StageLine:
    """A stage in the table of queues.

    queued: jobs that could be taken now.
    waiting: those that wait for inputs, or are paused.
    rate_per_h: at which jobs ended lately; None without one.
    wait_s: how long the last one in the queue waits at that rate; None if nothing waits or ends.
    """

    queue: StageQueue
    queued: int
    waiting: int
    running: int
    rate_per_h: float | None
    wait_s: float | None

    @property
    def hindrance(self) -> str:
        """Why nobody can say how long the wait is; "" if nothing waits in vain."""
        if not self.queued:
            return ""
        if self.queue.paused_at is not None:
            return "until resumed"
        return "" if self.queue.workers else "no worker"


def build_lines(queues: Mapping[str, StageQueue], ended: Mapping[str, int]) -> list[StageLine]:
    """The stages that have jobs that have not ended, have ended some lately, or are paused.

    ended: jobs that ended in the last `RATE_WINDOW_S`, by stage.
    """
    lines = []
    for stage, queue in queues.items():
        waiting = sum(queue.counts.get(state, 0) for state in ("waiting", "paused"))
        queued, running = queue.counts.get("queued", 0), queue.counts.get("running", 0)
        n = ended.get(stage, 0)
        if not (queued or waiting or running or n or queue.paused_at):
            continue
        lines.append(
            StageLine(
                queue,
                queued,
                waiting,
                running,
                n * 3600 / RATE_WINDOW_S if n else None,
                queued * RATE_WINDOW_S / n if n and queued else None,
            )
        )
    return lines


@dataclass(frozen=True)
class StageWorkers:
    """The live workers that serve one stage.

    devices: how many have each, most first.
    memory_bytes: of all of them together; None if none says.
    """

    stage: str
    live: int
    busy: int
    drained: int
    devices: list[tuple[str, int]]
    memory_bytes: int | None


def group_workers(workers: Sequence[Worker]) -> list[StageWorkers]:
    """Workers by stage; one that serves several is counted for each."""
    by_stage: dict[str, list[Worker]] = {}
    for worker in workers:
        for stage in worker.stages:
            by_stage.setdefault(stage, []).append(worker)
    return [
        StageWorkers(
            stage,
            len(serving),
            sum(worker.job is not None for worker in serving),
            sum(worker.drain for worker in serving),
            Counter(worker.device for worker in serving).most_common(),
            sum(known) if (known := [w.memory_bytes for w in serving if w.memory_bytes]) else None,
        )
        for stage, serving in sorted(by_stage.items())
    ]


@dataclass(frozen=True)
class Home:
    """What the page shows."""

    revision: str
    lines: list[StageLine]
    workers: list[Worker]
    worker_groups: list[StageWorkers]  # instead of the workers, if there are many
    running: list[Job]
    audit_names: Mapping[str, str]  # of the jobs that run
    audits: list[Audit]
    troubles: list[Trouble]
    now: float  # by the database's clock
    has_catalog: bool

    @property
    def is_new(self) -> bool:
        """Whether nothing has been done here yet."""
        return not (self.audits or self.running or self.lines)


def read_home(gateway: Gateway, store: TenantStore, tenant: str | None) -> Home:
    """All of it, in a fixed number of queries.

    Args:
        store: whose audits and running jobs are listed.
        tenant: whose jobs are counted; everyone's without.

    Raises:
        TransientError: the job store does not answer.
    """
    db = gateway.deps.db
    # before the rest: of what changes meanwhile the page's stream tells
    revision = read_revisions(db, [Topic(tenant)])[Topic(tenant)]
    queues = read_queues(gateway, tenant)
    workers = worker_registry.list_workers(db, tenant)
    live = [worker for worker in workers if worker.live]
    lines = build_lines(queues, monitoring.count_ended(db, tenant, RATE_WINDOW_S))
    running = store.list_jobs(filters=JobFilter(state=State.RUNNING), limit=MAX_RUNNING).items
    return Home(
        revision,
        lines,
        live,
        group_workers(live) if len(live) > MAX_WORKERS else [],
        running,
        store.find_audit_names({job.audits[0] for job in running if job.audits}),
        store.list_audits(limit=MAX_AUDITS).items,
        find_troubles(
            queues,
            workers,
            service_ages_s=monitoring.read_service_ages(db),
            broker_is_away=is_broker_away(gateway.deps.settings),
        ),
        monitoring.read_clock(db),
        bool(gateway.catalog_cache.catalog.list_names("stage")),
    )


def find_home() -> Home:
    """A new one where that is quick; with very many jobs the latest one, while a new one is read. Its
    revision is as old as it is, so that the page's stream brings the new one at once.

    Raises:
        TransientError: the job store does not answer.
    """
    gateway, store, tenant = current_gateway(), current_store(), choose_tenant()
    caches: SnapshotCaches[tuple[str | None, str, str | None], Home]
    caches = current_app.extensions.setdefault(
        HOMES_KEY, SnapshotCaches(lambda who: _make_cache(gateway, *who[:2]))
    )
    # by key: a tenant that takes the name of a deleted one has other keys
    return caches.get_current((tenant, store.tenant, current_principal().key)).value


def _make_cache(gateway: Gateway, counted: str | None, listed: str) -> SnapshotCache[Home]:
    store = TenantStore(gateway.deps.db, listed)
    return SnapshotCache(
        "the home page",
        lambda: read_home(gateway, store, counted),
        interval_s=0.0,
        max_age_s=MAX_AGE_S,
        wait_s=WAIT_S,
        cheap_s=CHEAP_S,
        max_share=MAX_SHARE,
    )


@pages.get("/")
def show() -> Response:
    """The page."""
    return render_page("home.html", home=find_home())
