"""What authors of data sets import, and what other rooms take from this one."""

from __future__ import annotations

from shared.errors import InvalidRequest, JobFailed
from shared.fit import MAX_FEATURES
from shared.ml.context import generator
from shared.ml.datasets import registry
from shared.ml.datasets._files import data_root, inside, open_file
from shared.ml.datasets._measured import Measured, channel_statistics
from shared.ml.datasets._records import DeletableFiles, DeletableIds, DeletableRows, Recorded
from shared.ml.samples import Dataset, Samples, Split, open_dataset
from shared.ml.splits import train_and_test
from shared.plugins import Params
from shared.roles import Role

register = registry.register

__all__ = [
    "MAX_FEATURES",
    "Dataset",
    "DeletableFiles",
    "DeletableIds",
    "DeletableRows",
    "InvalidRequest",
    "JobFailed",
    "Measured",
    "Params",
    "Recorded",
    "Role",
    "Samples",
    "Split",
    "channel_statistics",
    "data_root",
    "generator",
    "inside",
    "open_dataset",
    "open_file",
    "register",
    "registry",
    "train_and_test",
]
