"""The kinds of fault. Each strikes one part, lasts as long as its call does, and leaves no process
stopped."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import psutil
import redis

from tests.chaos.storm.settings import Pace
from tests.chaos.storm.stores import HOUR, Postgres, Sqlite
from tests.chaos.storm.system import Served

SHARED = ("redis", "store", "everything")  # what all jobs need: one of them is away at a time


@dataclass
class Scene:
    """Where a fault strikes; `note` says with what, and `worker` whom."""

    system: Served
    pace: Pace
    draw: random.Random
    worker: str = ""
    note: str = ""

    def between(self, bounds: tuple[float, float]) -> float:
        """So many seconds."""
        seconds = self.draw.uniform(*bounds)
        self.note = f"{seconds:.1f} s"
        return seconds

    @property
    def postgres(self) -> Postgres:
        assert isinstance(self.system.store, Postgres)
        return self.system.store

    @property
    def sqlite(self) -> Sqlite:
        assert isinstance(self.system.store, Sqlite)
        return self.system.store


@dataclass(frozen=True)
class Kind:
    """`on` is the part that it strikes: no two strike one part at the same time."""

    name: str
    on: str
    strike: Callable[[Scene], None]
    store: str = ""  # the only store for which it exists
    # whether it ends, or holds beyond the lease, what keeps an attempt alive
    may_charge: bool = False
    times: int = 1  # how often it is in the deck


def send(processes: Iterable[psutil.Process | None], how: signal.Signals) -> None:
    """A signal to those that are still there."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process is not None:
                process.send_signal(how)


def _part(scene: Scene, part: str) -> list[psutil.Process]:
    family = scene.system.family(scene.worker)
    if part == "family":
        return family
    one = {"parent": lambda: family[0] if family else None, "child": lambda: scene.system.child(scene.worker),
           "lease": lambda: scene.system.lease(scene.worker)}[part]()  # fmt: skip
    return [one] if one is not None else []


def _signal(part: str, how: signal.Signals) -> Callable[[Scene], None]:
    return lambda scene: send(_part(scene, part), how)


def _freeze(part: str, seconds: str) -> Callable[[Scene], None]:
    def strike(scene: Scene) -> None:
        with scene.system.frozen(_part(scene, part)):
            time.sleep(scene.between(getattr(scene.pace, seconds)))

    return strike


def _kill_while_it_drains(scene: Scene) -> None:
    family = _part(scene, "family")
    send(family[:1], signal.SIGTERM)
    time.sleep(scene.between((0.1, 1.5)))
    send(family, signal.SIGKILL)


def _rolling(scene: Scene) -> None:
    for worker in scene.system.workers:
        send([scene.system.program(worker)], signal.SIGTERM)


def _program(name: str, how: signal.Signals, whole: bool = False) -> Callable[[Scene], None]:
    def strike(scene: Scene) -> None:
        family = scene.system.family(name)
        send(family if whole else family[:1], how)

    return strike


def _freeze_program(name: str, seconds: str) -> Callable[[Scene], None]:
    def strike(scene: Scene) -> None:
        with scene.system.frozen(scene.system.family(name)):
            time.sleep(scene.between(getattr(scene.pace, seconds)))

    return strike


def _kill_what_serves(scene: Scene) -> None:
    send(scene.system.family("gateway")[-1:], signal.SIGKILL)


def _kill_redis(scene: Scene) -> None:
    send([scene.system.redis_server()], signal.SIGKILL)


def _freeze_redis(scene: Scene) -> None:
    server = scene.system.redis_server()
    with scene.system.frozen([server] if server else []):
        time.sleep(scene.between(scene.pace.store_away_s))


def _redis_says(*command: str, undo: tuple[str, ...] = ()) -> Callable[[Scene], None]:
    def strike(scene: Scene) -> None:
        with contextlib.suppress(redis.RedisError):  # it may be starting
            scene.system.redis_client().execute_command(*command)
        if undo:
            time.sleep(scene.between(scene.pace.store_away_s))
            with contextlib.suppress(redis.RedisError):
                scene.system.redis_client().execute_command(*undo)

    return strike


def _redis_host_gone(scene: Scene) -> None:
    host = scene.system.family("redis")[:1]
    send(host, signal.SIGUSR1)
    scene.note = f"{scene.pace.host_gone_s:g} s"
    time.sleep(scene.pace.host_gone_s)
    send(host, signal.SIGUSR2)


def _stop_postgres(how: signal.Signals) -> Callable[[Scene], None]:
    def strike(scene: Scene) -> None:
        scene.postgres.stop(how)
        time.sleep(scene.between(scene.pace.store_away_s))
        scene.postgres.start()

    return strike


def _freeze_postgres(seconds: str) -> Callable[[Scene], None]:
    def strike(scene: Scene) -> None:
        with scene.system.frozen(scene.postgres.processes()):
            time.sleep(scene.between(getattr(scene.pace, seconds)))

    return strike


