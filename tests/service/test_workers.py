"""Several workers on one run, and several batches in flight: nothing is asked twice, the store is one worker's, and who
dies, sleeps or is interrupted loses what was in flight and nothing else."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import sandbox.models
from constitution.errors import UserError
from constitution.loading import parse
from constitution.principles import Principle
from constitution.records import Comparison, Message, Prompt, Question, Verdict, make_id
from pipeline import asking
from pipeline.asking import Ask, Role
from pipeline.engines.engine import Capabilities, Completion, EngineError, Generate, Refused
from pipeline.judges import build
from pipeline.judges.judge import Case, Judged
from pipeline.models.checkpoint import Manifest
from pipeline.trainers.trainer import Job
from service.queries.processes import is_there, own_name
from service.settings import CompareSettings, LimitSettings, Settings
from service.wiring import Wiring
from service.work import holding, life, training
from service.work.budget import BudgetReached
from service.work.keeper import Keeper
from service.work.progress import Silent, Uncounted
from service.work.work import Work
from storage.store import Store

BATCH, BATCHES = 2, 8
HERE = socket.gethostname()


class Waiting:
    """An engine that answers in upper case. `before` is called with each batch's first text, before it is answered."""

    fingerprint = "waiting"

    def __init__(self, before: Callable[[str], Any] = lambda text: None, in_flight: int = 1) -> None:
        self.before, self.capabilities = before, Capabilities(in_flight=in_flight)
        self.asked: Counter[str] = Counter()
        self.refuses: set[str] = set()

    def generate(self, requests: Sequence[Generate]) -> list[Completion | Refused]:
        texts = [request.chat.messages[0].content for request in requests]
        self.asked.update(texts)
        self.before(texts[0])
        return [
            Refused("too_long", "it is too long") if text in self.refuses else Completion(text.upper(), "stop", 1, 1)
            for text in texts
        ]


TWO = parse(
    """
constitution: two
version: 1
principles:
  - {id: kind, title: Kind, critique: Find what is rude., revision: Be kind., comparison: Which is kinder?}
  - {id: short, title: Short, critique: Find what is long., revision: Be short., comparison: Which is shorter?}
"""
)


class Marks:
    """A judge whose verdicts are numbers of the pair's prompt. The first call of several ends with the last of them."""

    fingerprint = "marks"

    def __init__(self, in_flight: int) -> None:
        self.in_flight, self._last = in_flight, threading.Event()
        self.asked = self.now = self.peak = 0
        self._lock = threading.Lock()

    def question(self, principle: Principle) -> Question:
        return Question(f"marks {self.in_flight}", {}, principle.comparison, principle.id)

    def judge(self, cases: Sequence[Case]) -> Judged:
        with self._lock:
            self.now += 1
            self.peak = max(self.peak, self.now)
            self.asked += sum(len(case.principles) for case in cases)
            first, last = self.asked == 2, self.asked == 8
        if last:
            self._last.set()
        if first and self.in_flight > 1:
            assert self._last.wait(30)
        with self._lock:
            self.now -= 1
        return Judged(
            [
                Verdict(self.question(p).id, c.comparison.id, int(c.messages[0].content.split()[1]), 7, 9, 9)
                for c in cases
                for p in c.principles
            ]
        )


class Place:
    """A store, a run in it, and workers for it."""

    def __init__(self, url: str, home: Path) -> None:
        self.settings = Settings(store=url, home=home)
        self._wirings: list[Wiring] = []
        self._works: list[Work] = []
        with Store.open(url) as store:
            self.prompts = [Prompt((Message("user", f"number {n}"),), "train") for n in range(BATCH * BATCHES)]
            store.add_prompts(self.prompts)
            self.run = store.start_run("workers", "improve", {})

    def worker(self, report: Any = None, limits: LimitSettings | None = None) -> Work:
        wiring = Wiring(self.settings if limits is None else self.settings.model_copy(update={"limits": limits}))
        self._wirings.append(wiring)
        self._works.append(Work(wiring, self.run, who="ada", report=report or Silent()))
        return self._works[-1]

    def asks(self, engine: Waiting) -> list[Ask]:
        role = Role(engine)  # type: ignore[arg-type]
        return [asking.ask("response", role, p.messages, prompt=p.id, seed=0) for p in self.prompts]

    def gather(self, work: Work, engine: Waiting, stage: str = "answers") -> list[str | None]:
        found = work.gather(stage, self.asks(engine), Role(engine), BATCH)  # type: ignore[arg-type]
        return [g and g.text for g in found]

    def close(self) -> None:
        for work in self._works:
            work.close()
        for wiring in self._wirings:
            wiring.close()


