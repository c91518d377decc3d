"""How audits run the stages of made-up catalogs: as they run the real ones."""

from __future__ import annotations

from shared.roles import Role
from shared.wiring import Scope, Wiring

WIRINGS = {
    "pretrain": Wiring(
        scopes=(Scope.AUDIT,),
        params="pretrain",
        shared_params=("dataset", "model"),
        seed="pretrain_seed",
        twins={Role.FEATURE_NETWORK: Role.BASE},
    ),
    "train": Wiring(
        scopes=(Scope.RELEASE,),
        params="train",
        shared_params=("dataset",),
        trained_for_methods=True,
    ),
    "unlearn": Wiring(scopes=(Scope.RELEASE,), params="forget", methods="unlearning"),
    "defend": Wiring(
        scopes=(Scope.RELEASE,),
        params="defend",
        methods="defenses",
        replaces={Role.RELEASED: Role.UNLEARNED},
        replaces_for_adaptive={Role.AVERAGED_RELEASES: Role.UNLEARNED},
    ),
    "probe": Wiring(scopes=(Scope.RELEASE,), params="probe", on_demand=True),
    "candidates": Wiring(scopes=(Scope.RELEASE,), params="candidates", on_demand=True),
    "attack": Wiring(
        scopes=(Scope.ATTACK,), methods="attacks", multi_sample_roles=(Role.DELETION_SIZES,)
    ),
    "evaluate": Wiring(
        scopes=(Scope.RELEASE, Scope.ATTACK),
        params="evaluate",
        withheld={Scope.ATTACK: (Role.TRAINING_SET,)},
        reported=True,
    ),
    "selftest": Wiring(scopes=(Scope.AUDIT,), on_demand=True),
    "report": Wiring(scopes=(Scope.REPORT,), optional_needs=(Role.SELF_TEST,)),
}
