"""What authors of data sets import, and other packages use."""

from __future__ import annotations

from shared.compatibility import MAX_FEATURES
from shared.errors import InvalidRequest, JobFailed
from shared.ml.context import make_generator
from shared.ml.datasets import registry
from shared.ml.datasets._files import get_data_root, open_file, resolve_data_path
from shared.ml.datasets._records import DeletableFiles, DeletableIds, DeletableRows, Recorded
from shared.ml.datasets._statistics import ComputedStatistics, compute_channel_statistics
from shared.ml.samples import Dataset, Samples, Split, open_dataset
from shared.ml.splits import split_train_and_test
from shared.plugins import Params
from shared.roles import Role

register = registry.register

__all__ = [
    "MAX_FEATURES",
    "ComputedStatistics",
    "Dataset",
    "DeletableFiles",
    "DeletableIds",
    "DeletableRows",
    "InvalidRequest",
    "JobFailed",
    "Params",
    "Recorded",
    "Role",
    "Samples",
    "Split",
    "compute_channel_statistics",
    "get_data_root",
    "make_generator",
    "open_dataset",
    "open_file",
    "register",
    "registry",
    "resolve_data_path",
    "split_train_and_test",
]
