"""A log shows which steps are over, as a terminal's bar would."""

from __future__ import annotations

import pytest

from bench.figure_table import progress_line


def test_each_step_is_a_line_where_standard_error_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress_line("starting", n_steps=2) as say:
        say.step("the first is ready")
        say.now("43 %")
        say.step("the second is ready")

    lines = [line for line in capsys.readouterr().err.splitlines() if "ready" in line]
    assert [line.split(" s  ")[1] for line in lines[:2]] == [
        "1/2  the first is ready", "2/2  the second is ready",
    ]  # fmt: skip
    assert not any("43 %" in line for line in lines)
