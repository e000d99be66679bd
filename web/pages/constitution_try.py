"""Trying a draft: answers with it in the system prompt beside today's, asked by a worker."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from service import jobs
from service.queries import drafting
from web.rendering import render
from web.security.rights import Right, User, needs
from web.wired import Wired

router = APIRouter()
Editor = Annotated[User, Depends(needs(Right.edit))]
PROMPTS = 6


@router.post("/constitution/try")
def begin(user: Editor, at: Wired, key: Annotated[str, Form()]) -> Response:
    mine = drafting.drafting(at.store, at.settings, user.name)
    job = jobs.enqueue(at.store, "try_draft", {"text": mine.text, "count": PROMPTS}, user.name, key)
    return RedirectResponse(f"/constitution/try/{job.id.hex()}", 303)


@router.get("/constitution/try/{id}", response_class=HTMLResponse)
def show(request: Request, _: Editor, at: Wired, id: str) -> Response:
    try:
        job = at.store.job(bytes.fromhex(id))
    except ValueError:
        job = None
    if job is None or job.kind != "try_draft":
        raise HTTPException(404)
    return render(request, "constitution_tried.html", job=job, command="precept constitution amend draft.yaml --try")
