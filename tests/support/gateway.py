"""A gateway over a real job store with a hand-made catalog, and a worker that the test drives."""

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
from services.gateway.bridge import AsgiBridge
from services.gateway.deps import GatewayDeps, StreamTiming
from services.signing import load_configured_key
from shared.artifacts import ArtifactStore
from shared.catalog import Catalog, CatalogEntry
from shared.config import Settings
from shared.jobs import attempts, completion, worker_registry
from shared.jobs.database import Database
from shared.jobs.dispatch import Dispatcher
from shared.jobs.previews import record_preview
from shared.jobs.queue import InMemoryWakeup, WakeupSender
from shared.jobs.records import Artifact, Claim, JobCost
from shared.jobs.states import Failure
from shared.jobs.summaries import make_verdict_summary
from shared.roles import Role
from tests.support.migrated import open_migrated
from tests.support.noise import make_noise
from tests.support.servers import find_free_port
from tests.support.waiting import TIMEOUT_S, wait_for
from tests.support.wirings import WIRINGS

TOKEN = "a-token-for-tests"
TENANT = "local"
# of every report of a `ManualWorker`
VERDICT = make_verdict_summary("leaks", "Samples can be reconstructed.")


def _object_schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _number_schema(default: float, low: float, high: float) -> dict[str, Any]:
    return {"type": "number", "default": default, "minimum": low, "maximum": high}


def _integer_schema(default: int, low: int, high: int) -> dict[str, Any]:
    return {"type": "integer", "default": default, "minimum": low, "maximum": high}


def _plugin_schema(kind: str) -> dict[str, Any]:
    return {"type": "object", "x-plugin": kind}


def make_catalog(code: str = "1") -> Catalog:
    """A stage `sleep` of its own, and stand-ins for what an audit is made of."""
    data, model = _plugin_schema("dataset"), _plugin_schema("model")
    entries = [
        CatalogEntry(kind="stage", name="sleep", summary="Sleep.", uses=["BASE"], produces=["BASE"],
              params_schema=_object_schema(seconds=_number_schema(1.0, 0, 3600),
                                           note={"type": "string", "default": ""})),
        CatalogEntry(kind="stage", name="pretrain", summary="Pretrain.", produces=["BASE"],
              params_schema=_object_schema(dataset=data, model=model, epochs=_integer_schema(1, 1, 100))),
        CatalogEntry(kind="stage", name="train", summary="Train.", needs=["BASE"],
              produces=["ORIGINAL", "TRAINING_SET"],
              params_schema=_object_schema(dataset=data, size=_integer_schema(32, 1, 1000))),
        CatalogEntry(kind="stage", name="unlearn", summary="Unlearn.", methods="unlearning", needs=["ORIGINAL"],
              uses=["BASE"], produces=["UNLEARNED", "FORGET_SETS"],
              params_schema=_object_schema(deletions=_integer_schema(1, 1, 100), size=_integer_schema(1, 1, 100))),
        CatalogEntry(kind="stage", name="attack", summary="Attack.", methods="attack", produces=["RECONSTRUCTION"],
              params_schema=_object_schema()),
        CatalogEntry(kind="stage", name="defend", summary="Defend.", methods="defense", needs=["UNLEARNED"],
              produces=["RELEASED"], params_schema=_object_schema()),
        CatalogEntry(kind="stage", name="evaluate", summary="Evaluate.", uses=["RECONSTRUCTION", "UNLEARNED"],
              produces=["EVALUATION"], params_schema=_object_schema()),
        CatalogEntry(kind="stage", name="report", summary="Report.", many=["EVALUATION"], produces=["REPORT"],
              traits={"run_when": "all_finished"}, params_schema=_object_schema(
                  audit={"type": "object", "default": {}}, rows={"type": "array", "default": []})),
        CatalogEntry(kind="stage", name="inspect_model", summary="Inspect.", needs=["WEIGHTS"], produces=["INSPECTION"],
              params_schema={**_object_schema(
                  model=model, input_shape={"type": "array", "items": _integer_schema(1, 1, 4096)},
                  num_classes=_integer_schema(2, 2, 1000), mean={"default": None}, std={"default": None},
                  test={"anyOf": [data, {"type": "null"}], "default": None, "x-plugin": "dataset"})}),
        CatalogEntry(kind="stage", name="inspect_dataset", summary="Inspect.", produces=["INSPECTION"],
              params_schema=_object_schema(dataset=data, classes={"default": None})),
        CatalogEntry(kind="dataset", name="own", summary="Files.",
              params_schema=_object_schema(path={"type": "string", "x-data": True})),
        CatalogEntry(kind="defense", name="none", summary="Nothing.", params_schema=_object_schema()),
        CatalogEntry(kind="unlearning", name="ascent", summary="One step up.", traits={"exact": False},
               params_schema=_object_schema(rate=_number_schema(0.1, 0, 1))),
        CatalogEntry(kind="unlearning", name="retrain", summary="Again.", traits={"exact": True},
               needs=["BASE"], params_schema=_object_schema()),
        CatalogEntry(kind="attack", name="invert", summary="Match gradients.", traits={"access": "white_box"},
               needs=["ORIGINAL", "UNLEARNED"],
              params_schema=_object_schema(iterations=_integer_schema(100, 1, 10_000))),
        CatalogEntry(kind="dataset", name="digits", summary="Digits.", params_schema=_object_schema()),
        CatalogEntry(kind="model", name="mlp", summary="A small one.",
              params_schema=_object_schema(width=_integer_schema(16, 1, 512))),
    ]  # fmt: skip
    wirings = {e.name: WIRINGS.get(e.name) for e in entries if e.kind == "stage"}
    return Catalog(
        e.model_copy(
            update={"code": code, "wiring": wirings.get(e.name) if e.kind == "stage" else None}
        )
        for e in entries
    )


