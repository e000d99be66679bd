"""Whatever is asked of the API or a page, the answer is no failure of ours."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import hypothesis
import schemathesis
from starlette.testclient import TestClient

from service.actions import accounts
from web.routes import routes

Client = Callable[..., TestClient]
NONSENSE = ["0", "-1", "ffffffff", "\u202e", "a" * 3000, "%00", "..", "<b>", "é", "9" * 30, "😀", "'"]


def test_the_api_answers_what_its_description_allows_and_never_fails(client: Client, world: Any) -> None:
    admin = client("admin")
    user = accounts.who(world.store, admin.cookies["precept_session"], "session")
    assert user is not None
    token = accounts.make_token(world.store, user, "tests", "admin", 1)
    headers = {"authorization": f"Bearer {token}"}
    described = admin.get("/api/v1/openapi.json").json()
    assert len(described["paths"]) > 15
    schema = schemathesis.openapi.from_asgi("/api/v1/openapi.json", admin.app, headers=headers)
    asked = 0
    for found in schema.get_all_operations():
        operation = found.ok()

        @hypothesis.settings(
            max_examples=6, deadline=None, derandomize=True, database=None, phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )  # fmt: skip
        @hypothesis.given(case=operation.as_strategy())
        def holds(case: Any) -> None:
            nonlocal asked
            answer = case.call(headers=headers)
            assert answer.status_code < 500, (case.method, case.path, case.query, case.body)
            asked += 1

        holds()
    assert asked > 60


def test_pages_answer_nonsense_with_a_page(client: Client, world: Any) -> None:
    admin = client("admin")
    asked = 0
    for route in routes(admin.app):
        if route.path.startswith("/api/") or route.path.endswith("/events"):
            continue
        names = [field.alias for field in route.dependant.query_params]
        for number, wrong in enumerate(NONSENSE):
            if number and "{" not in route.path and not names and "POST" not in route.methods:
                continue
            path = re.sub(
                r"\{[^}]*\}", lambda _, wrong=wrong: wrong.replace("..", "dots").replace("%", "%25"), route.path
            )
            given = dict.fromkeys(names, wrong)
            form = {field.alias: wrong for field in route.dependant.body_params}
            for method in route.methods - {"HEAD"}:
                data = {} if method == "GET" else {"data": form}
                answer = admin.request(method, path, params=given, **data)
                assert answer.status_code < 500, (method, path, given, answer.text[:300])
                assert "Traceback" not in answer.text
                asked += 1
    assert asked > 200
