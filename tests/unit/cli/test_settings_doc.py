"""The settings page says what the code reads."""

import dataclasses

from serving.cli import settings_doc
from serving.engine.profile import EngineProfile
from serving.settings import ControllerSettings, EngineSettings


def test_the_page_is_the_one_that_the_code_makes() -> None:
    assert settings_doc.PAGE.read_text() == settings_doc.render(), "run `make docs`"


def test_every_setting_is_on_the_page_with_a_meaning() -> None:
    rows = [line for line in settings_doc.render().splitlines() if line.startswith("| `")]

    n_settings = sum(
        len(dataclasses.fields(owner))
        for owner in (ControllerSettings, EngineSettings, EngineProfile)
    )
    assert len(rows) == n_settings
    assert [row for row in rows if row.endswith("|  |")] == []
