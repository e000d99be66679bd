"""The desk of a server: what its review pages keep between two requests, one for the whole application."""

from __future__ import annotations

import threading

from fastapi import Request

from service.actions.review_desk import Desk
from storage.store import Store

_making = threading.Lock()


def desk_of(request: Request, store: Store) -> Desk:
    state = request.app.state
    with _making:
        if getattr(state, "review_desk", None) is None:
            state.review_desk = Desk(store)
        desk: Desk = state.review_desk
    return desk
