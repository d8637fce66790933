"""People and scripts depend on the verbs and options: a change here is a change of the surface."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import typer

from serving.cli.main import app


def lines(command: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    if hasattr(command, "commands"):
        if command.invoke_without_command:
            yield from _own_lines(command, path)
        for name, inner in sorted(command.commands.items()):
            yield from lines(inner, (*path, name))
        return
    yield from _own_lines(command, path)


def _own_lines(command: Any, path: tuple[str, ...]) -> Iterator[str]:
    yield f"loraplane {' '.join(path)}: {command.help}"
    for parameter in command.params:
        names = "/".join([*parameter.opts, *parameter.secondary_opts])
        kind = "" if parameter.param_type_name == "option" else " (argument)"
        yield f"    {names}{kind}"


def test_the_verbs_and_options_are_the_published_ones(golden: Callable[[str, str], None]) -> None:
    golden("cli.txt", "\n".join(lines(typer.main.get_command(app))) + "\n")
