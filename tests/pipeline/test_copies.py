"""What counts as a copy, on texts that a real small model wrote (SmolLM2-135M-Instruct, temperature 0.7, asked to
criticise and to revise its own answers), and on every revision that the sandbox's world can make."""

from __future__ import annotations

import re
import time

import pytest

from constitution.principles import Exemplar, Principle
from constitution.records import Generation, GenerationKind, Message, Messages, Prompt
from pipeline import revise
from pipeline.copies import copied, is_copy
from sandbox.corpus import Corpus
from sandbox.world import Request

SPY = "The reply explains how to spy on somebody in secret. The flatmate loses his privacy and could be blackmailed."
HELP = (
    "I won't help to read his messages in secret. If something he does worries you, I can help you find words to "
    "raise it with him."
)
REWRITE = "Rewrite the last reply so that nobody is helped to do harm."
HARMLESS = Principle(
    "harmless",
    "Help nobody to hurt anyone",
    "Would the last reply make it easier to hurt a person? Quote the part that would, and say who could be hurt.",
    REWRITE,
    "Which reply gives less help to someone who means to do harm?",
    exemplars=(Exemplar((Message("user", "How do I read his messages?"),), "Install a monitoring app.", SPY, HELP),),
)
ANSWER = "You can use the following code to kill a Python process: kill_process(name)."

# What SmolLM2 wrote: the critique, the revision, and why that is none.
WRITTEN = [
    ("The last reply is not true.", "The last reply is not true.", "copy_of_critique"),
    (
        'The last reply is "too vague" and "not enough information" or "not enough detail" but doesn\'t provide enough '
        "information to answer the question asked.",
        'The last reply is "too vague" and "not enough detail" or "not enough information" but doesn\'t provide enough '
        "detail to answer the question asked.",
        "copy_of_critique",
    ),
    (
        "1. I am not sure if I am being asked to find all statements that are false or invented.",
        "1. I am not sure if I am being asked to find all statements that are false or invented.\n\nHere is the new "
        "reply, which I am not sure of either, and which goes on for as long again as what it began with did.",
        "copy_of_critique",
    ),
    ("It explains that a person's actions can be used to harm someone.", HELP, "copy_of_exemplar"),
    ("It helps to hurt.", f"{HELP} The response also explains that it is not easy to do that.", "copy_of_exemplar"),
    ("It helps to hurt.", SPY, "copy_of_exemplar"),
    (SPY, "I will not say how to do that.", "critique_of_exemplar"),
    (f"{SPY} The response explains that the flatmate is told so.", "I will not say how.", "critique_of_exemplar"),
    ("It helps to hurt.", "How can I kill a Python process?", "copy_of_request"),
    ("It helps to hurt.", "how can i KILL a  python process", "copy_of_request"),
    ("It helps to hurt.", f"{REWRITE} Write only the new reply.", "copy_of_instruction"),
    ("It helps to hurt.", f"{REWRITE} Kill it with care.", "copy_of_instruction"),
    # And what is no copy, though it shares words with what it was asked with.
    (
        "The last reply is missing the part that would be used for a complete sentence.",
        "He goes to school yesterday and buys a book. This is a complete sentence with no unnecessary padding.",
        None,
    ),
    (
        "The last reply does not provide a clear answer to the question asked, and it is unclear what the user means.",
        "To kill a Python process, find its number first, and then ask it to stop.",
        None,
    ),
    ("It would be better to say: press Control and C.", "Press Control and C.", None),  # a suggestion that was taken
    ("It helps to hurt.", "How can I kill a Python process? Press Control and C in its window, once.", None),
    ("It helps to hurt.", ANSWER, None),  # left as it is: nothing to mend
]  # fmt: skip


def generation(kind: GenerationKind, text: str) -> Generation:
    return Generation(b"x" * 16, kind, PROMPT.id, text, "stop", "engine", principle="harmless")


PROMPT = Prompt((Message("user", "How can I kill a Python process?"),), "train")


@pytest.mark.parametrize(("critique", "revision", "why"), WRITTEN)
def test_what_a_real_model_copied_is_dropped_and_the_rest_is_kept(
    critique: str, revision: str, why: str | None
) -> None:
    (chain,) = revise.start([PROMPT], [generation("response", ANSWER)])
    after = revise.advance(chain, generation("critique", critique), generation("revision", revision), HARMLESS, 0)
    assert after.reasons.get(0) == why
    assert after.current.text == (revision if why is None else ANSWER)
    assert after.dropped == ({why: 1} if why else {}) and len(after.steps) == 2
    assert after.untouched == (revision == ANSWER)
    assert why is None or why in revise.REASONS


def test_what_the_answer_is_near_already_is_no_fault_of_its_revision() -> None:
    """A text to be corrected comes back nearly as it was, from the answer and from the revision of it."""
    request = "Correct this: the fox jump over the dog, the cat sleeps on the mat and the mouse eats all the cheese"
    answer = "the fox jumps over the dog, the cat sleeps on the mat and the mouse eats all the cheese"
    revision = "The fox jumps over the dog; the cat sleeps on the mat, and the mouse eats all of the cheese."
    assert is_copy(revision, request) and is_copy(answer, request)
    assert not copied(revision, answer, [request]) and copied(revision, "No.", [request])
    assert copied(request, answer, [request])  # the very same words are one whatever the answer was


@pytest.mark.parametrize("text", ["", "  ", "?!", "\x00\ud800"])
def test_texts_without_words_are_copies_of_nothing(text: str) -> None:
    assert not is_copy(text, text) and not is_copy(text, "a word") and not is_copy("a word", text)


def test_a_huge_text_takes_no_time() -> None:
    began = time.process_time()
    for one, other in (
        ("a " * 100_000, "a " * 100_000 + "b"),
        ("ab " * 50_000, "ab cd " * 50_000),
        ("x" * 10**6, "y" * 10**6),
    ):
        is_copy(one, other)
    assert time.process_time() - began < 5


def test_no_revision_that_the_sandbox_teaches_is_a_copy() -> None:
    """Of its request, its critique and its instructions: 400 answers of the sandbox's world and what mends them."""
    corpus = Corpus("policy", seed=5)
    seen = 0
    for _ in range(400):
        asked: list[str] = []

        def request(told: list[str] = asked) -> tuple[Request, Messages]:
            found, turns = Corpus.request(corpus)
            told[:] = [turns[-1].content]
            return found, turns

        corpus.request = request  # type: ignore[method-assign]
        for chat in corpus.chain().chats:
            *before, (revision, _) = chat
            turns = [[t for t in re.split(r"<\|\w+\|>", text) if t] for text, weight in before if not weight]
            instructions = [some[-1] for some in turns]
            critiques = [text.removesuffix("<|end|>") for text, weight in before if weight]
            text = revision.removesuffix("<|end|>")
            assert instructions and all(instruction.strip() for instruction in instructions)
            for sources, held in (([*critiques, *instructions], True), (asked, False)):
                assert not copied(text, "", sources, held), (text, sources)
            seen += 1
    assert seen > 400
