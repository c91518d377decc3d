"""The science. torch begins here and only here."""

from shared.ml import attacks, datasets, metrics, models, unlearning
from shared.registry import Registry

REGISTRIES: tuple[Registry, ...] = (
    datasets.registry,
    models.registry,
    unlearning.registry,
    attacks.registry,
    metrics.registry,
)
