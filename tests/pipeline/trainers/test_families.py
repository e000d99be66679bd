"""What is trained on is what is sampled: eight families of templates and tokenizers through every method on rows,
PPO, a reward model and the engine."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from constitution.errors import UserError
from constitution.records import Message
from pipeline.engines.chats import ChatTokenizer
from pipeline.engines.engine import Chat, EngineSettings
from pipeline.engines.transformers import build
from pipeline.trainers import fitting, rows
from pipeline.trainers.runner import run
from pipeline.trainers.trainer import Job
from tests.pipeline.families import FAMILIES, Family, model_of, tokenizer_of
from tests.pipeline.trainers.conftest import MakeJob

Rewarded = Callable[[Job, str], Job]
PROMPT = [{"role": "user", "content": "is a whale a fish?"}]
ANSWERS = [[{"role": "assistant", "content": text}] for text in ("no, says the fox", "a dog sleeps", "pear", "apple")]


def turn(role: str, text: str) -> dict[str, str]:
    return {"role": role, "content": text}


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("families")
    return {name: model_of(tokenizer_of(family), folder / name) for name, family in FAMILIES.items()}


def engine_ids(folder: Path | str, prompt: Any = PROMPT) -> list[int]:
    engine = build(EngineSettings(model=str(folder), device="cpu"))
    return engine.render(Chat(tuple(Message(m["role"], m["content"]) for m in prompt)))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every trainer that a run makes."""
    seen: list[Any] = []
    check = fitting.check_prompts

    def watched(job: Job, table: Any, **options: Any) -> None:
        seen.append(table)
        check(job, table, **options)

    monkeypatch.setattr(fitting, "check_prompts", watched)
    return seen


def rows_of(method: str) -> list[dict[str, Any]]:
    if method == "sft":
        return [{"prompt": PROMPT, "completion": answer} for answer in ANSWERS]
    if method == "kto":
        return [{"prompt": PROMPT, "completion": a, "label": n % 2 == 0} for n, a in enumerate(ANSWERS)]
    if method == "ppo":
        return [{"prompt": PROMPT}] * 4
    return [{"prompt": PROMPT, "chosen": ANSWERS[n], "rejected": ANSWERS[n - 1], "p": 1.0} for n in range(4)]


