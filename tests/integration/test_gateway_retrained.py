"""Audits with retrained models over HTTP: the uploads that they name, and the jobs that they become."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.client import Client, Conflict, Invalid
from tests.golden.planned_jobs import real_catalog
from tests.support import gateway as support
from tests.support.gateway import TOKEN, serve_gateway

NAMES = ["before", "after", "seed-0", "seed-1", "seed-2", "deleted", "public"]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(support, "make_catalog", real_catalog)
        with serve_gateway(tmp_path_factory.mktemp("gateway")) as served:
            yield Client(served.url, TOKEN)


def upload_all(client: Client, folder: Path) -> dict[str, str]:
    digests = {}
    for name in NAMES:
        (folder / name).write_bytes(name.encode())
        digests[name] = client.upload(folder / name).sha256
    return digests


def build_audit(digests: dict[str, str], **changes: Any) -> dict[str, Any]:
    samples = {name: f"upload:{digests[name]}" for name in ("deleted", "public")}
    return {
        "dataset": {"name": "own_samples", "params": {**samples, "num_classes": 10}},
        "model": "mlp",
        "original": digests["before"],
        "releases": [{"name": "scrub", "weights": [digests["after"]]}],
        "retrained": [[digests[f"seed-{n}"] for n in range(3)]],
        "ingest": {"input_shape": [1, 28, 28], "num_classes": 10},
        "attacks": ["label_inference"],
        **changes,
    }


def test_retrained_models_are_taken_in_once_and_kept(client: Client, tmp_path: Path) -> None:
    digests = upload_all(client, tmp_path)
    audit = client.submit_audit(build_audit(digests))
    jobs = list(client.list_jobs(audit=audit.id))
    stages = [job.stage for job in jobs]
    assert stages.count("ingest_retrained") == 1
    assert stages.count("forgetting") == stages.count("ingest") == 2  # scrub, and retrained
    (taken,) = [job for job in jobs if job.stage == "ingest_retrained"]
    inputs = client.get_job(taken.id).inputs
    assert [inputs[f"RETRAINED_WEIGHTS_{n + 1}"]["sha256"] for n in range(3)] == [
        digests[f"seed-{n}"] for n in range(3)
    ]
    with pytest.raises(Conflict, match="needs upload"):
        client.delete_artifact(digests["seed-2"])
    client.cancel(audit.id)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"retrained": [["0" * 64, "1" * 64, "2" * 64]]}, "0000"),
        ({"retrained": [[f"{n:064x}"] for n in range(10_000)]}, "100"),
        ({"retrained": [[]]}, "at least 1"),
        ({"retrained": []}, None),
        ({"retrained": [], "check_forgetting": True}, "bring some as retrained"),
        (
            {"ingest": {"input_shape": [1, 28, 28], "num_classes": 10, "recipe": {"lr": -1}}},
            "less than",
        ),
        ({"ingest": {"input_shape": [1, 28, 28], "num_classes": 10, "recipe": 7}}, "recipe"),
        ({"p_values": True}, "state it as method"),
    ],
)
def test_what_is_not_there_or_not_meant_is_refused(
    client: Client, tmp_path: Path, changes: dict[str, Any], says: str | None
) -> None:
    audit = build_audit(upload_all(client, tmp_path), **changes)
    if says is None:
        client.cancel(client.submit_audit(audit).id)
        return
    with pytest.raises(Invalid, match=says):
        client.submit_audit(audit)


def test_p_values_of_a_stated_method_are_planned_for_its_release_alone(
    client: Client, tmp_path: Path
) -> None:
    digests = upload_all(client, tmp_path)
    samples = {name: f"upload:{digests[name]}" for name in ("deleted", "public")}
    retained = {**samples, "retained": samples["public"], "num_classes": 10}
    audit = build_audit(
        digests,
        dataset={"name": "own_samples", "params": retained},
        releases=[{"name": "mine", "weights": [digests["after"]], "method": "scrub"}],
        ingest={"input_shape": [1, 28, 28], "num_classes": 10, "recipe": {"epochs": 2}},
        p_values=True,
    )
    submitted = client.submit_audit(audit)
    jobs = list(client.list_jobs(audit=submitted.id))
    assert [job.stage for job in jobs].count("ingest") == 2  # mine, and the retrained models
    (shadow,) = [job for job in jobs if job.stage == "shadow"]
    assert {"ORIGINAL", "RECIPE", "UNLEARNING"} <= {*client.get_job(shadow.id).inputs}
    client.cancel(submitted.id)
