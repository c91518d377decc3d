"""Plugins: a decorator registers, the folder is the list.

A plugin folder is a Python package whose `__init__.py` holds one `Registry` and nothing else. Every
module in it is a plugin file, but for `api`, from which others import, and those whose names start
with `_`. `load()` imports them all or raises `PluginImportError` with the file's name: there is
never a partial table.

Installed packages add plugins by entry points of the group `palimpsest.<folder>`, each the name of
a plugin module.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from importlib import metadata
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from shared.errors import InvalidRequest, PluginImportError
from shared.plugins import Plugin, list_field_names

API_MODULE = "api"  # the module of a plugin folder that others import from
T = TypeVar("T", bound=Callable[..., Any])
P = TypeVar("P", bound=Plugin)


def list_plugin_files(folder: Iterable[str]) -> list[str]:
    """The names of the plugin files in a package's path, without importing any."""
    return sorted(
        m.name
        for m in pkgutil.iter_modules(folder)
        if not m.name.startswith("_") and m.name != API_MODULE
    )


def list_entry_points(folder: str) -> list[str]:
    """The names under which installed packages enter plugins of a room, without importing any."""
    return sorted(
        {entry.name for entry in metadata.entry_points(group=_get_entry_point_group(folder))}
    )


def _get_entry_point_group(folder: str) -> str:
    return f"palimpsest.{folder}"


class Registry(Generic[P]):
    """The plugins of one kind."""

    def __init__(
        self,
        plugin: type[P],
        package: str,
        check: Callable[[P], None] | None = None,
        *,
        one_a_file: bool = False,
    ) -> None:
        """
        Args:
            plugin: what a plugin of this kind says of itself.
            package: the folder's import name (`__name__` of its `__init__`).
            check: raises PluginImportError for what no plugin of this kind may be.
            one_a_file: whether each file, and each entry point, is one plugin of its name: then
                `list_plugin_files` and `list_entry_points` name them all without importing any.
        """
        self.kind = plugin.kind
        self._plugin = plugin
        self.package = package
        self._check = check
        self._one_a_file = one_a_file
        self._plugins: dict[str, P] = {}
        self._loaded = False

    def register(self, name: str, **described: Any) -> Callable[[T], T]:
        """Register the decorated class or function as `name`; keywords are the fields of the kind's
        descriptor.

        Raises:
            PluginImportError: no such field, one is missing, or one has no such value; the message
                names it.
        """

        def add(target: T) -> T:
            plugin = self._describe(name, target, described)
            if not plugin.summary:
                raise PluginImportError(
                    f"{self.kind} {name!r} in {target.__module__} has no docstring: add one line "
                    "that says what it is"
                )
            if self._check is not None:
                self._check(plugin)
            other = self._plugins.get(name)
            if other is not None and other.module != plugin.module:
                raise PluginImportError(
                    f"{self.kind} {name!r} is registered twice: in {other.module} and in "
                    f"{plugin.module}"
                )
            self._plugins[name] = plugin
            return target

        return add

    def _describe(self, name: str, target: Callable[..., Any], described: dict[str, Any]) -> P:
        who, known = (
            f"{self.kind} {name!r} in {target.__module__}",
            list(list_field_names(self._plugin)),
        )
        for extra in sorted(described.keys() - known):
            near = get_close_matches(extra, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
            raise PluginImportError(
                f"{who} sets {extra}, which is not a field of {self._plugin.__name__}: {hint}"
            )
        try:
            return self._plugin(name=name, target=target, **described)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            field, *inner = (str(part) for part in first["loc"])
            where = f"{field}, at {'.'.join(inner)}" if inner else field
            raise PluginImportError(
                f"{who} has an invalid field {where}: {first['msg']}"
            ) from error

    def load(self) -> Registry[P]:
        """Import every plugin file of the folder, and every module that an installed package enters
        for it.

        Raises:
            PluginImportError: one does not import, registers nothing, or plugins of other names
                where its own counts; the message names the file, or the distribution and its entry
                point.
        """
        if self._loaded:
            return self
        package = importlib.import_module(self.package)
        for file in list_plugin_files(package.__path__):
            name = f"{self.package}.{file}"
            self._import(
                name,
                file,
                f"plugin {name.replace('.', '/')}.py",
                ", or start the file's name with _",
            )
        group = _get_entry_point_group(self.package.rpartition(".")[2])
        entry_points = [
            (e.dist.name if e.dist else "?", e) for e in metadata.entry_points(group=group)
        ]
        for owner, entry in sorted(entry_points, key=lambda pair: (pair[0], pair[1].name)):
            self._import(
                entry.module,
                entry.name,
                f"entry point {entry.name!r} ({group}) of the distribution {owner!r}",
            )
        self._loaded = True
        return self

    def _import(self, module: str, name: str, who: str, otherwise: str = "") -> None:
        try:
            importlib.import_module(module)
        except Exception as error:  # whatever a plugin raises at import, the error must name it
            why = (
                str(error)
                if isinstance(error, PluginImportError)
                else f"{type(error).__name__}: {error}"
            )
            raise PluginImportError(f"{who} cannot be imported: {why}") from error
        registered = sorted(
            p.name for p in self._plugins.values() if f"{p.module}.".startswith(f"{module}.")
        )
        if not registered:
            raise PluginImportError(
                f"{who} registers no {self.kind}: decorate its class or function{otherwise}"
            )
        if self._one_a_file and registered != [name]:
            raise PluginImportError(
                f"{who} registers {' and '.join(registered)}, but must register one {self.kind} "
                f"named {name!r}, as it is looked up under that name"
            )

    def unregister(self, name: str) -> None:
        """Drop a plugin, so that a test can add one and leave no trace."""
        plugin = self._plugins.pop(name)
        sys.modules.pop(plugin.module, None)

    def get(self, name: str) -> P:
        """The plugin called `name`.

        Raises:
            InvalidRequest: there is none; the message lists what there is.
        """
        try:
            return self.load()._plugins[name]
        except KeyError:
            raise InvalidRequest(
                f"unknown {self.kind} {name!r}; known: {', '.join(sorted(self._plugins))}", "method"
            ) from None

    def __iter__(self) -> Iterator[P]:
        return iter(sorted(self.load()._plugins.values(), key=lambda p: p.name))

    def __contains__(self, name: object) -> bool:
        return name in self.load()._plugins
