"""Gradient matching search: optimises images from several starts and for several gradient
sources."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import NamedTuple, TypeVar

import structlog
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from shared.ml.attacks import _matching, _plain
from shared.ml.attacks._adam import BETAS, AdamW
from shared.ml.attacks._bases import Basis
from shared.ml.attacks._embedding import EmbeddingTarget, read_embeddings
from shared.ml.attacks._estimate import GradientEstimate
from shared.ml.attacks._fallback import find_fallback_reason
from shared.ml.attacks._memory import fit_chunk_size
from shared.ml.attacks._schedules import Arithmetic, SearchSchedule
from shared.ml.attacks._shared_subspace import SharedSubspace
from shared.ml.context import Context
from shared.ml.reproducibility import full_precision

log = structlog.get_logger()
T = TypeVar("T")

IMPLEMENTATIONS: Mapping[Arithmetic, ModuleType] = {"plain": _plain, "batched": _matching}
WARMUP_SHARE = 0.15  # share of the steps after which only one gradient source is kept
LABEL_LR = 1.0  # of the logits of labels that are optimised with the images
LABEL_FREEZE_SHARE = 0.1  # share of the steps after which labels are fixed to the likeliest classes


@dataclass
class TrialState:
    """Trials: one start of one deletion for one gradient source each, as rows (deletion, source,
    start) of `index`.

    `image_optimiser` holds the images' coordinates in the search's basis [L, k, C, H, W].
    `label_optimiser` holds the logits [L, k, K] of labels that are optimised too; None if labels
    are known.
    """

    index: Tensor
    image_optimiser: AdamW
    label_optimiser: AdamW | None = None

    def select(self, rows: Tensor) -> TrialState:
        return TrialState.from_state_dict({name: t[rows] for name, t in self.state_dict().items()})

    def state_dict(self) -> dict[str, Tensor]:
        """All tensors, each [L, ...]."""
        label_state = (
            {}
            if self.label_optimiser is None
            else {f"labels.{name}": t for name, t in self.label_optimiser.state_dict().items()}
        )
        return self.image_optimiser.state_dict() | label_state | {"index": self.index}

    @classmethod
    def from_state_dict(cls, state_dict: dict[str, Tensor]) -> TrialState:
        """From the result of `state_dict`."""
        label_state = {
            n.removeprefix("labels."): t for n, t in state_dict.items() if n.startswith("labels.")
        }
        return cls(
            state_dict["index"],
            AdamW.from_state_dict(state_dict),
            AdamW.from_state_dict(label_state) if label_state else None,
        )

    def find_rows(self, source: int) -> tuple[Tensor, Tensor]:
        """Rows of that gradient source, and their deletions."""
        rows = (self.index[:, 1] == source).nonzero().flatten()
        return rows, self.index[rows, 0]


class GradientPoint(NamedTuple):
    """Weights at which gradients are taken."""

    network: nn.Module
    weights: dict[str, Tensor]
    match: _matching.Matcher


class MatchingObjective:
    """The objective of all trials. Networks and directions are on the device; labels [D, k], None
    if they are optimised too.

    `chunk_size` trials share a pass, half as many once the accelerator had no memory for it; where
    the network's layers do not let them, each trial is computed by itself, and `fallback_reason`
    says why.
    """

    @full_precision()
    def __init__(
        self,
        estimates: list[GradientEstimate],
        labels: Tensor | None,
        arithmetic: Arithmetic,
        ctx: Context,
        embedding_weight: float = 0.0,
    ) -> None:
        self.labels = None if labels is None else labels.to(ctx.device)
        self.architecture = estimates[0].evaluation_point.architecture
        self.num_classes = self.architecture.num_classes
        self.directions = [{n: g.to(ctx.device) for n, g in e.direction.items()} for e in estimates]
        self.coordinate_weights = [
            e.coordinate_weights and {n: t.to(ctx.device) for n, t in e.coordinate_weights.items()}
            for e in estimates
        ]
        self.shared_subspaces = [
            e.shared_subspace and e.shared_subspace.to(next(iter(d.values())))
            for e, d in zip(estimates, self.directions, strict=True)
        ]
        # the mean of several samples' gradients is no outer product
        reads_embeddings = embedding_weight > 0 and labels is not None and labels.shape[1] == 1
        self.embeddings = [
            _move(read_embeddings(e, embedding_weight) if reads_embeddings else None, d)
            for e, d in zip(estimates, self.directions, strict=True)
        ]
        networks = [
            [
                e.evaluation_point.load_network(which).to(ctx.device)
                for which in range(e.evaluation_point.count)
            ]
            for e in estimates
        ]
        self.fallback_reason = (
            find_fallback_reason(networks[0][0], self.architecture.input_shape)
            if arithmetic == "batched"
            else None
        )
        self.is_shared = arithmetic == "batched" and self.fallback_reason is None
        self.implementation = IMPLEMENTATIONS["batched" if self.is_shared else "plain"]
        self.chunk_size = 1
        if self.is_shared:
            images = 1 if labels is None else labels.shape[1]
            self.chunk_size = fit_chunk_size(self.architecture, images, ctx.device)
        self.points = [[self._build_point(n) for n in of_source] for of_source in networks]

    def _build_point(self, network: nn.Module) -> GradientPoint:
        weights = {name: w.detach() for name, w in network.named_parameters()}
        return GradientPoint(network, weights, self.implementation.build_matcher(network, weights))

    def compute_gradients(
        self, trials: TrialState, images: Tensor, tv: float, smoothing: float
    ) -> tuple[Tensor, ...]:
        """The gradient of the objective in `images`, those of the trials; 1 - cos, [L]; and the
        gradient in the logits, if any.

        Raises:
            torch.OutOfMemoryError: the accelerator has no memory for half as many trials at once
                either.
        """
        return self._compute_in_chunks(
            lambda: self._compute_gradients(trials, images, tv, smoothing)
        )

    def compute_matching_loss(self, trials: TrialState, images: Tensor) -> Tensor:
        """1 - cos of `images`, those of the trials, [L]. Raises as `compute_gradients`."""
        return self._compute_in_chunks(lambda: self._compute_matching_loss(trials, images))

    @full_precision()
    def _compute_in_chunks(self, compute: Callable[[], T]) -> T:
        """What `compute` returns; if the accelerator's memory does not suffice, in chunks of half
        the size from now on."""
        try:
            return compute()
        except torch.OutOfMemoryError as error:
            if self.chunk_size == 1:
                raise
            reason = str(error)
        # not in the handler: its traceback holds all tensors of the failed step
        self.chunk_size //= 2
        log.warning("out of memory; halving the batch", trials=self.chunk_size, error=reason)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return compute()

    def _compute_gradients(
        self, trials: TrialState, images: Tensor, tv: float, smoothing: float
    ) -> tuple[Tensor, ...]:
        outputs = [torch.empty_like(images), images.new_empty(len(trials.index))]
        if trials.label_optimiser is not None:
            outputs.append(torch.empty_like(trials.label_optimiser.x))
        for (
            point,
            rows,
            labels,
            target,
            coordinate_weights,
            subspace,
            embedding,
        ) in self._iter_parts(trials):
            parts = point.match(
                images[rows], labels, target, tv, coordinate_weights, subspace, embedding, smoothing
            )
            for whole, part in zip(outputs, parts, strict=True):
                whole[rows] = part
        return tuple(outputs)

    def _iter_parts(
        self, trials: TrialState
    ) -> Iterator[
        tuple[
            GradientPoint,
            Tensor,
            Tensor,
            dict[str, Tensor],
            dict[str, Tensor] | None,
            SharedSubspace | None,
            EmbeddingTarget | None,
        ]
    ]:
        """Groups of rows that share the weights at which gradients are taken, and fit into one
        pass, each with its targets."""
        for source, points in enumerate(self.points):
            rows, deletions = trials.find_rows(source)
            for deletion, point in enumerate(points):
                point_rows, point_deletions = rows, deletions
                if len(points) > 1:
                    point_rows, point_deletions = (
                        rows[deletions == deletion],
                        deletions[deletions == deletion],
                    )
                size = self.chunk_size if self.is_shared else max(1, len(point_rows))
                for chunk_rows, chunk_deletions in zip(
                    point_rows.split(size), point_deletions.split(size), strict=True
                ):
                    if len(chunk_rows):
                        yield (
                            point,
                            chunk_rows,
                            *self._select_targets(trials, source, chunk_rows, chunk_deletions),
                        )

    def _select_targets(
        self, trials: TrialState, source: int, rows: Tensor, deletions: Tensor
    ) -> tuple[
        Tensor,
        dict[str, Tensor],
        dict[str, Tensor] | None,
        SharedSubspace | None,
        EmbeddingTarget | None,
    ]:
        """Labels, directions, coordinate weights, subspace and embeddings of these trials."""
        all_weights = self.coordinate_weights[source]
        subspace, embedding = self.shared_subspaces[source], self.embeddings[source]
        return (
            self._select_labels(trials, rows, deletions),
            {name: g[deletions] for name, g in self.directions[source].items()},
            None
            if all_weights is None
            else {name: t[deletions] for name, t in all_weights.items()},
            None if subspace is None else subspace.select(deletions),
            None if embedding is None else embedding.select(deletions),
        )

    def _select_labels(self, trials: TrialState, rows: Tensor, deletions: Tensor) -> Tensor:
        """Labels of these trials: classes [L, k], or logits [L, k, K]."""
        if trials.label_optimiser is not None:
            return trials.label_optimiser.x[rows]
        assert self.labels is not None
        return self.labels[deletions]

    def _compute_matching_loss(self, trials: TrialState, images: Tensor) -> Tensor:
        loss = images.new_empty(len(trials.index))
        for point, rows, labels, target, coordinate_weights, subspace, _ in self._iter_parts(
            trials
        ):
            loss[rows] = self.implementation.compute_matching_loss(
                point.network,
                point.weights,
                images[rows],
                labels,
                target,
                coordinate_weights=coordinate_weights,
                subspace=subspace,
            )
        return loss


def _move(
    embedding: EmbeddingTarget | None, direction: Mapping[str, Tensor]
) -> EmbeddingTarget | None:
    return None if embedding is None else embedding.to(next(iter(direction.values())))


def harden_logits(logits: Tensor) -> Tensor:
    """Logits of the likeliest classes alone: their softmax is 0 or 1, with no gradient."""
    return 1e4 * one_hot(logits.argmax(2), logits.shape[2]).to(logits.dtype)


class SearchResult(NamedTuple):
    """Images [D, k, C, H, W], their labels [D, k], 1 - cos [D] and the index of the gradient source
    [D].

    `best_restart`, like the images: those of the restart that matches best, where the images are
    means of restarts; None if they are that restart's. With several samples per deletion restarts
    find them in different orders, so no means are taken.
    """

    images: Tensor
    labels: Tensor
    loss: Tensor
    gradient_source: Tensor
    best_restart: Tensor | None


def select_best_trials(trials: TrialState, loss: Tensor) -> Tensor:
    """The row of each deletion with the lowest matching loss, the only criterion an attacker
    has."""
    return torch.stack([
        rows[loss[rows].argmin()]
        for rows in ((trials.index[:, 0] == d).nonzero().flatten() for d in trials.index[:, 0].unique())
    ])  # fmt: skip


def _select_gradient_source(trials: TrialState, loss: Tensor, deletions: int) -> int:
    """The gradient source that the first `deletions` match better, by the mean loss of their best
    starts."""
    means = []
    for source in range(int(trials.index[:, 1].max()) + 1):
        rows, deletion_of_row = trials.find_rows(source)
        best = torch.full((int(deletion_of_row.max()) + 1,), torch.inf, device=loss.device)
        means.append(best.scatter_reduce(0, deletion_of_row, loss[rows], "amin")[:deletions].mean())
    return int(torch.stack(means).argmin())


@full_precision()
def search_images(
    objective: MatchingObjective,
    deletions: int,
    schedule: SearchSchedule,
    iterations: int,
    restarts: int,
    shape: tuple[int, ...],
    ctx: Context,
) -> SearchResult:
    """Run the search to its end, resuming from the checkpoint if there is one.

    Args:
        deletions: how many of the directions belong to deletions; the rest are controls.
        shape: of one start, (k, C, H, W).

    Returns:
        for each deletion and each control, the trial that matches best, or the mean of its restarts
            if the schedule says so.
    """
    basis = schedule.build_basis(objective.architecture, ctx.device)
    trials, first_step = _create_trials(objective, restarts, schedule, shape, ctx), 0
    if (saved := ctx.load_checkpoint()) is not None:
        first_step, state = saved
        trials = TrialState.from_state_dict({name: t.to(ctx.device) for name, t in state.items()})
    for step in range(first_step, iterations):
        trials = _drop_trials(step, iterations, objective, trials, basis, deletions)
        images = basis.render(trials.image_optimiser.x)
        gradient, loss, *label_gradient = objective.compute_gradients(
            trials,
            images,
            schedule.get_tv(step, iterations),
            schedule.get_smoothing(step, iterations),
        )
        gradient = basis.pull_back(images, gradient)
        trials.image_optimiser.step(
            step + 1,
            gradient.sign() if schedule.step_by == "sign" else gradient,
            schedule.get_lr(step, iterations),
            schedule.weight_decay,
            (schedule.momentum, BETAS[1]),
        )
        if trials.label_optimiser is not None:
            trials.label_optimiser.step(step + 1, label_gradient[0], LABEL_LR, 0)
            if step + 1 == max(1, int(LABEL_FREEZE_SHARE * iterations)):
                trials.label_optimiser = AdamW.create(harden_logits(trials.label_optimiser.x))
        if step % 10 == 0 or step + 1 == iterations:
            ctx.report_progress(step + 1, iterations, matching_loss=loss.mean().item())
        else:
            ctx.report_progress(step + 1, iterations)
        show = partial(_estimate_samples, trials, images, loss, schedule, deletions)
        ctx.offer_preview(step + 1, iterations, show)
        if ctx.is_checkpoint_due():
            ctx.save_checkpoint(step + 1, trials.state_dict())
    render = basis.render if schedule.clamp_last else basis.expand
    return _select_result(objective, trials, render(trials.image_optimiser.x), schedule)


def _estimate_samples(
    trials: TrialState, images: Tensor, loss: Tensor, schedule: SearchSchedule, deletions: int
) -> Tensor:
    """What the search would answer for the deletions, as images [n, C, H, W], if it ended here: by
    the matching loss of this step, which is all that the attacker knows."""
    if len(trials.index[:, 1].unique()) > 1:
        rows = trials.find_rows(_select_gradient_source(trials, loss, deletions))[0]
        trials, images, loss = trials.select(rows), images[rows], loss[rows]
    best_rows = select_best_trials(trials, loss)
    answers = (
        _average_restarts(trials, images, best_rows)
        if _takes_means(schedule, images, best_rows)
        else images[best_rows]
    )
    return answers[:deletions].flatten(0, 1)


def _takes_means(schedule: SearchSchedule, images: Tensor, best_rows: Tensor) -> bool:
    """Whether the answer is the mean of a deletion's restarts, of which there are several."""
    return schedule.answer == "mean" and len(images) > len(best_rows) and images.shape[1] == 1


