"""Runs and models as JSON: the very shapes of `precept run ... --json`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from service.queries import answers, models, run_compare, run_list, run_stages, runs
from web.answering import AsciiJSON
from web.security.rights import Right, User, needs
from web.wired import Wired

router = APIRouter(prefix="/api/v1", default_response_class=AsciiJSON, tags=["runs and models"])
Reader = Annotated[User, Depends(needs(Right.review))]


@router.get("/runs")
def all_runs(
    _: Reader, at: Wired, kind: str = "", outcome: str = "", constitution: str = "", after: str = ""
) -> dict[str, Any]:
    return run_list.page(at.store, kind=kind, outcome=outcome, constitution=constitution, after=after).as_dict()


@router.get("/runs/{id}")
def run(_: Reader, at: Wired, id: str) -> dict[str, Any]:
    return runs.show(at.store, id).as_dict()


@router.get("/runs/{id}/pipeline")
def pipeline(_: Reader, at: Wired, id: str) -> dict[str, Any]:
    return run_stages.pipeline(at.store, id, Path(at.settings.home)).as_dict()


@router.get("/runs/{id}/answers")
def heldout(
    _: Reader, at: Wired, id: str, outcome: str = "", principle: str = "", search: str = "", after: str = ""
) -> dict[str, Any]:
    found = answers.heldout(at.store, id, outcome=outcome, principle=principle, search=search, after=after)
    return found.as_dict()


@router.get("/compare")
def compare(_: Reader, at: Wired, a: str, b: str) -> dict[str, Any]:
    return run_compare.compare(at.store, a, b).as_dict()


@router.get("/models")
def all_models(_: Reader, at: Wired) -> list[dict[str, Any]]:
    return [one.as_dict() for one in models.models(at.store)]


@router.get("/models/{id}")
def model(_: Reader, at: Wired, id: str) -> dict[str, Any]:
    return models.model(at.store, id).as_dict()
