"""`loraplane load` against a server on a real socket: figures, goals, exit codes, files."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.cli.main import main
from serving.tuning.measure import LoadResult
from tests.fakes.openai_server import OpenAiServer, openai_server

FAST = ("--rate", "1000", "--requests", "12", "--shape")


@pytest.fixture
def server() -> Iterator[OpenAiServer]:
    with openai_server() as served:
        yield served


def run(*arguments: str) -> int:
    try:
        main(["load", *arguments])
    except SystemExit as exc:
        return int(exc.code or 0)
    return 0


def test_a_load_is_shown_class_by_class(server: OpenAiServer, capsys: Any) -> None:
    assert run(server.url, *FAST, "long-prefill", "--adapter", "plain") == 0

    rows = [line.split("│") for line in capsys.readouterr().out.splitlines() if "│" in line]
    assert {row[1].strip(): (row[2].strip(), row[3].strip()) for row in rows} == {
        "short": ("11", "0"),
        "long": ("1", "0"),
        "all": ("12", "0"),
    }
    assert sorted({len(body["prompt"]) for body in server.bodies}) == [20, 1500]


def test_models_that_are_not_named_are_asked_for(server: OpenAiServer) -> None:
    assert run(server.url + "/", *FAST, "poisson", "--key", "lp_k") == 0

    assert {body["model"] for body in server.bodies} == {"plain"}
    assert set(server.keys) == {"Bearer lp_k"}


def test_a_name_may_have_a_key_of_its_own(server: OpenAiServer) -> None:
    adapters = ("--adapter", "plain=lp_a", "--adapter", "second", "--key", "lp_b")

    assert run(server.url, *FAST, "poisson", *adapters) == 0

    assert set(server.keys) == {"Bearer lp_a"}


def test_figures_and_samples_are_written_as_json(
    server: OpenAiServer, capsys: Any, tmp_path: Path
) -> None:
    out = tmp_path / "load.json"

    assert run(server.url, *FAST, "poisson", "--json", "--out", str(out), "--seed", "7") == 0

    shown, written = json.loads(capsys.readouterr().out), json.loads(out.read_text())
    assert shown["classes"]["short"]["n"] == 12
    assert shown["classes"]["short"]["ttft_p99_seconds"] > 0
    assert written["classes"] == shown["classes"]
    assert written["seed"] == 7
    assert len(LoadResult.from_json(written).samples) == 12


@pytest.mark.parametrize(
    ("goal", "code", "said"),
    [
        ("60000", 0, "kept: p99 TTFT at most 60000 ms"),
        ("short=0.0001", 1, "not kept: p99 TTFT of short requests at most 0.0001 ms"),
        ("long=1", 2, "is not a class"),
    ],
)
def test_a_goal_that_is_not_kept_is_exit_code_1(
    server: OpenAiServer, capsys: Any, goal: str, code: int, said: str
) -> None:
    assert run(server.url, *FAST, "poisson", "--ttft-p99-ms", goal) == code

    printed = capsys.readouterr()
    assert said in printed.out + printed.err


def test_without_goals_a_load_that_was_answered_in_part_is_no_failure(
    server: OpenAiServer, capsys: Any
) -> None:
    models = ("plain", *("refuse",) * 15)
    named = [word for model in models for word in ("--adapter", model)]

    assert run(server.url, "--rate", "1000", "--requests", "40", "--shape", "zipf", *named) == 0
    assert "failed: HTTP 503" in capsys.readouterr().err


def test_failed_requests_are_counted_told_and_break_goals(
    server: OpenAiServer, capsys: Any
) -> None:
    ask = (server.url, *FAST, "poisson", "--adapter", "refuse")

    assert run(*ask) == 1
    assert "12 failed: HTTP 503: no slot is free" in capsys.readouterr().err
    assert run(*ask, "--e2e-p99-ms", "60000") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--shape", "poison"), "did you mean poisson"),
        (("--shape", "poisson", "--speed", "2"), "are for a recorded trace"),
        (("--shape", "zipf", "--adapter", "plain"), "adapters"),
        (("--seconds", "1e9"), "end it earlier"),
        (("--shape", "none.jsonl"), "No such file"),
        (("--key", "ü"), "characters that no header takes"),
        (("--chat", "--out", "/no/such/folder/x", "--requests", "1"), "cannot be written"),
    ],
)
def test_what_cannot_be_meant_is_exit_code_2(
    server: OpenAiServer, capsys: Any, arguments: tuple[str, ...], said: str
) -> None:
    assert run(server.url, *arguments) == 2

    assert said in capsys.readouterr().err


@pytest.mark.parametrize("adapter", [(), ("--adapter", "m")], ids=["models asked", "named"])
def test_a_server_that_is_not_there_is_exit_code_3(capsys: Any, adapter: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    assert run(f"http://127.0.0.1:{port}", *FAST, "poisson", *adapter) == 3

    assert "answer" in capsys.readouterr().err