def _drop_trials(
    step: int,
    iterations: int,
    objective: MatchingObjective,
    trials: TrialState,
    basis: Basis,
    deletions: int,
) -> TrialState:
    """The trials of one gradient source, once the warm-up has shown which one matches better."""
    if len(objective.points) == 1 or step != max(1, int(WARMUP_SHARE * iterations)):
        return trials
    # not rendered: in pixels that would clamp them
    images = basis.expand(trials.image_optimiser.x)
    loss = objective.compute_matching_loss(trials, images)
    return trials.select(trials.find_rows(_select_gradient_source(trials, loss, deletions))[0])


def _select_result(
    objective: MatchingObjective, trials: TrialState, images: Tensor, schedule: SearchSchedule
) -> SearchResult:
    """Of the final `images` of all trials, those that are the answer."""
    loss = objective.compute_matching_loss(trials, images)
    best_rows = select_best_trials(trials, loss)
    best_trials, best_images, best_loss = (
        trials.select(best_rows),
        images[best_rows],
        loss[best_rows],
    )
    labels = (
        objective.labels
        if best_trials.label_optimiser is None
        else best_trials.label_optimiser.x.argmax(2)
    )
    assert labels is not None
    answers, best_restart = best_images, None
    if _takes_means(schedule, images, best_rows):
        answers, best_restart = _average_restarts(trials, images, best_rows), best_images
        best_loss = objective.compute_matching_loss(best_trials, answers)
    return SearchResult(
        answers.cpu(),
        labels.cpu(),
        best_loss.cpu(),
        best_trials.index[:, 1].cpu(),
        None if best_restart is None else best_restart.cpu(),
    )


