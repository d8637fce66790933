"""What the child process says, without starting it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapters.parity.contamination import ContaminationReport, ContaminationRules
from adapters.parity.contamination_process import main
from tests.builders.near_texts import a_contaminated_world


def say(
    folder: Path, capsys: pytest.CaptureFixture[str], suite: bytes, training: bytes
) -> list[dict[str, Any]]:
    (folder / "suite").write_bytes(suite)
    (folder / "training").write_bytes(training)
    rules = json.dumps(ContaminationRules().to_json())
    main([str(folder / "suite"), str(folder / "training"), rules])
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_what_it_says_is_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite, training, leaked = a_contaminated_world(100, 3, n_documents=1200)

    (said,) = say(tmp_path, capsys, suite, training)

    report = ContaminationReport.from_json(said["report"])
    assert report.leaked_ids == set(leaked)
    assert (report.n_cases, report.n_documents) == (100, 1200)


def test_two_processes_say_what_one_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    suite, training, _leaked = a_contaminated_world(100, 10, n_documents=300)
    training += b'\n{"text": "plain"}\n'
    alone = say(tmp_path, capsys, suite, training)

    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr(f"{main.__module__}._WORTH_A_SECOND_PROCESS_BYTES", 0)

    assert say(tmp_path, capsys, suite, training) == alone
    assert alone[0]["report"]["n_documents"] == 301


@pytest.mark.parametrize("line", [2, 3])
def test_an_error_in_either_half_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: int
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr(f"{main.__module__}._WORTH_A_SECOND_PROCESS_BYTES", 0)
    training = b'{"text": "a"}\n' * (line - 1) + b"nonsense\n"

    (said,) = say(tmp_path, capsys, b'{"id": "a", "prompt": "x"}', training)

    assert said["error"]["code"] == "training_set_invalid"
    assert said["error"]["fields"]["line"] == line


@pytest.mark.parametrize(
    ("suite", "training", "code"),
    [
        (b"{", b'{"text": "a"}', "suite_invalid"),
        (b'{"id": "a", "prompt": "x"}', b"{", "training_set_invalid"),
    ],
)
def test_an_error_is_told_with_its_fields(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], suite: bytes, training: bytes, code: str
) -> None:
    (said,) = say(tmp_path, capsys, suite, training)

    assert said["error"]["code"] == code
    assert said["error"]["fields"]["line"] == 1
    assert said["error"]["fields"]["fix"]
