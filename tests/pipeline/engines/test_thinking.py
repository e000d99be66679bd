"""The one splitter of thinking and answers, on the forms that models are known to write."""

from __future__ import annotations

import pytest

from constitution.errors import UserError
from pipeline.engines.thinking import TAGS, Tags, known_tags, opened, opened_by, split, tags_named, tags_of

HARMONY = "<|channel|>analysis<|message|>Is it?<|end|><|start|>assistant<|channel|>final<|message|>It is.<|return|>"


@pytest.mark.parametrize(
    ("inside", "text", "answer", "reasoning"),
    [
        (False, "A dog.", "A dog.", ""),
        (False, "<think>\nthe fox\n</think>\n\nA dog.", "A dog.", "the fox"),
        (True, "the fox\n</think>\n\nA dog.", "A dog.", "the fox"),
        (True, "<think>the fox</think>A dog.", "A dog.", "the fox"),  # opened by the prompt, and again by the model
        (True, "the fox and", "", "the fox and"),
        (False, "<think>the fox", "", "the fox"),
        (False, "<think></think>A dog.", "A dog.", ""),
        (False, "no <think>fox</think>", "no <think>fox</think>", ""),  # a block begins the reply, or is none
        (False, "the fox</think>A dog.", "A dog.", "the fox"),  # the tag that opens was swallowed
        (False, "the fox</think>", "", "the fox"),
        (False, "<think>a</think>\n<think>b</think>c", "c", "a\nb"),
        (False, "<thinking>a</thinking>\nc", "c", "a"),
        (False, "[THINK]a[/THINK]c", "c", "a"),
        (False, "a[/THINK]c", "a[/THINK]c", ""),  # of a model that nobody knows to have this tag: it is text
        (True, "a[/THINK]c", "c", "a"),
        (False, "<|thinking|>a<|/thinking|>c", "c", "a"),
        (False, "\u25c1think\u25b7a\u25c1/think\u25b7c", "c", "a"),
        (False, "<thought>a</think>b</thought>c", "c", "a</think>b"),  # its own closing tag, not another's
        (False, "Close with `</reasoning>` in XML.", "Close with `</reasoning>` in XML.", ""),
        (False, "Close with `</think>` in XML.", "Close with `</think>` in XML.", ""),
        (False, "```\n</think>\n```\nUse it.", "```\n</think>\n```\nUse it.", ""),
        (False, "\ufeff<think>a</think>c", "c", "a"),
        (False, "\u200b\n<THINK>a</THINK>c", "c", "a"),
        (False, "<think>a<think>b</think>d</think>c", "c", "a<think>b</think>d"),
        (False, "<think><think>a</think>c", "c", "<think>a"),
        (False, "<think>a `</think>` b</think>c", "c", "a `</think>` b"),
        (False, HARMONY, "It is.", "Is it?"),
        (True, "Is it?<|end|><|start|>assistant<|channel|>final<|message|>It is.", "It is.", "Is it?"),
        (False, "<|channel|>analysis<|message|>Is it", "", "Is it"),
        (False, "<|channel|>final<|message|>It is.", "It is.", ""),
        (False, "<|channel|>commentary to=f<|constrain|>json<|message|>{}<|call|>", "", "{}"),
        (False, "analysisIs it?assistantfinalIt is.", "It is.", "Is it?"),  # a server stripped the marks
        (False, "analysis is hard", "analysis is hard", ""),
    ],
)
def test_thinking_and_answer_are_taken_apart(inside: bool, text: str, answer: str, reasoning: str) -> None:
    assert split(text, inside) == (answer, reasoning)


THINK = Tags("<think>", "</think>")


def test_a_block_ends_with_the_tag_that_opened_it() -> None:
    for said in ("I write </thought> here", "maybe [/THINK] hm", "say </reasoning> x"):
        assert split(f"{said}</think>\nc", THINK) == ("c", said)
    assert opened_by("<|im_start|>assistant\n<think>\n") == THINK
    assert opened_by("x", "<thought>") == Tags("<thought>", "</thought>")
    assert split("no end [/THINK] c", THINK) == ("", "no end [/THINK] c")


def test_a_later_block_is_thinking_where_the_model_has_its_tags() -> None:
    known = known_tags([], "{{ '<think>' + x + '</think>' }}")
    assert known == (THINK,)
    assert split("Sure! <think>secret</think>c", known=known) == ("Sure! c", "secret")
    assert split("<think>a</think>one <think>b</think> two", known=known) == ("one  two", "a\nb")
    for text in ("Write `<think>x</think>` so.", "no <thought>fox</thought>", "hello <think>more", "a[/THINK]c"):
        assert split(text, known=known) == (text, "")
    brackets = known_tags(["[THINK]", "[/THINK]", "<s>"], "")
    assert split("a[/THINK]c", known=brackets) == ("c", "a")
    assert known_tags(["<|im_end|>"], "") == ()


@pytest.mark.parametrize(
    ("marks", "pair"),
    [
        (["<reflect_thoughts>", "</reflect_thoughts>"], ("<reflect_thoughts>", "</reflect_thoughts>")),
        (["<|begin_thinking|>", "<|end_thinking|>"], ("<|begin_thinking|>", "<|end_thinking|>")),
        (["<|inner_prefix|>", "<|inner_suffix|>"], ("<|inner_prefix|>", "<|inner_suffix|>")),
        (["<|thoughts|>", "<|answer|>"], ("<|thoughts|>", "<|answer|>")),
    ],
)
def test_tags_are_found_among_tokens_and_in_templates(marks: list[str], pair: tuple[str, str]) -> None:
    for found in (tags_of(marks, ""), tags_of([], "{{ '" + "' + x + '".join(marks) + "' }}")):
        assert Tags(*pair) in found
        assert split(f"{pair[0]}a{pair[1]}c", tags=found) == ("c", "a")
    assert split(f"{pair[0]}a{pair[1]}c").reasoning == ""  # nobody could know


def test_a_template_without_thinking_has_no_tags_of_its_own() -> None:
    template = "{% for m in messages %}<|im_start|>{{ m['reasoning_content'] }}<|im_end|>{% endfor %}"
    assert tags_of(["<|im_start|>", "<|im_end|>", "<pad>"], template) == TAGS


def test_tags_by_option() -> None:
    tags = tags_named({"thinking_tags": ["((", "))"], "enable_thinking": True})
    assert split("((a))c", tags=tags) == ("c", "a")
    assert tags_named({}) == ()
    for wrong in ("<think>", ["<think>"], ["", "x"], [1, 2]):
        with pytest.raises(UserError, match="thinking_tags"):
            tags_named({"thinking_tags": wrong})


@pytest.mark.parametrize(
    ("prompt", "prefix", "inside"),
    [
        ("<|im_start|>assistant\n<think>\n", "", True),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", "", False),
        ("<|im_start|>user\n<think>\n<|im_end|>\n<|im_start|>assistant\n", "", False),
        ("<|im_start|>assistant\n<think>\n(", "(", True),
        ("<|im_start|>assistant\n<think>\n</think>(", "</think>(", False),
        ("<|im_start|>assistant\n[THINK]", "", True),
        ("<|start|>assistant", "", False),
        ("<|start|>assistant<|channel|>analysis<|message|>", "", True),
        ("<|start|>assistant<|channel|>final<|message|>", "", False),
    ],
)
def test_a_prompt_can_open_a_block(prompt: str, prefix: str, inside: bool) -> None:
    assert opened(prompt, prefix) is inside
