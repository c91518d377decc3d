"""Clients from outside: they post jobs over HTTP with an Idempotency-Key, and again until they are
answered."""

from __future__ import annotations

import contextlib
import random
import threading
import time
import uuid
from typing import Any

import httpx

from tests.chaos.storm.journal import Journal
from tests.chaos.storm.settings import Piece
from tests.chaos.storm.system import Served
from tests.support.tiny_chain import DATA, MODEL

AGAIN = (429, 502, 503, 504)  # answers that say: try again
AUDIT: dict[str, Any] = {
    "dataset": DATA, "model": MODEL, "pretrain": {"epochs": 1}, "train": {"size": 12}, "forget": {"deletions": 3},
    "unlearning": ["gradient_ascent"], "attacks": ["label_inference"], "evaluate": {"decoys": 5},
}  # fmt: skip


class Clients:
    """Several clients, each with its own draw; what they do is noted in the journal.

    A line `post` is an answer (or none) to a POST of a job or an audit, `action` one to a cancel,
    retry, pause or resume, `asked` says what a key was for.
    """

    def __init__(self, system: Served, piece: Piece, journal: Journal) -> None:
        self.system, self.piece, self.journal = system, piece, journal
        self.ended = threading.Event()
        self.live = 0  # jobs that wait or run, as last heard
        self.threads = [threading.Thread(target=self._watch, name="watch", daemon=True)]
        for n in range(piece.pace.clients):
            self.threads.append(
                threading.Thread(target=self._client, args=(n,), name=f"client {n}", daemon=True)
            )
        if piece.pace.audit_every_s is not None:
            self.threads.append(threading.Thread(target=self._auditor, name="auditor", daemon=True))
        self.later: list[threading.Thread] = []
        self.broken: list[BaseException] = []

    def start(self) -> None:
        for thread in self.threads:
            thread.start()

    def wait(self) -> None:
        """Return when as many posts were accepted as a piece needs: where a slow machine keeps the
        gateway away for most of a storm, clients come to their turn after it."""
        until = time.monotonic() + self.piece.pace.settle_s
        while (
            self._accepted() < self.piece.pace.least_accepted
            and not self.broken
            and time.monotonic() < until
        ):
            time.sleep(0.5)

    def _accepted(self) -> int:
        return len({line["id"] for line in self.journal.lines("post") if line["id"]})

    def end(self) -> None:
        """Post nothing new; return when all that was begun has been answered.

        Raises:
            RuntimeError: a client broke, which is an error of the storm.
        """
        self.ended.set()
        for thread in [*self.threads, *self.later]:
            thread.join(timeout=self.piece.pace.settle_s)
            if thread.is_alive():
                self.broken.append(
                    TimeoutError(
                        f"{thread.name} was not answered in {self.piece.pace.settle_s:g} s"
                    )
                )
        if self.broken:
            raise RuntimeError("a client broke") from self.broken[0]

    def _watch(self) -> None:
        with self.system.http() as http:
            while not self.ended.wait(0.5):
                with contextlib.suppress(httpx.HTTPError):
                    counts = [
                        q["counts"]
                        for q in http.get("/v1/queues").raise_for_status().json()["items"]
                    ]
                    self.live = sum(
                        c.get(s, 0) for c in counts for s in ("waiting", "queued", "running")
                    )

    def _client(self, number: int) -> None:
        draw, pace = random.Random(f"client {self.piece.seed} {number}"), self.piece.pace
        try:
            with self.system.http() as http:
                while not self.ended.wait(draw.expovariate(pace.jobs_per_s / pace.clients)):
                    if self.live < pace.max_live:
                        self._post_something(http, draw)
        except BaseException as error:
            self.broken.append(error)

    def _auditor(self) -> None:
        draw, every = random.Random(f"audits {self.piece.seed}"), self.piece.pace.audit_every_s
        assert every is not None
        seed = 0
        try:
            with self.system.http(60) as http:
                while True:
                    seed += 1
                    key = str(uuid.UUID(int=draw.getrandbits(128)))
                    self.journal.note("asked", key=key, tag=key, wish="audit")
                    self._post(
                        http, "/v1/audits", {"name": f"audit {seed}", "seeds": [seed], **AUDIT}, key
                    )
                    if self.ended.wait(every):
                        return
        except BaseException as error:
            self.broken.append(error)

    def _post_something(self, http: httpx.Client, draw: random.Random) -> None:
        action, medium, long, deaf = draw.random(), *self.piece.pace.shares
        (kind,) = draw.choices(
            ("short", "medium", "long", "deaf"), (1 - medium - long - deaf, medium, long, deaf)
        )
        params: dict[str, Any] = {
            "short": {"steps": draw.randint(0, 3), "seconds": round(draw.uniform(0, 0.1), 3)},
            "medium": {"steps": draw.randint(5, 15), "seconds": 0.2},
            "long": {"steps": int(draw.uniform(*self.piece.pace.long_job_s) / 0.2), "seconds": 0.2},
            "deaf": {"steps": 1, "seconds": round(draw.uniform(1, 4), 1), "deaf": True},
        }[kind]
        options: dict[str, Any] = {"seed": draw.randint(0, 1000)}
        if draw.random() < 0.1:
            options["priority"] = draw.randint(1, 5)
        wish = "succeed"
        if action < 0.02:
            params["fail"], wish = "as was asked", "fail"
        parent = self._job(http, draw, params, options, wish)
        if parent is None:
            return
        if 0.02 <= action < 0.12:  # a chain
            child = self._job(
                http, draw, {"steps": 1, "seconds": 0.05}, {"inputs": {"SLEPT": parent}}, "succeed"
            )
            if child and action < 0.07:
                self._job(http, draw, {"steps": 0}, {"inputs": {"SLEPT": child}}, "succeed")
        if 0.10 <= action < 0.16:
            self._later(
                draw.uniform(0, 3), "cancel", parent, *(("retry",) if action < 0.14 else ())
            )
        elif 0.16 <= action < 0.19:
            self._later(0, "pause", parent, "resume")

    def _job(
        self,
        http: httpx.Client,
        draw: random.Random,
        params: dict[str, Any],
        options: dict[str, Any],
        wish: str,
    ) -> str | None:
        """Post one, and sometimes once more with the same key; its id."""
        key = str(uuid.UUID(int=draw.getrandbits(128)))
        body = {
            "stage": "sleep",
            "params": {**params, "tag": key, "ledger": str(self.system.effects)},
            **options,
        }
        self.journal.note(
            "asked", key=key, tag=key, wish=wish, inputs=list(options.get("inputs", {}).values())
        )
        job = self._post(http, "/v1/jobs", body, key)
        if draw.random() < 0.03:
            self._post(http, "/v1/jobs", body, key)
        return job

    def _post(self, http: httpx.Client, path: str, body: dict[str, Any], key: str) -> str | None:
        """Until it is answered for good; the id, None if it was refused."""
        pause = 0.1
        while True:
            status, answer = send(http, path, body, {"Idempotency-Key": key})
            in_flight = status == 409 and any(
                w in str(answer.get("detail")) for w in ("Idempotency-Key", "again")
            )
            self.journal.note(
                "post", key=key, status=status, id=answer.get("id"), detail=answer.get("detail")
            )
            if status == 202:
                return str(answer["id"])
            if status is not None and status not in AGAIN and not in_flight and status != 500:
                return None
            time.sleep(pause)
            pause = min(2.0, pause * 2)

    def _later(self, seconds: float, action: str, job: str, then: str | None = None) -> None:
        thread = threading.Thread(
            target=self._act, args=(seconds, action, job, then), name=f"{action} {job}"
        )
        thread.daemon = True
        self.later.append(thread)
        thread.start()

    def _act(self, seconds: float, action: str, job: str, then: str | None) -> None:
        time.sleep(seconds)
        try:
            with self.system.http() as http:
                accepted = act(http, self.journal, job, action)
                # also after a refusal: the answer to the pause may have been lost
                if then == "resume":
                    time.sleep(1)
                    act(http, self.journal, job, then)
                elif then == "retry" and accepted and ended(http, job, self.piece.pace.settle_s):
                    act(http, self.journal, job, then)
        except BaseException as error:
            self.broken.append(error)