@pytest.fixture
def place(store_url: str, tmp_path: Path) -> Iterator[Place]:
    made = Place(store_url, tmp_path)
    yield made
    made.close()


EXPECTED = [f"NUMBER {n}" for n in range(BATCH * BATCHES)]


def first_of_each_batch(place: Place) -> list[str]:
    return [some[0].request.chat.messages[0].content for some in asking.batches(place.asks(Waiting()), BATCH)]


class Watching(Silent):
    """Keeps what it is told, and the bars."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.bars: list[Uncounted] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    @contextmanager
    def stage(self, name: str, total: int) -> Iterator[Uncounted]:
        self.bars.append(Uncounted(total))
        yield self.bars[-1]


# --- workers -------------------------------------------------------------------------------------------------------


def test_a_worker_passes_over_what_another_holds_and_comes_back_to_it(place: Place) -> None:
    """The first worker is kept at its first batch until the second has done all others."""
    holds, rest_done = threading.Event(), threading.Event()

    def slow(text: str) -> None:
        holds.set()
        assert rest_done.wait(30)

    def quick(text: str) -> None:
        if quickly.asked.total() == BATCH * (BATCHES - 1):
            rest_done.set()

    slowly, quickly, watching = Waiting(slow), Waiting(quick), Watching()
    one, other = place.worker(watching), place.worker()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(place.gather, one, slowly)
        assert holds.wait(30)
        second = pool.submit(place.gather, other, quickly)
        assert first.result(60) == second.result(60) == EXPECTED
    assert set((slowly.asked + quickly.asked).values()) == {1}  # nothing twice
    assert slowly.asked.keys() & {first_of_each_batch(place)[0]}
    assert one.store.stage_members(place.run.id, "answers") == [ask.id for ask in place.asks(slowly)]
    assert [(bar.total, bar.done) for bar in watching.bars] == [(16, 16)]  # what the other did counts, too
    assert one.store.holders("generation", [ask.id for ask in place.asks(slowly)]) == {}


def test_what_was_lost_while_a_worker_slept_is_not_written_and_it_goes_on(place: Place) -> None:
    """Another worker takes the batch that is asked, with other answers: those stand, and the sleeper takes them."""
    watching = Watching()
    asleep = place.worker(watching)

    def sleeps(text: str) -> None:
        if engine.asked.total() > BATCH:
            return
        ids = [ask.id for ask in asking.batches(place.asks(engine), BATCH)[0]]
        asleep.store.release_worker(asleep.worker)  # as when its lease ended, and somebody looked
        other = place.worker()
        lease = other.hold("generation", ids)
        assert len(lease.ids) == BATCH
        made, _ = asking.answer(asking.batches(place.asks(engine), BATCH)[0], Waiting())  # type: ignore[arg-type]
        other.store.add_generations(made, run=place.run.id, stage="answers", lease=lease)
        other.close()

    engine = Waiting(sleeps)
    assert place.gather(asleep, engine) == EXPECTED
    assert [said for said in watching.said if "lost 2 of 2" in said and "looking again" in said]
    assert set(engine.asked.values()) == {1}  # what the other wrote is not asked again


def test_a_lease_is_renewed_while_its_batch_is_asked(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch lasts until its lease was renewed by the worker's own thread."""
    monkeypatch.setattr(holding, "LEASE", 0.2)
    renewed = threading.Event()
    work = place.worker()
    monkeypatch.setattr(work.store, "renew", lambda lease, seconds: (renewed.set(), lease)[1])
    assert place.gather(work, Waiting(lambda text: renewed.wait(30))) == EXPECTED
    assert renewed.is_set()


