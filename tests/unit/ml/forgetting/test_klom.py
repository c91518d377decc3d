"""KLoM: margins, histograms of few models, and the comparison with a retrained model."""

from __future__ import annotations

import math

import pytest
import torch

from shared.ml.context import make_generator
from shared.ml.forgetting.klom import compute_klom, compute_margins, leave_one_out


def test_a_margin_is_the_log_odds_of_the_true_class() -> None:
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 3.0, 1.0]])
    margins = compute_margins(logits, torch.tensor([0, 2]))
    odds = logits.double().softmax(1)[[0, 1], [0, 2]].logit()
    torch.testing.assert_close(margins, odds)
    assert margins[0] == pytest.approx(2 - math.log(2))


def test_it_is_0_for_equal_histograms_and_grows_with_the_distance() -> None:
    retrained = torch.tensor([[0.5, 0.5, 0.5]] * 4)
    same, other = torch.tensor([[0.7, 4.1, -300.0]] * 4), torch.tensor([[0.7, 0.7, 9.0]] * 4)
    assert compute_klom(same, retrained)[0].item() == pytest.approx(0)
    assert (compute_klom(same, retrained)[1:] > 2).all()
    # 4 of 4 models in another bin: p is (4 + 1/20) / 5 where q is (1/20) / 5
    p, q = (4 + 1 / 20) / 5, (1 / 20) / 5
    assert compute_klom(other, retrained)[2].item() == pytest.approx(
        p * math.log(p / q) + q * math.log(q / p)
    )


def test_margins_beyond_20_are_in_the_last_bin() -> None:
    assert compute_klom(torch.tensor([[20.0]]), torch.tensor([[1e6]])).item() == pytest.approx(0)
    assert compute_klom(torch.tensor([[-20.0]]), torch.tensor([[-1e6]])).item() == pytest.approx(0)


def test_a_retrained_release_is_as_far_as_retrained_models_are_and_the_original_farther() -> None:
    generator = make_generator(0, "margins")
    margins = 3 * torch.randn(4, 400, generator=generator)
    own, again = leave_one_out(margins[0], margins[1:])
    assert own.mean().item() == pytest.approx(again.mean().item(), rel=0.1)
    far, again = leave_one_out(margins[0] + 12, margins[1:])
    assert far.mean() > 1.2 * again.mean()
