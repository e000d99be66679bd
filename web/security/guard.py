"""What every request goes through: the Host that it names, where it comes from, how long it is, who sent it; and the
headers of every answer, errors' too.

Requests that change something are refused where the browser says that another site made them (Fetch metadata,
W3C Sec-Fetch-Site) or, from browsers that do not say, where the Origin is another one. A request with neither is a
program's, which has to bring a token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from constitution.errors import UserError
from service.actions.accounts import User
from web.security.rights import SESSION

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
LONGEST = 4 * 1024 * 1024  # bytes of a request's body
READS = {"GET", "HEAD", "OPTIONS"}


Who: TypeAlias = Callable[[str, str, dict[str, str], str], User | None]


class Guard:
    """ASGI middleware. `who(cookie, token, headers, address)`: the user, or None. `hosts`: names that it answers to; an
    empty set is any. Sets `request.state.user`."""

    def __init__(
        self, app: ASGIApp, who: Callable[[str, str, dict[str, str], str], User | None], hosts: set[str]
    ) -> None:
        self._app, self._who, self._hosts = app, who, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}

        async def answered(message: Message) -> None:
            if message["type"] == "http.response.start":
                has = {name for name, _ in message["headers"]}
                more = {**HEADERS, "cache-control": "no-store"}
                message["headers"] = [
                    *message["headers"],
                    *((k.encode(), v.encode()) for k, v in more.items() if k.encode() not in has),
                ]
            await send(message)

        scope.setdefault("state", {})["user"] = None
        refused = self._refused(scope, headers)
        if refused is not None:
            await refused(scope, receive, answered)
            return
        address = scope["client"][0] if scope.get("client") else ""
        cookie, token = _cookie(headers.get("cookie", "")), _bearer(headers.get("authorization", ""))
        if not scope["path"].startswith("/static/"):
            try:
                user = await run_in_threadpool(self._who, cookie, token, headers, address)
            except UserError as error:  # the store cannot be reached
                await _no(scope, 503, str(error))(scope, receive, answered)
                return
            scope["state"]["user"] = user
        await self._app(scope, _limited(receive), answered)

    def _refused(self, scope: Scope, headers: dict[str, str]) -> Response | None:
        host = headers.get("host", "")
        if "@" in host or (self._hosts and _named(f"//{host}")[0] not in self._hosts):
            return _no(scope, 421, "this console does not answer to that host name")
        if not headers.get("content-length", "0").isdigit() or int(headers.get("content-length", "0")) > LONGEST:
            return _no(scope, 413, f"a request has at most {LONGEST:,} bytes")
        if scope["method"] in READS:
            return None
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site is not None:
            if site not in ("same-origin", "none"):
                return _no(scope, 403, "this request was made by another site, and was refused")
        elif origin is not None:
            if _named(origin)[1] != host:
                return _no(scope, 403, "this request was made by another site, and was refused")
        elif not _bearer(headers.get("authorization", "")):
            return _no(scope, 403, "it is not said which site this request comes from, so it was refused")
        return None


def _limited(receive: Receive) -> Receive:
    """A body without a length that is told is cut off at the limit."""
    seen = 0

    async def read() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        return {"type": "http.disconnect"} if seen > LONGEST else message

    return read


def _no(scope: Scope, status: int, why: str) -> Response:
    if scope["path"].startswith("/api/"):
        return JSONResponse({"error": why}, status)
    return PlainTextResponse(why + "\n", status)


def _named(address: str) -> tuple[str, str]:
    """The host of an address, without and with its port; empty where it cannot be read."""
    try:
        found = urlsplit(address)
        return found.hostname or "", found.netloc
    except ValueError:
        return "", ""


def _cookie(header: str) -> str:
    """The session's: split by hand, since a library stops at the first odd pair, and other applications of the same
    host send theirs along."""
    for pair in header.split(";"):
        name, _, value = pair.strip().partition("=")
        if name == SESSION:
            return value.strip('"')
    return ""


def _bearer(header: str) -> str:
    kind, _, token = header.partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""