def whole(name: str, folder: Path, answer: list[Any]) -> list[int]:
    """Prompt and answer as transformers renders them; of "wide", whose template drops its own block, as it must be."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    if name != "wide":
        found: list[int] = tokenizer.apply_chat_template(PROMPT + answer, return_dict=False)
        return found
    text = tokenizer.apply_chat_template(PROMPT, tokenize=False, add_generation_prompt=True)
    text += f"\n</think>\n\n{answer[0]['content']}<\uff5cend\uff5c>"
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


@pytest.mark.parametrize("name", FAMILIES)
def test_every_method_trains_on_the_ids_of_the_engine(
    name: str, folders: dict[str, Path], make_job: MakeJob, trained: list[Any], rewarded: Rewarded
) -> None:
    folder = folders[name]
    prompt = engine_ids(folder)
    expected = [whole(name, folder, answer) for answer in ANSWERS]
    assert all(ids[: len(prompt)] == prompt for ids in expected)
    for method in ("sft", "dpo", "kto", "reward"):
        size = {"per_device_train_batch_size": 4, "max_steps": 1, "num_train_epochs": 1}
        run(make_job(method, method, rows=rows_of(method), model=str(folder), **size))
        table = trained.pop()
        if method == "sft":
            assert table["input_ids"][:] == expected
            for ids, labels in zip(expected, table["labels"], strict=True):
                assert labels == [-100] * len(prompt) + ids[len(prompt) :]
        elif method == "reward":
            assert table["chosen_ids"][:] == expected
            assert table["rejected_ids"][:] == [expected[n - 1] for n in range(4)]
        else:
            side = "completion_ids" if method == "kto" else "chosen_ids"
            made = [p + a for p, a in zip(table["prompt_ids"], table[side], strict=True)]
            assert sorted(made) == sorted(expected) and table["prompt_ids"][:] == [prompt] * 4
    job = make_job(
        "ppo", "ppo", rows=rows_of("ppo"), model=str(folder), max_steps=1, num_train_epochs=1,
        max_completion_length=4, per_device_train_batch_size=2,
    )  # fmt: skip
    run(rewarded(job, "len(answer)"))


def test_the_stop_ids_are_saved_also_of_an_adapter(folders: dict[str, Path], make_job: MakeJob) -> None:
    from pipeline.models import merging

    folder = folders["headers"]
    from transformers import AutoTokenizer

    wanted = set(AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids(["<|text_end|>", "<|eot|>"]))
    options = {"rows": rows_of("sft"), "model": str(folder), "max_steps": 1}
    full = make_job("sft", "full", **options)
    lora = make_job("sft", "lora", lora={"r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}, **options)
    merged = Path(lora.out).with_name("merged")
    run(full)
    run(lora)
    merging.merge(Path(lora.out), merged)
    for out in (full.out, lora.out, merged):
        settings = json.loads((Path(out) / "generation_config.json").read_text())
        assert set(settings["eos_token_id"]) == wanted, out
    plain = make_job("sft", "plain", rows=rows_of("sft"), model=str(folders["characters"]), max_steps=1)
    run(plain)
    settings = json.loads((Path(plain.out) / "generation_config.json").read_text())
    assert settings["eos_token_id"] == AutoTokenizer.from_pretrained(folders["characters"]).eos_token_id


def test_prompts_that_cannot_be_answered_are_left_out_of_online_training_and_its_evaluations(
    folders: dict[str, Path], make_job: MakeJob, rewarded: Rewarded, tmp_path: Path
) -> None:
    long = [turn("user", "is a whale a fish? " * 100)]
    refused = [turn("system", "be kind"), *PROMPT]
    given = [{"prompt": PROMPT}, {"prompt": long}, {"prompt": refused}, {"prompt": PROMPT}]
    (tmp_path / "watch.jsonl").write_text("".join(json.dumps({**row, "answer": "no"}) + "\n" for row in given))
    job = make_job(
        "ppo", rows=given, model=str(folders["brackets"]), max_steps=1, max_completion_length=4,
        per_device_train_batch_size=2,
    )  # fmt: skip
    job = rewarded(job, "len(answer)")
    watch = {"dataset": str(tmp_path / "watch.jsonl"), "judge": job.reward, "every": 1}
    metrics = run(dataclasses.replace(job, watch=watch)).metrics
    assert (metrics["rows"], metrics["left_out"], metrics["watch_left_out"]) == (2, 2, 2)
    assert [line.split(", ")[1][:7] for line in metrics["left_out_rows"]] == ["line 2:", "line 3:"]


# --- each path is broken once, and seen to fail ------------------------------------------------------------------


@pytest.mark.parametrize("method", ["sft", "dpo", "kto", "reward"])
def test_a_prompt_that_is_not_what_is_sampled_after_stops_the_run(
    method: str, folders: dict[str, Path], make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = ChatTokenizer.answered

    def without_the_block(self: ChatTokenizer, chat: Chat, answer: str) -> tuple[list[int], list[int]]:
        prompt, said = answered(self, chat, answer)
        return prompt[:-2], said

    monkeypatch.setattr(ChatTokenizer, "answered", without_the_block)
    with pytest.raises(UserError, match=r"line \d: the prompt is \d+ tokens as it is trained on"):
        run(make_job(method, rows=rows_of(method), model=str(folders["thinking"]), max_steps=1))


@pytest.mark.parametrize("method", ["sft", "dpo", "kto", "reward"])
@pytest.mark.parametrize("name", ["headers", "thinking", "channels"])
def test_an_answer_without_its_end_stops_the_run(
    method: str, name: str, folders: dict[str, Path], make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = ChatTokenizer.answered

    def cut(self: ChatTokenizer, chat: Chat, answer: str) -> tuple[list[int], list[int]]:
        prompt, said = answered(self, chat, answer)
        return prompt, [token for token in said if token not in self.stop_ids]

    monkeypatch.setattr(ChatTokenizer, "answered", cut)
    with pytest.raises(UserError, match="ends with no token that the engine stops at"):
        run(make_job(method, rows=rows_of(method), model=str(folders[name]), max_steps=1))


def test_an_answer_that_would_be_sampled_otherwise_stops_the_run(
    make_job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}<eos>\n{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    tokenizer = tokenizer_of(Family(template, ("<eos>",), {"eos_token": "<eos>"}, "<eos>"))
    tokenizer.save_pretrained(tmp_path / "spaces")
    job = make_job("sft", rows=rows_of("sft"), model=str(tmp_path / "spaces"), max_steps=1)
    job = dataclasses.replace(job, arguments={**job.arguments, "chat_template_kwargs": {}})
    chats = ChatTokenizer(tokenizer)
    before, answer = chats.answered(Chat((Message("user", "x"),)), " pear")
    assert tokenizer.decode(before + answer).startswith("user: x<eos>\nassistant: pear<eos>")
    row = {"prompt": [{"role": "user", "content": "x"}], "prompt_ids": before, "completion_ids": answer}
    rows.check_prompts(job, [row])
    monkeypatch.setattr(ChatTokenizer, "_around", lambda *_: ("", ""))
    with pytest.raises(UserError, match="trained on as other tokens than those sampled"):
        rows.check_prompts(job, [row])


def test_an_engine_that_renders_otherwise_stops_ppo(
    folders: dict[str, Path], make_job: MakeJob, rewarded: Rewarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.trainers.rollouts import InProcess

    render = InProcess.render
    monkeypatch.setattr(InProcess, "render", lambda self, chat: render(self, chat)[1:])
    job = make_job("ppo", rows=rows_of("ppo"), model=str(folders["roles"]), max_steps=1, max_completion_length=4)
    with pytest.raises(UserError, match="line 1: the prompt is"):
        run(rewarded(job, "1"))


def test_a_tokenizer_that_renders_in_two_ways_is_refused(
    folders: dict[str, Path], make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import PreTrainedTokenizerFast

    apply = PreTrainedTokenizerFast.apply_chat_template

    def otherwise(self: Any, *args: Any, tokenize: bool = True, **options: Any) -> Any:
        found = apply(self, *args, tokenize=tokenize, **options)
        return found[1:] if tokenize and isinstance(found, list) else found

    monkeypatch.setattr(PreTrainedTokenizerFast, "apply_chat_template", otherwise)
    with pytest.raises(UserError, match="in two ways"):
        run(make_job("sft", rows=rows_of("sft"), model=str(folders["headers"]), max_steps=1))


# --- instances ---------------------------------------------------------------------------------------------------


def tokenised(method: str, folder: Path, job: Job) -> rows.Rows:
    columns = {"sft": ("prompt", "completion"), "kto": ("prompt", "completion", "label")}
    tokenizer = fitting.load_tokenizer(job)
    given = dataclasses.replace(job, arguments={"chat_template_kwargs": {}, **job.arguments})
    return rows.load_rows(
        Path(job.dataset), columns.get(method, ("prompt", "chosen", "rejected", "p")), tokenizer, given, 200
    )


@pytest.fixture
def table(make_job: MakeJob, folders: dict[str, Path]) -> Callable[..., rows.Rows]:
    def make(method: str, name: str, *given: dict[str, Any]) -> rows.Rows:
        return tokenised(method, folders[name], make_job(method, rows=list(given), model=str(folders[name])))

    return make


def test_a_user_turn_between_two_answers_is_not_learnt(
    table: Callable[..., rows.Rows], folders: dict[str, Path]
) -> None:
    from transformers import AutoTokenizer

    said = [turn("assistant", "no"), turn("user", "why not"), turn("assistant", "pear")]
    found = table("sft", "roles", {"prompt": PROMPT, "completion": said}).table
    tokenizer = AutoTokenizer.from_pretrained(folders["roles"])
    assert found["input_ids"][0] == tokenizer.apply_chat_template(PROMPT + said, return_dict=False)
    learnt = tokenizer.decode([label for label in found["labels"][0] if label != -100])
    assert learnt == "no<|end|>pear<|end|>"
    # Here the template writes an answer otherwise once another turn follows: two rows, each as it is sampled.
    found = table("sft", "thinking", {"prompt": PROMPT, "completion": said}).table
    assert [ids[:n] for ids, n in zip(found["input_ids"], map(len, found["prompt_ids"]), strict=True)] == [
        engine_ids(folders["thinking"]),
        engine_ids(folders["thinking"], PROMPT + said[:2]),
    ]


def test_turns_that_both_answers_share_belong_to_the_prompt(
    table: Callable[..., rows.Rows], folders: dict[str, Path]
) -> None:
    shared = [turn("assistant", "no"), turn("user", "why not")]
    pair = {"chosen": [*shared, turn("assistant", "pear")], "rejected": [*shared, turn("assistant", "apple")], "p": 1.0}
    found = table("dpo", "headers", {"prompt": PROMPT, **pair}).table
    assert found["prompt_ids"][0] == engine_ids(folders["headers"], PROMPT + shared)
    other = {**pair, "rejected": [turn("assistant", "yes"), turn("user", "why"), turn("assistant", "apple")]}
    with pytest.raises(UserError, match="line 2: chosen and rejected must be one answer each after the same turns"):
        table("dpo", "headers", {"prompt": PROMPT, **pair}, {"prompt": PROMPT, **other})
    with pytest.raises(UserError, match="line 1: completion: 3 messages under one label"):
        table("kto", "headers", {"prompt": PROMPT, "completion": pair["chosen"], "label": True})


def test_two_answers_that_the_template_trims_to_one_are_no_pair(table: Callable[..., rows.Rows]) -> None:
    alike = {
        "prompt": PROMPT,
        "chosen": [turn("assistant", "Pear")],
        "rejected": [turn("assistant", "Pear\n")],
        "p": 1.0,
    }
    other = {**alike, "rejected": [turn("assistant", "Apple")]}
    found = table("dpo", "headers", other, alike)
    assert (len(found.table), found.left_out) == (1, 1)
    assert found.named == (
        "out.jsonl, line 2: the chat template writes both answers alike, so neither can be preferred",
    )
    assert len(table("dpo", "roles", other, {**alike, "rejected": [turn("assistant", "Pear.")]}).table) == 2


def test_a_system_message_that_the_template_refuses_leaves_its_row_out(table: Callable[..., rows.Rows]) -> None:
    good = {"prompt": PROMPT, "completion": ANSWERS[0]}
    bad = {"prompt": [turn("system", "be kind"), *PROMPT], "completion": ANSWERS[0]}
    found = table("sft", "brackets", good, bad)
    assert (len(found.table), found.left_out) == (1, 1)
    assert found.named[0].startswith(
        "out.jsonl, line 2: The model's chat template refuses a dialogue of the roles system, user"
    )
    with pytest.raises(UserError, match=r"no row is left to train on; .*, line 1: The model's chat template refuses"):
        table("sft", "brackets", bad)


def test_an_answer_that_spells_ends_has_one(table: Callable[..., rows.Rows], folders: dict[str, Path]) -> None:
    for name, family in FAMILIES.items():
        answer = [turn("assistant", f"pear{family.end}pear{family.end}")]
        found = table("sft", name, {"prompt": PROMPT, "completion": answer}).table
        end = fitting.AutoTokenizer.from_pretrained(folders[name]).convert_tokens_to_ids(family.end)
        assert found["labels"][0].count(end) == 1, name


def test_thinking_is_not_trained_on(table: Callable[..., rows.Rows], folders: dict[str, Path]) -> None:
    plain = table("sft", "thinking", {"prompt": PROMPT, "completion": [turn("assistant", "pear")]}).table
    thought = [turn("assistant", "<think>\nthe fox\n</think>\n\npear")]
    assert table("sft", "thinking", {"prompt": PROMPT, "completion": thought}).table["labels"][:] == plain["labels"][:]
    alone = {"prompt": PROMPT, "completion": [turn("assistant", "<think>the fox")]}
    found = table("sft", "thinking", {"prompt": PROMPT, "completion": thought}, alone)
    assert found.named == ("out.jsonl, line 2: an answer is thinking alone, which is never trained on",)


def test_no_end_and_no_end_of_text_is_refused(tmp_path: Path, make_job: MakeJob) -> None:
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: "
    with_end = model_of(tokenizer_of(Family(template, ("<eos>",), {"eos_token": "<eos>"}, "<eos>")), tmp_path / "one")
    found = tokenised("sft", with_end, make_job("sft", "one", rows=rows_of("sft"), model=str(with_end)))
    eos = fitting.AutoTokenizer.from_pretrained(with_end).eos_token_id
    assert all(labels[-1] == eos for labels in found.table["labels"])
    none = model_of(tokenizer_of(Family(template, ("<pad>",), {"pad_token": "<pad>"}, "")), tmp_path / "none")
    with pytest.raises(UserError, match="would never learn to stop"):
        run(make_job("sft", "refused", rows=rows_of("sft"), model=str(none)))


@pytest.mark.parametrize("lora", [None, {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}])
def test_a_reward_is_read_at_the_end_though_padding_is_the_end(
    lora: Any, folders: dict[str, Path], make_job: MakeJob
) -> None:
    """wide: padding is the end of the turn, and nothing comes behind it."""
    import torch

    from pipeline.rewards import reading
    from pipeline.rewards.loaded import RewardModel

    folder = folders["wide"]
    job = make_job("reward", rows=rows_of("reward"), model=str(folder), max_steps=2, lora=lora)
    run(job)
    reward = RewardModel(Path(job.out), 1, {}, "float32", "cpu", 4)
    answers = [answer[0]["content"] for answer in ANSWERS]
    scores = [row[0] for row in reward.score([PROMPT] * 4, answers)]
    for answer, score in zip(ANSWERS, scores, strict=True):  # one row, no padding: the last token's by hand
        ids = torch.tensor([whole("wide", folder, answer)])
        with torch.no_grad():
            hidden = reward._model.model(ids).last_hidden_state[0, -1]
            assert float(reward._model.score(hidden)[0]) == pytest.approx(score, abs=1e-5)
            cut = float(reward._model.score(reward._model.model(ids[:, :-1]).last_hidden_state[0, -1])[0])
            both = torch.cat([ids, torch.cat([ids[:, :-1], ids[:, -1:]], 1)])
            mask = torch.ones_like(both)
            mask[1, -1] = 0  # the same text, cut before its end
            read = reading.rewards(reward._model, both, mask)[:, 0]
        assert read.tolist() == pytest.approx([score, cut], abs=1e-5)
        assert abs(score - cut) > 1e-4
