"""`python -m serving.cli.settings_doc`: docs/settings.md, generated from settings and options.

`--check` compares instead of writing and ends with 1 where the file is old; a test does the same.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import typer

from serving.cli.main import app
from serving.engine.profile import EngineProfile
from serving.settings import ControllerSettings, EngineSettings, KubernetesSettings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "settings.md"

_HEAD = """# Settings

Generated from the code by `make docs`; do not edit.

Every setting is an environment variable, and every option of `loraplane` is one too:
`--gpu-slots 8` is `LORAPLANE_GPU_SLOTS=8`. A flag on the command line wins. Clients of the
controller find it by `LORAPLANE_URL` and `LORAPLANE_TOKEN`.
"""


def render() -> str:
    """The whole page."""
    controller = "`loraplane controller`, and the controller in `loraplane up`."
    cluster = (
        "`loraplane controller` in a cluster, besides the settings above. The chart sets these; "
        "so does nobody on a single machine."
    )
    engine = (
        "`loraplane engine`: where it is, whom it reports to, and the profile's main fields. "
        "`loraplane up` sets most of these for the engines that it starts."
    )
    profile = (
        "How vLLM is run: a YAML file of these fields, given as `--profile`. The options of "
        "`loraplane up` and `loraplane engine` win over it."
    )
    return (
        _HEAD
        + _section("Controller", controller, _variables(ControllerSettings))
        + _section("Controller on Kubernetes", cluster, _variables(KubernetesSettings))
        + _section("Engine", engine, _variables(EngineSettings))
        + _section("Engine profile", profile, _profile_fields(EngineProfile))
        + _options_section()
    )


def _section(title: str, text: str, rows: list[str]) -> str:
    head = ["| name | type | default | meaning |", "| --- | --- | --- | --- |"]
    return f"\n## {title}\n\n{text}\n\n" + "\n".join([*head, *rows]) + "\n"


def _options_section() -> str:
    text = "Options that are not settings above; `loraplane VERB --help` tells their defaults."
    head = ["| name | option of | meaning |", "| --- | --- | --- |"]
    return f"\n## Other options\n\n{text}\n\n" + "\n".join([*head, *_option_rows()]) + "\n"


def _option_rows() -> list[str]:
    settings = {
        f"LORAPLANE_{item.name.upper()}"
        for owner in (ControllerSettings, KubernetesSettings, EngineSettings)
        for item in dataclasses.fields(owner)
    }
    verbs: dict[tuple[str, str], list[str]] = {}
    for verb, parameter in _parameters(typer.main.get_command(app)):
        if parameter.envvar and parameter.envvar not in settings:
            verbs.setdefault((str(parameter.envvar), parameter.help or ""), []).append(verb)
    return [
        f"| `{name}` | {', '.join(f'`{verb}`' for verb in sorted(used))} | {_cell(meaning)} |"
        for (name, meaning), used in sorted(verbs.items())
    ]


def _parameters(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every parameter of every verb below `command`, with the verb's name."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from _parameters(inner, (*path, name))
    for parameter in command.params if path else ():
        yield " ".join(path), parameter


def _variables(settings: Any) -> list[str]:
    hints = get_type_hints(settings)
    return [
        f"| `LORAPLANE_{item.name.upper()}` | {_type_name(hints[item.name])} | {_default(item)} "
        f"| {_cell(item.metadata.get('doc', ''))} |"
        for item in dataclasses.fields(settings)
    ]


def _profile_fields(profile: Any) -> list[str]:
    hints, docs = get_type_hints(profile), _attribute_docstrings(profile)
    return [
        f"| `{item.name}` | {_type_name(hints[item.name])} | {_default(item)} "
        f"| {_cell(docs.get(item.name, ''))} |"
        for item in dataclasses.fields(profile)
    ]


def _attribute_docstrings(owner: type) -> dict[str, str]:
    """The string below each field; Python keeps it in the source alone."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(owner)))
    (body,) = (node.body for node in tree.body if isinstance(node, ast.ClassDef))
    return {
        field.target.id: text.value.value
        for field, text in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "or").split())


def _type_name(hint: Any) -> str:
    name = hint.__name__ if isinstance(hint, type) else str(hint)
    return name.replace("pathlib.", "").replace(" | None", "").replace("|", "or").lower()


def _default(item: dataclasses.Field[Any]) -> str:
    if item.default is dataclasses.MISSING:
        return "(computed)" if item.default_factory is not dataclasses.MISSING else "(required)"
    if isinstance(item.default, tuple):
        return ", ".join(f"`{value}`" for value in item.default)
    return "" if item.default in (None, "") else f"`{item.default}`"


def main(arguments: list[str]) -> int:
    """Write the page, or with `--check` compare it."""
    text = render()
    if "--check" in arguments:
        return 0 if PAGE.exists() and PAGE.read_text() == text else 1
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
