"""Putting a draft in force."""

from __future__ import annotations

from constitution.errors import UserError
from constitution.principles import Constitution
from storage.amendments import FRESH, Amendment, Superseded, amendment_key
from storage.store import Store


def ratify(store: Store, draft: Constitution, base: Amendment | None, who: str, message: str) -> Amendment:
    """Put a draft in force, after the amendment it was made from. One transaction; no model is asked.

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
    event = store.ratify(draft.version, who, message, key, text=draft.source, after=after)
    return next(a for a in store.amendments() if a.event == event.id)
