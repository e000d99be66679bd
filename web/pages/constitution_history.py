"""The amendments of the constitution, the difference of any two, and going back to one with a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from constitution.errors import UserError
from flows import announcing
from service.actions import restore as restoring
from service.actions import working_copy
from service.queries import changes, history
from web.rendering import render
from web.security.rights import Right, User, needs
from web.wired import Wired

router = APIRouter()
Reader = Annotated[User, Depends(needs(Right.review))]
Approver = Annotated[User, Depends(needs(Right.approve))]


@router.get("/constitution/history", response_class=HTMLResponse)
def log(request: Request, user: Reader, at: Wired) -> HTMLResponse:
    return render(
        request, "constitution_history.html", command="precept constitution log", entries=history.log(at.store)
    )  # fmt: skip


@router.get("/constitution/differences", response_class=HTMLResponse)
def differences(request: Request, user: Reader, at: Wired, old: str = "", new: str = "ratified") -> HTMLResponse:
    """What differs between two amendments; without the first, against the one before."""
    entries = history.log(at.store)
    if not old:
        number = at.store.amendment(new).number
        old = str(max(1, number - 1))
    one, other, found = history.apart(at.store, old, new)
    return render(
        request,
        "constitution_differences.html",
        command=f"precept constitution diff {one.number} {other.number}",
        one=one,
        other=other,
        difference=found,
        entries=entries,
        changes=changes,
    )


@router.get("/constitution/restore/{number}", response_class=HTMLResponse)
def ask(request: Request, number: int, user: Approver, at: Wired) -> HTMLResponse:
    """What going back would change, and the field for why."""
    now = at.store.amendment("ratified")
    one, other, found = history.apart(at.store, "ratified", str(number))
    if one.text == other.text:
        raise UserError(f"amendment {number} says what is in force: there is nothing to go back to")
    return render(
        request,
        "constitution_restore.html",
        command=f'precept constitution restore {number} -m "why"',
        wanted=other,
        now=now,
        difference=found,
        changes=changes,
        starts=announcing.awaiting(at.settings.store.get_secret_value()),
        beside=working_copy.before(Path(at.settings.constitution), now.text),
    )


@router.post("/constitution/restore/{number}")
def restore(
    number: int, user: Approver, at: Wired, seen: Annotated[str, Form()], why: Annotated[str, Form()] = ""
) -> Response:
    file = Path(at.settings.constitution)
    made, followed = restoring.put_back(at.store, str(number), file, user.name, why, seen)
    told = announcing.ratified(made, at.settings.store.get_secret_value())
    url = f"/constitution/amendments/{made.number}?made={followed.state}&told={int(told)}"
    return RedirectResponse(url, status_code=303)
