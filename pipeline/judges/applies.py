"""Whether a principle applies to a prompt at all (`when` of a principle), settled before it is asked about a pair.

A condition is a set of tags, of which the prompt has one; checks (`pipeline.checks`) that the last user turn keeps; or
a yes/no question about the request. Where there are several, all must hold. The question is asked once a prompt and not
a pair, by the engine of the role, with yes as A and as B: it applies unless both say no, that is where yes has at least
`AT_LEAST` in either order, so that a model which reads by position silences nothing. Where that cannot be read (the
letters hold less than `READABLE` in either order), or the engine refuses the request, the principle is asked, as it is
without a condition: what is not known silences nobody.

What was settled is remembered in `settled`, which whoever builds judges may share among them. It is not stored: the
verdicts are, and what they say of a pair is never asked again. A later process that has new pairs of an old prompt asks
two short requests for it, which is less than the first of their questions costs.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Any, TypeAlias

from constitution.errors import UserError
from constitution.principles import Principle, When
from constitution.records import Id, Message, Messages, make_id
from constitution.templates import applies_request, applies_template
from pipeline.asking import Role
from pipeline.checks import Checks
from pipeline.engines.engine import Chat, Choose, Refused
from pipeline.judges.judge import Case, Used

AT_LEAST = 0.5  # probability of yes, in either order
READABLE = 0.5  # of the probability, on the two letters together
LETTERS = ("A", "B")
PREFIX = "The answer is ("  # where the role's answers have a beginning: its own would begin another sentence

Settled: TypeAlias = MutableMapping[tuple[Id, Id], bool]  # by prompt and question: whether it is yes


class Applies:
    def __init__(self, role: Role, settled: Settled | None = None) -> None:
        self._role = role
        self._settled: Settled = {} if settled is None else settled
        self._checks: dict[str, Checks] = {}
        self._keys: dict[str, Id] = {}

    def readout(self, when: When) -> dict[str, Any]:
        """What decides who is asked: part of the question's id, because it decides what a verdict says. Raises
        UserError where its checks are none, or where the engine cannot answer a question."""
        how: dict[str, Any] = {}
        if when.tags:
            how["tags"] = sorted(set(when.tags))
        if when.rule_json:
            how["rule"] = self._of(when).readout
        if when.ask:
            if not self._role.engine.capabilities.choose:
                raise UserError("this engine cannot read the probability of an option, so it cannot be asked `ask`")
            how |= {"ask": applies_template(when.ask), "by": self._role.engine.fingerprint, "at_least": AT_LEAST}
            if self._prefix:
                how["answer_prefix"] = self._prefix
            if self._role.template_args:
                how["template_args"] = dict(self._role.template_args)
        return how

    def settle(self, cases: Iterable[Case]) -> Used:
        """Ask what is not known yet of these prompts. `applies` then knows it."""
        wanted: dict[Id, tuple[Messages, dict[Id, str]]] = {}
        for case in cases:
            for principle in case.principles:
                when = principle.when
                if when is None or not when.ask or not self._without_asking(when, case):
                    continue
                key = self._key(when)
                if (case.comparison.prompt, key) not in self._settled:
                    wanted.setdefault(case.comparison.prompt, (case.messages, {}))[1][key] = when.ask
        if not wanted:
            return Used()
        groups = [
            Choose(
                tuple(
                    Chat(applies_request(messages, ask, yes_first), self._prefix, self._role.template_args)
                    for ask in asks.values()
                    for yes_first in (True, False)
                ),
                LETTERS,
            )
            for messages, asks in wanted.values()
        ]
        requests = tokens = 0
        for (prompt, (_, asks)), found in zip(wanted.items(), self._role.engine.choose(groups), strict=True):
            answers = iter(found)
            for key in asks:
                first, second = next(answers), next(answers)
                known = [choice for choice in (first, second) if not isinstance(choice, Refused)]
                requests, tokens = requests + len(known), tokens + sum(choice.prompt_tokens for choice in known)
                yes = [choice.probabilities[place] for place, choice in enumerate(known)]
                read = len(known) == 2 and min(choice.mass for choice in known) >= READABLE
                self._settled[prompt, key] = not read or max(yes) >= AT_LEAST
        return Used(requests, tokens)

    def applies(self, principle: Principle, case: Case) -> bool:
        """Whether it does, of what `settle` was given."""
        when = principle.when
        if when is None:
            return True
        if not self._without_asking(when, case):
            return False
        return not when.ask or self._settled[case.comparison.prompt, self._key(when)]

    def _without_asking(self, when: When, case: Case) -> bool:
        if when.tags and not set(when.tags) & set(case.tags):
            return False
        if not when.rule_json:
            return True
        asked = next((m for m in reversed(case.messages) if m.role == "user"), Message("user", ""))
        return self._of(when).holds(case.messages, asked.content) is not False

    def _of(self, when: When) -> Checks:
        if when.rule_json not in self._checks:
            self._checks[when.rule_json] = Checks.of_json(when.rule_json)
        return self._checks[when.rule_json]

    def _key(self, when: When) -> Id:
        if when.ask not in self._keys:
            self._keys[when.ask] = make_id("applies", **self.readout(When(ask=when.ask)))
        return self._keys[when.ask]

    @property
    def _prefix(self) -> str:
        return PREFIX if self._role.answer_prefix else ""


def every_tag(principles: Iterable[Principle]) -> tuple[str, ...]:
    """The tags that their conditions name: those of a dialogue that comes from no source of prompts (an example of the
    constitution, a typed question), about which a principle is asked because it is meant to apply."""
    return tuple(sorted({tag for p in principles if p.when is not None for tag in p.when.tags}))
