"""shared.jobs.revisions: another text after every change that a page shows, and only then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from shared.jobs import (
    attempts,
    control,
    priority,
    stage_pauses,
    worker_drains,
    worker_registry,
)
from shared.jobs.revisions import Topic, read_revisions
from tests.support.job_store import ALICE, BOB, JobStore, make_planned_job

HOME, OPERATOR = Topic(ALICE), Topic(None)


@dataclass
class Pages:
    """What is shown of a store, and what of it has changed since the last look."""

    store: JobStore
    audit: str
    seen: dict[Topic, str] = field(default_factory=dict)

    def list_changed(self) -> set[str]:
        """Of `home`, `audit` and `operator`, those with another revision than at the last call."""
        topics = {"home": HOME, "audit": Topic(ALICE, self.audit), "operator": OPERATOR}
        now = read_revisions(self.store.db, set(topics.values()))
        changed = {name for name, topic in topics.items() if now[topic] != self.seen.get(topic)}
        self.seen = dict(now)
        return changed


def register(store: JobStore, name: str = "w2") -> None:
    worker_registry.register_worker(
        store.db, name, host="h", pid=1, stages=("train",), device="cpu", threads=1, versions={},
        catalog="",
    )  # fmt: skip


CHANGES: dict[str, tuple[Callable[[JobStore, Any], Any], set[str]]] = {
    "progress": (
        lambda s, c: attempts.renew_lease(s.db, c.job.id, c.fence, 60, {"done": 1, "total": 2}),
        {"home", "audit", "operator"},
    ),
    "end": (lambda s, c: s.finish(c), {"home", "audit", "operator"}),
    "failure": (lambda s, c: s.fail(c), {"home", "audit", "operator"}),
    "cancel": (
        lambda s, c: control.cancel_job(s.db, ALICE, c.job.id),
        {"home", "audit", "operator"},
    ),
    "priority": (
        lambda s, c: priority.set_job_priority(s.db, ALICE, c.job.id, 7),
        {"home", "audit", "operator"},
    ),
    "lost": (lambda s, c: s.lose_attempt(c), {"home", "audit", "operator"}),
    "new job": (lambda s, c: s.post(make_planned_job("more")), {"home"}),
    "new audit": (lambda s, c: s.submit_audit(make_planned_job("more")), {"home", "operator"}),
    "other tenant's audit": (
        lambda s, c: s.submit_audit(make_planned_job("x"), tenant=BOB),
        {"operator"},
    ),
    "worker": (lambda s, c: register(s), {"home", "operator"}),
    "drain": (lambda s, c: worker_drains.drain_worker(s.db, "w1"), {"home", "operator"}),
    "pause": (lambda s, c: stage_pauses.pause_stage(s.db, "train"), {"home", "operator"}),
    "nothing": (lambda s, c: None, set()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen_where_it_shows(store: JobStore, change: str) -> None:
    register(store, "w1")
    audit, _ = store.submit_audit(make_planned_job("a"))
    claim = store.claim_one()
    pages = Pages(store, audit)
    assert pages.list_changed() == {"home", "audit", "operator"}
    make, expected = CHANGES[change]
    make(store, claim)
    assert pages.list_changed() == expected
    assert pages.list_changed() == set()


def test_an_audit_that_is_gone_has_the_revision_of_nothing(store: JobStore) -> None:
    gone = [Topic(ALICE, "aud_" + "0" * 20), Topic(ALICE, "aud_" + "1" * 20)]
    revisions = read_revisions(store.db, gone)
    assert revisions[gone[0]] == revisions[gone[1]]
