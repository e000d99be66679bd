"""Signing in, rights, links, tokens, and requests that others make in one's name."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.testclient import TestClient

from constitution.errors import UserError
from service.actions import accounts
from web.app import create_app
from web.routes import routes as route_table

Client = Callable[..., TestClient]
OPEN = {"/sign-in", "/sign-out", "/link/{secret}"}  # nobody has to be signed in


def routes(app: Any) -> list[tuple[str, str, list[Any]]]:
    """Method, path and right of each route, by what its dependencies say."""
    found = []
    for route in route_table(app):
        calls = [dependency.call for dependency in route.dependant.dependencies]
        rights = [call.right for call in calls if hasattr(call, "right")]
        found += [(method, route.path, rights) for method in sorted(route.methods)]
    assert len(found) > 60
    return found


def test_every_route_states_a_right(client: Client) -> None:
    for method, path, rights in routes(client("").app):
        assert len(rights) == 1, (method, path)
        assert (rights[0] is None) == (path in OPEN), (method, path)


def test_nobody_sees_a_page_and_each_role_only_what_it_may(client: Client) -> None:
    nobody, order = client(""), ["review", "edit", "approve", "admin"]
    signed = {role: client(role) for role in accounts.ROLES}
    for method, path, rights in routes(nobody.app):
        if path in OPEN:
            continue
        at = re.sub(r"\{[^}]*\}", "0" * 32, path)
        answer = nobody.request(method, at)
        expected = 401 if path.startswith("/api/") else 303
        assert answer.status_code == expected and answer.headers.get("location", "/sign-in").startswith("/sign-in"), at
        for level, (role, by) in enumerate(signed.items()):
            if level < order.index(rights[0]):
                assert by.request(method, at).status_code == 403, (role, method, at)


@pytest.mark.parametrize("headers", [
    {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": None, "origin": "https://evil.example"}, {"sec-fetch-site": None},
])  # fmt: skip
def test_what_another_site_posts_is_refused_on_every_route(client: Client, headers: dict[str, str | None]) -> None:
    admin = client("admin")
    for name, value in headers.items():
        if value is None:
            admin.headers.pop(name, None)
        else:
            admin.headers[name] = value
    for method, path, _ in routes(admin.app):
        if method not in ("GET", "HEAD"):
            answer = admin.request(method, re.sub(r"\{[^}]*\}", "0" * 32, path))
            assert answer.status_code == 403 and "site" in answer.text, (method, path)


def test_every_answer_has_the_policy_and_errors_too(client: Client) -> None:
    for by, path in ((client("admin"), "/"), (client("admin"), "/no-such-page"), (client(""), "/sign-in")):
        headers = by.get(path).headers
        assert (
            "script-src 'self'" in headers["content-security-policy"]
            and "unsafe" not in headers["content-security-policy"]
        )
        assert headers["cache-control"] == "no-store" and headers["x-content-type-options"] == "nosniff"


def test_signing_in_and_out_and_a_stolen_cookie_afterwards(client: Client, world: Any) -> None:
    reviewer = client("reviewer")
    stolen = dict(reviewer.cookies)
    assert reviewer.get("/").status_code == 200
    assert reviewer.post("/sign-out").status_code == 303
    replayed = client("")
    replayed.cookies.update(stolen)
    assert replayed.get("/").status_code == 303
    forged = client("")
    forged.cookies.set("precept_session", "x" * 43)
    assert forged.get("/").status_code == 303


ELSEWHERE = ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "\t//evil.example", ""]


@pytest.mark.parametrize("target", ELSEWHERE)
def test_nobody_is_led_elsewhere_after_signing_in(client: Client, world: Any, target: str) -> None:
    client("reviewer")  # makes the account
    nobody = client("")
    form = {"name": "reviewer", "password": "a long password of tests", "next": target}
    answer = nobody.post("/sign-in", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie


def test_a_wrong_password_and_a_wrong_name_are_told_alike_and_are_limited(client: Client, world: Any) -> None:
    client("reviewer")
    nobody = client("")
    told = set()
    for name in ("reviewer", "nobody"):
        answer = nobody.post("/sign-in", data={"name": name, "password": "wrong"})
        assert answer.status_code == 401
        told.add(re.sub(r'value="[^"]*"', "", answer.text))
    assert len(told) == 1
    for _ in range(accounts.TRIES):
        nobody.post("/sign-in", data={"name": "reviewer", "password": "wrong"})
    right = {"name": "reviewer", "password": "a long password of tests"}
    assert "too many failed attempts" in nobody.post("/sign-in", data=right).text


def test_a_link_works_once_and_a_new_password_ends_sessions(client: Client, world: Any) -> None:
    secret = accounts.invite(world.store, "ada", "editor", "tests")
    nobody = client("")
    assert "Choose a password for ada" in nobody.get(f"/link/{secret}").text
    assert nobody.post(f"/link/{secret}", data={"password": "short"}).status_code == 422
    assert nobody.post(f"/link/{secret}", data={"password": "long enough, that"}).status_code == 303
    assert client("").post(f"/link/{secret}", data={"password": "another long one"}).status_code == 422
    user = accounts.who(world.store, nobody.cookies["precept_session"], "session")
    assert user is not None and (user.name, user.role) == ("ada", "editor")
    accounts.change_password(world.store, user, "long enough, that", "quite another one")
    assert accounts.who(world.store, nobody.cookies["precept_session"], "session") is None


def test_a_token_has_no_more_rights_than_its_owner_and_ends_with_them(client: Client, world: Any) -> None:
    editor = client("editor")
    assert "no more rights" in editor.post("/account/tokens", data={"label": "x", "role": "admin", "days": 3}).text
    made = editor.post("/account/tokens", data={"label": "reads", "role": "reviewer", "days": 3}).text
    token = re.search(r"data-copy>([\w-]{43})<", made)
    assert token is not None
    program = client("")
    program.headers.clear()
    bearer = {"authorization": f"Bearer {token[1]}"}
    assert program.get("/api/v1/me", headers=bearer).json() == {"name": "editor", "role": "reviewer"}
    accounts.disable(world.store, "editor", "tests")
    assert program.get("/api/v1/me", headers=bearer).status_code == 401


def test_the_last_admin_stays_one(client: Client, world: Any) -> None:
    admin = client("admin")
    for path, form in (("role", {"role": "reviewer"}), ("disable", {"disabled": "1"})):
        assert "only admin" in admin.post(f"/admin/people/{path}", data={"name": "admin", **form}).text


def test_the_audit_tells_who_did_what(client: Client, world: Any) -> None:
    admin = client("admin")
    admin.post("/admin/people", data={"name": "bea", "role": "approver"})
    shown = admin.get("/admin/audit").text
    assert "account added" in shown and "bea" in shown and "one-time link made" in shown


def test_only_a_trusted_proxy_names_who_is_signed_in(world: Any) -> None:
    console = {"user_header": "X-Forwarded-User", "trusted_proxies": ["testclient"], "new_users": "reviewer"}
    settings = world.settings.model_copy(update={"console": world.settings.console.model_copy(update=console)})
    named = {"x-forwarded-user": "carol", "sec-fetch-site": "same-origin"}
    app = create_app(settings, store=world.store, hosts=set())
    assert TestClient(app).get("/api/v1/me", headers=named).json() == {"name": "carol", "role": "reviewer"}
    other = TestClient(app, client=("10.0.0.9", 1))
    assert other.get("/api/v1/me", headers=named).status_code == 401


def test_another_host_name_is_not_answered(world: Any) -> None:
    app = create_app(world.settings, store=world.store)
    assert TestClient(app, base_url="http://evil.example").get("/sign-in").status_code == 421
    assert TestClient(app, base_url="http://localhost:8321").get("/sign-in").status_code == 200


def test_no_file_but_those_of_the_pages_is_served(client: Client) -> None:
    nobody = client("")
    assert nobody.get("/static/console.css").status_code == 200
    for path in ("/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e/app.py", "/static//etc/passwd"):
        assert nobody.get(path).status_code == 404


def test_a_page_loads_no_torch(world: Any) -> None:
    code = (
        "import sys; from pathlib import Path; from service import settings as s; from web.app import create_app;"
        "from starlette.testclient import TestClient; a = create_app(s.load(Path('precept.toml'), {})[0], hosts=set());"
        "assert TestClient(a).get('/sign-in').status_code == 200; assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_unknown_account_is_told(world: Any) -> None:
    with pytest.raises(UserError, match="no account 'zoe'"):
        accounts.link(world.store, "zoe", "tests")


def test_the_first_start_makes_an_admin_whoever_was_invited_before(world: Any) -> None:
    accounts.invite(world.store, "ada", "reviewer", "tests")
    name, first = accounts.first_admin(world.store) or ("", "")
    assert name == "admin" and accounts.linked(world.store, first) is not None
    assert accounts.first_admin(world.store) is not None  # nobody has used it: there is another one
    assert accounts.linked(world.store, first) is None
    _, again = accounts.first_admin(world.store) or ("", "")
    accounts.choose_password(world.store, again, "long enough, that")
    assert accounts.first_admin(world.store) is None


def test_a_store_that_was_replaced_under_the_server_takes_no_answer(client: Client, world: Any) -> None:
    reviewer = client("reviewer")
    fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', reviewer.get("/review").text.split('id="answer"')[1]))
    file = world.folder / "runs" / "precept.db"
    file.rename(file.with_suffix(".moved"))
    answer = reviewer.post("/review/answer", data={**fields, "choice": "a"})
    assert answer.status_code == 422 and "was deleted, moved or replaced" in answer.text


def test_names_that_look_like_others_are_refused_or_kept_alike(world: Any) -> None:
    for name in ("\u3164", "\u200b", "command line", "Trusted Proxy", "a\u202eb", "\u2800", "."):
        with pytest.raises(UserError):
            accounts.invite(world.store, name, "reviewer", "tests")
    accounts.invite(world.store, " a   b ", "reviewer", "tests")
    assert world.store.account("a b") is not None


def test_many_wrong_passwords_at_once_are_as_many(client: Client, world: Any) -> None:
    client("reviewer")

    def attempt(_: int) -> str:
        try:
            return accounts.sign_in(world.store, "reviewer", "wrong", "test")
        except UserError as error:
            return str(error)

    with ThreadPoolExecutor(30) as pool:
        told = list(pool.map(attempt, range(30)))
    assert told.count(accounts.WRONG) <= accounts.TRIES and accounts.TOO_MANY in told


def test_a_token_cannot_make_another_nor_sign_anybody_out(client: Client, world: Any) -> None:
    user = accounts.User("editor", "editor", by="session")
    client("editor")
    token = accounts.make_token(world.store, user, "x", "editor", 1)
    program = TestClient(create_app(world.settings, store=world.store, hosts=set()))
    program.headers["authorization"] = f"Bearer {token}"
    assert program.post("/account/tokens", data={"label": "x", "role": "editor", "days": 366}).status_code == 403
    assert program.post("/account/sign-out-everywhere").status_code == 403


@pytest.mark.parametrize("headers", [{"host": "["}, {"host": "evil.example@127.0.0.1"}, {"origin": "http://["}])
def test_addresses_that_cannot_be_read_are_refused(world: Any, headers: dict[str, str]) -> None:
    app = create_app(world.settings, store=world.store)
    asked = TestClient(app, base_url="http://127.0.0.1").post("/sign-out", headers=headers)
    assert asked.status_code in (403, 421)


def test_cookies_of_other_applications_do_not_hide_the_session(client: Client, world: Any) -> None:
    secret = client("reviewer").cookies["precept_session"]
    app = create_app(world.settings, store=world.store, hosts=set())
    odd = f'a={{"x":1}}; b c=d; =; precept_session={secret}; z'
    assert TestClient(app).get("/api/v1/me", headers={"cookie": odd}).status_code == 200
