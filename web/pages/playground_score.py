"""The playground's page for typed answers: what judge and reward make of one, or of two. A worker asks the models; the
page shows how far it is and, at an address that stays, what came of it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from service import jobs
from storage.jobs import StoredJob
from web.rendering import new_key, render
from web.security.rights import Right, User, needs
from web.wired import At, Wired

router = APIRouter()
Reader = Annotated[User, Depends(needs(Right.review))]
Text = Annotated[str, Form()]
SHOWN = 20


@router.get("/playground/score", response_class=HTMLResponse)
def ask(request: Request, _: Reader, at: Wired) -> Response:
    kept = [job for job in at.store.jobs(most=100) if job.kind == "score"][:SHOWN]
    return render(
        request, "playground_score.html", kept=kept, key=new_key(), command='precept score "PROMPT" "ANSWER" ["SECOND"]'
    )


@router.post("/playground/score")
def enqueue(user: Reader, at: Wired, key: Text, prompt: Text, answer: Text = "", second: Text = "") -> Response:
    texts = [text.replace("\r\n", "\n") for text in (prompt, answer, second)]  # as a form sends lines
    payload = {"prompt": texts[0], "answer": texts[1], "second": texts[2] or None}
    job = jobs.enqueue(at.store, "score", payload, user.name, key)
    return RedirectResponse(f"/playground/score/{job.id.hex()}", 303)


@router.get("/playground/score/{id}", response_class=HTMLResponse)
def show(request: Request, user: Reader, at: Wired, id: str) -> Response:
    job = _known(at, id)
    mine = job.who == user.name or user.may("admin")
    return render(request, "playground_scored.html", job=job, found=job.result, mine=mine)


@router.post("/playground/score/{id}/cancel")
def cancel(user: Reader, at: Wired, id: str) -> Response:
    job = _known(at, id)
    if job.who != user.name and not user.may("admin"):
        raise HTTPException(403, "only who asked for it, or an admin, cancels it")
    at.store.cancel_job(job.id)
    return RedirectResponse(f"/playground/score/{id}", 303)


def _known(at: At, id: str) -> StoredJob:
    """Raises 404 for a job that is none, or of another kind."""
    try:
        job = at.store.job(bytes.fromhex(id))
    except ValueError:
        job = None
    if job is None or job.kind != "score":
        raise HTTPException(404)
    return job
