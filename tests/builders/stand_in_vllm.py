"""A small server in vLLM's place: the module that an engine's command starts, for `PYTHONPATH`."""

from __future__ import annotations

from pathlib import Path

_ENTRY = """
import json, os, subprocess, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

DIES_WITH, IS_NEVER_READY = {dies_with!r}, {is_never_ready!r}
if DIES_WITH:
    sys.exit(DIES_WITH)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if IS_NEVER_READY else 200)
        self.end_headers()
        seen = {{k: v for k, v in os.environ.items() if k.startswith("LORAPLANE_")}}
        self.wfile.write(json.dumps(seen).encode())

    def log_message(self, *words):
        pass

port = int(sys.argv[sys.argv.index("--port") + 1])
HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def write_stand_in(
    folder: Path, *, dies_with: str = "", is_never_ready: bool = False
) -> dict[str, str]:
    """The environment in which an engine is this server. It has a child, as vLLM has."""
    root = folder / "stand-in"
    package = root / "vllm" / "entrypoints" / "launchers" / "api_server"
    package.mkdir(parents=True)
    for parent in (package, *package.parents):
        if parent == root:
            break
        (parent / "__init__.py").write_text("")
    text = _ENTRY.format(dies_with=dies_with, is_never_ready=is_never_ready)
    (package / "entry.py").write_text(text)
    return {"PYTHONPATH": f"{root}:{Path(__file__).resolve().parents[2]}"}
