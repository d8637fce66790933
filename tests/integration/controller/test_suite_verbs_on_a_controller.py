"""`loraplane suite push|ls|show` and `push --training` against a real controller."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.parity.suite import parse_suite
from serving.cli.main import main
from serving.controller.app import create_app
from tests.builders.controller import ADMIN, a_server, settings_in
from tests.builders.registry import Clock


def run(*arguments: str | Path) -> int:
    try:
        main([str(item) for item in arguments])
    except SystemExit as exc:
        return int(exc.code or 0)
    return 0


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("controller")
    app = create_app(settings_in(folder), clock=Clock(), has_loop=False)
    with a_server(app) as started:
        yield started


@pytest.fixture(autouse=True)
def client(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORAPLANE_URL", url)
    monkeypatch.setenv("LORAPLANE_TOKEN", ADMIN)


def sentence(number: int) -> str:
    """Shares hardly five characters in a row with any other number's."""
    return hashlib.sha256(str(number).encode()).hexdigest()


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def suite(path: Path, n: int) -> Path:
    return write(path, *({"id": f"c{i}", "prompt": sentence(i)} for i in range(n)))


def training(path: Path, *numbers: int) -> Path:
    return write(path, *({"text": sentence(number)} for number in numbers))


def tenant(name: str, capsys: Any) -> str:
    assert run("tenant", "create", name) == 0
    capsys.readouterr()
    return name


def test_a_suite_is_pushed_listed_and_shown_with_its_cases(tmp_path: Path, capsys: Any) -> None:
    owner = tenant("acme", capsys)
    file = suite(tmp_path / "Support.jsonl", 3)

    assert run("suite", "push", file, "--tenant", owner) == 0
    said = capsys.readouterr()
    assert "acme/support@1: 3 cases" in said.out
    assert "Not compared with a training set" in said.err
    assert run("suite", "push", suite(file, 4), "--tenant", owner, "--json") == 0
    assert json.loads(capsys.readouterr().out)["number"] == 2

    assert run("suite", "ls", "--tenant", owner) == 0
    listed = capsys.readouterr().out
    assert "acme/support@1" in listed
    assert "unknown" in listed
    assert run("suite", "ls", "--tenant", owner, "--json") == 0
    assert sorted(row["number"] for row in json.loads(capsys.readouterr().out)) == [1, 2]

    assert run("suite", "show", "acme/support", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["digest"] == parse_suite(file.read_bytes()).digest
    assert shown["segments"] == [{"segment": "all", "n_cases": 4, "n_gold": 0}]
    assert run("suite", "show", "acme/support") == 0
    assert "acme/support@2" in capsys.readouterr().out
    assert run("suite", "show", "acme/support", "--case", "c3") == 0
    assert json.loads(capsys.readouterr().out)["prompt"] == sentence(3)
    assert run("suite", "show", "acme/support@1", "--json") == 0
    assert json.loads(capsys.readouterr().out)["segments"][0]["n_cases"] == 3
    assert run("suite", "show", "acme/support@3") == 1
    assert run("suite", "show", "acme/absent") == 1


def test_an_invalid_suite_is_refused_before_it_is_sent(tmp_path: Path, capsys: Any) -> None:
    owner = tenant("globex", capsys)
    file = write(tmp_path / "bad.jsonl", {"id": "a"}, {"id": "b"})

    assert run("suite", "push", file, "--tenant", owner) == 1

    assert capsys.readouterr().err.count("fix: give either") == 2
    assert run("suite", "ls", "--tenant", owner, "--json") == 0
    assert json.loads(capsys.readouterr().out) == []
    assert run("suite", "push", suite(tmp_path / "a b!.jsonl", 1), "--tenant", owner) == 2


def test_a_few_leaked_cases_are_told_and_too_many_refuse_the_suite(
    tmp_path: Path, capsys: Any
) -> None:
    owner = tenant("initech", capsys)
    file = suite(tmp_path / "held-out.jsonl", 300)
    few = training(tmp_path / "few.jsonl", 7, *range(5000, 5010))
    many = training(tmp_path / "many.jsonl", *range(40))
    push = ("suite", "push", file, "--tenant", owner, "--name", "cases")

    assert run(*push, "--training", many) == 1
    said = capsys.readouterr().err
    assert "by threshold" in said
    assert "c0, like line 1 of the training set (Jaccard 1.000)" in said
    assert run("suite", "show", "initech/cases") == 1
    capsys.readouterr()

    assert run(*push, "--training", few) == 0
    told = capsys.readouterr().out
    assert "compared with 11 documents: 1 of 300 cases are near-duplicates (0.33 %" in told
    assert "c7" in told
    assert run("suite", "ls", "--tenant", owner) == 0
    assert "1 of 300" in capsys.readouterr().out
    assert run(*push, "--training", tmp_path / "absent") == 2


def test_a_version_is_pushed_with_its_suite_and_training_set(tmp_path: Path, capsys: Any) -> None:
    owner = tenant("umbrella", capsys)
    folder = tmp_path / "adapter"
    folder.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (folder / name).write_text("{}")
    file = suite(tmp_path / "held-out.jsonl", 20)
    far = training(tmp_path / "far.jsonl", *range(5000, 5003))
    push = ("push", folder, "--tenant", owner, "--adapter", "support", "--suite", file)

    assert run(*push, "--training", far) == 0

    assert "compared with 3 documents: 0 of 20" in capsys.readouterr().out
    assert run("show", "umbrella/support@1", "--json") == 0
    assert json.loads(capsys.readouterr().out)["suite"] == "umbrella/held-out@1"
