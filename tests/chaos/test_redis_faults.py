"""Redis in every state but well, and messages that are none: a bare worker lives through all of it.

Bare: nobody starts it again, as `make serve` and containers would.
"""

from __future__ import annotations

import base64
import json
import logging
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from kombu import Queue

from shared.jobs.broker import TASK_NAME
from shared.jobs.queue import CeleryWakeup, make_celery
from tests.support.servers import RedisServer, find_free_port
from tests.support.system import System, wait_for
from tests.support.waiting import TIMEOUT_S


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory, sleep_tree: Path) -> Iterator[System]:
    """A system with one worker, which must get wake-ups until the last of these tests."""
    system = System(tmp_path_factory.mktemp("bare"), sleep_tree)
    system.start_worker("sleep")
    hears(system)
    yield system
    system.close()


def hears(system: System, seconds: float = 120) -> None:
    """The worker takes a job for which one wake-up is sent, again and again if Redis does not take
    it."""
    job = system.submit("sleep", {"tag": uuid.uuid4().hex}, notify=False)
    process = system.processes["worker-sleep"]

    def done() -> bool:
        assert process.poll() is None, f"the worker has ended: {system.read_log('worker-sleep')}"
        if system.get_job(job).state == "queued":
            send_wakeup(system)
        return system.get_job(job).state == "succeeded"

    wait_for(done, seconds, f"the worker handles a wake-up: {system.read_log('worker-sleep')}")


def send_wakeup(system: System) -> None:
    try:
        if not system.redis.client.llen("sleep"):
            system.redis.client.lpush("sleep", message())
    except redis.RedisError:
        pass


def message(
    headers: dict[str, Any] | None = None, after: dict[str, Any] | None = None, **outer: Any
) -> str:
    """A message as kombu writes it, with whatever a forger puts in."""
    number = str(uuid.uuid4())
    body = base64.b64encode(json.dumps([[""], {}, after or {}]).encode()).decode()
    return json.dumps({
        "body": body, "content-encoding": "utf-8", "content-type": "application/json",
        "headers": {"task": TASK_NAME, "id": number, "lang": "py", **(headers or {})},
        "properties": {
            "delivery_tag": number, "body_encoding": "base64", "priority": 0,
            "delivery_info": {"exchange": "", "routing_key": "sleep"},
        },
        **outer,
    })  # fmt: skip


def replica(server: RedisServer) -> Callable[[], None]:
    server.client.execute_command("REPLICAOF", "127.0.0.1", str(find_free_port()))
    return lambda: server.client.execute_command("REPLICAOF", "NO", "ONE")


def full(server: RedisServer) -> Callable[[], None]:
    server.client.config_set("maxmemory", "1")
    return lambda: server.client.config_set("maxmemory", "0")


def frozen(server: RedisServer) -> Callable[[], None]:
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)
    return lambda: server.process.send_signal(signal.SIGCONT)  # type: ignore[union-attr]


def killed(server: RedisServer) -> Callable[[], None]:
    server.kill()
    return lambda: server.start() and None


def in_the_way(server: RedisServer) -> Callable[[], None]:
    """Something that is no list under the queue's name."""
    server.client.set("sleep", "x")
    return lambda: server.client.delete("sleep") and None


@pytest.mark.parametrize("fault", [replica, full, frozen, killed, in_the_way])
def test_a_redis_that_cannot_serve_for_a_while_ends_no_worker(
    bare: System, fault: Callable[..., Any]
) -> None:
    ends = fault(bare.redis)
    until = time.monotonic() + 5  # the fault itself takes its time
    while time.monotonic() < until:
        assert bare.processes["worker-sleep"].poll() is None, bare.read_log("worker-sleep")
        time.sleep(0.2)
    ends()
    hears(bare)


def test_a_redis_that_is_still_loading_is_waited_for(bare: System) -> None:
    with bare.redis.client.pipeline(transaction=False) as pipe:
        for n in range(8000):
            pipe.set(f"ballast {n}", "x" * 100)
        pipe.execute()
    bare.redis.kill()
    # a millisecond a key, with an ear for callers meanwhile
    slowly = ("--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024")
    bare.redis.start(*slowly, ready=False)
    said = (bare.home / "worker-sleep.log").read_text
    wait_for(lambda: "loading" in said().lower(), TIMEOUT_S, "the worker is told")
    hears(bare)