def send(
    http: httpx.Client,
    path: str,
    body: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int | None, dict[str, Any]]:
    """One POST; its status and JSON, (None, why) when there was no answer."""
    try:
        answer = http.post(path, json=body, headers=headers)
    except httpx.TransportError as error:
        return None, {"detail": f"{type(error).__name__}: {error}"}
    try:
        return answer.status_code, answer.json()
    except ValueError:
        return answer.status_code, {"detail": answer.text[:500]}


def act(http: httpx.Client, journal: Journal, job: str, action: str) -> bool:
    """Ask for it until the answer is for good; whether it was accepted. Before a retry the lost
    attempts are noted, for it sets their count back."""
    pause, lost = 0.1, 0
    while True:
        if action == "retry":
            with contextlib.suppress(httpx.HTTPError):
                lost = http.get(f"/v1/jobs/{job}").raise_for_status().json()["lost_count"]
        status, answer = send(http, f"/v1/jobs/{job}/{action}")
        journal.note(
            "action", job=job, action=action, status=status, lost=lost, detail=answer.get("detail")
        )
        if status is not None and status not in AGAIN and status != 500:
            return status == 202
        time.sleep(pause)
        pause = min(2.0, pause * 2)


def ended(http: httpx.Client, job: str, seconds: float) -> bool:
    """Wait until the job has ended; whether it has."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(httpx.HTTPError):
            if http.get(f"/v1/jobs/{job}").raise_for_status().json()["state"] in (
                "succeeded",
                "failed",
                "cancelled",
            ):
                return True
        time.sleep(0.3)
    return False
