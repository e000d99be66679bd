"""The playground: what its pages say of stored data, that they store nothing, and that nonsense is told."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

Client = Callable[..., TestClient]
PAGES = ("", "/score", "/answers", "/choose", "/loss", "/frontier", "/training")


def test_every_page_is_there_for_a_reviewer_and_for_nobody_else(client: Client, world: Any) -> None:
    for path in PAGES:
        assert client("reviewer").get(f"/playground{path}").status_code == 200, path
        assert client("").get(f"/playground{path}").status_code == 303, path


def test_the_longest_wins_by_length_and_the_kind_one_by_the_judge(client: Client, world: Any) -> None:
    from service.queries import playing

    _, found, names = playing.choices(world.store, world.run)
    assert "by polite" in names
    place, one = next((n, c) for n, c in enumerate(found) if any("Kind" in a.text for a in c.answers))
    for weights, right in (
        ({"length": 1.0}, lambda a: a.signals["length"]),
        ({"judge": 1.0}, lambda a: "Kind" in a.text),
    ):
        _, scores = playing.select(found, weights, "x")
        best = one.answers[max(range(len(one.answers)), key=lambda n: scores[place][n])]
        assert right(best) == max(map(right, one.answers))
    page = client("reviewer").get(
        "/playground/answers", params={"prompt": one.prompt.hex(), "w.judge": "0", "w.length": "2"}
    )
    assert "wins under your weights" in page.text and "That is the bound" in page.text


def test_choices_move_a_fit_and_are_stored_nowhere(client: Client, world: Any) -> None:
    before = len(world.store.spot_checks())
    first = client("reviewer").get("/playground/choose").text
    assert "after 0 choices" in first
    picks = re.search(r'name="picks" value="([^"]+)"', first)
    assert picks is not None
    page = client("reviewer").get("/playground/choose", params={"picks": picks[1]}).text
    assert "after 1 choice" in page and "Take the last one back" in page
    assert len(world.store.spot_checks()) == before


def test_a_stored_pair_of_a_model_is_reckoned(client: Client, world: Any) -> None:
    dpo = next(c for c in world.store.checkpoints() if c.method == "dpo")
    rows = [{"line": 4, "p": 0.9, "margin": 0.3, "chosen": 0.2, "rejected": -0.1}]
    (Path(dpo.path) / "heldout.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (Path(dpo.path) / "training.json").write_text(json.dumps({"arguments": {"beta": 0.1}}))
    by = client("reviewer")
    page = by.get("/playground/loss", params={"model": dpo.id.hex(), "line": "4"}).text
    assert 'value="2.0"' in page and "+0.3000" in page and "0.584355" in page  # -[.9 log s(.3) + .1 log s(-.3)]
    assert by.get("/playground/loss", params={"model": dpo.id.hex(), "line": "5"}).status_code == 404
    (Path(dpo.path) / "heldout.jsonl").write_text("nonsense\n")
    assert by.get("/playground/loss", params={"model": dpo.id.hex()}).status_code == 422


def test_a_watched_training_is_drawn(client: Client, world: Any) -> None:
    dpo = next(c for c in world.store.checkpoints() if c.method == "dpo")
    steps = [
        {"step": n, "proxy": n / 4, "proxy_se": 0.1, "judge": 0.5, "judge_se": 0.1, "kl": n / 2, "entropy": 1.0,
         "tokens": 9.0}
        for n in range(4)
    ]  # fmt: skip
    (Path(dpo.path) / "watch.jsonl").write_text("".join(json.dumps(r) + "\n" for r in steps))
    by = client("reviewer")
    assert f"/playground/training/{dpo.id.hex()}.svg" in by.get("/playground/training").text
    drawn = by.get(f"/playground/training/{dpo.id.hex()}.svg")
    assert drawn.headers["content-type"].startswith("image/svg") and "<svg" in drawn.text


def test_a_sweep_is_ordered_by_ones_own_weights(client: Client, world: Any) -> None:
    def point(name: str, kl: float, reward: float, win: float) -> dict[str, Any]:
        return {
            "name": name, "method": name, "leash": 0.1, "seed": 0, "kl": {"mean": kl}, "reward": {"mean": reward},
            "win_rate": {"mean": win, "low": win - 0.1, "high": win + 0.1}, "truth": {},
        }  # fmt: skip

    run = world.store.start_run("a sweep", "sweep", {"settings": {}}, None)
    points = [point("dpo", 1.0, 1.0, 0.8), point("ppo", 9.0, 5.0, 0.6)]
    world.store.finish_run(run.id, "finished", result={"points": points})
    by = client("reviewer")
    for weights, best in (
        ({"judge": "1"}, "dpo"),
        ({"judge": "0", "reward": "1"}, "ppo"),
        ({"judge": "0", "kl": "1"}, "dpo"),
    ):
        page = by.get("/playground/frontier", params=weights).text
        assert best in page.split("best under your weights")[0].rsplit("<tr>", 1)[1]
    assert by.get(f"/playground/frontier/{run.id.hex()}.svg").status_code == 200
    assert by.get("/playground/frontier/ffffffff.svg").status_code == 404


def test_nonsense_is_told_and_never_a_fault(client: Client, world: Any) -> None:
    by = client("reviewer")
    for path, status in (
        ("/answers?w.length=abc", 422), ("/answers?w.length=nan", 422), ("/answers?w.length=1e99", 422),
        ("/answers?prompt=zz", 404), ("/answers?run=ffffffff", 422), ("/choose?picks=0-99", 422),
        ("/choose?picks=x", 422),
        ("/choose?picks=0-0", 422), ("/loss?p=2", 422), ("/loss?beta=-1", 422), ("/loss?chosen=inf", 422),
        ("/loss?model=ffff", 404), ("/training?model=ffff", 404), ("/frontier?run=ffff", 404), ("/frontier?kl=x", 422),
    ):  # fmt: skip
        assert by.get(f"/playground{path}").status_code == status, path


def test_by_keyboard_alone_and_without_a_violation(browser_page: Callable[..., Any], axe: Any) -> None:
    page = browser_page("reviewer")
    page.goto("/")
    page.keyboard.press("g")
    page.keyboard.press("p")
    page.wait_for_url("**/playground")
    assert axe(page) == []
    for path in PAGES[1:]:
        page.goto(f"/playground{path}")
        assert axe(page) == [], path
    page.goto("/playground/choose")
    page.keyboard.press("a")
    page.wait_for_url("**picks=**")
    assert "after 1 choice" in page.content()


def test_a_typed_answer_is_a_job_that_a_worker_does_and_the_page_shows(client: Client, world: Any) -> None:
    from service.jobs.worker import work

    by = client("reviewer")
    form = {"key": "k1", "prompt": "Ask me, number 3", "answer": "Kind <b>and</b> mine."}
    asked = by.post("/playground/score", data=form)
    assert asked.status_code == 303
    assert by.post("/playground/score", data=form).headers["location"] == asked.headers["location"]  # sent twice
    at = asked.headers["location"]
    assert "Waiting for the worker" in by.get(at).text
    assert client("editor").post(f"{at}/cancel").status_code == 403
    assert work(world.settings, idle=0.2) == 1
    page = by.get(at).text
    assert "By principle" in page and "polite" in page and "&lt;b&gt;" in page and "hx-trigger" not in page
    two = by.post("/playground/score", data={**form, "key": "k2", "second": "Rude."}).headers["location"]
    assert work(world.settings, idle=0.2) == 1
    assert "the first" in by.get(two).text
    for path in ("/playground/score/zz", "/playground/score/00"):
        assert by.get(path).status_code == 404
    assert by.post("/playground/score", data={"key": "k3", "prompt": " "}).status_code == 422
