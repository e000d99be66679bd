"""Every route states a right: `user: Annotated[User, Depends(needs(Right.review))]`. Who acts is who is signed in."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, TypeAlias

from fastapi import Depends, HTTPException, Request

from service.actions.accounts import RIGHTS, User

__all__ = ["SESSION", "Anyone", "Right", "SignIn", "User", "needs"]

SESSION = "precept_session"


class Right(StrEnum):
    """What one may do; reading pages takes `review`."""

    review = "review"
    edit = "edit"
    approve = "approve"
    admin = "admin"


class SignIn(Exception):
    """Nobody is signed in: a page leads to the sign-in, the API answers 401."""


def needs(right: Right) -> Callable[[Request], User]:
    """A dependency that is the signed-in user, who has this right. Of a route it can be asked back, as `.right`."""

    def user(request: Request) -> User:
        found: User | None = request.state.user
        if found is None:
            raise SignIn
        if not found.may(right):
            raise HTTPException(403, f"this needs the role {RIGHTS[right]}; you are {found.role}")
        return found

    user.right = right  # type: ignore[attr-defined]
    return user


def anyone(request: Request) -> User | None:
    """For the few routes that need nobody signed in."""
    found: User | None = request.state.user
    return found


anyone.right = None  # type: ignore[attr-defined]

Anyone: TypeAlias = Annotated[User | None, Depends(anyone)]
