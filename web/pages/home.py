"""Home: what is in force, what is at work, what waits for a person."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from service.queries import home as homes
from web.rendering import render
from web.security.rights import Right, User, needs
from web.wired import Wired

router = APIRouter()


@router.get("/", response_class=HTMLResponse)
def home(request: Request, _: Annotated[User, Depends(needs(Right.review))], at: Wired) -> HTMLResponse:
    return render(request, "home.html", found=homes.home(at.store), command="precept run list")
