"""A ratification that starts a flow: the event, the automation that waits for it, and what is done in its slot."""

from __future__ import annotations

import json
import logging
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from constitution import loading
from constitution.errors import UserError
from constitution.records import Checkpoint, Event, Id
from flows import announcing, discovery, retrain
from service import settings as settings_module
from service.queries import base_run
from storage.amendments import Amendment
from storage.runs import Run
from storage.store import Store
from tests.cli.conftest import PRINCIPLES, Labelled, Precept
from tests.cli.serving import Prefect, prefect, until
from tests.flows.conftest import without_prefect

EVENT = "01961ed6-8a2b-7c3d-9e4f-000000000001"
AMENDMENT = Amendment(3, "cafe", "the text", "beef", "2026-01-02T03:04:05+00:00", "ada", "why not", EVENT)
RETITLED = PRINCIPLES.replace("title: Kind", "title: Kindness")
REWORDED = PRINCIPLES.replace("Which is shorter?", "Which is briefer?")


# --- which store it is ---------------------------------------------------------------------------------------------


def test_a_store_has_one_name_however_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = announcing.resource("postgresql://db:5433/precept")
    assert name == "precept.constitution.76c2b638"  # registered automations wait for it: it may not change
    same = ("postgresql+psycopg://ada:s3cr%40et@db:5433/precept", "postgres://db:5433/precept?user=a&password=s")
    assert {announcing.resource(url) for url in same} == {name}
    others = ("postgresql://db/precept", "postgresql://db:5433/other", f"{same[0]}?options=-csearch_path%3Dmine")
    assert len({announcing.resource(url) for url in others} | {name}) == 4

    monkeypatch.chdir(tmp_path)
    here = announcing.resource("sqlite:///runs/precept.db")
    assert (
        here == announcing.resource(f"sqlite:///{tmp_path}/runs/precept.db") == announcing.resource("runs/precept.db")
    )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert announcing.resource("sqlite:///runs/precept.db") != here


