"""Options of `loraplane tune`, and how lists of values on a command line become a search's axes."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Annotated

from serving.cli.errors import UsageError_
from serving.cli.options import option
from serving.tuning.goals import CAPACITY, THROUGHPUT, Bound, GoalInvalid, Goals
from serving.tuning.race import Rules
from serving.tuning.space import Space

Shape = Annotated[
    str, option("--shape", help="Load: a built-in name, a YAML file, or a recorded trace (.jsonl).")
]
Rate = Annotated[
    float | None, option("--rate", help="Requests per second instead of the shape's.", min=0.001)
]
Requests = Annotated[
    int | None, option("--requests", help="A round ends after so many requests.", min=1)
]
Goal = Annotated[
    str, option("--goal", help="Figure to make better: gap_p99, ttft_p99, e2e_p99, throughput...")
]
Kind = Annotated[
    str | None, option("--kind", help="Class of requests whose latency counts (default: all).")
]
MaxLoss = Annotated[
    float | None,
    option(
        "--max-throughput-loss",
        help="Largest share of throughput to give up, at the offered load and all at once: 0.11.",
        min=0,
        max=1,
    ),
]
GapP99 = Annotated[
    float | None, option("--gap-p99-ms", help="Bound of the p99 gap between tokens.", min=0)
]
TtftP99 = Annotated[
    float | None, option("--ttft-p99-ms", help="Bound of the p99 time to first token.", min=0)
]
E2eP99 = Annotated[
    float | None, option("--e2e-p99-ms", help="Bound of the p99 time to the last token.", min=0)
]
Tokens = Annotated[
    str | None, option("--tokens", help="Values of max_num_batched_tokens: 128,256,512.")
]
Thresholds = Annotated[
    str | None,
    option("--thresholds", help="Long-prefill thresholds as shares of the budget: 0.25,0.5,1."),
]
Seqs = Annotated[str | None, option("--seqs", help="Values of max_num_seqs: 16,64,256.")]
Slots = Annotated[str | None, option("--slots", help="Values of gpu_slots: 4,8,16.")]
MemoryShares = Annotated[
    str | None, option("--memory-shares", help="Values of the GPU memory share: 0.85,0.92.")
]
MinRounds = Annotated[int, option("--min-rounds", help="Rounds before a setting is judged.", min=1)]
MaxRounds = Annotated[int, option("--max-rounds", help="Most rounds of a setting.", min=1)]
StartRounds = Annotated[
    int | None,
    option(
        "--start-rounds",
        help="Rounds of the start, which others are compared with (default: --max-rounds).",
        min=2,
    ),
]
Budget = Annotated[
    float, option("--budget-minutes", help="Engine-minutes: starts, rounds and stops.", min=1)
]
MinGain = Annotated[
    float,
    option("--min-gain", help="Stop when no setting promises this share more.", min=0, max=1),
]
Reference = Annotated[
    bool, option("--reference/--no-reference", help="Also measure without chunked prefill.")
]
Capacity = Annotated[
    bool, option("--capacity/--no-capacity", help="Each round also offers its requests at once.")
]
Seed = Annotated[int, option("--seed", help="Of loads and prompts.", min=0)]
Rank = Annotated[int, option("--rank", help="Of the synthetic adapters.", min=1)]
RetryFailed = Annotated[
    bool, option("--retry-failed", help="Start settings again whose engine failed earlier.")
]
Work = Annotated[
    Path, option("--work", help="Folder of record, logs and report; a search goes on from it.")
]
Out = Annotated[Path, option("--out", help="Profile to write.")]
DryRun = Annotated[bool, option("--dry-run", help="Print plan and time; start nothing.")]


def read_goals(
    metric: str,
    kind: str | None,
    *,
    max_loss: float | None,
    has_capacity: bool,
    latencies: dict[str, float | None],
) -> Goals:
    """The goal with its bounds.

    Raises:
        UsageError_: a figure that there is not, or a bound that bounds nothing.
    """
    bounds = [Bound(name, limit) for name, limit in latencies.items() if limit is not None]
    if max_loss is not None:
        bounds.append(Bound(THROUGHPUT, max_loss, is_relative=True))
        if has_capacity:
            bounds.append(Bound(CAPACITY, max_loss, is_relative=True))
    try:
        return Goals(metric, tuple(bounds), kind)
    except GoalInvalid as exc:
        raise UsageError_(str(exc), fix="See docs/tuning.md for goals and bounds.") from exc


def read_rules(min_rounds: int, max_rounds: int, start_rounds: int | None) -> Rules:
    """How many rounds settings have.

    Raises:
        UsageError_: numbers that do not go together.
    """
    if max_rounds < min_rounds:
        raise UsageError_("--max-rounds is below --min-rounds.")
    if start_rounds is not None and start_rounds < max_rounds:
        raise UsageError_(
            "--start-rounds is below --max-rounds: the last rounds of a setting would be compared "
            "with nothing."
        )
    return Rules(min_rounds, max_rounds, start_rounds or max(2, max_rounds))


def read_space(given: dict[str, str | None], usual: Space) -> Space:
    """The usual axes with those replaced that were given; an empty list searches none of it.

    Raises:
        UsageError_: not numbers, or numbers that the axis does not take.
    """
    values = dict(usual.values)
    for axis, text in given.items():
        if text is None:
            continue
        try:
            values[axis] = tuple(float(part) for part in text.split(",") if part.strip())
        except ValueError as exc:
            raise UsageError_(
                f"{axis}: {text!r} is no list of numbers", fix="Write it as 128,256,512."
            ) from exc
    try:
        return Space(MappingProxyType({axis: found for axis, found in values.items() if found}))
    except ValueError as exc:
        raise UsageError_(
            str(exc), fix="Thresholds and memory are shares, others numbers."
        ) from exc
