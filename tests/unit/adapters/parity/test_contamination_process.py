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


def test_the_last_word_is_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite, training, leaked = a_contaminated_world(100, 3, n_documents=1200)

    said = say(tmp_path, capsys, suite, training)

    report = ContaminationReport.from_json(said[-1]["report"])
    assert said[0] == {"n_documents": 1000}
    assert report.leaked_ids == set(leaked)
    assert (report.n_cases, report.n_documents) == (100, 1200)


@pytest.mark.parametrize(
    ("suite", "training", "code"),
    [
        (b"{", b'{"text": "a"}', "suite_invalid"),
        (b'{"id": "a", "prompt": "x"}', b"{", "training_set_invalid"),
    ],
)
def test_or_an_error_with_its_fields(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], suite: bytes, training: bytes, code: str
) -> None:
    (said,) = say(tmp_path, capsys, suite, training)

    assert said["error"]["code"] == code
    assert said["error"]["fields"]["line"] == 1
    assert said["error"]["fields"]["fix"]
