"""The clients against a served gateway, with the test as its worker."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from services.client import (
    AsyncClient,
    Client,
    ClientError,
    Conflict,
    Invalid,
    NotConfigured,
    NotFound,
    Unauthorized,
    Unavailable,
    Unreachable,
    Update,
)
from tests.support.gateway import (
    AUDIT,
    AUDIT_JOB_COUNT,
    TOKEN,
    GatewayProcess,
    ManualWorker,
    serve_gateway,
)
from tests.support.waiting import TIMEOUT_S, wait_for


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with serve_gateway(tmp_path_factory.mktemp("gateway")) as served:
        yield served


@pytest.fixture
def client(gateway: GatewayProcess) -> Iterator[Client]:
    with Client(gateway.url, TOKEN) as made:
        yield made


def in_background(work: object, *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=work, args=arguments)  # type: ignore[arg-type]
    thread.start()
    return thread


def slowly(
    worker: ManualWorker, steps: int, fail: bool = False, seen: Sequence[Update] | None = None
) -> None:
    """Take the next job through `steps` of progress to its end, each when the one before was
    seen."""
    claim = worker.claim()
    for done in range(steps):
        worker.report_progress(claim, done, steps, matching_loss=1 / (done + 1))
        if seen is not None:
            wait_for(
                lambda done=done: any(u.total and u.done == done for u in seen),
                TIMEOUT_S,
                "a step is seen",
            )
    worker.fail(claim, "it broke") if fail else worker.finish(claim, b"result", "text/plain")


def test_submit_look_and_fetch(client, worker, tmp_path):
    job = client.submit_job("sleep", params={"seconds": 3}, seed=11)
    assert (job.state, job.created, job.params["seconds"]) == ("queued", True, 3)
    assert client.submit_job("sleep", params={"seconds": 3}, seed=11).created is False
    assert client.pause(job.id).state == "paused"
    assert client.resume(job.id).state == "queued"
    with pytest.raises(ClientError, match="has no artifacts yet"):
        client.fetch(job.id)
    slowly(worker, 1)
    done = client.get_job(job.id)
    assert done.is_terminal
    artifact = done.artifacts["BASE"]
    assert (
        client.fetch(job.id)
        == client.fetch(job.id, "BASE")
        == client.fetch(artifact.sha256)
        == b"result"
    )
    path = client.fetch_to(tmp_path, job.id)
    assert path.name == f"base-{artifact.sha256[:12]}.txt"
    assert path.read_bytes() == b"result"
    assert client.fetch_to(tmp_path / "mine", job.id).read_bytes() == b"result"
    with pytest.raises(ClientError, match="choose one of BASE"):
        client.fetch(job.id, "ORIGINAL")
    with pytest.raises(ClientError, match="cannot write"):
        client.fetch_to(tmp_path / "no" / "folder", job.id)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([path.name, "mine"])


def test_damaged_bytes_are_not_kept_and_are_made_again(gateway, client, worker, tmp_path):
    job = client.submit_job("sleep", seed=12)
    sha256 = worker.finish(worker.claim(), b"as it should be", "text/plain")
    (stored,) = (gateway.folder / "artifacts").rglob(sha256)
    stored.write_bytes(b"as it shouldn't")
    for fetch in (lambda: client.fetch(job.id), lambda: client.fetch_to(tmp_path, job.id)):
        with pytest.raises(
            Unavailable, match=f"is damaged in the store: job {job.id} is rebuilding it"
        ):
            fetch()
    assert list(tmp_path.iterdir()) == []
    worker.finish(worker.claim(), b"as it should be", "text/plain")
    assert client.fetch(job.id) == b"as it should be"


def test_pages_are_walked(client, worker):
    ids = [client.submit_job("sleep", seed=100 + n).id for n in range(5)]
    assert [j.id for j in client.list_jobs(stage="sleep", state="queued", limit=2)] == ids[::-1]
    assert client.get_jobs_page(limit=1).next is not None
    names = [client.submit_audit({**AUDIT, "name": f"n{n}"}).id for n in range(3)]
    assert [a.id for a in client.list_audits(limit=2)][:3] == names[::-1]


def test_an_audit(client, worker):
    dry = client.dry_run({**AUDIT, "pretrain_seed": 5})
    assert (dry.total, dry.reused, dry.new, len(dry.jobs)) == (
        AUDIT_JOB_COUNT,
        0,
        AUDIT_JOB_COUNT,
        AUDIT_JOB_COUNT,
    )
    audit = client.submit_audit({**AUDIT, "pretrain_seed": 5})
    assert (audit.total, audit.finished, len(audit.created)) == (
        AUDIT_JOB_COUNT,
        0,
        AUDIT_JOB_COUNT,
    )
    assert client.get_audit(audit.id).stages["train"] == {"waiting": 2}
    assert client.cancel(audit.id).state == "cancelled"


def test_errors_are_typed_and_say_what_the_gateway_says(client, gateway, worker):
    with pytest.raises(Invalid, match="did you mean 'seconds'") as caught:
        client.submit_job("sleep", params={"secons": 1})
    assert (caught.value.field, caught.value.status) == ("params.secons", 422)
    assert caught.value.errors[0]["field"] == "params.secons"
    with pytest.raises(NotFound):
        client.get_job("job_" + "0" * 20)
    for odd in ("", "../../livez", "a/b", "?x=1", "\0", "ü"):
        with pytest.raises(NotFound):
            client.get_job(odd)
    job = client.submit_job("sleep", seed=13)
    with pytest.raises(Conflict, match="only failed and cancelled"):
        client.retry(job.id)
    with pytest.raises(Unauthorized):
        Client(gateway.url, "wrong").list_queues()
    began = time.monotonic()
    with pytest.raises(Unreachable, match="make serve"):
        Client("http://127.0.0.1:1", "t", retry_for_s=0.5).list_queues()
    assert time.monotonic() - began < 5


def test_fleet_and_catalog(client, worker):
    assert {q["stage"] for q in client.list_queues()} >= {"sleep", "train"}
    assert [w["id"] for w in client.list_workers()] == ["hand"]
    assert set(client.get_catalog("unlearning")["kinds"]) == {"unlearning"}


def test_events_go_on_over_the_ends_of_streams(client, worker):
    job = client.submit_job("sleep", seed=14)
    thread = in_background(slowly, worker, 4)
    found = list(client.stream_events(job.id))
    thread.join()
    assert [e.seq for e in found] == list(range(1, 8))
    assert found[-1].data["to"] == "succeeded"
    assert [e.seq for e in client.stream_events(job.id, after=5)] == [6, 7]
    assert list(client.stream_events(job.id, after=7)) == []


def test_watch_shows_a_job_to_its_end(client, worker):
    job = client.submit_job("sleep", seed=15)
    seen: list[Update] = []
    thread = in_background(slowly, worker, 4, False, seen)
    seen.extend(client.watch(job.id, poll_interval_s=0.1))  # one by one
    thread.join()
    assert {u.state for u in seen} <= {"queued", "running", "succeeded"}
    assert [u.is_final for u in seen] == [False] * (len(seen) - 1) + [True]
    running = [u for u in seen if u.state == "running" and u.total]
    assert {u.total for u in running} == {4}
    assert running[-1].numbers["matching_loss"] == pytest.approx(1 / 4)
    assert running[-1].steps_per_s


def test_watch_shows_an_audit_with_the_jobs_that_run(client, worker):
    worker.finish_all()
    audit = client.submit_audit({**AUDIT, "seeds": [20], "pretrain_seed": 6})

    def work() -> None:
        for _ in range(audit.total):
            claim = worker.claim()
            worker.report_progress(claim, 1, 2)
            wait_for(
                lambda job=claim.job.id: any(u.id == job for u in seen), TIMEOUT_S, "it is seen"
            )
            worker.finish(claim, claim.job.id.encode(), "text/plain")

    seen: list[Update] = []
    thread = in_background(work)
    seen.extend(client.watch(audit.id, poll_interval_s=0.1))  # one by one
    thread.join()
    last = seen[-1]
    assert (last.id, last.state, last.done, last.total, last.is_final) == (
        audit.id, "succeeded", audit.total, audit.total, True
    )  # fmt: skip
    jobs = {u.id: u for u in seen if u.kind == "job"}
    assert len(jobs) == audit.total
    assert not any(u.requested for u in jobs.values())
    assert {u.label for u in jobs.values()} >= {"unlearn ascent", "attack invert"}


def test_watch_several_of_which_one_fails(client, worker):
    good, bad = client.submit_job("sleep", seed=16), client.submit_job("sleep", seed=17)

    def work() -> None:
        slowly(worker, 1)
        slowly(worker, 1, fail=True)

    thread = in_background(work)
    ends = {u.id: u for u in client.watch(good.id, bad.id, poll_interval_s=0.1) if u.is_final}
    thread.join()
    assert (ends[good.id].state, ends[bad.id].state) == ("succeeded", "failed")
    assert (ends[bad.id].failure, ends[bad.id].message) == ("error", "it broke")


def test_the_async_client_does_the_same(gateway, worker, tmp_path):
    async def scenario() -> list[Update]:
        async with AsyncClient(gateway.url, TOKEN) as client:
            job = await client.submit_job("sleep", seed=30)
            assert (await client.pause(job.id)).state == "paused"
            assert (await client.resume(job.id)).state == "queued"
            thread = in_background(slowly, worker, 3)
            watching = asyncio.create_task(_all(client.watch(job.id, poll_interval_s=0.1)))
            events = [e async for e in client.stream_events(job.id)]
            assert events[-1].data["to"] == "succeeded"
            seen = await watching
            thread.join()
            assert await client.fetch(job.id) == b"result"
            assert (await client.fetch_to(tmp_path, job.id, "BASE")).read_bytes() == b"result"
            assert await anext(client.list_jobs(stage="sleep", limit=1)) == await client.get_job(
                job.id
            )
            assert (await client.get_jobs_page(limit=1)).items[0].id == job.id
            spec = {**AUDIT, "pretrain_seed": 7}
            dry = await client.dry_run(spec)
            audit = await client.submit_audit(spec)
            assert dry.total == audit.total == AUDIT_JOB_COUNT
            assert (await client.get_audit(audit.id)).id == audit.id
            assert (await anext(client.list_audits())).id == audit.id
            assert (await client.cancel(audit.id)).state == "cancelled"
            for nothing in (client.retry(job.id), client.get_job("x"), client.submit_job("slep")):
                with pytest.raises((Conflict, NotFound, Invalid)):
                    await nothing
            assert await client.list_workers()
            assert await client.list_queues()
            assert (await client.get_catalog())["digest"]
            return seen

    async def _all(updates: object) -> list[Update]:
        return [u async for u in updates]  # type: ignore[attr-defined]

    assert asyncio.run(scenario())[-1].state == "succeeded"


def test_the_async_client_waits_for_a_gateway_no_longer_than_it_should():
    async def scenario() -> None:
        async with AsyncClient("http://127.0.0.1:1", "t", retry_for_s=0.3) as client:
            await client.list_queues()

    with pytest.raises(Unreachable):
        asyncio.run(scenario())


def test_the_gateway_is_found_by_what_serve_has_left(gateway, tmp_path, monkeypatch):
    for name in ("PALIMPSEST_URL", "PALIMPSEST_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotConfigured, match="make serve"):
        Client()
    folder = Path(".palimpsest")
    folder.mkdir()
    (folder / "serve.json").write_text(json.dumps({"url": gateway.url, "token": TOKEN, "pid": 1}))
    with Client() as client:
        assert client.list_queues()


@pytest.mark.slow
def test_watching_survives_a_restart_of_the_gateway(tmp_path):
    with serve_gateway(tmp_path) as gateway, Client(gateway.url, TOKEN, retry_for_s=60) as client:
        worker, job = gateway.make_worker(), client.submit_job("sleep")
        seen: list[Update] = []
        events: list[int] = []
        threads = [
            in_background(lambda: seen.extend(client.watch(job.id, poll_interval_s=0.1))),
            in_background(lambda: events.extend(e.seq for e in client.stream_events(job.id))),
        ]
        claim = worker.claim()
        worker.report_progress(claim, 1, 3)
        wait_for(lambda: 3 in events and any(u.done for u in seen), TIMEOUT_S, "both watch")
        gateway.stop(signal.SIGKILL)
        worker.report_progress(claim, 2, 3)
        gateway.start()
        worker.finish(claim)
        for thread in threads:
            thread.join(timeout=TIMEOUT_S)
        assert [u.state for u in seen if u.is_final] == ["succeeded"]
        assert events == [1, 2, 3, 4, 5]
