"""A replay on a real engine that the rig starts: one start, asked by two replays."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.parity.verdict import VerdictKind
from bench.fixtures.base_model import tiny_base
from serving.engine.profile import EngineProfile
from serving.tuning.load_shape import Arrival, Shape
from serving.tuning.replay import CANDIDATE, Replay, Side, run_replay
from serving.tuning.replay_order import Chosen, Order
from serving.tuning.replay_report import judged_of
from serving.tuning.rig import started_engine
from serving.tuning.slo import Slo, Slos

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
WINDOW = Shape(
    "window",
    tuple(
        Arrival(0.05 * number, 200 if number % 4 == 3 else 12, 6, number % 3, kind)
        for number in range(8)
        for kind in ("long" if number % 4 == 3 else "short",)
    ),
)


def test_a_replay_passes_what_keeps_its_goals_fails_what_does_not_and_leaves_nothing_behind(
    tmp_path: Path,
) -> None:
    profile = EngineProfile(
        model=str(tiny_base()), gpu_slots=2, cpu_slots=8, max_rank=8, dtype="float32",
        max_model_len=512, max_num_batched_tokens=256, enforce_eager=True, kv_cache_gib=1,
    )  # fmt: skip
    verdicts = {}

    with started_engine(profile, n_adapters=3, folder=tmp_path) as engine:
        for limit_ms, seed in ((1e99, 0), (1e-99, 1)):
            found = run_replay(
                Replay(
                    shape=WINDOW,
                    candidate=Side(CANDIDATE, target=engine.target),
                    current=None,
                    slos=Slos((Slo("gap_p99", limit_ms, "short"), Slo("e2e_p99", 1e99))),
                    order=Chosen(Order.ALONE, "it runs already"),
                    folder=tmp_path,
                    runs=2,
                    most_runs=2,
                    seed=seed,
                ),
                say=lambda _stage, _share: None,
            )
            verdicts[limit_ms] = judged_of(found).verdict
            samples = [sample for one in found.results[CANDIDATE] for sample in one.samples]
            assert [(s.n_prompt, s.n_output) for s in samples] == [
                (arrival.n_prompt, arrival.n_output) for arrival in WINDOW.arrivals
            ] * 2
        counts = engine.counts()
        resident_bytes = engine.resident_bytes

    assert verdicts == {1e99: VerdictKind.PASS, 1e-99: VerdictKind.FAIL}
    # Three adapters were asked in turn, and there are two slots.
    assert counts["loads_disk"] == 3
    assert counts["evictions_slot"] > 0
    assert resident_bytes > 1024**3
    assert not Path(f"/proc/{engine.pid}").exists()
