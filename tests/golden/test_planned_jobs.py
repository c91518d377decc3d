"""Every audit is planned as it was when it was recorded, up to the names that have changed
since."""

from __future__ import annotations

import copy

import pytest

from tests.golden.planned_jobs import (
    RECORDED,
    RENAMED,
    describe,
    drop_report,
    load_audits,
    plan_audit,
    read_record,
    rename,
)
from tests.support.yaml_text import load_yaml

AUDITS = load_audits()


@pytest.mark.parametrize("name", AUDITS)
def test_an_audit_is_planned_as_it_was(name: str) -> None:
    before = drop_report(rename(read_record(name), load_yaml(RENAMED.read_text())))
    now = drop_report(describe(plan_audit(AUDITS[name])))
    missing = [job for key, job in before.items() if key not in now]
    added = [job for key, job in now.items() if key not in before]
    assert (missing, added) == ([], [])


def test_no_record_is_of_an_audit_that_is_gone() -> None:
    assert {path.stem for path in RECORDED.glob("*.json")} == set(AUDITS)


def test_a_job_that_changes_changes_all_that_is_made_from_it() -> None:
    """What this comparison is worth: a parameter, a seed, an input taken from elsewhere, a name."""
    jobs = read_record("quick")
    before = drop_report(jobs)
    changed = copy.deepcopy(jobs)
    assert changed[0]["stage"] == "pretrain"
    changed[0]["seed"] += 1
    with pytest.raises(KeyError):  # a child names a parent that is not there
        rename(changed, {})
    children = sum(job["stage"] not in ("pretrain", "selftest", "report") for job in jobs)
    other = drop_report(rename(jobs, {"params": {"epochs": "rounds"}}))
    assert len(before.keys() - other.keys()) == children + 1
    roles = drop_report(rename(jobs, {"roles": {"RELEASED": "RELEASE"}}))
    assert before.keys() != roles.keys()
    assert drop_report(rename(jobs, {})).keys() == before.keys()
