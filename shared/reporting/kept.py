"""What an audit itself keeps of people, where and for how long, by the settings of the service that
planned it."""

from __future__ import annotations

from collections.abc import Sequence

from shared.jobs.spec import PlannedRetention
from shared.reporting.formatting import pluralise
from shared.reporting.models import JSONObject, Kept
from shared.uploaded_files import PREFIX

STORE = "the artifact store of the service"
PAGE = "report.html and the archive of its pictures, in the service"
NO_LIMIT = "until the audit is deleted"


def list_kept(
    retention: PlannedRetention | None, audit: JSONObject, shown_samples: int, attack_count: int
) -> list[Kept]:
    """What is kept, the most personal first; empty if nobody said how long.

    Args:
        audit: as it was posted.
        shown_samples: deleted samples, or reconstructions, of which the page has pictures.
        attack_count: rows of the report.
    """
    if retention is None:
        return []
    with_audit = _describe_audit(retention.audits_days)
    personal = _describe_days(retention.reconstructions_days, "after the job that made it ended")
    kept = [
        Kept(
            what="what came back of the deleted samples in "
            f"{pluralise(attack_count, 'attack')}: reconstructions, previews of them while the "
            "attack ran, pictures, guesses and scores; and the samples that attackers had to tell "
            "apart",
            where=f"{STORE}; previews in its job store",
            how_long=personal if retention.reconstructions_days else with_audit,
        )
    ]
    if shown_samples:
        kept.append(
            Kept(
                what=f"pictures of {pluralise(shown_samples, 'deleted sample')}, as far as they were "
                "brought, with what came back of them",
                where=PAGE,
                how_long=_describe_days(
                    retention.reconstructions_days, "after this report was made"
                )
                if retention.reconstructions_days
                else with_audit,
            )
        )
    if _reads_uploads(audit):
        kept.append(
            Kept(
                what="the models and samples that you uploaded",
                where=STORE,
                how_long=_describe_days(retention.uploads_days, "after the upload")
                + ", and as long as a model or data set is declared of them"
                if retention.uploads_days
                else "until you delete them",
            )
        )
    kept += [
        Kept(
            what="the models of this audit, which may have memorised samples, and lists of which "
            "samples were trained on and deleted, without the samples",
            where=STORE,
            how_long=with_audit,
        ),
        Kept(
            what="the figures of this report, with the classes that attackers guessed and the true "
            "ones, without pictures",
            where="report.json, in the service",
            how_long=with_audit,
        ),
    ]
    return kept


def count_samples(pictures: Sequence[Sequence[object]]) -> int:
    """Of how many deleted samples there are pictures: galleries of one audit show the same ones."""
    return max((len(gallery) for gallery in pictures), default=0)


def _reads_uploads(audit: JSONObject) -> bool:
    return PREFIX in str(audit.get("dataset")) or bool(audit.get("original"))


def _describe_days(days: float | None, since: str) -> str:
    if days is None:
        return NO_LIMIT
    time = f"{days * 24:g} hours" if days < 1 else f"{days:g} day{'' if days == 1 else 's'}"
    return f"{time} {since}"


def _describe_audit(days: float | None) -> str:
    return (
        NO_LIMIT if days is None else _describe_days(days, "after the last job of the audit ended")
    )
