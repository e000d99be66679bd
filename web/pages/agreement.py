"""Where people and the judge differ, and how far they agree."""

from __future__ import annotations

import shlex
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, Response

from service.queries import agreement as agreeing
from service.queries import disagreements as differing
from web.navigation import Nav
from web.rendering import render
from web.security.rights import Right, User, needs
from web.wired import Wired

router = APIRouter()
NAV = Nav("Agreement", "/agreement", order=25, key="a")
Reader = Annotated[User, Depends(needs(Right.review))]


@router.get("/agreement", response_class=HTMLResponse)
def agreement(request: Request, user: Reader, at: Wired, run: str = "") -> Response:
    found = agreeing.agreement(at.store, run)
    gate = at.settings.gate
    return render(
        request, "agreement.html", found=found, run=run, gate=gate,
        command=shlex.join(["precept", "review", "agreement", *(["--run", run] if run else [])]),
    )  # fmt: skip


@router.get("/agreement/differences", response_class=HTMLResponse)
def disagreements(
    request: Request, user: Reader, at: Wired, run: str = "", by: str = "", principle: str = "", after: str = ""
) -> Response:
    """Others' answers are shown here, so whoever still reviews these pairs is told so on the page."""
    found = differing.disagreements(at.store, run, by or None, principle or None, most=20, after=after or None)
    asked = {"run": run, "by": by, "principle": principle}
    return render(
        request, "disagreements.html", found=found, asked=asked,
        command=shlex.join(["precept", "review", "disagreements", *(
            word for name, value in asked.items() if value for word in (f"--{name}", value)
        )]),
    )  # fmt: skip
