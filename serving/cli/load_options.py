"""Options of `loraplane load`; those that a replay has too are in `replay_options`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from serving.cli.options import option

ServerUrl = Annotated[str, typer.Argument(metavar="URL", help="The server's, without /v1.")]
ShapeSource = Annotated[
    str, option("--shape", help="A shape's name, its YAML file, or a recorded trace (.jsonl).")
]
Models = Annotated[
    list[str] | None,
    option(
        "--adapter",
        metavar="NAME[=KEY]",
        help="Model or adapter to ask, the most popular first; again for each one (default: "
        "all that /v1/models has).",
    ),
]
Key = Annotated[str | None, option("--key", help="API key of models that have none of their own.")]
Rate = Annotated[
    float | None, option("--rate", help="Requests per second instead of the shape's.", min=0.001)
]
Requests = Annotated[int | None, option("--requests", help="End after so many requests.", min=1)]
Seconds = Annotated[float | None, option("--seconds", help="End after so long.", min=0.001)]
Seed = Annotated[int, option("--seed", help="Of times, sizes and prompts.", min=0)]
Words = Annotated[
    bool, option("--words", help="Prompts of words, for servers that take no token ids.")
]
Chat = Annotated[bool, option("--chat", help="Ask /v1/chat/completions, in words.")]
IgnoreEos = Annotated[
    bool,
    option("--ignore-eos/--keep-eos", help="Ask for answers of exact length (vLLM's own field)."),
]
Vocabulary = Annotated[
    int, option("--vocabulary", help="Token ids of prompts are below this.", min=100)
]
Timeout = Annotated[
    float, option("--timeout", help="Seconds after which a request has failed.", min=0.001)
]
Out = Annotated[Path | None, option("--out", help="JSON file to write, with each request.")]
