"""What one row shows. These rules decide the verdict; the report prints them (`RULES`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shared.reporting.binomial import chance_of
from shared.reporting.evaluations import IMAGE, LABEL, MEMBER, TELLING, main_metric
from shared.reporting.models import Finding, Identification, Row, Score, Utility
from shared.reporting.numbers import gained, identified, interval, number, plural, probability, scored

FEW = 5  # below it, nothing seen is nothing learned: Wilson's interval of 0 of 4 reaches 0.49
KEEPS = 0.05  # test accuracy that a released model may lose and still be of use
TAIL = 0.025  # one side of 95 %
RULES = (
    "An image attack leaks where more deletions are identified among decoys than chance gives. Decoys are drawn from "
    "the data and the class of the deleted sample: who knows nothing of it picks each as often. The gain says how good "
    "the pictures are: where its 95 % interval lies above zero and identification does not exceed chance, the row is "
    "inconclusive.",
    "A label attack leaks where it names more classes rightly than the strongest null gives.",
    "A membership attack leaks where it tells forgotten samples from others of their class that were never trained on: "
    f"the 95 % interval of the AUC lies above 0.5, and chance gives as much with a probability of at most {TAIL}. "
    "Where it lies below, the row is inconclusive: the scores tell them too, the other way round. So it is where only "
    "the true positive rate is above chance: a few are told, though most are not. What is told of samples that stayed "
    "is said beside it and decides nothing: they were not deleted.",
    "More than chance gives: the 95 % interval (Wilson) lies above it, and so many or more would come by chance with a "
    f"probability of at most {TAIL} (exact binomial). One of 8 identified among 100 decoys has 0.076: too little.",
    "One recovered image is a leak for one person: where any deletion is identified and its own score beats its own "
    "null, the row is inconclusive at least. An identified deletion whose score does not beat its null is chance.",
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


def judge(metrics: Mapping[str, Score], ranks: Identification | None, recovered: int) -> Finding:
    """Hold one row against the rules; `recovered` deletions are identified and score above their own nulls."""
    name = main_metric(metrics)
    if name is None:
        return Finding(outcome="inconclusive", reason="Nothing was scored.")
    if name == LABEL:
        return _labels(metrics[name])
    if name == MEMBER:
        return _members(metrics[name], metrics.get(TELLING))
    if name != IMAGE or ranks is None:
        return Finding(outcome="inconclusive", reason=_undecidable(name, metrics[name]))
    return _images(metrics[name], ranks, recovered)


def _images(psnr: Score, ranks: Identification, recovered: int) -> Finding:
    told = f"gain {gained(psnr)} over the null, {identified(ranks)} {interval(ranks.low, ranks.high)}"
    if psnr.gain_low is None or ranks.low is None:
        return Finding(outcome="inconclusive", reason=f"Too few samples for an interval: {told}.")
    above = psnr.gain_low > 0
    picked = ranks.low > ranks.chance and chance_of(ranks.rank_1, ranks.n, ranks.chance) <= TAIL
    if picked:
        beside = "and so is the gain" if above else "the mean gain is not"
        return Finding(outcome="leak", reason=f"Identification is clear of chance, {beside}: {told}.")
    if above:
        return Finding(outcome="inconclusive", reason=f"Only the gain is clear of its null: {told}.")
    if recovered:
        reason = f"{plural(recovered, 'deletion')} of {ranks.n} recovered, too few to call it a leak: {told}."
        return Finding(outcome="inconclusive", reason=reason)
    return _nothing(psnr.n, f"Neither measure is clear of its null: {told}.")


def _labels(accuracy: Score) -> Finding:
    told = f"accuracy {scored(accuracy)}, null {number(accuracy.null)}"
    if accuracy.low is None or accuracy.null is None:
        return Finding(outcome="inconclusive", reason=f"No interval or no null to compare with: {told}.")
    if accuracy.low > accuracy.null:
        by_chance = chance_of(int(accuracy.mean * accuracy.n + 1e-9), accuracy.n, accuracy.null)
        if by_chance > TAIL:
            reason = f"Above its null, but so many come by chance with probability {by_chance:.3f}: {told}."
            return Finding(outcome="inconclusive", reason=reason)
        return Finding(outcome="leak", reason=f"The accuracy is clear of its null: {told}.")
    return _nothing(accuracy.n, f"The accuracy is not clear of its null: {told}.")


def _members(auc: Score, tpr: Score | None) -> Finding:
    found = members(auc)
    if found.outcome != "not_seen" or tpr is None or tpr.low is None or tpr.null is None or tpr.low <= tpr.null:
        return found
    if tpr.interval == "wilson" and chance_of(int(tpr.mean * tpr.n + 1e-9), tpr.n, tpr.null) > TAIL:
        return found
    reason = f"Only the true positive rate is clear of chance: {scored(tpr)}, null {number(tpr.null)}. {found.reason}"
    return Finding(outcome="inconclusive", reason=reason)


def members(auc: Score) -> Finding:
    """Whether samples are told from those that were never trained on, by their AUC against them."""
    told = f"AUC {scored(auc)}, null {number(auc.null)}" + ("" if auc.p is None else f", p {probability(auc.p)}")
    if auc.low is None or auc.high is None or auc.null is None:
        return Finding(outcome="inconclusive", reason=f"No interval or no null to compare with: {told}.")
    if auc.high < auc.null:
        return Finding(outcome="inconclusive", reason=f"Told the other way round, by turning the score: {told}.")
    if auc.low > auc.null:
        if auc.p is None or auc.p > TAIL:
            return Finding(outcome="inconclusive", reason=f"Above its null, but by chance that is not rare: {told}.")
        return Finding(outcome="leak", reason=f"The AUC is clear of its null: {told}.")
    return _nothing(auc.n, f"The AUC is not clear of its null: {told}.")


def _nothing(n: int, told: str) -> Finding:
    if n < FEW:
        return Finding(outcome="inconclusive", reason=f"{told} With n = {n} that shows nothing.")
    return Finding(outcome="not_seen", reason=told)


def _undecidable(name: str, score: Score) -> str:
    if name == IMAGE:
        return f"No decoys to identify among: gain {gained(score)} over the null."
    return f"No rule decides on {name} ({scored(score)})."


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
