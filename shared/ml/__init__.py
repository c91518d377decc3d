"""The science. torch begins here and only here."""

from typing import Any

from shared.ml import attacks, datasets, defenses, metrics, models, unlearning
from shared.registry import Registry

REGISTRIES: tuple[Registry[Any], ...] = (
    datasets.registry,
    models.registry,
    unlearning.registry,
    defenses.registry,
    attacks.registry,
    metrics.registry,
)
