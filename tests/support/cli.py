"""For tests of the command line: a catalog with every stage, a small audit, its report, and `palimpsest` itself."""

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
from shared.catalog import Catalog, Entry
from tests.support import gateway as support
from tests.support.gateway import TOKEN, GatewayProcess, HandWorker, gateway_process
from tests.support.waiting import PATIENCE, wait_for
from tests.support.wirings import WIRINGS

PROGRAM = [sys.executable, "-m", "services.cli"]
Done = subprocess.CompletedProcess[str]
Run = Callable[..., Done]


def _entry(kind: str, name: str, schema: dict[str, Any] | None = None, **described: Any) -> Entry:
    schema = {"type": "object", "additionalProperties": False, "properties": schema or {}}
    wiring = WIRINGS.get(name) if kind == "stage" else None
    return Entry(kind=kind, name=name, summary=f"{name}.", params_schema=schema, wiring=wiring, **described)


def _number(default: float, low: float, high: float) -> dict[str, Any]:
    return {"type": "number", "default": default, "minimum": low, "maximum": high}


def every_stage() -> Catalog:
    """Every stage with its roles, and one or two small methods of each kind."""
    dataset, model = {"type": "object", "x-plugin": "dataset"}, {"type": "object", "x-plugin": "model"}
    labels = {"type": "string", "enum": ["given", "inferred"], "default": "given"}
    evaluation = ["EVALUATION", "PICTURES"]
    return Catalog(
        [
            _entry("stage", "pretrain", {"dataset": dataset, "model": model}, produces=["BASE"]),
            _entry("stage", "train", {"dataset": dataset, "size": _number(32, 2, 100)}, needs=["BASE"],
                   produces=["ORIGINAL", "TRAINING_SET", "RECIPE"]),
            _entry("stage", "unlearn", {"deletions": _number(1, 1, 100), "size": _number(1, 1, 100)},
                   needs=["ORIGINAL", "TRAINING_SET"], methods="unlearning",
                   produces=["UNLEARNED", "FORGET_SETS", "COUNTS", "LABELS", "UNLEARNING"]),
            _entry("stage", "defend", needs=["UNLEARNED", "TRAINING_SET", "FORGET_SETS"], methods="defense",
                   produces=["RELEASED", "DEFENSE"]),
            _entry("stage", "probe", needs=["ORIGINAL", "UNLEARNED"], produces=["PROBES"]),
            _entry("stage", "attack", methods="attack"),
            _entry("stage", "evaluate", needs=["FORGET_SETS"], produces=evaluation,
                   uses=["RECONSTRUCTION", "ORIGINAL", "UNLEARNED", "TRAINING_SET", "DEFENSE"]),
            _entry("stage", "report", {"audit": {"type": "object"}, "rows": {"type": "array"}}, many=evaluation,
                   traits={"tolerant": True}, produces=["REPORT", "REPORT_HTML"]),
            _entry("unlearning", "ascent", {"rate": _number(0.1, 0, 1)}, traits={"exact": False}),
            _entry("unlearning", "retrain", needs=["BASE", "RECIPE"], traits={"exact": True}),
            _entry("defense", "none"),
            _entry("attack", "invert", {"labels": labels, "iterations": _number(100, 1, 10_000)},
                   needs=["ORIGINAL", "UNLEARNED"], needs_when={"labels": {"given": ["LABELS"]}}, uses=["BASE"],
                   produces=["RECONSTRUCTION"], traits={"access": "white_box"}),
            _entry("dataset", "digits"),
            _entry("model", "mlp", {"width": _number(16, 1, 512)}),
            _entry("metric", "psnr",
                   traits={"takes": "image", "unit": "dB", "range": [0, 100], "higher_is_better": True}),
        ]
    )  # fmt: skip


AUDIT = """\
name: by file
dataset: digits
model: mlp
train: {size: 32}
unlearning: [ascent]
attacks: [invert]
"""
REPORT: dict[str, Any] = {
    "schema": "palimpsest.report/1",
    "name": "an audit",
    "verdict": {"level": "leaks", "headline": "Both digits were read back.", "sentences": []},
    "rows": [
        {
            "seed": seed,
            "unlearning": {"method": "ascent", "params": {}},
            "defense": {"method": "none", "params": {}},
            "attack": {"method": "invert", "params": {"labels": "given"}},
            "metrics": {"psnr": {"mean": 20.0 + seed, "gain": 6.5 + seed, "null": 13.5, "null_name": "class_mean"}},
            "identification": {"n": 2, "rank_1": 2},
        }
        for seed in (0, 1)
    ],
    "missing": [],
}


@contextlib.contextmanager
def gateway_of_every_stage(folder: Path) -> Iterator[GatewayProcess]:
    """A served gateway, whose hand workers can run `every_stage`."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(support, "a_catalog", every_stage)
        with gateway_process(folder) as served:
            yield served


def runner(url: str, monkeypatch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[bytes]) -> Run:
    """`palimpsest` in this process, for the gateway at `url`."""
    monkeypatch.setenv("PALIMPSEST_URL", url)
    monkeypatch.setenv("PALIMPSEST_TOKEN", TOKEN)

    def call(*words: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["palimpsest", *words])
        capture.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = (text.decode() for text in capture.readouterr())
        assert "Traceback" not in err
        return subprocess.CompletedProcess(words, int(ended.value.code or 0), out, err)

    return call


def worked_off(worker: HandWorker, report: dict[str, Any] | None = None, fail: str = "") -> threading.Thread:
    """Finish all that comes until the report is made; a stage may fail."""

    def work() -> None:
        while True:
            claim = wait_for(worker.claim_if_any, PATIENCE, "a job is queued")
            if claim.job.stage == fail:
                worker.fail(claim, "N is smaller than k")
            elif claim.job.stage == "report":
                worker.finish(claim, json.dumps(report or REPORT).encode())
                return
            else:
                worker.finish(claim, claim.job.id.encode(), "text/plain")

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def audited(run: Run, worker: HandWorker, *words: str, **how: Any) -> Done:
    Path("a.yaml").write_text(AUDIT)
    thread = worked_off(worker, **how)
    done = run("audit", "a.yaml", "--fresh", *words)
    thread.join()
    return done
