"""The stage that tests the code, and the report that tells of it."""

from __future__ import annotations

import hashlib
import json
from importlib import import_module

import pytest

from shared.errors import InvalidRequest
from shared.ml.metrics import psnr
from shared.reporting.selftests import read_self_test
from tests.support.mutation import mutate
from tests.support.reports import LEAK, make_audit, make_image_evaluation, make_utility_evaluation
from workers.context import JobContext, NoHooks, StageOutput
from workers.local import run_stage
from workers.selftest import cases as known
from workers.selftest.__main__ import main
from workers.stages.report import ReportParams, run


class Beats(NoHooks):
    def __init__(self) -> None:
        self.heard: list[tuple[int, int]] = []

    def heartbeat(self, done: int, total: int, numbers: object) -> None:
        self.heard.append((done, total))


@pytest.fixture(autouse=True)
def two_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = (
        *import_module("workers.selftest.psnr").CASES,
        *import_module("workers.selftest.analytic").CASES,
    )
    monkeypatch.setattr(known, "CASES", cases)


def reported(tested: StageOutput) -> dict[str, StageOutput]:
    evaluations = {
        f"EVALUATION_{i}": StageOutput(json.dumps(one).encode())
        for i, one in enumerate((make_image_evaluation(**LEAK), make_utility_evaluation()), 1)
    }
    return _run_report(evaluations | {"SELF_TEST": tested})


def _run_report(inputs: dict[str, StageOutput]) -> dict[str, StageOutput]:
    given = {role: output.data for role, output in inputs.items()}
    return run(JobContext(params=ReportParams(audit=make_audit(), rows=[]), inputs=given))


def test_it_makes_what_the_command_prints_and_beats_with_each_case(
    capsys: pytest.CaptureFixture[str],
) -> None:
    hooks = Beats()
    made = run_stage("selftest", {}, hooks=hooks)["SELF_TEST"]
    assert hooks.heard == [(1, 2), (2, 2)]
    assert main(["--json"]) == 0
    assert capsys.readouterr().out.encode() == made.data
    assert read_self_test(made.data, "SELF_TEST").passed


def test_the_report_tells_digest_and_cases_as_data_and_in_a_line() -> None:
    tested = run_stage("selftest", {})["SELF_TEST"]
    made = reported(tested)
    told = json.loads(made["REPORT"].data)["provenance"]["self_test"]
    digest = hashlib.sha256(tested.data).hexdigest()
    assert (told["digest"], told["passed"]) == (digest, True)
    assert [case["name"] for case in told["cases"]] == ["psnr", "dense_layer"]
    page = made["REPORT_HTML"].data.decode()
    assert f"2 of 2 cases passed, digest <code>{digest}</code>" in page
    assert "failed" not in page[page.index("<dt>self-test") :].partition("</div>")[0]


def test_code_with_a_fault_makes_a_report_that_says_so_loudly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mutate(monkeypatch, psnr.psnr, "-10 *", "-20 *")
    made = reported(run_stage("selftest", {})["SELF_TEST"])
    told, page = json.loads(made["REPORT"].data), made["REPORT_HTML"].data.decode()
    assert not told["provenance"]["self_test"]["passed"]
    assert told["verdict"]["level"] == "inconclusive"
    assert "failed its self-test" in told["verdict"]["headline"]
    assert "failed its self-test (psnr)" in page
    assert "1 of 2 cases passed; <b>failed: psnr</b>" in page
    assert told["verdict"]["headline"] in page


def test_without_a_self_test_there_is_a_report_all_the_same() -> None:
    made = _run_report(
        {"EVALUATION_1": StageOutput(json.dumps(make_image_evaluation(**LEAK)).encode())}
    )
    assert json.loads(made["REPORT"].data)["provenance"]["self_test"] is None
    assert "<dt>self-test</dt><dd>missing" in made["REPORT_HTML"].data.decode()


def test_a_self_test_that_is_none_is_refused_by_its_role() -> None:
    with pytest.raises(InvalidRequest, match="SELF_TEST"):
        reported(StageOutput(b"{}"))
