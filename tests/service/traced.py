"""A store written by hand, in which every link of a lineage is known: two amendments, a run of the loop under the
first, a retrain under the second that keeps its comparisons, and a run under a draft that nobody ratified.

`feedback` compares samples of the SFT model to three prompts: its label is decided, tied and unreadable. The policy's
answer to the first prompt was criticised and revised under `kind`, and the revision judged better. A fourth prompt is
held out: on it the policies before and after were compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from constitution import loading
from constitution.records import (
    Checkpoint,
    Comparison,
    Event,
    Generation,
    GenerationKind,
    Id,
    Message,
    Prompt,
    Question,
    Verdict,
    make_id,
)
from storage.amendments import Amendment
from storage.runs import Run
from storage.store import Store

HOSTILE = "<script>alert(1)</script> $x_1$ \x1b[31mred \u202eevil & ]]> {{ 7 * 7 }}"
SHOWN = "<script>alert(1)</script> $x_1$ <U+001B>[31mred <U+202E>evil & ]]> {{ 7 * 7 }}"
HEAD = "constitution: two\nversion: 1\nprinciples:\n"
KIND = "  - {id: kind, title: Be kind, critique: Rude?, revision: Be kind., comparison: Which is kinder?, weight: 3}\n"
SHORT = "  - {id: short, title: Be short, critique: Is it long?, revision: Be short., comparison: Which is shorter?}\n"
KINDER = KIND.replace("Which is kinder?", "Which is the kindest?").replace("Be kind,", "<b>Be very kind $x$,")
CALM = "  - {id: calm, title: Be calm, critique: Is it loud?, revision: Be calm., comparison: Which is calmer?}\n"
FIRST, SECOND, DRAFT = HEAD + KIND + SHORT, HEAD + KINDER + SHORT + CALM, HEAD + KINDER + CALM
SETTINGS = {
    "sft": {"method": "sft"}, "reward": {"method": "reward"}, "optimise": {"method": "dpo"},
    "policy": {"model": "base-model"}, "judge": {"model": "judge-model"}, "evaluator": {"model": "other-model"},
    "label": {"min_mass": 0.5, "min_margin": 0.5, "max_unreadable": 0.5},
}  # fmt: skip
CLEAR, EVEN, UNREADABLE = (0.9, 1.0), (0.5, 1.0), (0.5, 0.0)  # probability of the first answer, and mass


@dataclass
class Traced:
    store: Store
    loop: Run
    retrain: Run
    draft: Run
    checkpoints: dict[str, Checkpoint]  # sft, reward and dpo of the loop; retrained; drafted
    prompts: list[Prompt]
    comparisons: list[Id]  # one a prompt, and at last the answer against its revision
    texts: dict[str, Generation]  # answer, critique, revision; sample 00 to 21
    questions: dict[str, Question]  # by principle and number of the amendment: kind1, kind2, short1, calm2
    promotion: Event


def build(store: Store) -> Traced:
    questions = {
        f"{p.id}{number}": Question("judge-fingerprint", {}, p.comparison, p.id)
        for number, text in ((1, FIRST), (2, SECOND))
        for p in loading.parse(text)
    }
    _ratify(store, FIRST, "ada", "to begin with")
    loop = _start(store, "improve", FIRST)
    said = [f"Ask {number} {HOSTILE}" for number in range(4)]
    prompts = [Prompt((Message("user", s),), "heldout" if n == 3 else "train", "made") for n, s in enumerate(said)]
    store.add_prompts(prompts)
    texts, comparisons = _texts(store, loop, prompts)
    kind, short = questions["kind1"], questions["short1"]
    three = [CLEAR, EVEN, UNREADABLE]
    _judge(store, loop, FIRST, "feedback", comparisons[:3], [(kind, three), (short, [EVEN] * 3)])
    _judge(store, loop, FIRST, "revisions.judged", comparisons[4:], [(kind, [CLEAR]), (short, [EVEN])])
    made = _loop_checkpoints(store, loop)
    _measure(store, loop, made["dpo"], promoted=True)
    promotion = store.promote(made["dpo"], "the gate", "it passed", f"run:{loop.id.hex()}")

    _ratify(store, SECOND, "bob", f"kinder {HOSTILE}")
    retrain = _start(store, "retrain", SECOND, base=loop.id.hex())
    store.add_members(retrain.id, "feedback", comparisons[:3])
    new = [(questions[name], [EVEN] * 3) for name in ("kind2", "calm2")]
    _judge(store, retrain, SECOND, "feedback", comparisons[:3], [*new, (short, [])])
    made["retrained"] = _checkpoint(store, retrain, "dpo", "kinder", made["sft"].digest, "kinder rows")
    _measure(store, retrain, made["retrained"], promoted=False)

    draft = _start(store, "improve", DRAFT)
    store.add_members(draft.id, "feedback", comparisons[:1])
    _judge(store, draft, DRAFT, "feedback", comparisons[:1], [(questions["kind2"], [])])
    made["drafted"] = _checkpoint(store, draft, "dpo", "drafted", "digest of another model", "drafted rows")
    return Traced(store, loop, retrain, draft, made, prompts, comparisons, texts, questions, promotion)


def _ratify(store: Store, text: str, who: str, why: str) -> Amendment:
    store.ratify(loading.parse(text).version, who, why, f"by {who}", text=text)
    amendment = store.ratified()
    assert amendment is not None
    return amendment


def _start(store: Store, kind: str, text: str, **more: str) -> Run:
    version = loading.parse(text).version
    store.put_constitution(version, text)
    return store.start_run(f"{kind} {version}", kind, {"settings": SETTINGS, "policy": "/models/base", **more}, version)


def _texts(store: Store, run: Run, prompts: list[Prompt]) -> tuple[dict[str, Generation], list[Id]]:
    """Answers of the policy, of the SFT model and of the last one, and their comparisons, as the loop makes them."""
    texts: dict[str, Generation] = {}

    def write(
        name: str, stage: str, prompt: Prompt, engine: str, kind: GenerationKind = "response", **more: Any
    ) -> None:
        texts[name] = Generation(
            make_id("test", name=name), kind, prompt.id, f"{name} {HOSTILE}", "stop", engine, **more
        )
        store.add_generations([texts[name]], run=run.id, stage=stage)

    first, heldout = prompts[0], prompts[3]
    write("answer", "answers", first, "base-engine")
    for kind, stage in (("critique", "revisions.0.critique"), ("revision", "revisions.0")):
        write(kind, stage, first, "base-engine", kind, parent=texts["answer"].id, principle="kind")  # type: ignore[arg-type]
    for number, prompt in enumerate(prompts[:3]):
        for sample in (0, 1):
            write(f"{number}{sample}", "samples", prompt, "sft-engine", sample=sample)
    write("before", "evaluation.before", heldout, "base-engine")
    write("after", "evaluation.after", heldout, "dpo-engine")
    pairs = [("00", "01"), ("10", "11"), ("20", "21"), ("before", "after"), ("answer", "revision")]
    stages = ["feedback"] * 3 + ["evaluation.pairs", "revisions.judged"]
    ids = []
    for stage, names in zip(stages, pairs, strict=True):
        one, other = (texts[name] for name in names)
        comparison = Comparison.of(one.prompt, one.content, other.content)
        store.add_comparisons([comparison], origins=[[one.id, other.id]], run=run.id, stage=stage)
        ids.append(comparison.id)
    return texts, ids


def _judge(
    store: Store, run: Run, text: str, stage: str, ids: list[Id], said: list[tuple[Question, list[tuple[float, float]]]]
) -> None:
    """Verdicts on the comparisons, in turn; a question without any was answered before."""
    version = loading.parse(text).version
    store.add_questions(
        [question for question, _ in said], constitution=version, run=run.id, stage=f"{stage}.questions"
    )
    verdicts = [
        Verdict(question.id, id, *(round(x * 10**9) for x in (p, p, mass, mass)))
        for question, answers in said
        for id, (p, mass) in zip(ids, answers, strict=False)
    ]
    store.add_verdicts(verdicts, run=run.id, stage=stage)


def _loop_checkpoints(store: Store, run: Run) -> dict[str, Checkpoint]:
    sft = _checkpoint(store, run, "sft", "sft", "digest of the base model", "revised rows")
    reward = _checkpoint(store, run, "reward", "reward", sft.digest, "preferred rows")
    return {"sft": sft, "reward": reward, "dpo": _checkpoint(store, run, "dpo", "dpo", sft.digest, "preferred rows")}


def _checkpoint(store: Store, run: Run, method: str, name: str, parent: str, rows: str) -> Checkpoint:
    hashed = {text: make_id("test", text=text).hex() for text in (name, rows)}
    made = Checkpoint(
        make_id("job", name=name), "reward_model" if method == "reward" else "policy", method, f"/home/{name}",
        hashed[name], parent, hashed[rows], run.constitution, {"rows": 1},
    )  # fmt: skip
    store.add_checkpoint(made, run=run.id)
    return made


def _measure(store: Store, run: Run, model: Checkpoint, promoted: bool) -> None:
    win = {"mean": 0.75, "low": 0.7, "high": 0.8}
    store.put_document("evaluation", run.id.hex(), {"prompts": 1, "win_rate": win})
    reasons = ["held: it is longer"] + ([] if promoted else [f"failed: too rude {HOSTILE}"])
    store.put_document("decision", run.id.hex(), {"promoted": promoted, "reasons": reasons, "model": model.path})
