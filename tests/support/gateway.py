"""A gateway over a real job store, with a hand-made catalog, and a worker that is the test itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
from flask.testing import FlaskClient

from services.gateway.app import create_app
from services.gateway.bridge import Bridge
from services.gateway.deps import GatewayDeps, StreamTimes
from shared.artifacts import ArtifactStore
from shared.catalog import Catalog, Entry
from shared.config import Settings
from shared.jobs import claims, completion, fleet
from shared.jobs.database import Database
from shared.jobs.dispatch import Dispatcher
from shared.jobs.migrations import migrate
from shared.jobs.queue import MemoryBell, Ringer
from shared.jobs.records import Artifact, Claim
from shared.jobs.states import Failure
from shared.roles import Role
from tests.support.servers import free_port
from tests.support.waiting import PATIENCE, wait_for
from tests.support.wirings import WIRINGS

TOKEN = "a-token-for-tests"
TENANT = "local"


def _schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _number(default: float, low: float, high: float) -> dict[str, Any]:
    return {"type": "number", "default": default, "minimum": low, "maximum": high}


def _integer(default: int, low: int, high: int) -> dict[str, Any]:
    return {"type": "integer", "default": default, "minimum": low, "maximum": high}


def _plugin(kind: str) -> dict[str, Any]:
    return {"type": "object", "x-plugin": kind}


def a_catalog(code: str = "1") -> Catalog:
    """A stage `sleep` of its own, and stand-ins for what an audit is made of."""
    data, model = _plugin("dataset"), _plugin("model")
    entries = [
        Entry(kind="stage", name="sleep", summary="Sleep.", uses=["BASE"], produces=["BASE"],
              params_schema=_schema(seconds=_number(1.0, 0, 3600), note={"type": "string", "default": ""})),
        Entry(kind="stage", name="pretrain", summary="Pretrain.", produces=["BASE"],
              params_schema=_schema(dataset=data, model=model, epochs=_integer(1, 1, 100))),
        Entry(kind="stage", name="train", summary="Train.", needs=["BASE"], produces=["ORIGINAL", "TRAINING_SET"],
              params_schema=_schema(dataset=data, size=_integer(32, 1, 1000))),
        Entry(kind="stage", name="unlearn", summary="Unlearn.", methods="unlearning", needs=["ORIGINAL"],
              uses=["BASE"], produces=["UNLEARNED", "FORGET_SETS"],
              params_schema=_schema(deletions=_integer(1, 1, 100), size=_integer(1, 1, 100))),
        Entry(kind="stage", name="attack", summary="Attack.", methods="attack", produces=["RECONSTRUCTION"],
              params_schema=_schema()),
        Entry(kind="stage", name="defend", summary="Defend.", methods="defense", needs=["UNLEARNED"],
              produces=["RELEASED"], params_schema=_schema()),
        Entry(kind="stage", name="evaluate", summary="Evaluate.", uses=["RECONSTRUCTION", "UNLEARNED"],
              produces=["EVALUATION"], params_schema=_schema()),
        Entry(kind="stage", name="report", summary="Report.", many=["EVALUATION"], produces=["REPORT"],
              traits={"tolerant": True}, params_schema=_schema(
                  audit={"type": "object", "default": {}}, rows={"type": "array", "default": []})),
        Entry(kind="defense", name="none", summary="Nothing.", params_schema=_schema()),
        Entry(kind="unlearning", name="ascent", summary="One step up.", traits={"exact": False},
               params_schema=_schema(rate=_number(0.1, 0, 1))),
        Entry(kind="unlearning", name="retrain", summary="Again.", traits={"exact": True},
               needs=["BASE"], params_schema=_schema()),
        Entry(kind="attack", name="invert", summary="Match gradients.", traits={"access": "white_box"},
               needs=["ORIGINAL", "UNLEARNED"],
              params_schema=_schema(iterations=_integer(100, 1, 10_000))),
        Entry(kind="dataset", name="digits", summary="Digits.", params_schema=_schema()),
        Entry(kind="model", name="mlp", summary="A small one.", params_schema=_schema(width=_integer(16, 1, 512))),
    ]  # fmt: skip
    wired = {e.name: WIRINGS.get(e.name) for e in entries if e.kind == "stage"}
    return Catalog(
        e.model_copy(update={"code": code, "wiring": wired.get(e.name) if e.kind == "stage" else None}) for e in entries
    )


AN_AUDIT: dict[str, Any] = {
    "name": "two methods",
    "dataset": "digits",
    "model": {"name": "mlp", "params": {"width": 8}},
    "unlearning": ["ascent", "retrain"],
    "attacks": ["invert"],
    "seeds": [0, 1],
}
# pretrain; per seed train; per method unlearn, defend, evaluate, attack, evaluate; report
AUDIT_JOBS = 1 + 2 * (1 + 2 * 5) + 1


class HandWorker:
    """Claims and finishes jobs as a worker process would, one call at a time."""

    def __init__(self, db: Database, artifacts: ArtifactStore, name: str = "hand") -> None:
        self.db, self.artifacts, self.name = db, artifacts, name
        catalog = a_catalog()
        self.stages = catalog.names("stage")
        self.dispatcher = Dispatcher(db, name, self.stages, catalog.plugins)
        fleet.register(
            db, name, host="here", pid=1, stages=tuple(self.stages), device="cpu", threads=1,
            versions={"torch": "none"}, catalog=catalog.digest,
        )  # fmt: skip

    def claim_if_any(self) -> Claim | None:
        return self.dispatcher.claim(60, secrets.token_hex(8))

    def claim(self) -> Claim:
        found = self.claim_if_any()
        assert found is not None, "nothing is queued"
        return found

    def progress(self, claim: Claim, done: int, total: int, **numbers: float) -> None:
        assert claims.renew(self.db, claim.job.id, claim.fence, 60, {"done": done, "total": total, **numbers})

    def finish(self, claim: Claim, data: bytes = b"{}", media_type: str = "application/json") -> str:
        """The same bytes in every role it makes, but for a page; their sha256."""
        sha256 = self.artifacts.put(data)
        made = [Artifact(role, sha256, len(data), media_type) for role in claim.job.produces]
        if Role.REPORT_HTML in claim.job.produces:  # a page is other bytes than the report that it shows
            page = b"<!doctype html>" + data
            made = [one for one in made if one.role != Role.REPORT_HTML]
            made.append(Artifact(Role.REPORT_HTML, self.artifacts.put(page), len(page), "text/html"))
        completion.finish(self.db, claim.job.id, claim.fence, made, content_key=claim.job.plan_key, code=claim.job.code)
        return sha256

    def fail(self, claim: Claim, message: str = "it broke") -> None:
        claims.fail(self.db, claim.job.id, claim.fence, Failure.ERROR, message)

    def run_all(self) -> int:
        """Finish whatever is queued, and what that releases; how many."""
        count = 0
        while found := self.claim_if_any():
            self.finish(found, found.job.id.encode(), "application/octet-stream")
            count += 1
        return count

    @contextlib.contextmanager
    def running_what_comes(self) -> Iterator[None]:
        """Beside what the caller does: wait for a job to be queued, finish it and what it releases."""
        thread = threading.Thread(target=lambda: wait_for(self.run_all, PATIENCE, "a job is queued"))
        thread.start()
        yield
        thread.join()


class GatewayInProcess:
    """The app over a file of SQLite, artifacts in memory and a bell that remembers."""

    def __init__(
        self, folder: Path, *, publish: bool = True, times: StreamTimes | None = None, **settings: Any
    ) -> None:
        self.db = Database(f"sqlite:///{folder}/palimpsest.db")
        migrate(self.db)
        if publish:
            fleet.publish(self.db, a_catalog())
        self.artifacts = ArtifactStore.from_url("memory://")
        self.bell = MemoryBell()
        self.ringer = Ringer(self.bell)
        # a broker that is not there: nothing may need it
        chosen = {"token": TOKEN, "tenant": TENANT, "broker_url": "redis://127.0.0.1:1/0", **settings}
        self.settings = Settings(**chosen)
        times = times or StreamTimes(poll=0.02, heartbeat=0.2, longest=1.0)
        self.app = create_app(GatewayDeps(self.db, self.artifacts, self.ringer, self.settings, times))
        self.http = Signed(self.app.test_client())

    @contextlib.asynccontextmanager
    async def served(self) -> AsyncIterator[httpx.AsyncClient]:
        """The app as a server has it, with the token in every request: event streams go on."""
        transport = httpx.ASGITransport(Bridge(self.app, threads=4))
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
            yield client

    def follow(self, path: str) -> httpx.Response:
        """A whole event stream, once it has ended."""

        async def get() -> httpx.Response:
            async with self.served() as client:
                return await client.get(path, headers={"Accept": "text/event-stream"})

        return asyncio.run(get())

    def worker(self) -> HandWorker:
        return HandWorker(self.db, self.artifacts)

    def post(self, body: Any = None, status: int = 202, **headers: str) -> dict[str, Any]:
        """POST /v1/jobs, `{"stage": "sleep"}` unless said otherwise; the answer's body."""
        answer = self.http.post("/v1/jobs", json={"stage": "sleep"} if body is None else body, headers=headers)
        assert answer.status_code == status, answer.get_data(as_text=True)
        return dict(answer.get_json())

    def close(self) -> None:
        self.ringer.close()
        self.db.close()