def _average_restarts(trials: TrialState, images: Tensor, best_rows: Tensor) -> Tensor:
    """For each deletion the mean of its restarts, of those that found the best one's labels if
    labels are optimised."""
    means = []
    for row in best_rows:
        alike = trials.index[:, 0] == trials.index[row, 0]
        if trials.label_optimiser is not None:
            labels = trials.label_optimiser.x.argmax(2)
            alike &= (labels == labels[row]).all(1)
        means.append(images[alike].mean(0))
    return torch.stack(means)


def _create_trials(
    objective: MatchingObjective,
    restarts: int,
    schedule: SearchSchedule,
    shape: tuple[int, ...],
    ctx: Context,
) -> TrialState:
    """The initial trials; a deletion's starts are the same for every gradient source. Optimised
    labels start uniform."""
    deletions, num_sources = (
        len(next(iter(objective.directions[0].values()))),
        len(objective.points),
    )
    inits = [
        [schedule.draw_init(shape, ctx.make_generator(f"start {d} {r}")) for r in range(restarts)]
        for d in range(deletions)
    ]
    index = [
        (d, e, r) for d in range(deletions) for e in range(num_sources) for r in range(restarts)
    ]
    x = torch.stack([inits[d][r] for d, _, r in index])
    uniform_logits = x.new_zeros(len(index), shape[0], objective.num_classes).to(ctx.device)
    label_optimiser = AdamW.create(uniform_logits) if objective.labels is None else None
    return TrialState(
        torch.tensor(index, device=ctx.device), AdamW.create(x.to(ctx.device)), label_optimiser
    )
