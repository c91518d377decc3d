"""Wake-ups: lost and duplicate ones do no harm, and no caller waits for one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery.app.defaults import NAMESPACES, flatten

from shared.jobs.queue import (
    CELERY_SETTINGS,
    TASK_NAME,
    CeleryWakeup,
    InMemoryWakeup,
    WakeupSender,
    make_celery,
)
from tests.support.servers import RedisServer
from tests.support.waiting import TIMEOUT_S


def test_every_setting_is_one_that_celery_knows_and_takes() -> None:
    app = make_celery("memory://", ["train"])
    assert {name: app.conf[name] for name in CELERY_SETTINGS} == CELERY_SETTINGS
    assert set(CELERY_SETTINGS) <= {name for name, _ in flatten(NAMESPACES)}
    assert [q.name for q in app.conf.task_queues] == ["train"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis").start()
    yield server
    server.kill()


def test_a_wakeup_is_one_small_json_message_on_the_stages_queue(server: RedisServer) -> None:
    app = make_celery(server.url)
    CeleryWakeup(app).notify("train", "job_a")
    with app.connection() as connection:
        message = connection.SimpleQueue("train").get(timeout=TIMEOUT_S)
    assert (message.headers["task"], message.content_type) == (TASK_NAME, "application/json")
    assert message.decode()[:2] == [["job_a"], {}]


def test_a_queue_never_holds_a_wakeup_for_every_job(server: RedisServer) -> None:
    wakeup = CeleryWakeup(make_celery(server.url))
    for _ in range(CeleryWakeup.MAX_PENDING + 10):
        wakeup.notify("train")
    wakeup.notify("attack")
    assert (wakeup.depth("train"), wakeup.depth("attack"), wakeup.depth("evaluate")) == (
        CeleryWakeup.MAX_PENDING,
        1,
        0,
    )


def test_who_counts_workers_may_send_more(server: RedisServer) -> None:
    """A thousand idle workers are not woken by 64 messages."""
    wakeup = CeleryWakeup(make_celery(server.url))
    for _ in range(CeleryWakeup.MAX_PENDING + 2):
        wakeup.publish("train")
    assert wakeup.depth("train") == CeleryWakeup.MAX_PENDING + 2


def test_making_the_app_connects_to_nothing() -> None:
    begun = time.monotonic()
    make_celery("redis://127.0.0.1:1/0", ["train"])
    assert time.monotonic() - begun < 5


def test_a_sender_sends_what_is_pending_before_it_ends() -> None:
    wakeup = InMemoryWakeup()
    sender = WakeupSender(wakeup)
    sender.notify(["train", "attack"])
    sender.notify([])
    sender.notify({"evaluate"})
    sender.close()
    assert wakeup.notified_stages == ["train", "attack", "evaluate"]


class Broken:
    """A queue whose broker is unavailable at times."""

    def __init__(self) -> None:
        self.notified: list[str] = []

    def notify(self, stage: str, job_id: str = "") -> None:
        if stage == "lost":
            raise ConnectionError("the broker is away")
        self.notified.append(stage)


def test_a_wakeup_that_fails_is_dropped_and_the_next_is_sent() -> None:
    wakeup = Broken()
    sender = WakeupSender(wakeup)
    sender.notify(["lost", "train", "lost", "attack"])
    sender.close()
    assert wakeup.notified == ["train", "attack"]


class Stuck:
    """A queue that hangs until it is released."""

    def __init__(self) -> None:
        self.go, self.count = threading.Event(), 0

    def notify(self, stage: str, job_id: str = "") -> None:
        assert self.go.wait(30)
        self.count += 1


def test_whoever_rings_never_waits_and_a_stage_is_noted_once_even_when_the_broker_hangs() -> None:
    wakeup = Stuck()
    sender = WakeupSender(wakeup)
    begun = time.monotonic()
    for _ in range(5000):
        sender.notify(["train"])
    assert time.monotonic() - begun < 5
    wakeup.go.set()
    sender.close()
    assert 1 <= wakeup.count <= 2
