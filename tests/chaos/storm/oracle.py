"""Judges a history: what the clients were promised against what the API and the log of effects say
at the end.

As in Jepsen's total-queue: what was accepted is there and has ended, once, and nothing else is
there.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from shared.jobs.states import TRANSITIONS
from tests.chaos.storm.charges import Charge, charges
from tests.chaos.storm.history import LIVE, UNSUCCESSFUL, Attempt, History, JobHistory

LEGAL = {(str(before), str(to)) for before, to in TRANSITIONS}
NEAR_S = 60.0
KINDS = ("lost", "doubled", "stuck", "unexpected", "charged")


@dataclass(frozen=True)
class Finding:
    """Something that must not be; `kind` is one of KINDS."""

    kind: str
    text: str
    job: JobHistory | None = None

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}" + (f"\n{self.job.describe()}" if self.job else "")


Line = dict[str, Any]


class Oracle:
    """`findings` looks at everything; `lines` are the journal's."""

    def __init__(self, history: History, lines: list[Line], lease_s: float) -> None:
        self.history = history
        self.by_id = {j.id: j for j in history.jobs}
        self.by_tag: dict[str, list[JobHistory]] = defaultdict(list)
        for job in history.jobs:
            self.by_tag[job.tag or ""].append(job)
        self.asked: dict[str, Line] = {
            line["key"]: line for line in lines if line["what"] == "asked"
        }
        self.posts: dict[str, list[Line]] = defaultdict(list)
        for line in lines:
            if line["what"] == "post":
                self.posts[line["key"]].append(line)
        self.actions: dict[str, list[Line]] = defaultdict(list)
        for line in lines:
            if line["what"] == "action":
                self.actions[line["job"]].append(line)
        self.faults = [line for line in lines if line["what"] == "fault"]
        self.charges: list[Charge] = charges(history, lines, lease_s)

    def findings(self) -> list[Finding]:
        """All of them."""
        looks = (
            self._posts,
            self._ends,
            self._strangers,
            self._chains,
            self._effects,
            self._charges,
            self._workers,
        )
        return [finding for look in looks for finding in look()]

    def accepted(self, key: str) -> set[str]:
        """The ids that a key was answered with."""
        return {line["id"] for line in self.posts[key] if line["status"] == 202}

    def was(self, job: str, action: str) -> bool:
        """Whether that was asked for and accepted; an answer may have been lost, so unanswered
        counts as well."""
        return any(
            a["action"] == action and a["status"] in (None, 202, 500, 502, 503, 504)
            for a in self.actions[job]
        )

    def _posts(self) -> Iterator[Finding]:
        there = set(self.by_id) | {a["id"] for a in self.history.audits}
        for key, asked in self.asked.items():
            ids = self.accepted(key)
            for missing in sorted(ids - there):
                yield Finding("lost", f"{missing} was accepted (key {key}) and is not there")
            if len(ids) > 1:
                yield Finding("doubled", f"key {key} was answered with {sorted(ids)}")
            if asked["wish"] != "audit" and len(found := self.by_tag.get(asked["tag"], [])) > 1:
                yield Finding("doubled", f"{[j.id for j in found]} were made of one POST", found[0])
            for line in self.posts[key]:
                if line["status"] == 500:
                    yield Finding("unexpected", f"a POST was answered with 500: {line['detail']}")
            if not ids and not self._may_be_refused(asked):
                yield Finding("unexpected", f"never accepted: {self.posts[key][-1:]} for {asked}")
        for lines in self.actions.values():
            for line in lines:
                if line["status"] == 500:
                    yield Finding(
                        "unexpected", f"{line['action']} was answered with 500: {line['detail']}"
                    )

    def _may_be_refused(self, asked: Line) -> bool:
        """A job whose input has failed or was cancelled, or is about to be."""
        return any(
            self._ended_badly_once(i) or self.was(i, "cancel") for i in asked.get("inputs", ())
        )

    def _ended_badly_once(self, job: str) -> bool:
        return job in self.by_id and any(s.to in UNSUCCESSFUL for s in self.by_id[job].steps)

    def _ends(self) -> Iterator[Finding]:
        for job in self.history.jobs:
            state = job.view["state"]
            if state in LIVE:
                yield Finding("stuck", f"{job.id} is still {state}", job)
            elif state != "succeeded" and not self._may_end(job):
                yield Finding(
                    "unexpected",
                    f"{job.id} {state}: {job.view['failure']} {job.view['message']}",
                    job,
                )
            wish = self.asked.get(job.tag or "", {}).get("wish")
            if state == "succeeded" and wish == "fail":
                yield Finding("unexpected", f"{job.id} was to fail and succeeded", job)
        for audit in self.history.audits:
            if audit["state"] in ("queued", "running"):
                yield Finding("stuck", f"audit {audit['id']} is still {audit['state']}")

    def _may_end(self, job: JobHistory) -> bool:
        """Whether somebody asked for this end, or it follows from faults that may end it."""
        failure, state = job.view["failure"], job.view["state"]
        if state == "cancelled":
            return self.was(job.id, "cancel")
        if failure == "error":
            return self.asked.get(job.tag or "", {}).get("wish") == "fail"
        if failure == "input_failed":
            inputs = [i["job"] for i in job.view["inputs"].values() if "job" in i]
            return any(self._ended_badly_once(i) for i in inputs)
        # as often as it may be lost: whether each loss was rightly charged is looked at elsewhere
        return bool(failure == "lost_worker")

    def _strangers(self) -> Iterator[Finding]:
        audits = {
            a
            for key, asked in self.asked.items()
            if asked["wish"] == "audit"
            for a in self.accepted(key)
        }
        for job in self.history.jobs:
            if job.tag not in self.asked and not audits & set(job.view["audits"]):
                yield Finding("unexpected", f"nobody posted {job.id} ({job.view['stage']})", job)

    def _chains(self) -> Iterator[Finding]:
        for job in self.history.jobs:
            yield from (Finding("unexpected", f"{job.id}: {why}", job) for why in broken_chain(job))

    def _effects(self) -> Iterator[Finding]:
        done: dict[str, set[str]] = defaultdict(set)
        for effect in self.history.effects:
            done[effect["tag"]].add(effect["sha256"])
        for tag, digests in done.items():
            jobs = self.by_tag.get(tag, [])
            if not jobs:
                yield Finding("unexpected", f"work was done for {tag}, which is not there")
            elif len(digests) > 1:
                yield Finding(
                    "doubled",
                    f"attempts of {jobs[0].id} came to {len(digests)} different results",
                    jobs[0],
                )
        for job in self.history.jobs:
            if job.view["state"] != "succeeded" or job.tag not in self.asked:
                continue
            artifacts = {a["sha256"] for a in job.view["artifacts"].values()}
            if not artifacts or not artifacts <= done[job.tag or ""]:
                yield Finding(
                    "unexpected", f"{job.id} succeeded with {artifacts}, which no attempt made", job
                )

    def _charges(self) -> Iterator[Finding]:
        for charge in self.charges:
            if charge.unmatched:
                near = "".join(
                    f"\n    {describe_fault(f)}"
                    for a in charge.job.attempts
                    if a.lost
                    for f in self._near(a)
                )
                text = (
                    f"{charge.job.id}: {charge.unmatched} of {charge.counted} without cause; "
                    f"faults at that time:{near}"
                )
                yield Finding("charged", text, charge.job)

    def _near(self, attempt: Attempt) -> list[Line]:
        """Faults from a little before a lost attempt to its end: one of them is what it was wrongly
        charged for."""
        assert attempt.end is not None
        return [
            f
            for f in self.faults
            if f["ended"] > attempt.began - NEAR_S and f["began"] < attempt.end.at
        ]

    def _workers(self) -> Iterator[Finding]:
        there = {worker["id"].partition("@")[0] for worker in self.history.workers}
        for name in self.history.served:
            if name not in there:
                yield Finding("stuck", f"worker {name} is not there any more")
        for worker in self.history.workers:
            if not worker["live"] or worker["drain"]:
                what = "is to drain" if worker["drain"] else "is not live"
                yield Finding("stuck", f"worker {worker['id']} {what}: it takes no job any more")


def describe_fault(fault: Line) -> str:
    """A fault in a line."""
    return f"{fault['began']:.2f} to {fault['ended']:.2f} {fault['kind']} {fault['worker']} {fault['note']}"


def broken_chain(job: JobHistory) -> Iterator[str]:
    """What is illegal in a job's events."""
    seqs = [e["seq"] for e in job.events]
    if seqs != list(range(1, len(seqs) + 1)):
        yield f"its events are numbered {seqs}"
    for before, after in zip(job.steps, job.steps[1:], strict=False):
        if after.before != before.to:
            yield f"event {after.seq} goes from {after.before}, the one before went to {before.to}"
    for step in job.steps:
        if step.before is not None and (step.before, step.to) not in LEGAL:
            yield f"event {step.seq} goes from {step.before} to {step.to}"
    if job.steps and job.steps[-1].to != job.view["state"]:
        yield f"it is {job.view['state']}, its last event says {job.steps[-1].to}"
    ends = Counter(s.to for s in job.steps)
    if ends["succeeded"] > 1:
        yield f"it succeeded {ends['succeeded']} times"
    if job.view["attempt"] != len(job.attempts):
        yield f"it counts {job.view['attempt']} attempts, its events {len(job.attempts)}"
