"""Runs: the list, one as the pipeline that it is (live while it works), its held-out answers, two side by side."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from constitution.errors import UserError
from service.queries import answers as answering
from service.queries import run_compare, run_list, run_stages, trials
from service.queries import runs as running
from web.navigation import Nav
from web.rendering import environment, render
from web.security.rights import Right, User, needs
from web.wired import At, Wired

router = APIRouter()
NAV = Nav("Runs", "/runs", order=40, key="u")
Reader = Annotated[User, Depends(needs(Right.review))]
EVERY = 1.0  # seconds between two looks at a run that works
REPORT = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"


@router.get("/runs", response_class=HTMLResponse)
def runs(
    request: Request,
    _: Reader,
    at: Wired,
    kind: str = "",
    outcome: str = "",
    constitution: str = "",
    after: str = "",
) -> Response:
    found = run_list.page(at.store, kind=kind, outcome=outcome, constitution=constitution, after=after)
    return render(
        request, "runs.html", found=found, kinds=run_list.kinds(at.store), kind=kind, outcome=outcome,
        constitution=constitution, outcomes=(*run_list.STATUSES, *run_list.DECISIONS), command="precept run list",
    )  # fmt: skip


@router.get("/runs/{id}", response_class=HTMLResponse)
def run(request: Request, _: Reader, at: Wired, id: str) -> Response:
    shown = running.show(at.store, _known(at, id))
    result = shown.summary.run.result if isinstance(shown.summary.run.result, dict) else {}
    reasons = [str(reason).partition(": ") for reason in result.get("reasons", ())]
    tried = {role: trials.of_run(at.store, shown.summary.run, role) for role in ("judge", "evaluator")}
    return render(
        request, "run.html", shown=shown, run=shown.summary.run, result=result, tried=tried,
        reasons=[(mark == "held", text or mark) for mark, _, text in reasons],
        pipeline=run_stages.pipeline(at.store, id, Path(at.settings.home)),
        command=f"precept run show {shown.summary.run.id.hex()[:12]}",
    )  # fmt: skip


@router.get("/runs/{id}/events")
async def events(request: Request, _: Reader, at: Wired, id: str) -> Response:
    """Server-sent events: the pipeline as HTML whenever it has changed, until the run has ended."""
    home = Path(at.settings.home)
    await run_in_threadpool(_known, at, id)

    async def stream() -> AsyncIterator[str]:
        last = ""
        while not await request.is_disconnected():
            found = await run_in_threadpool(run_stages.pipeline, at.store, id, home)
            html = environment().get_template("run_pipeline.html").render(pipeline=found)
            if html != last:
                last = html
                yield f"event: pipeline\ndata: {json.dumps({'html': html, 'status': found.status})}\n\n"
            if found.status != "running":
                return
            await asyncio.sleep(EVERY)

    return StreamingResponse(stream(), media_type="text/event-stream")


@router.get("/runs/{id}/answers", response_class=HTMLResponse)
def answers(
    request: Request,
    _: Reader,
    at: Wired,
    id: str,
    outcome: str = "",
    principle: str = "",
    flag: str = "",
    length: str = "",
    search: str = "",
    after: str = "",
) -> Response:
    longer = {"longer": True, "not longer": False}.get(length)
    found = answering.heldout(
        at.store, _known(at, id), outcome=outcome, principle=principle, flag=flag, longer=longer, search=search,
        after=after,
    )  # fmt: skip
    asked = {"outcome": outcome, "principle": principle, "flag": flag, "length": length, "search": search}
    return render(
        request, "run_answers.html", found=found, run=id, asked=asked, outcomes=answering.OUTCOMES,
        flags=answering.flags(), command=f"precept run report {id[:12]}",
    )  # fmt: skip


@router.get("/runs/{id}/report")
def report(_: Reader, at: Wired, id: str) -> Response:
    """The report as it was written, in a sandbox of its own: it holds no script, and none would run."""
    path = running.report(at.store, _known(at, id))
    return FileResponse(path, media_type="text/html", headers={"content-security-policy": REPORT})


@router.get("/compare", response_class=HTMLResponse)
def compare(request: Request, _: Reader, at: Wired, a: str = "", b: str = "") -> Response:
    found = run_compare.compare(at.store, a, b) if a and b else None
    known = run_list.page(at.store, most=50).items
    command = f"precept run compare {a[:12]} {b[:12]}" if found else "precept run compare A B"
    return render(request, "compare.html", found=found, known=known, a=a, b=b, command=command)


def _known(at: At, id: str) -> str:
    """Raises 404 for a run that is none."""
    try:
        return at.store.run(id).id.hex()
    except UserError as error:
        raise HTTPException(404, str(error)) from None
