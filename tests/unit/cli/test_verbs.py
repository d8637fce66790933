"""Verbs against an HTTP server: what they print and what they end with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from serving.cli.main import app, main
from tests.fakes.controller_api import ADMIN, ControllerApi, running_controller_api


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[ControllerApi]:
    with running_controller_api() as started:
        monkeypatch.setenv("LORAPLANE_URL", started.url)
        monkeypatch.setenv("LORAPLANE_TOKEN", ADMIN)
        monkeypatch.setattr("serving.cli.following._POLL_SECONDS", 0.01)
        yield started


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    target = tmp_path / "adapter"
    target.mkdir()
    (target / "adapter_config.json").write_text("{}")
    (target / "adapter_model.safetensors").write_bytes(b"\0" * 300_000)
    (target / "README.md").write_text("no part of the artifact")
    return target


def run(*arguments: str) -> int:
    try:
        main(list(arguments))
    except SystemExit as exc:
        return int(exc.code or 0)
    return 0


PUSH = ("--tenant", "acme", "--adapter", "support", "--wait")


def test_a_version_that_goes_live_ends_with_0(
    api: ControllerApi, folder: Path, capsys: Any
) -> None:
    assert run("push", str(folder), *PUSH) == 0

    assert "acme/support@1: live" in capsys.readouterr().out
    assert api.received_bytes > 300_000


def test_a_refused_version_ends_with_1_and_says_what_to_fix(
    api: ControllerApi, folder: Path, capsys: Any
) -> None:
    api.ends = "rejected"
    api.findings = [
        {
            "code": "module_prefix_off",
            "severity": "blocking",
            "meaning": "Module names start elsewhere.",
            "fix": "Save from the served model class.",
        }
    ]

    assert run("push", str(folder), *PUSH) == 1

    said = capsys.readouterr().err
    assert "module_prefix_off" in said
    assert "Save from the served model class." in said


def test_a_failed_gate_ends_with_1_and_gives_its_reasons(
    api: ControllerApi, folder: Path, capsys: Any
) -> None:
    api.ends = "failed"
    api.error = {"code": "scaling_changed", "detail": "alpha is 64, at training it was 32"}

    assert run("push", str(folder), *PUSH, "--json") == 1

    captured = capsys.readouterr()
    assert json.loads(captured.out)["state"] == "failed"
    assert "alpha is 64, at training it was 32" in captured.err


def test_a_folder_without_weights_is_a_usage_error(
    api: ControllerApi, tmp_path: Path, capsys: Any
) -> None:
    assert run("push", str(tmp_path), *PUSH) == 2

    assert "no adapter_model.safetensors" in capsys.readouterr().err


def test_an_unknown_version_is_refused(api: ControllerApi) -> None:
    assert run("show", "acme/support@9") == 1


def test_a_name_of_another_form_is_a_usage_error(api: ControllerApi) -> None:
    assert run("show", "support") == 2
    assert run("rollback", "Acme/Support") == 2


def test_a_wrong_token_is_refused_with_the_fix(
    api: ControllerApi, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("LORAPLANE_TOKEN", "another")

    assert run("tenant", "create", "acme") == 1

    assert "LORAPLANE_TOKEN" in capsys.readouterr().err
    assert api.tenants == []


def test_without_a_token_the_local_admin_token_is_used(
    api: ControllerApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "admin-token").write_text(ADMIN + "\n")
    monkeypatch.delenv("LORAPLANE_TOKEN")
    monkeypatch.setenv("LORAPLANE_DATA_DIR", str(tmp_path))

    assert run("tenant", "create", "acme") == 0

    assert api.tenants == ["acme"]


def test_an_unreachable_controller_ends_with_3_and_names_the_fix(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("LORAPLANE_URL", "http://127.0.0.1:9")

    assert run("engines") == 3

    said = capsys.readouterr().err
    assert "loraplane up" in said
    assert "LORAPLANE_URL" in said


def test_engines_and_top_show_what_the_engines_counted(api: ControllerApi, capsys: Any) -> None:
    assert run("engines", "--json") == 0
    engines = json.loads(capsys.readouterr().out)
    assert run("top", "--json") == 0
    counts = json.loads(capsys.readouterr().out)

    assert engines[0]["state"] == "ready"
    assert counts["acme/support@1"]["requests"] == 5
    assert counts["acme/support@1"]["evictions_slot"] == 2


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from commands(inner, (*path, name))
    else:
        yield path, command


def test_every_option_has_its_environment_variable() -> None:
    missing = []
    for path, command in commands(typer.main.get_command(app)):
        for option in command.params:
            if option.param_type_name != "option" or option.name == "help":
                continue
            long = next(name for name in option.opts if name.startswith("--"))
            if option.envvar != "LORAPLANE_" + long[2:].replace("-", "_").upper():
                missing.append((path, long))

    assert missing == []


def test_reading_verbs_have_json() -> None:
    reading = {"ls", "show", "report", "events", "engines", "top", "check"}

    with_json = {
        path[0]
        for path, command in commands(typer.main.get_command(app))
        if any("--json" in option.opts for option in command.params)
    }

    assert reading <= with_json
