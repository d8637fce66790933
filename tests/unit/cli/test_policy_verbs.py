"""`loraplane policy` against a real controller app behind a socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.cli.main import main
from serving.controller.app import create_app
from tests.builders.controller import ADMIN, a_server, settings_in


@pytest.fixture(autouse=True)
def controller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    app = create_app(settings_in(tmp_path / "data"), has_loop=False)
    with a_server(app) as url:
        monkeypatch.setenv("LORAPLANE_URL", url)
        monkeypatch.setenv("LORAPLANE_TOKEN", ADMIN)
        run("tenant", "create", "acme")
        yield


def run(*arguments: str) -> int:
    try:
        main(list(arguments))
    except SystemExit as exc:
        return int(exc.code or 0)
    return 0


def test_a_policy_is_set_from_a_file_and_shown_with_its_sources(
    tmp_path: Path, capsys: Any
) -> None:
    file = tmp_path / "gate.yaml"
    file.write_text("gate:\n  margin: 0.02\n  contamination: {jaccard: 0.8}\n")

    assert run("policy", "set", str(file), "--tenant", "acme", "--adapter", "support") == 0
    assert "policy:acme/support: number 1 is in force" in capsys.readouterr().out

    assert run("policy", "show", "acme/support") == 0
    rows = [line.split("│") for line in capsys.readouterr().out.splitlines() if "│" in line]
    shown = {row[1].strip(): (row[2].strip(), row[3].strip()) for row in rows}
    assert shown["margin"] == ("0.02", "adapter number 1")
    assert shown["contamination.jaccard"] == ("0.8", "adapter number 1")
    assert shown["seed"] == ("0", "default")


def test_json_files_and_json_answers(tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "gate.json"
    file.write_text('{"repeats": 5}')
    assert run("policy", "set", str(file)) == 0
    capsys.readouterr()

    assert run("policy", "show", "acme", "--json") == 0

    shown = json.loads(capsys.readouterr().out)
    assert shown["scope"] == "tenant"
    assert shown["policy"]["repeats"] == 5
    assert shown["sources"]["repeats"] == {"scope": "fleet", "number": 1}


def test_an_old_policy_shows_its_own_fields_alone(tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "gate.yaml"
    for margin in ("0.01", "0.02"):
        file.write_text(f"margin: {margin}")
        assert run("policy", "set", str(file)) == 0
    capsys.readouterr()

    assert run("policy", "show", "--number", "1") == 0

    out = capsys.readouterr().out
    assert "0.01" in out
    assert "seed" not in out


def test_a_file_that_is_no_policy_ends_with_1_and_a_fix(tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "gate.yaml"
    file.write_text("margn: 0.1")

    assert run("policy", "set", str(file)) == 1

    assert "Did you mean margin?" in " ".join(capsys.readouterr().err.split())


def test_an_adapter_without_its_tenant_is_a_usage_error(tmp_path: Path) -> None:
    file = tmp_path / "gate.yaml"
    file.write_text("margin: 0.1")

    assert run("policy", "set", str(file), "--adapter", "support") == 2
    assert run("policy", "set", str(tmp_path / "absent.yaml")) == 2
