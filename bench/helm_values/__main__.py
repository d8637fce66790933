"""`python -m bench.helm_values`: docs/helm-values.md, and the settings in values.schema.json.

`--check` compares instead of writing and ends with 1 where a file is old; a test does the same.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

from bench.helm_values.comments import Value, described_values
from bench.helm_values.settings_schema import settings_definitions

REPOSITORY = Path(__file__).resolve().parents[2]
CHART = REPOSITORY / "helm" / "loraplane"
PAGE = REPOSITORY / "docs" / "helm-values.md"

_HEAD = """# Values of the chart

Generated from helm/loraplane/values.yaml by `make docs`; do not edit.

What is not here is refused, and so are values that contradict each other; the message says what to
set instead. helm/loraplane/profiles has sets of values for whole machines:
`helm install loraplane helm/loraplane -f helm/loraplane/profiles/h100-80g.yaml`.
"""


def page() -> str:
    """The whole page."""
    values = described_values((CHART / "values.yaml").read_text())
    sections = itertools.groupby(values, key=lambda value: value.section)
    return _HEAD + "".join(_section(title, list(rows)) for title, rows in sections)


def schema() -> str:
    """The schema with the code's settings of today; all else stays as it is."""
    found = json.loads((CHART / "values.schema.json").read_text())
    found["$defs"].update(settings_definitions())
    return json.dumps(found, indent=2) + "\n"


def _section(title: str, values: list[Value]) -> str:
    head = ["| value | default | meaning |", "| --- | --- | --- |"]
    rows = [
        f"| `{value.path}` | {_default(value.default)} | {_cell(value.text)} |" for value in values
    ]
    return f"\n## {title}\n\n" + "\n".join([*head, *rows]) + "\n"


def _default(value: Any) -> str:
    return "" if value in ("", None) else f"`{json.dumps(value, ensure_ascii=False)}`"


def _cell(text: str) -> str:
    return text.replace("|", "or")


def main(words: list[str]) -> int:
    """Write, or with `--check` compare."""
    old = []
    for path, text in ((CHART / "values.schema.json", schema()), (PAGE, page())):
        if path.exists() and path.read_text() == text:
            continue
        old.append(path.name)
        if "--check" not in words:
            path.write_text(text)
    print("\n".join(old) or "nothing to do")
    return 1 if old and "--check" in words else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
