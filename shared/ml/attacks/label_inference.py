"""Which class was forgotten, read off the last layer."""

from __future__ import annotations

from functools import partial

from shared.ml.attacks import registry
from shared.ml.attacks._estimate import Adaptive, GradientFrom, class_scores, infer_labels
from shared.ml.attacks._target import Aim, Target, aimed, compared
from shared.ml.context import Context
from shared.ml.observations import Answers, Observation
from shared.plugins import Params
from shared.roles import Role


class LabelInferenceParams(Params):
    gradient_from: GradientFrom = "pair"
    target: Target = "raw"
    adaptive: Adaptive = False


@registry.register(
    "label_inference",
    params=LabelInferenceParams,
    needs=(Role.ORIGINAL, Role.UNLEARNED),
    needs_when={
        "gradient_from": {"base": (Role.BASE, Role.COUNTS), "either": (Role.BASE, Role.COUNTS)},
        "adaptive": {"True": (Role.DEFENSE, Role.PUBLIC)},
    },
    uses=(Role.COUNTS,),
    produces=(Role.ANSWERS,),
    source="white box rule after Zhao et al. 2020 (iDLG), arXiv 2001.02610",
    access="white_box",
)
def run(observation: Observation, params: LabelInferenceParams, ctx: Context) -> Answers:
    """The classes whose last-layer bias was pushed down most: as many as COUNTS says were forgotten, else 1."""
    aim = Aim(target=params.target)
    scores = class_scores(observation, params.gradient_from, partial(aimed, aim=aim))
    ctx.progress(1, 1)
    return Answers(infer_labels(scores, observation.named), scores, compares=compared(observation, aim))