# --- telling the server --------------------------------------------------------------------------------------------


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Name a server: `named(url)`, until the test ends."""
    contexts = []

    def name(url: str) -> None:
        monkeypatch.setenv("PREFECT_API_URL", url)
        contexts.append(temporary_settings({PREFECT_API_URL: url}))
        contexts[-1].__enter__()

    yield name
    for context in contexts:
        context.__exit__(None, None, None)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A port that takes connections and never answers."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        found.listen()
        yield found


class Taking(BaseHTTPRequestHandler):
    """A server that takes events, as far as its `status` says."""

    status = 204
    taken: list[Any]

    def do_GET(self) -> None:
        self._answer(404)  # it has no CSRF tokens, as servers that do not ask for them

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.taken.append((self.path, json.loads(body)))
        self._answer(self.status)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def taking(named: Any) -> Iterator[type[Taking]]:
    class Handler(Taking):
        pass

    Handler.taken = []
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        named(f"http://127.0.0.1:{server.server_port}/api")
        yield Handler
        server.shutdown()
        thread.join()


def test_the_event_is_with_the_server_when_the_call_returns(taking: type[Taking]) -> None:
    assert announcing.ratified(AMENDMENT, "postgresql://ada:s3cret@db:5433/precept")
    ((path, (event,)),) = taking.taken
    assert path == "/api/events" and event["event"] == "precept.constitution.ratified"
    assert event["resource"]["prefect.resource.id"] == "precept.constitution.76c2b638"
    assert event["payload"] == {"version": "cafe", "amendment": 3, "who": "ada", "why": "why not"}
    assert event["id"] == EVENT  # sent twice it is one
    assert "s3cret" not in json.dumps(event)


def test_a_proposal_is_told_too(taking: type[Taking]) -> None:
    payload = {"id": "ab" * 16, "digest": "d", "why": "run 1 proposes it", "evidence": {"reasons": ["failed: x"]}}
    event = Event(EVENT, "proposal", "2026-01-02T03:04:05+00:00", "ada", "q", payload)
    assert announcing.proposed(event, "postgresql://ada:s3cret@db:5433/precept")
    ((_, (said,)),) = taking.taken
    assert (said["event"], said["id"]) == ("precept.model.proposed", EVENT) and "s3cret" not in json.dumps(said)
    assert said["payload"] == {"model": "ab" * 16, "why": "run 1 proposes it", "reasons": ["failed: x"]}


def test_a_server_that_fails_is_warned_of(taking: type[Taking], caplog: pytest.LogCaptureFixture) -> None:
    taking.status = 503  # worth another try to Prefect's client; here somebody waits
    began = time.monotonic()
    with caplog.at_level(logging.WARNING):
        assert not announcing.ratified(AMENDMENT, "runs/precept.db")
    assert len(taking.taken) == 1 and time.monotonic() - began < 10
    assert "could not be told of amendment 3, which is in force" in caplog.text


def test_a_server_that_never_answers_is_not_waited_for(
    named: Any, listener: socket.socket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(announcing, "PATIENCE", 0.5)
    named(f"http://127.0.0.1:{listener.getsockname()[1]}/api")
    began = time.monotonic()
    assert not announcing.ratified(AMENDMENT, "runs/precept.db")
    assert time.monotonic() - began < 10 and "nothing starts by itself" in caplog.text


def test_without_a_server_prefect_is_not_even_imported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    with monkeypatch.context() as patch:
        patch.delenv("PREFECT_API_URL", raising=False)
        patch.setitem(sys.modules, "prefect.client.orchestration", None)  # importing it fails, with a warning
        assert not announcing.ratified(AMENDMENT, "runs/precept.db")
    # A profile names a server, and another profile is in use: Prefect would start a server of its own.
    (tmp_path / "profiles.toml").write_text('[profiles.work]\nPREFECT_API_URL = "http://127.0.0.1:4200/api"\n')
    monkeypatch.setattr("prefect.client.orchestration.get_client", None)  # calling it fails, with a warning
    with temporary_settings({PREFECT_API_URL: None}):
        assert not announcing.ratified(AMENDMENT, "runs/precept.db")
    assert not caplog.records


def test_ratification_stands_where_the_server_is_down(
    project: Path, precept: Precept, store: Store, named: Any, caplog: pytest.LogCaptureFixture
) -> None:
    first = loading.load("principles.yaml")
    store.ratify(first.version, "ada", "the first", "1", text=first.source)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        named(f"http://127.0.0.1:{closed.getsockname()[1]}/api")
        (project / "principles.yaml").write_text(RETITLED)
        began = time.monotonic()
        said = precept("constitution", "amend", "principles.yaml", "--ratify", "-m", "a better title", "--json")
        assert said.code == 0 and said.json["amendment"] == 2
        assert "could not be told of amendment 2" in caplog.text
        again = precept("constitution", "restore", "1", "-m", "it was not better")
        assert again.code == 0 and "could not be told of amendment 3" in caplog.text
    assert time.monotonic() - began < 20
    assert [a.number for a in store.amendments()] == [1, 2, 3]


# --- what is done in a slot ----------------------------------------------------------------------------------------


@pytest.fixture
def base(labelled: Labelled, store: Store) -> Run:
    """The labelled run, finished, and its model promoted; its constitution is in force."""
    first = loading.load("principles.yaml")
    store.ratify(first.version, "ada", "the first", "1", text=first.source)
    return _finish(store, labelled.run, "models/first")


def _finish(store: Store, run: Run, name: str) -> Run:
    model = str(Path(name).absolute())  # as a flow names a checkpoint
    store.finish_run(run.id, "finished", result={"model": model, "calls": {"generated": 0, "chosen": 0, "reused": 0}})
    checkpoint = Checkpoint(
        Id(name.encode()[-16:].rjust(16)), "policy", "dpo", model, model, "", "", run.constitution or "", {}
    )
    store.add_checkpoint(checkpoint)
    store.promote(checkpoint, who="ada", why="good", key=model)
    return store.run(run.id)


def _ratify(store: Store, text: str) -> str:
    version = loading.parse(text, "").version
    store.ratify(version, "ada", "amended", text, text=text)
    return version


def test_a_slot_with_nothing_to_retrain_ends_well(
    base: Run, store: Store, precept: Precept, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = discovery.load("retrain").fn  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="there is nothing to retrain"):
        flow()  # a person is told
    monkeypatch.setattr(retrain, "scheduled_slot", lambda: "2026-01-02T02:00:00+00:00")
    said = flow()
    assert said["run"] is None and f"run {base.id.hex()[:12]} already lives by" in said["nothing_to_do"]

    version = _ratify(store, REWORDED)
    assert base_run.nothing_to_retrain(settings_module.load()[0]) is None
    # The next night the retrained model is in its place: not retrained again, though a person may see its result again.
    made = store.start_run("again", "retrain", {"settings": {"retrain": {"base": base.id.hex()}}}, version)
    made = _finish(store, made, "models/second")
    assert made.id.hex()[:12] in str(base_run.nothing_to_retrain(settings_module.load()[0]))
    assert base_run.base_of(store, version).id == base.id
    _ratify(store, PRINCIPLES)
    assert base_run.nothing_to_retrain(settings_module.load()[0]) is None
    # Nor is it where a model under this version waits for a person, until something is decided on it.
    under = loading.parse(PRINCIPLES, "").version
    waiting = Checkpoint(Id(b"w" * 16), "policy", "dpo", str(Path("models/waits").absolute()), "w", "", "", under, {})
    store.add_checkpoint(waiting)
    store.propose(waiting, "night", "run 3 proposes it", "q")
    assert "waits for a person" in str(base_run.nothing_to_retrain(settings_module.load()[0]))
    store.withdraw_proposal("ada", "no", "w")
    assert base_run.nothing_to_retrain(settings_module.load()[0]) is None
    named = settings_module.load(None, {"retrain.version": version})[0]
    assert base_run.nothing_to_retrain(named) is not None
    assert [run.id for run in store.runs() if run.kind == "retrain"] == [made.id]  # and no run was begun


def test_relabelling_asks_what_is_missing_and_no_more(project: Path, base: Run, store: Store, precept: Precept) -> None:
    with without_prefect():
        relabel = discovery.load("relabel")
        first = relabel()
        tried = 4 * 2  # pairs x orders: it is another judge than the base's
        assert first["calls"]["chosen"] == tried + 6 * 2 * 2  # comparisons x principles x orders
        assert (first["base"], first["comparisons"]) == (base.id.hex(), 6)
        assert relabel()["calls"] == {"generated": 0, "chosen": 0, "reused": 24 + tried}

        (project / "principles.yaml").write_text(PRINCIPLES.replace("Which is kinder?", "Who cares?"))  # a mere draft
        version = _ratify(store, REWORDED)
        second = relabel()
        assert precept("run", "resume", first["run"][:12]).json["labels"] == first["labels"]  # as it began, not as now
    assert (second["calls"]["chosen"], second["calls"]["reused"]) == (
        6 * 2 + tried // 2,
        6 + 2,
    )  # reused: verdicts of two orders
    run = store.run(second["run"])
    assert (run.kind, run.status, run.constitution) == ("relabel", "finished", version)
    assert second["labels"]["count"] == 5  # of the training prompts; the sixth is held out
    assert run.result["labels"] == second["labels"]


def test_relabelling_is_a_run_of_its_own_for_each_pool(base: Run, labelled: Labelled, store: Store) -> None:
    other = store.start_run("other", "improve", dict(base.settings), base.constitution)
    store.add_members(other.id, "prompts", [p.id for p in labelled.prompts])
    store.add_members(other.id, "feedback", labelled.comparisons[:2])
    with without_prefect():
        relabel = discovery.load("relabel")
        assert relabel()["comparisons"] == 6
        _finish(store, other, "models/other")
        found = relabel()
        assert (found["base"], found["comparisons"], found["calls"]["chosen"]) == (other.id.hex(), 2, 0)
        named = relabel(flags={"retrain.base": base.id.hex()[:8]})
        assert named["comparisons"] == 6 and named["calls"]["chosen"] == 0


def test_relabelling_needs_a_run(project: Path, store: Store) -> None:
    first = loading.load("principles.yaml")
    store.ratify(first.version, "ada", "the first", "1", text=first.source)
    with without_prefect(), pytest.raises(UserError, match="no finished run with labels"):
        discovery.load("relabel")()


# --- on a real server ----------------------------------------------------------------------------------------------


@pytest.fixture
def server(project: Path) -> Iterator[Prefect]:
    with prefect(project) as place:
        yield place


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ratifying_starts_what_waits_for_it(
    project: Path, precept: Precept, base: Run, store: Store, server: Prefect, named: Any
) -> None:
    server.start("server", "start")
    until(server.healthy, 300)
    named(server.url)
    said = {}
    for flow in ("retrain", "retrain", "relabel"):  # twice: the second takes the place of the first
        done = precept("schedule", "add", flow, "--on-ratify", "--json")
        assert done.code == 0, done.err
        said[flow] = done.json
    here = announcing.resource("sqlite:///runs/precept.db")
    assert said["retrain"]["deployment"] == "retrain/scheduled" and said["retrain"]["on_ratify"] == here
    waiting = {a["name"]: a for a in server.all("automations")}
    assert set(waiting) == {"retrain/scheduled on ratification", "relabel/scheduled on ratification"}
    (action,) = waiting["retrain/scheduled on ratification"]["actions"]
    assert action["deployment_id"] == said["retrain"]["id"]
    assert all(not deployment["schedules"] for deployment in server.all("deployments"))
    server.start(*said["retrain"]["worker"].split()[1:])

    assert announcing.ratified(AMENDMENT, "sqlite:///another/store.db")  # starts nothing here
    (project / "principles.yaml").write_text(RETITLED)
    done = server.precept("constitution", "amend", "principles.yaml", "--ratify", "-m", "a better title")
    assert done.returncode == 0, done.stderr
    assert "could not be told" not in done.stderr
    assert "retrain/scheduled starts by itself" in done.stdout and "next: precept retrain" not in done.stdout

    def ended() -> Any:
        runs = server.all("flow_runs")
        failed = [run["state"]["message"] for run in runs if run["state_type"] in ("FAILED", "CRASHED")]
        assert not failed, failed
        return len(runs) > 1 and all(run["state_type"] == "COMPLETED" for run in runs) and runs

    runs = until(ended, 240)
    assert {run["deployment_id"] for run in runs} == {entry["id"] for entry in said.values()} and len(runs) == 2
    assert {run["created_by"]["type"] for run in runs} == {"AUTOMATION"}
    until(lambda: any("there is nothing to retrain" in line["message"] for line in server.all("logs")), 60)
    # A title asks no judge anything, so the model lives by the new text already, and no run was made of it. The judge
    # of these settings had never been asked about the pool: now it has.
    (relabelled,) = [run for run in store.runs() if run.id != base.id]
    assert (relabelled.kind, relabelled.status) == ("relabel", "finished")
    assert relabelled.result["calls"]["chosen"] == 24 + 8  # labels, and the trial of a judge that the base did not ask
    assert json.loads(relabelled.key)["slot"]  # the moment it was started for is in its identity

    nightly = precept("schedule", "add", "retrain", "--cron", "0 2 * * *", "--json").json
    assert (nightly["id"], nightly["on_ratify"]) == (said["retrain"]["id"], None)
    assert [a["name"] for a in server.all("automations")] == ["relabel/scheduled on ratification"]
