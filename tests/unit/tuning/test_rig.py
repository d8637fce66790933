"""The rig with real processes; what they run is a small server in vLLM's place."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from adapters.manifest import manifest_of_folder
from serving.contract import decode_snapshot, hash_key
from serving.engine.profile import EngineProfile, ProfileInvalid
from serving.tuning.process_group import PID_FILE, group_members, runs_for, wait_for_earlier
from serving.tuning.rig import EngineFailed, explain_log, started_engine
from tests.builders.base_folders import write_base_folder
from tests.builders.stand_in_vllm import write_stand_in

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def profile(tmp_path: Path) -> EngineProfile:
    return EngineProfile(model=str(write_base_folder(tmp_path / "model")), max_rank=8)


def test_an_engine_runs_with_its_adapters_for_as_long_as_the_block(
    profile: EngineProfile, tmp_path: Path
) -> None:
    stages: list[str] = []

    with started_engine(
        profile,
        n_adapters=2,
        rank=4,
        folder=tmp_path / "rig",
        environment=write_stand_in(tmp_path),
        on_stage=lambda stage, _seconds: stages.append(stage),
    ) as engine:
        seen = httpx.get(f"{engine.target.url}/seen", trust_env=False).json()
        members = list(group_members(engine.pid))
        is_known = runs_for(engine.engine_dir, int((engine.engine_dir / PID_FILE).read_text()))
        resident_bytes = engine.resident_bytes
        counts = engine.counts()

    snapshot = decode_snapshot((engine.engine_dir / "snapshot.json").read_bytes())
    keys = [
        hash_key(m.key or "", cluster_secret=engine.cluster_secret) for m in engine.target.models
    ]
    assert [grant.key_hash for grant in snapshot.keys] == keys
    assert [entry.rank for entry in snapshot.versions] == [4, 4]
    assert seen["LORAPLANE_CONTROLLER_URL"] == "none"
    assert {"adapter 2 of 2 written", "engine starting"} <= set(stages)
    assert len(members) >= 3  # The guard, the server, and the server's child.
    assert resident_bytes > 1024**2
    assert counts["loads_disk"] == 0
    assert is_known
    assert list(group_members(engine.pid)) == []


def test_an_engine_that_dies_says_the_cause_the_hint_and_where_its_log_is(
    profile: EngineProfile, tmp_path: Path
) -> None:
    says = "ValueError: No available memory for the cache blocks"
    environment = write_stand_in(tmp_path, dies_with=says)

    with (
        pytest.raises(EngineFailed) as failed,
        started_engine(profile, n_adapters=0, folder=tmp_path / "rig", environment=environment),
    ):
        pass

    assert failed.value.cause == says
    assert "fewer slots" in failed.value.hint
    assert says in failed.value.tail
    assert failed.value.log == tmp_path / "rig" / "engine.log"


def test_an_engine_that_does_not_get_ready_in_time_is_ended(
    profile: EngineProfile, tmp_path: Path
) -> None:
    environment = write_stand_in(tmp_path, is_never_ready=True)

    with (
        pytest.raises(EngineFailed, match="not ready after"),
        started_engine(
            profile,
            n_adapters=0,
            folder=tmp_path / "rig",
            environment=environment,
            ready_seconds=0.5,
        ),
    ):
        pass

    assert not pids_that_mention(tmp_path)


def test_a_rig_that_is_killed_leaves_no_engine_behind(
    profile: EngineProfile, tmp_path: Path
) -> None:
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from serving.engine.profile import EngineProfile\n"
        "from serving.tuning.rig import started_engine\n"
        f"with started_engine({profile!r}, n_adapters=0, folder=Path({str(tmp_path / 'rig')!r}),\n"
        f"                    environment={write_stand_in(tmp_path)!r}) as engine:\n"
        "    print(engine.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    rig = subprocess.Popen(
        [sys.executable, "-c", code], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    assert rig.stdout is not None
    leader = int(rig.stdout.readline())

    rig.send_signal(signal.SIGKILL)
    rig.wait()
    rig.stdout.close()
    deadline = time.monotonic() + 120
    while list(group_members(leader)) and time.monotonic() < deadline:
        time.sleep(0.05)

    assert list(group_members(leader)) == []


def test_a_rank_without_a_place_in_the_slots_is_refused_before_anything_starts(
    profile: EngineProfile, tmp_path: Path
) -> None:
    with (
        pytest.raises(ProfileInvalid, match="max_rank"),
        started_engine(profile, n_adapters=1, rank=16, folder=tmp_path / "rig"),
    ):
        pass

    assert not (tmp_path / "rig").exists()


def test_a_second_start_in_the_same_folder_finds_the_same_adapters(
    profile: EngineProfile, tmp_path: Path
) -> None:
    environment, digests = write_stand_in(tmp_path), []

    for _ in range(2):
        with started_engine(
            profile, n_adapters=1, folder=tmp_path / "rig", environment=environment
        ) as engine:
            snapshot = decode_snapshot((engine.engine_dir / "snapshot.json").read_bytes())
            digests.append(snapshot.versions[0].digest)

    (stored,) = (tmp_path / "rig" / "store" / "sha256").glob("*/*")
    assert digests == [manifest_of_folder(stored).digest] * 2


@pytest.mark.parametrize(
    ("log", "cause", "hint"),
    [
        ("INFO fine\n", "", ""),
        ("x\ntorch.OutOfMemoryError: CUDA out of memory. Tried\nRuntimeError: see above\n",
         "OutOfMemoryError: CUDA out of memory. Tried", "too little memory"),
        ("OSError: [Errno 98] Address already in use", "OSError: [Errno 98] Address already in use",
         "start again"),
        ("/bin/python: No module named vllm", "", "vLLM is not installed"),
    ],
)  # fmt: skip
def test_a_log_is_explained_by_its_first_error(log: str, cause: str, hint: str) -> None:
    found_cause, found_hint = explain_log(log)

    assert found_cause == cause
    assert hint in found_hint


def pids_that_mention(folder: Path) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in words and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


@contextmanager
def engine_of_another_rig(engine_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that `engine_dir` names as its engine; it ends when its input is closed."""
    engine_dir.mkdir()
    environment = {**os.environ, "LORAPLANE_ENGINE_DIR": str(engine_dir)}
    with subprocess.Popen(["cat"], env=environment, stdin=subprocess.PIPE) as process:
        try:
            # `Popen` returns before the kernel shows the environment of what it has started.
            deadline = time.monotonic() + 60
            while not runs_for(engine_dir, process.pid) and time.monotonic() < deadline:
                time.sleep(0.001)
            (engine_dir / PID_FILE).write_text(f"{process.pid}\n")
            yield process
        finally:
            process.kill()


