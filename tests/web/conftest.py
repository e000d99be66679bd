"""What tests of the console stand on: a store with a small finished run, clients of each role, a real browser."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import uvicorn
from starlette.testclient import TestClient

from constitution.records import Checkpoint, make_id
from flows import steps
from flows.session import at_work
from service import settings as settings_module
from service.actions import accounts
from service.settings import Settings
from service.work import evaluation, stages
from service.work.work import Work
from storage.store import Store
from web.app import create_app
from web.security.rights import SESSION

PASSWORD = "a long password of tests"
PRINCIPLES = """\
constitution: small
version: 1
principles:
  - id: polite
    title: Be polite
    critique: Find what is rude.
    revision: Mend what is rude.
    comparison: Which reply is polite?
    weight: 2
  - id: guessed
    title: Be green
    critique: Find what is not green.
    revision: Make it green.
    comparison: Which reply is green?
"""
PROMPTS: list[dict[str, Any]] = [
    *({"prompt": f"Train me, number {n}", "split": "train", "tags": ["harmless"]} for n in range(12)),
    *({"prompt": f"Ask me, number {n}", "split": "heldout", "tags": ["harmless"]} for n in range(10)),
    {
        "prompt": [
            {"role": "user", "content": "An earlier question"},
            {"role": "assistant", "content": "An earlier answer"},
            {"role": "user", "content": "And now the last one"},
        ],
        "split": "heldout",
    },
]
PAIR = r"(?s)\[Reply A\]\n(?P<a>.*)\n\n\[Reply B\]\n(?P<b>.*)\n\n\[Question\]\nWhich reply is polite"
SCRIPTS: dict[str, list[dict[str, Any]]] = {
    "policy": [
        {"contains": "the last one", "text": "Kind from the start."},
        {"contains": "Write only the new reply", "texts": ["Kind now.", "Kind as well, a little longer."]},
        {"contains": "Find what", "text": "The reply is rude."},
        {"texts": ["Rude.", "Rude again.", "Kind, for once.", "Rude to the end."]},
    ],
    "sft": [{"text": "After SFT."}],
    "after": [
        {"contains": "Ask me, number 0", "text": "Rude."},
        {"contains": "the last one", "text": "Rude at the end."},
        {"text": "Kind."},
    ],
    "judge": [  # reads politeness, and says A whenever it is asked about green
        {"match": PAIR, "prefer": "Kind", "p": 0.95},
        {"match": "Which reply is green", "choose": {"A": 0.9, "B": 0.1}},
    ],
}
SETTINGS = """\
store = "sqlite:///runs/precept.db"
home = "runs"
prompts = "prompts.jsonl"
constitution = "principles.yaml"
oracle = ""
revise.rounds = 2
limits.stop_at_chance = false
[policy]
kind = "scripted"
model = "policy.jsonl"
[critic]
kind = "scripted"
model = "policy.jsonl"
[judge]
kind = "scripted"
model = "judge.jsonl"
[evaluator]
kind = "scripted"
model = "judge.jsonl"
"""
SAME_ORIGIN = {"sec-fetch-site": "same-origin"}


@dataclass(frozen=True)
class World:
    """A project with a finished run: its folder, its settings, its open store, the run's id in hex."""

    folder: Path
    settings: Settings
    store: Store
    run: str


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a run through every step but training, on scripted models; each test works on a copy."""
    return make_project(tmp_path_factory.mktemp("console"), PRINCIPLES, PROMPTS, SCRIPTS)


def make_project(
    home: Path, principles: str, prompts: list[dict[str, Any]], scripts: dict[str, list[dict[str, Any]]]
) -> Path:
    (home / "principles.yaml").write_text(principles, encoding="utf-8")
    (home / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts))
    for name, rules in scripts.items():
        (home / f"{name}.jsonl").write_text("".join(json.dumps(rule) + "\n" for rule in rules))
    (home / "precept.toml").write_text(SETTINGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        with at_work("improve", Path("precept.toml"), {}) as work:
            stages.respond(work, "answers", "policy.jsonl", split="train")
            stages.revise(work, "revisions", of="answers")
            stages.judge_revisions(work, "revisions")
            stages.respond(work, "samples", "policy.jsonl", split="train", samples=3)
            stages.respond(work, "held-out samples", "policy.jsonl", split="heldout", samples=2)
            stages.compare(work, "feedback", samples="samples", revisions="revisions")
            stages.compare(work, "held-out feedback", samples="held-out samples")
            labels = stages.label(work, "feedback", heldout="held-out feedback")
            evaluated = evaluation.evaluate(
                work, "evaluation", before="policy.jsonl", sft="sft.jsonl", after="after.jsonl"
            )
            sft = _trained(work, "sft", "start-digest", {})
            bins = [[0.55, 0.5, 12], [0.75, 0.7, 30], [0.96, 0.93, 158]]
            figures = {"eval_accuracy": 0.913, "eval_ece": 0.0345, "eval_pairs": 200, "eval_reliability": bins}
            reward = _trained(work, "reward", sft.digest, figures)
            tuned = _trained(work, "dpo", sft.digest, {})
            decision = {"promoted": False, "reasons": ["held: it is ratified", "failed: too few held-out prompts"]}
            rewarded = {"path": reward.path, "metrics": dict(reward.metrics)}
            steps.report(work, labels, rewarded, tuned.path, evaluated, decision)
    return home


def _trained(work: Work, method: str, parent: str, metrics: dict[str, Any]) -> Checkpoint:
    """A checkpoint of this run with a curve of thirty steps."""
    folder = work.home / "checkpoints" / method
    folder.mkdir(parents=True)
    lines = [{"step": n, "total": 30, "loss": 2 / n, "rewards/accuracies": 0.5} for n in range(1, 31)]
    (folder / "progress.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    kind: Literal["policy", "reward_model"] = "reward_model" if method == "reward" else "policy"
    checkpoint = Checkpoint(
        make_id("job", method=method), kind, method, str(folder), f"{method}-made", parent, f"{method}-data",
        work.constitution.version, {"rows": 20, **metrics},
    )  # fmt: skip
    work.store.add_checkpoint(checkpoint, run=work.run.id)
    return checkpoint


@pytest.fixture
def world(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    folder = tmp_path / "project"
    shutil.copytree(finished, folder)
    monkeypatch.chdir(folder)
    settings, _ = settings_module.load(folder / "precept.toml", {})
    with Store.open(settings.store.get_secret_value(), home=settings.home) as store:
        runs = [run for run in store.runs() if run.result]
        yield World(folder, settings, store, runs[0].id.hex() if runs else "")


def sign_in(store: Store, name: str, role: str) -> str:
    """The secret of a session of an account, made where there is none."""
    if store.account(name) is None:
        accounts.choose_password(store, accounts.invite(store, name, role, "tests"), PASSWORD)
    return accounts.sign_in(store, name, PASSWORD, "test")


@pytest.fixture
def client(world: World) -> Iterator[Callable[[str], TestClient]]:
    """`client("editor")`: signed in as that role, under the role's name; "" is nobody."""
    app = create_app(world.settings, store=world.store, hosts=set())
    opened: list[TestClient] = []

    def of(role: str = "reviewer", name: str = "") -> TestClient:
        made = TestClient(app, base_url="http://127.0.0.1", headers=SAME_ORIGIN, follow_redirects=False)
        if role:
            made.cookies.set(SESSION, sign_in(world.store, name or role, role))
        opened.append(made)
        return made

    yield of
    for one in opened:
        one.close()


