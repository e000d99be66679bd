"""A person's draft of the constitution as it stands: its text, its mistakes, what it changes, and what came meanwhile.

Read only, and no model is loaded: what a draft does to labels is `preview.py`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from constitution import loading
from constitution.difference import Diff, diff
from constitution.errors import UserError
from constitution.merge import ThreeWay, three_way
from constitution.principles import Constitution
from constitution.problems import ConstitutionError
from constitution.starting_points import starting_point
from service.queries import changes
from service.queries.checked import Checked, check
from service.settings import Settings
from storage.amendments import Amendment
from storage.drafts import Draft
from storage.store import Store


@dataclass(frozen=True)
class Drafting:
    """`text`: of the draft; where there is none, what is in force, or what a first one begins with. `base`: the
    amendment it was begun from. `difference`: from what is in force; None while the draft has mistakes. `apart`: what
    each side changed, where somebody ratified since (`behind`) and the draft has no mistakes. `others`: who else has a
    draft, and when they last changed it."""

    who: str
    text: str
    draft: Draft | None
    base: Amendment | None
    inforce: Amendment | None
    checked: Checked
    difference: Diff | None
    apart: ThreeWay | None
    others: Sequence[tuple[str, str]]

    @property
    def digest(self) -> str:
        """What a page hands back as the draft that it shows; empty where there was none."""
        return self.draft.digest if self.draft else ""

    @property
    def behind(self) -> bool:
        return self.draft is not None and self.inforce is not None and self.draft.base != self.inforce.event

    @property
    def changed(self) -> bool:
        """Whether there is anything to propose or to ratify."""
        return self.draft is not None and (self.inforce is None or self.draft.text != self.inforce.text)

    def as_dict(self) -> dict[str, Any]:
        return {
            "who": self.who, "digest": self.digest or None, "text": self.text,
            "changed_at": self.draft.at if self.draft else None,
            "made_from": self.base.number if self.base else None,
            "in_force": self.inforce.number if self.inforce else None,
            **self.checked.as_dict(),
            "difference": self.difference.as_dict() if self.difference else None,
            "behind": self.behind,
            "apart": [each.as_dict() for each in changes.told(self.apart)] if self.apart else [],
            "merges": self.apart is not None and self.apart.merged is not None,
            "others": [{"who": who, "at": at} for who, at in self.others],
        }  # fmt: skip


def drafting(store: Store, settings: Settings, who: str) -> Drafting:
    mine, past = store.draft(who), store.amendments()
    inforce = past[-1] if past else None
    begun = mine.base if mine else inforce.event if inforce else ""
    base = next((a for a in past if a.event == begun), None)
    text = mine.text if mine else inforce.text if inforce else first_text(settings)
    checked = check(text, "the draft", settings)
    now = of(inforce)
    difference = diff(now, checked.constitution) if checked.constitution is not None else None
    apart = None
    if mine and base is not None and inforce is not None and base.event != inforce.event and checked.ok:
        apart = three_way(base.text, inforce.text, text)
    others = [(d.who, d.at) for d in store.drafts() if d.who != who]
    return Drafting(who, text, mine, base, inforce, checked, difference, apart, others)


def of(amendment: Amendment | None) -> Constitution:
    """An amendment's constitution; without one, an empty one."""
    if amendment is None:
        return Constitution("", ())
    return loading.parse(amendment.text, f"amendment {amendment.number}")


def first_text(settings: Settings) -> str:
    """What the first constitution of a store begins with: the project's file, or the smallest that ships."""
    try:
        return loading.load(Path(settings.constitution)).source
    except (ConstitutionError, UserError):
        return starting_point("minimal")
