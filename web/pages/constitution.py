"""The constitution in force, for reading: who wrote what and why in the margin, examples with marks, and what the
verdicts say of each principle."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from constitution.errors import UserError
from service.queries import drafting, history, in_force
from service.queries.in_force import InForce, Weighed
from service.wiring import Wiring
from web.navigation import Nav
from web.rendering import render
from web.security.rights import Right, User, needs
from web.wired import Wired

router = APIRouter()
NAV = Nav("Constitution", "/constitution", order=30, key="c")
Reader = Annotated[User, Depends(needs(Right.review))]


def looking(at: Wired) -> Wiring:
    """The wiring of who looks something up: it loads no model, not even to find out how a judge is asked."""
    wiring = at.wiring()
    wiring.may_ask = False
    return wiring


@router.get("/constitution", response_class=HTMLResponse)
def read(request: Request, user: Reader, at: Wired, labels: bool = False) -> HTMLResponse:
    now = at.store.ratified()
    if now is None:
        return render(request, "constitution_empty.html", command="precept constitution amend principles.yaml")
    found = in_force.in_force(looking(at))
    return render(
        request,
        "constitution.html",
        command="precept constitution show ratified",
        found=found,
        weighed=_weighed(at) if labels else None,
        waiting=[p for p in at.store.proposed_amendments() if p.state == "open"],
        mine=drafting.drafting(at.store, at.settings, user.name),
    )


@router.get("/constitution/labels", response_class=HTMLResponse)
def labels(request: Request, user: Reader, at: Wired) -> HTMLResponse:
    """How often each principle decides: a page, or with scripts the pieces that belong into the page of principles."""
    weighed = _weighed(at)
    of = in_force.of_amendment(at.store.amendment("ratified"))
    template = "constitution_labels_parts.html" if request.headers.get("HX-Request") else "constitution_labels.html"
    return render(
        request, template, command="precept constitution lint ratified", weighed=weighed, constitution=of
    )  # fmt: skip


@router.get("/constitution/text", response_class=HTMLResponse)
def text(request: Request, user: Reader, at: Wired, revision: str = "ratified") -> HTMLResponse:
    """The file, with the amendment that wrote each line in the margin."""
    lines = history.blame(at.store, revision)
    now = at.store.amendment(revision)
    return render(
        request,
        "constitution_text.html",
        command=f"precept constitution blame {now.number}",
        lines=lines,
        runs=history.runs(lines),
        amendment=now,
        inforce=at.store.amendment("ratified"),
    )


@router.get("/constitution/principles/{id}", response_class=HTMLResponse)
def principle(request: Request, id: str, user: Reader, at: Wired) -> HTMLResponse:
    found = in_force.in_force(looking(at))
    one = next((p for p in found.principles if p.principle.id == id), None)
    if one is None:
        raise UserError(f"the constitution in force has no principle {id!r}: {_names(found)}")
    weighed = _weighed(at)
    return render(
        request,
        "constitution_principle.html",
        command=f"precept constitution show ratified {id}",
        found=found,
        one=one,
        weighed=weighed,
        decides=weighed.principles[id] if weighed else None,
        past=history.of_principle(at.store, id),
    )


def _weighed(at: Wired) -> Weighed | None:
    """None where the judge's questions are not known here, so that nothing can be said."""
    try:
        return in_force.decides(looking(at))
    except UserError:
        return None


def _names(found: InForce) -> str:
    return f"it has {', '.join(p.principle.id for p in found.principles)}"
