"""The constitution's pages: from reading to a stored amendment, two people at once, forms sent twice, hostile text."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from starlette.testclient import TestClient

Client = Callable[..., TestClient]


def hidden(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found, name
    return found[1]


def keep(by: TestClient, world: Any, was: str, now: str) -> str:
    """Change the text of one's draft; returns the page that follows."""
    page = by.get("/constitution/edit/text").text
    text = world.store.draft(name_of(by)) or world.store.ratified()
    form = {"text": text.text.replace(was, now), "seen": hidden(page, "seen")}
    assert by.post("/constitution/edit/text", data=form).status_code == 303
    return by.get("/constitution/edit/text").text


def name_of(by: TestClient) -> str:
    return str(by.get("/api/v1/me").json()["name"])


def test_an_editor_proposes_and_an_approver_ratifies_once(client: Client, world: Any) -> None:
    editor, approver = client("editor"), client("approver")
    keep(editor, world, "Be polite", "Be courteous")
    page = editor.get("/constitution/propose").text
    form = {"digest": hidden(page, "digest"), "key": hidden(page, "key"), "why": "plainer"}
    at = {editor.post("/constitution/propose", data=form).headers["location"] for _ in range(2)}
    assert len(at) == 1
    proposal = at.pop()
    assert editor.post(f"{proposal}/ratify", data={"digest": "x", "why": "no"}).status_code == 403
    shown = approver.get(proposal).text
    sent = {"digest": hidden(shown, "digest"), "why": "yes, plainer"}
    assert approver.post(f"{proposal}/ratify", data=sent).status_code == 303
    approver.post(f"{proposal}/ratify", data=sent)
    amendments = world.store.amendments()
    assert len(amendments) == 2 and "Be courteous" in amendments[-1].text
    assert (amendments[-1].who, world.store.draft("editor")) == ("approver", None)
    assert "Be courteous" in editor.get("/constitution").text


def test_the_second_of_two_people_sees_what_the_first_one_changed(client: Client, world: Any) -> None:
    one, other = client("approver", "ada"), client("approver", "bea")
    keep(one, world, "Be polite", "Be courteous")
    keep(other, world, "Be green", "Be greener")
    page = one.get("/constitution/ratify").text
    one.post("/constitution/ratify", data={"digest": hidden(page, "digest"), "why": "plainer"})
    told = other.get("/constitution/ratify").text
    assert "ada" in told and "has ratified amendment 2 since you began" in told
    refused = other.post("/constitution/ratify", data={"digest": hidden(told, "digest"), "why": "greener"})
    assert refused.status_code == 422 and len(world.store.amendments()) == 2
    assert other.post("/constitution/edit/merge").status_code == 303
    page = other.get("/constitution/ratify").text
    assert other.post("/constitution/ratify", data={"digest": hidden(page, "digest"), "why": "both"}).status_code == 303
    text = world.store.ratified().text
    assert "Be courteous" in text and "Be greener" in text


def test_mistakes_are_told_by_their_line_and_kept_as_a_draft(client: Client, world: Any) -> None:
    editor = client("editor")
    page = keep(editor, world, "weight: 2", "weight: many")
    assert "Line 9" in page and "weight: many" in page
    found = editor.post("/api/v1/constitution/check", json={"text": "constitution: x\nversion: 1\nprinciples: 3\n"})
    assert found.status_code == 200 and found.json()["problems"][0]["line"] == 3
    assert editor.get("/constitution/propose").status_code in (200, 422)
    assert len(world.store.amendments()) == 1


def test_a_reason_is_asked_for_and_shown_as_text(client: Client, world: Any) -> None:
    approver = client("approver")
    keep(approver, world, "Be polite", "Be <script>alert(1)</script> courteous")
    page = approver.get("/constitution/ratify").text
    assert approver.post("/constitution/ratify", data={"digest": hidden(page, "digest"), "why": " "}).status_code == 422
    why = "<img src=x onerror=alert(1)> \u202e"
    assert approver.post("/constitution/ratify", data={"digest": hidden(page, "digest"), "why": why}).status_code == 303
    for path in ("/constitution", "/constitution/history", "/constitution/text", "/constitution/amendments/2"):
        shown = approver.get(path).text
        assert "<script>alert" not in shown and "<img src=x" not in shown and "\u202e" not in shown, path


def test_an_earlier_text_is_restored_with_a_reason(client: Client, world: Any) -> None:
    approver = client("approver")
    keep(approver, world, "Be polite", "Be courteous")
    page = approver.get("/constitution/ratify").text
    approver.post("/constitution/ratify", data={"digest": hidden(page, "digest"), "why": "plainer"})
    page = approver.get("/constitution/restore/1").text
    sent = {"seen": hidden(page, "seen"), "why": "it was better"}
    assert approver.post("/constitution/restore/1", data=sent).status_code == 303
    last = world.store.ratified()
    assert "Be polite" in last.text and (last.number, last.message) == (3, "it was better")


def test_by_keyboard_from_the_first_page_to_a_stored_amendment(
    browser_page: Callable[..., Any], world: Any, axe: Any
) -> None:
    page = browser_page("approver")
    page.goto("/")
    page.keyboard.press("g")
    page.keyboard.press("c")
    page.wait_for_url("**/constitution")
    assert axe(page) == []
    page.keyboard.press("e")
    page.wait_for_url("**/constitution/edit")
    page.get_by_role("link", name="Be polite").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/constitution/edit/principles/polite")
    assert axe(page) == []
    page.locator("#f-title").focus()
    page.keyboard.press("End")
    page.keyboard.type(" and brief")
    page.keyboard.press("Enter")
    page.wait_for_url("**/constitution/edit")
    page.get_by_role("link", name="Ratify").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/constitution/ratify")
    assert axe(page) == []
    page.locator("#why").focus()
    page.keyboard.type("shorter answers")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url("**/constitution/amendments/2**")
    assert "title: Be polite and brief" in world.store.ratified().text


def test_mistakes_show_under_the_line_as_one_types(browser_page: Callable[..., Any], world: Any, axe: Any) -> None:
    page = browser_page("editor")
    page.goto("/constitution/edit/text")
    area = page.locator("#text")
    area.fill(area.input_value().replace("weight: 2", "weight: many"))
    page.wait_for_selector(".gutter .wrong")
    assert page.inner_text(".gutter .wrong") == "9" and page.locator("[data-bubble]").is_visible()
    assert axe(page) == []
    page.reload()
    assert "weight: many" in page.locator("#text").input_value()  # it was kept as a draft
