"""The API's own description."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.openapi.utils import get_openapi

from web.answering import AsciiJSON
from web.routes import routes
from web.security.rights import Right, User, needs

router = APIRouter(prefix="/api/v1", default_response_class=AsciiJSON)


@router.get("/openapi.json", include_in_schema=False)
def openapi(request: Request, _: Annotated[User, Depends(needs(Right.review))]) -> dict[str, Any]:
    app = request.app
    mine = [route for route in routes(app) if route.path.startswith("/api/")]
    found = get_openapi(title=app.title, version=app.version, description=app.description, routes=mine)
    found.setdefault("components", {})["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    found["security"] = [{"token": []}]
    return found


@router.get("/me")
def me(user: Annotated[User, Depends(needs(Right.review))]) -> dict[str, str]:
    """Who the token or session is of."""
    return {"name": user.name, "role": user.role}
