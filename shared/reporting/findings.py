"""What one row shows. These rules decide the verdict; the report prints them (`RULES`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shared.evaluation import Evaluation
from shared.reporting.evidence import FEW, TAIL
from shared.reporting.kinds import kind_of, kinds, main_metric
from shared.reporting.models import Finding, Row, Score, Utility
from shared.reporting.numbers import scored

KEEPS = 0.05  # test accuracy that a released model may lose and still be of use
RULES = (
    *(kind.rule for kind in kinds()),
    "More than chance gives: the 95 % interval (Wilson) lies above it, and so many or more would come by chance with a "
    f"probability of at most {TAIL} (exact binomial). One of 8 identified among 100 decoys has 0.076: too little.",
    *(rule for kind in kinds() for rule in kind.further_rules),
    f"Where no leak was seen in fewer than {FEW} samples, the row is inconclusive: so few show nothing.",
    "A defense counts as having reduced a leak where every attack that leaked without it shows no leak with it, "
    "the two 95 % intervals do not overlap, and the released model keeps its use. Where an attack was also made by one "
    "who knows the defense, that holds for both. After approximate unlearning the defended models must also classify "
    "the deleted samples worse than before, if the undefended do: the model as it was leaks nothing either.",
    f"A released model keeps its use where it loses at most {100 * KEEPS:.0f} points of test accuracy. That no leak "
    "was seen counts only where every released model keeps its use.",
    "The audit's verdict is its worst: one unlearning method that leaks under every defense tried makes it a leak; "
    "else anything missing or undecided makes it inconclusive.",
)


def judge(evaluation: Evaluation, metrics: Mapping[str, Score]) -> Finding:
    """Hold one row against the rule of its kind. `metrics` are `shared.reporting.kinds.scores` of the evaluation."""
    if (kind := kind_of(metrics)) is not None:
        return kind.judge(evaluation, metrics)
    if (name := main_metric(metrics)) is not None:
        return Finding(outcome="inconclusive", reason=f"No rule decides on {name} ({scored(metrics[name])}).")
    return Finding(outcome="inconclusive", reason="Nothing was scored.")


def useful(utility: Utility | None) -> bool:
    """Whether the released model keeps its use. Unknown is no."""
    return utility is not None and utility.original_test_accuracy - utility.test_accuracy <= KEEPS + 1e-9


def forgets(utility: Utility | None) -> bool:
    """Whether the deleted samples are classified worse than before. Unknown is no."""
    return utility is not None and utility.forget_accuracy < utility.original_forget_accuracy


def recalls(released: Sequence[Row], undefended: Sequence[Row]) -> bool:
    """Whether a defense took back what unlearning had changed: the model as it was leaks nothing either.

    Exact unlearning never saw the samples: it forgets, shown or not.
    """
    if not released or released[0].unlearning.exact:
        return False
    return any(forgets(row.utility) for row in undefended) and not any(forgets(row.utility) for row in released)
