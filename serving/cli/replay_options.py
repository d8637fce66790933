"""Options of `loraplane replay`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from serving.cli.options import option

Window = Annotated[
    str,
    typer.Argument(
        metavar="WINDOW", help="A recorded trace (.jsonl), a shape's YAML file, or its name."
    ),
]
Since = Annotated[
    str | None, option("--since", help="Of a trace: first moment, Unix seconds or ISO 8601.")
]
Until = Annotated[
    str | None, option("--until", help="Of a trace: moment after the last, in the same form.")
]
Speed = Annotated[
    float, option("--speed", help="Of a trace: 2 offers it in half the time.", min=0.01)
]
Candidate = Annotated[
    Path | None, option("--profile", help="Engine profile of the candidate, which is started here.")
]
Current = Annotated[
    Path | None,
    option("--current", help="Engine profile to compare with, which is started here."),
]
EngineUrl = Annotated[
    str | None,
    option("--engine-url", help="Ask the engine that runs there, instead of starting one."),
]
EngineAdapters = Annotated[
    list[str] | None,
    option(
        "--adapter",
        metavar="NAME=KEY",
        help="An adapter at --engine-url, the most popular first; again for each one.",
    ),
]
SloFile = Annotated[Path | None, option("--slo", help="File of goals; see docs/replay.md.")]
_LIMIT = "again for each class"
TtftP99 = Annotated[
    list[str] | None,
    option("--ttft-p99-ms", metavar="[CLASS=]MS", help=f"Most p99 TTFT; {_LIMIT}."),
]
GapP99 = Annotated[
    list[str] | None,
    option("--gap-p99-ms", metavar="[CLASS=]MS", help=f"Most p99 token gap; {_LIMIT}."),
]
E2eP99 = Annotated[
    list[str] | None,
    option("--e2e-p99-ms", metavar="[CLASS=]MS", help=f"Most p99 whole time; {_LIMIT}."),
]
MaxTtft = Annotated[
    float | None,
    option("--max-ttft-ratio", help="Most p99 TTFT of each class over the current one's."),
]
MaxGap = Annotated[
    float | None,
    option("--max-gap-ratio", help="Most p99 token gap of each class over the current one's."),
]
MinThroughput = Annotated[
    float | None,
    option("--min-throughput-ratio", help="Least throughput over the current one's."),
]
NRuns = Annotated[int, option("--runs", help="Runs of each before a verdict.", min=2)]
MostRuns = Annotated[
    int | None,
    option("--most-runs", help="Runs of each if the first do not decide it (default: twice)."),
]
Rank = Annotated[int, option("--rank", help="Rank of the synthetic adapters.", min=1)]
Seed = Annotated[
    int | None,
    option(
        "--seed",
        help="Of a drawn window and of the prompts (default: 0; the prompts for --engine-url, "
        "whose prefix cache may hold earlier ones, are others each time).",
        min=0,
    ),
]
Work = Annotated[Path, option("--work", help="Folder of logs and synthetic adapters.")]
Report = Annotated[Path | None, option("--report", help="HTML file to write.")]
Samples = Annotated[
    Path | None, option("--samples", help="JSON file to write, with each request of each run.")
]