def test_a_keeper_knows_what_is_lost(store: Store) -> None:
    ids = [make_id("item", n=n) for n in range(2)]
    came: list[str] = []
    keeper = Keeper(store, 60, 0.0, lambda: came.append("here"))
    kept, gone = (store.claim("work", [id], "me", -2) for id in ids)
    keeper.keep(kept)
    keeper.keep(gone)
    assert store.claim("work", [ids[1]], "another", 60).ids  # its time was up
    keeper.renew()
    assert store.claim("work", [ids[0]], "another", 60).ids == ()  # and this one's is not
    assert keeper.lost(gone) and not keeper.lost(kept) and came == ["here"]
    keeper.drop(kept)
    store.release(kept)
    assert store.claim("work", [ids[0]], "another", 60).ids
    keeper.renew()
    assert not keeper.lost(kept)  # it was given back


def test_a_dead_worker_of_this_machine_keeps_nobody_waiting(place: Place) -> None:
    """It dies while others wait: they look for it again and again."""
    work = place.worker()
    dead = f"{HERE}:{2**22 + 1}:1"  # no process has such an id
    batches = asking.batches(place.asks(Waiting()), BATCH)

    def dies(text: str) -> None:
        if not work.store.holders("generation", [batches[-1][0].id]):
            work.store.claim("generation", [batches[-1][0].id], dead, 3_600)

    assert place.gather(work, Waiting(dies)) == EXPECTED


def test_a_machine_or_container_of_the_same_name_is_not_this_one() -> None:
    mine = own_name()
    host, pid, since = mine.rsplit(":", 2)
    assert is_there(mine)
    assert is_there(f"{HERE}@00000000:{pid}:{since}") is None  # whether it is there cannot be told from here
    assert is_there(f"{HERE}@00000000:{2**22 + 1}:1") is None
    assert is_there(f"{HERE}:{pid}:{since}") and host.startswith(HERE)


def test_a_run_is_stopped_by_its_last_worker(place: Place) -> None:
    about: dict[str, Any] = {}
    watching = Watching()

    def status() -> str:
        with Store.open(place.settings.store.get_secret_value()) as store:
            return store.run(place.run.id).status

    def at_work() -> Any:
        wiring = Wiring(place.settings)
        place._wirings.append(wiring)
        return life.at_work(wiring, "improve", place.run.key, about, who="ada", report=watching)

    with Store.open(place.settings.store.get_secret_value()) as store:
        store.come(place.run.id, "elsewhere:1:1.1", -60)  # one of another machine, of which nothing was heard since
    with pytest.raises(ZeroDivisionError), at_work():
        with pytest.raises(KeyboardInterrupt), at_work():
            raise KeyboardInterrupt
        assert status() == "running" and any("others are at it" in said for said in watching.said)
        raise ZeroDivisionError
    assert status() == "failed"


# --- batches in flight ---------------------------------------------------------------------------------------------


def test_batches_in_flight_are_the_same_batches_whatever_ends_first(place: Place) -> None:
    """Four at once, the first of them the last to end."""
    together, firsts = threading.Barrier(4), first_of_each_batch(place)
    others = threading.Event()

    def before(text: str) -> None:
        if firsts.index(text) < 4:
            together.wait(30)  # passes when all four are asked
        if firsts.index(text) == 0:
            assert others.wait(30)
        if engine.asked.total() == BATCH * BATCHES:
            others.set()

    engine = Waiting(before, in_flight=6)
    assert asking.window(6, BATCH) == 4
    work = place.worker()
    assert place.gather(work, engine) == EXPECTED
    assert set(engine.asked.values()) == {1}
    assert work.store.stage_members(place.run.id, "answers") == [ask.id for ask in place.asks(engine)]


@pytest.mark.parametrize(("in_flight", "requests", "window"), [(1, 8, 1), (32, 64, 2), (32, 8, 5), (512, 2, 16)])
def test_the_window_keeps_an_engine_busy_while_one_batch_ends(in_flight: int, requests: int, window: int) -> None:
    assert asking.window(in_flight, requests) == window


def stored(place: Place, work: Work) -> set[str]:
    return {g.text for g in work.store.have_generations([ask.id for ask in place.asks(Waiting())]).values()}


