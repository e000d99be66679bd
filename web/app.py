"""The application: `create_app(settings)`. Pages and API modules are found by name; what refuses is in `security/`."""

from __future__ import annotations

import importlib
import logging
import pkgutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import ModuleType
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

import web.api
import web.pages
from constitution.errors import UserError
from service.actions import accounts
from service.settings import Settings
from storage.store import Store
from web.answering import AsciiJSON
from web.navigation import Nav
from web.rendering import STATIC, marked, render
from web.security.guard import Guard
from web.security.rights import SignIn
from web.wired import At

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_log = logging.getLogger(__name__)


def create_app(settings: Settings, *, store: Store | None = None, hosts: set[str] = LOOPBACK) -> FastAPI:
    """`store`: an open one, which stays open; without one the settings' is opened, and closed when the server ends.
    `hosts`: the names by which browsers may call it; an empty set is any."""
    opened = store or Store.open(settings.store.get_secret_value(), late=True, home=settings.home)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        yield
        if store is None:
            opened.close()

    app = FastAPI(
        title="precept", version="1", docs_url=None, redoc_url=None, openapi_url=None, lifespan=life,
        description="What the console shows, as JSON. `Authorization: Bearer TOKEN`, a token made at /account.",
    )  # fmt: skip
    app.state.at = At(settings, opened)
    modules = [*_modules(web.pages), *_modules(web.api)]
    for module in modules:
        app.include_router(module.router)
    placed = [n for n in (getattr(m, "NAV", None) for m in modules) if isinstance(n, Nav)]
    app.state.navigation = sorted(placed, key=lambda nav: (nav.order, nav.title))
    app.mount("/static", StaticFiles(directory=STATIC))
    app.add_middleware(Guard, who=_who(settings, opened), hosts=hosts)
    app.add_exception_handler(SignIn, _sign_in)
    app.add_exception_handler(UserError, _mistake)
    app.add_exception_handler(RequestValidationError, _nonsense)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(Exception, _failed)
    return app


def _modules(package: ModuleType) -> list[ModuleType]:
    found = sorted(info.name for info in pkgutil.iter_modules(package.__path__))
    return [importlib.import_module(f"{package.__name__}.{name}") for name in found]


class _who:
    """Who sent a request: by session, by token, or by the header of a trusted proxy."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._console, self._store = settings.console, store

    def __call__(self, cookie: str, token: str, headers: dict[str, str], address: str) -> accounts.User | None:
        if token:
            return accounts.who(self._store, token, "token")
        proxy = self._console
        if proxy.user_header and address in proxy.trusted_proxies:
            name = headers.get(proxy.user_header.lower(), "")
            if not name:
                return None
            try:
                return accounts.trusted(self._store, name, proxy.new_users)
            except UserError:
                return None
        return accounts.who(self._store, cookie, "session") if cookie else None


# --- what is not a page ------------------------------------------------------------------------------------------


def _is_api(request: Request) -> bool:
    return request.url.path.startswith("/api/")


def _sign_in(request: Request, error: Exception) -> Response:
    if _is_api(request):
        return AsciiJSON({"error": "sign in, or send a token"}, 401, {"www-authenticate": "Bearer"})
    if request.headers.get("hx-request"):
        return Response(status_code=401, headers={"hx-redirect": "/sign-in"})
    asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    after = f"?next={quote(asked)}" if request.method == "GET" and asked != "/" else ""
    return RedirectResponse(f"/sign-in{after}", 303)


def _told(request: Request, status: int, title: str, message: str) -> Response:
    if _is_api(request):
        return AsciiJSON({"error": message}, status)
    if request.headers.get("hx-request"):
        return HTMLResponse(f'<p class="notice bad" role="alert">{marked(message)}</p>', status)
    return render(request, "error.html", status_code=status, title=title, message=message)


def _mistake(request: Request, error: Exception) -> Response:
    return _told(request, 422, "That cannot be done", str(error))


def _nonsense(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or "the request"
    return _told(request, 422, "That cannot be read", f"{where}: {first['msg']}")


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    titles = {403: "Not yours to do", 404: "There is no such page", 405: "That cannot be done here"}
    told = "What this address named is not there, or not any more." if error.status_code == 404 else error.detail
    return _told(request, error.status_code, titles.get(error.status_code, "That went wrong"), str(told))


def _failed(request: Request, error: Exception) -> Response:
    _log.exception("a page failed: %s", request.url.path, exc_info=error)
    return _told(request, 500, "Something broke here", "The server's log says what. Nothing was lost; try again.")
