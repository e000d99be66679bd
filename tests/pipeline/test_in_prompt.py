"""A constitution as a system prompt: what decides first stands first, and each principle in its own words."""

from __future__ import annotations

from constitution.principles import Constitution, Principle, When
from constitution.records import Message, Prompt
from pipeline.in_prompt import chosen, instruction, system_text, with_system

KIND = Principle("kind", "Be kind", "c", "r", "Which reply is kinder?")


def test_an_instruction_has_title_question_reason_and_who_may_set_it_aside() -> None:
    said = instruction(
        Principle(
            "safe", "Keep people safe", "c", "r", "Which reply keeps people safer?", applies="when it could hurt",
            why="Anybody may read it", overridable=("operator", "user"),
        )
    )  # fmt: skip
    assert said == (
        "Keep people safe. Write the reply that keeps people safer. Why: Anybody may read it. This applies when it "
        "could hurt. The operator or the user may set this aside."
    )
    odd = Principle("odd", "Be even!", "c", "r", "After which reply is it even?", applies="always")
    assert instruction(odd) == "Be even! Of two replies it is asked: After which reply is it even?"


def test_the_hard_ones_then_the_higher_tiers_then_the_heavier_come_first() -> None:
    def one(id: str, **more) -> Principle:
        return Principle(id, id, "c", "r", "Which reply is it?", **more)

    text = system_text(
        Constitution("x", (one("light", weight=1), one("heavy"), one("high", tier=2), one("never", hard=True)))
    )
    assert [text.index(f"{n}. {id}.") for n, id in enumerate(("never", "high", "heavy", "light"), 1)] == sorted(
        text.index(f". {id}.") - 1 for id in ("never", "high", "heavy", "light")
    )


def test_a_system_message_of_the_prompt_s_own_is_kept() -> None:
    user = Message("user", "Hi")
    assert with_system((user,), "Be kind.") == (Message("system", "Be kind."), user)
    both = with_system((Message("system", "Be brief."), user), "Be kind.")
    assert both == (Message("system", "Be kind.\n\nBe brief."), user)
    assert with_system((user,), "") == (user,)


def test_prompts_that_the_edit_speaks_of_come_first_and_none_is_held_out() -> None:
    prompts = [
        Prompt((Message("user", f"Q{n}"),), "heldout" if n % 5 == 0 else "train", "", ("harm",) if n % 7 == 3 else ())
        for n in range(30)
    ]
    safe = Principle("safe", "t", "c", "r", "k", when=When(tags=("harm",)))
    found = chosen(prompts, [safe, KIND], 6, seed=0)
    assert len(found) == 6 and all(p.split == "train" for p in found)
    tagged = [p for p in prompts if p.tags and p.split == "train"]
    assert {p.id for p in tagged} <= {p.id for p in found[: len(tagged)]}
    assert chosen(prompts, [safe], 6, seed=0) == found
    assert chosen(prompts, [KIND], 6, seed=1) != chosen(prompts, [KIND], 6, seed=2)
