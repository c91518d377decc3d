"""The attack's parts against slow, obvious references, and the sign of the estimate in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from shared.errors import InvalidRequest
from shared.ml.attack_io import WhiteBoxView
from shared.ml.attacks import feature_recovery, label_inference
from shared.ml.attacks._adam import AdamW
from shared.ml.attacks._estimate import estimate_gradient, infer_labels, score_classes
from shared.ml.attacks._matching import build_matcher, compute_matching_loss, total_variation
from shared.ml.attacks._schedules import SCHEDULES, Preset, select_schedule
from shared.ml.attacks._search import TrialState, _average_restarts
from shared.ml.context import LocalContext, make_generator
from shared.ml.networks import Architecture, Networks
from shared.ml.samples import Samples
from shared.plugin_ref import PluginRef
from tests.support import observations

CONVNET = Architecture(
    model=PluginRef(name="convnet", params={"width": 2}),
    input_shape=(1, 9, 9),
    num_classes=4,
    mean=(0.5,),
    std=(0.5,),
)
MLP = CONVNET.model_copy(update={"model": PluginRef(name="mlp")})


def observe(
    method: str,
    deletions: int = 3,
    k: int = 1,
    double: bool = False,
    architecture: Architecture = CONVNET,
) -> tuple[WhiteBoxView, Samples]:
    return observations.make_observation(architecture, method, deletions, k, double)


def true_gradient(at: Networks, batch: Samples, double: bool) -> list[Tensor]:
    network = at.load_network()
    if double:
        network = network.double()
        network.load_state_dict({name: t[0] for name, t in at.state.items()})
    return list(
        torch.autograd.grad(
            cross_entropy(network(batch.images), batch.labels), list(network.parameters())
        )
    )


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize(
    ("method", "gradient_from"), [("gradient_ascent", "pair"), ("retrain", "base")]
)
def test_the_estimate_is_the_forgotten_samples_gradient(
    method: str, gradient_from: str, k: int
) -> None:
    seen, truth = observe(method, deletions=3, k=k, double=True)
    at, direction, *_ = estimate_gradient(seen, gradient_from)
    for i in range(3):
        true = true_gradient(at, truth.pick(list(range(i * k, (i + 1) * k))), double=True)
        flat = torch.cat([t.flatten() for t in true])
        found = torch.cat([direction[name][i].flatten() for name in direction]).double()
        assert torch.cosine_similarity(flat, found, dim=0) > 0.99
        assert found.norm() == pytest.approx(1, abs=1e-5)


def test_an_estimate_from_the_base_needs_base_and_deletion_sizes() -> None:
    seen, _ = observe("retrain")
    with pytest.raises(InvalidRequest, match="DELETION_SIZES"):
        estimate_gradient(replace(seen, deletion_sizes=None), "base")


def test_a_deletion_without_a_trace_is_refused() -> None:
    seen, _ = observe("gradient_ascent")
    state = {n: t.clone() for n, t in seen.unlearned.state.items()}
    for name in state:
        state[name][1] = seen.original.state[name][0]
    with pytest.raises(InvalidRequest, match="deletion 1"):
        estimate_gradient(replace(seen, unlearned=Networks(CONVNET, state, 3)), "pair")


def test_the_composed_gradient_is_the_double_backward_one() -> None:
    seen, truth = observe("gradient_ascent")
    at, direction, *_ = estimate_gradient(seen, "pair")
    network = at.load_network()
    weights = {name: w.detach() for name, w in network.named_parameters()}
    images = torch.rand(3, 1, 1, 9, 9, generator=make_generator(0, "start"))
    labels = truth.labels.view(3, 1)
    gradient, loss = build_matcher(network, weights, chunk_size=2)(images, labels, direction, 0.1)
    parameters = list(network.parameters())
    for trial in range(3):
        x = images[trial].clone().requires_grad_()
        g = torch.autograd.grad(
            cross_entropy(network(x), labels[trial]), parameters, create_graph=True
        )
        flat, aim = (
            torch.cat([t.flatten() for t in g]),
            torch.cat([d[trial].flatten() for d in direction.values()]),
        )
        distance = 1 - torch.cosine_similarity(flat, aim, dim=0)
        (expected,) = torch.autograd.grad(distance + 0.1 * total_variation(x), x)
        torch.testing.assert_close(gradient[trial], expected, atol=1e-6, rtol=1e-3)
        torch.testing.assert_close(loss[trial], distance.detach())
    torch.testing.assert_close(
        compute_matching_loss(network, weights, images, labels, direction), loss
    )


def test_total_variation_of_a_step_by_hand() -> None:
    image = torch.tensor([[[0.0, 1.0], [0.0, 1.0]]])
    assert total_variation(image) == 1.0  # across: |1| everywhere, down: 0
    assert total_variation(torch.ones(1, 3, 3)) == 0


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.95, 0.99)])
def test_kept_trials_go_on_with_the_steps_of_torchs_adamw(betas: tuple[float, float]) -> None:
    source = make_generator(0, "adamw")
    start, gradients = torch.rand(4, 5, generator=source), torch.randn(30, 4, 5, generator=source)
    ours, theirs = AdamW.create(start.clone()), start.clone().requires_grad_()
    optimiser = torch.optim.AdamW([theirs], lr=0.04, weight_decay=0.01, betas=betas, foreach=False)
    rows = torch.arange(4)
    for number, gradient in enumerate(gradients.sign(), start=1):
        if number == 12:
            rows = torch.tensor([2, 0])
            ours = AdamW.from_state_dict({name: t[rows] for name, t in ours.state_dict().items()})
        ours.step(number, gradient[rows], 0.04, 0.01, betas)
        theirs.grad = gradient
        optimiser.step()
        assert torch.equal(ours.x, theirs.detach()[rows])


def test_the_papers_learning_rate_halves_at_its_three_marks() -> None:
    paper = SCHEDULES["paper"]
    total = paper.iterations
    marks = [int(total / part) for part in (2.667, 1.6, 1.142)]
    assert [paper.get_lr(mark - 1, total) / paper.lr for mark in marks] == [1, 0.5, 0.25]
    assert [paper.get_lr(mark, total) / paper.lr for mark in marks] == [0.5, 0.25, 0.125]


@pytest.mark.parametrize("preset", SCHEDULES)
def test_the_last_steps_follow_the_true_derivative(preset: Preset) -> None:
    schedule = SCHEDULES[preset]
    smoothing = [schedule.get_smoothing(step, 500) for step in range(500)]
    assert smoothing[0] == schedule.smoothing == (preset != "paper")
    assert smoothing == sorted(smoothing, reverse=True)
    assert smoothing[-1] < 1e-4


def run(seen: WhiteBoxView, ctx: LocalContext, **params: object) -> feature_recovery.Reconstruction:
    return feature_recovery.run(seen, feature_recovery.FeatureRecoveryParams(**params), ctx)


def test_recovery_lowers_the_matching_loss_and_stays_in_range() -> None:
    seen, truth = observe("gradient_ascent", architecture=MLP)
    ctx = LocalContext()
    found = run(seen, ctx, iterations=60)
    told = [numbers["matching_loss"] for _, _, numbers in ctx.progress_reports if numbers]
    assert len(ctx.progress_reports) == 60
    assert told[-1] < 0.5 * told[0]
    assert 0 <= found.images.min() <= found.images.max() <= 1
    assert found.images.shape == (3, 1, 1, 9, 9)
    assert found.matching_loss.shape == (3,)
    grey = torch.full_like(truth.images, 0.5)
    assert (found.images[:, 0] - truth.images).square().mean() < 0.5 * (
        grey - truth.images
    ).square().mean()


@pytest.mark.parametrize(
    ("preset", "labels"),
    [
        ("default", "given"),
        ("fast", "given"),
        ("accurate", "given"),
        ("paper", "given"),
        ("default", "optimised"),
    ],
)
def test_a_resumed_recovery_ends_bit_equal(preset: str, labels: str) -> None:
    seen, _ = observe("gradient_ascent", k=2)
    how = {"iterations": 12, "restarts": 2, "preset": preset, "labels": labels}
    whole = run(seen, LocalContext(), **how)
    first = LocalContext(checkpoint_every=5)
    run(seen, first, **how)
    later = LocalContext()
    later.checkpoint = first.checkpoint
    resumed = run(seen, later, **how)
    assert later.progress_reports[0][0] == 11
    assert torch.equal(whole.images, resumed.images)
    assert torch.equal(whole.labels, resumed.labels)
    assert torch.equal(whole.matching_loss, resumed.matching_loss)


class Showing(LocalContext):
    """Draws a preview of every step."""

    def __init__(self) -> None:
        super().__init__()
        self.previews: list[torch.Tensor] = []

    def offer_preview(
        self,
        done: int,
        total: int,
        estimate: Callable[[], torch.Tensor],
    ) -> None:
        assert done == len(self.previews) + 1 <= total
        self.previews.append(estimate())


@pytest.mark.parametrize(
    "how",
    [
        {"preset": "default"},  # the mean of restarts, in a basis of frequencies
        {"preset": "paper"},  # the best restart, in pixels that are clamped in place
        {"preset": "default", "labels": "optimised"},
        {"preset": "fast", "gradient_from": "either", "controls": 1},
    ],
)
def test_previews_change_nothing(how: dict[str, object]) -> None:
    seen, _ = observe("gradient_ascent")
    how = {"iterations": 8, "restarts": 2, **how}
    unseen, ctx = run(seen, LocalContext(), **how), Showing()
    shown = run(seen, ctx, **how)
    for name in ("images", "labels", "matching_loss"):
        assert torch.equal(getattr(unseen, name), getattr(shown, name))
    # of the deletions only, and not of the controls
    assert [one.shape for one in ctx.previews] == [shown.images.flatten(0, 1).shape] * 8


def test_the_last_preview_is_nearly_the_answer() -> None:
    seen, _ = observe("gradient_ascent", architecture=MLP)
    ctx = Showing()
    found = run(seen, ctx, iterations=60).images.flatten(0, 1)
    first, last = ((one - found).square().mean() for one in (ctx.previews[0], ctx.previews[-1]))
    assert last < 0.01 * first


@pytest.mark.parametrize(
    ("method", "gradient_from"), [("gradient_ascent", "pair"), ("retrain", "base")]
)
def test_classes_are_found_together_with_the_images(method: str, gradient_from: str) -> None:
    seen, truth = observe(method, architecture=MLP)
    blind = replace(seen, labels=None)
    found = run(
        blind,
        LocalContext(),
        iterations=100,
        labels="optimised",
        controls=1,
        gradient_from=gradient_from,
    )
    assert found.labels.flatten().tolist() == truth.labels.tolist()
    assert found.labels.shape == (3, 1)
    assert found.matching_loss.max() < 0.2
    assert found.controls["random_direction"].shape == (1, 1, 1, 9, 9)


def test_of_several_restarts_the_lowest_matching_loss_is_kept() -> None:
    seen, _ = observe("gradient_ascent")
    one = run(seen, LocalContext(), iterations=10, restarts=1, preset="paper")
    three = run(seen, LocalContext(), iterations=10, restarts=3, preset="paper")
    assert bool((three.matching_loss <= one.matching_loss + 1e-6).all())


def test_the_answer_is_the_mean_of_the_restarts_and_its_loss_is_its_own() -> None:
    index = torch.tensor([[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 0, 1]])
    images = torch.rand(4, 1, 1, 9, 9, generator=make_generator(0, "images"))
    trials = TrialState(index, AdamW.create(images))
    means = _average_restarts(trials, images, torch.tensor([1, 2]))
    assert torch.equal(means, torch.stack([images[:2].mean(0), images[2:].mean(0)]))
    logits = torch.zeros(4, 1, 4)
    logits[:, 0, 2], logits[3, 0, 1] = 1, 2  # the last restart found another class
    trials = TrialState(index, AdamW.create(images), AdamW.create(logits))
    means = _average_restarts(trials, images, torch.tensor([1, 2]))
    assert torch.equal(means, torch.stack([images[:2].mean(0), images[2]]))

    seen, truth = observe("gradient_ascent")
    found = run(seen, LocalContext(), iterations=10, restarts=3)
    at, direction, *_ = estimate_gradient(seen, "pair")
    network = at.load_network()
    weights = {name: w.detach() for name, w in network.named_parameters()}
    loss = compute_matching_loss(network, weights, found.images, truth.labels.view(3, 1), direction)
    torch.testing.assert_close(found.matching_loss, loss)
    assert found.alternatives["best_restart"].shape == found.images.shape
    several = run(observe("gradient_ascent", k=2)[0], LocalContext(), iterations=10, restarts=3)
    assert several.alternatives == {}  # restarts find several samples in different orders


@pytest.mark.parametrize(
    ("shape", "mean", "basis", "embedding_weight"),
    [
        ((3, 32, 32), (0.49, 0.48, 0.45), "frequencies", 0.3),
        ((1, 28, 28), (0.13,), "pixels", 0.3),
        ((30, 1, 1), (0.5,) * 30, "pixels", 0.0),
        ((30, 1, 1), (0.1,) * 30, "pixels", 0.0),
    ],
)
def test_each_kind_of_data_has_its_own_search(
    shape: tuple[int, int, int], mean: tuple[float, ...], basis: str, embedding_weight: float
) -> None:
    architecture = Architecture(
        model=PluginRef(name="mlp"),
        input_shape=shape,
        num_classes=2,
        mean=mean,
        std=(0.2,) * len(mean),
    )
    for preset in ("fast", "default", "accurate"):
        schedule = select_schedule(preset, architecture)
        assert (schedule.basis, schedule.embedding_weight) == (basis, embedding_weight)
    assert select_schedule("paper", architecture) is SCHEDULES["paper"]


def test_a_start_does_not_depend_on_the_other_deletions() -> None:
    seen, _ = observe("gradient_ascent")
    only = Networks(CONVNET, {n: t[:1] for n, t in seen.unlearned.state.items()}, 1)
    assert seen.labels is not None
    alone = run(replace(seen, unlearned=only, labels=seen.labels[:1]), LocalContext(), iterations=1)
    among = run(seen, LocalContext(), iterations=1)
    # Adam's first step is as long for a coordinate with nearly no gradient, whose sign is rounding's
    torch.testing.assert_close(alone.images[0], among.images[0], atol=0.01, rtol=0)
    assert (alone.images[0] - among.images[1]).abs().max() > 0.05


def test_the_white_box_rule_tells_classes() -> None:
    seen, truth = observe("gradient_ascent")
    answers = label_inference.run(seen, label_inference.LabelInferenceParams(), LocalContext())
    assert answers.labels.flatten().tolist() == truth.labels.tolist()
    inferred = run(replace(seen, labels=None), LocalContext(), iterations=1, labels="inferred")
    assert inferred.labels.flatten().tolist() == truth.labels.tolist()


def test_several_classes_are_the_lowest_scores() -> None:
    scores = torch.tensor([[0.3, -0.5, 0.1, -0.2]])
    assert infer_labels(scores, 2).tolist() == [[1, 3]]
    with pytest.raises(InvalidRequest):
        infer_labels(scores, 5)


def test_class_scores_has_one_score_a_class() -> None:
    seen, truth = observe("gradient_ascent")
    scores = score_classes(seen, "pair")
    assert scores.shape == (3, 4)
    assert bool((scores.gather(1, truth.labels.view(3, 1)) < 0).all())
    assert ((scores < 0).sum(1) == 1).all()


@pytest.mark.parametrize(
    "labels", [None, torch.zeros(2, 1, dtype=torch.int64), torch.full((3, 1), 4)]
)
def test_given_labels_must_fit(labels: Tensor | None) -> None:
    seen, _ = observe("gradient_ascent")
    with pytest.raises(InvalidRequest):
        run(replace(seen, labels=labels), LocalContext(), iterations=1)
