"""The field's words: nothing is defined under a name of the old dialect, and lines can be read."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.source_tree import ROOT

OURS = ("services", "workers", "shared", "deploy")
MAX_COLUMNS = 100

# What readers from outside took for riddles, and the term that took its place.
OLD_NAMES = {
    # the queue and its workers
    "Bell": "WakeupQueue", "CeleryBell": "CeleryWakeup", "MemoryBell": "InMemoryWakeup", "Ringer": "WakeupSender",
    "ring": "notify", "lying": "depth", "ENOUGH": "MAX_PENDING", "beat": "heartbeat",
    "Order": "ControlSignal", "Keeper": "LeaseKeeper", "Hold": "HeldLease",
    "obey": "handle_command", "told": "say what was told", "give_up": "kill_stalled", "end_for_it": "kill_unresponsive",
    "lose": "report_lost", "silence": "stall_timeout_s", "obey_within": "stop_grace_s",
    "renew_every": "lease_renew_s", "max_lost": "max_lost_attempts", "max_events": "max_event_streams",
    "held": "lock_with_fence, paused, is_served", "held_back": "count_inputs_in", "hopeless": "dead_end_reason",
    "waiting_on": "waiting_children", "_consequences": "_side_effects", "charge": "record_lost_attempt",
    "live_key": "dedup_key", "plan_key": "request_key", "content_key": "cache_key", "fresh": "no_cache",
    "direct": "pinned", "tolerant": "run_when", "hold_job": "pause_job", "unhold_job": "resume_job",
    # plugins, gateway, command line, client
    "Choice": "PluginRef", "chosen": "resolve_plugin", "choice_of": "plugin_field", "misfit": "incompatibility_reason",
    "known_form": "require_id_format", "Posted": "IdempotencyKey", "answered_before": "find_replay",
    "Landing": "Download", "Draft": "AtomicFile", "Patience": "RetryPolicy", "Follower": "Watcher",
    # science
    "null": "baseline", "nulls": "baselines", "counterless": "has_adaptive_attack",
    "knowing": "apply_defense_knowledge",
    "knows": "is_adaptive", "unaware": "without_adaptive", "trust": "coordinate_weights",
    "aim": "build_gradient_target", "aimed": "build_gradient_target", "lane": "trial", "lanes": "trials",
    "Lanes": "BatchedGradients", "Starts": "TrialState", "explanation": "gradient_source",
    "explanations": "gradient_sources", "SCOUTING": "WARMUP_SHARE", "SETTLING": "LABEL_FREEZE_SHARE",
    "settled": "hard_logits", "Common": "SharedSubspace", "apart": "group_by_start_model, intervals_disjoint",
    "Queries": "ProbeView", "Candidates": "CandidateView", "Observation": "WhiteBoxView", "Answers": "LabelGuesses",
    "Scores": "MembershipScores", "JUDGE": "FEATURE_NETWORK", "judge": "feature_network, decide_row",
    "FETCHED": "AVERAGED_RELEASES", "COUNTS": "DELETION_SIZES", "Given": "UnlearningArtifacts",
    "_World": "ShadowSetup", "_Did": "PluginCall", "_did": "resolve_recorded_plugin", "destroyed": "degenerate_reason",
    "one_by_one": "make_with_checkpoints",
    "Found": "LoadedEvaluation",
    "recalls": "undoes_unlearning",
    # a name says what the thing is
    "work": "say what it is", "found": "say what was found", "made": "say what was made",
}  # fmt: skip
# Modules are named after what they hold.
OLD_MODULES = {
    "moves": "transitions", "reads": "queries", "rows": "mapping", "fleet": "worker_registry",
    "choices": "plugin_ref", "fit": "compatibility", "answers": "responses", "bodies": "json_body",
    "headers": "security_headers", "views": "schemas", "published": "catalog_cache", "acting": "commands/job",
    "showing": "commands/listing", "reading": "input/params", "following": "output/progress",
    "submitting": "commands/submit", "auditing": "commands/audit", "completing": "completion",
    "auditfiles": "input/audit_file", "grids": "input/audit_flags", "tied": "exec_with_parent",
    "within": "exec_in_environment", "nulls": "baselines", "glance": "overview", "grid": "expected_rows",
    "limits": "caveats", "threats": "threat_models", "numbers": "formatting",
}  # fmt: skip
# A function is named by a verb, and these end like one that is not.
VERBS = {"need", "feed", "seed", "embed", "exceed", "proceed", "succeed"}


def list_files() -> list[Path]:
    """All but migrations: they stay as they were when databases were migrated by them."""
    return [
        path
        for folder in OURS
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path.parent.name != "versions"
    ]


def find_definitions(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every name that is given to something, and its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname, node.lineno


def find_old_names(path: Path) -> list[str]:
    place = path.relative_to(ROOT)
    module = path.stem.strip("_")
    old = [f"{place}: the module (now {OLD_MODULES[module]})"] if module in OLD_MODULES else []
    old += [
        f"{place}:{line}: {name} (now {OLD_NAMES.get(name) or OLD_NAMES[name.strip('_')]})"
        for name, line in find_definitions(ast.parse(path.read_text()))
        if name in OLD_NAMES or name.strip("_") in OLD_NAMES
    ]
    return old


def find_participles(path: Path) -> list[str]:
    """Functions that say what was done to something, and not what they do. Values may: properties, fixtures."""
    return [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.name}"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and not any("property" in ast.unparse(mark) for mark in node.decorator_list)
        for first in [node.name.strip("_").split("_")[0]]
        if first.endswith("ed") and first not in VERBS
    ]


def test_nothing_is_defined_under_an_old_name() -> None:
    assert [place for path in list_files() for place in find_old_names(path)] == []


def test_no_function_is_named_by_a_participle() -> None:
    assert [place for path in list_files() for place in find_participles(path)] == []


def test_lines_can_be_read() -> None:
    lines = [line for path in list_files() for line in path.read_text().splitlines()]
    assert len(lines) > 10_000
    assert sum(len(line) > MAX_COLUMNS for line in lines) < len(lines) / 100


def test_old_names_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    file = tmp_path / "grids.py"
    file.write_text(
        "class Bell: ...\n"
        "def f(lane, *, null=1): ...\n"
        "for _lane in f(null=2): ...\n"  # the second is another's name
        "def filtered(self): ...\n"
        "@property\ndef defended(self): ...\n"
    )
    assert sorted(place.partition(" (")[0] for place in find_old_names(file)) == [
        "grids.py: the module", "grids.py:1: Bell", "grids.py:2: lane", "grids.py:2: null", "grids.py:3: _lane",
    ]  # fmt: skip
    assert find_participles(file) == ["grids.py:4: filtered"]
