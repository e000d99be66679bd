"""Accounts of the console: signing in and out, one-time links, tokens. Who acts is an argument, as everywhere.

A secret (session, token, link) is 32 random bytes; the store has its SHA-256 alone. Passwords are argon2id hashes with
the library's parameters (RFC 9106's second choice). A sign-in takes as long
for an unknown name as for a known one.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
import unicodedata
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, get_args

from constitution.errors import UserError
from constitution.visible import visible
from storage.accounts import Account, Credential, Kind, Role
from storage.store import Store

if TYPE_CHECKING:
    from argon2 import PasswordHasher

ROLES: tuple[Role, ...] = get_args(Role)  # each may do what those before it may
RIGHTS: dict[str, Role] = {"review": "reviewer", "edit": "editor", "approve": "approver", "admin": "admin"}
SESSION_IDLE, SESSION_LONGEST, LINK = 12 * 3600, 7 * 24 * 3600, 3 * 24 * 3600  # seconds
TRIES, TRIES_OF_AN_ADDRESS, WITHIN = 10, 50, 15 * 60  # failed sign-ins within so many seconds
LEAST = 10  # characters of a password
COMMAND_LINE, PROXY = "command line", "trusted proxy"
NOBODYS = {COMMAND_LINE, PROXY, "anonymous"}
TOO_MANY = "too many failed attempts to sign in; wait for a quarter of an hour, or ask an admin for a link"
WRONG = "no account has this name and this password"


@dataclass(frozen=True, slots=True)
class User:
    """Who is signed in, and by what. `digest` names the session or token that said so."""

    name: str
    role: Role
    digest: str = ""
    by: str = "proxy"  # session, token or proxy

    def may(self, right: str) -> bool:
        """Whether this user has one of `RIGHTS`."""
        return self.is_at_least(RIGHTS[right])

    def is_at_least(self, role: Role) -> bool:
        return ROLES.index(self.role) >= ROLES.index(role)


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def invite(store: Store, name: str, role: str, by: str) -> str:
    """Make an account. Returns the secret of a one-time link by which its owner chooses a password."""
    name = _name(name)
    store.add_account(name, _role(role), by)
    return link(store, name, by)


def link(store: Store, name: str, by: str) -> str:
    """A one-time link by which the account's owner chooses a new password, good for three days. Raises UserError for
    an unknown or disabled account."""
    account = store.account(name)
    if account is None or account.disabled:
        raise UserError(f"there is no account {name!r}" if account is None else f"the account {name!r} is disabled")
    store.end_credentials(name, by, "earlier links ended", kind="link")
    return _issue(store, "link", account, by, "one-time link made", LINK)


def linked(store: Store, secret: str) -> Account | None:
    """Whose one-time link this is; None where it was used, is unknown or too old."""
    found = store.credential(digest(secret), "link")
    return None if found is None or found[1].disabled else found[1]


def choose_password(store: Store, secret: str, password: str) -> Account:
    """By a one-time link, which is used up. Raises UserError for a link that does not hold and a password too short."""
    account = linked(store, secret)
    if account is None:
        raise UserError("this link was used already, or is too old; ask an admin for another one")
    _check_length(password)
    if not store.end_credentials(account.name, account.name, "one-time link used", kind="link", digest=digest(secret)):
        raise UserError("this link was used already, or is too old; ask an admin for another one")
    store.change_account(account.name, account.name, password=_hasher().hash(password))
    store.forget_attempts(_of_account(account.name))
    return account


def change_password(store: Store, user: User, old: str, new: str) -> None:
    """All sessions end with it. Raises UserError where the old one is wrong or the new one too short."""
    _check_length(new)
    store.note_attempt(_of_account(user.name))
    if store.attempts(_of_account(user.name), WITHIN) > TRIES:
        raise UserError(TOO_MANY)
    account = store.account(user.name)
    if account is None or not _fits(account.password, old):
        raise UserError("the present password is not right")
    store.forget_attempts(_of_account(user.name))
    store.change_account(user.name, user.name, password=_hasher().hash(new))


def sign_in(store: Store, name: str, password: str, address: str, browser: str = "") -> str:
    """Returns the secret of a new session. Raises UserError, with the same words for a wrong name and a wrong password,
    and where too many attempts failed by this account or from this address."""
    of_account, of_address = _of_account(name), f"address:{address}"
    tried = store.note_attempt(of_account, of_address)  # before the password is looked at: so many at once are as many
    if store.attempts(of_account, WITHIN) > TRIES or store.attempts(of_address, WITHIN) > TRIES_OF_AN_ADDRESS:
        raise UserError(TOO_MANY)
    account = store.account(name)
    if not _fits(account.password if account else None, password) or account is None or account.disabled:
        store.audit(name[:200], "sign-in failed", {"address": address})
        raise UserError(WRONG)
    store.forget_attempts(of_account, tried)
    return _issue(store, "session", account, name, f"signed in from {address}", SESSION_IDLE, browser[:200])


def trusted(store: Store, name: str, role: str) -> User:
    """Somebody whom a trusted proxy names; an account without a password is made where there is none. Raises UserError
    for one that is disabled."""
    account = store.account(name)
    if account is None:
        try:
            account = store.add_account(_name(name), _role(role), PROXY)
        except UserError:  # another request of the same page was first
            account = store.account(name)
            if account is None:
                raise
    if account.disabled:
        raise UserError(f"the account {name!r} is disabled")
    return User(account.name, account.role)


def who(store: Store, secret: str, kind: Kind) -> User | None:
    """Whose session or token this is; None where it does not hold. A session ends when it was not used for half a day,
    and after a week."""
    key = digest(secret)
    found = store.credential(key, kind)
    if found is None or found[1].disabled:
        return None
    credential, account = found
    now = int(time.time())
    if now - credential.seen > 60:  # once a minute is often enough
        expires = credential.expires
        if kind == "session":
            expires = min(now + SESSION_IDLE, credential.created + SESSION_LONGEST)
        threading.Thread(target=_touch, args=(store, key, now, expires), daemon=True).start()  # no page waits for it
    role = account.role
    if credential.role is not None and ROLES.index(credential.role) < ROLES.index(role):
        role = credential.role
    return User(account.name, role, key, kind)


def _touch(store: Store, key: str, now: int, expires: int) -> None:
    with suppress(Exception):  # a store that is busy or gone: the next request tries again
        store.touch_credential(key, now, expires)


def sign_out(store: Store, user: User) -> None:
    store.end_credentials(user.name, user.name, "signed out", kind="session", digest=user.digest)


def sign_out_everywhere(store: Store, user: User) -> None:
    store.end_credentials(user.name, user.name, "signed out everywhere", kind="session")


def make_token(store: Store, user: User, label: str, role: str, days: int) -> str:
    """An API token of the user's, shown once. Raises UserError for a role above the user's own."""
    if not 1 <= days <= 366:
        raise UserError("a token holds for 1 to 366 days")
    if not label.strip():
        raise UserError("say what the token is for, so that you know later which one to revoke")
    wanted = _role(role)
    if not user.is_at_least(wanted):
        raise UserError(f"a token has no more rights than you have: you are {user.role}")
    account = store.account(user.name)
    assert account is not None, "who is signed in has an account"
    return _issue(store, "token", account, user.name, "token made", days * 24 * 3600, label.strip()[:200], wanted)


def revoke_token(store: Store, user: User, token: str) -> None:
    """`token`: its digest."""
    if not store.end_credentials(user.name, user.name, "token revoked", kind="token", digest=token):
        raise UserError("there is no such token of yours")


def change_role(store: Store, name: str, role: str, by: str) -> None:
    store.change_account(name, by, role=_role(role))


def disable(store: Store, name: str, by: str, disabled: bool = True) -> None:
    store.change_account(name, by, disabled=disabled)


def first_admin(store: Store) -> tuple[str, str] | None:
    """Where no admin can sign in yet: the name of one, made where there is none, and the secret of a new link for them.
    None where one can."""
    accounts = {account.name: account for account in store.accounts()}
    admins = [account for account in accounts.values() if account.role == "admin" and not account.disabled]
    if any(account.password for account in admins):
        return None
    if admins:
        return admins[0].name, link(store, admins[0].name, COMMAND_LINE)
    name = next(name for name in ("admin", *(f"admin-{n}" for n in range(2, 1000))) if name not in accounts)
    return name, invite(store, name, "admin", COMMAND_LINE)


def _issue(
    store: Store, kind: Kind, account: Account, by: str, what: str, seconds: int, label: str = "", role: Any = None
) -> str:
    secret, now = secrets.token_urlsafe(32), int(time.time())
    credential = Credential(digest(secret), kind, account.name, label, role, now, now, now + seconds)
    store.put_credential(credential, by, what)
    return secret


def _fits(kept: str | None, password: str) -> bool:
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        _hasher().verify(kept or _nobodys(), password)
    except (VerificationError, InvalidHashError):
        return False
    return kept is not None


@cache
def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher

    return PasswordHasher()


@cache
def _nobodys() -> str:
    return _hasher().hash(secrets.token_urlsafe(32))


def _check_length(password: str) -> None:
    if not LEAST <= len(password) <= 1000:
        raise UserError(f"a password has at least {LEAST} characters, and at most 1,000")


def _of_account(name: str) -> str:
    return f"account:{name[:200]}"


def _name(name: str) -> str:
    """As it is kept: one form of each letter (NFC), single spaces. Raises UserError for one that cannot be read as it
    stands, or is the machinery's."""
    name = unicodedata.normalize("NFC", " ".join(name.split()))
    if not name or len(name) > 80 or visible(name) != name or not name.isprintable() or not any(map(str.isalnum, name)):
        raise UserError("a name has 1 to 80 characters that can be seen, a letter or a digit among them")
    if name.casefold() in NOBODYS:
        raise UserError(f"nobody can be called {name!r}: acts are written down under that name already")
    return name


def _role(role: str) -> Role:
    for known in ROLES:
        if role == known:
            return known
    raise UserError(f"there is no role {role!r}: {', '.join(ROLES)}")
