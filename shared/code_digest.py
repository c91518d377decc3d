"""Which code made a result: one digest over a module and all that it runs on.

It covers the module's source, the source of every module it imports, directly or not, of the
project or of its own package, all modules of a package that is a list (`shared.folders`), the files
in a folder `templates` beside any of them, and the installed version of every other package that
these import. A compiled module has no source: it counts by the version of its package. Two machines
with the same digest run the same code.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

OWN_PACKAGES = ("shared", "workers")
FOLDERS_MODULE = "shared.folders"  # what a package imports that is the list of its modules


@cache
def _list_distributions() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())


@cache
def _get_version(distribution: str) -> str:
    return metadata.version(distribution)


@cache
def _find_source(module: str) -> Path | None:
    """The source file of a module, without importing it where it is not imported yet; None if it
    has none."""
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
def _list_imports(module: str) -> frozenset[str]:
    """Modules that the source of `module` names in import statements, anywhere in it."""
    path = _find_source(module)
    if path is None:
        return frozenset()
    names: set[str] = set()
    top = module.split(".")[0]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = _resolve_import(node, package)
            names.add(source)
            if source.split(".")[0] in (*OWN_PACKAGES, top):
                names |= {
                    f"{source}.{a.name}" for a in node.names if _find_source(f"{source}.{a.name}")
                }
    if FOLDERS_MODULE in names and path.name == "__init__.py":
        names |= {
            f"{module}.{file.stem}"
            for file in path.parent.glob("*.py")
            if not file.stem.startswith("_")
        }
    return frozenset(names)


def _resolve_import(node: ast.ImportFrom, package: str) -> str:
    """The module that a `from ... import` names."""
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    return ".".join(
        [*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])]
    )


def _hash_file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def compute_code_digest(module: str) -> str:
    """sha256, in hex, of what `module` runs on."""
    own = module.split(".")[0]
    readable, pending, files = (*OWN_PACKAGES, own), [module], {}
    packages = set() if own in OWN_PACKAGES else set(_list_distributions().get(own, ()))
    while pending:
        name = pending.pop()
        top = name.split(".")[0]
        if top not in readable:
            packages |= set(_list_distributions().get(top, ()))
            continue
        path = _find_source(name)
        if path is None or name in files:
            continue
        files[name] = _hash_file(path)
        files |= {
            f"{name} {t.relative_to(path.parent)}": _hash_file(t)
            for t in (path.parent / "templates").rglob("*")
            if t.is_file()
        }
        pending += _list_imports(name)
    lines = [f"{n} {d}" for n, d in sorted(files.items())] + [
        f"{p} {_get_version(p)}" for p in sorted(packages)
    ]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
