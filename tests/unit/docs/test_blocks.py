"""Every fenced block in the documentation is run, or checked by what reads it in earnest."""

from __future__ import annotations

import ast
import itertools
import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from shared.catalog import Catalog
from shared.data_files import DataFile
from shared.jobs.plan import plan
from shared.jobs.spec import AuditSpec
from tests.support.doc_blocks import Block, list_blocks
from tests.support.doc_python import find_wrong_names
from tests.support.source_tree import ROOT
from tests.support.yaml_text import load_yaml

# Pages whose blocks of a language a test runs or installs as they are.
RUN = {
    ("docs/python-client.md", "python"): "tests/integration/test_cli_served.py",
    ("docs/adding/README.md", "toml"): "tests/integration/test_entry_points.py",
    ("docs/adding/finding.md", "python"): "tests/integration/test_adding_a_finding.py",
    ("docs/adding/finding.md", "html"): "tests/integration/test_adding_a_finding.py",
    ("docs/kubernetes.md", "yaml"): "tests/unit/deploy/test_kubernetes_docs.py",
    **{
        (f"docs/adding/{page}.md", "python"): "tests/integration/test_adding_pages.py"
        for page in ("attack", "dataset", "defense", "metric", "model", "stage", "unlearning")
    },
}  # fmt: skip
CHECKED = {"python", "yaml", "sh", "json", "toml"}
# Shows what something looks like; nobody types it.
SHOWN = {"text", "http"}
OURS = re.compile(r"^\W*(palimpsest|make|python|docker|pip|curl) ", re.MULTILINE)

SHA256 = "a" * 64
# What an excerpt of an audit leaves out.
LABORATORY: dict[str, Any] = {
    "dataset": "mnist_5k", "model": "mlp", "unlearning": ["retrain"], "attacks": ["label_inference"],
}  # fmt: skip
OWN: dict[str, Any] = {
    "dataset": {
        "name": "own_samples",
        "params": {
            **dict.fromkeys(("deleted", "public", "retained"), f"upload:{SHA256}"),
            "num_classes": 10,
        },
    },
    "model": "mlp", "original": SHA256, "attacks": ["label_inference"],
}  # fmt: skip
INGEST = {"input_shape": [1, 28, 28], "num_classes": 10}
NAMED = {
    "rows": {"name": "npz", "params": {"path": "mine.npz"}},
    "ids": {"name": "csv", "params": {"path": "mine.csv", "target": "class", "id": "id"}},
    "files": {"name": "image_folder", "params": {"path": "mine", "size": 32}},
}


def test_every_block_is_in_a_group() -> None:
    for block in list_blocks():
        known = (block.path, block.language) in RUN or block.language in CHECKED | SHOWN
        assert known, f"{block}: nothing checks a block of the language {block.language or 'none'}"
        if block.language in SHOWN:
            assert not OURS.search(block.text), f"{block}: a command in a block that nobody checks"


def test_what_is_said_to_be_run_is_there() -> None:
    there = {(block.path, block.language) for block in list_blocks()}
    assert RUN.keys() <= there
    for (path, _), test in RUN.items():
        text = (ROOT / test).read_text()
        assert path in text or '"docs/adding"' in text, f"{test} does not read {path}"


def mark_slow(block: Block) -> Any:
    """Blocks that import torch take seconds."""
    return pytest.param(block, marks=[pytest.mark.slow] if "import torch" in block.text else [])


@pytest.mark.parametrize("block", [mark_slow(block) for block in list_blocks("python")], ids=str)
def test_python_imports_and_calls_what_there_is(block: Block) -> None:
    compile(block.text, str(block), "exec")
    if (block.path, block.language) not in RUN:
        assert find_wrong_names(block.text) == []


@pytest.mark.parametrize(
    "text",
    [
        "from palimpsest import Cleint",
        "import palimpsets",
        "from palimpsest import Client\nClient().get_jbo('x')",
        "from palimpsest import Client\nClient(adress='x')",
        "from palimpsest import Client\nwith Client() as client:\n    client.submit_audit(spce={})",
        "print(undefined)",
    ],
)
def test_wrong_python_is_found(text: str) -> None:
    assert find_wrong_names(text)


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    from workers.catalog import load_catalog

    return load_catalog()


def read_audits(text: str) -> Iterator[dict[str, Any]]:
    """Complete audits of an excerpt. Lines with the same field are alternatives."""
    numbers = itertools.count()
    text = re.sub(r"\bSHA256\b", lambda _: f"{next(numbers):a>64x}", text)  # each another file
    fields = Counter(re.findall(r"^(\w+):", text, re.MULTILINE))
    alternatives = text.splitlines() if max(fields.values()) > 1 else [text]
    for alternative in alternatives:
        excerpt = load_yaml(alternative)
        own = "releases" in excerpt or "original" in excerpt
        audit = {**(OWN if own else LABORATORY), **excerpt}
        if own and "declared" not in str(excerpt):
            audit["ingest"] = {**INGEST, **excerpt.get("ingest", {})}
        if isinstance(audit["original"] if own else None, dict):
            audit.pop("model")  # a declared model has one
        named = NAMED.keys() & excerpt.get("forget", {}).keys()
        if named and "dataset" not in excerpt:
            audit["dataset"] = NAMED[named.pop()]
        yield audit


@pytest.mark.slow
@pytest.mark.parametrize(
    "block", [b for b in list_blocks("yaml") if (b.path, "yaml") not in RUN], ids=str
)
def test_every_audit_can_be_planned(block: Block, catalog: Catalog) -> None:
    for audit in read_audits(block.text):
        spec = AuditSpec.model_validate(audit)
        if "declared" not in str(audit["dataset"]):  # names of what only a gateway knows
            assert plan(spec, catalog, identify_files)[-1].stage == "report"


@pytest.mark.slow
def test_audits_in_python_can_be_planned(catalog: Catalog) -> None:
    audits = [
        ast.literal_eval(call.args[0])
        for block in list_blocks("python")
        for call in ast.walk(ast.parse(block.text))
        if isinstance(call, ast.Call)
        and ast.unparse(call.func).endswith(".submit_audit")
        and isinstance(call.args[0], ast.Dict)
    ]
    assert audits
    for audit in audits:
        assert plan(AuditSpec.model_validate(audit), catalog)[-1].stage == "report"


def identify_files(files: Sequence[DataFile]) -> dict[str, str]:
    """As if every file that an audit names were there."""
    return {file.path: SHA256 for file in files}


@pytest.mark.slow
@pytest.mark.parametrize(
    "text", ["forgets: {deletions: 2}", "train: {sise: 2}", "attacks: [recover]"]
)
def test_a_wrong_audit_is_found(text: str, catalog: Catalog) -> None:
    (audit,) = read_audits(text)
    with pytest.raises(Exception, match=r"forgets|sise|recover"):
        plan(AuditSpec.model_validate(audit), catalog)


def test_other_files_can_be_read() -> None:
    for block in list_blocks("json"):
        json.loads(block.text)
    for block in list_blocks("toml"):
        tomllib.loads(block.text)
