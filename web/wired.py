"""What a route works with: the settings, the open store, and a wiring that loads no model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypeAlias

from fastapi import Depends, Request

from service.settings import Settings
from service.wiring import Wiring
from storage.store import Store


@dataclass(frozen=True)
class At:
    settings: Settings
    store: Store

    def wiring(self) -> Wiring:
        """A wiring of its own for this request, on the open store; it may ask no model."""
        wiring = Wiring(self.settings)
        wiring.__dict__["store"] = self.store  # opened once, for all requests
        wiring.may_ask = False
        return wiring


def at(request: Request) -> At:
    found: At = request.app.state.at
    return found


Wired: TypeAlias = Annotated[At, Depends(at)]
