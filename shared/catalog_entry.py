"""One plugin as workers publish it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator

from shared.plugins import (
    DatasetPlugin,
    DefensePlugin,
    JSONObject,
    Plugin,
    StagePlugin,
    TrainedPlugin,
    Traits,
    extract_traits,
    read_traits,
)
from shared.wiring import Wiring

OfKind = TypeVar("OfKind", bound=Traits)


class CatalogEntry(BaseModel):
    """One plugin as published: see `shared.plugins` for the fields."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    kind: str
    name: str
    summary: str
    source: str = ""
    needs: list[str] = Field(default_factory=list)
    needs_when: dict[str, dict[str, list[str]]] = Field(default_factory=dict)
    uses: list[str] = Field(default_factory=list)
    many: list[str] = Field(default_factory=list)
    produces: list[str] = Field(default_factory=list)
    produces_when: dict[str, dict[str, list[str]]] = Field(default_factory=dict)
    trains: list[str] = Field(default_factory=list)
    methods: str | None = None
    has_adaptive_attack: bool = Field(
        default=False, description="defenses: whether an adaptive attack on it is known"
    )
    wiring: Wiring | None = Field(
        default=None, description="stages: how an audit runs it; null if it does not"
    )
    data_files: list[str] = Field(
        default_factory=list,
        description="files that are read from the data root if no parameter names one",
    )
    traits: JSONObject = Field(
        default_factory=dict, description="further fields that only plugins of this kind have"
    )
    params_schema: JSONObject = Field(default_factory=dict)
    code: str = Field(
        default="",
        description=(
            "sha256 of the plugin's source, of the modules that it imports, and of the versions "
            "that it runs on"
        ),
    )

    _traits: Traits = PrivateAttr()

    @field_validator("wiring", mode="before")
    @classmethod
    def _known_of_wiring(cls, wiring: Any) -> Any:
        # unknown fields are an error where a wiring is declared, but a worker of a newer version
        # may publish more of them
        if not isinstance(wiring, Mapping):
            return wiring
        return {name: value for name, value in wiring.items() if name in Wiring.model_fields}

    def model_post_init(self, _: Any) -> None:
        # a trait that is missing or has no such value is refused with the entry
        self._traits = read_traits(self.kind, self.traits)

    def get_traits(self, of_kind: type[OfKind]) -> OfKind:
        """Its traits, typed: `entry.get_traits(DefenseTraits).strength`.

        Raises:
            TypeError: it is of another kind.
        """
        if not isinstance(self._traits, of_kind):
            raise TypeError(f"{self.kind} {self.name} has no {of_kind.__name__}")
        return self._traits

    @classmethod
    def from_plugin(cls, plugin: Plugin, code: str = "") -> CatalogEntry:
        """Describe a plugin."""
        stage = plugin if isinstance(plugin, StagePlugin) else None
        return cls(
            kind=plugin.kind,
            name=plugin.name,
            summary=plugin.summary,
            source=plugin.source,
            needs=list(plugin.needs),
            needs_when=_to_json_roles(plugin.needs_when),
            uses=list(plugin.uses),
            many=list(stage.many) if stage else [],
            produces=list(plugin.produces),
            produces_when=_to_json_roles(stage.produces_when) if stage else {},
            trains=list(plugin.trains) if isinstance(plugin, TrainedPlugin) else [],
            methods=stage.methods if stage else None,
            has_adaptive_attack=isinstance(plugin, DefensePlugin)
            and plugin.adaptive_view is not None,
            wiring=stage.wiring if stage else None,
            data_files=list(plugin.data_files) if isinstance(plugin, DatasetPlugin) else [],
            traits=extract_traits(plugin),
            params_schema=plugin.params.model_json_schema(),
            code=code,
        )

    @property
    def properties(self) -> JSONObject:
        properties: JSONObject = self.params_schema.get("properties", {})
        return properties

    @property
    def takes(self) -> list[str]:
        """All roles that this plugin may take, whatever its parameters."""
        return [*self.may_need, *self.uses]

    @property
    def may_need(self) -> list[str]:
        """All roles that this plugin cannot do without, with some parameters."""
        return [*self.needs, *_flatten_roles(self.needs_when)]

    @property
    def makes(self) -> list[str]:
        """All roles that this plugin may make, whatever its parameters."""
        return [*self.produces, *_flatten_roles(self.produces_when)]

    def list_needs(self, params: Mapping[str, Any]) -> list[str]:
        """The roles this plugin needs with these parameters."""
        return _select_roles(self.needs, self.needs_when, params)

    def list_outputs(self, params: Mapping[str, Any]) -> list[str]:
        """The roles this plugin makes with these parameters."""
        return _select_roles(self.produces, self.produces_when, params)


def _to_json_roles(
    by_param: Mapping[str, Mapping[Any, Iterable[str]]],
) -> dict[str, dict[str, list[str]]]:
    return {
        param: {str(value): list(roles) for value, roles in by.items()}
        for param, by in by_param.items()
    }


def _flatten_roles(by_param: Mapping[str, Mapping[str, list[str]]]) -> list[str]:
    return [role for by in by_param.values() for roles in by.values() for role in roles]


def _select_roles(
    always: list[str], by_param: Mapping[str, Mapping[str, list[str]]], params: Mapping[str, Any]
) -> list[str]:
    more = [role for name, by in by_param.items() for role in by.get(str(params.get(name)), [])]
    return list(dict.fromkeys([*always, *more]))
