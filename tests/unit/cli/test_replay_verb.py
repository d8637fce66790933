"""`loraplane replay` as a gate: real processes, with a small server in vLLM's place."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.cli.main import main
from serving.tuning.generator import Model, Target
from tests.builders.base_folders import write_base_folder
from tests.builders.stand_in_vllm import write_stand_in
from tests.fakes.openai_server import openai_server

WINDOW = {
    "arrivals": {"process": "uniform", "rate": 100},
    "classes": [
        {"kind": "short", "prompt": 5, "output": 4},
        {"kind": "long", "prompt": 50, "output": 4, "every": 3},
    ],
    "adapters": {"number": 2},
    "requests": 6,
}
# So far beyond anything that no scatter of a busy machine leaves them open.
EASY = ("--gap-p99-ms", "1e99", "--ttft-p99-ms", "short=1e99")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a window and a profile, in which engines are small servers."""
    for name, value in write_stand_in(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "window.yaml").write_text(yaml.safe_dump(WINDOW))
    write_profile(tmp_path / "profile.yaml", tmp_path)
    write_profile(tmp_path / "odd.yaml", tmp_path, target_modules=["lm_head"])
    return tmp_path


def write_profile(path: Path, folder: Path, **fields: Any) -> None:
    model = folder / "model"
    if not model.exists():
        write_base_folder(model)
    path.write_text(
        yaml.safe_dump({"model": str(model), "max_rank": 8, "kv_cache_gib": 1, **fields})
    )


def replay(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["replay", *arguments])
    return int(ended.value.code or 0)


