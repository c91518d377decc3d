"""Where a new job's inputs can come from, given one job: itself, or what it was made of.

It does no I/O, so the sync and the async client share it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from services.client.errors import ClientError
from services.client.records import Job

Source = dict[str, str]
# What is released is what an attacker gets to see. A defense starts from what no other one has changed.
INSTEAD = {"UNLEARNED": "RELEASED"}
UNCHANGED = "defend"
APART = "JUDGE"  # what it came from is of another model: its BASE is nobody else's


def wanted(catalog: Mapping[str, Any], stage: str, method: str | None, params: Mapping[str, Any]) -> list[str]:
    """The roles that a job needs, and those that its stage uses if they are there.

    What only a method *may* use is left out: what an attacker is given is a choice. Names that the catalog
    does not have ask for nothing; the gateway says what is wrong with them.
    """
    kinds = catalog.get("kinds", {})
    own = _entry(kinds, "stage", stage)
    chosen = _entry(kinds, own.get("methods") or "", method or "")
    roles: list[str] = []
    complete = {**_defaults(own), **_defaults(chosen), **params}
    for entry in (own, chosen):
        roles += entry.get("needs", [])
        for name, by in entry.get("needs_when", {}).items():
            roles += by.get(str(complete.get(name)), [])
    return list(dict.fromkeys([*roles, *own.get("uses", [])]))


def _entry(kinds: Mapping[str, Any], kind: str, name: str) -> Mapping[str, Any]:
    return next((e for e in kinds.get(kind, ()) if e["name"] == name), {})


def _defaults(entry: Mapping[str, Any]) -> dict[str, Any]:
    properties = entry.get("params_schema", {}).get("properties", {})
    return {name: schema["default"] for name, schema in properties.items() if "default" in schema}


class Lineage:
    """Look up the jobs in `ask`, `take()` them, until `ask` is empty; then `found` says where each role comes from.

    The nearest source counts. At one job, what it makes goes before what it was given. The inputs are for a job
    of `stage`.
    """

    def __init__(self, job_id: str, roles: Iterable[str], stage: str) -> None:
        self.ask = [job_id]
        self._released = stage != UNCHANGED
        self.found: dict[str, Source] = {}
        self._open = dict.fromkeys(roles)
        self._seen = {job_id}

    def take(self, jobs: Iterable[Job]) -> None:
        """The jobs that were asked for, all at the same distance.

        Raises:
            ClientError: two of them supply the same role from different sources.
        """
        level = list(jobs)
        for offers in ([self._made(j) for j in level], [self._given(j) for j in level]):
            for role in list(self._open):
                sources = {tuple(sorted(o[role].items())) for o in offers if role in o}
                if len(sources) > 1:
                    several = " and ".join(dict(s).get("job") or dict(s)["sha256"] for s in sorted(sources))
                    raise ClientError(f"{role} could come from {several}: name one of them for it")
                if sources:
                    self.found[role] = dict(sources.pop())
                    del self._open[role]
        above = dict.fromkeys(s["job"] for j in level for r, s in j.inputs.items() if "job" in s and r != APART)
        self.ask = [j for j in above if j not in self._seen] if self._open else []
        self._seen.update(self.ask)

    def _made(self, job: Job) -> dict[str, Source]:
        """What the job makes; once it has succeeded, what it has made."""
        makes = job.artifacts if job.state == "succeeded" else dict.fromkeys(job.produces)
        offers = {role: {"job": job.id, "role": role} for role in makes}
        instead = {role: offers[other] for role, other in INSTEAD.items() if other in makes}
        return (instead if self._released else {}) | offers

    def _given(self, job: Job) -> dict[str, Source]:
        given = {role: dict(source) for role, source in job.inputs.items()}
        if not self._released:
            given = {role: source for role, source in given.items() if source.get("role") != INSTEAD.get(role, "")}
        return given
