"""`retrain` on the small loop: an added principle is followed without asking what is known, from the right parents; it
is stopped, killed and resumed, and ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from constitution import loading
from constitution.errors import UserError
from constitution.records import Checkpoint, Id, canonical
from flows import discovery
from pipeline import label
from service import settings as settings_module
from service.actions.ratify import ratify as put_in_force
from service.actions.resume import as_it_began
from service.queries import preview
from service.queries.preview import Preview
from service.wiring import Wiring
from service.work.budget import BudgetReached
from storage.runs import Run
from storage.store import Store
from tests.flows.conftest import ROOT, Loop, improve, without_prefect

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_training_process")]

INVITING = """
  # Nobody should have to guess whether they may ask again.
  - id: inviting
    title: Offer more help
    critique: Find any way in which the reply ends with no offer of more help.
    revision: Rewrite the reply so that it ends with an offer of more help.
    comparison: Which reply ends with an offer of more help?
    weight: 3
"""
FIRST = (ROOT / "principles.yaml").read_text(encoding="utf-8")
SECOND = FIRST.rstrip() + "\n" + INVITING
OTHER_WORDS = "Which reply welcomes a further question?"
THIRD = SECOND.replace("Which reply ends with an offer of more help?", OTHER_WORDS)
JUNK = "principles: [half an edit"


@dataclass(frozen=True)
class Place:
    """A copy of the small loop's folder in which the next amendment was ratified."""

    home: Path
    base: Run
    priced: Preview  # of that amendment, before it

    @property
    def url(self) -> str:
        return f"sqlite:///{self.home}/precept.db"

    @property
    def file(self) -> Path:
        return self.home / "precept.toml"

    def retrain(self, **flags: Any) -> Loop:
        return improve(self.home, flow="retrain", **flags)

    def runs(self, kind: str = "retrain") -> list[Run]:
        with Store.open(self.url, home=self.home) as store:
            return [run for run in store.runs() if run.kind == kind]

    def checkpoints(self, run: str) -> dict[str, Checkpoint]:
        with Store.open(self.url, home=self.home) as store:
            mine = set(self.rows("checkpoint", "digest", f"hex(run) = '{run.upper()}'"))
            return {c.method: c for c in store.checkpoints() if c.digest in mine}

    def rows(self, table: str, column: str, where: str) -> list[Any]:
        with sqlite3.connect(f"file:{self.home}/precept.db?mode=ro", uri=True) as database:
            return [value for (value,) in database.execute(f"select {column} from {table} where {where}")]

    def members(self, run: str, stage: str) -> list[Id]:
        with Store.open(self.url, home=self.home) as store:
            return store.stage_members(bytes.fromhex(run), stage)

    def execute(self, statement: str, *values: Any) -> None:
        with sqlite3.connect(self.home / "precept.db") as database:
            database.execute(statement, values)


def ratify(url: str, text: str, why: str) -> None:
    with Store.open(url) as store:
        put_in_force(store, loading.parse(text), store.ratified(), "ada", why)


def copied(loop: Loop, home: Path) -> Place:
    """The loop's folder, elsewhere: the store needs no change, its paths are relative. `inviting` is ratified, and half
    an edit is in the file."""
    shutil.copytree(loop.home, home, symlinks=True)
    old, new = str(loop.home), str(home)
    settings = (home / "precept.toml").read_text().replace(old, new)
    settings = settings.replace(f"{ROOT}/principles.yaml", f"{new}/principles.yaml")
    (home / "precept.toml").write_text(settings)
    (home / "principles.yaml").write_text(SECOND)
    wiring = Wiring(settings_module.load(home / "precept.toml")[0])
    try:
        priced = preview.preview(wiring, wiring.constitution, "ada")
        put_in_force(wiring.store, wiring.constitution, priced.base, "ada", "people come back")
        (base,) = wiring.store.runs()
    finally:
        wiring.close()
    (home / "principles.yaml").write_text(JUNK)
    return Place(home, base, priced)


@dataclass(frozen=True)
class Done:
    place: Place
    result: dict[str, Any]
    kept: int  # requests answered before it was stopped

    @property
    def calls(self) -> int:
        return int(self.result["calls"]["generated"] + self.result["calls"]["chosen"])