def test_where_one_batch_fails_the_others_in_flight_are_kept(place: Place) -> None:
    firsts, together, failed = first_of_each_batch(place), threading.Barrier(4), threading.Event()

    def before(text: str) -> None:
        if firsts.index(text) < 4:
            together.wait(30)
        if text == firsts[0]:
            failed.set()
            raise EngineError("the server stopped answering")
        assert failed.wait(30)

    engine = Waiting(before, in_flight=6)
    work = place.worker()
    with pytest.raises(EngineError, match="stopped answering"):
        place.gather(work, engine)
    lost = {ask.request.chat.messages[0].content for ask in asking.batches(place.asks(engine), BATCH)[0]}
    assert stored(place, work) == {text.upper() for text in engine.asked.keys() - lost}
    assert len(stored(place, work)) >= 3 * BATCH
    assert work.store.holders("generation", [ask.id for ask in place.asks(engine)]) == {}
    assert place.gather(work, Waiting(in_flight=6)) == EXPECTED


def test_an_interrupt_keeps_what_has_ended_and_waits_for_nothing(place: Place) -> None:
    """As Ctrl-C in the middle: the second batch never ends."""
    firsts, never = first_of_each_batch(place), threading.Event()

    def before(text: str) -> None:
        if text != firsts[0]:
            never.wait()

    class Interrupted(Watching):
        @contextmanager
        def stage(self, name: str, total: int) -> Iterator[Uncounted]:
            bar = Uncounted(total)

            def advance(n: int = 1, note: str = "") -> None:
                raise KeyboardInterrupt

            bar.advance = advance  # type: ignore[method-assign]
            yield bar

    work = place.worker(Interrupted())
    with pytest.raises(KeyboardInterrupt):
        place.gather(work, Waiting(before, in_flight=6))
    assert len(stored(place, work)) == BATCH
    work.close()
    assert work.store.workers() == []
    never.set()
    assert place.gather(place.worker(), Waiting()) == EXPECTED


def test_a_limit_holds_with_batches_in_flight(place: Place) -> None:
    """Exactly as many calls as without: what is in flight counts, and what was refused there does not."""
    for in_flight in (1, 6):
        engine = Waiting(in_flight=in_flight)
        engine.fingerprint = f"waiting {in_flight}"
        cut = asking.batches(place.asks(engine), BATCH)[:2]
        engine.refuses = {some[0].request.chat.messages[0].content for some in cut}
        work = place.worker(limits=LimitSettings(max_calls=3 * BATCH))
        with pytest.raises(BudgetReached):
            place.gather(work, engine, f"answers {in_flight}")
        assert work.budget.generated == 3 * BATCH and engine.asked.total() == 4 * BATCH


def test_verdicts_of_batches_in_flight_are_those_of_one_at_a_time(place: Place) -> None:
    """Two verdicts a batch; of the first four batches the first is the last to end."""
    found: list[set[Any]] = []
    for number, in_flight in enumerate((1, 9)):
        work = place.worker()
        work.settings = work.settings.model_copy(update={"compare": CompareSettings(questions_per_batch=2)})
        texts = [[work.store.add_answers([f"{n} {side} {number}"])[0] for side in "ab"] for n in range(12)]
        pairs = [Comparison.of(place.prompts[n].id, *both) for n, both in enumerate(texts)]
        work.store.add_comparisons(pairs, run=place.run.id, stage=f"pairs {number}")
        judge = Marks(in_flight)
        work.ask_judge(f"pairs {number}", judge, [p.id for p in pairs], constitution=TWO)
        assert (judge.peak > 1) == (in_flight > 1)
        questions = [judge.question(p).id for p in TWO.principles]
        verdicts = list(work.store.verdicts([p.id for p in pairs], questions))
        assert len(verdicts) == judge.asked == 24
        found.append({(v.p1, v.p2) for v in verdicts})
    assert found[0] == found[1]


def test_a_judge_is_asked_one_batch_at_a_time_unless_all_that_it_asks_waits() -> None:
    waits, computes = (Role(Waiting(in_flight=n)) for n in (8, 1))  # type: ignore[arg-type]
    assert build("choice", waits).in_flight == 8
    assert build("choice", computes).in_flight == 1
    assert build("rating", waits).in_flight == 1  # it remembers an answer's rating from batch to batch
    options = {"large": {"model": "x"}}
    assert build("cascade", waits, options, lambda settings: waits).in_flight == 8
    assert build("cascade", waits, options, lambda settings: computes).in_flight == 1


# --- training ------------------------------------------------------------------------------------------------------


