"""For tests of the command line: a catalog with every stage, a small audit, its report, and
`palimpsest` itself."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.cli.main import main
from shared.catalog import Catalog, CatalogEntry
from tests.support import gateway as support
from tests.support.gateway import TOKEN, GatewayProcess, ManualWorker, serve_gateway
from tests.support.waiting import TIMEOUT_S, wait_for
from tests.support.wirings import WIRINGS

COMMAND = [sys.executable, "-m", "services.cli"]
Completed = subprocess.CompletedProcess[str]
Runner = Callable[..., Completed]


def _make_entry(
    kind: str, name: str, schema: dict[str, Any] | None = None, **described: Any
) -> CatalogEntry:
    schema = {"type": "object", "additionalProperties": False, "properties": schema or {}}
    wiring = WIRINGS.get(name) if kind == "stage" else None
    return CatalogEntry(
        kind=kind, name=name, summary=f"{name}.", params_schema=schema, wiring=wiring, **described
    )


def _number_schema(default: float, low: float, high: float) -> dict[str, Any]:
    return {"type": "number", "default": default, "minimum": low, "maximum": high}


def make_full_catalog() -> Catalog:
    """Every stage with its roles, and one or two small methods of each kind."""
    dataset, model = (
        {"type": "object", "x-plugin": "dataset"},
        {"type": "object", "x-plugin": "model"},
    )
    labels = {"type": "string", "enum": ["given", "inferred"], "default": "given"}
    evaluation = ["EVALUATION", "PICTURES"]
    return Catalog(
        [
            _make_entry("stage", "pretrain", {"dataset": dataset, "model": model}, produces=["BASE"]),
            _make_entry("stage", "train", {"dataset": dataset, "size": _number_schema(32, 2, 100)}, needs=["BASE"],
                   produces=["ORIGINAL", "TRAINING_SET", "RECIPE"]),
            _make_entry("stage", "unlearn", {"deletions": _number_schema(1, 1, 100), "size": _number_schema(1, 1, 100)},
                   needs=["ORIGINAL", "TRAINING_SET"], methods="unlearning",
                   produces=["UNLEARNED", "FORGET_SETS", "DELETION_SIZES", "LABELS", "UNLEARNING"]),
            _make_entry("stage", "defend", needs=["UNLEARNED", "TRAINING_SET", "FORGET_SETS"], methods="defense",
                   produces=["RELEASED", "DEFENSE"]),
            _make_entry("stage", "probe", needs=["ORIGINAL", "UNLEARNED"], produces=["PROBES"]),
            _make_entry("stage", "attack", methods="attack"),
            _make_entry("stage", "evaluate", needs=["FORGET_SETS"], produces=evaluation,
                   uses=["RECONSTRUCTION", "ORIGINAL", "UNLEARNED", "TRAINING_SET", "DEFENSE"]),
            _make_entry("stage", "report", {"audit": {"type": "object"}, "rows": {"type": "array"}}, many=evaluation,
                   traits={"run_when": "all_finished"}, produces=["REPORT", "REPORT_HTML"]),
            _make_entry("unlearning", "ascent", {"rate": _number_schema(0.1, 0, 1)}, traits={"exact": False}),
            _make_entry("unlearning", "retrain", needs=["BASE", "RECIPE"], traits={"exact": True}),
            _make_entry("defense", "none"),
            _make_entry("attack", "invert", {"labels": labels, "iterations": _number_schema(100, 1, 10_000)},
                   needs=["ORIGINAL", "UNLEARNED"], needs_when={"labels": {"given": ["LABELS"]}}, uses=["BASE"],
                   produces=["RECONSTRUCTION"], traits={"access": "white_box"}),
            _make_entry("dataset", "digits"),
            _make_entry("model", "mlp", {"width": _number_schema(16, 1, 512)}),
            _make_entry("metric", "psnr",
                   traits={"takes": "image", "unit": "dB", "range": [0, 100], "higher_is_better": True}),
        ]
    )  # fmt: skip


AUDIT_YAML = """\
name: by file
dataset: digits
model: mlp
train: {size: 32}
unlearning: [ascent]
attacks: [invert]
"""
REPORT: dict[str, Any] = {
    "schema": "palimpsest.report/2",
    "name": "an audit",
    "verdict": {"level": "leaks", "headline": "Both digits were read back.", "sentences": []},
    "rows": [
        {
            "seed": seed,
            "unlearning": {"method": "ascent", "params": {}},
            "defense": {"method": "none", "params": {}},
            "attack": {"method": "invert", "params": {"labels": "given"}},
            "metrics": {
                "psnr": {
                    "mean": 20.0 + seed,
                    "gain": 6.5 + seed,
                    "baseline": 13.5,
                    "baseline_name": "class_mean",
                }
            },
            "identification": {"n": 2, "rank_1": 2},
        }
        for seed in (0, 1)
    ],
    "missing": [],
}


@contextlib.contextmanager
def serve_full_catalog(folder: Path, **env: str) -> Iterator[GatewayProcess]:
    """A served gateway, whose catalog has every stage."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(support, "make_catalog", make_full_catalog)
        with serve_gateway(folder, **env) as served:
            yield served


def make_runner(
    url: str, monkeypatch: pytest.MonkeyPatch, captured: pytest.CaptureFixture[bytes]
) -> Runner:
    """`palimpsest` in this process, for the gateway at `url`."""
    monkeypatch.setenv("PALIMPSEST_URL", url)
    monkeypatch.setenv("PALIMPSEST_TOKEN", TOKEN)

    def call(*words: str) -> Completed:
        monkeypatch.setattr(sys, "argv", ["palimpsest", *words])
        captured.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = (text.decode() for text in captured.readouterr())
        assert "Traceback" not in err
        return subprocess.CompletedProcess(words, int(ended.value.code or 0), out, err)

    return call


def finish_in_background(
    worker: ManualWorker, report: dict[str, Any] | None = None, fail: str = ""
) -> threading.Thread:
    """Finish all that comes until the report is made; a stage may fail."""

    def finish_jobs() -> None:
        while True:
            claim = wait_for(worker.try_claim, TIMEOUT_S, "a job is queued")
            if claim.job.stage == fail:
                worker.fail(claim, "N is smaller than k")
            elif claim.job.stage == "report":
                worker.finish(claim, json.dumps(report or REPORT).encode())
                return
            else:
                worker.finish(claim, claim.job.id.encode(), "text/plain")

    thread = threading.Thread(target=finish_jobs)
    thread.start()
    return thread


def run_audit(run: Runner, worker: ManualWorker, *arguments: str, **options: Any) -> Completed:
    Path("a.yaml").write_text(AUDIT_YAML)
    thread = finish_in_background(worker, **options)
    done = run("audit", "a.yaml", "--no-cache", *arguments)
    thread.join()
    return done
