"""`precept init`: the files a project begins with, precept.toml and principles.yaml. Nothing is overwritten."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli.screen import put, tell
from constitution.errors import UserError


class Start(StrEnum):
    sandbox = "sandbox"
    local = "local"
    server = "server"
    smollm2 = "smollm2"


def init(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where to write.", show_default=False)] = Path(),
    start: Annotated[
        Start,
        typer.Option("--from", help="The small world that ships, a model folder here, a server, or a packaged model."),
    ] = Start.sandbox,
) -> None:
    """Write precept.toml, commented, and a first principles.yaml.

    Example: precept init my-project --from local
    """
    from constitution.starting_points import starting_point

    folder.mkdir(parents=True, exist_ok=True)
    if start is Start.smollm2:
        from sandbox import real

        for name in real.NAMES:
            _write(folder / name, real.text(name))
        put(f"next: {_cd(folder)}precept model fetch models/smollm2")
        return
    principles = folder / "principles.yaml"
    if principles.exists():
        tell(f"{principles} is there already, and is left as it is")
    elif start is Start.sandbox:  # its models can read the principles that ship, and only words like theirs
        from sandbox import start as shipped

        _write(principles, shipped.text("principles.yaml"))
    else:
        _write(principles, starting_point("assistant"))
    _write(folder / "precept.toml", text_of(start))
    put(f"next: {_cd(folder)}precept {NEXT[start]}")


def _cd(folder: Path) -> str:
    return "" if folder == Path() else f"cd {folder} && "


def text_of(start: Start) -> str:
    """The settings file of a start. The sandbox's is the one that ships."""
    if start is Start.smollm2:
        from sandbox import real

        return real.text("precept.toml")
    if start is Start.sandbox:
        from sandbox import start as shipped

        return shipped.text("precept.toml")
    return _HEAD + (_LOCAL if start is Start.local else _SERVER) + _TRAINING + _TAIL


def _write(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UserError(f"{path} exists already, and is left as it is; name another folder, or move it away") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None
    put(f"wrote {path}")


NEXT = {Start.sandbox: "improve", Start.local: "doctor", Start.server: "doctor"}

_HEAD = """\
# Settings of precept. What is left out has a default: `precept settings` shows every value and where it came from.
# The environment overrides this file (PRECEPT_JUDGE__MODEL=...), and flags override both (--set judge.model=...).

constitution = "principles.yaml"
store = "sqlite:///runs/precept.db"   # or postgresql://USER@HOST/DATABASE
home = "runs"                         # checkpoints, data sets, reports, and the link `promoted`
seed = 0
"""

_TAIL = """
[trial]               # judge and evaluator are tried before anything is generated: on the examples in principles.yaml,
# pairs = ["pairs.jsonl"]   # and on pairs of files whose better answer is known (prompt, better, worse, principle)
# required = false    # label with a judge that is not trusted, nevertheless

[revise]
rounds = 4            # of critique and revision, a principle drawn anew for each

[compare]
samples = 4           # answers of the tuned model to each prompt
pairs = 3             # of those, judged, a prompt

[gate]                # what must hold for the new model to be promoted
min_win_rate = 0.5    # the lower end of the 95% interval has to be above this
min_prompts = 100     # held-out prompts: on fewer nothing is promoted
max_length_ratio = 1.5
max_refusal_increase = 0.05   # of held-out prompts whose line has "tags": ["harmless"]; "none" where none can have it
# min_spot_checks = 50  # people's answers (`precept review`), and how far they must agree with the judge:
# min_agreement = 0.4

[evaluate]              # what is measured besides: prompts that ship, public sets on your disk (docs/suites.md)
# suites = ["win_rate", "style", "rules", "over_refusal", "harm", "wrong_user", "truthfulness", "verbosity"]

[limits]              # reaching one stops the run cleanly; `precept run resume` goes on
# max_calls = 100000
# max_tokens = 10000000
# max_cost = 20.0
# cost_per_1k_tokens = 0.002
"""

_TRAINING = """
# Rates for adapters, ten times and more what all weights would take. Measured on a model of 135M: SFT at 2e-4 over 3
# epochs of 85 rows, then DPO at 2e-4 over 2 epochs of 59 pairs, each did what it should and cost other text little. Of
# models of billions DPO wants less: 5e-6 to 5e-5.
[sft]
helpful = 0.25        # answers that needed no revision mixed in, as a share of the revisions
lora = {r = 16, lora_alpha = 32, target_modules = "all-linear"}
arguments = {learning_rate = 2e-4, num_train_epochs = 3}

[reward]
lora = {r = 16, lora_alpha = 32, target_modules = "all-linear"}
arguments = {learning_rate = 1e-4, num_train_epochs = 1}

[optimise]
method = "dpo"
lora = {r = 16, lora_alpha = 32, target_modules = "all-linear"}
arguments = {learning_rate = 1e-4, num_train_epochs = 2, beta = 0.1}
"""

_LOCAL = """\
prompts = "prompts.jsonl"             # a line each: {"prompt": "..."} or {"prompt": [{"role": ..., "content": ...}]}

[policy]                              # the model to be improved; critic and judge are the same but where they say else
model = "models/policy"               # a folder of an instruction-tuned model: config, tokenizer, safetensors
dtype = "bfloat16"
max_tokens = 512
temperature = 0.7                     # a small model at 1.0 writes words that do not hang together; leave both out to
top_p = 0.9                           # sample as the model's generation_config.json says
# template_args = {enable_thinking = false}   # to the chat template

[judge]
answer_prefix = "The better reply is ("       # what its answer is made to begin with: few models say a bare letter

[evaluator]                           # another model than the judge: it makes none of the training labels
model = "models/evaluator"
dtype = "bfloat16"
answer_prefix = "The better reply is ("
"""

_SERVER = """\
prompts = "prompts.jsonl"             # a line each: {"prompt": "..."} or {"prompt": [{"role": ..., "content": ...}]}

# vLLM's server gives all that is needed. `precept engine up MODEL` starts one and prints the settings that use it; one
# of yours: vllm serve MODEL --enable-tokenizer-info-endpoint, or, which is faster than that flag, with the folder of
# the model's tokenizer named here: options = {tokenizer = "FOLDER"}. Several servers of one model, as a list in
# base_url, share the work. Others that speak OpenAI's protocol answer, and choose where they return log-probabilities.
# The key is in the environment variable that `api_key_env` names.

[policy]                              # what is trained is a folder here, so the policy is one, too
model = "models/policy"
dtype = "bfloat16"
max_tokens = 512
temperature = 0.7                     # leave both out to sample as the model's generation_config.json says
top_p = 0.9

[critic]
kind = "openai"
model = "Qwen/Qwen3-8B"               # as the server names it
revision = "main"                     # a server shows no weights: say which they are
base_url = "http://localhost:8000/v1"
api_key_env = "OPENAI_API_KEY"
max_tokens = 512
temperature = 0.7
top_p = 0.9
template_args = {enable_thinking = false}

[judge]
kind = "openai"
model = "Qwen/Qwen3-8B"
revision = "main"
base_url = "http://localhost:8000/v1"
template_args = {enable_thinking = false}

[evaluator]                           # another model than the judge: it makes none of the training labels
kind = "openai"
model = "meta-llama/Llama-3.1-8B-Instruct"
revision = "main"
base_url = "http://localhost:8001/v1"
"""
