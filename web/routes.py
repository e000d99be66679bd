"""The route table: every route of the application, those of included routers among them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute


def routes(app: FastAPI) -> Iterator[APIRoute]:
    """FastAPI keeps an included router as one entry of its list."""
    yield from _of(app.routes)


def _of(some: Any) -> Iterator[APIRoute]:
    for one in some:
        if isinstance(one, APIRoute):
            yield one
        elif (router := getattr(one, "original_router", None)) is not None:
            yield from _of(router.routes)
