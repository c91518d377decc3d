"""Deleting files with what was made of them: what would go, and what has gone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flask import Response

from services.gateway.console._pages import render_page
from shared.errors import NotFound
from shared.jobs.erasure import Erasure, ErasurePlan

MAX_NAMED_AUDITS = 20


@dataclass(frozen=True)
class Survey:
    """What would be deleted.

    plan: None if it is no upload, so that nothing is deleted with it.
    """

    plan: ErasurePlan | None

    @property
    def unnamed_audits(self) -> int:
        """Audits beyond those that are named."""
        return 0 if self.plan is None else max(0, len(self.plan.audits) - MAX_NAMED_AUDITS)


def survey(plan: Callable[[], ErasurePlan]) -> Survey:
    """The plan, if there is one."""
    try:
        return Survey(plan())
    except NotFound:
        return Survey(None)


@dataclass(frozen=True)
class Removed:
    """What was deleted: a sentence, how much went with it, and where to go on."""

    what: str
    erased: Erasure | None
    back: str
    back_name: str


def render_removed(removed: Removed) -> Response:
    """The page after a deletion."""
    return render_page("deleted.html", removed=removed)
