"""A parameter that names a plugin."""

from __future__ import annotations

import pytest
from pydantic import Field, ValidationError

from shared.errors import InvalidRequest
from shared.plugin_ref import PluginRef, resolve_plugin, validate_model
from shared.plugins import Params
from shared.registry import Registry
from tests.support.plugins import Pretrain, ThingPlugin


class Size(Params):
    size: int = Field(3, ge=1)


def registry() -> Registry[ThingPlugin]:
    found = Registry(ThingPlugin, "json")  # a package whose modules register nothing of ours
    found._loaded = True

    @found.register("one", params=Size)
    def one() -> None:
        """Is one."""

    return found


def test_a_plain_name_is_a_choice_without_parameters() -> None:
    assert PluginRef.model_validate("one") == PluginRef(name="one", params={})
    assert Pretrain.model_validate({"dataset": "noisy"}).dataset == PluginRef(name="noisy")


@pytest.mark.parametrize(
    "wrong",
    [3, None, ["one"], {"params": {}}, {"name": "one", "more": 1}, {"name": "one", "params": 1}],
)
def test_anything_else_is_refused(wrong: object) -> None:
    with pytest.raises(ValidationError):
        PluginRef.model_validate(wrong)


def test_the_schema_says_which_kind_of_plugin() -> None:
    properties = Pretrain.model_json_schema()["properties"]
    assert properties["dataset"]["x-plugin"] == "dataset"
    assert properties["model"]["x-plugin"] == "model"
    assert properties["model"]["default"] == {"name": "mlp", "params": {}}


def test_the_chosen_plugin_comes_with_validated_parameters() -> None:
    plugin, params = resolve_plugin(registry(), PluginRef(name="one", params={"size": 5}))
    assert (plugin.name, params) == ("one", Size(size=5))
    assert resolve_plugin(registry(), PluginRef(name="one"))[1] == Size(size=3)


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (PluginRef(name="two"), "unknown thing 'two'; known: one"),
        (
            PluginRef(name="one", params={"size": 0}),
            "thing one.size: Input should be greater than or equal to 1",
        ),
        (
            PluginRef(name="one", params={"sise": 1}),
            "thing one.sise: Extra inputs are not permitted",
        ),
    ],
)
def test_a_wrong_choice_is_refused_by_name(choice: PluginRef, said: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        resolve_plugin(registry(), choice)
    assert str(refused.value) == said


def test_an_error_names_the_first_thing_that_is_wrong_and_the_field_it_stood_in() -> None:
    with pytest.raises(InvalidRequest) as refused:
        validate_model(Size, "no object", "the size", "params")
    assert refused.value.field == "params"
    assert refused.value.message.startswith("the size: ")
