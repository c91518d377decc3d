"""Declarations in the job store: versions under races, bounds, and the uploads that they keep."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from shared.artifacts import ArtifactStore, compute_sha256
from shared.errors import Conflict, InvalidRequest, NotFound
from shared.jobs import declarations, erasure, uploads
from shared.jobs.declarations import Declaration, Kind, NewDeclaration
from shared.jobs.erasure import Erasure
from shared.jobs.records import Input
from tests.support.job_store import ALICE, BOB, JobStore, make_planned_job, run_together

LIFETIME_S = 3600.0


@pytest.fixture
def folder(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore.from_url(f"file://{tmp_path}/artifacts")


def bring(
    store: JobStore, folder: ArtifactStore, data: bytes, lifetime_s: float = LIFETIME_S
) -> str:
    with folder.open_draft() as draft:
        draft.write(data)
        uploads.record_upload(
            store.db, ALICE, draft.seal(), "text/csv",
            lifetime_s=lifetime_s, quota_bytes=1 << 20, place=draft.place,
        )  # fmt: skip
    return compute_sha256(data)


def finish_all(store: JobStore) -> None:
    while claim := store.claim():
        store.finish(claim)


def declare(
    store: JobStore, upload: str, name: str = "before", labels: Any = None, **spec: Any
) -> Declaration:
    planned = make_planned_job(f"{upload} {spec}")
    job = store.post(planned)
    new = NewDeclaration(Kind.MODEL, name, {"weights": upload, **spec}, frozenset({upload}))
    return declarations.record_declaration(store.db, ALICE, new, job, planned.request_key, labels)


def test_two_that_declare_one_name_at_once_make_two_versions(
    store: JobStore, folder: ArtifactStore
) -> None:
    first, second = bring(store, folder, b"1"), bring(store, folder, b"2")
    both = run_together(lambda: declare(store, first), lambda: declare(store, second))
    assert {one.version for one in both if isinstance(one, Declaration)} == {1, 2}, both
    same = run_together(*[lambda: declare(store, first, "same")] * 3)
    assert {one.label for one in same if isinstance(one, Declaration)} == {"same@1"}
    assert len({one.id for one in same if isinstance(one, Declaration)}) == 1


def test_what_is_declared_does_not_expire(store: JobStore, folder: ArtifactStore) -> None:
    upload = bring(store, folder, b"1", lifetime_s=0.01)
    kept = bring(store, folder, b"2", lifetime_s=30)
    declare(store, kept)
    bring(store, folder, b"2", lifetime_s=-1)  # brought again, for a shorter time
    with pytest.raises(InvalidRequest, match="you have no upload"):
        declare(store, upload, "late")
    finish_all(store)
    assert uploads.expire_uploads(store.db) == ([upload], None)
    assert uploads.get_upload(store.db, ALICE, kept).expires_at is None
    declarations.delete_declarations(store.db, ALICE, Kind.MODEL, "before", None, lifetime_s=-1)
    assert uploads.expire_uploads(store.db) == ([kept], None)


def try_to_declare(store: JobStore, upload: str) -> str:
    try:
        declare(store, upload, name=f"m-{upload[:20]}")
    except InvalidRequest:
        return "gone"
    return "declared"


def try_to_delete(store: JobStore, folder: ArtifactStore, upload: str) -> str:
    try:
        uploads.delete_upload(store.db, ALICE, folder, upload)
    except Conflict:
        return "kept"
    return "deleted"


def test_an_upload_that_is_deleted_and_declared_at_once_is_either(
    store: JobStore, folder: ArtifactStore
) -> None:
    for n in range(5):
        upload = bring(store, folder, f"{n}".encode())
        ends = run_together(
            partial(try_to_declare, store, upload), partial(try_to_delete, store, folder, upload)
        )
        assert ends in (["declared", "kept"], ["gone", "deleted"])
        assert folder.has(upload, 1) == uploads.has_artifact(store.db, ALICE, upload)


def test_how_many_there_may_be(
    store: JobStore, folder: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(declarations, "MAX_DECLARATIONS", 2)
    upload = bring(store, folder, b"1")
    declare(store, upload, n=1)
    declare(store, upload, n=2)
    with pytest.raises(Conflict, match="2 declarations"):
        declare(store, upload, n=3)
    assert declare(store, upload, n=2).version == 2  # it is there


def test_a_declaration_is_of_one_tenant(store: JobStore, folder: ArtifactStore) -> None:
    declare(store, bring(store, folder, b"1"), labels={"a": "1"})
    with pytest.raises(NotFound):
        declarations.get_declaration(store.db, BOB, Kind.MODEL, "before")
    with pytest.raises(NotFound):
        declarations.get_declaration(store.db, ALICE, Kind.DATASET, "before")
    found = declarations.get_declaration(store.db, ALICE, Kind.MODEL, "before", 1)
    assert (found.label, found.labels) == ("before@1", {"a": "1"})


def test_live_jobs_keep_what_they_read(store: JobStore, folder: ArtifactStore) -> None:
    upload = bring(store, folder, b"1")
    declare(store, upload)
    finish_all(store)
    reader = store.post(make_planned_job("reader", Input("IN", sha256=upload)))
    with pytest.raises(Conflict, match=reader):
        declarations.delete_declarations(store.db, ALICE, Kind.MODEL, "before", None, lifetime_s=1)
    finish_all(store)
    declarations.delete_declarations(store.db, ALICE, Kind.MODEL, "before", 1, lifetime_s=1)
    with pytest.raises(NotFound):
        declarations.get_declaration(store.db, ALICE, Kind.MODEL, "before")


def erase(store: JobStore, folder: ArtifactStore, name: str, version: int | None = None) -> Erasure:
    return declarations.erase_declarations(
        store.db, ALICE, folder, Kind.MODEL, name, version, lifetime_s=LIFETIME_S
    )


def test_a_declaration_is_erased_with_everything(store: JobStore, folder: ArtifactStore) -> None:
    upload, test_data = bring(store, folder, b"1"), bring(store, folder, b"2")
    planned = make_planned_job("check", Input("WEIGHTS", sha256=upload))
    new = NewDeclaration(Kind.MODEL, "before", {"weights": upload}, frozenset({upload, test_data}))
    declarations.record_declaration(
        store.db, ALICE, new, store.post(planned), planned.request_key, {"a": "1"}
    )
    with pytest.raises(Conflict, match="not ended"):
        erase(store, folder, "before")
    assert declarations.get_declaration(store.db, ALICE, Kind.MODEL, "before").version == 1
    finish_all(store)
    with pytest.raises(Conflict, match="the model before@1 was declared from it"):
        erasure.erase(store.db, ALICE, folder, [upload])
    twin = NewDeclaration(Kind.MODEL, "twin", {"weights": upload}, frozenset({upload}))
    declarations.record_declaration(
        store.db, ALICE, twin, store.post(planned), planned.request_key, None
    )
    with pytest.raises(Conflict, match="the model twin@1 was declared from it"):
        erase(store, folder, "before")
    declarations.delete_declarations(store.db, ALICE, Kind.MODEL, "twin", 1, lifetime_s=LIFETIME_S)
    erased = erase(store, folder, "before", 1)
    assert (erased.jobs, erased.artifacts) == (1, 2)
    with pytest.raises(NotFound):
        declarations.get_declaration(store.db, ALICE, Kind.MODEL, "before")
    assert not folder.has(upload, 1)
    assert folder.has(test_data, 1)  # of another declaration, or of none: it expires
    assert uploads.get_upload(store.db, ALICE, test_data).expires_at is not None
    assert upload not in repr(store.dump())
