"""`python -m bench.grafana`: write helm/loraplane/dashboards/*.json.

`--check` compares instead of writing and ends with 1 where a file is old; a test does the same.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bench.grafana.capacity import CAPACITY
from bench.grafana.gate import GATE
from bench.grafana.model import Dashboard
from bench.grafana.render import render
from bench.grafana.tenants import TENANTS

FOLDER = Path(__file__).resolve().parents[2] / "helm" / "loraplane" / "dashboards"
DASHBOARDS = {"capacity.json": CAPACITY, "gate.json": GATE, "tenants.json": TENANTS}


def text_of(dashboard: Dashboard) -> str:
    """What the file holds."""
    return json.dumps(render(dashboard), indent=2, ensure_ascii=False) + "\n"


def main(words: list[str]) -> int:
    """Write, or with `--check` compare."""
    old = []
    for name, dashboard in DASHBOARDS.items():
        path, text = FOLDER / name, text_of(dashboard)
        if path.exists() and path.read_text() == text:
            continue
        old.append(name)
        if "--check" not in words:
            path.write_text(text)
    print("\n".join(old) or "nothing to do")
    return 1 if old and "--check" in words else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