RUBBISH: dict[str, Any] = {
    "no text": b"\xff\xfe\x00\x80",
    "empty": b"",
    "no JSON": b"{not json",
    "a number": b"7",
    "a list": b"[]",
    "null": b"null",
    "deep": b"[" * 100_000,
    "an unknown type": b'{"__type__": "no such", "__value__": "x"}',
    "no properties": b'{"headers": {"task": "workers.app.work"}, "body": ""}',
    "no headers": json.dumps(
        {"body": "", "properties": {"delivery_tag": "x", "delivery_info": {}}}
    ),
    "another task": message({"task": "celery.backend_cleanup"}),
    "an unknown task": message({"task": "os.system"}),
    "a task that is no text": message({"task": ["x"]}),
    "protocol 1": json.dumps(
        {
            **json.loads(message()),
            "headers": {},
            "body": base64.b64encode(b'{"task": "x"}').decode(),
        }
    ),
    "a body that is not base64": message(body="*" * 7),
    "a body that is no list": message(body=base64.b64encode(b'{"args": []}').decode()),
}


def test_what_is_no_wakeup_is_dropped_and_logged(bare: System) -> None:
    before = len((bare.home / "worker-sleep.log").read_text())
    for name, rubbish in RUBBISH.items():
        bare.redis.client.rpush("sleep", rubbish)
        wait_for(lambda: not bare.redis.client.llen("sleep"), TIMEOUT_S, f"it is taken: {name}")
        assert bare.processes["worker-sleep"].poll() is None, (
            f"{name}: {bare.read_log('worker-sleep')}"
        )
    hears(bare)
    log = (bare.home / "worker-sleep.log").read_text()[before:]
    assert log.count("dropped a m") == len(RUBBISH), log
    assert "Traceback" not in log, log
    assert bare.redis.client.hlen("unacked") == 0


SOON = (datetime.now(UTC) + timedelta(days=300)).isoformat()
LONG_AGO = "2001-01-01T00:00:00+00:00"
SECOND = {"task": TASK_NAME, "args": ["chained"], "kwargs": {}, "options": {"queue": "chained"}}
FORGED: dict[str, dict[str, Any]] = {
    "a time limit": {"headers": {"timelimit": [0.05, 0.01]}},
    "to be run later": {"headers": {"eta": SOON}},
    "an eta that is none": {"headers": {"eta": "next week"}},
    "expired": {"headers": {"expires": LONG_AGO}},
    "retries": {"headers": {"retries": 10**9}},
    "run after it": {
        "after": {"callbacks": [SECOND], "chain": [SECOND], "errbacks": [SECOND], "chord": SECOND}
    },
    "pickle": {"content-type": "application/x-python-serialize"},
    "an unknown encoding": {"content-encoding": "no such"},
    "compressed": {"headers": {"compression": "zlib"}},
    "a reply is asked for": {"headers": {"ignore_result": False, "reply_to": "replies"}},
    "a group": {"headers": {"group": "g", "group_index": 3}},
    "stamped": {"headers": {"stamped_headers": ["x"], "stamps": {"x": ["y"]}}},
    "shadowed": {"headers": {"shadow": "something else"}},
    "no id": {"headers": {"id": None}},
}


def test_nothing_that_a_forger_writes_into_a_wakeup_has_an_effect(bare: System) -> None:
    """Each is a wake-up, at once, and no more than that: the job that it finds takes longer than any
    forged limit."""
    for name, forged in FORGED.items():
        job = bare.submit("sleep", {"tag": name, "steps": 2, "seconds": 0.1}, notify=False)
        bare.redis.client.lpush("sleep", message(**forged))
        ended = bare.wait(job)
        assert (ended.state, ended.attempt, ended.lost_count) == ("succeeded", 1, 0), name
    keys = {k.decode() for k in bare.redis.client.keys("*")}
    assert not keys & {"chained", "replies"}, keys
    assert not [k for k in keys if "result" in k or "celery-task" in k], keys


def test_nobody_commands_a_worker_through_redis(bare: System) -> None:
    assert not [k for k in bare.redis.client.keys("*") if b"pidbox" in k]
    control = make_celery(bare.redis.url).control
    assert control.ping(timeout=3) == []
    control.broadcast("shutdown")
    hears(bare)
    # a message for the queue that remote control had, should somebody make it
    bare.redis.client.publish("/0.celery.pidbox", json.dumps({"method": "shutdown"}))
    hears(bare)


def test_a_wakeup_that_could_not_be_acknowledged_does_not_block_the_next(
    tmp_path: Path,
) -> None:
    """Redis dies between the delivery of a wake-up and its acknowledgement: a worker takes one wake-up at
    a time."""
    server = RedisServer(tmp_path / "redis").start()
    app = make_celery(server.url, ["sleep"])
    CeleryWakeup(app).notify("sleep")
    with app.connection() as connection:
        channel = connection.channel()
        channel.basic_qos(0, 1, False)
        message = Queue("sleep", channel=channel).get(no_ack=False)
        assert not channel.qos.can_consume()
        server.kill()
        message.ack_log_error(logging.getLogger(), connection.connection_errors)
        assert channel.qos.can_consume()
