"""What plugins say of themselves is published, and read again as it was."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest
from pydantic import ValidationError

from shared.catalog import Catalog, CatalogEntry
from shared.errors import PluginImportError
from shared.plugins import (
    TRAITS,
    AttackTraits,
    DefenseTraits,
    MetricPlugin,
    MetricTraits,
    ModelPlugin,
    Plugin,
    Traits,
)
from tests.support.plugins import PLUGINS


def run() -> None:
    """Does what it is for."""


def through_json(plugin: Plugin) -> CatalogEntry:
    return CatalogEntry.model_validate_json(
        json.dumps(json.loads(CatalogEntry.from_plugin(plugin).model_dump_json()))
    )


@pytest.mark.parametrize("plugin", [pytest.param(p, id=f"{p.kind}:{p.name}") for p in PLUGINS])
def test_traits_are_read_as_they_were_said(plugin: Plugin) -> None:
    read = through_json(plugin).get_traits(TRAITS[plugin.kind])
    for field in fields(TRAITS[plugin.kind]):
        assert getattr(read, field.name) == getattr(plugin, field.name)


def test_only_what_is_said_is_published() -> None:
    said = MetricPlugin(
        name="m", target=run, takes="image", unit="1", range=(0, None), higher_is_better=True
    )
    assert CatalogEntry.from_plugin(said).traits == {
        "takes": "image",
        "unit": "1",
        "range": [0, None],
        "higher_is_better": True,
    }
    assert CatalogEntry.from_plugin(ModelPlugin(name="m", target=run)).traits == {}
    assert through_json(said).get_traits(MetricTraits).range == (0, None)


def test_traits_of_another_kind_are_not_read_silently() -> None:
    entry = CatalogEntry(kind="attack", name="a", summary="A.", traits={"access": "black_box"})
    assert entry.get_traits(AttackTraits).access == "black_box"
    with pytest.raises(TypeError, match="attack a has no DefenseTraits"):
        entry.get_traits(DefenseTraits)


@pytest.mark.parametrize("traits", [{}, {"access": "grey_box"}, {"access": None}])
def test_a_published_trait_that_is_wrong_is_refused(traits: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CatalogEntry(kind="attack", name="a", summary="A.", traits=traits)
    with pytest.raises(PluginImportError, match="catalog is invalid"):
        Catalog.from_json([{"kind": "attack", "name": "a", "summary": "A.", "traits": traits}])


def test_a_newer_worker_may_say_more() -> None:
    entry = CatalogEntry(
        kind="defense", name="d", summary="D.", traits={"strength": "steps", "colour": "red"}
    )
    assert entry.get_traits(DefenseTraits) == DefenseTraits(strength="steps")
    assert (
        type(
            CatalogEntry(kind="oracle", name="o", summary="O.", traits={"any": 1}).get_traits(
                Traits
            )
        )
        is Traits
    )
