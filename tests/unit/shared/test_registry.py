"""The folder is the list of plugins, whole or not at all."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from shared.errors import InvalidRequest, PluginImportError
from shared.ml import attacks, defenses, metrics, unlearning
from shared.registry import Registry
from tests.support.plugins import ThingPlugin
from workers.app import STAGES
from workers.stages import registry as stages

NUMBER = itertools.count()
PLUGIN = '''
from {package} import registry
@registry.register("{name}", needs=("ORIGINAL",), unit="dB")
def run():
    """Does {name}.

    And more.
    """
'''
Make = Callable[..., Registry[ThingPlugin]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes a plugin folder of the given files (name -> text, or None for a plugin of that
    name)."""
    monkeypatch.syspath_prepend(str(tmp_path))
    packages = []

    def make(**files: str | None) -> Registry[ThingPlugin]:
        package = f"plugins_of_a_test_{next(NUMBER)}"
        packages.append(package)
        (tmp_path / package).mkdir()
        init = (
            "from shared.registry import Registry\nfrom tests.support.plugins import ThingPlugin\n"
            f"registry = Registry(ThingPlugin, '{package}')\n"
        )
        (tmp_path / package / "__init__.py").write_text(init)
        for name, text in files.items():
            body = (
                PLUGIN.format(package=package, name=name)
                if text is None
                else text.format(package=package)
            )
            (tmp_path / package / f"{name}.py").write_text(body)
        registry = __import__(package).registry
        assert isinstance(registry, Registry)
        return registry

    yield make
    for module in [m for m in sys.modules if m.split(".")[0] in packages]:
        del sys.modules[module]


def test_every_file_of_the_folder_is_a_plugin(folder: Make) -> None:
    registry = folder(b=None, a=None, _helper="raise RuntimeError('not a plugin')")
    assert [p.name for p in registry] == ["a", "b"]
    assert "a" in registry
    assert "_helper" not in registry


def test_a_plugin_is_described_by_its_decorator_and_docstring(folder: Make) -> None:
    registry = folder(a=None)
    plugin = registry.get("a")
    assert (plugin.kind, plugin.summary, plugin.needs, plugin.unit) == (
        "thing",
        "Does a.",
        ("ORIGINAL",),
        "dB",
    )
    assert plugin.module == f"{registry.package}.a"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("1 / 0", "ZeroDivisionError"),
        ("def broken(:", "SyntaxError"),
        ("x = 1", "registers no thing"),
        (
            "from {package} import registry\n@registry.register('x')\ndef run(): ...",
            "has no docstring",
        ),
        (
            "from {package} import registry\n@registry.register('good')\ndef run():\n    'Again.'",
            "registered twice",
        ),
    ],
)
def test_a_broken_file_is_named_and_there_is_no_partial_table(
    folder: Make, text: str, said: str
) -> None:
    registry = folder(good=None, wrong=text)
    # every time
    for ask in (lambda: list(registry), lambda: registry.get("good"), lambda: "good" in registry):
        with pytest.raises(PluginImportError) as refused:
            ask()
        assert said in str(refused.value)
        assert "wrong" in str(refused.value)


def test_an_unknown_name_is_refused_with_the_known_ones(folder: Make) -> None:
    with pytest.raises(InvalidRequest, match="unknown thing 'c'; known: a, b"):
        folder(a=None, b=None).get("c")


def test_a_plugin_can_be_forgotten(folder: Make) -> None:
    registry = folder(a=None, b=None)
    module = registry.get("a").module
    registry.unregister("a")
    assert [p.name for p in registry] == ["b"]
    assert module not in sys.modules


def test_a_class_is_described_by_its_own_docstring_only() -> None:
    registry = Registry(ThingPlugin, "nowhere")
    with pytest.raises(PluginImportError, match="no docstring"):
        registry.register("silent")(type("Silent", (), {}))


@pytest.mark.parametrize(
    ("registry", "described", "said"),
    [
        (
            attacks.registry,
            {"acces": "white_box"},
            "attack 'new' in .* sets acces, which is not a field of AttackPlugin",
        ),
        (attacks.registry, {"acces": "white_box"}, "did you mean access?"),
        (attacks.registry, {"zzz": 1}, "zzz.* known: .*needs_when"),
        (attacks.registry, {}, "field access: Field required"),
        (
            attacks.registry,
            {"access": "grey_box"},
            "field access: Input should be 'white_box' or 'black_box'",
        ),
        (
            attacks.registry,
            {"access": "white_box", "needs": "ORIGINAL"},
            "field needs: Input should be a valid tuple",
        ),
        (
            attacks.registry,
            {"access": "white_box", "uses": (1,)},
            "field uses, at 0: Input should be a valid string",
        ),
        (attacks.registry, {"access": "white_box", "params": int}, "field params: .*Params"),
        (
            attacks.registry,
            {"access": "white_box", "target": print},
            "sets target, which is not a field of AttackPlugin",
        ),
        (
            attacks.registry,
            {"access": "white_box", "strength": "steps"},
            "sets strength, which is not a field",
        ),
        (defenses.registry, {"strenght": "steps"}, "did you mean strength?"),
        (metrics.registry, {"takes": "pictures"}, "field takes: Input should be 'image', "),
        (unlearning.registry, {"exact": "no"}, "field exact: Input should be a valid boolean"),
    ],
)
def test_a_field_that_is_none_or_has_no_such_value_is_named(
    registry: Registry[Any], described: dict[str, Any], said: str
) -> None:
    def target() -> None:
        """Is refused."""

    with pytest.raises(PluginImportError, match=said):
        registry.register("new", **described)(target)
    assert "new" not in registry


OTHER = "from {package} import registry\n@registry.register('other')\ndef run():\n    'Does.'"
TWO = OTHER.replace("@registry", "@registry.register('wrong')\n@registry", 1)


@pytest.mark.parametrize(
    ("text", "said"), [(OTHER, "registers other"), (TWO, "registers other and wrong")]
)
def test_where_each_file_is_one_plugin_it_has_the_name_of_its_file(
    folder: Make, text: str, said: str
) -> None:
    """Workers listen on the names of files and entry points, which they list without importing
    any."""
    files = folder(good=None, wrong=text)
    assert "good" in files  # elsewhere names are free
    registry = Registry(ThingPlugin, files.package, one_a_file=True)
    registry._plugins = files._plugins
    with pytest.raises(
        PluginImportError,
        match=rf"plugin .*/wrong\.py {said}, but must register one thing named 'wrong'",
    ):
        registry.load()


def test_an_entry_point_of_a_stage_has_its_name(
    folder: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = folder(good=None, _entered=OTHER)
    files.load()

    def load(name: str, **options: bool) -> Registry[ThingPlugin]:
        entered = metadata.EntryPoint(
            name, f"{files.package}._entered", f"palimpsest.{files.package}"
        )
        monkeypatch.setattr(
            metadata, "entry_points", lambda group: [entered] if group == entered.group else []
        )
        registry = Registry(ThingPlugin, files.package, **options)
        registry._plugins = files._plugins
        return registry.load()

    assert "other" in load("free")
    assert "other" in load("other", one_a_file=True)
    with pytest.raises(
        PluginImportError, match=r"entry point 'free' .* registers other, but must register one"
    ):
        load("free", one_a_file=True)


def test_stages_are_named_as_workers_list_them() -> None:
    assert sorted(stage.name for stage in stages) == sorted(STAGES)
    assert stages._one_a_file
