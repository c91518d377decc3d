"""The search on a GPU: the numbers of the CPU up to rounding, within the memory that was estimated."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from shared.ml import attacks
from shared.ml.attack_io import Reconstruction
from shared.ml.attacks import _matching, _plain
from shared.ml.attacks._adam import AdamW
from shared.ml.attacks._memory import estimate_trial_bytes, fit_chunk_size
from shared.ml.attacks._schedules import FAST
from shared.ml.attacks._search import MatchingObjective, TrialState, search_images
from shared.ml.attacks._target import TargetParams, build_gradient_target
from shared.ml.context import LocalContext, make_generator
from shared.ml.networks import Architecture
from shared.plugin_ref import PluginRef
from tests.support.ascended import LABEL, ascend

pytestmark = pytest.mark.gpu
cuda_only = pytest.mark.gpu(cuda_only=True)

DELETIONS = 4
CONVNET = Architecture(
    model=PluginRef(name="convnet", params={"width": 16}),
    input_shape=(3, 32, 32),
    num_classes=10,
    mean=(0.5,) * 3,
    std=(0.25,) * 3,
)
# of a gradient, relative to its largest entry; TF32 in the convolutions makes a hundred times as much
MAX_ROUNDING = 2e-4


def _build_objective(device: torch.device) -> MatchingObjective:
    estimate = build_gradient_target(ascend(CONVNET, DELETIONS), "pair", TargetParams())
    labels = torch.full((DELETIONS, 1), LABEL)
    return MatchingObjective([estimate], labels, "batched", LocalContext(device=device))


def _search(objective: MatchingObjective, device: torch.device, restarts: int, steps: int) -> None:
    shape, ctx = (1, *CONVNET.input_shape), LocalContext(device=device)
    search_images(objective, DELETIONS, FAST, steps, restarts, shape, ctx)


def _recover(device: torch.device, iterations: int) -> Reconstruction:
    attack = attacks.registry.get("feature_recovery")
    params = attack.params(iterations=iterations, preset="fast")
    result = attack.target(ascend(CONVNET, DELETIONS), params, LocalContext(device=device))
    assert isinstance(result, Reconstruction)
    return result


def test_a_step_is_that_of_float64_up_to_rounding(device: torch.device) -> None:
    """With TF32 allowed, as torch allows it for convolutions."""
    torch.backends.cudnn.allow_tf32 = True
    objective, ctx = _build_objective(device), LocalContext(device="cpu")
    images = torch.rand(DELETIONS, 1, *CONVNET.input_shape, generator=make_generator(1, "images"))
    index = torch.tensor([(d, 0, 0) for d in range(DELETIONS)])
    trials = TrialState(index.to(device), AdamW.create(images.to(device)))
    gradient, loss = objective.compute_gradients(trials, images.to(device), 0.1, 0.0)

    estimate = build_gradient_target(ascend(CONVNET, DELETIONS), "pair", TargetParams())
    network = estimate.evaluation_point.load_network().double()
    weights = {name: weight.detach() for name, weight in network.named_parameters()}
    direction = {name: g.double() for name, g in estimate.direction.items()}
    expected, expected_loss = _plain.build_matcher(network, weights)(
        images.double(), torch.full((DELETIONS, 1), LABEL), direction, 0.1
    )
    error = (gradient.cpu().double() - expected).abs().amax((1, 2, 3, 4))
    assert bool((error <= MAX_ROUNDING * expected.abs().amax((1, 2, 3, 4))).all())
    assert torch.allclose(loss.cpu().double(), expected_loss, atol=1e-5)
    assert torch.backends.cudnn.allow_tf32  # as it was
    assert ctx.device.type == "cpu"


def test_a_search_finds_what_it_finds_on_a_cpu_and_finds_it_again(device: torch.device) -> None:
    first, second = _recover(device, 60), _recover(device, 60)
    on_cpu = _recover(torch.device("cpu"), 60)
    begun = _recover(device, 1)
    assert bool((first.matching_loss < begun.matching_loss).all())
    assert torch.allclose(first.matching_loss, on_cpu.matching_loss, atol=0.02)
    if device.type == "cpu":
        assert torch.equal(first.images, second.images)
        assert torch.equal(first.images, on_cpu.images)
    else:
        assert torch.allclose(first.images, second.images, atol=1e-3)


def test_chunks_of_a_search_change_nothing_but_rounding(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _recover(device, 5)
    monkeypatch.setattr("shared.ml.attacks._search.fit_chunk_size", lambda *_: 1)
    single = _recover(device, 5)
    assert (single.batch_size, whole.batch_size > 1) == (1, True)
    assert torch.allclose(single.images, whole.images, atol=1e-3)


@cuda_only
def test_a_search_takes_no_more_memory_than_estimated(device: torch.device) -> None:
    for restarts in (2, 16, 64):
        objective = _build_objective(device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        _search(objective, device, restarts, 3)
        taken = torch.cuda.max_memory_allocated(device) - before
        assert objective.chunk_size >= DELETIONS * restarts
        estimated = DELETIONS * restarts * estimate_trial_bytes(CONVNET, 1)
        # the search's own state, and cuDNN's workspaces, which do not grow with the trials
        assert taken < estimated + (256 << 20), f"{restarts} restarts"


@cuda_only
def test_trials_fill_the_device(device: torch.device) -> None:
    free, _ = torch.cuda.mem_get_info(device)
    chunk_size = fit_chunk_size(CONVNET, 1, device)
    assert chunk_size > 32
    assert chunk_size * estimate_trial_bytes(CONVNET, 1) < free


@cuda_only
def test_half_as_many_trials_are_tried_once_the_device_is_full(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    restarts, total = 64, torch.cuda.get_device_properties(device).total_memory
    trials = DELETIONS * restarts

    def run(chunk_size: int) -> MatchingObjective:
        monkeypatch.setattr("shared.ml.attacks._search.fit_chunk_size", lambda *_: chunk_size)
        objective = _build_objective(device)
        _search(objective, device, restarts, 3)
        return objective

    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    run(trials // 2)
    enough = torch.cuda.max_memory_reserved(device)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1.15 * enough / total, device)
    try:
        assert run(trials).chunk_size == trials // 2
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


@cuda_only
def test_no_kernel_of_a_step_is_random(device: torch.device) -> None:
    """Torch names those that add in no fixed order, and refuses them."""
    objective = _build_objective(device)
    torch.use_deterministic_algorithms(True)
    try:
        _search(objective, device, 2, 3)
    finally:
        torch.use_deterministic_algorithms(False)


def test_shared_passes_are_those_of_single_trials(device: torch.device) -> None:
    estimate = build_gradient_target(ascend(CONVNET, DELETIONS), "pair", TargetParams())
    network = estimate.evaluation_point.load_network().to(device)
    weights = {name: weight.detach() for name, weight in network.named_parameters()}
    direction = {name: g.to(device) for name, g in estimate.direction.items()}
    images = torch.rand(DELETIONS, 1, *CONVNET.input_shape).to(device)
    match = partial(
        lambda build: build(network, weights)(
            images, torch.full((DELETIONS, 1), LABEL, device=device), direction, 0.1
        )
    )
    (shared, shared_loss), (single, single_loss) = (
        match(module.build_matcher) for module in (_matching, _plain)
    )
    assert torch.allclose(shared_loss, single_loss, atol=1e-3)
    assert (shared - single).norm() < 0.02 * single.norm()
