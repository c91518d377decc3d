"""The self-test passes here, gives the same bytes in every process, and says what failed."""

from __future__ import annotations

import hashlib
import json
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module

import pytest
import torch

from shared.ml.metrics import psnr
from tests.support.mutation import mutate
from tests.support.source_tree import ROOT
from workers import selftest
from workers.context import StageOutput
from workers.selftest import cases as known
from workers.selftest.__main__ import main
from workers.selftest._case import Case


@pytest.fixture
def psnr_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "CASES", import_module("workers.selftest.psnr").CASES)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_every_file_is_run_and_names_are_one_each() -> None:
    every = {m.name for m in pkgutil.iter_modules(selftest.__path__) if not m.name.startswith("_")}
    files = every - {"cases"}  # the list of all of them
    cases = [case for name in files for case in import_module(f"workers.selftest.{name}").CASES]
    assert {id(case) for case in cases} == {id(case) for case in known.CASES}
    names = [case.name for case in known.CASES]
    assert len(set(names)) == len(names) == len(cases)


@pytest.mark.slow
@pytest.mark.usefixtures("two_threads")
def test_all_pass_and_another_process_gives_the_same_bytes() -> None:
    state, steps = torch.get_rng_state(), []
    result = known.run_all(lambda done, total: steps.append((done, total)))
    assert [case["name"] for case in result["cases"] if not case["passed"]] == []
    assert result["passed"]
    assert result["conditions"]["threads"] == 1
    assert steps == [(i, len(known.CASES)) for i in range(1, len(known.CASES) + 1)]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == 2
    command = [sys.executable, "-m", "workers.selftest", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    assert done.stdout == StageOutput.of_json(result).data


@pytest.mark.usefixtures("psnr_alone")
def test_the_table_tells_the_digest_of_the_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json"]) == 0
    data = capsys.readouterr().out
    assert main([]) == 0
    told = capsys.readouterr().out
    assert hashlib.sha256(data.encode()).hexdigest() in told
    assert "ok     psnr" in told
    assert "1 of 1 passed" in told


@pytest.mark.usefixtures("psnr_alone")
def test_one_that_fails_makes_it_exit_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mutate(monkeypatch, psnr.psnr, "-10 *", "-20 *")
    assert main([]) == 1
    told = capsys.readouterr().out
    assert "FAILED psnr" in told
    assert "40" in told.splitlines()[0]
    assert "0 of 1 passed" in told
    assert main(["--json"]) == 1
    assert not json.loads(capsys.readouterr().out)["passed"]


@pytest.mark.parametrize(
    ("value", "passed", "error"),
    [
        (0.99, True, None),
        (0.989999, False, None),
        (1.01, False, None),
        (float("nan"), False, "measured nan"),
    ],
)
def test_bounds_are_inclusive_and_nan_never_passes(
    value: float, passed: bool, error: str | None
) -> None:
    told = Case("x", "x", lambda: value, low=0.99, high=1.0, unit="").run()
    assert (told["passed"], told["error"]) == (passed, error)


def test_what_raises_has_failed_and_says_why() -> None:
    def broken() -> float:
        raise IndexError("there is no layer 7")

    told = Case("x", "x", broken, low=None, high=None, unit="").run()
    assert (told["passed"], told["measured"], told["error"]) == (
        False,
        None,
        "IndexError: there is no layer 7",
    )
