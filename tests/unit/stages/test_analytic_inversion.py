"""The attack without a search, from training to scores."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.tiny_chain import parse_output, run_chain
from workers.local import run_stage


@pytest.mark.parametrize("how", [{}, {"successive": True}])
def test_it_goes_through_the_stages(how: dict[str, Any]) -> None:
    made = run_chain(**how)
    found = run_stage("attack", made, "analytic_inversion")
    evaluation = parse_output(run_stage("evaluate", made | found, decoys=20)["EVALUATION"])
    assert evaluation["metrics"]["psnr"]["worst"] > 40
    assert evaluation["identification"]["rank_1"] == 3
    assert evaluation["threat_model"]["observes"] == ["DELETION_SIZES", "ORIGINAL", "UNLEARNED"]
    assert evaluation["threat_model"]["access"] == "white_box"
    assert "nearest_public" in evaluation["metrics"]["psnr"]["baselines"]
