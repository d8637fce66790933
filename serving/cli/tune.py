"""`loraplane tune`: search for the engine settings that serve a load best, on real engines here."""

from __future__ import annotations

from pathlib import Path

from serving.cli import tune_options as given
from serving.cli.options import AsJson
from serving.cli.processes import ModelOption, ProfileOption


def tune(
    profile: ProfileOption = None,
    model: ModelOption = None,
    shape: given.Shape = "long-prefill",
    rate: given.Rate = None,
    requests: given.Requests = None,
    goal: given.Goal = "gap_p99",
    kind: given.Kind = None,
    max_throughput_loss: given.MaxLoss = None,
    gap_p99_ms: given.GapP99 = None,
    ttft_p99_ms: given.TtftP99 = None,
    e2e_p99_ms: given.E2eP99 = None,
    tokens: given.Tokens = None,
    thresholds: given.Thresholds = None,
    seqs: given.Seqs = None,
    slots: given.Slots = None,
    memory_shares: given.MemoryShares = None,
    min_rounds: given.MinRounds = 2,
    max_rounds: given.MaxRounds = 4,
    start_rounds: given.StartRounds = None,
    budget_minutes: given.Budget = 60.0,
    min_gain: given.MinGain = 0.02,
    reference: given.Reference = True,
    capacity: given.Capacity = True,
    seed: given.Seed = 0,
    rank: given.Rank = 8,
    retry_failed: given.RetryFailed = False,
    work: given.Work = Path("loraplane-tune"),
    out: given.Out = Path("tuned-profile.yaml"),
    dry_run: given.DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Search for the engine settings that serve a load best; exit code 1: none keeps the bounds."""
    rules = given.read_rules(min_rounds, max_rounds, start_rounds)
    # Late: a search needs numpy, and no other verb shall wait for that.
    from serving.cli.tune_run import TuneRun, read_draw, read_start
    from serving.tuning.tune_task import Task

    latencies = {"gap_p99": gap_p99_ms, "ttft_p99": ttft_p99_ms, "e2e_p99": e2e_p99_ms}
    task = Task(
        profile=read_start(profile, model),
        draw=read_draw(shape, seed, rate=rate, requests=requests),
        goals=given.read_goals(
            goal, kind, max_loss=max_throughput_loss, has_capacity=capacity, latencies=latencies
        ),
        rules=rules,
        has_reference=reference,
        has_capacity=capacity,
        budget_seconds=60 * budget_minutes,
        min_gain=min_gain,
        seed=seed,
        rank=rank,
    )
    axes = {
        "max_num_batched_tokens": tokens, "long_prefill_token_threshold": thresholds,
        "max_num_seqs": seqs, "gpu_slots": slots, "gpu_memory_share": memory_shares,
    }  # fmt: skip
    TuneRun(task, axes, work, out, as_json).go(dry_run=dry_run, retry_failed=retry_failed)
