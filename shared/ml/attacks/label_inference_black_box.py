"""Infers the forgotten class by sending two models the same queries."""

from __future__ import annotations

import torch
from torch import Tensor

from shared.ml.attack_io import LabelGuesses, ProbeView
from shared.ml.attacks import registry
from shared.ml.attacks._estimate import infer_labels
from shared.ml.context import Context
from shared.ml.oracles import Oracle, OracleParams
from shared.roles import Role


class LabelInferenceBlackBoxParams(OracleParams):
    pass


@registry.register(
    "label_inference_black_box",
    params=LabelInferenceBlackBoxParams,
    needs=(Role.ORIGINAL, Role.UNLEARNED, Role.PROBES),
    uses=(Role.DELETION_SIZES,),
    produces=(Role.ANSWERS,),
    source="Hu et al. 2024, arXiv 2404.03233",
    access="black_box",
)
def run(view: ProbeView, params: LabelInferenceBlackBoxParams, ctx: Context) -> LabelGuesses:  # noqa: ARG001 - the API is asked already
    """Guess the classes whose probes lost most confidence between the two models: as many classes
    as DELETION_SIZES states, otherwise one.

    beta_c is the mean change of the confidence in c on the probes of class c. Successive deletions
    use the probes of the first original too, and compare each release with the previous one.
    """
    probes = view.probes
    classes, per_class = probes.shape[:2]
    probe_labels = torch.arange(classes).repeat_interleave(per_class)

    def measure_confidence(oracle: Oracle) -> Tensor:
        confidence = oracle(probes.flatten(0, 1)).gather(1, probe_labels.unsqueeze(1))
        return confidence.view(classes, per_class).mean(1)

    confidence_before = {
        oracle: measure_confidence(oracle) for oracle in dict.fromkeys(view.before)
    }
    scores = []
    for deletion, (before, after) in enumerate(zip(view.before, view.after, strict=True), start=1):
        scores.append(measure_confidence(after) - confidence_before[before])
        ctx.report_progress(deletion, view.deletions)
    beta = torch.stack(scores)
    return LabelGuesses(infer_labels(beta, view.num_guesses), beta)
