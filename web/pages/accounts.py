"""Signing in, one's own account, and, for admins, everybody's."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from constitution.errors import UserError
from service.actions import accounts
from web.rendering import render
from web.security.rights import SESSION, Anyone, Right, User, needs
from web.wired import Wired

router = APIRouter()
Me = Annotated[User, Depends(needs(Right.review))]
Admin = Annotated[User, Depends(needs(Right.admin))]
Text = Annotated[str, Form()]


def local(target: str) -> str:
    """A path of this console, or home: nobody is led elsewhere."""
    parts = urlsplit(target)
    inside = target.startswith("/") and not target.startswith(("//", "/\\")) and not parts.scheme and not parts.netloc
    return target if inside and target.isprintable() and "\\" not in target else "/"


def _signed_in(request: Request, secret: str, target: str) -> Response:
    answer = RedirectResponse(target, 303)
    secure = request.url.scheme == "https"
    answer.set_cookie(
        SESSION, secret, max_age=accounts.SESSION_LONGEST, httponly=True, samesite="lax", secure=secure, path="/"
    )
    return answer


@router.get("/sign-in", response_class=HTMLResponse)
def sign_in_page(request: Request, user: Anyone, next: str = "/") -> Response:
    if user is not None:
        return RedirectResponse(local(next), 303)
    return render(request, "sign_in.html", error="", name="", next=local(next))


@router.post("/sign-in")
def sign_in(request: Request, user: Anyone, at: Wired, name: Text, password: Text, next: Text = "/") -> Response:
    address = request.client.host if request.client else ""
    try:
        secret = accounts.sign_in(at.store, name, password, address, request.headers.get("user-agent", ""))
    except UserError as error:
        return render(request, "sign_in.html", 401, error=str(error), name=name, next=local(next))
    if user is not None and user.digest:  # a session of before is not gone on with
        accounts.sign_out(at.store, user)
    return _signed_in(request, secret, local(next))


@router.post("/sign-out")
def sign_out(user: Anyone, at: Wired) -> Response:
    if user is not None:
        accounts.sign_out(at.store, user)
    answer = RedirectResponse("/sign-in", 303)
    answer.delete_cookie(SESSION, path="/")
    return answer


@router.get("/link/{secret}", response_class=HTMLResponse)
def link_page(request: Request, _: Anyone, at: Wired, secret: str) -> Response:
    account = accounts.linked(at.store, secret)
    error = "" if account else "This link was used already, or is too old; ask an admin for another one."
    return render(request, "link.html", 200 if account else 410, account=account, secret=secret, error=error)


@router.post("/link/{secret}")
def link(request: Request, _: Anyone, at: Wired, secret: str, password: Text) -> Response:
    try:
        account = accounts.choose_password(at.store, secret, password)
        address = request.client.host if request.client else ""
        return _signed_in(request, accounts.sign_in(at.store, account.name, password, address), "/")
    except UserError as error:
        account_now = accounts.linked(at.store, secret)
        return render(request, "link.html", 422, account=account_now, secret=secret, error=str(error))


# --- one's own account ---


def _by_session(user: User) -> None:
    """Raises 403 for a token: one that is stolen for a day must not make one for a year, nor sign anybody out."""
    if user.by == "token":
        raise HTTPException(403, "a token cannot change the account that it is of; sign in")


def _account(request: Request, user: User, at: Wired, status: int = 200, made: str = "", error: str = "") -> Response:
    mine = accounts.ROLES[: accounts.ROLES.index(user.role) + 1]
    return render(
        request, "account.html", status, made=made, error=error, roles=mine,
        sessions=at.store.credentials(user.name, "session"), tokens=at.store.credentials(user.name, "token"),
    )  # fmt: skip


@router.get("/account", response_class=HTMLResponse)
def account(request: Request, user: Me, at: Wired) -> Response:
    return _account(request, user, at)


@router.post("/account/password")
def password(request: Request, user: Me, at: Wired, old: Text, new: Text) -> Response:
    _by_session(user)
    try:
        accounts.change_password(at.store, user, old, new)
    except UserError as error:
        return _account(request, user, at, 422, error=str(error))
    return RedirectResponse("/sign-in", 303)


@router.post("/account/sign-out-everywhere")
def everywhere(user: Me, at: Wired) -> Response:
    _by_session(user)
    accounts.sign_out_everywhere(at.store, user)
    return RedirectResponse("/sign-in", 303)


@router.post("/account/tokens")
def token(
    request: Request, user: Me, at: Wired, label: Text, role: Text, days: Annotated[int, Form()] = 30
) -> Response:
    _by_session(user)
    try:
        made = accounts.make_token(at.store, user, label, role, days)
    except UserError as error:
        return _account(request, user, at, 422, error=str(error))
    return _account(request, user, at, made=made)  # shown once, on the answer itself: it is in no address


@router.post("/account/tokens/revoke")
def revoke(user: Me, at: Wired, token: Text) -> Response:
    _by_session(user)
    accounts.revoke_token(at.store, user, token)
    return RedirectResponse("/account", 303)


# --- everybody's ---


def _people(request: Request, at: Wired, link: str = "", link_of: str = "") -> Response:
    url = f"{request.base_url}link/{link}" if link else ""
    return render(
        request, "people.html", accounts=at.store.accounts(), roles=accounts.ROLES, link=url, link_of=link_of,
        command="precept console accounts list",
    )  # fmt: skip


@router.get("/admin/people", response_class=HTMLResponse)
def people(request: Request, _: Admin, at: Wired) -> Response:
    return _people(request, at)


@router.post("/admin/people")
def invite(request: Request, user: Admin, at: Wired, name: Text, role: Text) -> Response:
    return _people(request, at, accounts.invite(at.store, name, role, user.name), name)


@router.post("/admin/people/link")
def new_link(request: Request, user: Admin, at: Wired, name: Text) -> Response:
    return _people(request, at, accounts.link(at.store, name, user.name), name)


@router.post("/admin/people/role")
def change_role(user: Admin, at: Wired, name: Text, role: Text) -> Response:
    accounts.change_role(at.store, name, role, user.name)
    return RedirectResponse("/admin/people", 303)


@router.post("/admin/people/disable")
def disable(user: Admin, at: Wired, name: Text, disabled: Annotated[int, Form()] = 1) -> Response:
    accounts.disable(at.store, name, user.name, bool(disabled))
    return RedirectResponse("/admin/people", 303)


@router.get("/admin/audit", response_class=HTMLResponse)
def audit(request: Request, _: Admin, at: Wired, before: str = "") -> Response:
    events = at.store.audited(101, before or None)
    after = events[99].id if len(events) > 100 else None
    return render(request, "audit.html", events=events[:100], after=after)
