"""What authors of stages import."""

from __future__ import annotations

from shared.errors import InvalidRequest, JobFailed
from shared.plugin_ref import PluginRef, plugin_field, resolve_plugin, validate_model
from shared.plugins import Params
from shared.roles import Role
from workers.context import JobContext, StageOutput
from workers.stages import registry
from workers.stages._datasets import (
    build_architecture,
    measure_test_accuracy,
    open_compatible_dataset,
    random_subset,
)

register = registry.register

__all__ = [
    "InvalidRequest",
    "JobContext",
    "JobFailed",
    "Params",
    "PluginRef",
    "Role",
    "StageOutput",
    "build_architecture",
    "measure_test_accuracy",
    "open_compatible_dataset",
    "plugin_field",
    "random_subset",
    "register",
    "registry",
    "resolve_plugin",
    "validate_model",
]
