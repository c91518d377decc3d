"""Plugins: a decorator registers, the folder is the list.

A plugin folder is a Python package whose `__init__.py` holds one `Registry` and nothing else. Every
module in it whose name does not start with `_` is a plugin file. `load()` imports them all or raises
`PluginImportError` with the file's name: there is never a partial table.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from shared.errors import InvalidRequest, PluginImportError
from shared.wiring import Wiring

T = TypeVar("T", bound=Callable[..., Any])


class Params(BaseModel):
    """Base of every plugin's parameters: unknown names are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


@dataclass(frozen=True)
class Plugin:
    """One thing a worker can do: what it is called, what it takes, what it needs, what it makes.

    `needs` are roles that must be among a job's inputs; `needs_when[param][value]` are further roles
    needed when that parameter has that value; `uses` are roles taken when given, `many` roles taken any
    number of times, as ROLE_1, ROLE_2 and so on. `produces` are the roles of its outputs,
    `produces_when[param][value]` further ones. `methods` (stages only) is the kind of plugin that a job's
    `method` names. `trains` are those of its parameters that the stage train takes as well: what it needs
    to have been trained differently, it has trained for itself. `counter` (defenses only) is what an attacker does who
    knows it: see `shared/ml/defenses/README.md`.
    `wiring` (stages only) says how an audit runs it.
    `data_files` (data sets) are files and folders of the data root, in the order in which they are looked for, that are
    read when no parameter names one (see `shared.choices.data_file`).
    `traits` is any further JSON that the catalog publishes (a metric's unit, an attack's output).
    """

    kind: str
    name: str
    target: Callable[..., Any]
    params: type[Params]
    source: str = ""
    needs: tuple[str, ...] = ()
    needs_when: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    uses: tuple[str, ...] = ()
    many: tuple[str, ...] = ()
    produces: tuple[str, ...] = ()
    produces_when: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    trains: tuple[str, ...] = ()
    methods: str | None = None
    counter: Callable[..., Any] | None = None
    wiring: Wiring | None = None
    data_files: tuple[str, ...] = ()
    traits: Mapping[str, Any] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """First line of the docstring."""
        return (inspect.getdoc(self.target) or "").partition("\n")[0]

    @property
    def module(self) -> str:
        return self.target.__module__


class Registry:
    """The plugins of one kind."""

    def __init__(self, kind: str, package: str, check: Callable[[Plugin], None] | None = None) -> None:
        """
        Args:
            package: the folder's import name (`__name__` of its `__init__`).
            check: raises PluginImportError for what no plugin of this kind may be.
        """
        self.kind = kind
        self.package = package
        self._check = check
        self._plugins: dict[str, Plugin] = {}
        self._loaded = False

    def register(self, name: str, *, params: type[Params] = Params, **described: Any) -> Callable[[T], T]:
        """Register the decorated class or function as `name`; keywords are the fields of `Plugin`."""

        def add(target: T) -> T:
            plugin = Plugin(self.kind, name, target, params, **described)
            if not plugin.summary:
                raise PluginImportError(
                    f"{self.kind} {name!r} in {target.__module__} has no docstring: say in one line what it is"
                )
            if self._check is not None:
                self._check(plugin)
            other = self._plugins.get(name)
            if other is not None and other.module != plugin.module:
                raise PluginImportError(
                    f"{self.kind} {name!r} is registered twice: in {other.module} and in {plugin.module}"
                )
            self._plugins[name] = plugin
            return target

        return add

    def load(self) -> Registry:
        """Import every plugin file of the folder.

        Raises:
            PluginImportError: a file does not import, or registers nothing; the message names it.
        """
        if self._loaded:
            return self
        package = importlib.import_module(self.package)
        for found in pkgutil.iter_modules(package.__path__):
            if found.name.startswith("_"):
                continue
            name = f"{self.package}.{found.name}"
            try:
                importlib.import_module(name)
            except PluginImportError:
                raise
            except Exception as error:  # whatever a plugin file raises at import, its name must be told
                path = name.replace(".", "/") + ".py"
                raise PluginImportError(f"plugin {path} does not import: {type(error).__name__}: {error}") from error
            if not any(p.module == name for p in self._plugins.values()):
                raise PluginImportError(
                    f"plugin {name.replace('.', '/')}.py registers no {self.kind}: decorate its class or function, "
                    "or start the file's name with _"
                )
        self._loaded = True
        return self

    def forget(self, name: str) -> None:
        """Drop a plugin, so that a test can add one and leave no trace."""
        plugin = self._plugins.pop(name)
        sys.modules.pop(plugin.module, None)

    def get(self, name: str) -> Plugin:
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

    def __iter__(self) -> Iterator[Plugin]:
        return iter(sorted(self.load()._plugins.values(), key=lambda p: p.name))

    def __contains__(self, name: object) -> bool:
        return name in self.load()._plugins
