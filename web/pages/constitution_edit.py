"""Editing the constitution: as text or principle by principle, kept as a draft of one's own, its preview beside it.

Nothing here puts anything in force: that is `constitution_decide.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from constitution import editing
from constitution.errors import UserError
from constitution.problems import ConstitutionError
from service.actions import drafts
from service.actions.drafts import Behind, Newer
from service.queries import changes, drafting, in_force, preview
from web.pages.constitution import looking
from web.rendering import render
from web.security.rights import Right, User, needs
from web.wired import Wired

router = APIRouter()
Editor = Annotated[User, Depends(needs(Right.edit))]
EDIT = "/constitution/edit"
FIELDS = {  # of a form: by field, its name for people and what it is for
    "title": ("Title", "A line for people."),
    "comparison": ("Question to the judge", "The whole question the judge reads of two replies. It names one thing."),
    "why": ("Why", "The reason, in a sentence. Judge and critic read it. It may be left out."),
    "critique": ("What the critic looks for", "What the model is asked about its own reply."),
    "revision": ("What the reviser does", "What the model is asked to do about it."),
    "weight": ("Weight", "A number above 0: how much it counts when principles disagree."),
    "tags": ("Tags", "Words between commas, for people."),
}  # fmt: skip


@router.get(EDIT, response_class=HTMLResponse)
def edit(request: Request, user: Editor, at: Wired) -> HTMLResponse:
    """The draft as it stands: what it changes, the principles to edit, and what comes next."""
    mine = drafting.drafting(at.store, at.settings, user.name)
    return render(
        request,
        "constitution_edit.html",
        command="precept constitution amend principles.yaml",
        mine=mine,
        fields=FIELDS,
        changes=changes,
        told=changes.told(mine.apart) if mine.apart else [],
    )


@router.get(f"{EDIT}/text", response_class=HTMLResponse)
def as_text(request: Request, user: Editor, at: Wired) -> HTMLResponse:
    mine = drafting.drafting(at.store, at.settings, user.name)
    return _text_page(request, mine)


@router.post(f"{EDIT}/text")
def keep_text(
    request: Request,
    user: Editor,
    at: Wired,
    text: Annotated[str, Form()],
    seen: Annotated[str, Form()] = "",
    act: Annotated[str, Form()] = "check",
) -> Response:
    """Keep the text, mistakes and all; then show it again with them, or go on to what it does."""
    try:
        drafts.keep(at.store, user.name, text, seen=None if act == "over" else seen)
    except Newer as error:
        mine = drafting.drafting(at.store, at.settings, user.name)
        return _text_page(request, mine, typed=text, newer=error)
    return RedirectResponse(EDIT if act == "go" else f"{EDIT}/text", status_code=303)


@router.get(f"{EDIT}/principles/{{id}}", response_class=HTMLResponse)
def one(request: Request, id: str, user: Editor, at: Wired) -> HTMLResponse:
    mine = drafting.drafting(at.store, at.settings, user.name)
    return _principle_page(request, at, mine, id)


@router.post(f"{EDIT}/principles/{{id}}")
async def keep_one(request: Request, id: str, user: Editor, at: Wired) -> Response:
    """Keep the fields of a principle. The form names each; those that are as they were change no line."""
    form = {name: str(value) for name, value in (await request.form()).items()}
    return await _in_thread(lambda: _keep_one(request, id, user, at, form))


@router.post(f"{EDIT}/principles/{{id}}/examples")
def add_example(
    request: Request,
    id: str,
    user: Editor,
    at: Wired,
    prompt: Annotated[str, Form()] = "",
    better: Annotated[str, Form()] = "",
    worse: Annotated[str, Form()] = "",
    seen: Annotated[str, Form()] = "",
) -> Response:
    said = {"prompt": prompt, "better": better, "worse": worse}

    def change(text: str) -> str:
        if not all(value.strip() for value in said.values()):
            raise UserError("an example has a prompt, a better reply and a worse one: fill in all three")
        if better.strip() == worse.strip():
            raise UserError("the two replies are the same text, so neither can win: make them differ")
        return editing.add_example(text, id, prompt, better, worse)

    return _changed(request, at, user, seen, change, f"{EDIT}/principles/{quote(id)}#examples", id, said)


@router.post(f"{EDIT}/principles/{{id}}/examples/{{number}}/remove")
def remove_example(
    request: Request, id: str, number: int, user: Editor, at: Wired, seen: Annotated[str, Form()] = ""
) -> Response:
    def change(text: str) -> str:
        return editing.remove_example(text, id, number)

    return _changed(request, at, user, seen, change, f"{EDIT}/principles/{quote(id)}#examples", id)


@router.post(f"{EDIT}/principles/{{id}}/remove")
def remove(request: Request, id: str, user: Editor, at: Wired, seen: Annotated[str, Form()] = "") -> Response:
    return _changed(request, at, user, seen, lambda text: editing.remove_principle(text, id), EDIT, id)


@router.post(f"{EDIT}/principles")
async def add(request: Request, user: Editor, at: Wired) -> Response:
    """One more principle, at the end of the draft."""
    form = {name: str(value) for name, value in (await request.form()).items()}

    def change(text: str) -> str:
        return editing.add_principle(text, form.get("id", "").strip(), form)

    return await _in_thread(lambda: _changed(request, at, user, form.get("seen", ""), change, EDIT, "", form))


@router.post(f"{EDIT}/merge")
def merge(request: Request, user: Editor, at: Wired) -> Response:
    """Write what was ratified meanwhile into the draft; where the two contradict, the page shows it."""
    try:
        drafts.merge(at.store, user.name)
    except Behind:
        return RedirectResponse(f"{EDIT}#apart", status_code=303)
    return RedirectResponse(EDIT, status_code=303)


@router.post(f"{EDIT}/mine")
def mine_after_theirs(user: Editor, at: Wired, digest: Annotated[str, Form()]) -> Response:
    drafts.mine_after_theirs(at.store, user.name, digest)
    return RedirectResponse(EDIT, status_code=303)


@router.post(f"{EDIT}/discard")
def discard(user: Editor, at: Wired) -> Response:
    drafts.discard(at.store, user.name)
    return RedirectResponse("/constitution", status_code=303)


@router.get(f"{EDIT}/preview", response_class=HTMLResponse)
def previewed(request: Request, user: Editor, at: Wired) -> HTMLResponse:
    """What the draft does to labels, and what each way of retraining takes: a page, or the piece beside the editor."""
    mine = drafting.drafting(at.store, at.settings, user.name)
    part = bool(request.headers.get("HX-Request"))
    found, why = None, ""
    if mine.changed and mine.checked.constitution is not None and mine.inforce is not None:
        try:
            found = preview.preview(looking(at), mine.checked.constitution, user.name, base=mine.base or "")
        except UserError as error:
            why = str(error)
    return render(
        request,
        "constitution_preview_part.html" if part else "constitution_preview.html",
        command="precept constitution amend principles.yaml --dry-run",
        mine=mine,
        found=found,
        why=why,
        changes=changes,
    )


# --- what the forms share ------------------------------------------------------------------------------------------


async def _in_thread(work: Callable[[], Response]) -> Response:
    from starlette.concurrency import run_in_threadpool  # a form whose fields are not known beforehand is awaited

    return await run_in_threadpool(work)


def _keep_one(request: Request, id: str, user: User, at: Wired, form: dict[str, str]) -> Response:
    def change(text: str) -> str:
        for field in FIELDS:
            if field in form:
                text = editing.set_field(text, id, field, drafts.as_file(form[field], ""))
        return text

    return _changed(request, at, user, form.get("seen", ""), change, EDIT, id, form)


def _changed(
    request: Request,
    at: Wired,
    user: User,
    seen: str,
    change: Callable[[str], str],
    then: str,
    id: str,
    typed: dict[str, str] | None = None,
) -> Response:
    """Change the draft, or what is in force where there is none yet. A mistake is shown where it was typed."""
    mine = drafting.drafting(at.store, at.settings, user.name)
    try:
        if mine.draft is not None and mine.digest != seen:
            raise Newer(mine.draft)
        drafts.keep(at.store, user.name, change(mine.text), seen=seen)
    except (ConstitutionError, UserError) as error:
        said = list(error.problems) if isinstance(error, ConstitutionError) else []
        return _principle_page(request, at, mine, id, typed or {}, str(error) if not said else "", said)
    return RedirectResponse(then, status_code=303)


def _text_page(
    request: Request, mine: drafting.Drafting, typed: str | None = None, newer: Newer | None = None
) -> HTMLResponse:
    text = mine.text if typed is None else typed.replace("\r\n", "\n")
    return render(
        request,
        "constitution_edit_text.html",
        command="precept constitution check principles.yaml",
        status_code=409 if newer else 200,
        mine=mine,
        text=text,
        newer=newer,
        told=changes.told(mine.apart) if mine.apart else [],
        lines=text.count("\n") + 1,
    )


def _principle_page(
    request: Request,
    at: Wired,
    mine: drafting.Drafting,
    id: str,
    typed: dict[str, str] | None = None,
    error: str = "",
    problems: Sequence[object] | None = None,
) -> HTMLResponse:
    draft = mine.checked.constitution
    principle = next((p for p in draft or () if p.id == id), None)
    if id and principle is None and not error and not problems:
        error = f"the draft has no principle {id!r}" if draft is not None else "mend the draft's mistakes as text first"
    marks = in_force.marks(looking(at), draft) if draft is not None and principle is not None else {}
    values = {} if principle is None else {name: editing.said(principle.as_dict()[name]) for name in FIELDS}
    return render(
        request,
        "constitution_edit_one.html",
        command=f"precept constitution show principles.yaml {id}".strip(),
        status_code=422 if error or problems else 200,
        mine=mine,
        principle=principle,
        id=id,
        fields=FIELDS,
        values={**values, **(typed or {})},
        error=error,
        problems=problems or [],
        marks=marks.get(id, []),
    )


@router.get(f"{EDIT}/new", response_class=HTMLResponse)
def new(request: Request, user: Editor, at: Wired) -> HTMLResponse:
    return _principle_page(request, at, drafting.drafting(at.store, at.settings, user.name), "")
