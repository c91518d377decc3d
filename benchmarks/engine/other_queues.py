"""The same work done by queues with weaker guarantees, one worker each."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import procrastinate
from procrastinate.types import JSONValue

from tests.support.servers import RedisServer
from tests.support.waiting import wait_for

_CELERY_APP = '''
from celery import Celery
app = Celery("bare", broker={url!r})
app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=1, task_acks_late=True)


@app.task(name="noop")
def noop(n):
    """Do nothing."""
'''


def measure_celery(folder: Path, n: int) -> float:
    """Tasks per second of one process of bare Celery on Redis, late acknowledgement, prefetch 1."""
    server = RedisServer(folder / "celery").start()
    (folder / "bare.py").write_text(_CELERY_APP.format(url=server.url))
    send = f"import bare; [bare.noop.delay(i) for i in range({n})]"
    subprocess.run([sys.executable, "-c", send], cwd=folder, check=True)
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "bare",
        "worker",
        "--concurrency",
        "1",
        "--loglevel",
        "ERROR",
    ]
    worker = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        waiting = server.client
        wait_for(lambda: waiting.llen("celery") < n - 10, 120, "the worker runs tasks")
        remaining, start = waiting.llen("celery"), time.perf_counter()
        wait_for(lambda: not waiting.llen("celery"), 600, "all tasks are taken")
        return float(remaining / (time.perf_counter() - start))
    finally:
        worker.terminate()
        worker.wait()
        server.stop()


def measure_procrastinate(database_url: str, n: int) -> float:
    """Jobs per second of one process of Procrastinate on PostgreSQL, concurrency 1."""

    async def drain() -> float:
        connector = procrastinate.PsycopgConnector(conninfo=database_url.replace("+psycopg", ""))
        app = procrastinate.App(connector=connector)

        @app.task(name="noop")
        async def noop(number: int) -> None:
            """Do nothing."""

        async with app.open_async():
            await app.schema_manager.apply_schema_async()
            deferred: list[dict[str, JSONValue]] = [{"number": i} for i in range(n)]
            await noop.batch_defer_async(*deferred)
            start = time.perf_counter()
            await app.run_worker_async(concurrency=1, wait=False)
            return n / (time.perf_counter() - start)

    return asyncio.run(drain())
