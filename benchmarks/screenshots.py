"""A picture of every page of the console, for docs/screenshots.

    python -m benchmarks.screenshots [--settings precept.toml] [--set KEY=VALUE] [--out docs/screenshots]

It serves a copy of the store of a finished run (after `make improve`), signs in as an admin, walks the route table and
takes a picture of each page that needs no more than a run or a model: 1280 pixels wide, light; home and review also
dark and on a phone. It says which page is wider than its screen. Needs Debian's chromium and playwright.
"""

from __future__ import annotations

import argparse
import re
import shutil
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from cli.options import flags_of
from service import settings as settings_module
from service.actions import accounts
from storage.store import Store
from web.app import create_app
from web.routes import routes
from web.security.rights import SESSION

NO_PAGE = ("/events", ".svg", "/text", "/report", "/sign-in")
TALLEST = 1000  # pixels of a page that are kept
TWICE = ("/", "/review")  # also dark, and on a phone
PASSWORD = "a password of the pictures"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", type=Path, default=Path("precept.toml"))
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--out", type=Path, default=Path("docs/screenshots"))
    given = parser.parse_args()
    settings = settings_module.load(given.settings, flags_of(given.set, "--set", "seed=1"))[0]
    url = settings.store.get_secret_value()
    with tempfile.TemporaryDirectory() as folder:
        if url.startswith("sqlite:///"):  # what is signed in and looked at is written into a copy
            copy = Path(folder) / "precept.db"
            shutil.copy(url.removeprefix("sqlite:///"), copy)
            url = f"sqlite:///{copy}"
        with Store.open(url, home=settings.home) as store:
            take(settings, store, given.out)


def take(settings: Any, store: Store, out: Path) -> None:
    import uvicorn
    from playwright.sync_api import sync_playwright

    out.mkdir(parents=True, exist_ok=True)
    if store.account("ada") is None:
        accounts.choose_password(store, accounts.invite(store, "ada", "admin", "pictures"), PASSWORD)
    secret = accounts.sign_in(store, "ada", PASSWORD, "pictures")
    app = create_app(settings, store=store)
    with socket.create_server(("127.0.0.1", 0)) as bound:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        at = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            for kind, width, dark in (("", 1280, False), ("-dark", 1280, True), ("-phone", 390, False)):
                context = browser.new_context(
                    base_url=at, viewport={"width": width, "height": 800}, color_scheme="dark" if dark else "light"
                )
                context.add_cookies([{"name": SESSION, "value": secret, "url": at}])
                page = context.new_page()
                for path in paths(app, store):
                    if kind and path not in TWICE:
                        continue
                    picture(page, path, out / f"{named(path)}{kind}.png")
            browser.close()
        server.should_exit = True
        thread.join(10)


def paths(app: Any, store: Store) -> list[str]:
    run = next(one for one in store.runs() if one.result).id.hex()
    model = store.checkpoints()[-1].id.hex()
    inforce = store.ratified()
    principle = re.findall(r"^\s*- \{?id: ([\w-]+)", inforce.text if inforce else "", re.M)
    found = []
    for route in routes(app):
        path = route.path
        if "GET" not in route.methods or path.startswith("/api/") or path.endswith(NO_PAGE):
            continue
        for start, value in (("/runs/", run), ("/models/", model), ("/constitution/amendments/", "1")):
            if path.startswith(start):
                path = re.sub(r"\{[^}]*\}", value, path)
        if principle:
            path = path.replace("/principles/{id}", f"/principles/{principle[0]}")
        if "{" not in path:
            found.append(path)
    return found


def named(path: str) -> str:
    words = [word for word in path.strip("/").split("/") if not re.fullmatch(r"[0-9a-f]{32}|\d+", word)]
    return (
        "-".join(words + ["one"] * (words[-1:] in (["runs"], ["models"], ["amendments"]) and path.count("/") > 1))
        or "home"
    )


def picture(page: Any, path: str, file: Path) -> None:
    answer = page.goto(path, wait_until="networkidle")
    if answer.status != 200:
        print(f"{path}: {answer.status}")
        return
    over = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    if over > 0:
        print(f"{file.name}: wider than its screen by {over} pixels")
    size = page.evaluate("[innerWidth, document.documentElement.scrollHeight]")
    clip = {"x": 0, "y": 0, "width": size[0], "height": min(size[1], TALLEST)}
    page.screenshot(path=str(file), full_page=True, clip=clip)


if __name__ == "__main__":
    main()
