"""The review page: by keyboard alone, without scripts, sent twice, in two tabs, with the server away."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from starlette.testclient import TestClient

Client = Callable[..., TestClient]


def form(page: str) -> dict[str, str]:
    """The hidden fields of the answer's form."""
    inside = page.split('id="answer"', 1)[1].split("</form>", 1)[0]
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', inside))


def checks(world: Any) -> list[tuple[str, str]]:
    return [(c.reviewer, c.answer) for c in world.store.spot_checks()]


def test_an_answer_is_stored_once_however_often_it_is_sent_and_leads_to_the_next_pair(
    client: Client, world: Any
) -> None:
    reviewer = client("reviewer")
    shown = form(reviewer.get("/review").text)
    sent = {**shown, "choice": "a", "reason": "it is kinder \u202e", "principle": "polite"}
    for _ in range(3):
        assert reviewer.post("/review/answer", data=sent).status_code == 303
    (kept,) = world.store.spot_checks()
    assert (kept.reviewer, kept.reason, kept.sampled_by) == ("reviewer", "it is kinder \u202e", "random")
    assert form(reviewer.get("/review").text)["token"] != shown["token"]


def test_the_back_button_cannot_answer_the_same_pair_otherwise(client: Client, world: Any) -> None:
    reviewer = client("reviewer")
    old = form(reviewer.get("/review").text)
    reviewer.post("/review/answer", data={**old, "choice": "a"})
    again = reviewer.post("/review/answer", data={**old, "key": "another key", "choice": "b"})
    assert again.status_code == 422 and 'id="answer"' in again.text  # it is told, over the next pair
    assert len(checks(world)) == 1


def test_two_reviewers_are_shown_two_pairs_and_two_tabs_of_one_the_same(client: Client, world: Any) -> None:
    one, other = client("reviewer", "ada"), client("reviewer", "bea")
    first = one.get("/review").text
    assert form(first)["token"] != form(other.get("/review").text)["token"]
    text = re.findall(r'<bdi class="said"[^>]*>([^<]*)', first)
    assert re.findall(r'<bdi class="said"[^>]*>([^<]*)', one.get("/review").text) == text


def test_what_is_chosen_or_undone_wrongly_is_told(client: Client, world: Any) -> None:
    reviewer = client("reviewer")
    fields = form(reviewer.get("/review").text)
    assert reviewer.post("/review/answer", data={**fields, "choice": "c"}).status_code == 422
    assert reviewer.post("/review/answer", data={**fields, "token": "nonsense", "choice": "a"}).status_code == 422
    assert "to undo" in reviewer.post("/review/undo", data={"key": "k"}).text
    assert reviewer.get("/review?run=ffff").status_code == 200  # says that there is no such run
    assert reviewer.get("/review?sample=nonsense").status_code == 200
    assert checks(world) == []


def test_a_day_of_review_by_keyboard_alone(browser_page: Callable[..., Any], world: Any, axe: Any) -> None:
    page = browser_page("reviewer")
    page.goto("/")
    page.keyboard.press("g")
    page.keyboard.press("r")
    page.wait_for_selector("#answer")
    assert axe(page) == []

    def press(key: str, answered: int) -> None:
        page.keyboard.press(key)
        page.wait_for_selector(f".review-progress strong:text-is('{answered}')")

    press("a", 1)
    page.keyboard.press("1")
    page.keyboard.press("r")
    page.wait_for_selector("textarea[name=reason]:focus")
    page.keyboard.type("b is better, says a person: ?")
    page.keyboard.press("Escape")
    press("b", 2)
    press("f", 3)
    press("u", 2)
    press("u", 1)
    press("t", 2)
    page.keyboard.press("?")
    page.wait_for_selector("dialog[open]")
    assert "Neither is acceptable" in page.inner_text("dialog")
    assert sorted(answer for _, answer in checks(world))[-1] == "tie" and len(checks(world)) == 2


def test_without_scripts_buttons_do_the_same(browser_page: Callable[..., Any], world: Any) -> None:
    page = browser_page("reviewer", scripts=False)
    page.goto("/review")
    page.click("button[value=a]")
    page.wait_for_url("**/review")
    page.click("button[value=skip]")
    page.click("button[form=undo]")
    assert [answer for _, answer in checks(world)] in (["first"], ["second"])


def test_a_server_that_is_away_loses_no_answer_and_the_page_says_so(
    browser_page: Callable[..., Any], world: Any
) -> None:
    page = browser_page("reviewer")
    page.goto("/review")
    page.context.set_offline(True)
    page.keyboard.press("a")
    page.wait_for_selector("#away:not([hidden])")
    assert checks(world) == []
    page.context.set_offline(False)
    page.wait_for_selector("#away", state="hidden")
    page.wait_for_selector(".review-progress strong:text-is('1')")
    assert len(checks(world)) == 1 and "your answer is kept" in page.inner_text(".review-told")


def test_a_second_tab_that_is_closed_leaves_the_first_one_its_pair(
    browser_page: Callable[..., Any], world: Any
) -> None:
    page = browser_page("reviewer")
    page.goto("/review")
    second = page.context.new_page()
    second.goto("/review")
    second.wait_for_selector("#answer")
    page.wait_for_timeout(200)
    second.close(run_before_unload=True)
    page.wait_for_timeout(300)
    page.keyboard.press("a")
    page.wait_for_selector(".review-progress strong:text-is('1')")
    assert len(checks(world)) == 1
