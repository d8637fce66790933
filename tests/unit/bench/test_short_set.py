"""The short set of scenarios: what belongs to it, and how a run of it ends."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from bench.scenario_list import list_scenarios
from bench.scenarios.__main__ import main
from bench.short_set import run_scenario

SLOW = "import time, sys; print('one'); sys.stdout.flush(); time.sleep(60)"
WITH_CHILD = """
import pathlib, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
pathlib.Path(sys.argv[1]).write_text(str(child.pid))
child.wait()
"""


def test_a_scenario_is_a_module_with_a_main_and_its_question_is_its_first_line(
    tmp_path: Path,
) -> None:
    program = 'def main():\n    parser.add_argument("--quick")\n'
    (tmp_path / "one.py").write_text(f'"""How long?\n\nMore of it."""\n{program}')
    (tmp_path / "two.py").write_text('"""Says --quick only."""\ndef main(): pass\n')
    (tmp_path / "part.py").write_text('"""A part of another."""\n')
    (tmp_path / "__main__.py").write_text(program)

    one, two = list_scenarios(tmp_path)

    assert (one.name, one.question, one.has_quick) == ("one", "How long?", True)
    assert one.command == "python -m bench.scenarios.one"
    assert (two.name, two.has_quick) == ("two", False)


def test_every_scenario_of_the_repository_asks_something() -> None:
    scenarios = list_scenarios()

    assert {"tenant_hashing", "reference_cost", "tenancy_overhead"} <= {s.name for s in scenarios}
    assert all(scenario.question for scenario in scenarios)


@pytest.mark.parametrize(("code", "outcome"), [("0", "passed"), ("3", "failed")])
def test_a_run_ends_as_its_process_did_and_its_words_are_kept(
    tmp_path: Path, code: str, outcome: str
) -> None:
    command = [sys.executable, "-c", f"print('measured'); raise SystemExit({code})"]

    ended = run_scenario("one", command, log=tmp_path / "logs" / "one.log", limit_seconds=30)

    assert (ended.outcome, ended.is_passed) == (outcome, outcome == "passed")
    assert ended.tail() == "measured"


class Enough(Exception):
    """Raised by who looks on."""


def test_what_takes_too_long_is_stopped(tmp_path: Path) -> None:
    ended = run_scenario(
        "one", [sys.executable, "-c", SLOW], log=tmp_path / "one.log", limit_seconds=0
    )

    assert ended.outcome == "taken too long"


def test_who_interrupts_a_run_stops_all_that_it_started(tmp_path: Path) -> None:
    told = tmp_path / "child"

    def look(seconds: float, line: str) -> None:
        if told.is_file() and told.read_text():
            raise Enough

    with pytest.raises(Enough):
        run_scenario(
            "one",
            [sys.executable, "-c", WITH_CHILD, str(told)],
            log=tmp_path / "one.log",
            limit_seconds=60,
            on_look=look,
        )

    child = int(told.read_text())
    while is_running(child):
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z" and os.getpgid(pid) > 0


def test_the_last_line_is_told_while_it_runs(tmp_path: Path) -> None:
    def look(seconds: float, line: str) -> None:
        if line == "one":
            raise Enough

    with pytest.raises(Enough):
        run_scenario(
            "one",
            [sys.executable, "-c", SLOW],
            log=tmp_path / "one.log",
            limit_seconds=60,
            on_look=look,
        )


def test_a_name_that_no_scenario_has_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--quick", "never_heard_of"]) == 2
    assert "never_heard_of" in capsys.readouterr().err


def test_scenarios_are_listed_with_how_to_run_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "statistics"]) == 0
    assert "python -m bench.scenarios.statistics\n" in capsys.readouterr().out
