"""A page over the service: no flow library, no command line and no model library is loaded to serve it, a form that is
sent twice is one event, and what two people do stands under the name of each."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlencode

from storage.store import Store
from tests.service import traced
from tests.service.small_page import app

ROOT = Path(__file__).parents[2]
FOREIGN = ("prefect", "typer", "click", "rich", "torch", "transformers", "trl", "vllm", "sklearn", "matplotlib")


class Browser:
    """One person's, signed in."""

    def __init__(self, store: Store, run: str, who: str) -> None:
        self.page, self.who = app(store, run), who

    def ask(self, path: str = "/", **form: str) -> tuple[str, str]:
        sent = urlencode(form).encode()
        method = {"REQUEST_METHOD": "POST" if form else "GET", "wsgi.input": io.BytesIO(sent)}
        said = []
        body = self.page({"PATH_INFO": path, "REMOTE_USER": self.who, **method}, lambda status, _: said.append(status))
        return said[0][:3], b"".join(body).decode()

    def form(self) -> dict[str, str]:
        return dict(re.findall(r"<input name=(\w+) value=([^>]+)>", self.ask()[1]))


def session(store: Store) -> dict[str, object]:
    """What two people do in their browsers, and what they are shown."""
    world = traced.build(store)
    ada, bob = (Browser(store, world.loop.id.hex(), who) for who in ("ada lovelace", "bob <b>"))
    first = ada.ask()[1]
    forms = {browser.who: browser.form() for browser in (ada, bob)}
    for _ in range(2):  # the button was pressed twice
        sent = [b.ask("/answer", **forms[b.who], choice="a", reason=f"so says {b.who}")[0] for b in (ada, bob)]
    refused = ada.ask("/answer", **forms[ada.who], choice="b")
    answers = len(store.events("spot_check"))
    for _ in range(2):
        bob.ask("/undo", key="undo 1")
    bob.ask("/answer", **bob.form(), choice="tie")
    ada.ask("/ratify", text=traced.DRAFT.replace("Which is calmer?", "Which is the calmer?"), message="calmer")
    bob.ask("/ratify", text=traced.DRAFT, message="as it was")
    bob.ask("/promote", checkpoint=world.checkpoints["retrained"].id.hex(), why="by hand", key="promotion 1")
    return {
        "first": first,
        "pairs": [forms[who]["token"].split(".")[1] for who in forms],
        "sent": sent,
        "refused": refused,
        "answers": answers,
        "undone": len(store.events("spot_check_undone")),
        "history": {browser.who: browser.ask("/history")[1] for browser in (ada, bob)},
        "foreign": [name for name in FOREIGN if name in sys.modules],
    }


def test_a_page_is_small_and_loads_nothing_foreign(tmp_path: Path) -> None:
    code = "import json, sys; from storage.store import Store; from tests.service.test_small_page import session\n"
    code += "with Store.open(sys.argv[1]) as store: print(json.dumps(session(store)))"
    command = [sys.executable, "-c", code, str(tmp_path / "page.db")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["foreign"] == []
    lines = (ROOT / "tests/service/small_page.py").read_text("utf-8").splitlines()
    assert sum(bool(line.strip()) and not line.lstrip().startswith('"""') for line in lines) <= 46


def test_two_people_review_ratify_and_promote_under_their_own_names(store: Store) -> None:
    seen = session(store)
    assert "1 of 4" in str(seen["first"]) and "&lt;script&gt;" in str(seen["first"])  # what models wrote is text
    one, other = seen["pairs"]  # type: ignore[misc]
    assert one != other
    assert seen["sent"] == ["303", "303"]
    assert (seen["answers"], seen["undone"]) == (2, 1)
    assert seen["refused"][0] == "409" and "was sent before" in seen["refused"][1]  # type: ignore[index]
    ada, bob = seen["history"].values()  # type: ignore[attr-defined]
    assert "<li>ada lovelace answered a so says ada lovelace" in ada and "answered tie" not in ada
    assert "<li>bob &lt;b&gt; answered tie" in bob and "so says bob" not in bob
    for history in (ada, bob):
        assert "<li>ada lovelace ratified 3: calmer" in history
        assert "<li>bob &lt;b&gt; ratified 4: as it was" in history
        assert re.search("<li>bob &lt;b&gt; wrote .*Which is calmer", history)  # the line that he brought back
        assert "<li>bob &lt;b&gt; promotion by hand" in history
        assert "<li>ada amendment to begin with" in history  # whose words the promoted model was trained on
