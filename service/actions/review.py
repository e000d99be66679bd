"""Review: a person says which of two answers is better, blind to what the judge said.

A pair that is shown is held for its reviewer, so that no two people are at work on the same one; the same reviewer in
a second window, or after a reload, is shown the pair that they hold. An answer is on disk when `answer` returns. The
caller chooses its key: the same key again is the same answer, however often a browser sends it.

Each reviewer sees the two answers on sides of their own. What a pair's page hands back is the token of its `Item`: it
says which pair was shown to whom, by which draw, under which hold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, get_args
from urllib.parse import quote

from constitution.errors import UserError
from constitution.records import Id, SpotCheck
from pipeline.review import shows_first_left
from service.actions.review_desk import Desk, Done
from service.actions.review_records import Answered, Choice, Held, Item, Progress, answered_of, item_of, mark, side
from service.queries import judged
from service.queries.judged import Judged
from storage.claims import REVIEW, Lease, StaleLease
from storage.store import Store

T = TypeVar("T")

HELD_SECONDS = 15 * 60  # from when the pair is shown, or from `keep`
LONGEST = 100_000  # characters of a reason or a rewrite


def next_item(
    store: Store,
    run: str | Judged,
    who: str,
    sample: str = "random",
    seed: int = 0,
    *,
    asked: str = "",
    desk: Desk | None = None,
) -> Item | None:
    """The next pair for a reviewer, which they now hold; None where all are answered, or held by others.

    `run`: its first digits, "" for the newest that judged anything, or what `judged.newest` found. `asked`: the one
    principle that is asked about. `desk`: what the caller keeps between two calls; none: all is read. Raises UserError
    for a run without labels, an unknown `sample` and an unknown principle.
    """
    desk = desk or Desk(store)
    about = _about(store, run)
    ids, done = _queue(desk, about, _named(who), sample, seed, asked)
    waiting = [id for id in ids if id not in done.answered]
    held, ours = store.holding(REVIEW), mark(sample, asked)
    mine = [id for id in waiting if id in held and held[id][0] == who and held[id][1].endswith(ours)]
    free = (id for id in waiting if id not in held or held[id][0] == who)
    for id in (*mine, *free):
        lease = store.claim(REVIEW, [id], who, HELD_SECONDS, again=True, mark=ours)
        if lease.ids and not store.answered(who, [id], asked=asked):  # it may just have been, in another window
            return item_of(about, lease, sample, len(ids) - len(waiting), len(waiting), asked)
        store.release(lease)
    return None


def left(
    store: Store,
    run: str | Judged,
    who: str,
    sample: str = "random",
    seed: int = 0,
    *,
    asked: str = "",
    desk: Desk | None = None,
) -> int:
    """How many pairs of the queue a reviewer has not answered; some may be held by others."""
    return progress(store, run, who, sample, seed, asked=asked, desk=desk).left


def progress(
    store: Store,
    run: str | Judged,
    who: str,
    sample: str = "random",
    seed: int = 0,
    *,
    asked: str = "",
    desk: Desk | None = None,
) -> Progress:
    """How far a reviewer is in a queue, and how long they were at it today."""
    ids, done = _queue(desk or Desk(store), _about(store, run), _named(who), sample, seed, asked)
    left = sum(id not in done.answered for id in ids)
    return Progress(len(ids) - left, left, len(done.times), round(done.seconds))


def answer(
    store: Store,
    who: str,
    token: str,
    key: str,
    choice: str,
    reason: str = "",
    *,
    principle: str = "",
    rewrite: str = "",
    run: str | Judged = "",
) -> Answered:
    """Keep what a reviewer says of the pair that they were shown. It is on disk when this returns.

    `principle`: the one of `run` that decided. `rewrite`: what they would have answered. The same `key` again, from the
    same person, returns the first answer. Raises UserError where the key was used for another answer, and where the
    pair is no longer theirs: it went to somebody else, was answered or given back.
    """
    held = Held.of(token, who)
    if choice not in get_args(Choice):
        raise UserError(f"an answer is one of {', '.join(get_args(Choice))}, not {choice!r}")
    if not key.strip():
        raise UserError("an answer needs a key of its own, so that it is kept once if it is sent twice")

    if len(reason) > LONGEST or len(rewrite) > LONGEST:
        raise UserError(f"a reason, or a rewrite, has at most {LONGEST:,} characters; shorten it")
    if principle and principle not in _about(store, run).constitution.weights():
        raise UserError(f"the run's constitution has no principle {principle!r}; name one of those that are shown")
    name = f"review:{quote(who, safe='')}:{key}"

    def keep_under(lease: Lease) -> SpotCheck:
        return store.add_spot_check(
            who, held.comparison, side(who, held.comparison, choice), reason=reason, sampled_by=held.sample, key=name,
            lease=lease, principle=principle, rewrite=rewrite.strip(), asked=held.asked,
        )  # fmt: skip

    try:
        return answered_of(_under(store, held, keep_under))
    except UserError:
        before = store.event(key=name)
        if before is None or before.who != who:
            raise
        raise UserError(
            "this form was sent before, with another answer: what was kept first stays, and nothing more was stored. "
            "Undo takes an answer back"
        ) from None


def keep(store: Store, who: str, token: str) -> None:
    """Hold a pair for a while longer. Raises UserError where it is no longer the reviewer's."""
    _under(store, Held.of(token, who), lambda lease: store.renew(lease, HELD_SECONDS))


