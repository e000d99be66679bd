"""The review page: one pair a screen, blind, by keys. What is shown, kept and taken back is
`service/actions/review.py`'s.

With scripts, `static/review.js` sends the forms and puts the next pair in the place of the one before: it asks for the
part of the page alone by the header `HX-Request`. Without, the same forms lead from page to page.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from constitution.errors import UserError
from service.actions import review
from service.actions.review_records import Item
from service.queries import queue
from web.navigation import Nav
from web.rendering import new_key, render
from web.reviewing import desk_of
from web.security.rights import Right, User, needs
from web.wired import Wired

router = APIRouter()
NAV = Nav("Review", "/review", order=20, key="r")
Reviewer = Annotated[User, Depends(needs(Right.review))]
Text = Annotated[str, Form()]
GUIDELINES = 200_000  # characters that are shown beside a pair


@router.get("/review", response_class=HTMLResponse)
def show(
    request: Request, user: Reviewer, at: Wired, run: str = "", sample: str = "random", ask: str = "", undone: str = ""
) -> Response:
    """The next pair; `undone`: the key of an undo, whose pair comes first."""
    desk, item = desk_of(request, at.store), None
    try:
        about = desk.about(run)
        if undone:
            item = review.undone(at.store, about, user.name, undone, desk=desk)
        item = item or review.next_item(at.store, about, user.name, sample, asked=ask, desk=desk)
    except UserError as error:
        return _page(request, user, at, None, run, sample, ask, nothing=str(error))
    return _page(request, user, at, item, run, sample, ask)


@router.post("/review/answer", response_class=HTMLResponse)
def answer(
    request: Request,
    user: Reviewer,
    at: Wired,
    token: Text,
    key: Text,
    choice: Text = "",
    reason: Text = "",
    principle: Text = "",
    rewrite: Text = "",
    run: Text = "",
    sample: Text = "random",
    ask: Text = "",
) -> Response:
    desk = desk_of(request, at.store)
    try:
        about = desk.about(run)
        review.answer(
            at.store, user.name, token, key, choice, reason, principle=principle, rewrite=rewrite, run=about
        )  # fmt: skip
    except UserError as error:
        return _refused(request, user, at, error, run, sample, ask)
    if not _is_part(request):
        return RedirectResponse(_address(run, sample, ask), 303)
    item = review.next_item(at.store, about, user.name, sample, asked=ask, desk=desk)
    return _page(request, user, at, item, run, sample, ask)


@router.post("/review/undo", response_class=HTMLResponse)
def undo(
    request: Request,
    user: Reviewer,
    at: Wired,
    key: Text,
    run: Text = "",
    sample: Text = "random",
    ask: Text = "",
) -> Response:
    desk = desk_of(request, at.store)
    try:
        about = desk.about(run)
        item = review.undo(at.store, about, user.name, key, asked=ask, desk=desk)
    except UserError as error:
        return _refused(request, user, at, error, run, sample, ask)
    if not _is_part(request):
        return RedirectResponse(_address(run, sample, ask, undone=key), 303)
    told = "Taken back." if item else "Taken back. Somebody else is at that pair now: it comes again in its turn."
    item = item or review.next_item(at.store, about, user.name, sample, asked=ask, desk=desk)
    return _page(request, user, at, item, run, sample, ask, told=told)


@router.post("/review/keep")
def keep(user: Reviewer, at: Wired, token: Text) -> Response:
    """The page is still open: the pair stays held."""
    review.keep(at.store, user.name, token)
    return Response(status_code=204)


@router.post("/review/release")
def release(user: Reviewer, at: Wired, token: Text) -> Response:
    """The page was closed: somebody else may have the pair."""
    review.release(at.store, user.name, token)
    return Response(status_code=204)


@router.get("/review/differences", response_class=HTMLResponse)
def differences(request: Request, user: Reviewer, at: Wired, token: str) -> Response:
    a, b = review.texts(at.store, user.name, token)
    name = "review_differences_part.html" if _is_part(request) else "review_differences.html"
    return render(request, name, a=a, b=b)


@router.get("/review/text")
def text(user: Reviewer, at: Wired, token: str, side: str = "a") -> Response:
    """One answer whole, where the page folds it."""
    a, b = review.texts(at.store, user.name, token)
    return PlainTextResponse((b if side == "b" else a).encode("utf-8", "replace"))


def _page(
    request: Request,
    user: User,
    at: Any,
    item: Item | None,
    run: str,
    sample: str,
    ask: str,
    *,
    told: str = "",
    refused: str = "",
    nothing: str = "",
    status: int = 200,
) -> Response:
    settings, desk = at.settings.review, desk_of(request, at.store)
    values: dict[str, Any] = {
        "constitution": None, "guidelines": "", "problem": "",
        "item": item, "run": run, "sample": sample, "ask": ask, "key": new_key(), "undo_key": new_key(),
        "told": told, "refused": refused, "nothing": nothing, "samplings": queue.SAMPLINGS,
        "closed": sorted(set(item.tags) & set(settings.closed)) if item else [],
        "progress": None if nothing else review.progress(
            at.store, desk.about(run), user.name, sample, asked=ask, desk=desk
        ),
    }  # fmt: skip
    if _is_part(request):
        return render(request, "review_pair.html", status_code=status, **values)
    command = f"precept review --by {user.name}" + (f" --sample {sample}" if sample != "random" else "")
    command += (f" --ask {ask}" if ask else "") + (f" --run {run}" if run else "")
    if not nothing:
        values["constitution"] = desk.about(run).constitution
        values["guidelines"], values["problem"] = _guidelines(settings.guidelines)
    return render(request, "review.html", command=command, status_code=status, who=user.name, **values)


def _refused(request: Request, user: User, at: Any, error: UserError, run: str, sample: str, ask: str) -> Response:
    """What was wrong, over the next pair: nobody is left on a page from which nothing leads on."""
    try:
        desk = desk_of(request, at.store)
        item = review.next_item(at.store, desk.about(run), user.name, sample, asked=ask, desk=desk)
    except UserError:
        raise error from None
    return _page(request, user, at, item, run, sample, ask, refused=str(error), status=422)


def _is_part(request: Request) -> bool:
    return request.headers.get("hx-request") == "true"


def _address(run: str, sample: str, ask: str, **more: str) -> str:
    given = {"run": run, "sample": "" if sample == "random" else sample, "ask": ask, **more}
    query = urlencode({name: value for name, value in given.items() if value})
    return "/review" + (f"?{query}" if query else "")


def _guidelines(name: str) -> tuple[str, str]:
    """The text beside the pairs, and what is wrong with it."""
    if not name:
        return "", ""
    try:
        return Path(name).read_text(encoding="utf-8", errors="replace")[:GUIDELINES], ""
    except OSError as error:
        return "", f"the guidelines {name} cannot be read ({error.strerror}): see review.guidelines"
