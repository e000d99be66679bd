"""The playground: what the methods do, on the run's own stored data. Nothing that is chosen here is stored, and no page
loads a model."""

from __future__ import annotations

import math
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, Response

from constitution.errors import UserError
from pipeline.metrics import bradley_terry
from pipeline.metrics.best_of import COUNTED
from service.queries import playing
from service.queries.playing import JUDGE, Choices
from web.navigation import Nav
from web.rendering import render
from web.security.rights import Right, User, needs
from web.wired import At, Wired

router = APIRouter()
NAV = Nav("Playground", "/playground", order=70, key="p")
Reader = Annotated[User, Depends(needs(Right.review))]
PICKS = 200


@router.get("/playground", response_class=HTMLResponse)
def start(request: Request, _: Reader) -> Response:
    return render(request, "playground.html", command='precept score "PROMPT" "ANSWER"')


@router.get("/playground/answers", response_class=HTMLResponse)
def best_of(request: Request, _: Reader, at: Wired, run: str = "", prompt: str = "") -> Response:
    """Which of the stored answers to a prompt wins under each signal, and under a mix of them."""
    try:
        of, found, names = playing.choices(at.store, run)
    except UserError as error:
        if run:
            raise
        return render(request, "playground_answers.html", found=[], why=str(error))
    asked = {key.removeprefix("w."): value for key, value in request.query_params.items() if key.startswith("w.")}
    weights = {
        name: number(asked.get(name, ""), f"the weight of {name}", 1.0 if name == JUDGE else 0.0) for name in names
    }
    place = position(found, prompt)
    mix, scores = playing.select(found, weights, "your mix")
    alone = {name: playing.select(found, {name: 1.0}, name) for name in names}
    shown = found[place]
    best = {name: only_top(one[1][place]) for name, one in alone.items()}
    rows = [
        (n, answer, scores[place][n], [name for name in names if best[name] == n])
        for n, answer in enumerate(shown.answers)
    ]  # fmt: skip
    return render(
        request, "playground_answers.html", found=found, run=of, names=names, weights=weights, place=place, shown=shown,
        rows=rows, winner=top(scores[place]), winners=[mix, *(one[0] for one in alone.values())],
        signals=(*COUNTED, JUDGE),
        command=f"precept run show {of.id.hex()[:12]}",
    )  # fmt: skip


@router.get("/playground/choose", response_class=HTMLResponse)
def choose(request: Request, _: Reader, at: Wired, run: str = "", prompt: str = "", picks: str = "") -> Response:
    """A Bradley-Terry fit that follows a visitor's choices, which the address holds and no store."""
    try:
        of, found, _names = playing.choices(at.store, run)
    except UserError as error:
        if run:
            raise
        return render(request, "playground_choose.html", found=[], why=str(error))
    place = position(found, prompt)
    shown = found[place]
    made = chosen(picks, len(shown.answers))
    fitted = bradley_terry.fit(len(shown.answers), made)
    first, second = next_pair(fitted, made)
    order = sorted(range(len(shown.answers)), key=lambda n: -fitted.mean[n])
    return render(
        request, "playground_choose.html", found=found, run=of, place=place, shown=shown, picks=picks, made=made,
        fitted=fitted, pair=(first, second), order=order, told=bradley_terry.PRIOR,
        after=picks.rpartition(",")[0],
        one=",".join(filter(None, [picks, f"{first}-{second}"])),
        other=",".join(filter(None, [picks, f"{second}-{first}"])),
    )  # fmt: skip


def number(text: str, what: str, otherwise: float) -> float:
    """Raises UserError for what is no number, or one that no figure can be made of."""
    if not text.strip():
        return otherwise
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= 1e6:
        raise UserError(f"{what} is {text[:40]!r}; give a number")
    return value


def position(found: list[Choices], prompt: str) -> int:
    """Where a prompt is, by its id; the first one without. Raises 404 for one that is not among them."""
    if not prompt:
        return 0
    for n, one in enumerate(found):
        if one.prompt.hex() == prompt:
            return n
    raise HTTPException(404)


def top(scores: list[float]) -> int:
    return max(range(len(scores)), key=lambda n: scores[n])


def only_top(scores: list[float]) -> int | None:
    """The best, where it is better than all others."""
    best = top(scores)
    return best if scores.count(scores[best]) == 1 else None


def chosen(picks: str, answers: int) -> list[tuple[int, int]]:
    """`0-2,1-2`: each the better and the worse. Raises UserError for what is none."""
    try:
        made = [tuple(map(int, one.split("-", 1))) for one in picks.split(",") if one]
        found = [(a, b) for a, b in made]
    except ValueError:
        raise UserError("the choices in this address cannot be read; begin again without them") from None
    if len(found) > PICKS or any(not (0 <= a < answers and 0 <= b < answers and a != b) for a, b in found):
        raise UserError("the choices in this address are of other answers; begin again without them")
    return found


def next_pair(fitted: bradley_terry.Strengths, made: list[tuple[int, int]]) -> tuple[int, int]:
    """The pair whose difference is least sure. The sides change with the choices, so that neither is always left."""
    n = len(fitted.mean)
    cov = fitted.covariance

    def unsure(pair: tuple[int, int]) -> float:
        a, b = pair
        p = fitted.before(a, b)
        return (cov[a][a] + cov[b][b] - 2 * cov[a][b]) * p * (1 - p)

    best = max(((a, b) for a in range(n) for b in range(a + 1, n)), key=unsure)
    return best if len(made) % 2 == 0 else (best[1], best[0])


def known(at: At, id: str) -> Any:
    """The checkpoint of an id. Raises 404 for one that is none."""
    try:
        return at.store.checkpoint(id)
    except UserError as error:
        raise HTTPException(404, str(error)) from None