def test_a_candidate_that_keeps_all_goals_passes_and_leaves_a_report(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = replay(
        "window.yaml", "--profile", "profile.yaml", *EASY, "--runs", "2", "--json",
        "--report", "out/report.html", "--samples", "samples.json",
    )  # fmt: skip

    shown = json.loads(capsys.readouterr().out)
    page = (place / "out" / "report.html").read_text()
    assert code == 0
    assert shown["verdict"] == "PASS"
    assert {goal["verdict"] for goal in shown["goals"]} == {"PASS"}
    assert (shown["n_runs"], shown["n_requests"], shown["n_failed"]) == (2, 12, 0)
    assert shown["order"]["is"] == "alone"
    assert "Time to first token, short requests" in page
    assert len(json.loads((place / "samples.json").read_text())["samples"]["candidate"]) == 2


def test_a_candidate_that_breaks_a_goal_is_refused(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    goal = ("--ttft-p99-ms", "long=1e-300", "--runs", "2")

    code = replay("window.yaml", "--profile", "profile.yaml", *goal)

    assert code == 1
    told = capsys.readouterr().out
    assert "FAIL: 0 of 1 goals kept beyond chance, after 2 runs." in told
    assert "p99 TTFT of long requests is" in told


def test_a_comparison_that_chance_could_turn_is_refused_with_its_reason(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_profile(place / "current.yaml", place)

    code = replay(
        "window.yaml", "--profile", "profile.yaml", "--current", "current.yaml", "--json",
        "--runs", "2", "--most-runs", "2", "--max-ttft-ratio", "1e99", "--max-gap-ratio", "1e99",
        "--min-throughput-ratio", "1",
    )  # fmt: skip

    shown = json.loads(capsys.readouterr().out)
    verdicts = {goal["metric"]: goal["verdict"] for goal in shown["goals"]}
    assert verdicts.pop("throughput") != "PASS" or code == 0
    assert verdicts == {"ttft_p99": "PASS", "gap_p99": "PASS"}
    assert len(shown["figures"]["current"]["short"]) == 2


def test_a_candidate_that_does_not_start_is_refused_with_what_its_log_says(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = place / "broken"
    broken.mkdir()
    says = "torch.OutOfMemoryError: CUDA out of memory"
    monkeypatch.setenv("PYTHONPATH", write_stand_in(broken, dies_with=says)["PYTHONPATH"])

    code = replay("window.yaml", "--profile", "profile.yaml", *EASY)

    told = " ".join(capsys.readouterr().err.split())
    assert code == 1
    assert "OutOfMemoryError: CUDA out of memory" in told
    assert "fewer slots" in told


def test_a_current_engine_that_does_not_start_says_nothing_about_the_candidate(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = place / "broken"
    broken.mkdir()
    dying = write_stand_in(broken, dies_with="ValueError: no", only_with="13")
    monkeypatch.setenv("PYTHONPATH", dying["PYTHONPATH"])
    write_profile(place / "current.yaml", place, max_num_seqs=13)

    code = replay("window.yaml", "--profile", "profile.yaml", "--current", "current.yaml")

    assert code == 3
    assert "The current engine does not run" in " ".join(capsys.readouterr().err.split())


def test_a_window_that_the_candidate_cannot_hold_is_refused_before_anything_starts(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_profile(place / "small.yaml", place, max_model_len=16)

    code = replay("window.yaml", "--profile", "small.yaml", *EASY)

    assert code == 1
    assert "max_model_len" in capsys.readouterr().err
    assert not (place / "loraplane-replay").exists()


def test_an_engine_that_does_not_answer_is_unreachable(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = replay(
        "window.yaml", "--engine-url", "http://127.0.0.1:9", *EASY,
        "--adapter", "a=k", "--adapter", "b=k",
    )  # fmt: skip

    assert code == 3
    assert "http://127.0.0.1:9" in capsys.readouterr().err


def test_a_second_replay_of_a_running_engine_meets_no_cached_prompt(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with openai_server() as server:
        asked = []
        for seed in ((), (), ("--seed", "7"), ("--seed", "7")):
            server.bodies.clear()
            replay(
                "window.yaml", "--engine-url", server.url, *EASY, "--runs", "2", "--json", *seed,
                "--adapter", "plain=k", "--adapter", "second=k",
            )  # fmt: skip
            asked.append({tuple(body["prompt"]) for body in server.bodies})
            assert json.loads(capsys.readouterr().out)["seed"] >= 0

    assert not asked[0] & asked[1]
    assert asked[2] == asked[3]


def test_a_candidate_that_starts_and_answers_nothing_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    silent = Target("http://127.0.0.1:9", (Model("a"), Model("b")))
    monkeypatch.setattr(
        "serving.tuning.replay.running_engine", lambda *_, **__: nullcontext(silent)
    )

    code = replay("window.yaml", "--profile", "profile.yaml", *EASY, "--runs", "2")

    told = " ".join(capsys.readouterr().err.split())
    assert code == 1
    assert "The candidate engine answered nothing of its warm-up" in told
    assert "engine.log" in told


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["window.yaml"], "Give --profile"),
        (["window.yaml", "--profile", "profile.yaml", "--adapter", "a=k"], "--engine-url"),
        (["window.yaml", "--profile", "odd.yaml"], "target_modules"),
        (
            ["window.yaml", "--profile", "profile.yaml", "--samples", "profile.yaml/s"],
            "profile.yaml/s",
        ),
        (
            ["window.yaml", "--profile", "profile.yaml", "--report", "profile.yaml/r"],
            "profile.yaml",
        ),
        (["window.yaml", "--profile", "profile.yaml", "--work", "profile.yaml"], "profile.yaml"),
        (["window.yaml", "--profile", "p.yaml", "--engine-url", "http://x"], "not both"),
        (["windo", "--profile", "profile.yaml"], "neither a file"),
        (["absent.jsonl", "--profile", "profile.yaml"], "absent.jsonl"),
        (["window.yaml", "--profile", "profile.yaml", "--speed", "2"], "recorded trace"),
        (["window.yaml", "--profile", "absent.yaml"], "absent.yaml"),
        (["window.yaml", "--profile", "profile.yaml", "--gap-p99-ms", "fast"], "MILLISECONDS"),
        (["window.yaml", "--profile", "profile.yaml", "--gap-p99-ms", "batch=5"], "has long"),
        (["window.yaml", "--profile", "profile.yaml", "--max-gap-ratio", "2"], "name one"),
        (["window.yaml", "--engine-url", "http://127.0.0.1:9"], "--adapter"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error_that_names_the_fix(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    code = replay(*arguments)

    assert code == 2
    assert not list(place.glob("loraplane-replay/*/engine.log"))
    assert said in " ".join(capsys.readouterr().err.split())
