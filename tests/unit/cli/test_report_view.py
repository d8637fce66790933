"""A gate report as text."""

from __future__ import annotations

from typing import Any

import pytest

from serving.cli.report_view import print_report, report_lines, segment_rows
from tests.builders.gate_reports import KINDS, report_of


@pytest.mark.parametrize("kind", KINDS)
def test_verdict_reasons_and_first_line_are_printed(kind: str, capsys: Any) -> None:
    report = report_of(kind)

    print_report(report)

    said = capsys.readouterr().out
    assert f"acme/support@3: {report['verdict']}" in said
    for reason in report["reasons"]:
        assert reason["text"] in said
    assert report["first_line"] in said


def test_the_worst_segment_follows_the_total() -> None:
    serving = report_of("failing_on_a_segment")["task"]["serving"]

    lines = segment_rows(serving)

    assert [line[0] for line in lines[:2]] == ["all", "refund_flow"]
    assert lines[1][-1] == "REGRESSION"
    assert lines[-1][0] == "vip_escalation"
    assert lines[-1][-1] == "low confidence"


def test_what_the_suite_can_see_is_printed(capsys: Any) -> None:
    report = report_of("passing")

    print_report(report)

    assert report["detectable"]["sentence"] in capsys.readouterr().out


def test_texts_cannot_act_on_the_terminal() -> None:
    report = report_of("given_up")
    text = "\x1b]0;owned\x07\x1b[2J\r[bold]x\nsecond"

    lines = list(report_lines({**report, "reasons": [{"code": text, "text": text}]}))

    assert not any(ord(character) < 32 for line in lines for character in line)
    assert "[bold]x second" in lines[1]
