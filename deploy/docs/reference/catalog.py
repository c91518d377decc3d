"""Every plugin with its parameters, as workers publish them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from deploy.docs.markdown import (
    end_sentence,
    escape_text,
    write_code,
    write_names,
    write_table,
)
from deploy.docs.reference.json_schema import name_type, write_default
from shared.catalog import CatalogEntry
from workers.catalog import load_catalog

# kind: title, what it is, the page that says how to add one
_KINDS = {
    "dataset": (
        "Data sets",
        "What models are trained on; [data](../../data.md) says how files are read. A shape is C, H, W; "
        "`?` is what a file decides.",
        "dataset",
    ),
    "model": (
        "Models",
        "Architectures. `min_size` is the smallest side of a picture in pixels.",
        "model",
    ),
    "unlearning": ("Unlearning methods", "What makes a model forget.", "unlearning"),
    "defense": ("Defenses", "What is done to a model against attackers.", "defense"),
    "attack": (
        "Attacks",
        "What an attacker tries. [Threat models](../../threat-models.md) says what each of them sees.",
        "attack",
    ),
    "metric": ("Metrics", "How near a reconstruction is to a sample.", "metric"),
    "stage": (
        "Stages",
        "Kinds of jobs. An audit plans them; [by hand](../../by-hand.md) shows how to run one.",
        "stage",
    ),
}
_TEXT = """# Catalog

What this version can run, as workers publish it. `palimpsest catalog` and `GET /v1/catalog` show
what the workers of a running system have, installed plugins too.

"""


def write_pages() -> dict[str, str]:
    """Path below the reference -> text."""
    entries: dict[str, list[CatalogEntry]] = {kind: [] for kind in _KINDS}
    for entry in load_catalog():
        entries[entry.kind].append(entry)
    counts = [
        (f"[{title}]({kind}.md)", write_names([entry.name for entry in entries[kind]]))
        for kind, (title, _, _) in _KINDS.items()
    ]
    pages = {"catalog/README.md": _TEXT + write_table(("kind", "plugins"), counts)}
    for kind, (title, summary, page) in _KINDS.items():
        head = f"# {title}\n\n{summary} See also [{page}.md](../../adding/{page}.md).\n"
        pages[f"catalog/{kind}.md"] = "\n".join([head, *map(_write_entry, entries[kind])])
    return pages


def _write_entry(entry: CatalogEntry) -> str:
    facts = [*_list_roles(entry), *_list_traits(entry.traits)]
    if entry.methods:
        facts.append(("methods", f"every plugin of the kind {write_code(entry.methods)}"))
    if entry.data_files:
        facts.append(("reads", write_names(entry.data_files)))
    if entry.has_adaptive_attack:
        facts.append(("adaptive attack", "known"))
    if entry.source:
        facts.append(("source", escape_text(entry.source)))
    lines = [f"- {name}: {text}" for name, text in facts]
    parts = [f"## {entry.name}", end_sentence(entry.summary), "\n".join(lines)]
    parts.append(_write_parameters(entry.params_schema) or "No parameters.")
    return "\n\n".join(part for part in parts if part) + "\n"


def _list_roles(entry: CatalogEntry) -> Iterable[tuple[str, str]]:
    if entry.needs:
        yield "needs", _link_roles(entry.needs)
    for parameter, by_value in entry.needs_when.items():
        for value, roles in by_value.items():
            yield (
                f"with `{parameter}: {value.lower() if value in ('True', 'False') else value}`",
                (f"also needs {_link_roles(roles)}"),
            )
    if entry.uses:
        yield "uses if given", _link_roles(entry.uses)
    if entry.many:
        yield "takes several of", _link_roles(entry.many)
    if entry.produces:
        yield "produces", _link_roles(entry.produces)


def _link_roles(roles: Iterable[str]) -> str:
    return ", ".join(write_code(role) for role in roles)


def _list_traits(traits: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for name, value in traits.items():
        if value not in (None, (), [], {}):
            yield f"`{name}`", write_code(_write_value(value))


def _write_value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join("?" if one is None else str(one) for one in value)
    if isinstance(value, dict):
        return ", ".join(f"{name}: {one}" for name, one in value.items())
    return str(value)


def _write_parameters(schema: Mapping[str, Any]) -> str:
    required = set(schema.get("required", ()))
    rows = [
        (
            write_code(name),
            name_type(parameter, schema),
            "required" if name in required else write_default(parameter),
            end_sentence(escape_text(parameter.get("description", ""))),
        )
        for name, parameter in schema.get("properties", {}).items()
    ]
    return write_table(("parameter", "type and range", "default", "meaning"), rows)
