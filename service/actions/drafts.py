"""A draft from its first line to an amendment, for people who edit the constitution in a page and not in a file.

The draft is kept in the store as it is typed, one a person. It is proposed (whoever may edit) or ratified (whoever
may approve): what is put in force is the text whose digest was shown, after the amendment that it was begun from. Where
another one has come since, what both changed is shown, and can be written together.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from constitution import loading
from constitution.errors import UserError
from constitution.merge import ThreeWay, three_way
from constitution.principles import Constitution
from service.actions import working_copy
from service.actions.ratify import ratify
from service.actions.working_copy import Followed
from service.queries import declared
from storage.amendments import FRESH, Amendment, Superseded, amendment_key
from storage.drafts import Draft
from storage.proposals import DECLINED, WITHDRAWN, Proposal
from storage.store import Store


class Newer(UserError):
    """The draft was changed in another window since; nothing was kept. `now`: what is stored."""

    def __init__(self, now: Draft) -> None:
        self.now = now
        super().__init__(
            f"your draft was changed in another window at {now.at[11:16]} UTC, and this text is not kept: load the "
            "page again to see that one, or keep this text over it"
        )


class Behind(UserError):
    """Somebody ratified since the draft was begun; nothing was written. `found`: what each of them changed."""

    def __init__(self, base: Amendment | None, now: Amendment, found: ThreeWay | None) -> None:
        self.base, self.now, self.found = base, now, found
        made = f"amendment {base.number}" if base else "an empty store"
        super().__init__(
            f"this was made from {made}, and {now.who} has ratified amendment {now.number} since ({now.message}). "
            "Nothing was ratified: merge theirs into it first"
        )


@dataclass(frozen=True)
class Done:
    """An amendment, and what became of the file beside the store."""

    amendment: Amendment
    file: Followed

    def as_dict(self) -> dict[str, Any]:
        now = self.amendment
        return {
            "amendment": now.number, "version": now.version, "who": now.who, "why": now.message,
            "file": self.file.as_dict(),
        }  # fmt: skip


def keep(store: Store, who: str, text: str, base: str | None = None, seen: str | None = None) -> Draft | None:
    """Keep what somebody is writing. `base`: the event of the amendment that it was begun from (what is in force, for a
    new draft); `seen`: the digest of the draft that they began with, None to write over any.

    A draft that says what is in force is none, and is dropped: None. Raises Newer where a second window kept another
    text meanwhile, UserError for a text that is too large for a constitution.
    """
    if len(text.encode("utf-8", errors="replace")) > loading.MAX_BYTES:
        raise UserError(
            f"a constitution has at most {loading.MAX_BYTES // 1024} KiB, and this text is larger: nothing was kept"
        )
    now, mine = store.ratified(), store.draft(who)
    begun = base if base is not None else mine.base if mine else now.event if now else FRESH
    if begun and all(a.event != begun for a in store.amendments()):
        raise UserError("there is no such amendment to make a draft from: load the page again")
    text = as_file(text, now.text if now else "")
    if now is not None and text == now.text:
        if mine is not None and seen is not None and mine.digest != seen:
            raise Newer(mine)
        store.drop_draft(who)
        return None
    kept, done = store.put_draft(who, text, begun, seen)
    if not done:
        raise Newer(kept)
    return kept


def as_file(text: str, like: str) -> str:
    """A text as a file holds it: browsers send every line break as CR LF, and JSON may hold half a character."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = text.encode("utf-8", errors="surrogatepass").decode("utf-8", errors="replace")
    return text.replace("\n", "\r\n") if "\r\n" in like else text


def discard(store: Store, who: str) -> None:
    store.drop_draft(who)


def merge(store: Store, who: str) -> Draft:
    """Write what was ratified since a draft was begun into it, beside its edits. Raises Behind, and changes nothing,
    where the two cannot stand together, and ConstitutionError for a draft with mistakes."""
    mine = standing(store, who)
    now = store.amendment("ratified")
    if mine.base == now.event:
        return mine
    base = amendment_of(store, mine.base)
    found = apart(base, now, mine.text)
    if found is None or found.merged is None:
        raise Behind(base, now, found)
    return store.put_draft(who, found.merged, now.event)[0]


def mine_after_theirs(store: Store, who: str, digest: str) -> Draft:
    """Make a draft one of what is in force now, knowing that it undoes what the last amendment said where they differ:
    for two edits that cannot both stand."""
    mine = _shown(standing(store, who), digest)
    return store.put_draft(who, mine.text, store.amendment("ratified").event)[0]


def propose(store: Store, who: str, digest: str, message: str, key: str) -> Proposal:
    """Propose a draft to whoever may ratify it. The same key again is one proposal.

    Raises UserError for a draft without a reason, with mistakes, or that is not the one that was shown.
    """
    message = _said(message, "a proposal has a reason that whoever decides will look for")
    key = f"propose:{who}:{key}"
    if store.event(key=key) is None:  # else the same form was sent twice, and the draft is gone
        mine = _shown(standing(store, who), digest)
        draft = read(mine.text)
        now = store.ratified()
        if now is not None and mine.text == now.text:
            raise UserError(f"this is what amendment {now.number} says already: there is nothing to propose")
        store.propose_amendment(who, draft.version, mine.text, mine.base, message, key)
    return next(p for p in store.proposed_amendments() if p.event.key == key)


def ratify_draft(store: Store, who: str, digest: str, message: str, file: Path) -> Done:
    """Put a person's own draft in force, and write the file beside the store where it was unchanged. The same again is
    one amendment. Raises UserError as `propose` does, and Behind where another amendment has come since."""
    message = _said(message, "an amendment has a reason that later readers will look for")
    mine = store.draft(who)
    if mine is None or mine.digest != digest:
        again = _sent_again(store, who, digest, message)
        if again is not None:
            return Done(again, _follow(store, again, file))
    mine = _shown(standing(store, who), digest)
    return _ratify(store, who, mine.text, mine.base, message, file)


