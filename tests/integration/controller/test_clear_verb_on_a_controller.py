"""`loraplane engines` and `loraplane clear` against a real controller."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serving.cli.main import main
from serving.contract import encode, engine_token
from serving.controller.app import create_app
from tests.builders.controller import ADMIN, SECRET, a_report, a_server, bearer, settings_in


def run(*arguments: str) -> int:
    try:
        main(list(arguments))
    except SystemExit as exc:
        return int(exc.code or 0)
    return 0


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A controller that has heard of one engine, which waits for the gate."""
    app = create_app(settings_in(tmp_path, upgrade="gate"), has_loop=False)
    report = a_report("engine-1", is_ready=False, waits_for_gate=True, base_revision="b" * 64)
    with a_server(app) as started:
        told = httpx.post(
            f"{started}/internal/v1/engines/engine-1/report",
            content=encode(report),
            headers=bearer(engine_token(SECRET)),
        )
        assert told.status_code == 204
        monkeypatch.setenv("LORAPLANE_URL", started)
        monkeypatch.setenv("LORAPLANE_TOKEN", ADMIN)
        yield started


@pytest.mark.usefixtures("url")
def test_an_engine_that_waits_says_for_what(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("engines") == 0

    said = capsys.readouterr().out
    assert "waiting_for_gate" in said
    assert "engine-1 waits for the gate: the engine serves base bbbbbbbbbbbb" in said


def test_a_person_clears_it_with_a_reason(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("clear", "engine-9", "--reason", "it is fine") == 1
    assert run("clear", "engine-1") == 2
    capsys.readouterr()

    assert run("clear", "engine-1", "--reason", "it is fine", "--json") == 0

    assert json.loads(capsys.readouterr().out)["id"] == "engine-1"
    events = httpx.get(f"{url}/v1/events", headers=bearer(ADMIN)).json()["events"]
    cleared = next(one for one in events if one["action"] == "clear_engine_kind")
    assert (cleared["reason"], cleared["evidence"]["kind"]["base_revision"]) == (
        "it is fine", "b" * 64,
    )  # fmt: skip


def test_a_mode_that_nobody_knows_is_refused_at_start(tmp_path: Path) -> None:
    from serving.settings import SettingInvalid

    with pytest.raises(SettingInvalid, match="LORAPLANE_UPGRADE='maybe' is not probe or gate"):
        create_app(settings_in(tmp_path, upgrade="maybe"))
