"""Workers that were seen, and the catalog they publish."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import update

from shared.catalog import Catalog, Entry
from shared.errors import Conflict, PluginImportError
from shared.jobs import fleet
from shared.jobs.tables import catalogs, workers
from tests.support.jobs import STAGE, Store, planned, sha, together


def _register(store: Store, worker: str, host: str = "here", stages: tuple[str, ...] = (STAGE,)) -> None:
    what = {"device": "cpu", "threads": 2, "versions": {"torch": "1"}, "catalog": sha("c")}
    fleet.register(store.db, worker, host=host, pid=7, stages=stages, **what)


def _seen_ago(store: Store, worker: str, seconds: float) -> None:
    with store.db.write() as connection:
        connection.execute(update(workers).where(workers.c.id == worker).values(seen_at=store.db.now - seconds))


def _catalog(*names: str) -> Catalog:
    return Catalog([Entry(kind="stage", name=n, summary="Does it.") for n in names])


def test_before_any_worker_the_catalog_is_empty(store: Store) -> None:
    digest, catalog = fleet.published(store.db)
    assert (digest, catalog.plugins, fleet.latest_digest(store.db)) == (None, frozenset(), None)


def test_the_catalog_published_last_counts(store: Store) -> None:
    old, new = _catalog("train"), _catalog("train", "attack")
    for catalog in (old, new, old):
        fleet.publish(store.db, catalog)
        digest, found = fleet.published(store.db)
        assert (digest, found.to_json()) == (catalog.digest, catalog.to_json())
        assert fleet.latest_digest(store.db) == catalog.digest
        assert fleet.catalog(store.db).plugins == catalog.plugins
        time.sleep(0.003)


def test_the_catalog_published_last_counts_also_where_the_clock_was_set_back(store: Store) -> None:
    old, new = _catalog("train"), _catalog("train", "attack")
    fleet.publish(store.db, old)
    with store.db.write() as connection:
        connection.execute(update(catalogs).values(published_at=catalogs.c.published_at + 3600))
    for _ in range(2):
        fleet.publish(store.db, new)
        assert fleet.latest_digest(store.db) == new.digest


def test_a_catalog_that_refers_elsewhere_is_not_published(store: Store) -> None:
    entry = Entry(kind="stage", name="evil", summary="Asks.", params_schema={"$ref": "http://127.0.0.1:1/"})
    with pytest.raises(PluginImportError, match="the parameters of stage evil: "):
        fleet.publish(store.db, Catalog([entry]))
    assert fleet.latest_digest(store.db) is None


def test_workers_that_start_together_publish_together(store: Store) -> None:
    for n in range(4):
        catalog = _catalog("train", f"stage{n}")
        assert together(*[lambda c=catalog: fleet.publish(store.db, c)] * 4) == [None] * 4
        assert fleet.latest_digest(store.db) == catalog.digest
        time.sleep(0.003)


def test_a_worker_shows_what_it_is_and_what_it_has(store: Store) -> None:
    _register(store, "w1")
    _register(store, "w2", stages=("attack", "evaluate"))
    job_id = store.post(planned("a"))
    store.take("w1")
    one, two = fleet.fleet(store.db)
    assert (one.id, one.host, one.pid, one.stages, one.device, one.threads) == ("w1", "here", 7, (STAGE,), "cpu", 2)
    assert (one.versions, one.catalog, one.live, one.drain, one.job) == ({"torch": "1"}, sha("c"), True, False, job_id)
    assert (two.stages, two.job) == (("attack", "evaluate"), None)
    assert fleet.live_by_stage(store.db) == {STAGE: 1, "attack": 1, "evaluate": 1}


def test_a_worker_that_was_not_seen_is_not_live_and_then_forgotten(store: Store) -> None:
    _register(store, "w1")
    _register(store, "w2")
    _seen_ago(store, "w1", fleet.LIVE_WITHIN + 1)
    assert [(w.id, w.live) for w in fleet.fleet(store.db)] == [("w2", True), ("w1", False)]
    assert fleet.live_by_stage(store.db) == {STAGE: 1}
    assert fleet.seen(store.db, "w1") is False
    assert all(w.live for w in fleet.fleet(store.db))
    _seen_ago(store, "w1", fleet.FORGET_AFTER + 1)
    _register(store, "w3")
    assert [w.id for w in fleet.fleet(store.db)] == ["w2", "w3"]


def test_a_worker_that_was_seen_by_a_clock_that_was_set_back_since_is_not_live(store: Store) -> None:
    _register(store, "w1")
    _seen_ago(store, "w1", -3600)
    assert [w.live for w in fleet.fleet(store.db)] == [False]
    fleet.require_one_host(store.db, "another")
    fleet.seen(store.db, "w1")
    assert [w.live for w in fleet.fleet(store.db)] == [True]


def test_a_drain_mark_outlives_the_pool_child(store: Store) -> None:
    _register(store, "w1")
    fleet.drain(store.db, "w1")
    _register(store, "w1")
    assert fleet.seen(store.db, "w1") is True
    assert fleet.live_by_stage(store.db) == {}
    fleet.gone(store.db, "w1")
    assert fleet.fleet(store.db) == []
    assert fleet.seen(store.db, "w1") is None


def test_only_a_server_serves_workers_on_two_hosts(store: Store) -> None:
    _register(store, "w1", host="here")
    fleet.require_one_host(store.db, "here")
    if store.db.dialect == "sqlite":
        with pytest.raises(Conflict, match="PALIMPSEST_DATABASE_URL"):
            fleet.require_one_host(store.db, "there")
        _seen_ago(store, "w1", fleet.LIVE_WITHIN + 1)  # it has been moved, not doubled
    fleet.require_one_host(store.db, "there")


def test_jobs_are_counted_by_stage_and_state(store: Store) -> None:
    root = planned("root")
    store.submit(root, planned("a", root), planned("b", stage="attack"))
    store.take()
    assert fleet.stage_counts(store.db) == {STAGE: {"running": 1, "waiting": 1}, "attack": {"queued": 1}}
