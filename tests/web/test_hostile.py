"""Hostile text through every page: no script runs, nothing is asked of another origin, all of it is shown as text."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from web.routes import routes

HERE = Path(__file__).parent


def _beside(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"console_{name}", HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


hostile = _beside("hostile")
TEXTS: list[str] = hostile.TEXTS


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project of the other tests' kind, in which everything that was written is hostile."""
    conftest = _beside("conftest")
    some = [text for text in TEXTS if text.strip() and len(text) < 100_000]
    prompts = [
        {"prompt": text, "split": "train" if number % 4 else "heldout", "tags": ["harmless", text[:40]]}
        for number, text in enumerate(some)
    ]
    title = json.dumps(some[0] + some[5])
    principles = conftest.PRINCIPLES.replace("title: Be polite", f"title: {title}").replace(
        "comparison: Which reply is green?", f"comparison: {json.dumps('Which reply is green? ' + some[2])}"
    )
    words = [*some, "Rude.", "x" * 2_000_000]
    scripts = {
        **conftest.SCRIPTS,
        "policy": [{"contains": "Write only the new reply", "texts": some[:60]}, {"texts": words}],
        "after": [{"texts": [f"Kind. {text}" for text in some]}],
        "judge": [{"contains": "which reply", "choose": "hash"}, {"choose": "hash"}],
    }
    made: Path = conftest.make_project(tmp_path_factory.mktemp("hostile"), principles, prompts, scripts)
    return made


def test_there_are_enough_of_them() -> None:
    assert len(TEXTS) >= 200 and len(set(TEXTS)) == len(TEXTS)


UNREACHED = {
    "/link/{secret}",  # shows an account's name alone
    "/constitution/proposals/{id}", "/constitution/try/{id}", "/playground/score/{id}",  # nobody has made one here
    "/playground/frontier/{run}.svg", "/playground/training/{id}.svg",  # pictures of a sweep and of online training
}  # fmt: skip


def pages(app: Any, world: Any) -> Iterator[str]:
    """Every GET page of the route table, with what the hostile store has for its parameters."""
    model = next(c for c in world.store.checkpoints() if c.method == "dpo").id.hex()
    for route in routes(app):
        if "GET" not in route.methods:
            continue
        if route.path.startswith("/api/") or route.path.endswith(("/events", "/review/text", "/review/differences")):
            continue
        known = {
            "/runs/": world.run,
            "/models/": model,
            "/constitution/amendments/": "2",
            "/constitution/restore/": "1",
        }
        path = route.path
        for start, value in known.items():
            if path.startswith(start):
                path = re.sub(r"\{[^}]*\}", value, path)
        path = path.replace("/principles/{id}", "/principles/polite")
        if route.path in UNREACHED:
            continue
        assert "{" not in path, f"{path}: the hostile store has nothing for it; name it in UNREACHED with a reason"
        yield path


def test_no_page_runs_or_asks_anything(
    browser_page: Callable[..., Any], client: Callable[..., Any], world: Any, served: str
) -> None:
    approver = client("admin")
    page = approver.get("/constitution/edit/text").text
    seen = re.findall(r'name="seen" value="([^"]*)"', page)[0]
    text = world.store.ratified().text + f"# {hostile.ACTS[0]} {hostile.ACTS[2]}\n"
    assert approver.post("/constitution/edit/text", data={"text": text, "seen": seen}).status_code == 303
    digest = re.findall(r'name="digest" value="([^"]*)"', approver.get("/constitution/ratify").text)[0]
    why = "".join(hostile.ACTS[:6])
    assert approver.post("/constitution/ratify", data={"digest": digest, "why": why}).status_code == 303
    for choice in ("a", "b", "a", "tie"):
        shown = approver.get("/review").text
        fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', shown.split('id="answer"')[1]))
        approver.post("/review/answer", data={**fields, "choice": choice, "reason": why, "rewrite": why})

    page = browser_page("admin")
    elsewhere: list[str] = []
    told: list[str] = []
    page.on("request", lambda request: elsewhere.append(request.url) if not request.url.startswith(served) else None)
    page.on("dialog", lambda dialog: told.append(dialog.message))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("console", lambda said: told.append(said.text) if "Content Security Policy" in said.text else None)
    visited = list(pages(approver.app, world))
    assert len(visited) > 15
    for path in visited:
        page.goto(path, wait_until="load")
        assert page.evaluate("typeof window.pwned") == "undefined", path
        # nothing of a text became an element
        assert page.locator("#click, .said *:not(.mark, ins, del)").count() == 0, (
            path
        )  # nothing of a text became an element
        assert page.url.startswith(served), path
    assert (elsewhere, told) == ([], [])


def test_what_is_hidden_in_a_text_is_shown_and_a_long_one_is_cut(client: Callable[..., Any], world: Any) -> None:
    by = client("reviewer")
    every = ""
    after = "0"
    while after:
        found = by.get(f"/api/v1/runs/{world.run}/answers", params={"after": after}).json()
        every += by.get(f"/runs/{world.run}/answers", params={"after": after}).text
        after = found["after"] or ""
    assert "U+202E" in every and "U+001B" in every and "U+200B" in every
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\u200b]", every)
    assert len(every) < 6_000_000 and "more characters" in every
    assert "<script>window" not in every and "&lt;script&gt;window" in every


def test_a_round_trip_of_the_constitution_by_its_form_is_exact(client: Callable[..., Any], world: Any) -> None:
    """What the editor shows in its field and gets back is the same text, hidden characters and all."""
    by = client("editor")
    text = world.store.ratified().text
    shown = by.get("/constitution/edit/text").text
    field = re.findall(r"<textarea[^>]*>\n(.*?)</textarea>", shown, re.S)[0]
    from html import unescape

    assert unescape(field) == text