def accept(store: Store, who: str, proposal: str, digest: str, message: str, file: Path) -> Done:
    """Ratify a proposal: its text, or where another amendment has come since, both written together. `digest`: of the
    text that was shown. Raises UserError where it is closed, Behind where the two cannot stand together."""
    message = _said(message, "an amendment has a reason that later readers will look for")
    found = find(store, proposal)
    if found.decided is not None:
        event = found.decided.payload.get("amendment")
        if event and found.decided.who == who:
            again = next(a for a in store.amendments() if a.event == event)
            return Done(again, _follow(store, again, file))
        raise UserError(f"this proposal was {found.state} by {found.decided.who} already: nothing was changed")
    text, base = text_now(store, found)
    if _digest(text) != digest:
        raise UserError(
            "what would be ratified is not what was shown: somebody has ratified meanwhile. Look at it again"
        )
    return _ratify(store, who, text, base, message, file, proposal)


def decline(store: Store, who: str, proposal: str, why: str) -> Proposal:
    """Close a proposal with a reason, for who made it; of one's own, it is taken back. The same again is one."""
    why = _said(why, "who proposed this will look for the reason")
    found = find(store, proposal)
    store.close_proposal(WITHDRAWN if found.who == who else DECLINED, proposal, who, why)
    return find(store, proposal)


def withdraw(store: Store, who: str, proposal: str) -> Proposal:
    """Take one's own proposal back. Raises UserError for somebody else's."""
    found = find(store, proposal)
    if found.who != who:
        raise UserError(f"{found.who} made this proposal: only they take it back; whoever may ratify declines it")
    store.close_proposal(WITHDRAWN, proposal, who, "")
    return find(store, proposal)


def take_up(store: Store, who: str, proposal: str) -> Draft:
    """A proposal's text as one's own draft, to edit it further. Raises UserError where one has a draft already."""
    found = find(store, proposal)
    mine = store.draft(who)
    if mine is not None and mine.text != found.text:
        raise UserError("you have a draft already: propose, ratify or throw it away first")
    return store.put_draft(who, found.text, found.base)[0]


# --- what there is -------------------------------------------------------------------------------------------------


def standing(store: Store, who: str) -> Draft:
    found = store.draft(who)
    if found is None:
        raise UserError("you have no draft: it was ratified, proposed or thrown away, here or in another window")
    return found


def find(store: Store, proposal: str) -> Proposal:
    found = next((p for p in store.proposed_amendments() if p.id == proposal), None)
    if found is None:
        raise UserError("there is no such proposal")
    return found


def read(text: str) -> Constitution:
    """A text without a mistake. Raises ConstitutionError."""
    found = loading.parse(text, "the draft")
    declared.check(found, "the draft")
    return found


def amendment_of(store: Store, event: str) -> Amendment | None:
    return next((a for a in store.amendments() if a.event == event), None)


def text_now(store: Store, found: Proposal) -> tuple[str, str]:
    """What ratifying a proposal would put in force now, and the event of the amendment that it would come after.
    Raises Behind where it contradicts what came since."""
    now = store.ratified()
    if now is None or found.base == now.event:
        return found.text, found.base
    base = amendment_of(store, found.base)
    both = apart(base, now, found.text)
    if both is None or both.merged is None:
        raise Behind(base, now, both)
    return both.merged, now.event


def apart(base: Amendment | None, now: Amendment, text: str) -> ThreeWay | None:
    """What was ratified since a text was begun and what it changes; None where nothing was in force at first. Raises
    ConstitutionError for a text with mistakes."""
    return three_way(base.text, now.text, text) if base is not None else None


# --- inside --------------------------------------------------------------------------------------------------------


def _ratify(store: Store, who: str, text: str, base: str, message: str, file: Path, proposal: str = "") -> Done:
    draft, now = read(text), store.ratified()
    origin = amendment_of(store, base)
    if now is not None and base != now.event:
        raise Behind(origin, now, apart(origin, now, text))
    try:
        made = ratify(store, draft, origin, who, message, proposal)
    except Superseded:
        now = store.amendment("ratified")
        raise Behind(origin, now, apart(origin, now, text)) from None
    return Done(made, working_copy.follow(file, origin.text if origin else None, text))


def _follow(store: Store, made: Amendment, file: Path) -> Followed:
    """The same again: the file is what it was after the first time, or is written now."""
    before = [a for a in store.amendments() if a.number == made.number - 1]
    return working_copy.follow(file, before[0].text if before else None, made.text)


def _sent_again(store: Store, who: str, digest: str, message: str) -> Amendment | None:
    """The amendment that this very form made when it was sent before."""
    past = store.amendments()
    for before, made in zip([None, *past], past, strict=False):
        key = amendment_key(before.event if before else FRESH, made.text, message)
        if made.who == who and _digest(made.text) == digest and made.message == message:
            found = store.event(key=key)
            if found is not None and found.id == made.event and made.event == past[-1].event:
                return made
    return None


def _shown(draft: Draft, digest: str) -> Draft:
    if draft.digest != digest:
        raise UserError(
            "your draft is not the one that was shown: it was changed since, perhaps in another window. Look again"
        )
    return draft


def _said(message: str, otherwise: str) -> str:
    message = " ".join(message.split())
    if not message:
        raise UserError(f"{otherwise}: say why")
    return message


def _digest(text: str) -> str:
    return Draft("", text, "", "").digest
