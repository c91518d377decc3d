"""Celery's settings are those that the protocol stands on."""

from __future__ import annotations

import pytest

from shared.errors import Conflict
from shared.jobs.queue import CELERY_SETTINGS
from workers.app import STAGES, app, check_settings, run_queued_jobs


def test_the_app_has_the_settings() -> None:
    check_settings(app.conf)
    # written out again on purpose: no pickle comes in, SQL has the job, nothing is forked after
    # CUDA was touched
    assert app.conf.accept_content == ["json"]
    assert app.conf.task_acks_late is False
    assert app.conf.worker_pool_start_method == "spawn"


def test_one_queue_a_stage_and_one_task() -> None:
    assert {q.name for q in app.conf.task_queues} == set(STAGES)
    assert {n for n in app.tasks if not n.startswith("celery.")} == {run_queued_jobs.name}


@pytest.mark.parametrize("name", sorted(CELERY_SETTINGS))
def test_any_override_is_refused_by_name(name: str) -> None:
    conf = {**{n: app.conf[n] for n in CELERY_SETTINGS}, name: "something else"}
    with pytest.raises(Conflict, match=name):
        check_settings(conf)