@pytest.fixture
def served(world: World) -> Iterator[str]:
    """The address of a real server on the world's store."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        app = create_app(world.settings, store=world.store)
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        server.should_exit = True
        thread.join(10)


def chromium() -> str:
    found = shutil.which("chromium")
    if found is None:
        if os.environ.get("PRECEPT_REQUIRE_BROWSER"):
            pytest.fail("chromium is not installed")
        pytest.skip("chromium is not installed")
    return found


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    path = chromium()
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield made
        made.close()


@pytest.fixture
def browser_page(browser: Any, world: World, served: str) -> Iterator[Callable[..., Any]]:
    """`browser_page("reviewer", scripts=False, width=390)`: a page of a context of its own, signed in."""
    contexts: list[Any] = []

    def of(
        role: str = "reviewer", *, name: str = "", scripts: bool = True, width: int = 1280, dark: bool = False
    ) -> Any:
        context = browser.new_context(
            base_url=served, java_script_enabled=scripts, viewport={"width": width, "height": 800},
            color_scheme="dark" if dark else "light",
        )  # fmt: skip
        context.set_default_timeout(10_000)
        if role:
            secret = sign_in(world.store, name or role, role)
            context.add_cookies(
                [{"name": SESSION, "value": secret, "url": served, "httpOnly": True, "sameSite": "Lax"}]
            )
        contexts.append(context)
        return context.new_page()

    yield of
    for context in contexts:
        context.close()


@pytest.fixture
def axe() -> Callable[[Any], list[str]]:
    """`axe(page)`: what axe-core finds wrong, each with the elements; nothing is what it should find."""
    from axe_playwright_python import sync_playwright as packaged

    source = (Path(packaged.__file__).parent / "axe.min.js").read_text()

    def of(page: Any) -> list[str]:
        page.evaluate(f"() => {{ {source} }}")
        found = page.evaluate("async () => (await axe.run()).violations")
        return [f"{v['id']}: {v['help']}: {[n['html'][:160] for n in v['nodes'][:4]]}" for v in found]

    return of
