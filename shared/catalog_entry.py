"""One plugin as workers publish it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from shared.registry import Plugin

JSONObject = dict[str, Any]


class Entry(BaseModel):
    """One plugin as published: see `shared.registry.Plugin` for the fields."""

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
    counter: bool = Field(default=False, description="defenses: whether an attacker who knows it can make use of that")
    traits: JSONObject = Field(default_factory=dict)
    params_schema: JSONObject = Field(default_factory=dict)
    code: str = Field(
        default="",
        description="sha256 over the plugin's source, what it imports, and the versions it runs on",
    )

    @classmethod
    def of(cls, plugin: Plugin, code: str = "") -> Entry:
        """Describe a plugin."""
        return cls(
            kind=plugin.kind,
            name=plugin.name,
            summary=plugin.summary,
            source=plugin.source,
            needs=list(plugin.needs),
            needs_when=_as_data(plugin.needs_when),
            uses=list(plugin.uses),
            many=list(plugin.many),
            produces=list(plugin.produces),
            produces_when=_as_data(plugin.produces_when),
            trains=list(plugin.trains),
            methods=plugin.methods,
            counter=plugin.counter is not None,
            traits=dict(plugin.traits),
            params_schema=plugin.params.model_json_schema(),
            code=code,
        )

    @property
    def properties(self) -> JSONObject:
        found: JSONObject = self.params_schema.get("properties", {})
        return found

    def needed(self, params: Mapping[str, Any]) -> list[str]:
        """The roles this plugin needs with these parameters."""
        return _with(self.needs, self.needs_when, params)

    def made(self, params: Mapping[str, Any]) -> list[str]:
        """The roles this plugin makes with these parameters."""
        return _with(self.produces, self.produces_when, params)


def _as_data(by_param: Mapping[str, Mapping[Any, Iterable[str]]]) -> dict[str, dict[str, list[str]]]:
    return {param: {str(value): list(roles) for value, roles in by.items()} for param, by in by_param.items()}


def _with(always: list[str], by_param: Mapping[str, Mapping[str, list[str]]], params: Mapping[str, Any]) -> list[str]:
    more = [role for name, by in by_param.items() for role in by.get(str(params.get(name)), [])]
    return list(dict.fromkeys([*always, *more]))
