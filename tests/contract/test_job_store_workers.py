"""Workers that were seen, and the catalog they publish."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import update

from shared.catalog import Catalog, CatalogEntry
from shared.errors import Conflict, PluginImportError
from shared.jobs import worker_registry
from shared.jobs.tables import catalogs, workers
from tests.support.job_store import STAGE, JobStore, compute_sha256, make_planned_job, run_together


def _register(
    store: JobStore, worker: str, host: str = "here", stages: tuple[str, ...] = (STAGE,)
) -> None:
    what = {
        "device": "cpu",
        "threads": 2,
        "versions": {"torch": "1"},
        "catalog": compute_sha256("c"),
    }
    worker_registry.register_worker(store.db, worker, host=host, pid=7, stages=stages, **what)


def _seen_ago(store: JobStore, worker: str, seconds: float) -> None:
    with store.db.write() as connection:
        connection.execute(
            update(workers).where(workers.c.id == worker).values(seen_at=store.db.now - seconds)
        )


def _catalog(*names: str) -> Catalog:
    return Catalog([CatalogEntry(kind="stage", name=n, summary="Does it.") for n in names])


def test_before_any_worker_the_catalog_is_empty(store: JobStore) -> None:
    digest, catalog = worker_registry.load_latest_catalog(store.db)
    assert (digest, catalog.plugins, worker_registry.get_catalog_digest(store.db)) == (
        None,
        frozenset(),
        None,
    )


def test_the_catalog_published_last_counts(store: JobStore) -> None:
    old, new = _catalog("train"), _catalog("train", "attack")
    for catalog in (old, new, old):
        worker_registry.publish_catalog(store.db, catalog)
        digest, found = worker_registry.load_latest_catalog(store.db)
        assert (digest, found.to_json()) == (catalog.digest, catalog.to_json())
        assert worker_registry.get_catalog_digest(store.db) == catalog.digest
        assert worker_registry.load_catalog(store.db).plugins == catalog.plugins
        time.sleep(0.003)


def test_the_catalog_published_last_counts_also_where_the_clock_was_set_back(
    store: JobStore,
) -> None:
    old, new = _catalog("train"), _catalog("train", "attack")
    worker_registry.publish_catalog(store.db, old)
    with store.db.write() as connection:
        connection.execute(update(catalogs).values(published_at=catalogs.c.published_at + 3600))
    for _ in range(2):
        worker_registry.publish_catalog(store.db, new)
        assert worker_registry.get_catalog_digest(store.db) == new.digest


def test_a_catalog_that_refers_elsewhere_is_not_published(store: JobStore) -> None:
    entry = CatalogEntry(
        kind="stage", name="evil", summary="Asks.", params_schema={"$ref": "http://127.0.0.1:1/"}
    )
    with pytest.raises(PluginImportError, match="the parameters of stage evil: "):
        worker_registry.publish_catalog(store.db, Catalog([entry]))
    assert worker_registry.get_catalog_digest(store.db) is None


def test_workers_that_start_together_publish_together(store: JobStore) -> None:
    for n in range(4):
        catalog = _catalog("train", f"stage{n}")
        assert (
            run_together(*[lambda c=catalog: worker_registry.publish_catalog(store.db, c)] * 4)
            == [None] * 4
        )
        assert worker_registry.get_catalog_digest(store.db) == catalog.digest
        time.sleep(0.003)


def test_a_worker_shows_what_it_is_and_what_it_has(store: JobStore) -> None:
    _register(store, "w1")
    _register(store, "w2", stages=("attack", "evaluate"))
    job_id = store.post(make_planned_job("a"))
    store.claim_one("w1")
    one, two = worker_registry.list_workers(store.db)
    assert (one.id, one.host, one.pid, one.stages, one.device, one.threads) == (
        "w1",
        "here",
        7,
        (STAGE,),
        "cpu",
        2,
    )
    assert (one.versions, one.catalog, one.live, one.drain, one.job) == (
        {"torch": "1"},
        compute_sha256("c"),
        True,
        False,
        job_id,
    )
    assert (two.stages, two.job) == (("attack", "evaluate"), None)
    assert worker_registry.count_live_by_stage(store.db) == {STAGE: 1, "attack": 1, "evaluate": 1}


def test_a_worker_that_was_not_seen_is_not_live_and_then_forgotten(store: JobStore) -> None:
    _register(store, "w1")
    _register(store, "w2")
    _seen_ago(store, "w1", worker_registry.LIVE_WITHIN_S + 1)
    assert [(w.id, w.live) for w in worker_registry.list_workers(store.db)] == [
        ("w2", True),
        ("w1", False),
    ]
    assert worker_registry.count_live_by_stage(store.db) == {STAGE: 1}
    assert worker_registry.record_heartbeat(store.db, "w1") is False
    assert all(w.live for w in worker_registry.list_workers(store.db))
    _seen_ago(store, "w1", worker_registry.FORGET_AFTER_S + 1)
    _register(store, "w3")
    assert [w.id for w in worker_registry.list_workers(store.db)] == ["w2", "w3"]


def test_a_worker_that_was_seen_by_a_clock_that_was_set_back_since_is_not_live(
    store: JobStore,
) -> None:
    _register(store, "w1")
    _seen_ago(store, "w1", -3600)
    assert [w.live for w in worker_registry.list_workers(store.db)] == [False]
    worker_registry.require_one_host(store.db, "another")
    worker_registry.record_heartbeat(store.db, "w1")
    assert [w.live for w in worker_registry.list_workers(store.db)] == [True]


def test_a_drain_mark_outlives_the_pool_child(store: JobStore) -> None:
    _register(store, "w1")
    worker_registry.request_drain(store.db, "w1")
    _register(store, "w1")
    assert worker_registry.record_heartbeat(store.db, "w1") is True
    assert worker_registry.count_live_by_stage(store.db) == {}
    worker_registry.unregister_worker(store.db, "w1")
    assert worker_registry.list_workers(store.db) == []
    assert worker_registry.record_heartbeat(store.db, "w1") is None


def test_only_a_server_serves_workers_on_two_hosts(store: JobStore) -> None:
    _register(store, "w1", host="here")
    worker_registry.require_one_host(store.db, "here")
    if store.db.dialect == "sqlite":
        with pytest.raises(Conflict, match="PALIMPSEST_DATABASE_URL"):
            worker_registry.require_one_host(store.db, "there")
        _seen_ago(store, "w1", worker_registry.LIVE_WITHIN_S + 1)  # it has been moved, not doubled
    worker_registry.require_one_host(store.db, "there")


def test_jobs_are_counted_by_stage_and_state(store: JobStore) -> None:
    root = make_planned_job("root")
    store.submit(root, make_planned_job("a", root), make_planned_job("b", stage="attack"))
    store.claim_one()
    assert worker_registry.count_jobs_by_stage(store.db) == {
        STAGE: {"running": 1, "waiting": 1},
        "attack": {"queued": 1},
    }
