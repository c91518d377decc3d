"""The console's pages of audits, as a browser without scripts has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.jobs.keys import READ
from shared.jobs.summaries import make_verdict_summary
from tests.support.console_site import HTML, Site
from tests.support.gateway import AUDIT_JOB_COUNT, GatewayInProcess
from tests.support.keys import make_client, make_key
from tests.support.waiting import TIMEOUT_S, wait_for


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    gateway = GatewayInProcess(tmp_path)
    yield Site(gateway)
    gateway.close()


def list_names(page: str) -> list[str]:
    return re.findall(r'class="name" href="[^"]*">([^<]*)', page)


def test_the_list_is_filtered_by_its_form(site: Site) -> None:
    site.post_audit(name="alpha one", labels={"team": "a"})
    second = site.post_audit(name="beta")
    site.gateway.http.post(f"/v1/audits/{second}/cancel")
    for query, names in {
        "": ["beta", "alpha one"],
        "name=ALPHA&state=&label=": ["alpha one"],
        "state=cancelled": ["beta"],
        "label=team%3Da": ["alpha one"],
        "created_after=2020-01-01T00%3A00": ["beta", "alpha one"],
        "created_before=2020-01-01T00%3A00": [],
    }.items():
        assert list_names(site.read(f"/audits?{query}")) == names, query


def test_a_wrong_filter_is_said_in_the_form(site: Site) -> None:
    for query, message in {
        "created_after=2026-01-02T00%3A00&created_before=2026-01-01T00%3A00": "must be later",
        "created_after=yesterday": "not a valid time",
        "label=%3D": "characters that it cannot have",
        "page=nonsense": "characters that it cannot have",
    }.items():
        assert message in site.read(f"/audits?{query}", 422), query


def test_the_list_has_pages_that_keep_the_filter(site: Site) -> None:
    for n in range(26):
        site.post_audit(name=f"number {n}", seeds=[0], unlearning=["ascent"])
    first = site.read("/audits?name=number")
    link = re.search(r'rel="next" href="([^"]*)"', first)
    assert link is not None
    assert list_names(site.read(link[1].replace("&amp;", "&"))) == ["number 0"]
    assert "name=number" in link[1]
    statements = site.count_statements("/audits")
    assert statements == site.count_statements("/audits?name=number+0")


def test_an_audit_shows_its_groups_and_what_goes_between_them(site: Site) -> None:
    audit = site.post_audit()
    page = site.read(f"/audits/{audit}")
    assert f"0 of {AUDIT_JOB_COUNT} jobs ended" in page
    assert f'href="/jobs?audit={audit}&amp;stage=unlearn&amp;method=retrain"' in page
    rows = re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)
    retrain = next(row for row in rows if "<b>retrain</b>" in row)
    assert "pretrain, train" in re.sub(r"\s+", " ", retrain)


def test_an_audit_costs_the_same_queries_with_any_number_of_jobs(site: Site) -> None:
    small, large = site.post_audit(seeds=[0]), site.post_audit(seeds=list(range(10)))
    counts = {site.count_statements(f"/audits/{audit}") for audit in (small, large)}
    assert len(counts) == 1


def test_what_failed_is_said_first_with_what_to_do(site: Site) -> None:
    audit = site.post_audit(seeds=[0])
    worker = site.gateway.make_worker()
    worker.fail(worker.claim(), "the <file> is not what it should be")
    page = site.read(f"/audits/{audit}")
    assert "the &lt;file&gt; is not what it should be" in page
    assert "the worker&#39;s log" in page
    assert "did not run, because a job that they need has failed" in page
    assert page.index("is not what it should be") < page.index('id="graph-title"')
    assert "2 jobs" not in site.read_after(f"/audits/{audit}/retry")
    assert site.gateway.http.get(f"/v1/audits/{audit}").get_json()["state"] == "queued"


def test_a_finished_audit_offers_what_it_has_made(site: Site) -> None:
    audit = site.post_audit(seeds=[0])
    assert "report comes when all jobs have ended" in site.read(f"/audits/{audit}")
    site.gateway.make_worker().finish_all()
    page = site.read(f"/audits/{audit}")
    for path in ("manifest", "archive.zip"):
        assert f'href="/v1/audits/{audit}/{path}"' in page
    report = re.search(r'href="(/v1/artifacts/[0-9a-f]{64})">Report as JSON', page)
    assert report is not None
    assert site.gateway.http.get(report[1]).status_code == 200
    spec = site.gateway.http.get(f"/audits/{audit}/spec.yaml")
    assert "unlearning:\n  - ascent" in spec.get_data(as_text=True)
    assert spec.headers["Content-Disposition"] == f'attachment; filename="{audit}.yaml"'


def test_an_audit_is_cancelled_and_cannot_be_retried(site: Site) -> None:
    audit = site.post_audit()
    page = site.read_after(f"/audits/{audit}/cancel")
    assert "Jobs that are running stop" in page
    assert "There is no report: the audit was cancelled." in page
    drawing = re.search(r'id="node-report-".*?</a>', page, re.DOTALL)
    assert drawing is not None
    assert ">0 of 1</text>" in drawing[0]
    refused = site.press(f"/audits/{audit}/retry", 409).get_data(as_text=True)
    assert "was cancelled: submit it again" in refused
    assert 'id="graph-title"' in refused  # the page is still there
    script = site.gateway.http.post(
        f"/audits/{audit}/retry", headers={**HTML, "HX-Request": "true"}
    )
    assert script.status_code == 409
    assert script.headers["HX-Retarget"] == "#notice"
    assert "graph-title" not in script.get_data(as_text=True)


def test_with_a_script_a_button_leads_on_too(site: Site) -> None:
    audit = site.post_audit()
    answer = site.gateway.http.post(
        f"/audits/{audit}/cancel", headers={**HTML, "HX-Request": "true"}
    )
    assert (answer.status_code, answer.headers["HX-Redirect"]) == (
        204,
        f"/audits/{audit}?done=audit_cancelled",
    )


def test_a_priority_is_a_number_in_range(site: Site) -> None:
    audit = site.post_audit(seeds=[0])
    page = site.read_after(f"/audits/{audit}/priority", priority="7")
    assert "Priority of 13 jobs changed" in page
    for wrong in ("101", "high", "", "9" * 5000):
        refused = site.press(f"/audits/{audit}/priority", 422, priority=wrong)
        assert "whole number from -100 to 100" in refused.get_data(as_text=True)
    assert {j["priority"] for j in site.gateway.http.get("/v1/jobs").get_json()["items"]} == {7}


def test_labels_are_changed_and_wrong_ones_stay_in_the_form(site: Site) -> None:
    audit = site.post_audit(labels={"old": "1", "kept": "2"})
    assert 'value="kept"' in site.read(f"/audits/{audit}/labels")
    page = site.read_after(
        f"/audits/{audit}/labels", key=["kept", "new", ""], value=["3", "<b>", ""]
    )
    assert "&lt;b&gt;" in page
    shown = site.gateway.http.get(f"/v1/audits/{audit}").get_json()["labels"]
    assert shown == {"kept": "3", "new": "<b>"}
    refused = site.press(f"/audits/{audit}/labels", 422, key=["no spaces"], value=["x"])
    assert 'value="no spaces"' in refused.get_data(as_text=True)


def test_deleting_says_what_goes_and_asks(site: Site) -> None:
    audit = site.post_audit(seeds=[0])
    asked = site.read(f"/audits/{audit}/delete")
    assert "13 jobs with parameters" in asked
    assert "Cancel 13 jobs of it that have not ended" in asked
    refused = site.press(f"/audits/{audit}/delete", 409).get_data(as_text=True)
    assert "have not ended" in refused
    gone = site.press(f"/audits/{audit}/delete", cancel="1").headers["Location"]
    assert gone.startswith("/audits?done=audit_delet")
    assert "Audit deleted" in site.read(gone)
    site.read(f"/audits/{audit}", 404)


def test_who_may_only_read_is_offered_nothing_that_changes(site: Site) -> None:
    audit = site.post_audit(seeds=[0])
    reader = make_client(site.gateway.app, make_key(site.gateway.db, "local", READ))
    for path in (f"/audits/{audit}", "/audits", "/jobs", f"/jobs?audit={audit}"):
        page = site.read(path, client=reader)
        changing = re.findall(r'<form method="post" action="([^"]*)"', page)
        assert changing == ["/sign-out"], path
        assert "New audit" not in page
        assert "Cancel" not in page
    for path in ("labels", "delete"):
        site.read(f"/audits/{audit}/{path}", 403, client=reader)
    assert reader.post(f"/audits/{audit}/cancel", headers=HTML).status_code == 403


def test_an_address_says_only_sentences_of_ours(site: Site) -> None:
    page = site.read("/audits?done=%3Cb%3E&n=1")
    assert "&lt;b&gt;" not in page
    assert "notice good" not in page
    assert "5 jobs cancelled." in site.read("/jobs?done=jobs_cancelled&n=5&more=x")
    assert "0 jobs cancelled." in site.read("/jobs?done=jobs_cancelled&n=99999999999999")


def test_changes_are_streamed_to_the_tenant_alone(site: Site) -> None:
    audit = site.post_audit(seeds=[0])
    page = site.read(f"/audits/{audit}")
    seen = re.search(rf'hx-sse:connect="(/audits/{audit}/live\?seen=[0-9a-f]+)"', page)
    assert seen is not None
    assert b"event: changed" not in site.gateway.follow(seen[1]).content
    site.gateway.http.post(f"/v1/audits/{audit}/cancel")
    assert b"event: changed" in site.gateway.follow(seen[1]).content
    other = make_client(site.gateway.app, make_key(site.gateway.db, "second", READ))
    assert other.get(f"/audits/{audit}/live", headers=HTML).status_code == 404


def test_a_page_says_why_jobs_wait(site: Site) -> None:
    audit = site.post_audit(seeds=[0])
    page = site.read(f"/jobs?audit={audit}&state=queued")
    job = re.findall(r'<li id="(job_[0-9a-f]+)">', page)[0]
    stage = site.gateway.http.get(f"/v1/jobs/{job}").get_json()["stage"]
    pages = (f"/audits/{audit}", f"/jobs/{job}")
    assert all(f"and no worker serves {stage}." in site.read(path) for path in pages)
    assert ">no worker<" in site.read("/")
    site.gateway.make_worker()
    assert not any("serves" in site.read(path) for path in pages)
    site.press(f"/stages/{stage}/pause")
    assert all(f"The stage {stage} is paused." in site.read(path) for path in pages)
    # where that takes long, home is shown as it was a moment ago
    wait_for(lambda: ">until resumed<" in site.read("/"), TIMEOUT_S, "home says it too")
    site.press(f"/stages/{stage}/resume")
    site.press("/workers/hand/drain")
    assert all(f"and no worker serves {stage}." in site.read(path) for path in pages)


def test_a_failed_audit_offers_only_what_helps(site: Site) -> None:
    audit = site.post_audit(seeds=[0])
    worker = site.gateway.make_worker()
    while claim := worker.try_claim():
        if claim.job.stage == "attack":
            worker.reject(claim, "inputs.BASE: BASE has no weights")
        elif claim.job.stage == "report":
            nothing = make_verdict_summary("inconclusive", "Nothing was measured.")
            worker.finish(claim, b"{}", summary=nothing)
        else:
            worker.finish(claim, claim.job.id.encode())
    page = site.read(f"/audits/{audit}")
    assert '<p class="text">BASE has no weights</p>' in page
    assert "Retry what failed" not in page
    assert f'<a class="button plain" href="/audits/{audit}/result">' in page
    for path in (f"/audits/{audit}", "/audits", "/"):
        assert "chip inconclusive" not in site.read(path), path


def test_home_shows_verdicts_and_what_runs_first(site: Site) -> None:
    site.post_audit(seeds=[0])
    site.gateway.make_worker().finish_all()
    page = site.read("/")
    assert 'class="chip leaks"' in page
    assert page.index('id="running-title"') < page.index('id="audits-title"')
    assert page.index('id="audits-title"') < page.index('id="queues-title"')


def test_home_counts_jobs_by_the_words_of_other_pages(site: Site) -> None:
    site.post_audit(seeds=[0])
    page = site.read("/")
    counts = re.findall(r'data-label="(Queued|Waiting|Running)" class="n">(\d+)<', page)
    totals = {name: sum(int(n) for one, n in counts if one == name) for name, _ in counts}
    assert totals == {"Queued": 1, "Waiting": 12, "Running": 0}
    assert "audit models of your own" in page


def test_a_live_attack_is_as_far_as_its_picture(site: Site) -> None:
    audit = site.post_audit(seeds=[0], unlearning=["ascent"])
    worker = site.gateway.make_worker()
    while (claim := worker.claim()).job.stage != "attack":
        worker.finish(claim, claim.job.id.encode())
    worker.report_progress(claim, 18, 200, matching_loss=0.5)
    assert re.search(r"left\">[^<]+ left<", site.read(f"/jobs/{claim.job.id}"))
    worker.show(claim, 47, 200)
    page = site.read(f"/audits/{audit}")
    assert "picture of step 47 of 200" in page
    assert "47 / 200" in page
    assert ">defend: none</text>" in page
    made_of = site.read(f"/jobs/{claim.job.id}").partition('id="inputs-title"')[2]
    assert "the weights after the deletion, as released" in made_of
