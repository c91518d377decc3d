"""Repeats unlearning, defense and attack on shadow deletions: the null distribution of a label
attack's scores.

Only the auditor, who knows the truth, can do this. For each of B shadow deletions the attack scores
every class; the scores of classes that were *not* forgotten are the null distribution of a claim
that a class was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn

from shared.catalog import CatalogEntry
from shared.errors import InvalidRequest
from shared.ml import attacks, defenses, unlearning
from shared.ml.attack_io import ProbeView, WhiteBoxView
from shared.ml.context import Context, SeededSubContext
from shared.ml.defense_knowledge import apply_defense_knowledge
from shared.ml.networks import Networks, clone, read_networks, stack_networks
from shared.ml.oracles import Oracle
from shared.ml.records import (
    DefenseRecord,
    DeletionSizes,
    ForgetSets,
    ShadowScores,
    TrainingSet,
    UnlearningRecord,
    read_json,
)
from shared.ml.samples import Samples, open_dataset
from shared.ml.tensors import read_tensors
from shared.ml.training.recipe import Recipe
from shared.ml.training.sgd import train
from shared.ml.unlearning.api import UnlearningInputs
from shared.plugin_ref import PluginRef, resolve_plugin, validate_model
from shared.plugins import AttackPlugin, DefensePlugin, Params, Plugin, UnlearningPlugin
from shared.registry import Registry
from shared.roles import Role
from shared.shadows import MIN_SHADOWS, find_unrepeatable_role
from shared.wiring import Scope, Wiring, WorkerGroup
from workers.context import JobContext, StageOutput
from workers.stages import registry
from workers.stages._shadow_sets import DeletionsUnderTest, ShadowSet, draw_shadow_sets
from workers.stages._unlearning_inputs import HeldOutSamples


class ShadowParams(Params):
    shadows: int = Field(
        MIN_SHADOWS,
        ge=MIN_SHADOWS,
        le=10_000,
        description="B, shadow deletions; the smallest possible p-value is 1 / (B + 1). Of a model "
        "that was brought, as many as its retained samples suffice for, if these are fewer",
    )


@registry.register(
    "shadow",
    params=ShadowParams,
    needs=(
        Role.ORIGINAL, Role.RECIPE, Role.TRAINING_SET, Role.FORGET_SETS, Role.DELETION_SIZES,
        Role.UNLEARNING, Role.DEFENSE, Role.ANSWERS,
    ),
    uses=(Role.BASE, Role.PROBES, Role.PUBLIC),
    produces=(Role.SHADOWS,),
    source=(
        "shadow models after Shokri et al. 2017, arXiv 1610.05820; null distribution after "
        "Westfall and Young 1993"
    ),
    runs=("unlearning", "defense", "attack"),
    wiring=Wiring(
        scopes=(Scope.ATTACK,), group=WorkerGroup.ATTACK, params="shadow", flag="p_values"
    ),
)  # fmt: skip
def run(ctx: JobContext) -> dict[str, StageOutput]:
    """Unlearn, defend and attack B more deletions in the same way: the null distribution for label
    attacks.

    Samples of the training set that no tested deletion forgets come first, then training sets of
    the same classes, drawn from the pool and trained by the same recipe, with the same number of
    deletions each. Of a model that was brought, all are retained samples: nothing is trained.

    Raises:
        InvalidRequest: the deletions cannot be repeated here, or there are too few samples.
    """
    truth = ForgetSets.read(ctx.read_input(Role.FORGET_SETS), Role.FORGET_SETS)
    training = TrainingSet.read(ctx.read_input(Role.TRAINING_SET), Role.TRAINING_SET)
    split = training.load_train_split(Role.TRAINING_SET)
    setup = ShadowSetup.read(ctx, training)
    pool, public = _find_pool(training, split), open_dataset(training.dataset).load("test")
    sets = draw_shadow_sets(
        ctx.params.shadows,
        DeletionsUnderTest(training.indices, truth.indices, split, setup.is_of_one_class),
        None if training.is_brought else pool,
        ctx.make_generator("shadow sets"),
    )
    scores, labels = [], []
    first_set = 0
    if (checkpoint := ctx.load_checkpoint()) is not None:
        first_set, state = checkpoint
        scores, labels = [state["scores"]], [state["labels"]]
    for index, drawn in enumerate(sets[first_set:], start=first_set):
        part = SeededSubContext(ctx, index, len(sets))
        samples = split.pick(drawn.training)
        held_out = pool[~torch.isin(pool, drawn.training)]
        scores.append(
            setup.score_classes(samples, drawn, HeldOutSamples(split.pick(held_out), public), part)
        )
        labels.append(samples.labels[drawn.forget])
        part.report_progress(1, 1)
        if ctx.is_checkpoint_due():
            ctx.save_checkpoint(
                index + 1, {"scores": torch.cat(scores), "labels": torch.cat(labels)}
            )
    shadows = ShadowScores(
        scores=torch.cat(scores)[: ctx.params.shadows].tolist(),
        labels=torch.cat(labels)[: ctx.params.shadows].tolist(),
        trainings=sum(not drawn.is_tested_set for drawn in sets),
        unlearning=setup.unlearning.name,
        defense=setup.defense.name,
        attack=setup.attack.name,
    )
    return {Role.SHADOWS: StageOutput.of_json(shadows.to_dict())}


def _find_pool(training: TrainingSet, split: Samples) -> Tensor:
    """Positions of the pool in the train split; none of a model that was brought."""
    if training.is_brought:
        return torch.empty(0, dtype=torch.int64)
    return training.find_pool(split.labels)


P = TypeVar("P", bound=Plugin)


class PluginCall(NamedTuple, Generic[P]):
    """A plugin and its parameters, as a record states them."""

    plugin: P
    params: Any

    @property
    def name(self) -> str:
        return self.plugin.name

    @property
    def needs(self) -> list[str]:
        return CatalogEntry.from_plugin(self.plugin).list_needs(self.params.model_dump())


@dataclass(frozen=True)
class ShadowSetup:
    """The steps to repeat, and their data."""

    original: Networks
    base: Networks | None
    recipe: Recipe
    is_brought: bool  # whether a user has brought the models
    deletion_sizes: DeletionSizes
    unlearning: PluginCall[UnlearningPlugin]
    defense: PluginCall[DefensePlugin]
    attack: PluginCall[AttackPlugin]
    probes: Tensor | None
    ctx: JobContext

    @property
    def is_of_one_class(self) -> bool:
        """Whether a deletion forgets several samples, all of one class."""
        return self.deletion_sizes.classes == 1 and self.deletion_sizes.k > 1

    @classmethod
    def read(cls, ctx: JobContext, training: TrainingSet) -> ShadowSetup:
        original = read_networks(ctx.read_input(Role.ORIGINAL), Role.ORIGINAL)
        if original.count > 1 or original.architecture.members > 1:
            raise InvalidRequest(
                "p-values require one original model and deletions that all start from it, so "
                "they are not available for SISA or for successive deletions",
                f"inputs.{Role.ORIGINAL}",
            )
        ref = _read_unlearning(ctx, training)
        defense_record = DefenseRecord.read(ctx.read_input(Role.DEFENSE), Role.DEFENSE)
        guesses = read_json(ctx.read_input(Role.ANSWERS), Role.ANSWERS)
        threat_model = guesses.get("threat_model") if isinstance(guesses, dict) else None
        if not isinstance(threat_model, dict) or not isinstance(threat_model.get("attack"), str):
            raise InvalidRequest(
                "ANSWERS does not state which attack produced them", f"inputs.{Role.ANSWERS}"
            )
        attack = resolve_recorded_plugin(
            attacks.registry, threat_model["attack"], threat_model.get("params") or {}, Role.ANSWERS
        )
        if Role.ANSWERS not in attack.plugin.produces:
            raise InvalidRequest(
                f"p-values are available for label attacks only; {attack.name} is not one",
                f"inputs.{Role.ANSWERS}",
            )
        probes = (
            read_tensors(ctx.read_input(Role.PROBES), Role.PROBES)[0].get("images")
            if Role.PROBES in ctx.inputs
            else None
        )
        if attack.plugin.access == "black_box" and probes is None:
            raise InvalidRequest(
                "this attack needs PROBES: pass the output of a probe job", f"inputs.{Role.PROBES}"
            )
        base = None
        if Role.BASE in ctx.inputs:
            base = read_networks(ctx.read_input(Role.BASE), Role.BASE, like=original.architecture)
        sizes = DeletionSizes.read(ctx.read_input(Role.DELETION_SIZES), Role.DELETION_SIZES)
        unlearn = resolve_recorded_plugin(
            unlearning.registry, ref.name, ref.params, Role.UNLEARNING
        )
        _require_start(base, sizes, training, unlearn)
        return cls(
            original=original,
            base=base,
            is_brought=training.is_brought,
            recipe=validate_model(
                Recipe,
                read_json(ctx.read_input(Role.RECIPE), Role.RECIPE),
                Role.RECIPE,
                f"inputs.{Role.RECIPE}",
            ),
            deletion_sizes=sizes,
            unlearning=unlearn,
            defense=resolve_recorded_plugin(
                defenses.registry, defense_record.method, defense_record.params, Role.DEFENSE
            ),
            attack=attack,
            probes=probes,
            ctx=ctx,
        )

    def score_classes(
        self, samples: Samples, drawn: ShadowSet, held_out: HeldOutSamples, ctx: Context
    ) -> Tensor:
        """The attack's class scores of each deletion of one training set, float64 [n, K]."""
        if drawn.is_tested_set:
            start = self.original.load_network()
        else:
            assert self.base is not None
            start = self.base.load_network()
            train(start, samples, self.recipe, SeededSubContext(ctx, 0, 3))
        models = list(
            self._release_models(
                start, samples, drawn.forget, held_out, SeededSubContext(ctx, 1, 3)
            )
        )
        architecture = self.original.architecture
        before, after = stack_networks(architecture, [start]), stack_networks(architecture, models)
        result = self.attack.plugin.target(
            self._build_view(before, after), self.attack.params, SeededSubContext(ctx, 2, 3)
        )
        scores: Tensor = result.scores.double()
        return scores

    def _release_models(
        self,
        start: nn.Module,
        samples: Samples,
        forget: Tensor,
        held_out: HeldOutSamples,
        ctx: Context,
    ) -> Iterator[nn.Module]:
        for deletion, forgotten in enumerate(forget):
            part = SeededSubContext(ctx, deletion, len(forget))
            kept = torch.ones(len(samples.labels), dtype=torch.bool)
            kept[forgotten] = False
            retain = samples.pick(kept.nonzero().flatten())
            base = None
            if self.base is not None and Role.BASE in self.unlearning.plugin.needs:
                base = self.base.load_network()
            picked = samples.pick(forgotten)
            inputs = UnlearningInputs(
                clone(start), base, self.recipe, held_out=held_out.draw(picked.labels, part)
            )
            network = self.unlearning.plugin.target(
                inputs, retain, picked, self.unlearning.params, part
            )
            if self.is_brought:
                self._require_held_out(inputs)
            if self.defense.plugin.acts != "training":  # otherwise it is part of the recipe
                network = self.defense.plugin.target(
                    network.cpu(), retain, self.defense.params, part
                )
            yield network.cpu()

    def _require_held_out(self, inputs: UnlearningInputs) -> None:
        """
        Raises:
            InvalidRequest: the method did not know when to stop, which its user may have known.
        """
        if any(stop.reason == "no_held_out" for stop in inputs.stops):
            raise InvalidRequest(
                f"{self.unlearning.name} stops at the loss of samples that were never trained on: "
                "bring public samples of every class, or turn p-values off",
                f"inputs.{Role.TRAINING_SET}",
            )

    def _build_view(self, before: Networks, after: Networks) -> WhiteBoxView | ProbeView:
        if self.probes is None or self.attack.plugin.access != "black_box":
            view = WhiteBoxView(before, after, self.base, self.deletion_sizes)
            return (
                apply_defense_knowledge(self.ctx, view)
                if Role.DEFENSE in self.attack.needs
                else view
            )

        def build_oracle(network: nn.Module) -> Oracle:
            return Oracle(network, self.ctx.device, self.attack.params)

        oracles_after = [build_oracle(after.load_network(which)) for which in range(after.count)]
        return ProbeView(
            [build_oracle(before.load_network())] * after.count,
            oracles_after,
            self.probes.float(),
            self.deletion_sizes,
        )


