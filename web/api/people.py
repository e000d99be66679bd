"""What people answered, as JSON: the shapes of `precept review ... --json`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from service.queries import agreement, disagreements, home, labels
from web.answering import AsciiJSON
from web.security.rights import Right, User, needs
from web.wired import Wired

router = APIRouter(prefix="/api/v1", default_response_class=AsciiJSON, tags=["people"])
Reader = Annotated[User, Depends(needs(Right.review))]


@router.get("/home")
def at_home(_: Reader, at: Wired) -> dict[str, Any]:
    return home.home(at.store).as_dict()


@router.get("/agreement")
def agreed(_: Reader, at: Wired, run: str = "") -> dict[str, Any]:
    return agreement.agreement(at.store, run).as_dict()


@router.get("/disagreements")
def differing(
    _: Reader, at: Wired, run: str = "", by: str = "", principle: str = "", after: str = ""
) -> dict[str, Any]:
    found = disagreements.disagreements(at.store, run, by or None, principle or None, after=after or None)
    return found.as_dict()


@router.get("/labels")
def labelled(_: Reader, at: Wired, run: str = "", after: str = "") -> dict[str, Any]:
    return labels.labels(at.store, run, after=after or None).as_dict()