def _terminate_backends(scene: Scene) -> None:
    scene.note = f"{scene.postgres.terminate_backends()} connections"


def _step_clock(scene: Scene) -> None:
    """An hour on or back; from an hour off always back to the right time."""
    offset = 0 if scene.postgres.offset else scene.draw.choice((-HOUR, HOUR))
    scene.note = f"{offset - scene.postgres.offset:+d} s"
    scene.postgres.set_clock(offset)


def _lock_sqlite(seconds: str) -> Callable[[Scene], None]:
    return lambda scene: scene.sqlite.lock(scene.between(getattr(scene.pace, seconds)))


def _suspend_everything(scene: Scene) -> None:
    processes = scene.system.everything()
    scene.draw.shuffle(processes)
    with scene.system.frozen(processes):
        time.sleep(scene.between(scene.pace.beyond_lease_s))


KILL, TERM = signal.SIGKILL, signal.SIGTERM
KINDS = (
    Kind("child killed", "worker", _signal("child", KILL), may_charge=True, times=2),
    Kind("worker killed", "worker", _signal("parent", KILL), may_charge=True),
    Kind("lease process killed", "worker", _signal("lease", KILL), may_charge=True),
    Kind("worker and all its processes killed", "worker", _signal("family", KILL), may_charge=True),
    Kind("worker killed while it drains", "worker", _kill_while_it_drains, may_charge=True),
    Kind("child terminated", "worker", _signal("child", TERM), may_charge=True),
    Kind("worker terminated", "worker", _signal("parent", TERM), times=2),
    Kind("lease process terminated", "worker", _signal("lease", TERM)),
    Kind("child frozen shortly", "worker", _freeze("child", "short_s")),
    Kind("worker frozen shortly", "worker", _freeze("family", "short_s")),
    Kind("child frozen beyond the lease", "worker", _freeze("child", "beyond_lease_s"), may_charge=True),
    Kind("parent frozen beyond the lease", "worker", _freeze("parent", "beyond_lease_s")),
    Kind("lease process frozen shortly", "worker", _freeze("lease", "short_s")),
    Kind("lease process frozen beyond the lease", "worker", _freeze("lease", "beyond_lease_s"), may_charge=True),
    Kind("worker frozen beyond the lease", "worker", _freeze("family", "beyond_lease_s"), may_charge=True),
    Kind("all workers terminated", "fleet", _rolling),
    Kind("gateway killed", "gateway", _program("gateway", KILL)),
    Kind("gateway and its processes killed", "gateway", _program("gateway", KILL, whole=True)),
    Kind("gateway's serving process killed", "gateway", _kill_what_serves),
    Kind("gateway terminated", "gateway", _program("gateway", TERM)),
    Kind("gateway frozen", "gateway", _freeze_program("gateway", "beyond_lease_s")),
    Kind("reconciler killed", "reconciler", _program("reconciler", KILL)),
    Kind("reconciler terminated", "reconciler", _program("reconciler", TERM)),
    Kind("reconciler frozen", "reconciler", _freeze_program("reconciler", "beyond_lease_s")),
    Kind("Redis killed", "redis", _kill_redis),
    Kind("Redis frozen", "redis", _freeze_redis),
    Kind("Redis flushed", "redis", _redis_says("FLUSHALL")),
    Kind("Redis full", "redis", _redis_says("CONFIG", "SET", "maxmemory", "1",
                                            undo=("CONFIG", "SET", "maxmemory", "0"))),
    Kind("Redis a replica", "redis", _redis_says("REPLICAOF", "127.0.0.1", "1", undo=("REPLICAOF", "NO", "ONE"))),
    Kind("Redis's host gone", "redis", _redis_host_gone),
    Kind("PostgreSQL killed", "store", _stop_postgres(KILL), "postgresql"),
    Kind("PostgreSQL stopped at once", "store", _stop_postgres(signal.SIGQUIT), "postgresql"),
    Kind("PostgreSQL started again", "store", _stop_postgres(signal.SIGINT), "postgresql"),
    Kind("PostgreSQL frozen", "store", _freeze_postgres("store_away_s"), "postgresql"),
    Kind("PostgreSQL frozen beyond the lease", "store", _freeze_postgres("beyond_lease_s"), "postgresql"),
    Kind("PostgreSQL's connections ended", "store", _terminate_backends, "postgresql"),
    Kind("PostgreSQL's clock stepped by an hour", "store", _step_clock, "postgresql", times=2),
    Kind("SQLite locked", "store", _lock_sqlite("store_away_s"), "sqlite"),
    Kind("SQLite locked beyond the lease", "store", _lock_sqlite("beyond_lease_s"), "sqlite"),
    Kind("everything suspended", "everything", _suspend_everything),
)  # fmt: skip


def deck(store: str) -> list[Kind]:
    """Every kind that there is on this store, as often as it comes."""
    return [kind for kind in KINDS if kind.store in ("", store) for _ in range(kind.times)]
