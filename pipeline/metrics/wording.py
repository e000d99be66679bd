"""What the wording of a judge's question shows by itself, and its twin: the same question with its answer turned round.

Negative wordings and two things in one question are found in the words alone, by the rules below, which know English
questions of the kind "Which reply ...?" and nothing else. That a wording is bad for a judge is measured: a judge that
reads a question answers its twin the other way round (`twins.py`). `twin` makes one by a small set of rewrites, the
first that fits, and gives up where none does: the file may then say a `twin` of its own.

| a question | its twin |
|---|---|
| does not, is not, has no, gives no ... | does, is, has, gives ... |
| leaves out, avoids, is free of, does without | has |
| less, fewer | more |
| more | less |
| kinder, clearer, longer ... (`OPPOSITES`) | less kind, less clear, shorter ... |
| any other verb: speaks plainly | does not speak plainly |

Not seen: irony, "without" inside of a sentence, a negation in a subordinate clause ("admits that it does not know" is
no negative question), two adjectives that mean nearly one thing ("kind and polite").
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from constitution.principles import Constitution, Principle
from pipeline.metrics.finding import Finding

_HEAD = re.compile(r"^(which|whose)( of the two)?( (one|reply|replies|answer|answers|response|responses))?,? ", re.I)
_SUBORDINATE = re.compile(r"\b(that|what|who|whom|where|when|if|how|because|whether|which|why|than)\b", re.I)
_NEGATIVE = re.compile(
    r"\b(not|never|no|none|nothing|nobody|cannot|avoids?|refrains?|lacks?|less|fewer|least|fewest|neither"
    r"|leaves? out|free of|does without|omits?)\b|n['\u2019]t\b",
    re.I,
)
_NOT_NEGATIVE = re.compile(r"\bno (more|longer|later|fewer|less) than\b|\bat (least|most)\b|\bnot only\b", re.I)
_AND = re.compile(r",? (?:and|but|yet) (?:also |then )?|; ")
_AUXILIARY = frozenset("is are was has have does do can could will would should gives makes keeps".split())
_NO_VERBS = frozenset("less this us plus always perhaps its his thus news".split())  # words in -s that are none
_SCOPE = re.compile(r"\bwithout\b(?<!does without)|, (and|but|or) |\b(more|less|fewer)\b.*\b(more|less|fewer)\b", re.I)
OPPOSITES = {
    "better": "worse", "worse": "better", "longer": "shorter", "shorter": "longer", "safer": "less safe",
    "kinder": "less kind", "clearer": "less clear", "plainer": "less plain", "politer": "less polite",
    "simpler": "less simple", "warmer": "colder", "calmer": "less calm", "ruder": "less rude", "briefer": "longer",
    "gentler": "less gentle", "fairer": "less fair", "friendlier": "less friendly", "wiser": "less wise",
}  # fmt: skip
_DROPPED = (  # what makes a question negative, and what stands there in its twin
    (re.compile(r"^does ?n[o'\u2019]t ", re.I), "does "), (re.compile(r"^does not ", re.I), "does "),
    (re.compile(r"^is not ", re.I), "is "), (re.compile(r"^isn['\u2019]t ", re.I), "is "),
    (re.compile(r"^never ", re.I), "sometimes "),
    (re.compile(r"^(has|gives|makes|offers|contains|uses|shows|adds|tells) (no|not any|none of) ", re.I), r"\1 "),
    (re.compile(r"^(leaves out|avoids|omits|lacks|does without|is free of) ", re.I), "has "),
)  # fmt: skip
_IRREGULAR = {"is": "is not", "has": "does not have", "does": "does not do", "can": "cannot", "will": "will not"}


def parts(question: str) -> list[str]:
    """What is asked, without "Which reply": one part for each thing that is asked of a reply."""
    body = _HEAD.sub("", question.strip()).rstrip(" ?.")
    found = [""]
    for piece, joint in _joined(body):
        inside = _SUBORDINATE.search(found[-1]) and not joint.startswith(",")  # "what is true and is said once"
        if joint and ((_is_predicate(piece) and not inside) or _is_negated_predicate(piece)):
            found.append(piece)
        else:
            found[-1] += joint + piece
    return found


def _joined(body: str) -> Iterable[tuple[str, str]]:
    """The pieces between "and", "but", "or", and ";", each with the joint before it."""
    place, joint = 0, ""
    for match in _AND.finditer(body):
        yield body[place : match.start()], joint
        place, joint = match.end(), match[0]
    yield body[place:], joint


def _is_predicate(piece: str) -> bool:
    """Whether a piece begins with a verb that has something after it: "offers a better way", not "compliments"."""
    words = piece.split()
    first = words[0].lower() if words else ""
    if first in _AUXILIARY or first.endswith("n't"):
        return True
    if first in ("more", "less", "fewer") or first in OPPOSITES:
        return True
    return len(words) > 1 and bool(re.fullmatch(r"[a-z]{2,}[^s\W]s", first)) and first not in _NO_VERBS


def _is_negated_predicate(piece: str) -> bool:
    """Whether a piece is beyond doubt about the reply again: "does not insult anyone"."""
    return bool(re.match(r"(does|is|has) (not|no)\b|(doesn|isn|hasn)['\u2019]t\b", piece, re.I))


def negative(question: str) -> list[str]:
    """The words that make a question a negative one, in its main clauses."""
    found = []
    for part in parts(question):
        main = _SUBORDINATE.split(_NOT_NEGATIVE.sub("", part))[0]
        found += [match[0].lower() for match in _NEGATIVE.finditer(main)]
    return found


def double(question: str) -> list[str]:
    """The things that a question asks for where they are several; else nothing."""
    asked = [one for one in re.split(r"\?\s+", question.strip()) if one]
    several = asked if len(asked) > 1 else parts(question)
    return several if len(several) > 1 else []


def twin(question: str) -> str | None:
    """The question whose better reply is the other one, or None where no rewrite makes it for sure."""
    head = _HEAD.match(question.strip())
    if head is None or double(question) or question.count("?") != 1 or _SCOPE.search(question):
        return None
    body = question.strip()[head.end() :].rstrip(" ?")
    turned = _turned(body)
    return None if turned is None else f"{question.strip()[: head.end()]}{turned}?"


def _turned(body: str) -> str | None:
    for pattern, instead in _DROPPED:
        if pattern.search(body):
            return _some(pattern.sub(instead, body, count=1))
    main = _SUBORDINATE.split(body)[0]
    if found := re.search(r"\b(less|fewer|more)\b", main, re.I):
        instead = "more" if found[0].lower() in ("less", "fewer") else "less"
        return body[: found.start()] + instead + body[found.end() :]
    if found := re.search(r"\b(" + "|".join(OPPOSITES) + r")\b", main, re.I):
        return body[: found.start()] + OPPOSITES[found[0].lower()] + body[found.end() :]
    if negative(f"Which reply {body}?"):  # in a way that no rewrite above knows
        return None
    verb, _, rest = body.partition(" ")
    if verb.lower() in _IRREGULAR:
        return f"{_IRREGULAR[verb.lower()]} {rest}"
    stem = _stem(verb)
    return None if stem is None or not rest else f"does not {stem} {rest}"


def _some(text: str) -> str:
    """What stood under a negation: "does hurt anyone" is "does hurt someone"."""
    return re.sub(r"\bany(one|body|thing)\b", r"some\1", text)


def _stem(verb: str) -> str | None:
    """A verb of the third person without its ending."""
    if not re.fullmatch(r"[a-z]+[^s\W]s|[a-z]+sses", verb) or verb in _NO_VERBS:
        return None
    if verb.endswith("ies") and len(verb) > 4:
        return verb[:-3] + "y"
    return verb[:-2] if re.search(r"(ss|x|ch|sh|o)es$", verb) else verb[:-1]


def findings(constitution: Constitution) -> list[Finding]:
    """What the wordings show by themselves: thoughts, not faults. Principles that are asked no question are left out:
    those judged by code, by the words that answers continue, or by a reward model."""
    asked = [principle for principle in constitution if asks(principle)]
    found = []
    if several := {p.id: things for p in asked if (things := double(p.comparison))}:
        listed = "; ".join(f"`{id}` ({' / '.join(things)})" for id, things in several.items())
        sentence = f"two things in one question: {listed}"
        advice = "make a principle of each, or keep the one that matters: a reply may have one and lack the other"
        found.append(Finding("double question", tuple(several), "notice", sentence, advice, several))
    if why := {p.id: list(dict.fromkeys(words)) for p in asked if (words := negative(p.comparison))}:
        listed = ", ".join(f"`{id}` ({', '.join(words)})" for id, words in why.items())
        sentence = f"worded negatively: {listed}"
        advice = "say what the better reply does; `--ask` measures whether this judge reads it"
        found.append(Finding("negative wording", tuple(why), "notice", sentence, advice, why))
    return found


NO_QUESTION = ("rule", "contrast", "reward")  # judges that put no question


def asks(principle: Principle, own: str = "choice") -> bool:
    """Whether its comparison is a question that some model reads. `own`: the method of the role's judge, which is asked
    where the principle names none."""
    return (principle.judge.method if principle.judge is not None else own) not in NO_QUESTION
