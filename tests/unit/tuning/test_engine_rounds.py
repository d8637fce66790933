"""Rounds on real processes, with a small server in vLLM's place."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from serving.engine.profile import EngineProfile
from serving.tuning.engine_rounds import EngineRounds, log_name
from serving.tuning.generator import Model, Target
from serving.tuning.rig import LOG
from serving.tuning.shapes import Shape, parse_shape
from serving.tuning.space import Setting
from serving.tuning.tuner import SettingFailed
from tests.builders.base_folders import write_base_folder
from tests.builders.stand_in_vllm import write_stand_in

SPEC = parse_shape(
    {
        "name": "quick",
        "arrivals": {"process": "uniform", "rate": 100},
        "classes": [
            {"kind": "short", "prompt": 5, "output": 4},
            {"kind": "long", "prompt": 50, "output": 4, "every": 3},
        ],
        "adapters": {"number": 2},
        "requests": 6,
    }
)


def draw(number: int) -> Shape:
    return SPEC.draw(number)


@pytest.fixture
def rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EngineRounds:
    for name, value in write_stand_in(tmp_path).items():
        monkeypatch.setenv(name, value)
    write_base_folder(tmp_path / "model")
    profile = EngineProfile(model=str(tmp_path / "model"), max_rank=8, kv_cache_gib=1)
    return EngineRounds(profile, draw, 2, "short", tmp_path / "work")


def test_a_round_is_measured_on_a_started_engine_of_the_setting(rounds: EngineRounds) -> None:
    stages: list[str] = []
    setting = Setting(max_num_batched_tokens=64, long_prefill_token_threshold=16)

    with rounds.warm_engine(setting, lambda stage, _share: stages.append(stage)) as warm:
        values = warm.measure(0, lambda stage, _share: stages.append(stage))

    assert values["n_failed"] == 0
    assert values["gap_p99"] >= 0
    assert not math.isnan(values["capacity"])
    assert {"warm-up", "offered load", "all at once"} <= set(stages)


def test_an_engine_that_answers_nothing_leaves_its_log(
    rounds: EngineRounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = rounds.folder / "engine" / LOG
    log.parent.mkdir(parents=True)
    log.write_text("the worker died")
    silent = Target("http://127.0.0.1:9", (Model("a"), Model("b")))
    ranks: list[int] = []

    @contextmanager
    def running(_profile: EngineProfile, *, rank: int, **_: object) -> Iterator[Target]:
        ranks.append(rank)
        yield silent

    monkeypatch.setattr("serving.tuning.engine_rounds.running_engine", running)

    with (
        pytest.raises(SettingFailed, match="nothing of round 0"),
        replace(rounds, rank=64).warm_engine(Setting(), lambda *_: None) as warm,
    ):
        warm.measure(0, lambda *_: None)

    assert (rounds.folder / log_name(Setting())).read_text() == "the worker died"
    # No rank that the profile has no place for.
    assert ranks == [rounds.profile.max_rank]


def test_an_engine_that_ends_at_its_start_is_a_failed_setting(
    rounds: EngineRounds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dying").mkdir()
    dying = write_stand_in(tmp_path / "dying", dies_with="ValueError: max_num_seqs does not fit")
    for name, value in dying.items():
        monkeypatch.setenv(name, value)

    with (
        pytest.raises(SettingFailed, match="max_num_seqs does not fit"),
        rounds.warm_engine(Setting(), lambda *_: None),
    ):
        pass

    assert "max_num_seqs does not fit" in (rounds.folder / log_name(Setting())).read_text()
