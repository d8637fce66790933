"""`loraplane suite` on files: what is written, said, and ended with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapters.parity.suite import parse_suite
from serving.cli.main import main

CHAT = {"messages": [{"role": "user", "content": "hi"}]}


def run(*arguments: str | Path) -> int:
    try:
        main([str(item) for item in arguments])
    except SystemExit as exc:
        return int(exc.code or 0)
    return 0


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def cases(n: int, segment: str = "all") -> list[dict[str, Any]]:
    return [
        {"id": f"{segment}-{i}", "prompt": f"{segment} {i}", "segment": segment, "expect": gold}
        for i in range(n)
        for gold in ({"text": "yes"},)
    ]


def test_a_valid_suite_passes_and_advice_changes_nothing(tmp_path: Path, capsys: Any) -> None:
    good = write(tmp_path / "good.jsonl", *cases(20))
    weak = write(tmp_path / "weak.jsonl", *cases(20), {"id": "x", **CHAT, "segment": "rare"})

    assert run("suite", "check", good) == 0
    assert run("suite", "check", weak) == 0

    said = capsys.readouterr()
    assert "20 cases, valid" in said.out
    assert "small_segment" in said.err


def test_all_errors_are_said_with_line_field_and_fix(tmp_path: Path, capsys: Any) -> None:
    bad = {"id": "b", "prompt": "x", "max_tokens": 0, "expect": {"text": ""}}
    file = write(tmp_path / "bad.jsonl", *cases(1), bad, {"id": "[red]", **CHAT, "tools": 3})

    assert run("suite", "check", file) == 1

    said = capsys.readouterr().err
    assert "line 2, max_tokens" in said
    assert "line 2, expect.text" in said
    assert "line 3, tools" in said
    assert said.count("fix: ") == 3
    assert "not a valid suite" in said


def test_a_check_can_be_read_by_a_script(tmp_path: Path, capsys: Any) -> None:
    file = write(tmp_path / "bad.jsonl", *cases(3), {"id": "b"})

    assert run("suite", "check", file, "--json") == 1

    found = json.loads(capsys.readouterr().out)
    assert found["is_valid"] is False
    assert found["n_cases"] == 3
    assert "digest" not in found
    assert [(error["line"], error["field"]) for error in found["errors"]] == [(4, "messages")]
    assert found["notes"] == []


def test_an_empty_file_is_no_suite(tmp_path: Path, capsys: Any) -> None:
    assert run("suite", "check", write(tmp_path / "empty.jsonl"), "--json") == 1
    assert json.loads(capsys.readouterr().out)["n_cases"] == 0
    assert run("suite", "check", tmp_path / "absent.jsonl") == 2


def test_conversations_are_imported_from_several_files(tmp_path: Path, capsys: Any) -> None:
    def answered(text: str) -> dict[str, Any]:
        return {"messages": [*CHAT["messages"], {"role": "assistant", "content": text}]}

    first = write(tmp_path / "1.jsonl", answered("a"), answered('{"b": 1}'))
    second = write(tmp_path / "2.jsonl", answered("a"), answered("c"))
    out = tmp_path / "suite.jsonl"

    ended = run("suite", "import", "--format", "openai", first, second, "-o", out,
                "--segment", "chat", "--max-tokens", "9")  # fmt: skip

    suite = parse_suite(out.read_bytes())
    assert ended == 0
    assert [case.expect for case in suite.cases] == [
        {"text": "a"}, {"json": {"b": 1}}, {"text": "c"},
    ]  # fmt: skip
    assert {(case.segment, case.max_tokens) for case in suite.cases} == {("chat", 9)}
    assert "3 cases" in capsys.readouterr().out


def question(case_id: str) -> dict[str, Any]:
    function = {"name": "f", "parameters": {"type": "dict", "properties": {}}}
    return {"id": case_id, "question": [CHAT["messages"]], "function": [function]}


def test_leaderboard_files_find_their_answers_beside_them(tmp_path: Path) -> None:
    (tmp_path / "possible_answer").mkdir()
    truth = {"id": "simple_0", "ground_truth": [{"f": {}}]}
    write(tmp_path / "possible_answer" / "simple.json", truth)
    simple = write(tmp_path / "simple.json", question("simple_0"))
    none = write(tmp_path / "none.json", question("irrelevance_0"))
    out = tmp_path / "suite.jsonl"

    assert run("suite", "import", "--format", "bfcl", simple, none, "-o", out) == 0

    suite = parse_suite(out.read_bytes())
    assert [case.segment for case in suite.cases] == ["simple", "irrelevance"]
    assert [len((case.expect or {})["tool_calls"]) for case in suite.cases] == [1, 0]


def test_a_wrong_answer_is_told_by_its_own_file_and_line(tmp_path: Path, capsys: Any) -> None:
    simple = write(tmp_path / "simple.json", question("simple_0"))
    (tmp_path / "gold").mkdir()
    gold = write(tmp_path / "gold" / "simple.json", {}, {"id": "simple_0", "ground_truth": 3})
    out = tmp_path / "suite.jsonl"
    imported = ("suite", "import", "--format", "bfcl", simple, "-o", out)

    assert run(*imported, "--answers", gold.parent) == 1

    assert f"{gold}, line 2, ground_truth" in capsys.readouterr().err


def test_answers_may_lie_in_another_folder(tmp_path: Path) -> None:
    gold = tmp_path / "gold"
    gold.mkdir()
    write(gold / "simple.json", {"id": "simple_0", "ground_truth": [{"f": {}}]})
    simple = write(tmp_path / "simple.json", question("simple_0"))
    out = tmp_path / "suite.jsonl"

    assert run("suite", "import", "--format", "bfcl", simple, "-o", out) == 0
    assert parse_suite(out.read_bytes()).cases[0].expect is None
    assert run("suite", "import", "--format", "bfcl", simple, "-o", out, "--answers", gold) == 0
    assert parse_suite(out.read_bytes()).cases[0].expect is not None


def test_what_cannot_be_imported_writes_nothing(tmp_path: Path, capsys: Any) -> None:
    file = write(tmp_path / "bad.jsonl", CHAT)
    out = tmp_path / "out.jsonl"

    assert run("suite", "import", "--format", "openai", file, "-o", out) == 1
    assert "line 1, messages[0].role" in capsys.readouterr().err
    assert run("suite", "import", "--format", "yaml", file, "-o", out) == 2
    assert run("suite", "import", "--format", "openai", file, "-o", tmp_path / "no" / "x") == 1
    assert not out.exists()


def test_a_sample_is_written_and_told_by_segment(tmp_path: Path, capsys: Any) -> None:
    file = write(tmp_path / "all.jsonl", *cases(90, "a"), *cases(30, "b"))
    out = tmp_path / "few.jsonl"

    assert run("suite", "sample", file, "-n", "60", "-o", out, "--json") == 0

    told = json.loads(capsys.readouterr().out)
    suite = parse_suite(out.read_bytes())
    assert told["digest"] == suite.digest
    assert {row["segment"]: row["n_sampled"] for row in told["segments"]} == {"a": 40, "b": 20}
    assert run("suite", "sample", file, "-n", "5", "-o", out, "--seed", "3") == 0
    assert "too small" in capsys.readouterr().err


def test_recorded_traffic_is_sampled_without_gold(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{i}", "model": "m", "temperature": 1} for i in range(9)]
    file = write(tmp_path / "traffic.jsonl", *rows, *rows)
    out = tmp_path / "few.jsonl"
    sampled = ("suite", "sample", file, "-n", "5", "-o", out)

    assert run(*sampled, "--traffic", "--segment", "live", "--max-tokens", "64") == 0

    suite = parse_suite(out.read_bytes())
    assert len(suite.cases) == 5
    assert {(case.segment, case.max_tokens) for case in suite.cases} == {("live", 64)}
    assert run(*sampled) == 1
    assert run(*sampled, "--segment", "live") == 2


def test_a_file_is_shown_with_its_segments_or_one_case_of_it(tmp_path: Path, capsys: Any) -> None:
    file = write(tmp_path / "s.jsonl", *cases(20, "a"), {"id": "x", **CHAT, "segment": "b"})

    assert run("suite", "show", file, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["expectations"] == {"text": 20}
    assert shown["segments"][1] == {"segment": "b", "n_cases": 1, "n_gold": 0}
    assert run("suite", "show", file) == 0
    assert "20 text" in capsys.readouterr().out
    assert run("suite", "show", file, "--case", "x") == 0
    assert json.loads(capsys.readouterr().out)["messages"] == CHAT["messages"]
    assert run("suite", "show", file, "--case", "y") == 2


def test_a_file_that_is_no_suite_cannot_be_shown(tmp_path: Path, capsys: Any) -> None:
    file = write(tmp_path / "bad.jsonl", {"id": "b"})

    assert run("suite", "show", file) == 1
    assert f"{file}, line 1, messages: not exactly one" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["acme", "acme/", "ACME/x", "/tmp/absent.jsonl"])
def test_a_name_that_is_neither_file_nor_stored_suite_is_a_usage_error(name: str) -> None:
    assert run("suite", "show", name) == 2


def test_a_training_set_of_a_push_needs_the_suite_as_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (folder / name).write_text("{}")
    training = write(tmp_path / "train.jsonl", CHAT)
    push = ("push", folder, "--tenant", "acme", "--adapter", "support", "--training", training)

    assert run(*push) == 2
    assert run(*push, "--suite", "stored-name") == 2
