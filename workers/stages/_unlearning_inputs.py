"""The inputs of an unlearning job, and the part of them that concerns one deletion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from shared.errors import InvalidRequest
from shared.ml.context import Context
from shared.ml.networks import Networks, read_networks
from shared.ml.records import Shards, read_json
from shared.ml.samples import Samples
from shared.ml.training.deltas import BatchDeltas
from shared.ml.training.recipe import Recipe
from shared.ml.unlearning.api import UnlearningInputs, draw_held_out
from shared.plugin_ref import validate_model
from shared.roles import Role
from workers.context import JobContext


class HeldOutSamples(NamedTuple):
    """Samples that were never trained on: of the pool, and the test split."""

    pool: Samples
    public: Samples

    def draw(self, labels: Tensor, ctx: Context) -> Samples:
        """Some of the classes in `labels`."""
        return draw_held_out(self.pool, self.public, labels, ctx.make_generator("held out"))


@dataclass(frozen=True)
class UnlearningArtifacts:
    """The artifacts that the method's `needs` name; the others are None, and RECIPE if it is not
    supplied."""

    base: Networks | None
    recipe: Recipe | None
    shards: Shards | None
    deltas: BatchDeltas | None
    held_out: HeldOutSamples

    @classmethod
    def read(
        cls, ctx: JobContext, original: Networks, n: int, held_out: HeldOutSamples
    ) -> UnlearningArtifacts:
        """Read the artifacts.

        Raises:
            InvalidRequest: they do not fit the original, or the method cannot unlearn such an
                original.
        """
        assert ctx.method is not None
        needs, members = ctx.method.needs, original.architecture.members
        if members > 1 and Role.SHARDS not in needs:
            raise InvalidRequest(
                f"{ctx.method.name} cannot unlearn an ensemble of {members} models: use sisa, or "
                "train without shards",
                "method",
            )
        base = shards = deltas = recipe = None
        if Role.BASE in needs:
            base = read_networks(
                ctx.read_input(Role.BASE), Role.BASE, like=original.architecture.member_architecture
            )
        if Role.RECIPE in ctx.inputs:
            recipe = validate_model(
                Recipe,
                read_json(ctx.read_input(Role.RECIPE), Role.RECIPE),
                Role.RECIPE,
                f"inputs.{Role.RECIPE}",
            )
        if Role.SHARDS in needs:
            shards = Shards.read(ctx.read_input(Role.SHARDS), Role.SHARDS)
            if shards.members != members or len(shards.member) != n:
                raise InvalidRequest(
                    f"SHARDS does not belong to {members} models of {n} samples",
                    f"inputs.{Role.SHARDS}",
                )
        if Role.BATCH_DELTAS in needs:
            shapes = {name: w.shape for name, w in original.load_network().named_parameters()}
            deltas = BatchDeltas.from_bytes(ctx.read_input(Role.BATCH_DELTAS), shapes)
        return cls(base, recipe, shards, deltas, held_out)

    def build_inputs(
        self,
        start: nn.Module,
        retain: Tensor,
        forget: Tensor,
        earlier: Tensor,
        labels: Tensor,
        ctx: Context,
    ) -> UnlearningInputs:
        """The inputs for one deletion; positions refer to the training set, `earlier` were
        forgotten before, `labels` are of `forget`."""
        member = torch.tensor(self.shards.member) if self.shards else None
        changes = None
        if self.deltas is not None:
            undone = self.deltas.sum_changes({*earlier.tolist()})
            changes = {
                n: t - undone[n]
                for n, t in self.deltas.sum_changes({*earlier.tolist(), *forget.tolist()}).items()
            }
        return UnlearningInputs(
            original=start,
            base=self.base.load_network() if self.base else None,
            recipe=self.recipe,
            members=None if member is None else (member[retain], member[forget]),
            changes_to_undo=changes,
            held_out=self.held_out.draw(labels, ctx),
        )
