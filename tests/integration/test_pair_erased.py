"""A pair of models, its samples and all that real stages made of them, erased from PostgreSQL and
from SQLite. `test_pair_served` does it with everything served."""

from __future__ import annotations

import io
import secrets
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load, save

from shared.artifacts import ArtifactStore, compute_sha256
from shared.data_files import DataFile
from shared.jobs import attempts, completion, erasure, queries, submit, uploads
from shared.jobs.database import Database
from shared.jobs.dispatch import Dispatcher
from shared.jobs.migrations import migrate
from shared.jobs.plan import plan
from shared.jobs.records import Artifact, Claim
from shared.jobs.spec import AuditSpec
from shared.jobs.states import Failure
from shared.ml.networks import read_networks
from shared.ml.records import ForgetSets
from tests.golden.planned_jobs import real_catalog
from tests.support.job_store import ALICE
from tests.support.servers import create_database, find_database_files
from tests.support.tiny_chain import MODEL, run_chain, write_data
from tests.support.traces import Traces
from tests.support.waiting import TIMEOUT_S, wait_for
from workers.context import StageOutput
from workers.local import run_stage
from workers.uploads import uploads_as_files

pytestmark = pytest.mark.slow


@cache
def make_pair(folder: Path) -> dict[str, bytes]:
    """Files as a user has them."""
    write_data(folder)
    outputs = run_chain(deletions=1)
    networks = read_networks(outputs["UNLEARNED"].data, "UNLEARNED")
    truth = ForgetSets.read(outputs["FORGET_SETS"].data, "FORGET_SETS")

    def write_samples(images: np.ndarray, labels: Sequence[int]) -> bytes:
        file = io.BytesIO()
        np.savez(file, images=images, labels=np.array(labels))
        return file.getvalue()

    draw = np.random.default_rng(1)
    original = load(outputs["ORIGINAL"].data)
    return {
        "original": save({strip(name): tensor for name, tensor in original.items()}),
        "released": save({strip(n): stack[0].clone() for n, stack in networks.state.items()}),
        "deleted": write_samples(truth.load_images()[:, 0].numpy(), np.ravel(truth.labels)),
        "public": write_samples(
            draw.random((40, 1, 9, 9), dtype=np.float32), [n % 4 for n in range(40)]
        ),
        "mean": np.array(networks.architecture.mean).tobytes(),
        "std": np.array(networks.architecture.std).tobytes(),
    }


def strip(name: str) -> str:
    return name.removeprefix("network.")


def identify(files: Sequence[DataFile]) -> Mapping[str, str]:
    return {file.path: file.path.removeprefix("upload:") for file in files}


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_pair_leaves_no_trace(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("PALIMPSEST_DATA_ROOT", str(tmp_path))
    made = make_pair(tmp_path)
    mean, std = (list(np.frombuffer(made[name])) for name in ("mean", "std"))
    url = (
        create_database(request.getfixturevalue("postgres_server"))
        if kind == "postgresql"
        else f"sqlite:///{tmp_path}/store/palimpsest.db"
    )
    db = Database(url)
    migrate(db)
    store = ArtifactStore.from_url(f"file://{tmp_path}/artifacts")

    def bring(data: bytes) -> str:
        with store.open_draft() as draft:
            draft.write(data)
            uploads.record_upload(
                db, ALICE, draft.seal(), "application/octet-stream",
                lifetime_s=3600, quota_bytes=1 << 30, place=draft.place,
            )  # fmt: skip
        return compute_sha256(data)

    files = [made[name] for name in ("original", "released", "deleted", "public")]
    original, released, deleted, public = digests = [bring(data) for data in files]
    kept = bring(secrets.token_bytes(500))
    spec = AuditSpec.model_validate(
        {
            "dataset": {
                "name": "own_samples",
                "params": {
                    "deleted": f"upload:{deleted}",
                    "public": f"upload:{public}",
                    "num_classes": 4,
                },
            },
            "model": MODEL,
            "original": original,
            "releases": [{"name": "theirs", "weights": [released]}],
            "ingest": {
                "input_shape": [1, 9, 9], "num_classes": 4, "mean": mean, "std": std, "size": 1,
            },
            "attacks": [
                {"name": "feature_recovery", "params": {"iterations": 20, "restarts": 1}},
                "label_inference",
            ],
        }
    )  # fmt: skip
    catalog = real_catalog()
    planned = plan(spec, catalog, identify)
    request_ = submit.AuditRequest(f"of {original}", spec.model_dump(mode="json"))
    audit = submit.submit_jobs(db, ALICE, planned, audit=request_).audit
    derived = run_all(db, store, catalog)
    assert {"RECONSTRUCTION", "REPORT", "REPORT_HTML", "REPORT_PICTURES", "EVALUATION"} <= set(
        derived
    )
    traces = Traces([*files, *derived.values()])
    searched = [*find_database_files(db), tmp_path / "artifacts"]
    before = traces.find(*searched)
    assert any("digest" in one for one in traces.find(*find_database_files(db)))
    for data in (
        *files,
        *(derived[role] for role in ("RECONSTRUCTION", "REPORT_HTML", "REPORT_PICTURES")),
    ):
        assert f"{compute_sha256(data)}: data" in before
    done = erasure.erase(db, ALICE, store, digests)
    assert (done.audits, done.artifacts) == (1, len(files) + len({*derived.values()}))
    wait_for(lambda: erasure.finish_erasures(db, store), TIMEOUT_S, "nothing is left to remove")
    assert traces.find(*find_database_files(db), tmp_path / "artifacts") == []
    assert Traces([], [kept]).find(*find_database_files(db))
    assert audit not in {one.id for one in queries.list_audits(db, ALICE).items}
    db.close()


def run_all(db: Database, store: ArtifactStore, catalog: Any) -> dict[str, bytes]:
    """Run every job but the self-test, with the real stages; the outputs by role, one of each."""
    dispatcher = Dispatcher(db, "here", catalog.list_names("stage"), catalog.plugins)
    outputs: dict[str, bytes] = {}
    while claim := dispatcher.claim(600, secrets.token_hex(8)):
        if claim.job.stage == "selftest":
            attempts.fail_attempt(db, claim.job.id, claim.fence, Failure.ERROR, "left out")
            continue
        made = run_claimed(store, claim)
        stored = [
            Artifact(role, store.put(one.data), len(one.data), one.media_type)
            for role, one in made.items()
        ]
        completion.finish_job(
            db, claim.job.id, claim.fence, stored, cache_key=claim.job.id, code=claim.job.code
        )
        outputs |= {role: one.data for role, one in made.items()}
        outputs |= {f"{claim.job.id} {role}": one.data for role, one in made.items()}
    return outputs


def run_claimed(store: ArtifactStore, claim: Claim) -> dict[str, StageOutput]:
    job = claim.job
    inputs = {role: StageOutput(store.get(sha256)) for role, sha256 in claim.inputs.items()}
    with uploads_as_files(store):
        return run_stage(job.stage, inputs, job.method, seed=job.seed, **job.params)