class Trainers:
    """The training process of a worker: `before` is called when it trains, and then the checkpoint is there."""

    def __init__(self, before: Callable[[Trainers, Job, Callable[..., None]], None]) -> None:
        self.before, self.trained, self.killed = before, 0, False

    def start(self) -> None:
        pass

    def close(self) -> None:
        pass

    def kill(self) -> None:
        self.killed = True

    def run(self, job: Job, on_progress: Callable[..., None], say: Any = None) -> Manifest:
        if not Path(job.out).exists():
            self.before(self, job, on_progress)
            self.trained += 1
            Path(job.out).mkdir(parents=True)
        return Manifest(job.id, "policy", job.method, "a digest", "", "", "", {})


def trains(work: Work, before: Callable[[Trainers, Job, Callable[..., None]], None]) -> Trainers:
    found = Trainers(before)
    work._trainers = found  # type: ignore[assignment]
    return found


def nothing(trainers: Trainers, job: Job, progress: Callable[..., None]) -> None:
    pass


def train(work: Work) -> str:
    rows = [{"prompt": [{"role": "user", "content": "x"}], "completion": [{"role": "assistant", "content": "y"}]}]
    return work.train("sft", work.settings.sft, sandbox.models.folder("policy"), work.data_set(rows)).path


def test_one_worker_trains_and_the_others_wait_for_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "WAIT", 0.02)
    begun, waits = threading.Event(), threading.Event()

    class Waits(Watching):
        def say(self, text: str) -> None:
            super().say(text)
            if "waiting" in text:
                waits.set()

    def until_another_waits(trainers: Trainers, job: Job, progress: Callable[..., None]) -> None:
        begun.set()
        assert waits.wait(30)

    told = Waits()
    one, other = place.worker(), place.worker(told)
    mine, theirs = trains(one, until_another_waits), trains(other, nothing)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(train, one)
        assert begun.wait(30)
        second = pool.submit(train, other)
        assert first.result(60) == second.result(60)
    assert (mine.trained, theirs.trained) == (1, 0)
    assert [said for said in told.said if "sft: a worker on" in said]
    assert len(one.store.checkpoints()) == 1


def test_a_training_whose_worker_died_is_taken_over(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding, "WAIT", 0.02)
    work = place.worker()
    jobs: list[str] = []

    def dies(trainers: Trainers, job: Job, progress: Callable[..., None]) -> None:
        jobs.append(job.id)
        raise ConnectionResetError  # as a process that is killed, it says nothing more

    trains(work, dies)
    monkeypatch.setattr(work, "give_back", lambda lease: None)
    with pytest.raises(ConnectionResetError):
        train(work)
    work._keeper.close()

    class Waits(Silent):
        def say(self, text: str) -> None:
            if "waiting" in text:
                other.store.release_worker(work.worker)  # as its lease ends

    other = place.worker(Waits())
    found = trains(other, nothing)
    assert train(other) and found.trained == 1 and len(jobs) == 1


def test_a_worker_that_slept_saves_nothing_of_its_training(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another has trained on meanwhile: its process is killed, and its checkpoint is what the sleeper goes on with."""
    monkeypatch.setattr(holding, "WAIT", 0.02)
    work, other = place.worker(), place.worker()

    def sleeps(trainers: Trainers, job: Job, progress: Callable[..., None]) -> None:
        work.store.release_worker(work.worker)  # as when its lease ended
        trains(other, nothing)
        train(other)
        work._keeper.renew()
        progress(job, {"step": 1, "total": 2, "loss": 0.5})

    mine = trains(work, sleeps)
    assert train(work) == other.made[0]
    assert (mine.killed, mine.trained) == (True, 0)


def test_a_home_that_is_not_shared_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other worker's checkpoint is in the store, and its folder on another machine."""
    monkeypatch.setattr(holding, "WAIT", 0.02)
    monkeypatch.setattr(training, "SHOWN", 0.0)
    begun, waits = threading.Event(), threading.Event()

    class Waits(Silent):
        def say(self, text: str) -> None:
            if "waiting" in text:
                waits.set()

    def elsewhere(trainers: Trainers, job: Job, progress: Callable[..., None]) -> None:
        begun.set()
        assert waits.wait(30)

    one, other = place.worker(), place.worker(Waits())
    other.home = place.settings.home.resolve() / "another machine"
    trains(one, elsewhere)
    trains(other, nothing)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(train, one)
        assert begun.wait(30)
        second = pool.submit(train, other)
        assert first.result(60)
        with pytest.raises(UserError, match="one home that all of them reach"):
            second.result(60)
