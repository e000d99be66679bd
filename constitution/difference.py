"""What changed between two constitutions, and what each change costs: judging anew, criticising anew, or nothing.

Order, comments, layout and the file's name change nothing here, as they change no version.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

from constitution.principles import CODE, Constitution, JudgedBy, Principle, When
from constitution.records import canonical
from constitution.templates import critique_template, fill, question_template, revision_template

Kind: TypeAlias = Literal["added", "removed", "renamed", "changed"]
WORDING = ("critique", "revision", "comparison", "applies", "exemplars", "why", "overridable")
WORDLESS = (CODE, "reward")  # judges that read none of a principle's words
VOICE = ("weight", "tier", "hard")  # how much it counts: labels follow, and nobody is asked


@dataclass(frozen=True, slots=True)
class Change:
    """One principle that differs. `old` is None when added, `new` when removed; `fields` names what differs, in the
    order of the format.

    `asks_judge`: no principle of the old constitution put this question, so verdicts on it do not exist yet, and a
    model is asked for them. `runs_checks`: so it is, and code gives them.
    `asks_critic`: its critiques and revisions have to be written anew wherever it is drawn.
    `redraws`: its coming or going moves draws of principles (its own and nobody else's).
    """

    kind: Kind
    old: Principle | None
    new: Principle | None
    fields: tuple[str, ...] = ()
    asks_judge: bool = False
    asks_critic: bool = False
    redraws: bool = False
    runs_checks: bool = False

    @property
    def id(self) -> str:
        """The id in the new constitution, or in the old one when it was removed."""
        principle = self.new or self.old
        assert principle is not None
        return principle.id

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id, "kind": self.kind, "was": self.old.id if self.old else None, "fields": list(self.fields),
            "asks_judge": self.asks_judge, "asks_critic": self.asks_critic, "redraws": self.redraws,
            "runs_checks": self.runs_checks,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Diff:
    """All changes: those of the new constitution in its order, then those removed in the old one's."""

    old: Constitution
    new: Constitution
    changes: tuple[Change, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "old": self.old.version, "new": self.new.version, "same_version": self.same_version,
            "asks_judge": list(self.asks_judge), "changes": [change.as_dict() for change in self.changes],
        }  # fmt: skip

    def _of(self, *kinds: Kind) -> tuple[Change, ...]:
        return tuple(change for change in self.changes if change.kind in kinds)

    def _with(self, *names: str) -> tuple[Change, ...]:
        return tuple(c for c in self._of("changed", "renamed") if set(names) & set(c.fields))

    @property
    def added(self) -> tuple[Change, ...]:
        return self._of("added")

    @property
    def removed(self) -> tuple[Change, ...]:
        return self._of("removed")

    @property
    def renamed(self) -> tuple[Change, ...]:
        """Same words under another id."""
        return self._of("renamed")

    @property
    def reworded(self) -> tuple[Change, ...]:
        """What a critic, a reviser or a judge is told."""
        return self._with(*WORDING)

    @property
    def reweighted(self) -> tuple[Change, ...]:
        """Counted otherwise: by weight, tier or veto."""
        return self._with(*VOICE)

    @property
    def retitled(self) -> tuple[Change, ...]:
        return self._with("title")

    @property
    def asks_judge(self) -> tuple[str, ...]:
        """Ids of the principles on which the judge has to be asked."""
        return tuple(change.id for change in self.changes if change.asks_judge)

    @property
    def runs_checks(self) -> tuple[str, ...]:
        """Ids of the principles that code has to tell anew of, which asks no model."""
        return tuple(change.id for change in self.changes if change.runs_checks)

    @property
    def judged_anew(self) -> tuple[str, ...]:
        """Both: those on which there are no verdicts yet."""
        return tuple(change.id for change in self.changes if change.asks_judge or change.runs_checks)

    @property
    def same_version(self) -> bool:
        return self.old.version == self.new.version


def diff(old: Constitution, new: Constitution) -> Diff:
    """The changes from `old` to `new`. A principle whose words are all kept under another id is renamed."""
    before, after = {p.id: p for p in old}, {p.id: p for p in new}
    gone = [p for p in old if p.id not in after]
    asked = {_judge_reads(p) for p in old}
    changes = []
    for principle in new:
        previous = before.get(principle.id)
        kind: Kind = "changed"
        if previous is None:
            previous = next((p for p in gone if _words(p) == _words(principle)), None)
            kind = "renamed" if previous else "added"
            if previous:
                gone.remove(previous)
        differing = _differing(previous, principle) if previous else ()
        anew = _judge_reads(principle) not in asked
        if previous and not differing:
            continue
        changes.append(
            Change(
                kind,
                previous,
                principle,
                differing,
                asks_judge=anew and _asks_a_model(principle),
                runs_checks=anew and not _asks_a_model(principle),
                asks_critic=previous is None or _critic_reads(previous) != _critic_reads(principle),
                redraws=kind != "changed",
            )
        )
    changes += [Change("removed", principle, None, redraws=True) for principle in gone]
    return Diff(old, new, tuple(changes))


def _judge_reads(principle: Principle) -> tuple[str, JudgedBy | None, When | None]:
    """What makes its question: the words, who answers, and of which prompts."""
    return (_question(principle), principle.judge, principle.when)


def _question(principle: Principle) -> str:
    """The words that its judge reads. Code and a reward model read none, and what answers are a continuation of has the
    words that its slots name (`pipeline.judges.contrast`)."""
    method = principle.judge.method if principle.judge else ""
    if method in WORDLESS:
        return ""
    if principle.judge is not None and method == "contrast":
        sides = [str(principle.judge.options.get(side, "{comparison}")) for side in ("keeps", "breaks")]
        words = {"comparison": principle.comparison, "critique": principle.critique, "revision": principle.revision}
        return canonical([fill(side, **words) for side in sides])
    return question_template(principle)


def _asks_a_model(principle: Principle) -> bool:
    """Whether a model says anything of a pair under it, or of whether it applies."""
    by_code = principle.judge is not None and principle.judge.method == CODE
    return not by_code or (principle.when is not None and bool(principle.when.ask))


def _critic_reads(principle: Principle) -> tuple[str, str]:
    return (critique_template(principle), revision_template(principle))


def _words(principle: Principle) -> tuple[str, ...]:
    """All that any model reads of a principle, by the templates themselves: so they cannot disagree."""
    return (question_template(principle), *_critic_reads(principle))


def _differing(old: Principle, new: Principle) -> tuple[str, ...]:
    return tuple(f.name for f in fields(Principle) if getattr(old, f.name) != getattr(new, f.name))
