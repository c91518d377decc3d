"""Parameters that name something: a plugin of some kind, as `{"name": "mnist_5k", "params": {}}` or
just its name; or a file of the data root.

The JSON Schema of such a field carries `x-plugin: <kind>`, so that a process that has only the catalog
(the gateway) validates the inner parameters too, and the job records which plugins its worker must
have. That of a file carries `x-data: true`: a job is planned with the digest of its contents.
"""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared.errors import InvalidRequest
from shared.plugins import Params, Plugin
from shared.registry import Registry


class PluginRef(BaseModel):
    """A plugin by name, with its parameters; a bare name is read as one with no parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="name of the plugin, as in the catalog")
    params: dict[str, Any] = Field(
        default_factory=dict, description="its parameters; omitted ones have their defaults"
    )

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


def plugin_field(kind: str) -> Any:
    """Marks a `PluginRef` as one of a plugin of `kind`.

    >>> class P(Params):
    ...     dataset: Annotated[PluginRef, plugin_field("dataset")] = PluginRef(name="mnist_5k")
    """
    return Field(json_schema_extra={"x-plugin": kind})


def data_file_field() -> Any:
    """Marks a path as that of a file or folder of the data root: when its contents change, the
    job is another one.

    >>> class P(Params):
    ...     path: Annotated[str, data_file_field()] = Field(description="inside the data root")
    """
    return Field(json_schema_extra={"x-data": True})


M = TypeVar("M", bound=BaseModel)
P = TypeVar("P", bound=Plugin)


def validate_model(model: type[M], value: Any, label: str, field: str) -> M:
    """`value` as a `model`.

    Raises:
        InvalidRequest: it is none; the message starts with `what` and names the first thing wrong.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        raise InvalidRequest(
            f"{label}{f'.{path}' if path else ''}: {first['msg']}", field
        ) from error


def resolve_plugin(registry: Registry[P], ref: PluginRef) -> tuple[P, Params]:
    """The plugin that `choice` names and its validated parameters.

    Raises:
        InvalidRequest: no such plugin, or parameters it does not take.
    """
    plugin = registry.get(ref.name)
    return plugin, validate_model(
        plugin.params, ref.params, f"{plugin.kind} {plugin.name}", "params"
    )
