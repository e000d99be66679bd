"""Proposing a draft, and putting one in force: two rights. What is decided is the text whose digest was shown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from constitution import loading
from constitution.difference import diff
from constitution.errors import UserError
from flows import announcing
from service.actions import drafts, working_copy
from service.actions.drafts import Behind, Done
from service.queries import changes, drafting, preview
from service.queries.preview import Preview
from storage.drafts import Draft
from web.pages.constitution import looking
from web.rendering import render
from web.security.rights import Right, User, needs
from web.wired import Wired

router = APIRouter()
Reader = Annotated[User, Depends(needs(Right.review))]
Editor = Annotated[User, Depends(needs(Right.edit))]
Approver = Annotated[User, Depends(needs(Right.approve))]
Text = Annotated[str, Form()]


@router.get("/constitution/propose", response_class=HTMLResponse)
def proposing(request: Request, user: Editor, at: Wired) -> HTMLResponse:
    """The draft, what it changes, and the field for why."""
    return _confirm(request, user, at, "propose")


@router.post("/constitution/propose")
def propose(user: Editor, at: Wired, digest: Text, key: Text, why: Text = "") -> Response:
    made = drafts.propose(at.store, user.name, digest, why, key)
    return RedirectResponse(f"/constitution/proposals/{quote(made.id)}", status_code=303)


@router.get("/constitution/ratify", response_class=HTMLResponse)
def ratifying(request: Request, user: Approver, at: Wired) -> HTMLResponse:
    """One's own draft, what it starts, and the field for why."""
    return _confirm(request, user, at, "ratify")


@router.post("/constitution/ratify")
def ratify(request: Request, user: Approver, at: Wired, digest: Text, why: Text = "") -> Response:
    done = drafts.ratify_draft(at.store, user.name, digest, why, Path(at.settings.constitution))
    return _announced(at, done)


@router.get("/constitution/proposals", response_class=HTMLResponse)
def proposals(request: Request, user: Reader, at: Wired) -> HTMLResponse:
    found = at.store.proposed_amendments()
    return render(request, "constitution_proposals.html", command="precept constitution log", proposals=found)


@router.get("/constitution/proposals/{id}", response_class=HTMLResponse)
def proposal(request: Request, id: str, user: Reader, at: Wired) -> HTMLResponse:
    """A proposal, what ratifying it would do now, and what became of it."""
    one = drafts.find(at.store, id)
    base = drafts.amendment_of(at.store, one.base)
    text, behind = one.text, None
    if one.decided is None:
        try:
            text, _ = drafts.text_now(at.store, one)
        except Behind as error:
            behind = error
    new = loading.parse(text, "the proposal")
    before = drafting.of(base) if one.decided is not None else drafting.of(at.store.ratified())
    found, why = _previewed(at, user, text) if one.decided is None and behind is None else (None, "")
    return render(
        request,
        "constitution_proposal.html",
        command="precept constitution amend principles.yaml",
        one=one,
        base=base,
        digest=Draft("", text, "", "").digest,
        merged=text != one.text,
        behind=behind,
        told=changes.told(behind.found) if behind and behind.found else [],
        difference=diff(before, new),
        found=found,
        why=why,
        changes=changes,
        **_what_follows(at),
    )


@router.post("/constitution/proposals/{id}/ratify")
def accept(id: str, user: Approver, at: Wired, digest: Text, why: Text = "") -> Response:
    return _announced(at, drafts.accept(at.store, user.name, id, digest, why, Path(at.settings.constitution)))


@router.post("/constitution/proposals/{id}/decline")
def decline(id: str, user: Approver, at: Wired, why: Text = "") -> Response:
    drafts.decline(at.store, user.name, id, why)
    return RedirectResponse(f"/constitution/proposals/{quote(id)}", status_code=303)


@router.post("/constitution/proposals/{id}/withdraw")
def withdraw(id: str, user: Editor, at: Wired) -> Response:
    drafts.withdraw(at.store, user.name, id)
    return RedirectResponse(f"/constitution/proposals/{quote(id)}", status_code=303)


@router.post("/constitution/proposals/{id}/edit")
def take_up(id: str, user: Editor, at: Wired) -> Response:
    drafts.take_up(at.store, user.name, id)
    return RedirectResponse("/constitution/edit", status_code=303)


@router.get("/constitution/amendments/{number}", response_class=HTMLResponse)
def amendment(
    request: Request, number: int, user: Reader, at: Wired, made: str = "", told: bool = False
) -> HTMLResponse:
    """An amendment: who, when, why, what it changed, and (just after it was made) what became of the file and what
    starts."""
    from service.queries import history

    entries = {e.amendment.number: e for e in history.log(at.store)}
    if number not in entries:
        raise UserError(f"there is no amendment {number}: the newest is {max(entries, default=0)}")
    one, before = entries[number], entries.get(number - 1)
    old = drafting.of(before.amendment if before else None)
    new = drafting.of(one.amendment)
    proposed = next((p for p in at.store.proposed_amendments() if p.decided is not None and
                     p.decided.payload.get("amendment") == one.amendment.event), None)  # fmt: skip
    newest = number == max(entries)
    return render(
        request,
        "constitution_amendment.html",
        command=f"precept constitution show {number}",
        one=one,
        before=before,
        difference=diff(old, new) if before else None,
        proposed=proposed,
        newest=newest,
        made=made if newest else "",
        file=working_copy.compare(Path(at.settings.constitution), one.amendment.text) if newest else "",
        told=told,
        changes=changes,
        **_what_follows(at),
    )


# --- what the forms share ------------------------------------------------------------------------------------------


def _confirm(request: Request, user: User, at: Wired, act: str) -> HTMLResponse:
    mine = drafting.drafting(at.store, at.settings, user.name)
    if not mine.changed:
        raise UserError("you have no draft that says anything else than what is in force: edit it first")
    if mine.checked.constitution is None:
        raise UserError("your draft has mistakes: mend them first, they are shown at the text")
    found, why = _previewed(at, user, mine.text, mine) if mine.inforce is not None else (None, "")
    return render(
        request,
        "constitution_confirm.html",
        command='precept constitution amend principles.yaml --ratify -m "why"',
        act=act,
        mine=mine,
        found=found,
        why=why,
        told=changes.told(mine.apart) if mine.apart else [],
        changes=changes,
        **_what_follows(at),
    )


def _previewed(at: Wired, user: User, text: str, mine: drafting.Drafting | None = None) -> tuple[Preview | None, str]:
    """The preview of a text against what is in force, or why there is none."""
    now = at.store.ratified()
    if now is None:
        return None, ""
    base = mine.base if mine is not None and mine.base is not None else now
    try:
        return preview.preview(looking(at), drafts.read(text), user.name, base=base), ""
    except UserError as error:
        return None, str(error)


def _what_follows(at: Wired) -> dict[str, Any]:
    """What ratifying starts: deployments that listen, and the file beside the store."""
    url = at.settings.store.get_secret_value()
    now = at.store.ratified()
    return {
        "starts": announcing.awaiting(url),
        "beside": working_copy.before(Path(at.settings.constitution), now.text) if now else "",
    }


def _announced(at: Wired, done: Done) -> Response:
    """Tell whoever listens, and show the amendment with what became of the file."""
    told = announcing.ratified(done.amendment, at.settings.store.get_secret_value())
    number, state = done.amendment.number, done.file.state
    return RedirectResponse(f"/constitution/amendments/{number}?made={state}&told={int(told)}", status_code=303)