def _read_unlearning(ctx: JobContext, training: TrainingSet) -> PluginRef:
    """How the tested deletions were made: of a release that was brought, as its owner says.

    Raises:
        InvalidRequest: the owner does not say it.
    """
    record = UnlearningRecord.read(ctx.read_input(Role.UNLEARNING), Role.UNLEARNING)
    if not training.is_brought:
        return PluginRef(name=record.method, params=record.params)
    if record.stated_method is None:
        raise InvalidRequest(
            f"{record.method} states no method that shadow deletions could repeat: state one, or "
            "turn p-values off",
            f"inputs.{Role.UNLEARNING}",
        )
    return record.stated_method


def _require_start(
    base: Networks | None,
    sizes: DeletionSizes,
    training: TrainingSet,
    unlearn: PluginCall[UnlearningPlugin],
) -> None:
    """What deletions start from is there.

    Raises:
        InvalidRequest: it is not.
    """
    starts_from_base = Role.BASE in unlearn.plugin.needs
    if base is None and (starts_from_base or not training.is_brought):
        why = unlearn.name if starts_from_base else "the training of shadow models"
        raise InvalidRequest(f"{why} needs BASE: pass the base model", f"inputs.{Role.BASE}")
    if starts_from_base and training.is_brought and len(training.indices) < sizes.N:
        raise InvalidRequest(
            f"{unlearn.name} trains on all samples again, but only {len(training.indices)} of "
            f"{sizes.N} were brought: bring all of the others as retained, or turn p-values off",
            f"inputs.{Role.TRAINING_SET}",
        )


def resolve_recorded_plugin(
    registry_: Registry[P], name: str, params: dict[str, Any], role: str
) -> PluginCall[P]:
    call = PluginCall(*resolve_plugin(registry_, PluginRef(name=name, params=params)))
    if (missing_role := find_unrepeatable_role(call.needs)) is not None:
        raise InvalidRequest(
            f"{role}: {name} needs {missing_role}, which shadow deletions do not have, so there "
            "are no p-values for it",
            f"inputs.{role}",
        )
    return call
