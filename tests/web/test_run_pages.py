"""Runs, answers, models and agreement: what they show, live and at rest, and what an approver does with a model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, update
from starlette.testclient import TestClient

from pipeline.trainers.trainer import Job
from service.queries import answers, run_stages
from service.queries.processes import own_name
from storage import tables

Client = Callable[..., TestClient]


def policy(world: Any) -> Any:
    return next(c for c in world.store.checkpoints() if c.method == "dpo")


def test_runs_are_listed_filtered_and_shown_with_their_reasons(client: Client, world: Any) -> None:
    by = client("reviewer")
    assert world.run[:12] in by.get("/runs").text
    assert "No run fits" in by.get("/runs?outcome=promoted").text
    assert by.get("/runs?outcome=nonsense").status_code == 422
    page = by.get(f"/runs/{world.run[:10]}").text
    assert "too few held-out prompts" in page and "12</" not in page.split("Answers")[0]
    for path in ("/runs/ffffffff", "/runs/nonsense", "/models/ffff", "/runs/ffff/answers", "/runs/ffff/report"):
        assert by.get(path).status_code == 404, path


def test_all_held_out_answers_are_there_and_can_be_narrowed_down(client: Client, world: Any) -> None:
    by = client("reviewer")
    at = f"/api/v1/runs/{world.run}/answers"
    every = by.get(at).json()["items"]
    assert len(every) == 11
    outcomes = [one["outcome"] for one in every]
    assert "better" in outcomes and "worse" in outcomes
    for outcome in ("better", "worse", "tied"):
        found = by.get(at, params={"outcome": outcome}).json()["items"]
        assert len(found) == outcomes.count(outcome)
    worse = next(one for one in every if one["outcome"] == "worse")
    assert (worse["after"], worse["by"], worse["p"] < 0.5) == ("Rude at the end.", ["polite"], True)
    assert len(by.get(at, params={"search": "number 3"}).json()["items"]) == 1
    result = by.get(f"/api/v1/runs/{world.run}").json()["result"]
    mean = sum({"better": 1.0, "worse": 0.0}.get(outcome, 0.5) for outcome in outcomes) / len(outcomes)
    assert result["win_rate"]["mean"] == pytest.approx(mean)  # what the run itself counted


def test_answers_end_where_the_model_before_could_not_be_asked_a_prompt(client: Client, world: Any) -> None:
    """It has no pair; passed over, it is neither looked at for ever nor are its neighbours shown twice."""
    run = world.store.run(world.run)
    prompts = [g.prompt for g in world.store.generations_of(run.id, "evaluation.after")]
    lost = {prompts[2], prompts[-1]}
    gone = [g.id for g in world.store.generations_of(run.id, "evaluation.before") if g.prompt in lost]
    with world.store._write() as connection:
        here = (tables.member.c.run == run.id, tables.member.c.stage == "evaluation.before")
        connection.execute(delete(tables.member).where(*here, tables.member.c.id.in_(gone)))
    found, after, pages = [], "", 0
    while pages == 0 or after:
        page = answers.heldout(world.store, world.run, most=4, after=after)
        found += [one.prompt for one in page.items]
        after, pages = page.after or "", pages + 1
        assert pages < 9
    assert found == [prompt for prompt in prompts if prompt not in lost]


@pytest.mark.parametrize("after", ["\u00b2", "9" * 5000, "-1", "nonsense"])
def test_a_page_of_answers_that_no_page_led_to_is_a_mistake(client: Client, world: Any, after: str) -> None:
    by = client("reviewer")
    assert by.get(f"/runs/{world.run}/answers", params={"after": after}).status_code == 422


def test_a_run_tells_what_its_trial_found(client: Client, world: Any) -> None:
    told = {"says": ["the judge was right on <b>9</b> of 10 pairs", "of green nothing can be said"]}
    world.store.put_document("trial", f"{world.run}:judge", told)
    page = client("reviewer").get(f"/runs/{world.run}").text
    assert "right on &lt;b&gt;9&lt;/b&gt; of 10 pairs" in page and "of green nothing can be said" in page


def test_a_run_at_work_shows_its_own_training_and_no_other_runs(world: Any) -> None:
    with world.store._write() as connection:
        connection.execute(update(tables.run).values(status="running", result=None, finished=None))
    world.store.come(world.store.run(world.run).id, own_name(), 60)
    for name, run in (("dpo-mine", world.run), ("dpo-other", "ab" * 16)):
        job = Job(
            id="00", method="dpo", model="m", out=f"runs/checkpoints/{name}", dataset="d", arguments={}, seed=0,
            card={"run": run},
        )  # fmt: skip
        job.write(job.resume / "job.json")
        (job.resume / "progress.jsonl").write_text(json.dumps({"step": 3, "total": 70, "loss": 0.5}) + "\n")
    found = run_stages.pipeline(world.store, world.run, Path("runs"))
    policy = next(step for step in found.steps if step.name == "policy")
    working = [one for one in policy.trained if one.checkpoint is None]
    assert [(one.method, one.step, one.total) for one in working] == [("dpo", 3, 70)]


def test_a_report_has_a_policy_of_its_own(client: Client, world: Any) -> None:
    answer = client("reviewer").get(f"/runs/{world.run}/report")
    assert answer.status_code == 200 and answer.headers["content-security-policy"].startswith("sandbox;")


def test_a_run_that_works_is_followed_until_it_ends(client: Client, world: Any) -> None:
    text = client("reviewer").get(f"/runs/{world.run}/events").text  # it has ended: one event, and the stream ends
    assert text.count("event: pipeline") == 1 and "finished" in text


def test_two_runs_side_by_side(client: Client, world: Any) -> None:
    page = client("reviewer").get("/compare", params={"a": world.run, "b": world.run}).text
    assert "no difference of their win rates is told" in page and "Settings that differ" in page


def test_an_approver_promotes_once_with_a_reason_and_nobody_else_does(client: Client, world: Any) -> None:
    model = policy(world).id.hex()
    approver = client("approver")
    key = re.findall(r'name="key" value="(\w+)"', approver.get(f"/models/{model}").text)[0]
    form = {"key": key, "why": "people looked at it"}
    assert client("editor").post(f"/models/{model}/promote", data=form).status_code == 403
    assert approver.post(f"/models/{model}/promote", data={**form, "why": " "}).status_code == 422
    refused = approver.post(f"/models/{model}/promote", data=form)
    assert refused.status_code == 422  # its folder has no weights: a server would load it
    assert "manifest" in refused.text or "missing" in refused.text or "weights" in refused.text
    assert world.store.promotions() == []


def test_lineage_is_drawn_and_listed(client: Client, world: Any) -> None:
    by, model = client("reviewer"), policy(world).id.hex()
    assert "policy.jsonl" in by.get(f"/models/{model}/lineage").text
    svg = by.get(f"/models/{model}/lineage.svg")
    assert svg.headers["content-type"] == "image/svg+xml" and "<script" not in svg.text


def test_agreement_and_differences_count_what_people_said(client: Client, world: Any) -> None:
    by = client("reviewer")
    assert "Nobody has reviewed" in by.get("/agreement").text
    for _ in range(6):
        page = by.get("/review").text
        fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.split('id="answer"')[1]))
        by.post("/review/answer", data={**fields, "choice": "a", "reason": "I say <b>A</b>"})
    assert "6 answers" in by.get("/agreement").text
    shown = by.get("/agreement/differences").text
    assert "I say &lt;b&gt;A&lt;/b&gt;" in shown or "Nobody differs" in shown
    assert by.get("/api/v1/agreement").json()["reviewers"] == {"reviewer": 6}
    assert by.get("/agreement?run=ffff").status_code == 422


def test_pages_have_no_violation_and_lead_on_by_keyboard(
    browser_page: Callable[..., Any], world: Any, axe: Any
) -> None:
    page = browser_page("approver")
    model = policy(world).id.hex()
    for path in ("/", "/runs", f"/runs/{world.run}", f"/runs/{world.run}/answers", "/compare", "/models",
                 f"/models/{model}", f"/models/{model}/lineage", "/account"):  # fmt: skip
        page.goto(path)
        assert axe(page) == [], path
    page.goto("/")
    page.keyboard.press("g")
    page.keyboard.press("u")
    page.wait_for_url("**/runs")
    page.get_by_role("link", name=world.run[:12]).focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/runs/*")
    page.keyboard.press("a")
    page.wait_for_url("**/answers")
