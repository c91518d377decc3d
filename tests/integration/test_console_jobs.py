"""The console's pages of jobs, as a browser without scripts has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.jobs.keys import READ
from shared.jobs.records import JobCost
from tests.support.console_site import Site
from tests.support.gateway import GatewayInProcess
from tests.support.keys import make_client, make_key
from tests.support.waiting import TIMEOUT_S, wait_for


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    gateway = GatewayInProcess(tmp_path)
    yield Site(gateway)
    gateway.close()


def list_ids(page: str) -> list[str]:
    return re.findall(r'<li id="(job_[0-9a-f]+)">', page)


def test_the_list_is_filtered_by_its_form(site: Site) -> None:
    audit = site.post_audit(seeds=[0], labels={"team": "a"})
    alone = site.gateway.post()["id"]
    for query, n in {
        "": 14,
        "stage=unlearn": 2,
        "stage=unlearn&method=retrain&state=": 1,
        "state=queued": 2,
        f"audit={audit}": 13,
        "label=team": 13,
        "stage=none": 0,
    }.items():
        assert len(list_ids(site.read(f"/jobs?{query}"))) == n, query
    assert alone in list_ids(site.read("/jobs?stage=sleep"))
    for query, message in {
        "audit=aud_00000000000000000000": "no audit with this id",
        "audit=x": "no audit with this id",
        "state=running&finished_after=2026-01-01T00:00:00Z": "has ended",
        "state=asleep": "Input should be",
    }.items():
        assert message in site.read(f"/jobs?{query}", 422)


def test_a_report_and_what_its_deletion_takes_cost_the_same_queries_for_any_audit(
    site: Site,
) -> None:
    counts: dict[str, set[int]] = {"job": set(), "deletion": set(), "failed jobs": set()}
    for seeds in ([0], list(range(10))):
        audit = site.post_audit(seeds=seeds)
        found = site.gateway.http.get(f"/v1/jobs?audit={audit}&stage=report").get_json()
        (report,) = found["items"]
        counts["job"].add(site.count_statements(f"/jobs/{report['id']}"))
        counts["deletion"].add(site.count_statements(f"/audits/{audit}/delete"))
        counts["failed jobs"].add(site.count_statements(f"/jobs?audit={audit}&state=failed"))
    assert {name: len(made) for name, made in counts.items()} == dict.fromkeys(counts, 1)


def test_the_list_costs_the_same_queries_with_any_number_of_jobs(site: Site) -> None:
    site.post_audit(seeds=[0, 1, 2, 3, 4])
    assert len({site.count_statements(f"/jobs?stage={s}") for s in ("attack", "evaluate")}) == 1


def test_cancelling_what_a_filter_selects_asks_first(site: Site) -> None:
    audit = site.post_audit(seeds=[0])
    worker = site.gateway.make_worker()
    worker.claim()
    page = site.read(f"/jobs?audit={audit}")
    assert f'href="/jobs/cancel?audit={audit}"' in page
    asked = site.read(f"/jobs/cancel?audit={audit}&page=ignored")
    assert "Cancel 13 jobs?" in asked
    assert "1 running job stops" in asked
    later = site.gateway.post()["id"]
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', asked))
    assert fields.keys() == {"form_token", "audit", "created_before"}
    done = site.press("/jobs/cancel", **fields).headers["Location"]
    assert done == f"/jobs?audit={audit}&done=jobs_cancelled&n=12&more=1"
    assert "1 running job will stop" in site.read(done)
    assert site.gateway.http.get(f"/v1/jobs/{later}").get_json()["state"] == "queued"
    assert "Nothing to cancel" in site.read(f"/jobs/cancel?audit={audit}&state=queued")


def test_not_all_jobs_can_be_cancelled_at_once(site: Site) -> None:
    site.gateway.post()
    assert "/jobs/cancel" not in site.read("/jobs")
    assert "give at least one filter" in site.read("/jobs/cancel", 422)
    assert "at least one filter" in site.press("/jobs/cancel", 422).get_data(as_text=True)
    assert "have ended" in site.read("/jobs/cancel?state=failed", 422)


def test_a_job_shows_what_it_is_made_of_and_who_uses_it(site: Site) -> None:
    site.post_audit(seeds=[0], unlearning=["ascent"])
    worker = site.gateway.make_worker()
    while claim := worker.try_claim():
        if claim.job.stage == "attack":
            break
        worker.finish(claim, claim.job.id.encode(), cost=JobCost(65.0, 130.0, 3 << 20))
    assert claim is not None
    page = site.read(f"/jobs/{claim.job.id}")
    assert "of unlearn ascent, defend none; seed 0" in page
    sources = [i.parent for i in claim.job.inputs if i.parent]
    assert sources
    assert all(f'href="/jobs/{parent}"' in page for parent in sources)
    assert "It will make RECONSTRUCTION" in page
    assert ">evaluate</a>" in page
    made = site.read(f"/jobs/{sources[0]}")
    assert "1 min 05 s, 2 min 10 s of processor time, 3.0 MiB of memory" in made
    assert re.search(r'href="/v1/artifacts/[0-9a-f]{64}">\d+ B</a>', made)


def test_a_log_is_in_words_and_joins_progress(site: Site) -> None:
    job = site.gateway.post()["id"]
    worker = site.gateway.make_worker()
    claim = worker.claim()
    for done in (1, 2, 3):
        worker.report_progress(claim, done, 1000, loss=0.5 / done)
    page = site.read(f"/jobs/{job}")
    assert "3 / 1,000, loss 0.1667" in page
    assert "(3 updates)" in page
    assert f'hx-sse:connect="/v1/jobs/{job}/events?after=5"' in page
    assert page.index("(3 updates)") < page.index("queued → running: claimed")
    worker.fail(claim, "it is <broken>")
    ended = site.read(f"/jobs/{job}")
    assert "it is &lt;broken&gt;" in ended
    assert "hx-sse:connect" not in ended


def test_a_job_is_paused_resumed_cancelled_and_retried(site: Site) -> None:
    job = site.gateway.post()["id"]

    def read_state() -> str:
        return str(site.gateway.http.get(f"/v1/jobs/{job}").get_json()["state"])

    for action, state, offered in (
        ("pause", "paused", "resume"),
        ("resume", "queued", "pause"),
        ("cancel", "cancelled", "retry"),
        ("retry", "queued", "pause"),
    ):
        page = site.read_after(f"/jobs/{job}/{action}")
        assert (read_state(), "notice good" in page) == (state, True)
        assert f'action="/jobs/{job}/{offered}"' in page
    assert "Priority changed" in site.read_after(f"/jobs/{job}/priority", priority="-3")
    refused = site.press(f"/jobs/{job}/retry", 409).get_data(as_text=True)
    assert "notice bad" in refused
    assert 'id="log-title"' in refused


def test_workers_are_woken_for_a_job_that_runs_again(site: Site) -> None:
    job = site.gateway.post()["id"]
    site.press(f"/jobs/{job}/cancel")
    notified = site.gateway.wakeup_queue.notified_stages
    wait_for(lambda: notified == ["sleep"], TIMEOUT_S, "the post is told")
    site.press(f"/jobs/{job}/retry")
    wait_for(lambda: notified == ["sleep"] * 2, TIMEOUT_S, "the retry is told")


def test_a_job_of_another_tenant_is_not_there(site: Site) -> None:
    job = site.gateway.post()["id"]
    other = make_client(site.gateway.app, make_key(site.gateway.db, "second"))
    assert other.get(f"/jobs/{job}").status_code == 404
    for action in ("cancel", "retry", "pause", "resume", "priority"):
        assert other.post(f"/jobs/{job}/{action}", data={"priority": "1"}).status_code == 404
    assert (
        list_ids(
            site.read(
                "/jobs",
                client=make_client(site.gateway.app, make_key(site.gateway.db, "third", READ)),
            )
        )
        == []
    )


def test_pages_of_jobs_name_audits(site: Site) -> None:
    audit = site.post_audit(seeds=[0], name="<tuesday>")
    job = site.gateway.make_worker().claim().job.id
    link = f'<a href="/audits/{audit}">&lt;tuesday&gt;</a>'
    paths = (f"/jobs/{job}", "/jobs", f"/jobs?audit={audit}", f"/jobs/cancel?audit={audit}", "/")
    for path in paths:
        assert link in site.read(path), path
