"""Models: the registry, one with what it was made of and what the gate said of it, its lineage, and promoting."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from constitution.errors import UserError
from service.actions import promote as promoting
from service.pictures.lineage import picture
from service.pictures.lineage import text as lineage_text
from service.queries import findings, lineage
from service.queries import models as registry
from web.navigation import Nav
from web.rendering import new_key, render
from web.security.rights import Right, User, needs
from web.wired import At, Wired

router = APIRouter()
NAV = Nav("Models", "/models", order=50, key="m")
Reader = Annotated[User, Depends(needs(Right.review))]
Approver = Annotated[User, Depends(needs(Right.approve))]
Text = Annotated[str, Form()]
DRAWING = "default-src 'none'; style-src 'unsafe-inline'"
OF_A_PAGE = ("run", "checkpoint", "comparison")  # kinds of nodes that have a page


@router.get("/models", response_class=HTMLResponse)
def models(request: Request, _: Reader, at: Wired) -> Response:
    found = registry.models(at.store)
    return render(
        request, "models.html", found=found, promotions=registry.promotions(at.store)[::-1], key=new_key(),
        proposed=next((one for one in found if one.proposed), None), command="precept model list",
    )  # fmt: skip


@router.get("/models/{id}", response_class=HTMLResponse)
def model(request: Request, _: Reader, at: Wired, id: str) -> Response:
    found = _known(at, id)
    checkpoint = found.model.checkpoint
    reasons = [reason.partition(": ") for reason in found.reasons]
    curve = [step for step in findings.curve(checkpoint) if step.get("loss") is not None]
    return render(
        request, "model.html", found=found, at=checkpoint, key=new_key(), curve=curve,
        reasons=[(mark == "held", text or mark) for mark, _, text in reasons],
        command=f"precept model show {checkpoint.id.hex()[:12]}",
    )  # fmt: skip


@router.post("/models/{id}/promote")
def promote(user: Approver, at: Wired, id: str, key: Text, why: Text = "") -> Response:
    checkpoint = _known(at, id).model.checkpoint
    promoting.promote(at.store, Path(at.settings.home), checkpoint.id.hex(), user.name, why, key=f"{user.name}:{key}")
    return RedirectResponse(f"/models/{checkpoint.id.hex()}", 303)


@router.post("/models/roll-back")
def roll_back(user: Approver, at: Wired, key: Text, why: Text = "") -> Response:
    promoting.roll_back(at.store, Path(at.settings.home), user.name, why, key=f"{user.name}:{key}")
    return RedirectResponse("/models", 303)


@router.get("/models/{id}/lineage", response_class=HTMLResponse)
def made_of(request: Request, _: Reader, at: Wired, id: str) -> Response:
    checkpoint = _known(at, id).model.checkpoint
    graph = lineage.trace(at.store, checkpoint.id.hex())
    return render(
        request, "lineage.html", at=checkpoint, nodes=graph.nodes, lines=list(lineage_text.lines(graph)),
        said=picture.say(graph), command=f"precept model lineage {checkpoint.id.hex()[:12]}",
    )  # fmt: skip


@router.get("/models/{id}/lineage.svg")
def drawing(_: Reader, at: Wired, id: str) -> Response:
    """The drawing as a picture of its own, which an <img> shows: nothing in it can run."""
    checkpoint = _known(at, id).model.checkpoint
    svg = picture.standing_alone(lineage.trace(at.store, checkpoint.id.hex()))
    return Response(svg, media_type="image/svg+xml", headers={"content-security-policy": DRAWING})


def _known(at: At, id: str) -> registry.Shown:
    """Raises 404 for a checkpoint that is none."""
    try:
        return registry.model(at.store, id)
    except UserError as error:
        raise HTTPException(404, str(error)) from None
