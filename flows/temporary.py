"""`python -m flows.temporary PORT`: Prefect's own server on this machine, for as long as its starter lives.

Standard input is a pipe from whoever started it and nothing is ever written to it: its end is the starter's end, be it
a kill -9, and then the server ends, too.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

GRACE = 3.0  # seconds to end well


def main(port: int) -> None:
    import uvicorn

    threading.Thread(target=_end_with_the_starter, daemon=True).start()
    uvicorn.run(
        "prefect.server.api.server:create_app", factory=True, host="127.0.0.1", port=port, log_level="error",
        lifespan="on",
    )  # fmt: skip


def _end_with_the_starter() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]))