AUDIT: dict[str, Any] = {
    "name": "two methods",
    "dataset": "digits",
    "model": {"name": "mlp", "params": {"width": 8}},
    "unlearning": ["ascent", "retrain"],
    "attacks": ["invert"],
    "seeds": [0, 1],
}
# pretrain; per seed train; per method unlearn, defend, evaluate, attack, evaluate; report
AUDIT_JOB_COUNT = 1 + 2 * (1 + 2 * 5) + 1


class ManualWorker:
    """Claims and finishes jobs as a worker process would, one call at a time."""

    def __init__(self, db: Database, artifacts: ArtifactStore, name: str = "hand") -> None:
        self.db, self.artifacts, self.name = db, artifacts, name
        catalog = make_catalog()
        self.stages = catalog.list_names("stage")
        self.dispatcher = Dispatcher(db, name, self.stages, catalog.plugins)
        worker_registry.register_worker(
            db, name, host="here", pid=1, stages=tuple(self.stages), device="cpu", threads=1,
            versions={"torch": "none"}, catalog=catalog.digest,
        )  # fmt: skip

    def try_claim(self) -> Claim | None:
        return self.dispatcher.claim(60, secrets.token_hex(8))

    def claim(self) -> Claim:
        claim = self.try_claim()
        assert claim is not None, "nothing is queued"
        return claim

    def report_progress(self, claim: Claim, done: int, total: int, **numbers: float) -> None:
        assert attempts.renew_lease(
            self.db, claim.job.id, claim.fence, 60, {"done": done, "total": total, **numbers}
        )

    def show(self, claim: Claim, step: int, total: int, body: bytes | None = None) -> None:
        """What the attacker sees of its reconstruction."""
        picture = body or make_noise(step, total)
        record_preview(self.db, claim.job.id, claim.fence, picture, step, total)

    def finish(
        self,
        claim: Claim,
        data: bytes = b"{}",
        media_type: str = "application/json",
        cost: JobCost | None = None,
        summary: Mapping[str, Any] | None = None,
    ) -> str:
        """The same bytes in every role it makes, but for a page; their sha256."""
        sha256 = self.artifacts.put(data)
        artifacts = [Artifact(role, sha256, len(data), media_type) for role in claim.job.produces]
        # a page is other bytes than the report that it shows
        if Role.REPORT_HTML in claim.job.produces:
            page = b"<!doctype html>" + data
            artifacts = [one for one in artifacts if one.role != Role.REPORT_HTML]
            artifacts.append(
                Artifact(Role.REPORT_HTML, self.artifacts.put(page), len(page), "text/html")
            )
        completion.finish_job(
            self.db,
            claim.job.id,
            claim.fence,
            artifacts,
            cache_key=claim.job.request_key,
            code=claim.job.code,
            cost=cost,
            ran_on="cpu, 1 thread",
            summary=summary,
        )
        return sha256

    def fail(self, claim: Claim, message: str = "it broke") -> None:
        attempts.fail_attempt(self.db, claim.job.id, claim.fence, Failure.ERROR, message)

    def reject(self, claim: Claim, message: str) -> None:
        """Fail a job because of what it was given."""
        attempts.fail_attempt(self.db, claim.job.id, claim.fence, Failure.INVALID, message)

    def finish_all(self) -> int:
        """Finish whatever is queued, and what that releases; how many."""
        count = 0
        while claim := self.try_claim():
            summary = VERDICT if claim.job.stage == "report" else None
            data = claim.job.id.encode()
            self.finish(claim, data, "application/octet-stream", summary=summary)
            count += 1
        return count

    @contextlib.contextmanager
    def finish_in_background(self) -> Iterator[None]:
        """Beside what the caller does: wait for a job to be queued, finish it and what it
        releases."""
        thread = threading.Thread(
            target=lambda: wait_for(self.finish_all, TIMEOUT_S, "a job is queued")
        )
        thread.start()
        yield
        thread.join()


