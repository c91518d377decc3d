"""Which class was forgotten, told by asking two models the same questions."""

from __future__ import annotations

import torch
from torch import Tensor

from shared.ml.attacks import registry
from shared.ml.attacks._estimate import infer_labels
from shared.ml.context import Context
from shared.ml.observations import Answers, Queries
from shared.ml.oracles import API, Oracle
from shared.roles import Role


class LabelInferenceBlackBoxParams(API):
    pass


@registry.register(
    "label_inference_black_box",
    params=LabelInferenceBlackBoxParams,
    needs=(Role.ORIGINAL, Role.UNLEARNED, Role.PROBES),
    uses=(Role.COUNTS,),
    produces=(Role.ANSWERS,),
    source="Hu et al. 2024, arXiv 2404.03233",
    access="black_box",
)
def run(observation: Queries, params: LabelInferenceBlackBoxParams, ctx: Context) -> Answers:  # noqa: ARG001 - the API is asked already
    """The classes whose own probes lost most confidence between the two models: as many as COUNTS says, else 1.

    beta_c is the mean change of the confidence in c on the probes of class c. The probes are the first original's also
    where deletions came one after another; what is compared is each release with the one before it.
    """
    probes = observation.probes
    classes, each = probes.shape[:2]
    own = torch.arange(classes).repeat_interleave(each)

    def told(oracle: Oracle) -> Tensor:
        confidence = oracle(probes.flatten(0, 1)).gather(1, own.unsqueeze(1))
        return confidence.view(classes, each).mean(1)

    known = {oracle: told(oracle) for oracle in dict.fromkeys(observation.before)}
    scores = []
    for deletion, (before, after) in enumerate(zip(observation.before, observation.after, strict=True), start=1):
        scores.append(told(after) - known[before])
        ctx.progress(deletion, observation.deletions)
    beta = torch.stack(scores)
    return Answers(infer_labels(beta, observation.named), beta)
