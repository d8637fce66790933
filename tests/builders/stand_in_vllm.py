"""A small server in vLLM's place: the module that an engine's command starts, for `PYTHONPATH`."""

from __future__ import annotations

from pathlib import Path

_ENTRY = """
import json, os, subprocess, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DIES_WITH, IS_NEVER_READY = {dies_with!r}, {is_never_ready!r}
if DIES_WITH and {only_with!r} in ("", *sys.argv):
    sys.exit(DIES_WITH)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if IS_NEVER_READY else 200)
        self.end_headers()
        seen = {{k: v for k, v in os.environ.items() if k.startswith("LORAPLANE_")}}
        self.wfile.write(json.dumps(seen).encode())

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for _ in range(asked["max_tokens"]):
            self.say({{"choices": [{{"text": "word ", "finish_reason": None}}]}})
            time.sleep(0.002)  # So that tokens come one by one.
        usage = {{"prompt_tokens": len(asked["prompt"]), "completion_tokens": asked["max_tokens"]}}
        self.say({{"choices": [{{"text": "", "finish_reason": "length"}}], "usage": usage}})
        self.wfile.write(b"data: [DONE]\\n\\n")

    def say(self, chunk):
        self.wfile.write(f"data: {{json.dumps(chunk)}}\\n\\n".encode())

    def log_message(self, *words):
        pass

port = int(sys.argv[sys.argv.index("--port") + 1])
ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def write_stand_in(
    folder: Path, *, dies_with: str = "", only_with: str = "", is_never_ready: bool = False
) -> dict[str, str]:
    """The environment in which an engine is this server. It has a child, as vLLM has.

    `only_with`: it dies only where this word is among its arguments.
    """
    root = folder / "stand-in"
    package = root / "vllm" / "entrypoints" / "launchers" / "api_server"
    package.mkdir(parents=True)
    for parent in (package, *package.parents):
        if parent == root:
            break
        (parent / "__init__.py").write_text("")
    text = _ENTRY.format(dies_with=dies_with, only_with=only_with, is_never_ready=is_never_ready)
    (package / "entry.py").write_text(text)
    return {"PYTHONPATH": f"{root}:{Path(__file__).resolve().parents[2]}"}
