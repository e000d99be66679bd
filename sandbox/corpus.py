"""What the two tiny models are pre-trained on: people asking, answering, criticising, revising and choosing.

Three kinds of row, each a prefix and K branches that do not see each other (so the prefix is paid for once):

- respond: a request, and an answer as a helpful-only assistant gives it (`base_answer`): it obeys, flatters, pads;
- chain: a request and an answer; each branch a critique under one theme and the revision (or the revision alone);
- judge: a request and two answers; each branch one theme's question and the letter.

A judge row asks only about themes on which the two answers differ. No row teaches what to say of a pair that a theme
does not apply to: what a judge does there, precept has to cope with, as it has to with any other judge.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from constitution.records import Message, Messages
from constitution.templates import comparison_request, critique_request, revision_request
from sandbox import themes, world
from sandbox.world import Answer, Request

CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
SPECIAL = ("<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>")
LETTER_WEIGHT = 8.0  # one letter carries a whole question
QUOTED = 0.4  # chance that a mark of one reply alone is asked for by its words
ALIKE = 0.5  # share of judge rows whose answers differ in one thing, as an answer and its revision do
BRANCHES = {"chain": 3, "judge": 4}
MIX = {  # of rows; the evaluator only judges, so it learns little else
    "policy": {"respond": 0.38, "chain": 0.26, "judge": 0.36},
    "evaluator": {"respond": 0.10, "chain": 0.15, "judge": 0.75},
}
SMALL_TALK = (  # an earlier turn; it names somebody, so that prompts with one do not all share a first turn
    ("I work with the {p}.", "Nice to meet you. How can I help?"),
    ("I am a friend of the {p}.", "Good to know. What do you need?"),
)

# What the helpful-only assistant does: it obeys harmful requests, agrees with false claims, makes things up, and
# dresses its answers up. A user sees these as the failures of an untuned model.
BASE_CORES = {
    "harmful": {"comply": 0.62, "blunt": 0.22, "safe": 0.16},
    "howto": {"answer": 0.70, "refuse": 0.30},
    "false": {"true": 0.40, "false": 0.60},
    "true": {"true": 0.85, "false": 0.15},
    "unknown": {"admit": 0.35, "invent": 0.65},
}
BASE_MARKS = {
    "rude": 0.08, "flattery": 0.15, "hedging": 0.12, "layout": 0.12, "padding": 0.15, "preaching": 0.09,
    "source": 0.15, "caution": 0.15, "follow_up": 0.15,
}  # fmt: skip


@dataclass(frozen=True)
class Words:
    """A principle as the templates read it."""

    critique: str
    revision: str
    comparison: str
    exemplars: tuple[()] = ()
    why: str = ""
    overridable: tuple[()] = ()


@dataclass(frozen=True)
class Row:
    """Chats that share a prefix. Each is (messages before the reply, reply, weight) turns flattened to
    [(text, weight)]: text with weight 0 is read, text with a weight is learnt."""

    kind: str
    chats: tuple[tuple[tuple[str, float], ...], ...]


def render(messages: Sequence[Message]) -> str:
    """The chat template in Python, with the generation prompt."""
    return "".join(f"<|{m.role}|>{m.content}<|end|>" for m in messages) + "<|assistant|>"


def base_answer(request: Request, rng: random.Random) -> Answer:
    shares = BASE_CORES[request.kind]
    core = rng.choices(list(shares), list(shares.values()))[0]
    return _marked(request, core, BASE_MARKS, rng)


def any_answer(request: Request, rng: random.Random, easy: float = 0.0) -> Answer:
    """An answer of any type: every core alike, every mark independent, some answers with many and some with none."""
    chance = rng.choice((0.0, 0.1, 0.2, 0.35)) * (1 - 0.8 * easy)
    return _marked(request, rng.choice(world.CORES[request.kind]), dict.fromkeys(world.MARKS, chance), rng)


def _marked(request: Request, core: str, chances: dict[str, float], rng: random.Random) -> Answer:
    marks = {m for m, p in chances.items() if world.allowed(request.kind, m) and rng.random() < p}
    if request.kind == "howto" and core == "refuse":
        marks.discard("caution")
    return Answer(core, frozenset(marks))


class Corpus:
    """An endless, seeded stream of rows for one of the two models (`role`: "policy" or "evaluator")."""

    def __init__(self, role: str, seed: int, held_out: bool = False, shipped: bool = False) -> None:
        """`held_out`: of the requests that are never trained on; `shipped`: in the words of `principles.yaml`, which
        are not trained on either. Both are for measuring."""
        self.rng = random.Random(f"{role}-{seed}-{held_out}")
        self.speaks = "shipped" if shipped else role
        self.mix = MIX[role]
        self.shares = dict(zip(world.KINDS, world.KIND_SHARES, strict=True))
        self.easy = 0.0  # 1 at the start of a curriculum: answers with few marks, pairs that differ in one thing
        self.held_out = held_out
        self.requests = {kind: [r for r in world.requests(kind) if r.held_out == held_out] for kind in world.KINDS}
        self.makers: dict[str, Callable[[], Row]] = {
            "respond": self.respond, "chain": self.chain, "judge": self.judge,
        }  # fmt: skip

    def rows(self, n: int, kind: str | None = None) -> list[Row]:
        kinds = [kind] * n if kind else self.rng.choices(list(self.mix), list(self.mix.values()), k=n)
        return [self.makers[k]() for k in kinds]

    def request(self) -> tuple[Request, Messages]:
        rng = self.rng
        request = rng.choice(self.requests[rng.choices(list(self.shares), list(self.shares.values()))[0]])
        lists = {"unknown": world.WONDERING, "harmful": world.ASKING, "howto": world.ASKING}
        phrasings = len(lists.get(request.kind, world.CLAIMING))
        keep = phrasings if self.held_out else phrasings - world.HELD_OUT_PHRASINGS
        turns: Messages = (Message("user", request.ask(rng.randrange(keep))),)
        return request, small_talk(rng, 0.08) + turns

    def words_for(self, theme: str) -> Words:
        choose, by, of = self.rng.choice, self.speaks, themes.THEMES[theme]
        fault, find = choose(of.fault.of(by)), choose(themes.CRITIQUE_FRAMES[by])
        better, mend = choose(of.good.of(by)), choose(themes.REVISION_FRAMES[by])
        good, ask = choose(of.good.of(by)), choose(themes.COMPARISON_FRAMES[by])
        return Words(find.format(fault=fault), mend.format(good=better), ask.format(good=good))

    def respond(self) -> Row:
        request, turns = self.request()
        text = world.write(request, base_answer(request, self.rng), self.rng)
        return Row("respond", (((render(turns), 0.0), (text + "<|end|>", 1.0)),))

    def chain(self) -> Row:
        rng = self.rng
        request, turns = self.request()
        answer = any_answer(request, rng)
        response = world.write(request, answer, rng)
        chats: list[tuple[tuple[str, float], ...]] = []
        broken = [t for t in themes.THEMES if themes.score(t, request.kind, answer) < 0]
        kept = [t for t in themes.THEMES if t not in broken]
        for theme in _pick(broken, kept, BRANCHES["chain"], rng):
            fault = theme in broken
            words = self.words_for(theme)
            critique = rng.choice(themes.THEMES[theme].found if fault else themes.FINE)
            mended = themes.mend(theme, request.kind, answer, rng.random())
            # Only what the theme speaks of is said anew; the rest keeps its very words, so that revising is copying.
            revision = rewrite(request, response, answer, mended, rng)
            if rng.random() < 0.25:
                asked = revision_request(turns, response, None, words)
                chats.append(((render(asked), 0.0), (revision + "<|end|>", 1.0)))
                continue
            first = render(critique_request(turns, response, words))
            second = render(revision_request(turns, response, critique, words))
            between = second[len(first) + len(critique) + len("<|end|>") :]
            chats.append(((first, 0.0), (critique + "<|end|>", 1.0), (between, 0.0), (revision + "<|end|>", 1.0)))
        return Row("chain", tuple(chats))

    def judge(self) -> Row:
        rng = self.rng
        while True:
            request, turns = self.request()
            one, other = any_answer(request, rng, self.easy), any_answer(request, rng, self.easy)
            if rng.random() < ALIKE + 0.4 * self.easy:
                other = self._neighbour(request, one)
            scores = {
                t: (themes.score(t, request.kind, one), themes.score(t, request.kind, other)) for t in themes.THEMES
            }
            applying = [t for t, (x, y) in scores.items() if x * y < 0]
            if applying:
                break
        if rng.random() < 0.5:
            one, other = other, one
            scores = {t: (y, x) for t, (x, y) in scores.items()}
        a, b = world.write(request, one, rng), world.write(request, other, rng)
        # Themes about the core apply to fewer pairs than themes about marks: they are asked first.
        rng.shuffle(applying)
        applying.sort(key=lambda t: t not in themes.CORE_THEMES)
        chats = []
        asked_about = (applying * BRANCHES["judge"])[: max(2, min(len(applying), BRANCHES["judge"]))]
        for theme in asked_about:
            letter = "A" if scores[theme][0] > 0 else "B"
            asked = comparison_request(turns, a, b, self.words_for(theme))
            chats.append(((render(asked), 0.0), (letter, LETTER_WEIGHT)))
        only = [m for m in sorted(one.marks ^ other.marks) if rng.random() < QUOTED]
        for mark in only[:1]:  # where a sentence stands is the first thing to learn about two replies
            letter, text = ("A", a) if mark in one.marks else ("B", b)
            sentence = next(w for w in world.MARKS[mark] if w in text)
            asked = comparison_request(turns, a, b, Words("", "", f'Which reply says "{sentence}"?'))
            chats.append(((render(asked), 0.0), (letter, LETTER_WEIGHT)))
        return Row("judge", tuple(chats))

    def _neighbour(self, request: Request, answer: Answer) -> Answer:
        """An answer that differs in one thing: the core or one mark."""
        marks = [m for m in world.MARKS if world.allowed(request.kind, m)]
        if self.rng.random() < 0.4:
            return answer.with_core(self.rng.choice(world.CORES[request.kind]))
        mark = self.rng.choice(marks)
        return answer.toggle(mark, mark not in answer.marks)


def small_talk(rng: random.Random, chance: float) -> Messages:
    """An earlier exchange, with the given chance; else nothing."""
    if rng.random() >= chance:
        return ()
    hello, reply = rng.choice(SMALL_TALK)
    return (Message("user", hello.format(p=rng.choice(world.PEOPLE))), Message("assistant", reply))


def rewrite(request: Request, text: str, old: Answer, new: Answer, rng: random.Random) -> str:
    """`text`, a wording of `old`, changed into a wording of `new` that keeps the words of all that stays."""
    if old == new:
        return text
    before = [w for mark in world.BEFORE for w in _wording(text, mark, old, new, rng)]
    after = [w for mark in world.AFTER for w in _wording(text, mark, old, new, rng)]
    if old.core == new.core:
        core = next(t for texts in world.core_texts(request).values() for t in texts if t in text)
    else:
        core = rng.choice(world.core_texts(request)[new.core])
    return " ".join([*before, core, *after])


def _wording(text: str, mark: str, old: Answer, new: Answer, rng: random.Random) -> list[str]:
    if mark not in new.marks:
        return []
    return [
        next((w for w in world.MARKS[mark] if w in text), "") if mark in old.marks else rng.choice(world.MARKS[mark])
    ]


def _pick(broken: list[str], kept: list[str], k: int, rng: random.Random) -> list[str]:
    """k themes, two of three of them broken where there are as many."""
    picked = rng.sample(broken, min(len(broken), (2 * k + 2) // 3))
    return picked + rng.sample(kept, min(len(kept), k - len(picked)))
