"""The playground's pages about training: the loss of a real pair, a sweep's frontier, reward against truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, Response

from constitution.errors import UserError
from pipeline.metrics.pair_loss import pair_loss
from service.pictures import frontier as points_of
from service.pictures import training
from service.queries import playing
from storage.runs import Run
from web.pages.playground import known, number
from web.rendering import render
from web.security.rights import Right, User, needs
from web.wired import At, Wired

router = APIRouter()
Reader = Annotated[User, Depends(needs(Right.review))]
DRAWING = "default-src 'none'; style-src 'unsafe-inline'"  # a picture of its own, which an <img> shows
WIDE, HIGH = 560, 220
BETAS = (0.01, 0.03, 0.1, 0.3, 1.0)


@router.get("/playground/loss", response_class=HTMLResponse)
def loss(
    request: Request, _: Reader, at: Wired, model: str = "", line: str = "", beta: str = "", p: str = "",
    chosen: str = "", rejected: str = "",
) -> Response:  # fmt: skip
    """The loss, the implicit rewards and the weight in the gradient of one pair, as beta, p and log-ratios move."""
    models = playing.with_pairs(at.store)
    of = known(at, model) if model else None
    pairs = playing.pairs(of) if of else []
    pair = None
    if line:
        pair = next((one for one in pairs if str(one.line) == line), None)
        if pair is None:
            raise HTTPException(404)
    start = (pair.chosen, pair.rejected, pair.p, pair.beta or 1.0) if pair else (2.0, -1.0, 1.0, 0.1)
    values = (
        number(chosen, "log pi - log ref of the chosen answer", start[0]),
        number(rejected, "log pi - log ref of the rejected answer", start[1]),
        number(beta, "beta", start[3]), number(p, "p", start[2]),
    )  # fmt: skip
    try:
        found = pair_loss(*values)
        by_beta = [(b, pair_loss(values[0], values[1], b, values[3])) for b in BETAS]
        curve = [pair_loss(x / 10, 0, 1, values[3]).loss for x in range(-60, 61)]
    except ValueError as error:
        raise UserError(f"{error}") from None
    top = max(curve)
    points = " ".join(
        f"{40 + n * (WIDE - 60) / 120:.1f},{HIGH - 40 - y / top * (HIGH - 60):.1f}" for n, y in enumerate(curve)
    )
    x = min(6.0, max(-6.0, found.margin))
    at_x = 40 + (x + 6) * (WIDE - 60) / 12
    at_y = HIGH - 40 - min(top, pair_loss(x, 0, 1, values[3]).loss) / top * (HIGH - 60)
    parted = playing.parted(pairs)
    wanted = [one.line for one in parted] + ([pair.line] if pair else [])
    texts = playing.texts(of, Path(at.settings.home), wanted) if of and wanted else {}
    return render(
        request, "playground_loss.html", parted=parted, texts=texts,
        models=models, of=of, pairs=pairs, pair=pair, found=found, values=values,
        by_beta=by_beta, points=points, spot=(at_x, at_y), size=(WIDE, HIGH), top=top,
        rewards=bool(pair and pair.beta is None), command="precept train dpo --help",
    )  # fmt: skip


# --- a sweep's frontier ---------------------------------------------------------------------------------------------


@router.get("/playground/frontier", response_class=HTMLResponse)
def frontier(
    request: Request, _: Reader, at: Wired, run: str = "", reward: str = "", judge: str = "", kl: str = ""
) -> Response:
    """What each method of a sweep bought by how far it went, and which point is best under one's own weights."""
    sweeps = playing.sweeps(at.store)
    of = _sweep(at, run) if run else (sweeps[0] if sweeps else None)
    given = [(name, number(text, f"the weight of {name}", otherwise)) for name, text, otherwise in
             (("reward", reward, 0.0), ("judge", judge, 1.0), ("kl", kl, 0.0))]  # fmt: skip
    points = points_of.on_the_way(of.result["points"]) if of else []
    worth = playing.best_point(points, *(weight for _, weight in given)) if points else []
    rows = sorted(zip(points, worth, strict=True), key=lambda row: -row[1])
    return render(
        request,
        "playground_frontier.html",
        sweeps=sweeps,
        of=of,
        rows=rows,
        given=given,
        command="precept sweep --json",
    )


@router.get("/playground/frontier/{run}.svg")
def frontier_picture(_: Reader, at: Wired, run: str) -> Response:
    shown = points_of.on_the_way(_sweep(at, run).result["points"])
    if not shown:
        raise HTTPException(404)
    return _drawn(training.frontier(shown))


def _sweep(at: At, run: str) -> Run:
    found = next((one for one in playing.sweeps(at.store) if one.id.hex().startswith(run.lower())), None)
    if found is None:
        raise HTTPException(404)
    return found


# --- reward against truth -------------------------------------------------------------------------------------------


@router.get("/playground/training", response_class=HTMLResponse)
def watched(request: Request, _: Reader, at: Wired, model: str = "") -> Response:
    """The reward that a policy trained on, and what an independent judge and the truth said meanwhile."""
    models = playing.watched(at.store)
    of = known(at, model) if model else (models[0] if models else None)
    steps = playing.evaluations(of) if of in models and of else []
    return render(
        request, "playground_watched.html", models=models, of=of, steps=steps, command="precept improve",
    )  # fmt: skip


@router.get("/playground/training/{id}.svg")
def watched_picture(_: Reader, at: Wired, id: str) -> Response:
    of = known(at, id)
    steps = playing.evaluations(of) if of in playing.watched(at.store) else []
    if not steps:
        raise HTTPException(404)
    return _drawn(training.curves(steps))


def _drawn(svg: str) -> Response:
    return Response(svg, media_type="image/svg+xml", headers={"content-security-policy": DRAWING})
