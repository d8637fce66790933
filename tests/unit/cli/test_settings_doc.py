"""The settings page says what the code reads."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import typer

from serving.cli import settings_doc
from serving.cli.main import app
from serving.controller.auth import Scope
from serving.engine.profile import EngineProfile
from serving.settings import ControllerSettings, EngineSettings, KubernetesSettings


def test_the_page_is_the_one_that_the_code_makes() -> None:
    assert settings_doc.PAGE.read_text() == settings_doc.render(), "run `make docs`"


def test_every_setting_is_on_the_page_with_a_meaning() -> None:
    page = settings_doc.render().partition("## Other options")[0]
    rows = [line for line in page.splitlines() if line.startswith("| `")]

    n_settings = sum(
        len(dataclasses.fields(owner))
        for owner in (ControllerSettings, KubernetesSettings, EngineSettings, EngineProfile)
    )
    assert len(rows) == n_settings
    assert [row for row in rows if row.endswith("|  |")] == []


def variables(command: Any) -> Iterator[str]:
    for inner in getattr(command, "commands", {}).values():
        yield from variables(inner)
    yield from (str(option.envvar) for option in command.params if option.envvar)


def test_every_option_of_every_verb_is_on_the_page_with_a_meaning() -> None:
    page = settings_doc.render()
    rows = [line for line in page.splitlines() if line.startswith("| `LORAPLANE_")]

    documented = {row.split("`")[1] for row in rows}
    used = set(variables(typer.main.get_command(app)))
    assert used - documented == set()
    assert "LORAPLANE_URL" in used
    assert [row for row in rows if row.endswith("|  |")] == []


def test_the_scopes_of_a_new_key_are_told_as_the_api_knows_them() -> None:
    (row,) = (r for r in settings_doc.render().splitlines() if "LORAPLANE_SCOPES" in r)

    told = row.rpartition("Comma-separated: ")[2].rstrip(" |.").split(", ")
    assert told == [scope.value for scope in Scope]