def release(store: Store, who: str, token: str) -> None:
    """Give a pair back unanswered; nothing happens where it is held in another window, or not at all."""
    store.release(Held.of(token, who).lease)


def undo(
    store: Store, run: str | Judged, who: str, key: str, *, asked: str = "", desk: Desk | None = None
) -> Item | None:
    """Take back a reviewer's last answer about a run, and show that pair again; once more, the one before it.

    `asked`: of the answers about this principle alone. The history keeps both. The same `key` again takes nothing more
    back. None where somebody else is at that pair now: it comes back in its turn. Raises UserError where there is
    nothing to take back.
    """
    about, key = _about(store, run), f"undo:{_named(who)}:{key}"
    check = _taken_back(store, key)
    if check is None:
        mine = store.spot_checks(run=about.run.id, stages=about.stages, reviewer=who, asked=asked)
        if not mine:
            raise UserError(f"{who} has no answer about run {about.run.id.hex()[:12]} to undo")
        check = max(mine, key=lambda c: c.event)
        try:
            store.undo_spot_check(who, check.event, key)
        except UserError:  # the same click at the same moment may have been first
            check = _taken_back(store, key)
            if check is None:
                raise
    return _again(desk or Desk(store), about, who, check)


def undone(store: Store, run: str | Judged, who: str, key: str, *, desk: Desk | None = None) -> Item | None:
    """The pair whose answer the undo of this key took back, which they now hold again; None where nothing was taken
    back under it, the pair was answered since, or somebody else is at it."""
    check = _taken_back(store, f"undo:{_named(who)}:{key}")
    return (
        None if check is None or check.reviewer != who else _again(desk or Desk(store), _about(store, run), who, check)
    )


def _again(desk: Desk, about: Judged, who: str, check: SpotCheck) -> Item | None:
    store, id = desk.store, check.comparison
    if store.answered(who, [id], asked=check.asked):  # an old click that is sent again: it was answered anew since
        return None
    lease = store.claim(REVIEW, [id], who, HELD_SECONDS, again=True, mark=mark(check.sampled_by, check.asked))
    if not lease.ids:
        return None
    ids, done = _queue(desk, about, who, check.sampled_by, 0, check.asked)
    waiting = sum(id not in done.answered for id in ids)
    return item_of(about, lease, check.sampled_by, len(ids) - waiting, waiting, check.asked)


def texts(store: Store, who: str, token: str) -> tuple[str, str]:
    """The answers A and B of the pair that a reviewer was shown, on the sides that they saw."""
    held = Held.of(token, who)
    (pair,) = store.pairs([held.comparison])
    return (pair.first, pair.second) if shows_first_left(who, held.comparison) else (pair.second, pair.first)


def answers(store: Store, run: str | Judged, who: str, most: int = 50) -> list[Answered]:
    """A reviewer's own standing answers about a run, the last first."""
    about = _about(store, run)
    mine = store.spot_checks(run=about.run.id, stages=about.stages, reviewer=_named(who))
    return [answered_of(check) for check in sorted(mine, key=lambda c: c.event, reverse=True)[:most]]


def judge_says(store: Store, run: str | Judged, who: str, comparison: str) -> str:
    """What the judge's label says of a pair that `who` has answered, by the sides that they saw: `a`, `b`, `tied` or
    `unreadable`. Raises UserError before they have: it would no longer be blind."""
    about, id = _about(store, run), bytes.fromhex(comparison)
    if not store.answered(_named(who), [id]):
        raise UserError("what the judge said is shown after your answer")
    label = about.labels([id])[id]
    if label.preferred_first is None:
        return label.state
    return "a" if label.preferred_first == shows_first_left(who, id) else "b"


def _under(store: Store, held: Held, work: Callable[[Lease], T]) -> T:
    """Do something under a hold. One that the same reviewer took over in another window is theirs as much."""
    lease = held.lease
    try:
        return work(lease)
    except StaleLease:
        if store.holders(REVIEW, lease.ids).get(held.comparison) == lease.worker:
            now = store.claim(REVIEW, lease.ids, lease.worker, HELD_SECONDS, again=True)
            if now.ids:
                return work(now)
    raise UserError(
        "this pair is no longer yours: it was answered, given back, or shown to somebody else after "
        f"{HELD_SECONDS // 60} minutes; nothing was stored. Ask for the next pair"
    )


# --- records -------------------------------------------------------------------------------------------------------


def _about(store: Store, run: str | Judged) -> Judged:
    return run if isinstance(run, Judged) else judged.newest(store, run)


def _named(who: str) -> str:
    if not who.strip():
        raise UserError("say who reviews: answers are kept by name")
    return who


def _queue(desk: Desk, about: Judged, who: str, sample: str, seed: int, asked: str) -> tuple[list[Id], Done]:
    """A reviewer's queue, and what they have answered of the run."""
    if asked and asked not in about.constitution.weights():
        raise UserError(f"the run's constitution has no principle {asked!r}; `precept constitution show` lists all")
    return desk.order(about, who, sample, seed), desk.done(about, who, asked)


def _taken_back(store: Store, key: str) -> SpotCheck | None:
    """The answer that an undo of this key took back."""
    undone = store.event(key=key)
    return None if undone is None else store.spot_check(undone.payload["event"])
