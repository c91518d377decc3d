"""Which class was forgotten, read off the last layer."""

from __future__ import annotations

from shared.ml.attacks import registry
from shared.ml.attacks._estimate import bias_change, infer_labels
from shared.ml.attacks._observation import Answers, Observation
from shared.ml.context import Context
from shared.registry import Params


class LabelInferenceParams(Params):
    pass


@registry.register(
    "label_inference",
    params=LabelInferenceParams,
    needs=("ORIGINAL", "UNLEARNED"),
    uses=("COUNTS",),
    produces=("ANSWERS",),
    source="white box rule after Zhao et al. 2020 (iDLG), arXiv 2001.02610",
    traits={"access": "white_box", "queries": 0},
)
def run(observation: Observation, params: LabelInferenceParams, ctx: Context) -> Answers:  # noqa: ARG001 - every attack has this signature
    """The classes whose last-layer bias fell most, k of them (COUNTS tells k; without it, 1)."""
    scores = bias_change(observation)
    ctx.progress(1, 1)
    return Answers(infer_labels(scores, observation.forgotten), scores)
