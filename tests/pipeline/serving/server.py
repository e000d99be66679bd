"""A served model at a port of its own, for tests."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from pipeline.engines.engine import EngineSettings
from pipeline.serving import app
from pipeline.serving.model import ServedModel, load


def model(folder: str, batch_size: int = 8) -> ServedModel:
    return load(EngineSettings(model=folder, device="cpu", batch_size=batch_size))


@contextmanager
def served(serving: app.Serving) -> Iterator[str]:
    """Its address, as `http://127.0.0.1:PORT`."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app.build(serving), log_level="error", timeout_graceful_shutdown=1, lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()
