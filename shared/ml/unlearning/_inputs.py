"""The inputs of an unlearning method."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from shared.errors import InvalidRequest
from shared.ml.networks import Ensemble
from shared.ml.records import StopReason, StopRecord
from shared.ml.samples import Samples
from shared.ml.training.recipe import Recipe
from shared.roles import Role


@dataclass(frozen=True)
class UnlearningInputs:
    """The roles that the method's `needs` name; the others are None. Networks are copies and may be
    changed.

    `recipe` is what the original was trained by, None if nobody knows: settings that are null are
    taken from it. `held_out` are samples of the classes of the forget set that were never trained
    on, for rules that say when to stop. `members` (SHARDS) says which of the original's members
    each sample of the retain set and of the forget set trained. `changes_to_undo` (BATCH_DELTAS)
    is, by weight, the sum of the changes of all steps that saw any sample of the forget set, except
    those undone before. A method that chooses its own length says so in `stops` (`record_stop`).
    """

    original: nn.Module
    base: nn.Module | None = None
    recipe: Recipe | None = None
    members: tuple[Tensor, Tensor] | None = None
    changes_to_undo: dict[str, Tensor] | None = None
    held_out: Samples | None = None
    stops: list[StopRecord] = field(default_factory=list)

    def get_recipe(self) -> Recipe:
        """What the original was trained by; if nobody knows, the paper's."""
        return self.recipe or Recipe()

    def record_stop(self, steps: int, reason: StopReason) -> None:
        """Say how many steps were taken, and why no more."""
        self.stops.append(StopRecord(steps=steps, reason=reason))

    def require_retraining(self) -> tuple[nn.Module, Recipe]:
        """BASE and RECIPE.

        Raises:
            InvalidRequest: one is missing.
        """
        if self.base is None or self.recipe is None:
            raise InvalidRequest("retraining needs BASE and RECIPE", f"inputs.{Role.BASE}")
        return self.base, self.recipe

    def require_shards(self) -> tuple[Ensemble, Tensor, Tensor]:
        """The ensemble, and the member trained on each sample of the retain set [N - k] and the
        forget set [k].

        Raises:
            InvalidRequest: the original is not an ensemble, or SHARDS is missing.
        """
        if self.members is None or not isinstance(self.original, Ensemble):
            raise InvalidRequest(
                "this method needs SHARDS and an original with several members",
                f"inputs.{Role.SHARDS}",
            )
        return self.original, *self.members

    def require_changes(self) -> dict[str, Tensor]:
        """`changes_to_undo`.

        Raises:
            InvalidRequest: BATCH_DELTAS is missing.
        """
        if self.changes_to_undo is None:
            raise InvalidRequest(
                "this method needs BATCH_DELTAS: train with record_deltas: true",
                f"inputs.{Role.BATCH_DELTAS}",
            )
        return self.changes_to_undo
