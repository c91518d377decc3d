"""Which code made a result: one digest over a module and all that it runs on.

It covers the module's source, the source of every module it imports, directly or not, of the project or of its own
package, all modules of a package that is a list (`shared.folders`), the files in a folder `templates` beside any of
them, and the installed version of every other package that these import. A compiled module has no source: it counts by
the version of its package. Two machines with the same digest run the same code.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

OURS = ("shared", "workers")
LISTS = "shared.folders"  # what a package imports that is the list of its modules


@cache
def _distributions() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())


@cache
def _source(module: str) -> Path | None:
    """The source file of a module, without importing it where it is not imported yet; None if it has none."""
    loaded = sys.modules.get(module)
    if loaded is not None:
        file: str | None = getattr(loaded, "__file__", None)
    else:
        try:
            spec = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            return None
        file = spec.origin if spec else None
    return Path(file) if file and file.endswith(".py") else None


@cache
def _imports(module: str) -> frozenset[str]:
    """Modules that the source of `module` names in import statements, anywhere in it."""
    path = _source(module)
    if path is None:
        return frozenset()
    names: set[str] = set()
    top = module.split(".")[0]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = _absolute(node, package)
            names.add(source)
            if source.split(".")[0] in (*OURS, top):
                names |= {f"{source}.{a.name}" for a in node.names if _source(f"{source}.{a.name}")}
    if LISTS in names and path.name == "__init__.py":
        names |= {f"{module}.{file.stem}" for file in path.parent.glob("*.py") if not file.stem.startswith("_")}
    return frozenset(names)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    """The module that a `from ... import` names."""
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    return ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digest_of(module: str) -> str:
    """sha256, in hex, of what `module` runs on."""
    own = module.split(".")[0]
    read, todo, files = (*OURS, own), [module], {}
    packages = set() if own in OURS else set(_distributions().get(own, ()))
    while todo:
        name = todo.pop()
        top = name.split(".")[0]
        if top not in read:
            packages |= set(_distributions().get(top, ()))
            continue
        path = _source(name)
        if path is None or name in files:
            continue
        files[name] = _hash(path)
        files |= {
            f"{name} {t.relative_to(path.parent)}": _hash(t)
            for t in (path.parent / "templates").rglob("*")
            if t.is_file()
        }
        todo += _imports(name)
    lines = [f"{n} {d}" for n, d in sorted(files.items())] + [f"{p} {metadata.version(p)}" for p in sorted(packages)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
