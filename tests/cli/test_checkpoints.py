"""`precept model promote`, `precept run report` and `precept train`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from constitution.records import Checkpoint, Id, make_id
from pipeline.models.checkpoint import seal
from service.actions import promote as promoting
from storage.store import Store


def make_checkpoint(store: Store, name: str, constitution: str | None = None, run: Id | None = None) -> Checkpoint:
    """A folder with a manifest; nothing here loads a model from it."""
    partial = Path(f"{name}.partial")
    partial.mkdir()
    (partial / "config.json").write_text(json.dumps({"name": name}))
    ident = make_id("job", name=name)
    manifest = seal(
        partial, Path(name), job=ident.hex(), kind="policy", method="dpo", parent="0" * 64, dataset="0" * 64, metrics={}
    )
    path = str(Path(name).absolute())
    checkpoint = Checkpoint(ident, "policy", "dpo", path, manifest.digest, "0" * 64, "0" * 64, constitution)
    store.add_checkpoint(checkpoint, run)
    return checkpoint


def test_promote_moves_the_link_and_remembers_why(store, precept) -> None:
    one, two = make_checkpoint(store, "one"), make_checkpoint(store, "two")
    assert precept("model", "promote", "one", "--why", "the first").code == 0
    assert precept("model", "promote", two.id.hex()[:8], "--why", "better \x1b[2J").code == 0
    assert Path("runs/promoted/config.json").read_text() == json.dumps({"name": "two"})
    assert store.promoted() == two
    back = precept("model", "rollback", "--why", "it was not", "--json").json
    assert back["digest"] == one.digest
    assert Path("runs/promoted").resolve() == Path("one").resolve()
    history = precept("model", "list", "--promotions", "--json").json
    assert [(h["what"], h["who"], h["why"]) for h in history] == [
        ("promotion", "ada", "the first"),
        ("promotion", "ada", "better \x1b[2J"),
        ("roll-back", "ada", "it was not"),
    ]
    assert "\x1b" not in precept("model", "list", "--promotions").out


def test_what_is_proposed_is_shown_until_a_person_confirms_it(store, precept) -> None:
    one, two = make_checkpoint(store, "one"), make_checkpoint(store, "two")
    store.propose(two, "night", "run 1 proposes it", "q", {"reasons": ["failed: win rate 0.480"]})
    states = {m["path"]: (m["promoted"], m["proposed"]) for m in precept("model", "list", "--json").json}
    assert states == {one.path: (False, False), two.path: (False, True)}
    assert "proposed now" in precept("model", "list").out
    assert f"precept model promote {two.id.hex()[:12]} --why TEXT" in precept("model", "show", "two").out
    finding = next(f for f in precept("doctor", "--json").json["findings"] if f["what"] == "proposal")
    assert not finding["ok"] and not finding["needed"] and two.id.hex()[:12] in finding["mend"]
    assert precept("model", "promote", "two", "--why", "its answers are good").code == 0
    assert store.promoted() == two and store.proposal() is None
    (event,) = store.promotions()
    assert event.who == "ada" and event.payload["evidence"].keys() == {"proposal"}
    assert all(f["what"] != "proposal" for f in precept("doctor", "--json").json["findings"])


def test_an_unratified_constitution_is_refused(store, labelled, precept) -> None:
    checkpoint = make_checkpoint(store, "tuned", labelled.run.constitution)
    refused = precept("model", "promote", "tuned", "--why", "because")
    assert refused.code == 2 and "not ratified" in refused.err
    assert not Path("runs/promoted").is_symlink()
    store.ratify(labelled.run.constitution, "ada", "agreed", key="k")
    assert precept("model", "promote", "tuned", "--why", "because").code == 0
    assert store.promoted() == checkpoint


def test_a_checkpoint_that_was_altered_is_refused(store, precept) -> None:
    make_checkpoint(store, "tuned")
    Path("tuned/config.json").write_text("{}")
    refused = precept("model", "promote", "tuned", "--why", "because")
    assert refused.code == 2 and "not what was published" in refused.err
    assert store.promoted() is None


def test_promote_without_a_reason_does_nothing(store, precept) -> None:
    make_checkpoint(store, "tuned")
    assert precept("model", "promote", "tuned").code == 2
    assert store.promoted() is None


def test_the_list_says_what_each_checkpoint_is(store, labelled, precept) -> None:
    by_hand = make_checkpoint(store, "hand")
    store.ratify(labelled.run.constitution, "ada", "agreed", key="k")
    tuned = make_checkpoint(store, "tuned", labelled.run.constitution, labelled.run.id)
    run = labelled.run.id.hex()
    store.put_document("evaluation", run, {"win_rate": {"mean": 0.81, "low": 0.7, "high": 0.9}})
    store.put_document("decision", run, {"promoted": False, "reasons": ["failed: x \x1b[2J"], "model": tuned.path})
    assert precept("model", "promote", "tuned", "--why", "reviewed \x1b[2J").code == 0
    newest, oldest = precept("model", "list", "--json").json
    assert (newest["id"], newest["run"], newest["promoted"]) == (tuned.id.hex(), run, True)
    assert (newest["win_rate"], newest["decided"], newest["constitution"]) == (0.81, "refused", tuned.constitution)
    assert (newest["kind"], newest["method"], newest["path"]) == ("policy", "dpo", tuned.path)
    assert (oldest["id"], oldest["run"], oldest["promoted"], oldest["win_rate"]) == (
        by_hand.id.hex(),
        None,
        False,
        None,
    )
    first, second = precept("model", "list").out.splitlines()[1:]
    assert first.split()[:3] == [tuned.id.hex()[:12], "policy", "dpo"] and "0.810" in first and "promoted now" in first
    assert "by hand" in second

    shown = precept("model", "show", "promoted").out
    assert "failed: x <U+001B>[2J" in shown and "reviewed <U+001B>[2J" in shown and "\x1b" not in shown
    found = precept("model", "show", "tuned", "--json").json
    assert found["reasons"] == ["failed: x \x1b[2J"] and [p["who"] for p in found["promotions"]] == ["ada"]
    assert found["parent"] == "0" * 64 and precept("model", "show", "hand", "--json").json["promotions"] == []


def test_merging_promotes_nothing_and_needs_an_adapter(store, precept) -> None:
    make_checkpoint(store, "tuned")
    (Path("tuned") / "more").mkdir()
    refused = precept("model", "merge", "tuned", "merged")
    assert refused.code == 2 and not Path("merged").exists()
    assert store.promoted() is None and not Path("runs/promoted").is_symlink()


def test_report_finds_the_newest_that_is_there(store, labelled, precept) -> None:
    Path("report.html").write_text("<p>")
    store.finish_run(labelled.run.id, "finished", result={"report": "report.html"})
    assert precept("run", "report").out == "report.html\n"
    assert precept("run", "report", labelled.run.id.hex()[:6]).out == "report.html\n"
    Path("report.html").unlink()
    assert "not there any more" in precept("run", "report").err


@pytest.mark.slow
def test_train_writes_a_checkpoint_and_finds_it_again(project, precept) -> None:
    _tiny_model(Path("model"))
    rows = [{"prompt": _said("user", f"say {n}"), "completion": _said("assistant", "yes")} for n in range(8)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["train", "--method", "sft", "--data", "rows.jsonl", "--model", "model", "--out", "tuned"]
    words += ["--arg", "max_steps=2"]
    done = precept(*words, "--json").json
    assert done["kind"] == "policy" and done["metrics"]["rows"] == 8
    assert Path("tuned/model.safetensors").is_file()
    assert precept(*words, "--json").json["digest"] == done["digest"]
    assert precept(*words[:-2], "--set", "max_steps=2", "--json").json["digest"] == done["digest"]  # as it was called
    other = precept(*words, "--seed", "1")
    assert other.code == 2 and "is not this job's checkpoint" in other.err


def _said(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


def _tiny_model(folder: Path) -> None:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: n for n, c in enumerate(["<pad>", "<end>", *alphabet])}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>")
    wrapped.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}<end>{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(wrapped), max_position_embeddings=128, pad_token_id=0, eos_token_id=1, **size)
    LlamaForCausalLM(config).save_pretrained(folder)
    wrapped.save_pretrained(folder)


def test_going_back_to_what_was_promoted_with_merged_weights_serves_those(store, precept, monkeypatch) -> None:
    """The link is what a server loads, and it may read no adapter. What is merged is not what is tested here."""
    one, _ = make_checkpoint(store, "one"), make_checkpoint(store, "two")
    weights = make_checkpoint(store, "weights")
    made = promoting.Merged(one, Path(weights.path), weights.digest)
    monkeypatch.setattr(promoting, "merge", lambda store, name, out: made)
    assert precept("model", "promote", "one", "--merge", "weights", "--why", "the first").code == 0
    assert Path("runs/promoted").resolve() == Path("weights").resolve()
    assert precept("model", "promote", "two", "--why", "better").code == 0
    back = precept("model", "rollback", "--why", "it was not", "--json").json
    assert back["digest"] == one.digest == store.promoted().digest
    assert Path("runs/promoted").resolve() == Path("weights").resolve()
    assert precept("model", "promote", "two", "--why", "after all").code == 0
    Path("weights/config.json").write_text("{}")
    refused = precept("model", "rollback", "--why", "no")
    assert refused.code == 2 and "nothing was rolled back" in refused.err and "weights" in refused.err
    assert precept("model", "promote", "one", "--why", "the adapter alone").code == 0
    assert precept("model", "promote", "two", "--why", "again").code == 0
    assert precept("model", "rollback", "--why", "and back").code == 0
    assert Path("runs/promoted").resolve() == Path("one").resolve()
