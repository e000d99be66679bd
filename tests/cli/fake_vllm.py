"""Stands in for vLLM's server where only its life is tested: started as vLLM is, it has a child, answers, and can be
told by its last word to die while it starts, to serve another model, or not to end when it is asked to."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Handler(BaseHTTPRequestHandler):
    names: tuple[str, ...] = ()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._say({"data": [{"id": name, "owned_by": "vllm", "max_model_len": 512} for name in self.names]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/v1/completions" or body["model"] not in self.names:
            return self._say({"error": {"message": "not here"}}, 404)
        prompts = body["prompt"] if isinstance(body["prompt"], list) else [body["prompt"]]
        shown = {f"token_id:{token}": -1.0 for token in body.get("logprob_token_ids", [])}
        answer = {"text": "x", "finish_reason": "length", "logprobs": {"top_logprobs": [shown]}}
        self._say({"choices": [{"index": index, **answer} for index in range(len(prompts))]})

    def _say(self, answer: dict[str, Any], status: int = 200) -> None:
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def main(words: list[str]) -> None:
    print("(APIServer) INFO [x.py:1] Loading weights", flush=True)
    if words[-1] == "--die":
        sys.exit("RuntimeError: CUDA out of memory")
    if words[-1] == "--stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print(f"child {child.pid}", flush=True)
    named = ["other" if words[-1] == "--other" else words[words.index("--served-model-name") + 1]]
    if "--lora-modules" in words:
        named += [word.partition("=")[0] for word in words[words.index("--lora-modules") + 1 :] if "=" in word]
    Handler.names = tuple(named)
    address = (words[words.index("--host") + 1], int(words[words.index("--port") + 1]))
    ThreadingHTTPServer(address, Handler).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
