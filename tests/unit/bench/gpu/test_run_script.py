"""bench/gpu/run.sh against a card and a Python that are played."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from bench.gpu.__main__ import ENGINES, HERE

PYTHON = """#!/bin/sh
echo "$@" >>"$TOLD"
for file in "$@"; do case $file in *.yaml) cat "$file" >>"$TOLD.yaml";; esac; done
case "$*" in *"$FAILING"*) exit 1;; esac
"""


@pytest.fixture
def told(tmp_path: Path) -> Path:
    return tmp_path / "told"


def run(
    tmp_path: Path,
    *arguments: str,
    card: str = "NVIDIA H100 80GB HBM3",
    mib: int = 81559,
    used: int = 4,
    failing: str = "nothing",
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    played = tmp_path / "bin"
    played.mkdir(exist_ok=True)
    asked = f'case "$1" in *name) echo "{card}";; *total) echo {mib};; *used) echo {used};; esac'
    for name, text in (("nvidia-smi", f"#!/bin/sh\n{asked}\n"), ("played-python", PYTHON)):
        (played / name).write_text(text)
        (played / name).chmod(0o755)
    return subprocess.run(
        [HERE / "run.sh", *arguments],
        env={
            "PATH": f"{played}:{os.environ['PATH']}",
            "PYTHON": str(played / "played-python"),
            "TOLD": str(tmp_path / "told"),
            "FAILING": failing,
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_all_four_run_and_the_card_names_the_results(tmp_path: Path, told: Path) -> None:
    done = run(tmp_path)

    assert done.returncode == 0, done.stderr
    *scenarios, report = told.read_text().splitlines()
    assert [line.split()[1] for line in scenarios] == [f"bench.scenarios.{n}" for n in ENGINES]
    for line in scenarios:
        assert "/h100_80g.yaml --runs 5 --write" in line
        assert ("--rate 20" in line) == ("chunked_prefill" in line)
    assert report == "-m bench.report --write"


def test_a_name_a_base_and_a_choice_can_be_given(tmp_path: Path, told: Path) -> None:
    done = run(tmp_path, "mine", BASE="/models/qwen", SCENARIOS="cold_load", RUNS="1")

    assert done.returncode == 0, done.stderr
    assert "/mine.yaml --runs 1 --write" in told.read_text().splitlines()[0]
    used = yaml.safe_load(Path(f"{told}.yaml").read_text())
    own = yaml.safe_load((HERE / "cold_load.yaml").read_text())
    assert used == {**own, "base": "/models/qwen"}


def test_one_that_fails_does_not_keep_the_others_from_running(tmp_path: Path, told: Path) -> None:
    done = run(tmp_path, failing="adapters_on_slots")

    assert done.returncode == 1
    assert "failed: adapters_on_slots" in done.stderr
    assert len(told.read_text().splitlines()) == len(ENGINES) + 1


@pytest.mark.parametrize(
    ("card", "mib", "used", "said"),
    [
        ("NVIDIA A10", 23028, 0, "has 23028 MiB"),
        ("NVIDIA A100-SXM4-80GB", 81920, 9000, "9000 MiB of"),
    ],
)
def test_a_card_that_is_small_or_busy_is_refused(
    tmp_path: Path, told: Path, card: str, mib: int, used: int, said: str
) -> None:
    done = run(tmp_path, card=card, mib=mib, used=used)

    assert (done.returncode, told.exists()) == (1, False)
    assert said in done.stderr


def test_a_name_that_no_result_may_have_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path, "My Card")

    assert done.returncode == 1
    assert "lower_case_words" in done.stderr


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck on this machine")
def test_the_script_is_clean() -> None:
    subprocess.run(["shellcheck", HERE / "run.sh"], check=True)