def test_an_engine_of_an_earlier_rig_is_waited_for(tmp_path: Path) -> None:
    # Killed, a rig leaves its engine to the guard, which ends it a little later.
    told: list[str] = []
    engine_dir = tmp_path / "engine"
    with engine_of_another_rig(engine_dir) as earlier:
        assert earlier.stdin is not None
        its_input = earlier.stdin

        def tell(stage: str, _seconds: float) -> None:
            told.append(stage)
            its_input.close()

        stays = wait_for_earlier(engine_dir, tell)

        assert stays is None
        assert not runs_for(engine_dir, earlier.pid)
    assert set(told) == {"an earlier engine is ending"}


def test_a_folder_in_which_another_engine_stays_is_left_to_it(
    profile: EngineProfile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.tuning.process_group._EARLIER_SECONDS", 0.0)
    engine_dir = tmp_path / "engine"
    with (
        engine_of_another_rig(engine_dir) as other,
        pytest.raises(EngineFailed, match=f"process {other.pid}"),
        started_engine(profile, n_adapters=1, rank=4, folder=tmp_path),
    ):
        pass

    assert not (engine_dir / "snapshot.json").exists()


def test_a_process_that_has_got_the_number_of_an_earlier_engine_is_not_waited_for(
    tmp_path: Path,
) -> None:
    (tmp_path / "engine.pid").write_text(f"{os.getpid()}\n")

    wait_for_earlier(tmp_path, lambda *_: pytest.fail("waits"))