class Signed:
    """Flask's test client with the token in every request."""

    def __init__(self, client: FlaskClient) -> None:
        self.client = client

    def _do(self, method: str, path: str, headers: Mapping[str, str] | None = None, **options: Any) -> Any:
        signed = {"Authorization": f"Bearer {TOKEN}", **(headers or {})}
        return self.client.open(path, method=method, headers=signed, **options)

    def get(self, path: str, **options: Any) -> Any:
        return self._do("GET", path, **options)

    def post(self, path: str, **options: Any) -> Any:
        return self._do("POST", path, **options)


class GatewayProcess:
    """The gateway as it is served, in a process of its own; it can be killed and started again."""

    def __init__(self, folder: Path, **env: str) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.db = Database(f"sqlite:///{folder}/palimpsest.db")
        migrate(self.db)
        fleet.publish(self.db, a_catalog())
        self.artifacts = ArtifactStore.from_url(f"file://{folder}/artifacts")
        outside = {k: v for k, v in os.environ.items() if not k.startswith("PALIMPSEST_")}
        self.env = {
            **outside,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "PALIMPSEST_DATABASE_URL": f"sqlite:///{folder}/palimpsest.db",
            "PALIMPSEST_ARTIFACTS_URL": f"file://{folder}/artifacts",
            "PALIMPSEST_BROKER_URL": "redis://127.0.0.1:1/0",
            "PALIMPSEST_TOKEN": TOKEN,
            **env,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, **env: str) -> GatewayProcess:
        command = [sys.executable, "-m", "services.gateway", "--port", str(self.port), "--processes", "1"]
        with (self.folder / "gateway.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, env={**self.env, **env}, cwd=self.folder, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

        def answers() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return httpx.get(f"{self.url}/livez", trust_env=False).is_success
            assert self.process is not None
            assert self.process.poll() is None, (self.folder / "gateway.log").read_text()
            return False

        wait_for(answers, PATIENCE, "the gateway answers")
        return self

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                # SIGTERM is for the one that tells its children; SIGKILL is a power cut
                os.killpg(self.process.pid, how) if how is signal.SIGKILL else self.process.send_signal(how)
            self.process.wait(timeout=PATIENCE)
            self.process = None

    def worker(self) -> HandWorker:
        return HandWorker(self.db, self.artifacts)

    def client_env(self) -> dict[str, str]:
        """For a command line that is to find this gateway."""
        return {**self.env, "PALIMPSEST_URL": self.url}


@contextlib.contextmanager
def gateway_process(folder: Path, **env: str) -> Iterator[GatewayProcess]:
    """A served gateway; it ends with the context."""
    gateway = GatewayProcess(folder, **env)
    try:
        yield gateway.start()
    finally:
        gateway.stop()
        gateway.db.close()
