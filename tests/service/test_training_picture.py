"""The drawings of online training say what is in their figures: parsed as XML, by their words, lines and marks."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from service.pictures.frontier import on_the_way
from service.pictures.training import COLOURS, MARKS, STOPPED, curves, frontier, hacking

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"


def evaluations(truth: bool = True, stopped: bool = True, count: int = 7) -> list[dict[str, Any]]:
    """Evaluation steps of a run: the proxy rises, the judge falls from update 15 on; a rule fires at update 25."""
    found: list[dict[str, Any]] = []
    for index in range(count):
        step = 5 * index
        fired = stopped and step == 25
        found.append(
            {
                "step": step, "total": 30, "proxy": 0.5 * index, "proxy_se": 0.1,
                "judge": 0.5 + 0.1 * min(index, 6 - index), "judge_se": 0.02, "kl": 0.25 * index**2 - 0.001,
                "kl_se": 0.1, "entropy": 2 - 0.1 * index, "tokens": 20.0 + index, "truncated": 0.0, "refusals": 0.1,
                "lists": 0.0, "hedges": 0.2, "flattery": 0.05 * index, "boilerplate": 0.0, "kept": min(step, 15),
                "seconds": 1.0, "stopped": "proxy and judge part" if fired else "", "reason": "",
                **({"gold_good": 0.4 + 0.05 * min(index, 6 - index)} if truth else {}),
            }
        )  # fmt: skip
    return found


def parsed(svg: str) -> tuple[ET.Element, str, str]:
    """The drawing, its title, and all other words in it."""
    root = ET.fromstring(svg)
    title = root.find(f"{SVG}title")
    assert root.tag == f"{SVG}svg" and root.get("role") == "img" and title is not None and title.text
    return root, title.text, " | ".join(text.text or "" for text in root.iter(f"{SVG}text"))


def drawn(root: ET.Element, colour: str) -> list[str]:
    """The paths of lines in a colour."""
    return [
        p.get("d", "") for p in root.iter(f"{SVG}path") if f"stroke: {colour.lower()}" in p.get("style", "").lower()
    ]


def test_a_run_that_was_stopped() -> None:
    root, title, words = parsed(curves(evaluations()))
    assert title == (
        "From update 0 to 30: proxy 0 to 3, judge 0.5 to 0.5, KL to 9 nats. Truth, not seen: 0.4 to 0.4. "
        "Stopped at update 25 (proxy and judge part); update 15 is kept."
    )
    for word in ("truth (not seen)", "a stop rule fired", "kept", "square root of the KL", "entropy", "flattery"):
        assert word in words
    assert "lists" not in words  # nothing to draw of it
    assert len(drawn(root, STOPPED)) == 4 + 4 + 1  # two panels by two, four small ones, the legend


def test_a_run_that_was_not_stopped_and_whose_truth_is_not_known() -> None:
    _, title, words = parsed(curves(evaluations(truth=False, stopped=False)))
    assert "ruth" not in title and "topped" not in title
    assert "truth" not in words and "a stop rule fired" not in words and "kept" in words


def test_truth_beside_the_looks_and_figures_that_are_missing() -> None:
    some = evaluations(truth=False)
    some[-1] |= {"proxy": None, "proxy_se": None, "kl": None, "entropy": None}
    _, title, words = parsed(curves(some, truth=[0.1, *[None] * 5, 0.7]))
    assert "Truth, not seen: 0.1 to 0.7." in title and "proxy 0 to not a number" in title
    assert "truth (not seen)" in words
    with pytest.raises(ValueError, match="no evaluation step"):
        curves([])


def test_a_checkpoint_folder(tmp_path: Path) -> None:
    """Its manifest knows of a loss that was not finite, which no evaluation step saw."""
    (tmp_path / "watch.jsonl").write_text("".join(json.dumps(x) + "\n" for x in evaluations(stopped=False)))
    _, title, _ = parsed(curves(tmp_path))
    assert "topped" not in title
    metrics = {"watch_stopped": "not finite", "watch_stopped_step": 30, "watch_kept_step": 15}
    manifest = {"job": "1", "kind": "policy", "method": "ppo", "digest": "", "parent": "", "dataset": "", "created": ""}
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "files": {}, "metrics": metrics}))
    _, title, _ = parsed(curves(tmp_path))
    assert title.endswith("Stopped at update 30; update 15 is kept.")


def points() -> list[dict[str, Any]]:
    found = []
    for method, coefficients in (("start", [None]), ("ppo", [0.0, 0.05]), ("best_of_n", [4, 16])):
        for place, coefficient in enumerate(coefficients):
            for seed in range(3):
                kl = place + 0.1 * seed - (0.001 if method == "start" else 0)
                found.append(
                    {
                        "method": method, "leash": coefficient, "seed": seed, "kl": kl, "reward": math.sqrt(abs(kl)),
                        "judge": 0.6, "judge_low": 0.55, "judge_high": 0.65, "truth": 0.5,
                    }
                )  # fmt: skip
    return found


def test_the_frontier() -> None:
    root, title, words = parsed(frontier(points()))
    assert "best_of_n: kl 0.6, reward 0.651, judge 0.6, truth 0.5, means of 6" in title
    for word in ("reward", "judge: win rate over the start", "truth: share of good (not seen)", "start", "ppo"):
        assert word in words
    for coefficient in ("0", "0.05", "4", "16"):
        assert words.split(" | ").count(coefficient) >= 3  # in each panel
    assert all(drawn(root, colour) for colour in COLOURS[:3])
    assert len(set(COLOURS)) == len(COLOURS) == len(MARKS)


def test_a_frontier_without_truth_and_one_point() -> None:
    _, title, words = parsed(
        frontier([{"method": "<b>", "leash": None, "seed": 0, "kl": 0.3, "reward": 1.0, "judge": None}])
    )
    assert "truth:" not in words and "judge:" not in words and "<b>" in title
    with pytest.raises(ValueError, match="no point"):
        frontier([])


def test_runs_that_hack() -> None:
    runs = [
        {"reward_models": rewarded, "leash": beta, "seed": seed, "looks": evaluations(stopped=not beta)}
        for rewarded in ("one", "minimum of 3")
        for beta in (0.0, 0.05)
        for seed in range(2)
    ]
    root, title, words = parsed(hacking(runs))
    for word in (
        "minimum of 3",
        "KL coefficient 0",
        "KL coefficient 0.05",
        "seed 1",
        "truth (not seen)",
        "a stop rule fires",
    ):
        assert word in words
    assert "one, KL coefficient 0.0, seed 1: From update 0 to 30" in title and "update 15 is kept" in title
    assert (
        "minimum of 3, KL coefficient 0.05, seed 0: From update 0 to 30: proxy 0 to 3, judge 0.5 to 0.5, KL to 9 nats. "
        in title
    )
    assert all(drawn(root, colour) for colour in COLOURS[:2])


def test_the_same_figures_are_the_same_file() -> None:
    assert curves(evaluations()) == curves(evaluations())
    assert frontier(points()) == frontier(points())


def test_no_label_of_a_frontier_covers_another_or_a_point(monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation, Text

    drawn: list[Figure] = []
    really = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (drawn.append(self), really(self, *a, **k))[1])
    frontier(on_the_way(json.loads((ROOT / "docs" / "pictures" / "methods.json").read_text())))
    frontier(
        [
            {
                "method": method, "leash": leash, "seed": 0, "kl": 0.5 + 0.3 * step + 0.05 * place, "truth": None,
                "reward": 1 + 0.1 * step + 0.02 * place, "judge": 0.8, "judge_low": 0.75, "judge_high": 0.85,
            }
            for place, method in enumerate(["dpo", "kto", "orpo", "ppo"])
            for step, leash in enumerate([0.01, 0.05, 0.1])
        ]
    )  # fmt: skip
    assert len(drawn) == 2
    for figure in drawn:
        renderer = FigureCanvasAgg(figure).get_renderer()
        for axes in figure.axes:
            labels = [each for each in axes.texts if isinstance(each, Annotation)]
            assert len(labels) >= 7
            for each in labels:
                each.update_positions(renderer)  # they were drawn at another resolution
            boxes = [Text.get_window_extent(each, renderer) for each in labels]
            points = [axes.transData.transform(each.xy) for each in labels]
            for number, box in enumerate(boxes):
                assert not any(box.overlaps(other) for other in boxes[number + 1 :]), labels[number].get_text()
                assert not any(box.contains(*point) for point in points), labels[number].get_text()
                assert axes.get_window_extent(renderer).contains(*box.min)
