"""`python -m serving.cli.settings_doc`: docs/settings.md, generated from the settings classes.

`--check` compares instead of writing and ends with 1 where the file is old; a test does the same.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any, get_type_hints

from serving.settings import ControllerSettings, EngineSettings

PAGE = Path("docs/settings.md")

_HEAD = """# Settings

Generated from the code by `make docs`; do not edit.

Every setting is an environment variable, and every option of `loraplane` is one too:
`--gpu-slots 8` is `LORAPLANE_GPU_SLOTS=8`. A flag on the command line wins. Clients of the
controller find it by `LORAPLANE_URL` and `LORAPLANE_TOKEN`.
"""


def render() -> str:
    """The whole page."""
    sections = [
        ("Controller", "`loraplane controller`, and the controller in `loraplane up`.",
         ControllerSettings),
        ("Engine", "`loraplane engine`: where it is and whom it reports to. `loraplane up` sets "
         "most of these for the engines that it starts.", EngineSettings),
    ]  # fmt: skip
    profile = _profile_class()
    if profile is not None:
        text = "How vLLM is run: a YAML file given as `--profile`, then flags, which win."
        sections.append(("Engine profile", text, profile))
    return _HEAD + "".join(_section(*section) for section in sections)


def _profile_class() -> Any:
    from serving.engine.profile import EngineProfile

    return EngineProfile


def _section(title: str, text: str, settings: Any) -> str:
    rows = ["| variable | type | default | meaning |", "| --- | --- | --- | --- |"]
    hints = get_type_hints(settings)
    for item in dataclasses.fields(settings):
        doc = str(item.metadata.get("doc", ""))
        rows.append(
            f"| `LORAPLANE_{item.name.upper()}` | {_type_name(hints[item.name])} "
            f"| {_default(item)} | {doc} |"
        )
    return f"\n## {title}\n\n{text}\n\n" + "\n".join(rows) + "\n"


def _type_name(hint: Any) -> str:
    name = hint.__name__ if isinstance(hint, type) else str(hint)
    return name.replace("pathlib.", "").replace(" | None", "").replace("|", "or").lower()


def _default(item: dataclasses.Field[Any]) -> str:
    if item.default is dataclasses.MISSING:
        return "(computed)" if item.default_factory is not dataclasses.MISSING else "(required)"
    return "" if item.default is None else f"`{item.default}`"


def main(arguments: list[str]) -> int:
    """Write the page, or with `--check` compare it."""
    text = render()
    if "--check" in arguments:
        return 0 if PAGE.exists() and PAGE.read_text() == text else 1
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
