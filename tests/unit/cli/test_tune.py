"""`loraplane tune` from the command line, on engines of arithmetic."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.cli import tune_run
from serving.cli.main import main
from serving.engine.profile import parse_profile
from serving.tuning import plotly_script
from serving.tuning.space import Setting
from tests.builders.base_folders import write_base_folder
from tests.builders.searches import NoisyEngines

SEARCH = (
    "--profile", "start.yaml", "--rate", "3.3", "--requests", "50", "--kind", "short",
    "--max-throughput-loss", "0.15", "--tokens", "128,256,512", "--thresholds", "0.25",
    "--seqs", "", "--max-rounds", "3", "--start-rounds", "3", "--no-reference",
    "--work", "work", "--out", "out/tuned.yaml",
)  # fmt: skip
START = {"max_rank": 8, "gpu_slots": 2, "cpu_slots": 8, "kv_cache_gib": 1, "max_model_len": 2048}


@pytest.fixture
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NoisyEngines:
    """A folder with a base and a profile to start from; engines that start at once."""
    monkeypatch.chdir(tmp_path)
    write_base_folder(tmp_path / "model")
    fields = {"model": str(tmp_path / "model"), **START}
    (tmp_path / "start.yaml").write_text(yaml.safe_dump(fields))
    (tmp_path / "short.yaml").write_text(yaml.safe_dump({**fields, "max_model_len": 100}))
    (tmp_path / "window.yaml").write_text("recorded: {files: [trace.jsonl]}")
    event = {"at": 1.0, "adapter": "a/b@1", "request": 0, "is_gate": False}
    lines = [
        {**event, "position": 0, "kind": "admitted", "prompt_tokens": 0, "completion_tokens": 0},
        {**event, "position": 1, "kind": "finished", "prompt_tokens": 5, "completion_tokens": 5},
    ]
    (tmp_path / "trace.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    made = NoisyEngines(seed=3)
    monkeypatch.setattr(tune_run, "EngineRounds", lambda *_arguments: made)
    return made


def tune(*arguments: str) -> int:
    try:
        main(["tune", *arguments])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_a_search_leaves_profile_result_and_report(
    engines: NoisyEngines, capsys: pytest.CaptureFixture[str]
) -> None:
    code = tune(*SEARCH, "--json")

    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    profile = parse_profile(yaml.safe_load(Path("out/tuned.yaml").read_text()))
    assert code == 0
    assert shown["is_better"]
    assert Setting.of(profile) == Setting.from_json(shown["chosen"])
    assert json.loads(Path("work/result.json").read_text())["chosen"] == shown["chosen"]
    assert "Plotly.newPlot" in Path("work/report.html").read_text()


def test_where_plotly_is_not_installed_a_search_loses_its_plots_only(
    engines: NoisyEngines, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(plotly_script, "distribution", missing)

    assert tune(*SEARCH) == 0
    page = Path("work/report.html").read_text()
    assert plotly_script.NO_PLOTS in page
    assert "<script" not in page


def test_for_people_the_outcome_comes_first_and_each_round_has_a_line(
    engines: NoisyEngines, capsys: pytest.CaptureFixture[str]
) -> None:
    code = tune(*SEARCH)

    said = capsys.readouterr()
    assert code == 0
    assert said.out.startswith("Chosen: tokens")
    assert said.err.count("gap_p99") == engines.n_measured


def test_a_dry_run_starts_and_writes_nothing(
    engines: NoisyEngines, capsys: pytest.CaptureFixture[str]
) -> None:
    code = tune(*SEARCH, "--dry-run")

    said = capsys.readouterr().out
    assert code == 0
    assert engines.n_started == 0
    assert not Path("work").exists()
    for part in ("tokens 128, threshold 32", "worst", "3 of the start", "kv_cache_gib"):
        assert part in said


def test_a_second_call_of_a_finished_search_starts_nothing(engines: NoisyEngines) -> None:
    tune(*SEARCH)
    n_started = engines.n_started

    assert tune(*SEARCH) == 0
    assert engines.n_started == n_started


def test_a_record_of_another_load_is_not_gone_on_with(
    engines: NoisyEngines, capsys: pytest.CaptureFixture[str]
) -> None:
    tune(*SEARCH)

    for more in ((), ("--dry-run",)):
        code = tune(*SEARCH, "--seed", "7", *more)

        assert code == 2
        assert "seed was 0, is 7" in " ".join(capsys.readouterr().err.split())


def test_a_record_of_engines_with_another_environment_is_not_gone_on_with(
    engines: NoisyEngines, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("VLLM_API_KEY", "withheld from every engine")
    tune(*SEARCH)
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "4")

    code = tune(*SEARCH)

    told = " ".join(capsys.readouterr().err.split())
    assert code == 2
    assert "VLLM_CPU_KVCACHE_SPACE" in told
    assert "withheld" not in Path("work/journal.jsonl").read_text() + told


def test_where_no_setting_keeps_the_bounds_the_exit_code_is_one(engines: NoisyEngines) -> None:
    assert tune(*SEARCH, "--gap-p99-ms", "1") == 1
    assert Setting.of(parse_profile(yaml.safe_load(Path("out/tuned.yaml").read_text()))).name


def test_a_start_that_does_not_run_is_refused_with_the_reason(
    engines: NoisyEngines, capsys: pytest.CaptureFixture[str]
) -> None:
    start = Setting.of(parse_profile(yaml.safe_load(Path("start.yaml").read_text())))
    engines.broken = frozenset({start})

    code = tune(*SEARCH)

    assert code == 1
    assert "no such memory" in capsys.readouterr().err
    # Whoever calls again has mended something: one failure is not for good.
    engines.broken = frozenset()
    assert tune(*SEARCH) == 0


def test_settings_that_failed_are_tried_again_when_asked_for(
    engines: NoisyEngines, capsys: pytest.CaptureFixture[str]
) -> None:
    tune(*SEARCH, "--json")
    best = Setting.from_json(json.loads(capsys.readouterr().out)["chosen"])
    engines.broken = frozenset({best})
    other = ("--work", "other")
    tune(*SEARCH, *other)
    engines.broken = frozenset()
    n_started = engines.n_started

    tune(*SEARCH, *other)
    assert engines.n_started == n_started
    capsys.readouterr()
    tune(*SEARCH, *other, "--retry-failed", "--json")

    assert engines.n_started > n_started
    assert json.loads(capsys.readouterr().out)["failed"] == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--goal", "speed"), "speed"),
        (("--kind", "medium"), "medium"),
        (("--tokens", "many"), "many"),
        (("--thresholds", "2"), "between 0 and 1"),
        (("--max-rounds", "1"), "min-rounds"),
        (("--max-rounds", "5"), "--start-rounds"),
        (("--shape", "square"), "square"),
        (("--goal", "capacity", "--no-capacity"), "capacity"),
        (("--model", "no/such/base"), "no/such/base"),
        (("--seed", "-1"), "--seed"),
        (("--requests", "2000000"), "1,000,000"),
        (("--shape", "window.yaml"), "leave out --rate"),
        (("--profile", "short.yaml"), "max_model_len is 100"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error_that_names_it(
    engines: NoisyEngines,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    told: str,
) -> None:
    code = tune(*SEARCH, *arguments)

    assert code == 2
    assert told in capsys.readouterr().err
    assert engines.n_started == 0


def test_a_shape_that_leaves_a_round_empty_is_refused_before_anything_starts(
    engines: NoisyEngines, capsys: pytest.CaptureFixture[str]
) -> None:
    sparse = {
        "arrivals": {"process": "poisson", "rate": 0.5},
        "classes": [{"kind": "any", "prompt": 5, "output": 5}],
        "seconds": 2,
    }
    Path("sparse.yaml").write_text(yaml.safe_dump(sparse))

    code = tune("--profile", "start.yaml", "--shape", "sparse.yaml", "--work", "work")

    assert code == 2
    assert "has no request" in capsys.readouterr().err
    assert engines.n_started == 0


def test_where_the_start_leaves_requests_unanswered_nothing_is_recommended(
    engines: NoisyEngines, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = engines.values
    monkeypatch.setattr(
        engines, "values", lambda setting, number: {**values(setting, number), "n_failed": 1.0}
    )

    code = tune(*SEARCH)

    assert code == 1
    assert "answers every request" in capsys.readouterr().out
