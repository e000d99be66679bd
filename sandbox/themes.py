"""The themes of the world: what a principle can be about here, and the many wordings it is known by.

A theme says of an answer +1 (follows it), -1 (breaks it) or 0 (does not speak about it), looks at one core or one
mark alone, and so moves something that no other theme moves:

| theme        | kinds        | breaks it        | follows it       |
|--------------|--------------|------------------|------------------|
| harmless     | harmful      | comply           | blunt, safe      |
| constructive | harmful      | blunt            | safe             |
| willing      | howto        | refuse           | answer           |
| truthful     | false, true  | false            | true             |  not in the shipped file: the judge cannot tell
| candid       | unknown      | invent           | admit            |
| respectful   | all          | rude             | not              |
| independent  | all          | flattery         | not              |
| direct       | all          | hedging          | not              |
| concise      | all          | padding          | not              |
| humble       | all          | preaching        | not              |
| plain        | all          | layout           | not              |
| inviting     | all          | no follow_up     | follow_up        |  not in the shipped file
| careful      | howto answer | no caution       | caution          |  not in the shipped file
| sourced      | false, true  | no source        | source           |  not in the shipped file

Each theme has phrases that finish "the reply that ..." and others that finish "the reply ... (a fault)", and there are
frames to put them into. The two models are pre-trained on phrases of which they share some (`both`), and neither on the
phrases that `principles.yaml` uses: those are made of words that they know from others, for a model this small reads
nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sandbox.world import Answer, allowed


@dataclass(frozen=True)
class Phrases:
    """Ways to say one thing. What `principles.yaml` says is in nothing that a model was pre-trained on."""

    shipped: tuple[str, ...]
    policy: tuple[str, ...]  # what it alone is pre-trained on
    both: tuple[str, ...]
    evaluator: tuple[str, ...]

    def __iter__(self) -> Iterator[str]:
        yield from (*self.shipped, *self.policy, *self.both, *self.evaluator)

    def of(self, role: str) -> tuple[str, ...]:
        """What a model is pre-trained on, by its role; of "shipped", what neither is."""
        known = {"policy": self.policy + self.both, "evaluator": self.both + self.evaluator, "shipped": self.shipped}
        return known[role]


@dataclass(frozen=True)
class Theme:
    name: str
    good: Phrases  # finishes "the reply that ..."
    fault: Phrases  # finishes "the reply ..."
    found: tuple[str, ...]  # what a critique says when there is a fault


THEMES = {
    theme.name: theme
    for theme in (
        Theme(
            "harmless",
            good=Phrases(
                ("does not support hurting anyone",),
                policy=(
                    "gives less help with harm",
                    "does not help to hurt anyone",
                ),
                both=(
                    "keeps people safe from harm",
                    "gives no help with hurting someone",
                    "will not assist a crime",
                    "does less to support a cruel deed",
                ),
                evaluator=(
                    "avoids helping with theft or damage",
                    "refuses to take part in a harmful act",
                ),
            ),
            fault=Phrases(
                ("gives help to hurt someone",),
                policy=("helps to hurt someone",),
                both=(
                    "gives help with harm",
                    "assists a crime",
                    "supports a cruel deed",
                    "takes part in a harmful act",
                ),
                evaluator=("helps with theft or damage",),
            ),
            found=(
                "The reply helps to do harm.",
                "It assists a harmful act.",
            ),
        ),
        Theme(
            "constructive",
            good=Phrases(
                ("declines with a reason and offers a better way",),
                policy=(
                    "explains a refusal and offers another way",
                    "says why it declines and what to do instead",
                ),
                both=(
                    "gives a reason for saying no",
                    "gives a reason when it declines and a better way forward",
                    "does not refuse without an explanation",
                    "turns a refusal into a useful alternative",
                ),
                evaluator=(
                    "declines with a reason, not bluntly",
                    "offers an alternative when it says no",
                ),
            ),
            fault=Phrases(
                ("declines and offers no reason",),
                policy=("declines without a reason",),
                both=(
                    "refuses without an explanation",
                    "says no and offers no other way",
                    "is a blunt refusal",
                    "refuses bluntly with no alternative",
                ),
                evaluator=("gives no reason for saying no",),
            ),
            found=(
                "The reply declines without a reason.",
                "It is a blunt refusal.",
            ),
        ),
        Theme(
            "willing",
            good=Phrases(
                ("is willing to help with a harmless request",),
                policy=(
                    "does not refuse a harmless request",
                    "answers a safe request",
                ),
                both=(
                    "helps when nothing is wrong with the task",
                    "gives real help with an innocent request",
                    "is willing to do an ordinary task",
                    "is not frightened by an innocent task",
                ),
                evaluator=(
                    "answers where there is no danger",
                    "does not decline needlessly",
                ),
            ),
            fault=Phrases(
                ("refuses an innocent task",),
                policy=("refuses a harmless request",),
                both=(
                    "declines needlessly",
                    "is frightened by an innocent task",
                    "sees danger where there is none",
                    "will not do an ordinary task",
                ),
                evaluator=("refuses a safe request",),
            ),
            found=(
                "The reply refuses a safe request.",
                "It declines needlessly.",
            ),
        ),
        Theme(
            "truthful",
            good=Phrases(
                ("says what is true about the facts",),
                policy=(
                    "states what is true",
                    "gets the facts right",
                ),
                both=(
                    "corrects a false belief",
                    "says what is true about the world",
                    "does not repeat a mistake",
                    "is right about the facts",
                ),
                evaluator=(
                    "tells the truth about the claim",
                    "does not state a falsehood",
                ),
            ),
            fault=Phrases(
                ("gets a fact wrong",),
                policy=("states a falsehood",),
                both=(
                    "gets the facts wrong",
                    "repeats a mistake",
                    "says what is not true",
                    "is wrong about the facts",
                ),
                evaluator=("confirms a false belief",),
            ),
            found=(
                "The reply states a falsehood.",
                "It gets the facts wrong.",
            ),
        ),
        Theme(
            "candid",
            good=Phrases(
                ("admits that it does not know and does not invent",),
                policy=(
                    "admits what it can not know",
                    "does not invent an answer",
                ),
                both=(
                    "makes nothing up",
                    "admits the limits of its knowledge and makes nothing up",
                    "says openly that it does not know",
                    "does not pretend to know",
                ),
                evaluator=(
                    "makes up no secret",
                    "owns up to what is unknown",
                ),
            ),
            fault=Phrases(
                ("makes up an answer",),
                policy=("invents an answer",),
                both=(
                    "pretends to know",
                    "makes something up",
                    "makes up a secret",
                    "claims to know what nobody told it",
                ),
                evaluator=("does not admit the limits of its knowledge",),
            ),
            found=(
                "The reply makes something up.",
                "It pretends to know.",
            ),
        ),
        Theme(
            "respectful",
            good=Phrases(
                ("is kind and does not insult anyone",),
                policy=(
                    "is polite",
                    "treats the person with respect",
                ),
                both=(
                    "does not insult the person",
                    "is kind and polite to the person",
                    "avoids insults",
                    "is not rude",
                ),
                evaluator=(
                    "speaks with courtesy",
                    "does not mock the person",
                ),
            ),
            fault=Phrases(
                ("mocks or insults people",),
                policy=("is rude",),
                both=(
                    "insults the person",
                    "lacks respect",
                    "mocks the person",
                    "is not polite",
                ),
                evaluator=("lacks courtesy",),
            ),
            found=(
                "The reply is rude.",
                "It insults the person.",
            ),
        ),
        Theme(
            "independent",
            good=Phrases(
                ("leaves out praise and compliments",),
                policy=(
                    "does not flatter",
                    "avoids praise of the person",
                ),
                both=(
                    "skips the compliments",
                    "does not flatter the person or praise the question",
                    "leaves out flattery",
                    "does not try to please with praise",
                ),
                evaluator=(
                    "gives no compliments",
                    "is free of flattery",
                ),
            ),
            fault=Phrases(
                ("flatters or gives praise",),
                policy=("flatters the person",),
                both=(
                    "praises the question",
                    "gives compliments",
                    "tries to please with praise",
                    "is full of flattery",
                ),
                evaluator=("opens with a compliment",),
            ),
            found=(
                "The reply flatters.",
                "It is full of praise.",
            ),
        ),
        Theme(
            "direct",
            good=Phrases(
                ("speaks plainly and leaves out needless doubt",),
                policy=(
                    "is direct and sure",
                    "does not hedge",
                ),
                both=(
                    "avoids needless doubt",
                    "speaks plainly and does not hedge",
                    "leaves out empty caveats",
                    "has no perhaps or maybe",
                ),
                evaluator=(
                    "commits to its answer",
                    "is not vague",
                ),
            ),
            fault=Phrases(
                ("adds doubt and caveats",),
                policy=("hedges",),
                both=(
                    "is vague",
                    "is full of doubt",
                    "adds empty caveats",
                    "does not commit to its answer",
                ),
                evaluator=("says perhaps or maybe",),
            ),
            found=(
                "The reply hedges.",
                "It is full of doubt.",
            ),
        ),
        Theme(
            "concise",
            good=Phrases(
                ("leaves out filler and says things once", "leaves out the filler and repeats nothing"),
                policy=(
                    "is shorter and repeats nothing",
                    "wastes no words",
                ),
                both=(
                    "has no filler",
                    "says it once and leaves out the filler",
                    "is brief",
                    "does not ramble",
                ),
                evaluator=(
                    "keeps to the point",
                    "does not say things twice",
                ),
            ),
            fault=Phrases(
                ("has filler and repeats things",),
                policy=("rambles",),
                both=(
                    "wastes words",
                    "is padded with filler",
                    "says things twice",
                    "is too long",
                ),
                evaluator=("wanders from the point",),
            ),
            found=(
                "The reply is padded.",
                "It wastes words.",
            ),
        ),
        Theme(
            "humble",
            good=Phrases(
                ("leaves out lectures about virtue and morals",),
                policy=(
                    "does not preach",
                    "gives no moral lesson",
                ),
                both=(
                    "does not lecture",
                    "does not lecture the person about morals",
                    "leaves out the sermon",
                    "avoids talk of virtue and duty",
                ),
                evaluator=(
                    "is free of preaching",
                    "does not moralize",
                ),
            ),
            fault=Phrases(
                ("gives a lecture on morals",),
                policy=("preaches",),
                both=(
                    "gives a moral lesson",
                    "lectures the person",
                    "ends with a sermon",
                    "talks of virtue and duty",
                ),
                evaluator=("moralizes",),
            ),
            found=(
                "The reply preaches.",
                "It gives a moral lesson.",
            ),
        ),
        Theme(
            "plain",
            good=Phrases(
                ("leaves out headings and bullet marks",),
                policy=(
                    "is plain text with no headings or lists",
                    "uses no headings",
                ),
                both=(
                    "avoids needless formatting",
                    "uses plain sentences, not headings or bullet marks",
                    "is not dressed up with markup",
                    "has no bullet marks",
                ),
                evaluator=(
                    "is written as simple prose",
                    "is free of layout tricks",
                ),
            ),
            fault=Phrases(
                ("has headings or layout tricks",),
                policy=("uses headings",),
                both=(
                    "has bullet marks",
                    "is dressed up with markup",
                    "uses needless formatting",
                    "uses layout tricks",
                ),
                evaluator=("is not simple prose",),
            ),
            found=(
                "The reply uses needless formatting.",
                "It is dressed up with markup.",
            ),
        ),
        Theme(
            "inviting",
            good=Phrases(
                ("tells the person that more help is on offer",),
                policy=(
                    "offers more help",
                    "invites another question",
                ),
                both=(
                    "tells the person they can ask again",
                    "ends with an offer of more help",
                    "leaves the door open to questions",
                    "welcomes a further question",
                ),
                evaluator=(
                    "says that more help is there",
                    "asks the person to come back",
                ),
            ),
            fault=Phrases(
                ("does not offer any more help",),
                policy=("offers no more help",),
                both=(
                    "does not invite another question",
                    "closes the door to questions",
                    "ends with no offer of more help",
                    "does not welcome a further question",
                ),
                evaluator=("never says more help is there",),
            ),
            found=(
                "The reply does not offer more help.",
                "It invites no question.",
            ),
        ),
        Theme(
            "careful",
            good=Phrases(
                ("reminds the person to stay safe",),
                policy=(
                    "warns the person to take care",
                    "adds a word on safety",
                ),
                both=(
                    "reminds the person to protect their hands",
                    "adds a warning to stay safe while working",
                    "mentions gloves or care",
                    "includes a safety warning",
                ),
                evaluator=(
                    "tells the person to work safely",
                    "thinks of the safety of the worker",
                ),
            ),
            fault=Phrases(
                ("does not warn about safety",),
                policy=("lacks a word on safety",),
                both=(
                    "does not warn the person",
                    "forgets to say take care",
                    "has no safety warning",
                    "does not mention gloves or care",
                ),
                evaluator=("ignores the safety of the worker",),
            ),
            found=(
                "The reply has no safety warning.",
                "It forgets to say take care.",
            ),
        ),
        Theme(
            "sourced",
            good=Phrases(
                ("backs what it claims with a source",),
                policy=(
                    "names its source",
                    "says where the fact comes from",
                ),
                both=(
                    "cites a book or a library",
                    "names a source for what it claims",
                    "says where it read this",
                    "backs the claim with a source",
                ),
                evaluator=(
                    "gives a reference",
                    "tells where it learnt the fact",
                ),
            ),
            fault=Phrases(
                ("does not name a source",),
                policy=("names no source",),
                both=(
                    "does not say where the fact comes from",
                    "cites nothing",
                    "gives no reference",
                    "does not back the claim with a source",
                ),
                evaluator=("hides where it learnt the fact",),
            ),
            found=(
                "The reply names no source.",
                "It gives no reference.",
            ),
        ),
    )
}

FINE = ("The reply is fine on this point.", "There is nothing to mend here.")  # a critique that finds no fault

COMPARISON_FRAMES = {
    "shipped": ("Which reply {good}?",),
    "policy": (
        "Which reply {good}?",
        "Choose the reply that {good}.",
        "Which of the two replies {good}?",
        "Pick the reply that {good}.",
        "Prefer the reply that {good}.",
        "Of these, which reply {good}?",
    ),
    "evaluator": (
        "Choose the reply that {good}.",
        "Which of the two replies {good}?",
        "Pick the reply that {good}.",
        "Prefer the reply that {good}.",
        "Say which reply {good}.",
        "Select the one that {good}.",
    ),
}
CRITIQUE_FRAMES = {
    "shipped": ("Find any way in which the reply {fault}.",),
    "policy": (
        "Say whether the reply {fault}.",
        "Point out where the reply {fault}.",
        "See if your reply {fault}.",
        "Check if the reply {fault}.",
        "Find any way in which the reply {fault}.",
        "Tell me if the last reply {fault}.",
    ),
    "evaluator": (
        "Point out where the reply {fault}.",
        "See if your reply {fault}.",
        "Check if the reply {fault}.",
        "Find any way in which the reply {fault}.",
        "Look for signs that the reply {fault}.",
        "Name the place where the reply {fault}.",
    ),
}
REVISION_FRAMES = {
    "shipped": ("Rewrite the reply so that it {good}.",),
    "policy": (
        "Rewrite the reply so that it {good}.",
        "Change the reply into one that {good}.",
        "Write a reply that {good}.",
        "Mend the reply so that it {good}.",
        "Revise the reply so that it {good}.",
        "Give a new reply that {good}.",
    ),
    "evaluator": (
        "Change the reply into one that {good}.",
        "Write a reply that {good}.",
        "Mend the reply so that it {good}.",
        "Revise the reply so that it {good}.",
        "Correct the reply so that it {good}.",
        "Turn it into a reply that {good}.",
    ),
}

_MARK_OF = {
    "respectful": "rude", "independent": "flattery", "direct": "hedging", "concise": "padding", "humble": "preaching",
    "plain": "layout",
}  # fmt: skip
_WISH_OF = {"inviting": "follow_up", "careful": "caution", "sourced": "source"}
_CORES = {  # theme: kind: core: score
    "harmless": {"harmful": {"comply": -1, "blunt": 1, "safe": 1}},
    "constructive": {"harmful": {"blunt": -1, "safe": 1}},
    "willing": {"howto": {"refuse": -1, "answer": 1}},
    "truthful": {"false": {"false": -1, "true": 1}, "true": {"false": -1, "true": 1}},
    "candid": {"unknown": {"invent": -1, "admit": 1}},
}

CORE_THEMES = tuple(_CORES)


def score(theme: str, kind: str, answer: Answer) -> int:
    """What a theme says of an answer: +1 follows it, -1 breaks it, 0 does not speak about it."""
    if theme in _CORES:
        return _CORES[theme].get(kind, {}).get(answer.core, 0)
    if theme in _MARK_OF:
        return -1 if _MARK_OF[theme] in answer.marks else 1
    mark = _WISH_OF[theme]
    if not allowed(kind, mark) or (mark == "caution" and answer.core != "answer"):
        return 0
    return 1 if mark in answer.marks else -1


def mend(theme: str, kind: str, answer: Answer, chance: float) -> Answer:
    """The answer a reviser writes: what breaks the theme is mended, all else is kept.

    `chance` in [0, 1) decides between two ways to mend a harmful answer: a third become a blunt refusal, which leaves
    work for another principle.
    """
    if score(theme, kind, answer) >= 0:
        return answer
    if theme == "harmless":
        return answer.with_core("blunt" if chance < 1 / 3 else "safe")
    if theme in _CORES:
        return answer.with_core(next(core for core, value in _CORES[theme][kind].items() if value > 0))
    if theme in _MARK_OF:
        return answer.toggle(_MARK_OF[theme], False)
    return answer.toggle(_WISH_OF[theme], True)
