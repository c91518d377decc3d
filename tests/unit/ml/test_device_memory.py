"""How many trials share a pass on a GPU, what happens when they do not fit, and at which precision
they are computed. There is no GPU here: its free memory and its errors are made up."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from shared.ml import attacks
from shared.ml.attack_io import Reconstruction
from shared.ml.attacks import _matching
from shared.ml.attacks._memory import (
    DEVICE_BUDGET_SHARE,
    MAX_CHUNK_SIZE,
    MAX_DEVICE_CHUNK_SIZE,
    estimate_trial_bytes,
    fit_chunk_size,
)
from shared.ml.context import LocalContext
from shared.ml.reproducibility import full_precision
from tests.support.ascended import SMALL, ascend
from tests.support.fake_cuda import GIB, make_cuda

CUDA = torch.device("cuda", 0)
build_matcher = _matching.build_matcher


VIEW = ascend(SMALL, deletions=4)


def _recover() -> Reconstruction:
    attack = attacks.registry.get("feature_recovery")
    result = attack.target(VIEW, attack.params(iterations=3), LocalContext())
    assert isinstance(result, Reconstruction)
    return result


def _refuse_larger(monkeypatch: pytest.MonkeyPatch, most: int) -> list[int]:
    """A device on which no more than `most` trials at once fit; how many were tried at each step."""
    tried: list[int] = []

    def build(*arguments: Any) -> _matching.Matcher:
        matcher = build_matcher(*arguments)

        def match(images: torch.Tensor, *more: Any) -> tuple[torch.Tensor, ...]:
            tried.append(len(images))
            if len(images) > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return matcher(images, *more)

        return match

    monkeypatch.setattr(_matching, "build_matcher", build)
    # the search for a fallback tries two images
    monkeypatch.setattr("shared.ml.attacks._search.find_fallback_reason", lambda *_: None)
    return tried


def test_trials_fill_what_a_gpu_has_free(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, need = make_cuda(monkeypatch, "NVIDIA H100"), estimate_trial_bytes(SMALL, 1)
    cuda.free_bytes = round(100 * need / DEVICE_BUDGET_SHARE)
    assert fit_chunk_size(SMALL, 1, CUDA) == 64
    cuda.reserved_bytes = cuda.free_bytes  # kept by torch for this process, and not in use
    assert fit_chunk_size(SMALL, 1, CUDA) == 128
    cuda.memory_bytes, cuda.shares[0] = cuda.free_bytes, 0.5  # this one's share of the device
    assert fit_chunk_size(SMALL, 1, CUDA) == 32
    cuda.shares[0] = 1.0
    cuda.free_bytes, cuda.reserved_bytes = need // 2, 0  # another worker has the rest
    assert fit_chunk_size(SMALL, 1, CUDA) == 1
    cuda.free_bytes = cuda.memory_bytes = 10_000 * GIB
    assert fit_chunk_size(SMALL, 1, CUDA) == MAX_DEVICE_CHUNK_SIZE
    assert fit_chunk_size(SMALL, 1, torch.device("cpu")) == MAX_CHUNK_SIZE == 32


def test_half_as_many_trials_are_tried_after_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.ml.attacks._search.fit_chunk_size", lambda *_: 2)
    expected = _recover()
    monkeypatch.setattr("shared.ml.attacks._search.fit_chunk_size", lambda *_: 4)
    tried = _refuse_larger(monkeypatch, 2)
    result = _recover()
    # once four, then all of the step again in twos, and no more than two from then on
    assert tried == [4, 2, 2, 2, 2, 2, 2]
    assert result.batch_size == 2
    assert torch.equal(result.images, expected.images)
    assert torch.equal(result.matching_loss, expected.matching_loss)


@pytest.mark.parametrize(("chunk_size", "tried"), [(4, [4, 2]), (1, [1])])
def test_what_does_not_fit_then_either_fails(
    monkeypatch: pytest.MonkeyPatch, chunk_size: int, tried: list[int]
) -> None:
    monkeypatch.setattr("shared.ml.attacks._search.fit_chunk_size", lambda *_: chunk_size)
    seen = _refuse_larger(monkeypatch, 0)
    with pytest.raises(torch.OutOfMemoryError, match=r"Tried to allocate 2\.00 GiB"):
        _recover()
    assert seen == tried


def _read_flags() -> tuple[Any, ...]:
    return (
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
        torch.get_float32_matmul_precision(),
        torch.is_autocast_enabled("cuda"),
        torch.is_autocast_enabled("cpu"),
    )


def test_a_search_computes_in_float32_whatever_was_set_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected, seen = _recover(), []

    def build(*arguments: Any) -> _matching.Matcher:
        matcher = build_matcher(*arguments)

        def match(*more: Any) -> tuple[torch.Tensor, ...]:
            seen.append(_read_flags())
            return matcher(*more)

        return match

    monkeypatch.setattr(_matching, "build_matcher", build)
    monkeypatch.setattr("shared.ml.attacks._search.find_fallback_reason", lambda *_: None)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            result, after = _recover(), _read_flags()
    finally:
        torch.set_float32_matmul_precision("highest")
    assert seen == [(False, False, "highest", False, False)] * 3
    assert after == (True, True, "medium", False, True)  # what others set is theirs
    assert torch.equal(result.images, expected.images)


def test_full_precision_ends_with_an_error_too() -> None:
    before = _read_flags()
    with pytest.raises(KeyError), full_precision():
        raise KeyError
    assert _read_flags() == before
