"""No defense."""

from __future__ import annotations

from torch import nn

from shared.ml.context import Context
from shared.ml.defenses import registry
from shared.ml.samples import Samples
from shared.plugins import Params


class NoDefenseParams(Params):
    pass


@registry.register("none", params=NoDefenseParams)
def release(
    network: nn.Module,
    retain: Samples,  # noqa: ARG001 - every defense has this signature
    params: NoDefenseParams,  # noqa: ARG001 - as above
    ctx: Context,  # noqa: ARG001 - as above
) -> nn.Module:
    """Release the unlearned model as it is.

    There is no adaptive attack, as there is nothing to know.
    """
    return network
