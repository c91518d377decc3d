"""What is written down elsewhere about stages says what the stages themselves declare."""

from __future__ import annotations

import re
from typing import Any

from deploy.local.layout import list_groups
from services.cli.commands.submit import STAGE_COMMANDS
from services.cli.input.audit_flags import FLAGS
from shared.jobs.spec import AuditSpec
from shared.wiring import WorkerGroup
from tests.support.source_tree import ROOT
from tests.support.yaml_text import load_yaml
from workers.stages import registry

WIRINGS = {plugin.name: plugin.wiring for plugin in registry if plugin.wiring is not None}
# Fields of an audit that are about the audit itself.
ITS_OWN = {
    "name",
    "dataset",
    "model",
    "original",
    "releases",
    "base",
    "retrained",
    "sweep",
    "seeds",
    "no_cache",
    "priority",
    "time_limit",
    "declared",
}
# They check what users declare, before any audit.
CHECKS = {"inspect_model", "inspect_dataset"}


def read_by_stages() -> set[str]:
    named = {
        field for w in WIRINGS.values() for field in (w.params, w.methods, w.flag, w.seed) if field
    }
    return named | {field for w in WIRINGS.values() for field in w.shared_params}


def test_every_stage_that_ships_is_run_by_audits_or_checks_what_they_name() -> None:
    assert {plugin.name for plugin in registry} - CHECKS == set(WIRINGS)


def test_an_audit_has_the_fields_that_stages_read_and_its_own() -> None:
    assert set(AuditSpec.model_fields) == read_by_stages() | ITS_OWN


def test_the_documentation_of_an_audit_names_the_stage_of_each_field_of_parameters() -> None:
    told = re.sub(r"\s+", " ", AuditSpec.__doc__ or "")
    fields, stages = (
        re.split(r", | and ", part)
        for part in re.findall(r"`pretrain`.*?`evaluate`|pretrain, .*?evaluate,", told)
    )
    told_of = dict(zip((f.strip("`") for f in fields), (s.strip(",") for s in stages), strict=True))
    readers = {(w.params, name) for name, w in WIRINGS.items() if w.params}
    assert {*told_of.items()} <= readers  # a field may have further readers
    assert {*told_of} == {field for field, _ in readers}


def test_every_field_of_an_audit_has_a_flag_and_those_of_parameters_are_merged() -> None:
    filled_in = {"declared"}  # by the gateway
    own = {"labels", "metadata"}  # the user's, of which plans know nothing
    fields = set(AuditSpec.model_fields) - filled_in
    assert {flag.target_field for flag in FLAGS} == fields | own
    assert {flag.target_field for flag in FLAGS if flag.merges} - own == {
        w.params for w in WIRINGS.values() if w.params
    }


def test_a_verb_is_a_stage_with_its_kind_of_methods() -> None:
    """A stage without a verb is run by `palimpsest submit`."""
    assert {name: kind for name, (_, kind) in STAGE_COMMANDS.items()}.items() <= {
        p.name: p.methods for p in registry
    }.items()


def declared(group: WorkerGroup) -> set[str]:
    checks = CHECKS if group is WorkerGroup.EVALUATE else set()
    return checks | {name for name, wiring in WIRINGS.items() if wiring.group is group}


def test_workers_are_started_by_the_groups_that_stages_name() -> None:
    assert {name: set(stages) for name, stages in list_groups().items()} == {
        g.value: declared(g) for g in WorkerGroup
    }


def test_a_group_of_compose_serves_the_stages_that_name_it() -> None:
    services: dict[str, Any] = load_yaml((ROOT / "docker-compose.yml").read_text())["services"]
    started = {
        name.removeprefix("worker-"): set(service["command"][1].split(","))
        for name, service in services.items()
        if name.startswith("worker-") and "profiles" not in service
    }
    assert started == {g.value: declared(g) for g in WorkerGroup}