class GatewayInProcess:
    """The app over a SQLite file, artifacts in memory and a wake-up queue that records its
    calls."""

    def __init__(
        self,
        folder: Path,
        *,
        publish: bool = True,
        timing: StreamTiming | None = None,
        **settings: Any,
    ) -> None:
        self.db = open_migrated(folder / "palimpsest.db")
        if publish:
            worker_registry.publish_catalog(self.db, make_catalog())
        self.artifacts = ArtifactStore.from_url("memory://")
        self.wakeup_queue = InMemoryWakeup()
        self.wakeup_sender = WakeupSender(self.wakeup_queue)
        # a broker that is not there: nothing may need it
        values = {
            "token": TOKEN,
            "tenant": TENANT,
            "broker_url": "redis://127.0.0.1:1/0",
            **settings,
        }
        self.settings = Settings(**values)
        timing = timing or StreamTiming(poll_s=0.02, heartbeat_s=0.2, max_duration_s=1.0)
        self.app = create_app(
            GatewayDeps(
                self.db,
                self.artifacts,
                self.wakeup_sender,
                self.settings,
                timing,
                signing_key=load_configured_key(self.settings),
            )
        )
        self.http = AuthenticatedClient(self.app.test_client())

    @contextlib.asynccontextmanager
    async def serve(self, secret: str = TOKEN) -> AsyncIterator[httpx.AsyncClient]:
        """The app as a server has it, with the token or a key in every request: event streams go
        on."""
        transport = httpx.ASGITransport(AsgiBridge(self.app, threads=4))
        headers = {"Authorization": f"Bearer {secret}"}
        async with httpx.AsyncClient(
            transport=transport, base_url="http://localhost", headers=headers
        ) as client:
            yield client

    def follow(self, path: str) -> httpx.Response:
        """A whole event stream, once it has ended."""

        async def get() -> httpx.Response:
            async with self.serve() as client:
                return await client.get(path, headers={"Accept": "text/event-stream"})

        return asyncio.run(get())

    def make_worker(self) -> ManualWorker:
        return ManualWorker(self.db, self.artifacts)

    def post(self, body: Any = None, status: int = 202, **headers: str) -> dict[str, Any]:
        """POST /v1/jobs, `{"stage": "sleep"}` unless said otherwise; the answer's body."""
        answer = self.http.post(
            "/v1/jobs", json={"stage": "sleep"} if body is None else body, headers=headers
        )
        assert answer.status_code == status, answer.get_data(as_text=True)
        return dict(answer.get_json())

    def close(self) -> None:
        self.wakeup_sender.close()
        self.db.close()


class AuthenticatedClient:
    """Flask's test client with the token, or a key, in every request."""

    def __init__(self, client: FlaskClient, secret: str = TOKEN) -> None:
        self.client, self.secret = client, secret

    def _send(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, **options: Any
    ) -> Any:
        all_headers = {"Authorization": f"Bearer {self.secret}", **(headers or {})}
        return self.client.open(path, method=method, headers=all_headers, **options)

    def get(self, path: str, **options: Any) -> Any:
        return self._send("GET", path, **options)

    def delete(self, path: str, **options: Any) -> Any:
        return self._send("DELETE", path, **options)

    def post(self, path: str, **options: Any) -> Any:
        return self._send("POST", path, **options)

    def patch(self, path: str, **options: Any) -> Any:
        return self._send("PATCH", path, **options)


class GatewayProcess:
    """The gateway as it is served, in a process of its own; it can be killed and started again."""

    def __init__(self, folder: Path, **env: str) -> None:
        self.folder, self.port = folder, find_free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.db = open_migrated(folder / "palimpsest.db")
        worker_registry.publish_catalog(self.db, make_catalog())
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
        command = [
            sys.executable,
            "-m",
            "services.gateway",
            "--port",
            str(self.port),
            "--processes",
            "1",
        ]
        with (self.folder / "gateway.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, env={**self.env, **env}, cwd=self.folder, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

        def answers() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return httpx.get(f"{self.url}/livez", trust_env=False, verify=False).is_success
            assert self.process is not None
            assert self.process.poll() is None, (self.folder / "gateway.log").read_text()
            return False

        wait_for(answers, TIMEOUT_S, "the gateway answers")
        return self

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                # SIGTERM is for the one that tells its children; SIGKILL is a power cut
                os.killpg(
                    self.process.pid, how
                ) if how is signal.SIGKILL else self.process.send_signal(how)
            self.process.wait(timeout=TIMEOUT_S)
            self.process = None

    def make_worker(self) -> ManualWorker:
        return ManualWorker(self.db, self.artifacts)

    def make_client_env(self) -> dict[str, str]:
        """For a command line that is to find this gateway."""
        return {**self.env, "PALIMPSEST_URL": self.url}


@contextlib.contextmanager
def serve_gateway(folder: Path, **env: str) -> Iterator[GatewayProcess]:
    """A served gateway; it ends with the context."""
    gateway = GatewayProcess(folder, **env)
    try:
        yield gateway.start()
    finally:
        gateway.stop()
        gateway.db.close()
