"""An audit as YAML, to be submitted again. JSON is YAML too, but hard to edit by hand."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import SafeRepresenter

BREAKS = frozenset("\x85\u2028\u2029")  # parsers turn them into spaces unless they are escaped


class _Representer(SafeRepresenter):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  (ruamel asks about each value)
        """Write repeated values out instead of as `&id001`."""
        return True

    def represent_text(self, text: str) -> ScalarNode:
        style = None if BREAKS.isdisjoint(text) else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Representer.add_representer(str, _Representer.represent_text)


def shorten_choices(audit: Mapping[str, Any]) -> dict[str, Any]:
    """The same audit in short form: a choice without parameters is its name, and empty values are
    left out."""

    def short(value: Any) -> Any:
        if isinstance(value, list):
            return [short(one) for one in value]
        if (
            isinstance(value, dict)
            and value.get("params") == {}
            and value.keys() == {"name", "params"}
        ):
            return value["name"]
        return value

    return {name: short(value) for name, value in audit.items() if value != {}}


def to_yaml(value: Any) -> str:
    """A JSON value in block style; reading it gives the value back."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.Representer = _Representer
    yaml.representer.sort_base_mapping_type_on_output = False
    yaml.indent(mapping=2, sequence=4, offset=2)
    text = io.StringIO()
    yaml.dump(value, text)
    return text.getvalue()
