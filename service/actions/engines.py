"""Starting vLLM's servers, looking at them and ending them, for the command line: what is done is in `service/vllm`."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from constitution.errors import UserError
from pipeline.engines.engine import EngineError, EngineSettings
from pipeline.keys import secret
from service.settings import RoleSettings, Settings, process_environment
from service.vllm import environment, launch, models, servers
from service.vllm.servers import Server
from service.wiring import Wiring

KEY = "OPENAI_API_KEY"
TOKEN_SECONDS = 15.0  # for one token of a server that is up
FIRST_TOKEN_SECONDS = 120.0  # of one that starts: its first request may be compiled for
HEALTH_SECONDS = 2.0
Say = Callable[[float, str], None]


@dataclass(frozen=True)
class Asked:
    """What a server is to be. `further`: words of vLLM's own command line. `python` "" is the environment's own."""

    model: str
    name: str = ""
    port: int = 0
    device: str = "auto"
    host: str = "127.0.0.1"
    dtype: str = ""
    adapters: Mapping[str, str] = field(default_factory=dict)
    python: str = ""
    dev: bool = False
    timeout: float = 900.0
    further: Sequence[str] = ()


@dataclass(frozen=True)
class Up:
    """A server that answers. `settings`: dotted settings that use it. `seconds` until its first token."""

    server: Server
    settings: Mapping[str, Any]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        return {**self.server.as_dict(), "seconds": round(self.seconds, 1), "settings": dict(self.settings)}


@dataclass(frozen=True)
class Standing:
    """How a server is. `wrong` is empty where it gave a token; `memory`: bytes that its processes hold."""

    server: Server
    state: str  # answers, starting, no answer, gone
    wrong: str
    serves: tuple[str, ...]
    memory: int
    gpu_memory: int | None

    def as_dict(self) -> dict[str, Any]:
        return {**self.server.as_dict(), **{k: v for k, v in asdict(self).items() if k != "server"}}


@dataclass(frozen=True)
class Ended:
    """A server that is forgotten now; `was_up`: whether anything of it was still there."""

    server: Server
    was_up: bool
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        return {**self.server.as_dict(), "was_up": self.was_up, "seconds": round(self.seconds, 1)}


def up(wiring: Wiring, asked: Asked, say: Say) -> Up:
    """Start a server and wait until it gave a token; one that does not is ended, whatever ends the waiting. Raises
    UserError that says what to do."""
    home = wiring.settings.home
    key = secret(KEY)
    launch.refuse_open(asked.host, asked.dev, key is not None)
    kind: environment.Kind = "cpu" if asked.device == "cpu" else environment.fitting()
    devices = launch.devices_of(asked.device, kind)
    python = asked.python or str(environment.python(kind))
    model = models.find(asked.model, asked.adapters, wiring)
    dtype = asked.dtype or ("float32" if kind == "cpu" else model.dtype if model.role else "bfloat16")
    shares = any(word.startswith("--gpu-memory-utilization") for word in asked.further)
    with servers.alone(home):
        there = servers.known(home)
        name = asked.name or asked.model if asked.name or model.role else model.named.rpartition("/")[2]
        if not models.NAME.fullmatch(name):
            raise UserError(f"{name!r} is no name for a server: letters, digits, dots and lines; set it with --name")
        servers.refuse_taken(name, devices, shares, there)
        port = servers.free_port(asked.host, asked.port or _port_of(wiring.settings, model.role, there), there)
        log = (home / servers.FOLDER / f"{name}.log").absolute()
        planned = Server(
            name, model.named, str(model.weights), str(model.tokenizer), "", dtype, asked.host, port, devices,
            0, "", "", str(log), sorted(model.adapters), shares, asked.dev, True,
        )  # fmt: skip
        words = launch.command(python, model, asked.host, port, kind, dtype, devices, asked.further)
        shown = key.get_secret_value() if key is not None and asked.host not in launch.LOOPBACK else ""
        around = launch.environment(process_environment(), python, kind, devices, asked.dev, shown)
        server, process = servers.start(home, planned, words, around)
    spent = [0.0]

    def told(seconds: float, stage: str) -> None:
        spent[0] = seconds
        say(seconds, stage)

    try:
        server = dataclasses.replace(server, revision=model.revision)
        servers.wait(server, process, lambda: _starting(server), told, asked.timeout)
        server = dataclasses.replace(server, starts=False)
        servers.keep(home, server)
    except BaseException:
        servers.end(home, server)
        raise
    return Up(server, settings_of(server, model.role, servers.known(home)), spent[0])


def status(home: Path, names: Sequence[str] = ()) -> list[Standing]:
    """How the servers of this home are, those that are named, or all. Each is asked for a token."""
    return [_standing(server) for server in _chosen(home, names)]


def down(home: Path, names: Sequence[str] = ()) -> list[Ended]:
    """End servers, those that are named, or all."""
    found = []
    with servers.alone(home):
        for server in _chosen(home, names):
            began = time.monotonic()
            was_up = servers.end(home, server)
            found.append(Ended(server, was_up, time.monotonic() - began))
    return found


def settings_of(server: Server, role: str, known: Sequence[Server]) -> dict[str, Any]:
    """The settings of a role that asks this server, and the others that serve the same model."""
    same = [s for s in known if (s.model, s.revision, s.dtype) == (server.model, server.revision, server.dtype)]
    urls = [s.url for s in same if servers.is_up(s)] or [server.url]
    role = role or "judge"
    found: dict[str, Any] = {
        f"{role}.kind": "openai",
        f"{role}.model": server.model,
        f"{role}.revision": server.revision,
        f"{role}.base_url": urls if len(urls) > 1 else urls[0],
        f"{role}.options.tokenizer": server.tokenizer,
    }
    if server.dtype == "bfloat16":
        found[f"{role}.dtype"] = server.dtype
    return found


def _chosen(home: Path, names: Sequence[str]) -> list[Server]:
    there = {server.name: server for server in servers.known(home)}
    if unknown := [name for name in names if name not in there]:
        raise UserError(
            f"there is no server called {', '.join(unknown)}; "
            + (f"there is {', '.join(there)}" if there else "none was started here: precept engine up MODEL")
        )
    return [there[name] for name in names] if names else list(there.values())


def _port_of(settings: Settings, role: str, there: Sequence[Server]) -> int:
    """The port that a role's settings name on this machine, where none of our servers has it; 0 for none."""
    from urllib.parse import urlsplit

    given: RoleSettings | None = getattr(settings, role) if role else None
    for url in given.addresses if given is not None else ():
        parts = urlsplit(url)
        taken = {server.port for server in there if servers.members(server)}
        if parts.hostname in launch.LOOPBACK and parts.port and parts.port not in taken:
            return parts.port
    return 0


