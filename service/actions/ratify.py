"""Putting a draft in force: that it is the draft that was read, what it was made from, and writing together what two
people wrote. Telling others that an amendment is in force is not done here (`flows/announcing.py`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from constitution import loading
from constitution.errors import UserError
from constitution.merge import ThreeWay, three_way
from constitution.principles import Constitution
from constitution.problems import ConstitutionError
from service.queries.preview import Preview, made_from
from storage.amendments import FRESH, Amendment, Superseded, amendment_key
from storage.artifacts import write_text
from storage.store import Store


class Contradiction(UserError):
    """A draft and what was ratified meanwhile say different things about the same lines; nothing was written."""

    def __init__(self, found: ThreeWay, file: Path, now: Amendment) -> None:
        self.found, self.file, self.now = found, file, now
        self.what = f"{file} and amendment {now.number} say different things about the same lines; nothing was written."
        self.mend = (
            f"Edit {file} so that it says what both of you want, then: precept constitution amend {file} --made-from "
            "ratified"
        )
        super().__init__(f"{self.what} {self.mend}")


class Overtaken(UserError):
    """Somebody ratified after the draft was begun; nothing was written. `found`: what both changed since, where the
    preview knew of it; `now`: what is in force."""

    def __init__(self, found: ThreeWay | None, file: Path, base: Amendment, now: Amendment | None) -> None:
        self.found, self.file, self.base, self.now = found, file, base, now
        self.what = (
            f"{file} was made from amendment {base.number}, and {now.who if now else 'somebody'} has ratified "
            f"amendment {now.number if now else '?'} since. Nothing was ratified, and both texts are as they were."
        )
        self.mend = (
            f"To have both: precept constitution amend {file} --merge. To undo theirs knowingly: --made-from ratified"
        )
        super().__init__(f"{self.what} {self.mend}")


@dataclass(frozen=True)
class Ratified:
    """An amendment that was made of a draft, with the preview that was shown of it."""

    amendment: Amendment
    preview: Preview

    @property
    def trains(self) -> bool:
        """Whether a retrain has anything to do: some model reads something else now."""
        changes = self.preview.difference
        return bool(changes.changes) and not changes.same_version

    def as_dict(self) -> dict[str, Any]:
        now = self.amendment
        return {"amendment": now.number, "version": now.version, "preview": self.preview.as_dict()}


@dataclass(frozen=True)
class Merged:
    """`written`: whether the file was; it is not where the draft was made from what is in force (`now`)."""

    file: Path
    now: Amendment
    written: bool

    def as_dict(self) -> dict[str, Any]:
        return {"file": str(self.file), "ratified": self.now.number, "written": self.written}


def ratify(
    store: Store, draft: Constitution, base: Amendment | None, who: str, message: str, proposal: str = ""
) -> Amendment:
    """Put a draft in force, after the amendment it was made from. One transaction; no model is asked. `proposal`: the
    one that it is, which is closed by it.

    Raises Superseded where another amendment has come since, UserError where the draft is what is in force, or the
    reason is empty.
    """
    if not message.strip():
        raise UserError('an amendment has a reason that later readers will look for: -m "why"')
    inforce = store.ratified()
    if inforce is not None and inforce.text == draft.source:
        raise UserError(f"this is what amendment {inforce.number} says already: there is nothing to ratify")
    if inforce is not None and base is not None and base.event != inforce.event:
        raise Superseded(inforce)
    after = inforce.event if inforce else FRESH
    key = amendment_key(after, draft.source, message)
    event = store.ratify(draft.version, who, message, key, text=draft.source, after=after, proposal=proposal)
    return next(a for a in store.amendments() if a.event == event.id)


def ratify_previewed(store: Store, found: Preview, file: Path, who: str, message: str, reviewed: str = "") -> Ratified:
    """Put the draft of a preview in force, if its file still says what was shown. `reviewed`: the first digits of the
    digest that a reviewer saw. Raises as `check_unchanged` and `ratify` do, and Overtaken where another amendment has
    come since."""
    check_unchanged(file, found.draft, found.digest, reviewed)
    try:
        made = ratify(store, found.draft, found.base, who, message)
    except Superseded as error:
        raise Overtaken(found.overtaken, file, found.base, error.now) from None
    return Ratified(made, found)


def check_unchanged(file: Path, draft: Constitution, digest: str, reviewed: str = "") -> None:
    """What is ratified is what was read and shown, not what the file says by now. `digest`: the draft's; `reviewed`:
    the first digits of the one that a reviewer saw. Raises UserError otherwise."""
    if reviewed and (len(reviewed) < 4 or not digest.startswith(reviewed.lower())):
        raise UserError(
            f"{file} is not the draft that was reviewed: its digest is {digest}, not {reviewed}. Nothing was ratified; "
            f"look at what it says now: precept constitution amend {file}"
        )
    try:
        now = loading.load(file).source
    except ConstitutionError:
        now = ""
    if now != draft.source:
        raise UserError(
            f"{file} was changed while its preview was made. Nothing was ratified; look again: precept constitution "
            f"amend {file}"
        )


def merge(store: Store, file: Path, draft: Constitution, who: str, revision: str = "") -> Merged:
    """Write what was ratified since the draft was begun into its file, beside its edits. Raises Contradiction, and
    writes nothing, where the two cannot stand together."""
    base, now = made_from(store, draft.source, who, revision), store.amendment("ratified")
    if base.event == now.event:
        return Merged(file, now, False)
    found = three_way(base.text, now.text, draft.source)
    if found.merged is None:
        raise Contradiction(found, file, now)
    write_text(file, found.merged)
    return Merged(file, now, True)
