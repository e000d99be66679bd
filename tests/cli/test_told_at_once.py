"""Every mistake that can be known is told before anything starts: exit code 2, one message that names the setting, the
file or the option, no traceback, no run in the store; no engine is built, and Prefect is not even imported.

All rows are run by one process, each in a folder of its own, so that what a command imports is paid once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SETTINGS = """\
prompts = "prompts.jsonl"
pairs = "pairs.jsonl"
[policy]
kind = "scripted"
model = "script.yaml"
[judge]
kind = "scripted"
model = "script.yaml"
[evaluator]
kind = "scripted"
model = "other.yaml"
"""
SCRIPT = "rules:\n  - {texts: [One answer., 'Two, an answer.']}\n"
PRINCIPLES = """\
constitution: one
version: 1
principles:
  - {id: kind, title: Kind, critique: Is it rude?, revision: Be kind., comparison: Which is kinder?}
"""
PROMPTS = "".join(
    json.dumps({"prompt": f"Question {n}?", "split": ("train", "heldout", "dev")[n % 3]}) + "\n" for n in range(12)
)
PAIRS = json.dumps({"prompt": "Why?", "chosen": "So.", "rejected": "No."}) + "\n"
ROWS = {
    "sft": {"prompt": [{"role": "user", "content": "Hi"}], "completion": [{"role": "assistant", "content": "Ho"}]},
    "dpo": {
        "prompt": [{"role": "user", "content": "Hi"}],
        "chosen": [{"role": "assistant", "content": "Ho"}],
        "rejected": [{"role": "assistant", "content": "No"}],
        "p": 0.9,
    },
}
FILES = {
    "precept.toml": SETTINGS,
    "principles.yaml": PRINCIPLES,
    "script.yaml": SCRIPT,
    "other.yaml": SCRIPT + "# another\n",
    "prompts.jsonl": PROMPTS,
    "pairs.jsonl": PAIRS,
    **{f"{name}.jsonl": json.dumps(row) + "\n" for name, row in ROWS.items()},
}


@dataclass(frozen=True)
class Mistake:
    """`words`: the command line. `files`: what is written beside what is well; None takes a file away. `env`: what the
    environment has. `links`: symbolic links, and where they lead. `said`: what the message holds."""

    words: str | list[str]
    said: list[str]
    files: dict[str, str | None] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        words = self.words.split() if isinstance(self.words, str) else self.words
        return {"words": words, "files": {**FILES, **self.files}, "env": self.env, "links": self.links}


def setting(
    value: str, *said: str, flow: str = "improve", links: dict[str, str] | None = None, **files: str | None
) -> Mistake:
    """One setting that is wrong, as a flag of a flow."""
    return Mistake(
        [*flow.split(), "--quiet", "--set", value],
        [*said],
        {n.replace("_", "."): t for n, t in files.items()},
        links=links or {},
    )


def in_file(text: str, *said: str, words: str = "improve --quiet") -> Mistake:
    """Settings that are wrong, in the file."""
    return Mistake(words, [*said], {"precept.toml": text})


def train(
    method: str,
    *options: str,
    said: str,
    data: str = "dpo",
    model: str = "sandbox:policy",
    links: dict[str, str] | None = None,
) -> Mistake:
    words = ["train", "--quiet", "--method", method, "--data", f"{data}.jsonl", "--model", model, "--out", "out"]
    return Mistake([*words, *options], [said], links=links or {})


MISTAKES = [
    # --- settings: the file ---
    in_file("store = \n", "precept.toml: ", "line 1"),
    in_file("a = 1\na = 2\n", "precept.toml: ", "line 2"),
    in_file(SETTINGS + "[judge]\n", "precept.toml: ", "judge"),
    in_file("seed = " + "9" * 5000, "precept.toml: a whole number in it has thousands of digits"),
    in_file("seed = 99999999999999999999\n", "precept.toml:1: seed", "64 bits"),
    in_file("x = " + "[" * 100_000, "precept.toml: its lists or tables are nested too deep"),
    in_file(SETTINGS + "[revise]\nrouns = 2\n", "precept.toml:13: revise.rouns", "did you mean revise.rounds?"),
    in_file("model = 'x'\n" + SETTINGS, "precept.toml:1: model", "did you mean policy.model?"),
    in_file(SETTINGS + "[revise]\nrounds = 'many'\n", "precept.toml:13: revise.rounds", "not a whole number", "'many'"),
    in_file(SETTINGS + "[revise]\nrounds = true\n", "precept.toml:13: revise.rounds", "true is no number"),
    in_file(SETTINGS + "[revise]\nrounds = -1\n", "precept.toml:13: revise.rounds", "greater than or equal to 0"),
    in_file(SETTINGS + "[revise]\nrounds = 1.5\n", "precept.toml:13: revise.rounds", "not a whole number"),
    in_file(SETTINGS + "[gate]\nmin_win_rate = nan\n", "precept.toml:13: gate.min_win_rate is nan", "finite"),
    in_file(SETTINGS + "[limits]\nmax_cost = inf\n", "precept.toml:13: limits.max_cost is inf", "leave it out"),
    in_file('home = "a\\u0000b"\n' + SETTINGS, "precept.toml:1: home holds a NUL character"),
    in_file(SETTINGS + "[sft.arguments]\nx = 2020-01-01\n", "precept.toml:13: sft.arguments.x is a date"),
    in_file(SETTINGS + "[splits]\nheldout = 0.6\ndev = 0.5\n", "splits: heldout (0.6) and dev (0.5) are 1.1"),
    in_file("policy = 3\n", "precept.toml:1: policy", "not a mapping"),
    Mistake("improve --settings gone.toml", ["there is no settings file gone.toml", "precept init"]),
    Mistake("improve", ["there are no settings here", "precept init"], {"precept.toml": None}),
    # --- settings: the environment and flags ---
    Mistake("improve", ["PRECEPT_JUDGE is no JSON", "PRECEPT_JUDGE__NAME=value"], env={"PRECEPT_JUDGE": '{"x"'}),
    Mistake("improve", ["environment: judge", "not a mapping"], env={"PRECEPT_JUDGE": "3"}),
    Mistake("improve", ["PRECEPT_JUGDE__MODEL", "did you mean PRECEPT_JUDGE?"], env={"PRECEPT_JUGDE__MODEL": "x"}),
    Mistake("improve", ["PRECEPT_SEDE", "did you mean PRECEPT_SEED?"], env={"PRECEPT_SEDE": "1"}),
    Mistake("improve", ["environment: seed", "'1.5'"], env={"PRECEPT_SEED": "1.5"}),
    Mistake("improve", ["environment: gate.min_win_rate", "finite"], env={"PRECEPT_GATE__MIN_WIN_RATE": "nan"}),
    Mistake("improve", ["judge.modle", "did you mean judge.model?"], env={"PRECEPT_JUDGE__MODLE": "x"}),
    setting("gate.min_win_rate=nan", "flag: gate.min_win_rate is nan"),
    setting("gate.min_win_rate=2", "flag: gate.min_win_rate", "less than or equal to 1"),
    setting("seed=-1", "flag: seed", "greater than or equal to 0"),
    setting("seed=" + "9" * 5000, "flag: seed"),
    setting("policy.batch_size=0", "flag: policy.batch_size"),
    setting("policy.options={x=nan}", "flag: policy.options.x is nan"),
    setting("nonsense", "--set nonsense: write NAME=VALUE"),
    Mistake(["improve", "--set", "seed=3", "--set", "seed.x=4"], ["seed.x is set, and seed"]),
    Mistake("improve --max-cost nan", ["Invalid value for '--max-cost'"]),
    Mistake("improve --rounds 0", ["Invalid value for '--rounds'"]),
    # --- training: methods and their arguments ---
    setting("optimise.method=luck", "there is no training method 'luck'; there are best_of_n, dpo"),
    setting("optimise.method=reward", "optimise.method is 'reward', which trains a reward model"),
    setting("reward.method=dpo", "reward.method is 'dpo', which trains a policy"),
    setting("sft.method=dpo", "sft.method is 'dpo', which learns from rows of prompt, chosen, rejected"),
    setting("sft.method=ppo", "sft.method is 'ppo'"),
    setting("optimise.arguments.learning_rat=1e-5", "dpo does not read learning_rat", "learning_rate?"),
    setting("optimise.arguments.learning_rate=fast", "optimise.arguments: learning_rate is 'fast'", "a finite number"),
    setting("optimise.arguments.beta=-0.1", "optimise.arguments: beta is -0.1"),
    setting("sft.arguments.max_steps=true", "sft.arguments: max_steps is True", "a whole number"),
    setting("reward.arguments.heads=[2]", "reward.arguments: heads is [2]"),
    setting("arguments.pppo.learning_rate=1e-5", "there is no training method 'pppo'"),
    setting("arguments.ppo.cliprang=0.1", "arguments.ppo: ppo does not read cliprang; did you mean cliprange?"),
    setting("arguments.ppo.num_mini_batches=3", "arguments.ppo: ", "make no 3 equal minibatches"),
    Mistake(
        ["improve", "--set", "optimise.method=grpo", "--set", "optimise.arguments.num_generations=5"],
        ["optimise.arguments: an update has", "num_generations 5 does not divide"],
    ),
    setting("sft.lora={rank=4}", "sft.lora: peft's LoRA has no rank to set"),
    setting("optimise.lora={r='8'}", "optimise.lora: r is '8'; it must be a whole number"),
    setting("reward.lora={lora_dropout=2}", "reward.lora: lora_dropout is 2"),
    setting("optimise.reward={kind='luck'}", "optimise.reward: there is no kind of reward 'luck'"),
    setting("optimise.reward={combine='worst'}", "optimise.reward: reward (kind model): combine"),
    setting("optimise.reward={kind='model', paths=['gone']}", "optimise.reward: ", "gone"),
    setting("optimise.reward={kind='http', url='ftp://x'}", "optimise.reward: "),
    setting("optimise.reward={kind='function', name='no_such_module:f'}", "optimise.reward: ", "no_such_module"),
    setting("optimise.reward={length_penalty=-1}", "optimise.reward: ", "length_penalty"),
    setting("sweep.methods={luck=[]}", "there is no training method 'luck'", flow="sweep"),
    setting("sweep.methods={reward=[]}", "trains a reward model", flow="sweep"),
    setting("sweep.methods={ppo=[-1.0]}", "sweep.methods.ppo: kl_coef is -1.0", flow="sweep"),
    Mistake("sweep --method ppo --kl nan", ["sweep.methods", "nan"]),
    # --- roles: models, engines, servers, judges ---
    setting("policy.kind=psychic", "policy: there is no engine 'psychic'; there are"),
    setting("policy.model=gone.yaml", "policy: ", "gone.yaml", flow="respond"),
    setting("evaluator.model=", "evaluator: a role has no model"),
    setting("evaluator.model=gone.yaml", "evaluator: ", "gone.yaml"),
    setting("evaluator={kind='transformers', model='no/such/folder'}", "evaluator: no/such/folder: there is no such"),
    setting("evaluator={kind='transformers', model='sandbox:poet'}", "evaluator: the sandbox has no model 'poet'"),
    setting("critic={kind='scripted', model='gone.yaml'}", "critic: ", "gone.yaml", flow="revise"),
    setting("trained={kind='psychic'}", "trained: there is no engine 'psychic'"),
    setting("policy.model=promoted", "policy: nothing has been promoted yet"),
    setting("policy.options={speed=3}", "policy: the scripted engine has no option speed"),
    setting("judge={kind='openai', model='m'}", "judge: ", "base_url", flow="judge pairs.jsonl"),
    setting("judge={kind='openai', model='m', base_url='host:1'}", "judge: ", "base_url", flow="judge pairs.jsonl"),
    setting(
        "judge={kind='openai', model='m', base_url='http://127.0.0.1:1/v1', options={patience=3}}",
        "judge: the openai engine: patience: there is no such option", flow="judge pairs.jsonl",
    ),
    setting("judge={kind='transformers', model='sandbox:policy', device='gpu'}", "judge.device is 'gpu'; it must be"),
    setting("judge={kind='transformers', model='sandbox:policy', device='cuda:99'}", "judge: device is 'cuda:99'"),
    setting("judge={kind='transformers', model='sandbox:policy', options={x=1}}", "judge: ", "has no option 'x'"),
    setting("judge.method=oracular", "judge: there is no judge 'oracular'; there are "),
    setting("judge.judge_options={depth=3}", "judge: the choice judge: depth: there is no", flow="judge pairs.jsonl"),
    setting("oracle=delphi", "there is no oracle 'delphi'"),
    setting("evaluate.suites=['luck']", "evaluate.suites: there is no suite 'luck'"),
    setting("gate.suites={style={at_least=1}}", "evaluate.suites: the suite 'style' has no limit 'at_least'"),
    Mistake("model evaluate gone", ["evaluate.candidate: ", "gone"]),
    # --- files: prompts, pairs, the constitution, people's preferences ---
    setting("prompts=", "there are no prompts", flow="respond"),
    setting("prompts=gone.jsonl", "there is no file gone.jsonl"),
    setting("prompts=script.yaml", "script.yaml"),
    setting("prompts={source='luck'}", "there is no prompt source 'luck'"),
    setting("prompts={name='x'}", "a table of prompts names its source"),
    Mistake("improve", ["prompts.jsonl:2: not JSON"], {"prompts.jsonl": '{"prompt": "fine"}\n{broken\n'}),
    Mistake("improve", ["prompts.jsonl"], {"prompts.jsonl": ""}),
    Mistake(
        "improve --rounds 2",
        ["development split, which is empty", "splits.dev"],
        {"prompts.jsonl": PROMPTS.replace('"dev"', '"train"')},
    ),
    Mistake(
        "improve", ["no prompt is in the held-out split"], {"prompts.jsonl": PROMPTS.replace('"heldout"', '"train"')}
    ),
    Mistake("respond", ["no prompt is in the training split"], {"prompts.jsonl": PROMPTS.replace('"train"', '"dev"')}),
    Mistake("judge gone.jsonl", ["there is no file gone.jsonl"]),
    Mistake("judge pairs.jsonl", ["pairs.jsonl:1: "], {"pairs.jsonl": '{"prompt": "Why?", "chosen": "So."}\n'}),
    setting("reward.human=gone.jsonl", "there is no file gone.jsonl"),
    setting("constitution=gone.yaml", "gone.yaml"),
    Mistake("improve", ["principles.yaml"], {"principles.yaml": PRINCIPLES.replace("Which is kinder?", "")}),
    Mistake(
        "improve --dry-run --no-sample --set policy.kind=transformers --set policy.model=sandbox:policy "
        "--set placement.training=cuda:97",
        ["placement.training names cuda:97; the GPUs that can be used here are: "],
    ),
    # --- where things are kept ---
    setting("home=script.yaml", "home: ", "script.yaml is a file", "as 'runs'"),
    setting("home=script.yaml/runs", "home: ", "script.yaml is a file"),
    setting("home=/proc/precept", "home: /proc/precept cannot be written"),
    setting("home=loop", "home: loop is no path", "circle", links={"loop": "loop"}),
    setting("home=" + "n" * 300, "home: nnn", "too long"),
    setting("home=/mnt/gone/runs", "home: /mnt/gone is not there", "mounted"),
    setting("store=mysql://host/name", "cannot be kept in mysql"),
    setting("store=sqlite:///script.yaml/precept.db", "store: ", "script.yaml is a file"),
    setting("store=sqlite:///other.yaml", "cannot use"),
    setting("policy.template_args={thinking_tags=['a']}", "policy: template_args: thinking_tags is ['a']"),
    Mistake(
        "improve --dry-run --no-sample --set judge.kind=transformers --set judge.model=sandbox:policy "
        "--set evaluator.kind=transformers --set evaluator.model=sandbox:policy",
        ["the evaluator is the judge: sandbox:policy has the weights of sandbox:policy"],
    ),
    Mistake("improve --dry-run --no-sample --set optimise.arguments.learning_rate=-1", ["learning_rate is -1"]),
    setting("store=postgresql://u@127.0.0.1:1/db", "cannot reach the database"),
    # --- retrain, with nothing to start from ---
    Mistake("retrain", ["nothing has been ratified yet: the first run"]),
    # --- training by hand ---
    train("luck", said="there is no training method 'luck'"),
    train("dpo", "--arg", "beta=nan", said="--arg: beta is nan"),
    train("dpo", "--arg", "learning_rate=fast", said="--arg: learning_rate is 'fast'"),
    train("dpo", "--arg", "learning_rat=1", said="--arg: dpo does not read learning_rat; did you mean learning_rate?"),
    *(
        train("sft", "--out", out, said=said, data="sft", links={"loop": "loop", "nothing": "gone"})
        for out, said in {
            "": "--out: name a folder to make",
            ".": "--out: name a folder to make",
            "loop": "--out loop: no folder can be made there: Too many levels",
            "loop/x": "--out loop/x: no folder can be made there: Too many levels",
            "nothing": "--out nothing: it is a link to nothing",
            "sft.jsonl/x": "--out sft.jsonl/x: no folder can be made there: Not a directory",
            "/proc/x": "--out /proc/x: no folder can be made there",
            "n" * 300: "no folder can be made there: File name too long",
            "n" * 250: "no folder can be made there: File name too long",
        }.items()
    ),
    train("sft", "--lora", "target_modules=nope", data="sft", said="--lora: target_modules is 'nope', and no module"),
    train("sft", "--lora", "target_modules=q_proj", data="sft", said='write ["q_proj"]'),
    train("sft", "--lora", "target_modules=([", data="sft", said="--lora: target_modules is '([', which is no pattern"),
    train("sft", "--lora", 'target_modules=["(["]', data="sft", said="--lora: target_modules is ['([']"),
    train("sft", "--lora", "layers_to_transform=99", data="sft", said="--lora: layers_to_transform is [99]; the"),
    Mistake(
        "improve --set policy.kind=transformers --set policy.model=sandbox:policy "
        "--set sft.lora={target_modules=['nope']}",
        ["sft.lora: target_modules is ['nope'], and ", "q_proj"],
    ),
    train("dpo", "--lora", "rank=8", said="--lora: peft's LoRA has no rank"),
    train("dpo", "--lora", "r=0", said="--lora: r is 0"),
    train("dpo", "--reward", "x", said="dpo learns from its rows alone: leave out --reward"),
    train("dpo", "--reward-arg", "combine=mean", said="dpo learns from its rows alone: leave out --reward"),
    train("ppo", said="ppo answers prompts itself: say with --reward"),
    train("ppo", "--reward", "gone", said="--reward gone: there is no such folder"),
    train("ppo", "--reward", "http://localhost:1", "--reward-arg", "speed=1", said="speed"),
    train("ppo", "--reward", "http://localhost:1", "--reward-arg", "url=3", said="url"),
    train("dpo", "--device", "gpu", said="--device is 'gpu'; it must be auto, cpu, cuda, or as cuda:1"),
    train("dpo", "--dtype", "float8", said="--dtype float8: it must be float32 or bfloat16"),
    train("dpo", "--seed", "-1", said="--seed"),
    train("dpo", "--kl-budget", "nan", said="--kl-budget"),
    train("dpo", "--eval", "gone.jsonl", said="gone.jsonl"),
    train("dpo", model="gone", said="gone"),
    train("dpo", model="sandbox:poet", said="the sandbox has no model 'poet'"),
    train("sft", said="dpo.jsonl"),
    train("dpo", data="gone", said="gone.jsonl"),
]  # fmt: skip

DRIVE = """
import contextlib, io, json, os, sqlite3, sys, time, traceback
from pathlib import Path
from cli import main
import pipeline.engines
def never(settings): raise AssertionError("an engine was built")
pipeline.engines.build = never
root, found = Path.cwd(), []
for number, row in enumerate(json.loads(sys.stdin.read())):
    folder = root / str(number)
    folder.mkdir()
    os.chdir(folder)
    for name, text in row["files"].items():
        if text is not None:
            Path(name).write_text(text)
    for name, target in row["links"].items():
        Path(name).symlink_to(target)
    os.environ.update(row["env"])
    known = set(sys.modules)
    out, err, began = io.StringIO(), io.StringIO(), time.process_time()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main.run(row["words"])
        except BaseException:
            code = 1
            traceback.print_exc()
    seconds = time.process_time() - began  # of this process: the machine may be busy
    for name in row["env"]:
        del os.environ[name]
    runs = 0
    if Path("runs/precept.db").exists():
        runs = sqlite3.connect("runs/precept.db").execute("select count(*) from run").fetchone()[0]
    heavy = sorted({"prefect", "trl", "transformers"} & (sys.modules.keys() - known))
    found.append({"code": code, "out": out.getvalue(), "err": err.getvalue(), "seconds": seconds, "runs": runs,
                  "heavy": heavy, "left": sorted(p.name for p in folder.iterdir() if p.name not in row["files"])})
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What became of each mistake."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PRECEPT_")}
    done = subprocess.run(
        [sys.executable, "-c", DRIVE], input=json.dumps([m.as_dict() for m in MISTAKES]), text=True,
        capture_output=True, cwd=tmp_path_factory.mktemp("told"), timeout=240,
        env={**kept, "PYTHONPATH": str(ROOT), "PRECEPT_USER": "ada", "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    "number", range(len(MISTAKES)), ids=[" ".join(m.as_dict()["words"])[:70] or "?" for m in MISTAKES]
)
def test_a_mistake_is_told_at_once(number: int, told: list[dict[str, Any]]) -> None:
    found = told[number]
    for words in MISTAKES[number].said:
        assert words in found["err"], found["err"]
    assert found["code"] == 2, found["err"]
    assert not found["out"] and "Traceback" not in found["err"]
    assert found["runs"] == 0 and found["heavy"] == []
    assert found["seconds"] < 5.0  # each took under one where it was written


def test_there_are_mistakes_of_every_kind() -> None:
    assert len(MISTAKES) >= 60