def _standing(server: Server) -> Standing:
    if not servers.is_up(server):
        left = servers.members(server)
        wrong = "its first process is gone, and others of it are left" if left else "its process is gone"
        return Standing(server, "gone", f"{wrong}; its log: {server.log}", (), servers.memory(server), None)
    try:
        wrong = _token(server, TOKEN_SECONDS)
    except UserError as error:
        wrong = str(error)
    serves = _serves(server) if not wrong else ()
    state = "answers" if not wrong else "starting" if server.starts else "no answer"
    if state == "starting":
        stage = servers.stage(Path(server.log)) or "nothing said yet"
        wrong = f"it gave no token yet; its log, {server.log}, says: {stage}"
    return Standing(server, state, wrong, serves, servers.memory(server), servers.gpu_memory(server))


def _starting(server: Server) -> str:
    """What keeps a server that starts from giving a token; empty where it gave one. Raises UserError for what waiting
    does not mend."""
    import httpx  # it brings a terminal's library along

    try:
        answer = httpx.get(f"{server.root}/health", timeout=HEALTH_SECONDS, trust_env=False)
    except httpx.HTTPError as error:
        return str(error) or type(error).__name__
    return _token(server, FIRST_TOKEN_SECONDS) if answer.status_code == 200 else f"status {answer.status_code}"


def _token(server: Server, seconds: float) -> str:
    """Why it gives no token; empty where it gave one. Raises UserError for one that is not what it was started as."""
    from pipeline import engines

    options: dict[str, Any] = {"attempts": 1, "timeout": seconds, "deadline": seconds, "tokenizer": server.tokenizer}
    if (key := secret(KEY)) is not None:
        options["api_key"] = key
    engine: Any = engines.build(EngineSettings("openai", server.model, "1", base_url=server.url, options=options))
    engine.tell(lambda text: None)
    try:
        engine.check()
    except EngineError as error:
        return str(error)
    finally:
        engine.close()
    return ""


def _serves(server: Server) -> tuple[str, ...]:
    import httpx

    key = secret(KEY)
    headers = {"Authorization": f"Bearer {key.get_secret_value()}"} if key is not None else {}
    try:
        answer = httpx.get(f"{server.url}/models", headers=headers, timeout=HEALTH_SECONDS, trust_env=False).json()
        return tuple(str(model["id"]) for model in answer["data"])
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return ()
