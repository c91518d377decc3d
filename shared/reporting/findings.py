"""What one row shows. These rules decide the verdict; the report prints them (`RULES`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shared.evaluation import Evaluation
from shared.reporting.evidence import MIN_SAMPLES, SUSPICIOUS, TAIL
from shared.reporting.formatting import format_score
from shared.reporting.kinds import find_kind, find_main_metric, list_kinds
from shared.reporting.models import Finding, Row, Score, Utility

MAX_ACCURACY_LOSS = 0.05  # test accuracy that a released model may lose and still count as useful
NO_TRUTH = (
    "No deleted samples were brought, so what the attack returned cannot be compared with them."
)
NO_TRUTH_RULE = (
    "Without the deleted samples nothing is decided: every row is inconclusive, whatever came back. "
    "A low matching loss only says that the change of the weights can be explained by an image."
)
RULES = (
    *(kind.rule for kind in list_kinds()),
    "Seeds of one attack on one release are one experiment and are tested together. Its p-value, "
    "the probability of such results by chance, is corrected for the number of tests in the report "
    f"(Holm), and must then be at most {TAIL}. A p-value of at most {SUSPICIOUS} before correction "
    "is never “not seen”.",
    *(rule for kind in list_kinds() for rule in kind.further_rules),
    f"“Not seen” requires at least {MIN_SAMPLES} samples; with fewer, the row is inconclusive.",
    "A defense counts as having reduced a leak if every attack that leaked without it shows no "
    "leak with it, the two 95 % intervals do not overlap, and the released model retains its "
    "utility. It is credited only if attackers who know the defense were tried too, with every "
    "attack that leaked and can use this knowledge, and the same holds for them; otherwise the "
    "leak counts as one that no defense has reduced. If no attack that uses knowledge of the "
    "defense is known, it is credited without them. After "
    "approximate unlearning the defended models must also classify the deleted samples worse "
    "than the original does, if the undefended models do; otherwise the defense undid the "
    "unlearning.",
    f"A released model retains its utility if it loses at most {100 * MAX_ACCURACY_LOSS:.0f} "
    "points of test accuracy. “No leak seen” counts only if every released model retains its "
    "utility.",
    "The verdict is the worst case: one unlearning method with a leak that no defense reduced "
    "makes it a leak; otherwise anything missing or inconclusive makes it inconclusive.",
)


def decide_row(evaluation: Evaluation, metrics: Mapping[str, Score]) -> Finding:
    """Apply the rule of the row's kind. `metrics` come from
    `shared.reporting.kinds.collect_scores`."""
    if evaluation.unscored is not None:
        return Finding(outcome="inconclusive", reason=NO_TRUTH)
    if (kind := find_kind(metrics)) is not None:
        return kind.decide_row(evaluation, metrics)
    if (name := find_main_metric(metrics)) is not None:
        return Finding(
            outcome="inconclusive",
            reason=f"No rule covers the metric {name} ({format_score(metrics[name])}).",
        )
    return Finding(outcome="inconclusive", reason="There are no scores.")


def retains_utility(utility: Utility | None) -> bool:
    """Whether the released model is still useful. Unknown counts as no."""
    if utility is None or utility.test_accuracy is None or utility.original_test_accuracy is None:
        return False
    return utility.original_test_accuracy - utility.test_accuracy <= MAX_ACCURACY_LOSS + 1e-9


def shows_forgetting(utility: Utility | None) -> bool:
    """Whether the deleted samples are classified worse than before. Unknown counts as no."""
    return (
        utility is not None
        and utility.forget_accuracy is not None
        and utility.original_forget_accuracy is not None
        and utility.forget_accuracy < utility.original_forget_accuracy
    )


def undoes_unlearning(released: Sequence[Row], undefended: Sequence[Row]) -> bool:
    """Whether a defense reverted the unlearning: the original model would leak nothing either.

    Exact unlearning never saw the samples, so it forgets even if that is not visible.
    """
    if not released or released[0].unlearning.exact:
        return False
    return any(shows_forgetting(row.utility) for row in undefended) and not any(
        shows_forgetting(row.utility) for row in released
    )
