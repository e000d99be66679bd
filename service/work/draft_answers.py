"""A draft before it is trained on: answers with the draft in the system prompt, beside today's.

Today's have the constitution in force in their system prompt, so that the two differ by the edit alone; in a store in
which nothing is in force they have none. Both are asked with the same seed. What is answered stays in the store, and
nothing is ratified, labelled or trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from constitution import loading
from constitution.difference import diff
from constitution.errors import UserError
from constitution.principles import Constitution
from constitution.records import Generation, Id, Messages, Prompt, canonical, dialogue_id
from pipeline.asking import Ask, Role, ask
from pipeline.in_prompt import chosen, system_text, with_system
from service.settings import Settings, prepare_process
from service.wiring import Wiring
from service.work import life
from service.work.drift import refuse_drift
from service.work.progress import Progress
from service.work.roles import role_of

KIND = "try"  # of the run: it asks for answers, and labels nothing


@dataclass(frozen=True)
class Beside:
    """One prompt with both answers; None where the engine refused it."""

    prompt: Messages
    today: Generation | None
    draft: Generation | None

    def as_dict(self) -> dict[str, Any]:
        return {
            "prompt": [{"role": m.role, "content": m.content} for m in self.prompt],
            "today": _shown(self.today), "draft": _shown(self.draft),
        }  # fmt: skip


@dataclass(frozen=True)
class TriedOut:
    """`inforce`: the version in today's system prompt, empty for none. `same`: answers that are the same in both."""

    run: Id
    model: str
    inforce: str
    draft: Constitution
    answers: Sequence[Beside]
    calls: dict[str, Any]

    @property
    def same(self) -> int:
        return sum(a.today is not None and a.draft is not None and a.today.text == a.draft.text for a in self.answers)

    def as_dict(self) -> dict[str, Any]:
        return {
            "run": self.run.hex(), "model": self.model, "in_force": self.inforce or None, "draft": self.draft.version,
            "same": self.same, "answers": [one.as_dict() for one in self.answers], "calls": self.calls,
        }  # fmt: skip


def _shown(made: Generation | None) -> dict[str, Any] | None:
    return None if made is None else {"text": made.text, "finish_reason": made.finish_reason}


def try_out(settings: Settings, draft: Constitution, count: int, *, who: str, report: Progress) -> TriedOut:
    """Raises UserError where the draft says what is in force, or there is no prompt; BudgetReached at a limit."""
    prepare_process(settings)
    with closing(Wiring(settings)) as wiring:
        inforce = wiring.store.ratified()
        now = loading.parse(inforce.text, f"amendment {inforce.number}") if inforce else None
        if now is not None and now.version == draft.version:
            raise UserError(f"the draft says what is in force (version {now.version[:12]}): there is nothing to try")
        old = now or Constitution("", ())
        changed = [c.new for c in diff(old, draft).changes if c.new is not None]
        prompts = chosen(wiring.prompts(), changed, count, wiring.settings.seed)
        if not prompts:
            raise UserError("there is no prompt to try it on that is not held out: name prompts in the settings")
        told = (system_text(now) if now else "", system_text(draft))
        wiring.constitution = draft
        key = canonical(
            {"kind": KIND, "told": list(told), "policy": wiring.start(), "prompts": [p.id for p in prompts]}
        )
        about = {"settings": wiring.settings.identity(), "policy": wiring.start()}
        with life.at_work(wiring, KIND, key, about, who=who, report=report) as work:
            role = role_of(work, work.start)
            refuse_drift(work, "policy")
            made = [
                work.gather(name, _plan(work, prompts, text, role), role, work.settings.policy.batch_size)
                for name, text in zip(("today", "draft"), told, strict=True)
            ]
            found = [Beside(p.messages, one, other) for p, one, other in zip(prompts, *made, strict=True)]
            result = TriedOut(
                work.run.id, work.start, now.version if now else "", draft, found, work.budget.as_dict()
            )  # fmt: skip
            work.store.finish_run(work.run.id, "finished", result={"prompts": len(found), "same": result.same})
            return result


def _plan(work: Any, prompts: Sequence[Prompt], text: str, role: Role) -> list[Ask]:
    """Both sides are asked with the prompt's own seed, whatever stands in the system message."""
    asks = []
    for prompt in prompts:
        messages = with_system(prompt.messages, text)
        made = ask("response", role, messages, prompt=prompt.id, seed=work.settings.seed)
        asks.append(replace(made, prompt=dialogue_id(messages)))
    work.store.add_dialogues([a.request.chat.messages for a in asks])
    return asks
