"""What an unlearning method is given."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from shared.errors import InvalidRequest
from shared.ml.training.recipe import Recipe


@dataclass(frozen=True)
class UnlearningInputs:
    """The roles that the method's `needs` name; the others are None. Networks are copies: change them freely."""

    original: nn.Module
    base: nn.Module | None = None
    recipe: Recipe | None = None

    def retraining(self) -> tuple[nn.Module, Recipe]:
        """BASE and RECIPE.

        Raises:
            InvalidRequest: one is missing.
        """
        if self.base is None or self.recipe is None:
            raise InvalidRequest("retraining needs BASE and RECIPE", "inputs.BASE")
        return self.base, self.recipe
