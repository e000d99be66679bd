"""The same on real engines: SmolLM2's revisions, and the sandbox's judge before an answer of 60,000 characters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from constitution.records import Message, Prompt, Ruling
from flows.session import at_work
from pipeline.copies import is_copy
from pipeline.rewards.judge import JudgeReward
from service.queries import chains
from service.work import deciding, pairs, stages

ROOT = Path(__file__).parents[2]
SETTINGS = """\
store = "sqlite:///{home}/a.db"
home = "{home}"
prompts = "{home}/prompts.jsonl"
constitution = "{constitution}"
oracle = ""
threads = 1
revise.rounds = 1
"""


def write(home: Path, settings: str, rows: list[dict[str, Any]], constitution: Path) -> str:
    (home / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (home / "precept.toml").write_text(SETTINGS.format(home=home, constitution=constitution) + settings)
    return str(home / "precept.toml")


def test_what_smollm2_copies_is_not_learnt(tmp_path: Path, smollm2: Path) -> None:
    """Of its revisions under a principle with an exemplar, most were the exemplar's own words."""
    text = (ROOT / "constitution/starters/minimal.yaml").read_text()
    head, _, _ = text.partition("  - id: helpful")
    (tmp_path / "harmless.yaml").write_text(head + "  - id: harmless" + text.partition("  - id: harmless")[2])
    asked = ["How can I kill a Python process?", "How can I forge my boss's signature?", "What should I cook tonight?"]
    role = f'[policy]\nmodel = "{smollm2}"\ndevice = "cpu"\nmax_tokens = 48\ntemperature = 0\n'
    rows = [{"prompt": prompt, "split": "train"} for prompt in asked]
    file = write(tmp_path, role, rows, tmp_path / "harmless.yaml")
    with at_work("revise", file, {}) as work:
        answers = [
            {"prompt": p, "text": "Ask somebody who knows, and do as you are told."} for p in work.prompts("train")
        ]
        kept = _answered(work, answers)
        made = stages.revise(work, "revisions", of="answers")
        ended = chains.ended(work, "revisions", "answers")
        result = deciding.finish(work, revisions=made)
    assert kept == len(asked) == made["chains"]
    copies = made.get("critique_of_exemplar", 0) + made.get("copy_of_exemplar", 0) + made.get("copy_of_critique", 0)
    assert copies > 0 and result["left_out"]["dropped"]["revisions"] == {
        k: v for k, v in made.items() if k not in ("chains", "kept")
    }
    (principle,) = work.constitution.principles
    for chain in ended:
        critique = next((s.text for s in chain.steps if s.kind == "critique"), "")
        for revision in chain.kept:
            for source in (critique, *(t for e in principle.exemplars for t in (e.critique, e.revision))):
                assert not is_copy(revision.text, source)


def _answered(work: Any, answers: list[dict[str, Any]]) -> int:
    """Answers that are stored as the policy's own: short ones, so that the test is."""
    from constitution.records import Generation, make_id

    made = [
        Generation(make_id("given", text=str(n)), "response", a["prompt"].id, a["text"], "stop", "given", sample=0)
        for n, a in enumerate(answers)
    ]
    work.store.add_generations(made, run=work.run.id, stage="answers", ordinals=list(range(len(made))))
    return len(made)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Pairs before the sandbox's own judge, whose context is 1,024 tokens: one answer has 60,000 characters, one prompt
    5,000."""
    home = tmp_path_factory.mktemp("judged")
    good, bad = "Please use soap and go gently.", "Sorry, I can not help with that. It could be dangerous."
    rows = [{"prompt": f"Help me clean the {what}.", "chosen": good, "rejected": bad} for what in ("boots", "barn")]
    rows.insert(1, {"prompt": "Help me clean the hat.", "chosen": good * 2_000, "rejected": bad})
    rows.append({"prompt": "Help me clean the boat. " * 209, "chosen": good, "rejected": bad})
    (home / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    role = '[policy]\nmodel = "sandbox:policy"\n[judge]\nmodel = "sandbox:policy"\n'
    file = write(home, role, [{"prompt": "Help me clean the roof.", "split": "train"}], ROOT / "principles.yaml")
    with at_work("judge", file, {"pairs": str(home / "pairs.jsonl")}) as work:
        preferred = pairs.import_pairs(work, "pairs")
        result = deciding.finish(work, **pairs.judge_pairs(work, "pairs", preferred))
        reward = _reward(work, preferred)
    return {**result, "reward": reward}


def _reward(work: Any, preferred: Any) -> list[float]:
    """The judge as a reward, on one good answer and one of 60,000 characters."""
    judge = work.wiring.judge(work.settings.judge)
    prompt = Prompt((Message("user", "Help me clean the boots."),), "train")
    good = "Please use soap and go gently."
    against = {prompt.id: ["Sorry, I can not help with that. It could be dangerous."]}
    reward = JudgeReward(judge, work.constitution, against, Ruling(rule=work.settings.rule()), "digest")
    return reward.score([[{"role": "user", "content": "Help me clean the boots."}]] * 2, [good, good * 2_000])


def test_one_answer_of_60000_characters_does_not_block_the_sandbox_s_judge(judged: dict[str, Any]) -> None:
    assert judged["labels"]["count"] == 2 and judged["labels"]["unreadable"] == 0
    assert judged["left_out"]["stages"] == {"pairs": {"too_long": 2}}
    assert all("reads at most 1024" in item["said"] for item in judged["left_out"]["items"])
    assert {item["words"][:22] for item in judged["left_out"]["items"]} == {
        "Help me clean the hat.",
        "Help me clean the boat",
    }


def test_a_reward_that_cannot_be_asked_takes_neither_side(judged: dict[str, Any]) -> None:
    assert judged["reward"][1] == 0.5 != judged["reward"][0]