@pytest.fixture(scope="module")
def retrained(loop: Loop, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A default retrain that a limit stopped; another amendment was ratified before it was gone on with."""
    place = copied(loop, tmp_path_factory.mktemp("retrained") / "home")
    before = answered(place)
    with pytest.raises(BudgetReached, match=r"limits\.max_calls = 60"):
        place.retrain(limits__max_calls=60, compare__questions_per_batch=16)
    kept = answered(place) - before
    assert 0 < kept <= 60
    (stopped,) = place.runs()
    assert stopped.status == "stopped" and stopped.constitution == loading.parse(SECOND).version
    ratify(place.url, THIRD, "another word, while it runs")
    settings, _ = settings_module.load(place.file)
    flags = as_it_began(stopped, settings, SECOND)
    with without_prefect():
        result = discovery.load("retrain")(str(place.file), flags)
    assert result["run"] == stopped.id.hex() and len(place.runs()) == 1
    ratify(place.url, SECOND, "the first word was better")
    return Done(place, result, kept)


def answered(place: Place) -> int:
    """Requests whose answers are stored: a verdict is two."""
    (texts,), (verdicts,) = (place.rows(table, "count(*)", "1") for table in ("generation", "verdict"))
    return int(texts + 2 * verdicts)


def questions(place: Place, role: str) -> dict[str, Id]:
    """By principle of the amended constitution, what the judge or the evaluator is asked."""
    settings, _ = settings_module.load(place.file)
    wiring = Wiring(settings)
    try:
        judge = wiring.asked_judge(getattr(settings, role))
        return {p.id: judge.question(p).id for p in loading.parse(SECOND)}
    finally:
        wiring.close()


# --- the default ---------------------------------------------------------------------------------------------------


def test_only_the_missing_verdicts_are_asked(loop: Loop, retrained: Done) -> None:
    place, run = retrained.place, retrained.result["run"]
    pool = [*place.members(run, "feedback"), *place.members(run, "held-out feedback")]
    base = place.base.id.hex()
    assert pool == [*place.members(base, "feedback"), *place.members(base, "held-out feedback")]
    asked = place.priced.as_dict()
    assert asked["missing"] == {"inviting": len(pool)} and asked["cost"]["verdicts"] == len(pool)
    new = set(place.rows("verdict", "hex(question) || hex(comparison)", "1")) - {
        question.hex().upper() + comparison.hex().upper() for question, comparison, *_ in loop.rows("verdict")
    }
    judge, evaluator = questions(place, "judge"), questions(place, "evaluator")
    by_judge = {name for name in new if name[:32] == judge["inviting"].hex().upper()}
    by_evaluator = {name for name in new if bytes.fromhex(name[:32]) in set(evaluator.values())}
    assert {name[32:] for name in by_judge} == {comparison.hex().upper() for comparison in pool}
    assert by_judge | by_evaluator == new
    pairs = place.members(run, "evaluation.pairs")
    assert {bytes.fromhex(name[32:]) for name in by_evaluator} == set(pairs)
    # And texts: the new policy's answers on held-out prompts, and no others.
    after = place.members(run, "evaluation.after")
    assert len(after) == 25 and place.members(run, "evaluation.before") == place.members(base, "evaluation.after")
    texts = {bytes.fromhex(name) for name in place.rows("generation", "hex(id)", "1")}
    assert texts - {row[0] for row in loop.rows("generation")} == set(after)
    assert retrained.calls + retrained.kept == len(after) + 2 * len(new)


def test_the_models_come_from_the_sft_model(retrained: Done) -> None:
    place = retrained.place
    base, made = (place.checkpoints(run) for run in (place.base.id.hex(), retrained.result["run"]))
    assert set(made) == {"reward", "dpo"} and set(base) == {"sft", "reward", "dpo"}
    assert made["reward"].parent == made["dpo"].parent == base["sft"].digest
    assert made["dpo"].path == retrained.result["model"] != base["dpo"].path
    assert {c.constitution for c in made.values()} == {loading.parse(SECOND).version}


def test_the_pool_is_labelled_under_the_amendment_that_the_run_began_with(retrained: Done) -> None:
    """Neither the one that was ratified while it was stopped, nor the file, has any part in it."""
    place = retrained.place
    run = retrained.result["run"]
    assert retrained.result["constitution"] == loading.parse(SECOND).version
    assert not place.rows("question", "id", f"skeleton like '%{OTHER_WORDS}%'")
    assert (place.home / "principles.yaml").read_text() == JUNK
    constitution = loading.parse(SECOND)
    settings, _ = settings_module.load(place.file)
    wiring = Wiring(settings)
    try:
        weights = label.voices(constitution, wiring.asked_judge(settings.judge))
        labels = wiring.store.labels(place.members(run, "feedback"), weights, settings.rule())
    finally:
        wiring.close()
    decided = {x.comparison.hex(): max(x.p, 10**9 - x.p) / 1e9 for x in labels if x.preferred_first is not None}
    dataset = place.home / "datasets" / f"{place.checkpoints(run)['dpo'].dataset[:16]}.jsonl"
    rows = [json.loads(line) for line in dataset.read_text().splitlines()]
    assert {row["comparison"]: row["p"] for row in rows} == decided and len(decided) > 20


def test_it_says_what_was_amended_and_what_became_of_it(retrained: Done) -> None:
    place = retrained.place
    amendment = retrained.result["amendment"]
    assert amendment["base"] == place.base.id.hex()
    assert (amendment["who"], amendment["start"]) == ("ada", "pool")
    effects = {e["principle"]: e["change"] for e in amendment["effects"]}
    assert effects.pop("inviting") == "added" and set(effects.values()) == {"none"} and len(effects) == 10
    assert amendment["base_calls"] > 5 * (retrained.calls + retrained.kept)


def test_run_again_it_asks_nothing(retrained: Done) -> None:
    before = answered(retrained.place)
    again = retrained.place.retrain(compare__questions_per_batch=16).result
    assert (again["calls"]["generated"], again["calls"]["chosen"]) == (0, 0)
    assert {**again, "calls": 0} == {**retrained.result, "calls": 0}
    assert answered(retrained.place) == before and len(retrained.place.runs()) == 1


# --- other ways ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def revised(retrained: Done) -> Done:
    """`--from revise`, from the last model, in the folder of the default retrain."""
    return Done(retrained.place, retrained.place.retrain(retrain__start="revise", retrain__train_from="last").result, 0)


def test_only_stale_steps_of_chains_are_redone(revised: Done) -> None:
    place, run = revised.place, revised.result["run"]
    stale = place.priced.stale
    assert 0 < stale.chains < stale.of == 40
    with Store.open(place.url, home=place.home) as store:
        reused = store.reused(bytes.fromhex(run))
        steps = {
            stage: store.stage_members(bytes.fromhex(run), stage) for stage in ("revisions.0", "revisions.0.critique")
        }
        assert len(store.stage_members(bytes.fromhex(run), "answers")) == reused["answers"] == 40
        drawn = {g.prompt for g in store.generations_of(bytes.fromhex(run), "revisions.0") if g.principle == "inviting"}
    made = sum(len(ids) - reused[stage] for stage, ids in steps.items())
    whole = 40 - len(steps["revisions.0"])  # answers that were cut at the limit begin no chain
    assert stale.steps - 2 * whole <= made <= stale.steps
    assert made == 2 * len(drawn)


def test_training_may_start_from_the_last_model(revised: Done) -> None:
    place = revised.place
    base, made = (place.checkpoints(run) for run in (place.base.id.hex(), revised.result["run"]))
    assert made["reward"].parent == made["dpo"].parent == base["dpo"].digest
    # Of forty answers' revisions none may be better by the judge: then there is nothing to imitate.
    sft = made.get("sft")
    assert sft is None or (sft.parent == base["sft"].parent and sft.dataset != base["sft"].dataset)


def test_the_training_method_is_a_setting_here_too(loop: Loop, tmp_path: Path) -> None:
    place = copied(loop, tmp_path / "home")
    arguments = {"kto": {"max_steps": 2, "per_device_train_batch_size": 8}}
    done = place.retrain(optimise__method="kto", optimise__arguments={}, arguments=arguments)
    made = place.checkpoints(done.result["run"])["kto"]
    assert made.parent == place.checkpoints(place.base.id.hex())["sft"].digest
    assert done.result["model"] == made.path


@pytest.fixture(scope="module")
def topped(loop: Loop, tmp_path_factory: pytest.TempPathFactory) -> Done:
    place = copied(loop, tmp_path_factory.mktemp("topped") / "home")
    return Done(place, place.retrain(retrain__top_up=True).result, 0)


def compared_of(place: Place, generations: list[bytes]) -> set[bytes]:
    """The comparisons that any of these texts is in."""
    with closing(sqlite3.connect(place.home / "precept.db")) as database:
        held = ", ".join("?" * len(generations))
        rows = database.execute(f"select comparison from origin where generation in ({held})", generations)
        return {comparison for (comparison,) in rows}


def test_pairs_are_added_on_training_prompts_where_the_new_principle_was_silent(topped: Done) -> None:
    place, run = topped.place, topped.result["run"]
    with Store.open(place.url, home=place.home) as store:
        old, new = (store.stage_members(i, "feedback") for i in (place.base.id, bytes.fromhex(run)))
        added = store.comparisons([i for i in new if i not in set(old)])
        assert set(old) < set(new) and len(added) >= 5
        made = [i for part in ("", ".more") for i in store.stage_members(bytes.fromhex(run), f"top-up.inviting{part}")]
        assert compared_of(place, made) - set(old) == {c.id for c in added}  # all that was made, and nothing else
        held = place.members(run, "held-out feedback")
        assert held == place.members(place.base.id.hex(), "held-out feedback")
        splits = {p.id: p.split for p in store.prompts(ids=[c.prompt for c in added])}
        assert set(splits.values()) == {"train"}
        rule = settings_module.load(place.file)[0].rule()
        question = questions(place, "judge")["inviting"]
        spoken = {c.comparison for c in store.contributions(old, {question: 1}, rule) if c.bears}
        assert spoken  # or silence would mean nothing
        assert not {c.prompt for c in store.comparisons(list(spoken))} & set(splits)
        assert len(store.labels([c.id for c in added], {question: 1}, rule)) == len(added)
    assert place.checkpoints(run)["dpo"].parent == place.checkpoints(place.base.id.hex())["sft"].digest
    top_up = place.priced.as_dict()["ways"]["top-up"]
    assert topped.result["calls"]["generated"] <= top_up["generated"]
    assert topped.calls <= top_up["requests"]


def test_no_held_out_prompt_reaches_a_training_file(retrained: Done, revised: Done, topped: Done) -> None:
    lines = (retrained.place.home / "prompts.jsonl").read_text().splitlines()
    splits = {canonical(row["prompt"]): row["split"] for row in map(json.loads, lines)}
    for place in (retrained.place, topped.place):
        with Store.open(place.url, home=place.home) as store:
            trained_on = {checkpoint.dataset[:16] for checkpoint in store.checkpoints()}
        assert len(trained_on) >= 3
        seen: dict[str, set[str]] = {"train": set(), "heldout": set()}
        for path in (place.home / "datasets").glob("*.jsonl"):
            used = "train" if path.stem in trained_on else "heldout"
            seen[used] |= {splits[canonical(json.loads(line)["prompt"])] for line in path.read_text().splitlines()}
        assert seen == {"train": {"train"}, "heldout": {"heldout"}}


# --- what cannot be done -------------------------------------------------------------------------------------------


def test_without_an_amendment_there_is_nothing_to_retrain(loop: Loop, tmp_path: Path) -> None:
    place = copied(loop, tmp_path / "home")
    ratify(place.url, FIRST, "as it was")
    with pytest.raises(UserError, match="there is nothing to retrain"):
        place.retrain()
    ratify(place.url, FIRST.replace("title: ", "title: The "), "titles")
    with pytest.raises(UserError, match="there is nothing to retrain"):
        place.retrain()
    place.execute("update run set status = 'failed'")
    with pytest.raises(UserError, match="there is no finished run to start from"):
        place.retrain()
    assert place.runs() == []


def test_models_that_are_gone_are_told_of_before_anything_is_asked(loop: Loop, tmp_path: Path) -> None:
    place = copied(loop, tmp_path / "home")
    before = answered(place)
    paths = {c.method: Path(c.path) for c in place.checkpoints(place.base.id.hex()).values()}
    for method, name in (("sft", "sft"), ("dpo", "last")):
        paths[method].rename(tmp_path / method)
        with pytest.raises(UserError, match=f"the {name} model of run .* is not there any more"):
            place.retrain()
        (tmp_path / method).rename(paths[method])
    assert answered(place) == before
    assert [run.status for run in place.runs()] == ["failed"]


# --- kill -9 -------------------------------------------------------------------------------------------------------

FORK = """
import os, sys, traceback
{imports}
for _ in sys.stdin:
    if child := os.fork():
        print("started", child, flush=True)
        print("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    try:
        {work}
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
"""


class Forked:
    """Work done in a process that may be killed, again and again: imports, which take longer than it, are made once,
    and each start is a fork."""

    def __init__(self, imports: str, work: str, *arguments: object) -> None:
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-c", FORK.format(imports=imports, work=work), *map(str, arguments)], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
        self.said: list[str] = []  # lines that were printed by the work

    def start(self) -> int:
        """Returns the pid."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return self._until("started")

    def end(self) -> int:
        """Wait for the end of what was started. Returns its exit code, minus 9 where it was killed."""
        return self._until("ended")

    def close(self) -> None:
        self._process.communicate()

    def _until(self, word: str) -> int:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            name, _, rest = line.rstrip("\n").partition(" ")
            if name == word:
                return int(rest)
            self.said.append(line.rstrip("\n"))
        raise AssertionError("the process that forks has ended")


def kill(process: Forked, moment: Callable[[], bool], after: float) -> None:
    """Start, and kill -9 some seconds after a moment that is seen from outside."""
    pid = process.start()
    while not moment():
        time.sleep(0.02)
    time.sleep(after)
    os.kill(pid, signal.SIGKILL)
    assert process.end() == -signal.SIGKILL


def test_a_retrain_that_was_killed_goes_on_and_ends_like_a_clean_one(loop: Loop, topped: Done, tmp_path: Path) -> None:
    place, rng = copied(loop, tmp_path / "home"), random.Random(3)
    work = 'improve(Path(sys.argv[1]), flow="retrain", retrain__top_up=True)'
    imports = (
        "from pathlib import Path\nfrom transformers import AutoTokenizer, LlamaForCausalLM\n"
        "from tests.flows.conftest import improve"
    )
    process = Forked(imports, work, place.home)
    stored, begun = answered(place), checkpoints_begun(place)
    kill(process, lambda: answered(place) > stored, rng.uniform(0.0, 1.0))
    assert stored < answered(place) and place.runs()[0].status == "running"
    kill(process, lambda: checkpoints_begun(place) > begun, rng.uniform(0.0, 1.0))
    kept = answered(place)
    process.start()
    assert process.end() == 0
    process.close()

    clean, found = Loop(topped.place.home, topped.result), Loop(place.home, {})
    for table in ("generation", "verdict", "comparison"):
        assert found.rows(table) == clean.rows(table), table
    assert found.rows("member", ("reused",)) == clean.rows("member", ("reused",))
    assert found.rows("checkpoint", ("metrics",)) == clean.rows("checkpoint", ("metrics",))
    assert found.datasets() == clean.datasets()
    (run,) = place.runs()
    assert run.status == "finished" and run.id.hex() == topped.result["run"]
    for part in ("constitution", "judge", "labels", "before", "after", "win_rate", "reasons", "promoted"):
        assert run.result[part] == topped.result[part], part
    calls = run.result["calls"]
    assert calls["generated"] + calls["chosen"] == answered(place) - kept  # what was answered was not asked again


def checkpoints_begun(place: Place) -> int:
    return len(list((place.home / "checkpoints").iterdir()))


RATIFY = """
        with Store.open(sys.argv[1]) as store:
            open(sys.argv[3], "w").close()
            for number in itertools.count():
                name = f"{os.getpid()}.{number}"
                draft = loading.parse(text + f"# {name} " + "x" * 5_000 + "\\n")
                print(put_in_force(store, draft, store.ratified(), "ada", name).message, flush=True)
"""


def test_a_ratification_that_was_killed_is_there_whole_or_not_at_all(store_url: str, tmp_path: Path) -> None:
    ratify(store_url, FIRST, "the first")
    (tmp_path / "second.yaml").write_text(SECOND)
    imports = (
        "import itertools\nfrom constitution import loading\n"
        "from service.actions.ratify import ratify as put_in_force\n"
        "from storage.store import Store\ntext = open(sys.argv[2]).read()"
    )
    opened = tmp_path / "opened"
    process = Forked(imports, RATIFY.strip(), store_url, tmp_path / "second.yaml", opened)
    rng, known = random.Random(5), ["the first"]
    kills = 0
    while kills < 10 or len(known) <= 10:  # on a busy machine some are killed before they have ratified anything
        kills += 1
        process.said.clear()
        kill(process, opened.exists, rng.uniform(0.0, 0.3))
        opened.unlink()
        known += process.said
        with Store.open(store_url) as store:
            past, now = store.amendments(), store.ratified()
        # All that was said to be ratified, in that order, and at most one that could not be said any more.
        messages = [a.message for a in past]
        assert messages[: len(known)] == known and len(messages) <= len(known) + 1
        assert [a.number for a in past] == list(range(1, len(past) + 1)) and now == past[-1]
        assert [a.parent for a in past] == [None, *(a.version for a in past[:-1])]
        assert all(a.text.startswith(SECOND) and a.text.endswith("x" * 5_000 + "\n") for a in past[1:])
        assert all(loading.parse(a.text).version == a.version for a in past[-2:])
        known = messages
    process.close()
